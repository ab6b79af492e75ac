"""A product of sums of too many Gaussians, addend by addend: E (a + b) c = E a c + E b c."""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog.program.instructions import Pointwise
from tensorprog.recursion import Node, add
from tensorprog.theorem.derivation import Derivation
from tensorprog.theorem.flattening import arguments_of, of_gaussians
from tensorprog.theorem.moments import Pair, derived_second, second_moment
from tensorprog.theorem.rules.joint import MAX_GAUSSIANS, drawn


@second_moment(rank=60)
def addends(d: Derivation, pair: Pair) -> Node | None:
    """The sum over the addends of both functions, where together they have more Gaussians than quadrature covers."""
    f, g = pair.f, pair.g
    if not isinstance(f, Pointwise) or not isinstance(g, Pointwise):
        return None
    if not of_gaussians(d, f) or not of_gaussians(d, g):
        return None
    if drawn(d, arguments_of(f), arguments_of(g)) <= MAX_GAUSSIANS:
        return None
    terms, others = _addends(f.expression), _addends(g.expression)
    if len(terms) * len(others) == 1:
        return None
    parts = [(replace(f, expression=a), replace(g, expression=b)) for a in terms for b in others]
    return add(*(derived_second(d, replace(pair, f=a, g=b, context=pair.context.fresh(), part=True)) for a, b in parts))


def _addends(e: sympy.Expr) -> tuple[sympy.Expr, ...]:
    return sympy.Add.make_args(e.expand(power_base=False, power_exp=False, log=False))
