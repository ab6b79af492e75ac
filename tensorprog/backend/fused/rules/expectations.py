"""Expectations that are arithmetic, entry by entry: closed forms."""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.backend.code.reading import Holes
from tensorprog.backend.code.tree import Expr, call
from tensorprog.backend.fused.chain import NotFused
from tensorprog.backend.fused.place import Place, tile_lowering
from tensorprog.backend.fused.rules.arithmetic import number
from tensorprog.backend.lower.definitions import Renamed, Scalars

ELEMENTWISE = frozenset(("arccosine", "arcsine", "errorfunction", "shapes", "trigonometric"))
"""Runtime modules of expectations that are arithmetic, entry by entry, of what Triton knows too."""


@tile_lowering(ir.PairExpectation)
def pair(node: ir.PairExpectation, at: Place) -> Expr:
    definitions, holes = at.writer.definitions, Holes()
    plan, left, right = definitions.pair(node)
    if plan.definitions or not set(plan.runtime) <= ELEMENTWISE:
        raise NotFused(f"the expectation of {node.f} and {node.g} is no closed form ({plan.rule})")
    k, p, q = (at.lower(x) for x in (node.k, node.p, node.q))
    means = [None if x is None else holes(at.lower(x)) for x in (node.mu, node.nu)]
    if definitions.singular(node) and node.same is not None and at.hold(node.same):
        k = call("equal_where", k, p, "same")
    text = plan.call(
        holes(k),
        holes(p),
        holes(q),
        means[0],
        means[1],
        _scalars(node.scalars_f, left, node.f, node.z, holes, at),
        _scalars(node.scalars_g, right, node.g, node.w, holes, at),
    )
    return holes.filled(text)


def _scalars(
    scalars: Scalars, names: Renamed, expression: sympy.Expr, variable: sympy.Symbol, holes: Holes, at: Place
) -> dict[sympy.Symbol, str]:
    found = {names[s]: holes(at.lower(n)) for s, n in scalars}
    for s in expression.free_symbols:
        if s not in names and s != variable:
            found[s] = holes(number(s, at))
    return found
