"""Gaussian expectations: which rule serves which functions, and the JAX source that computes them."""

from tensorprog.expectation.joint import JointPlan, NoRule, plan_joint
from tensorprog.expectation.pairs import plan_mean, plan_pair
from tensorprog.expectation.plan import MeanPlan, Plan
from tensorprog.expectation.source import HEADER, runtime_source

__all__ = [
    "HEADER",
    "JointPlan",
    "MeanPlan",
    "NoRule",
    "Plan",
    "plan_joint",
    "plan_mean",
    "plan_pair",
    "runtime_source",
]
