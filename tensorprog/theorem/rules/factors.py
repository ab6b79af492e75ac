"""A gradient times a slope, the product that every backward pass consists of.

E z f0 · w g0 = E z w · E f0 g0     for G-vars z, w of mean zero, independent of all else in f0 and g0
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import sympy

from tensorprog import recursion as ir
from tensorprog.program.instructions import Pointwise, Reference
from tensorprog.recursion import ZERO, Node
from tensorprog.theorem.derivation import Context, Derivation
from tensorprog.theorem.entries import second
from tensorprog.theorem.flattening import arguments_of, of_gaussians
from tensorprog.theorem.indices import gather, solved
from tensorprog.theorem.moments import Pair, derived_second, second_moment

Argument = tuple[sympy.Symbol, Reference]


@second_moment(rank=62)
def independent_factors(d: Derivation, pair: Pair) -> Node | None:
    """The covariance of the two factors that are independent of the rest, times the second moment of the rest."""
    f, g, ranges = pair.f, pair.g, pair.context.all_ranges()
    if not isinstance(f, Pointwise) or not isinstance(g, Pointwise):
        return None
    if not of_gaussians(d, f) or not of_gaussians(d, g):
        return None
    for (s, z), (t, w) in _apart(d, pair, arguments_of(f), arguments_of(g)):
        left, right = f.expression / s, g.expression / t
        if s in left.free_symbols or t in right.free_symbols:
            continue
        ctx = Context(dict(ranges))
        covariance = second(d, pair.view, z, w, True, ctx)
        if ir.is_zero(covariance):
            return ZERO
        rest = replace(
            pair,
            u=solved(pair.u, ctx),
            w=solved(pair.w, ctx),
            f=d.reader.put(_without(f, s, left), dict(ctx.solved)),
            g=d.reader.put(_without(g, t, right), dict(ctx.solved)),
            context=Context(dict(ranges)),
            part=True,
        )
        return gather(d.reader, ctx, covariance, derived_second(d, rest))
    return None


def _apart(
    d: Derivation, pair: Pair, lefts: list[Argument], rights: list[Argument]
) -> Iterator[tuple[Argument, Argument]]:
    """Arguments of the two functions of mean zero that depend on one another, and on no other argument."""
    if len(lefts) < 2 or len(rights) < 2:
        return
    ranges = pair.context.all_ranges()
    for s, z in lefts:
        if z.name not in d.centred or not all(d.support.independent(z, x, ranges) for t, x in lefts if t != s):
            continue
        partners = [(t, w) for t, w in rights if not d.support.independent(z, w, ranges)]
        if len(partners) != 1 or partners[0][1].name not in d.centred:
            continue
        ((t, w),) = partners
        others = [x for q, x in rights if q != t] + [x for q, x in lefts if q != s]
        if all(d.support.independent(w, x, ranges) for x in others):
            yield (s, z), (t, w)


def _without(f: Pointwise, s: sympy.Symbol, rest: sympy.Expr) -> Pointwise:
    return replace(f, expression=rest, vectors=tuple(v for v in f.vectors if v[0] != s))
