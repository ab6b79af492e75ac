"""Functions of one Gaussian each: E f(z) g(w), and E f(z)."""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog import recursion as ir
from tensorprog.program.instructions import Pointwise
from tensorprog.recursion import Node
from tensorprog.theorem.derivation import Derivation
from tensorprog.theorem.entries import covariance, mean_or_none, variance
from tensorprog.theorem.flattening import arguments_of, of_gaussians, scalars_of
from tensorprog.theorem.indices import same_member
from tensorprog.theorem.moments import Pair, Single, first_moment, second_moment


@second_moment(rank=65)
def pair_expectation(d: Derivation, pair: Pair) -> Node | None:
    """E f(z) g(w), a function of the covariance, the variances and the means."""
    f, g, view, ranges = pair.f, pair.g, pair.view, pair.context.all_ranges()
    if not isinstance(f, Pointwise) or not isinstance(g, Pointwise):
        return None
    if not of_gaussians(d, f) or not of_gaussians(d, g):
        return None
    lefts, rights = arguments_of(f), arguments_of(g)
    if len(lefts) != 1 or len(rights) != 1:
        return None
    ((z, u),), ((w, v),) = lefts, rights
    scalars_f, scalars_g = scalars_of(d, f, view.left), scalars_of(d, g, view.right)
    if w == z:
        w = _primed(z)
        g = replace(g, expression=g.expression.xreplace({z: w}))
    swap = {s: _primed(s) for s, _ in scalars_g}
    return ir.PairExpectation(
        f.expression,
        g.expression.xreplace(swap),
        z,
        w,
        covariance(d, view, u, v, ranges),
        variance(d, u, "left", view, ranges),
        variance(d, v, "right", view, ranges),
        mean_or_none(d, u, view.left),
        mean_or_none(d, v, view.right),
        scalars_f,
        tuple((swap[s], n) for s, n in scalars_g),
        same_member(u, v),
    )


@first_moment(rank=65)
def single_expectation(d: Derivation, single: Single) -> Node | None:
    """E f(z), and the function of C's where there is no z."""
    f, view, ranges = single.f, single.view, single.context.all_ranges()
    if not isinstance(f, Pointwise) or not of_gaussians(d, f):
        return None
    vectors, scalars = arguments_of(f), scalars_of(d, f, view.left)
    if not vectors:
        return ir.Apply(f.expression, scalars) if scalars else ir.Constant(f.expression)
    if len(vectors) > 1:
        return None
    ((z, r),) = vectors
    q = variance(d, r, "left", view, ranges)
    return ir.SingleExpectation(f.expression, z, q, mean_or_none(d, r, view.left), scalars)


def _primed(s: sympy.Symbol) -> sympy.Symbol:
    return sympy.Symbol(s.name + "'", real=True)
