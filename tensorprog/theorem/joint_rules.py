"""The rules for expectations of functions of several Gaussians: which a node has, and whether it has one."""

from __future__ import annotations

from collections.abc import Iterator

from tensorprog import recursion as ir
from tensorprog.expectation import JointPlan, NoRule, plan_joint


def joint_plan(node: ir.JointExpectation, prefix: str = "phi") -> JointPlan:
    """How the expectation is computed. Raises NoRule where no rule is accurate."""
    means = [m is not None for m in node.means]
    return plan_joint(node.f, node.g, node.zs, node.ws, means=means, zeros=structural_zeros(node), prefix=prefix)


def has_rule(node: ir.JointExpectation) -> bool:
    try:
        joint_plan(node)
    except NoRule:
        return False
    return True


def structural_zeros(node: ir.JointExpectation) -> set[tuple[int, int]]:
    """(i, j), i <= j, of the Gaussians that are known to be uncorrelated, or, where i = j, constant."""
    return {(j, i) for i, j, n in entries(node) if ir.is_zero(n) or (i == j and ir.vanishes(n))}


def entries(node: ir.JointExpectation) -> Iterator[tuple[int, int, ir.Node]]:
    """(row, column, entry) of the lower triangle of the covariance."""
    k = 0
    for i in range(len(node.zs) + len(node.ws)):
        for j in range(i + 1):
            yield i, j, node.covariance[k]
            k += 1
