"""What the functions of a module need before them: rules of expectations, each once, and runtime modules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import sympy

from tensorprog import expectation, functions
from tensorprog import recursion as ir
from tensorprog.backend.passes import EXPECTATION, Notes
from tensorprog.recursion import Key
from tensorprog.theorem.joint_rules import entries, joint_plan, structural_zeros

Plan = expectation.Plan | expectation.MeanPlan | expectation.JointPlan
P = TypeVar("P", expectation.Plan, expectation.MeanPlan, expectation.JointPlan)
Scalars = tuple[tuple[sympy.Symbol, ir.Node], ...]
Renamed = dict[sympy.Symbol, sympy.Symbol]


class Definitions:
    """Expectation plans, each once, with the source they need at the top of the module."""

    def __init__(self) -> None:
        self.plans: dict[tuple[object, ...], Any] = {}
        self.blocks: list[str] = []
        self.runtime: list[str] = []
        self.notes = Notes()
        self.reach: dict[Key, float] = {}  # of tables of variances, up to where rules that read them are accurate

    def _keep(self, key: tuple[object, ...], make: Callable[[str], P]) -> P:
        if key not in self.plans:
            plan = make(f"f{len(self.plans) + 1}")
            self.plans[key] = plan
            self.blocks += [b for b in plan.definitions if b not in self.blocks]
            self.runtime += [r for r in plan.runtime if r not in self.runtime]
            self.notes.add(EXPECTATION, f"{plan.rule}, {plan.accuracy}")
        return self.plans[key]

    def needs(self, *runtime: str) -> None:
        self.runtime += [r for r in runtime if r not in self.runtime]

    def pair(self, node: ir.PairExpectation) -> tuple[expectation.Plan, Renamed, Renamed]:
        """The plan, and for each side the symbols that its scalars have there."""
        z, w = sympy.Symbol("z", real=True), sympy.Symbol("w", real=True)
        left, right = _renamed(node.scalars_f), _renamed(node.scalars_g)
        f, g = node.f.xreplace({node.z: z, **left}), node.g.xreplace({node.w: w, **right})
        means = (node.mu is not None, node.nu is not None)
        plan = self._keep(
            ("pair", f, g, means),
            lambda prefix: expectation.plan_pair(f, g, z, w, mean_f=means[0], mean_g=means[1], prefix=prefix),
        )
        self._reach(plan, node.p, node.q)
        return plan, left, right

    def single(self, node: ir.SingleExpectation) -> tuple[expectation.MeanPlan, Renamed]:
        z = sympy.Symbol("z", real=True)
        names = _renamed(node.scalars)
        f = node.f.xreplace({node.z: z, **names})
        mean = node.mu is not None
        plan = self._keep(("single", f, mean), lambda prefix: expectation.plan_mean(f, z, mean=mean, prefix=prefix))
        self._reach(plan, node.q)
        return plan, names

    def joint(self, node: ir.JointExpectation) -> tuple[expectation.JointPlan, Renamed, Renamed]:
        left, right = _renamed(node.scalars_f), _renamed(node.scalars_g)
        zs = [sympy.Symbol(f"z{k}", real=True) for k in range(len(node.zs))]
        ws = [sympy.Symbol(f"w{k}", real=True) for k in range(len(node.ws))]
        f = node.f.xreplace({**dict(zip(node.zs, zs, strict=True)), **left})
        g = node.g.xreplace({**dict(zip(node.ws, ws, strict=True)), **right})
        named = replace(node, f=f, g=g, zs=tuple(zs), ws=tuple(ws))
        zeros, means = structural_zeros(node), tuple(m is not None for m in node.means)
        key = ("joint", f, g, named.zs, named.ws, means, frozenset(zeros))
        plan = self._keep(key, lambda prefix: joint_plan(named, prefix))
        self._reach(plan, *(entry for i, j, entry in entries(node) if i == j))
        return plan, left, right

    def _reach(self, plan: Plan, *variances: ir.Node) -> None:
        if plan.variance < math.inf:
            for read in (r for node in variances for r in ir.entries(node)):
                self.reach[read.key] = min(plan.variance, self.reach.get(read.key, math.inf))

    def singular(self, node: ir.PairExpectation) -> bool:
        """Whether the expectation or its derivative is singular at correlation 1: where a function has a kink."""
        return not (functions.facts(node.f, node.z).smooth and functions.facts(node.g, node.w).smooth)


def _renamed(scalars: Scalars) -> Renamed:
    """Symbols whose names are identifiers in Python."""
    return {s: sympy.Symbol(f"a{k}", real=True) for k, (s, _) in enumerate(scalars)}
