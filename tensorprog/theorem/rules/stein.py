"""Stein's lemma: a function of Gaussians against a Gaussian.

E f(Z) Z^g = Σ_i E ∂_i f(Z) · Cov(Z_i, Z^g) + E f(Z) · E Z^g
"""

from __future__ import annotations

from dataclasses import replace

from tensorprog import recursion as ir
from tensorprog.program.instructions import Pointwise, Reference
from tensorprog.recursion import Node, add, product
from tensorprog.theorem.derivation import Context, Derivation
from tensorprog.theorem.entries import mean, second
from tensorprog.theorem.flattening import arguments_of, written_out
from tensorprog.theorem.indices import gather
from tensorprog.theorem.moments import Pair, Single, derived_first, second_moment


@second_moment(rank=80)
def stein(d: Derivation, pair: Pair) -> Node | None:
    """A function of one run, against a MatMul or a vector drawn, of the other."""
    if isinstance(pair.f, Pointwise) and not isinstance(pair.g, Pointwise):
        return _against(d, pair, pair.f, pair.u, pair.w, "left")
    if isinstance(pair.g, Pointwise) and not isinstance(pair.f, Pointwise):
        return _against(d, pair, pair.g, pair.w, pair.u, "right")
    return None


def _against(d: Derivation, pair: Pair, f: Pointwise, u: Reference, g: Reference, side: str) -> Node:
    """E f(Z) Z^g, f's run the pair's `side`."""
    view, ranges = pair.view, pair.context.all_ranges()
    inside = view.within(side)
    f = written_out(d, f, view.run(side), ranges)

    def expectation(e: Pointwise) -> Node:
        return derived_first(d, Single(ir.MEAN, inside, u, e, Context(ranges), part=True))

    total = []
    for s, r in arguments_of(f):
        ctx = Context(dict(ranges))
        left, right = (r, g) if side == "left" else (g, r)
        # Where g's family is an H elsewhere, its case here is a MatMul: its mean is 0, E Z Z^g the covariance.
        covariance = gather(d.reader, ctx, second(d, view, left, right, d.gaussian(g.name), ctx))
        if ir.is_zero(covariance):
            continue
        total.append(product(expectation(replace(f, expression=f.expression.diff(s))), covariance))
    elsewhere = mean(d, g, view.run("right" if side == "left" else "left"))
    if not ir.is_zero(elsewhere) and d.gaussian(g.name):
        total.append(product(expectation(f), elsewhere))
    return add(*total)
