"""E φ(u_b) φ'(u'_b') for batch-normalized Gaussians u and functions with one kink, at 0: relu and its like.

Such a function is α u + β |u|, which scales with its argument: 1 / sqrt(s + eps) comes out of it, and the expectation
is an integral over two Laplace variables (Yang et al., A mean field theory of batch normalization, its Laplace method;
expectation/runtime/batchnorm.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Pointwise, Reference, VectorReduction
from tensorprog.recursion import Node
from tensorprog.theorem.derivation import Body, Derivation, View
from tensorprog.theorem.entries import covariance
from tensorprog.theorem.indices import same_member
from tensorprog.theorem.moments import Pair, Single, first_moment, second_moment
from tensorprog.theorem.scalars import plain

_TESTED = (sympy.Rational(1, 3), sympy.Integer(2), sympy.Rational(37, 10))


@dataclass(frozen=True)
class Normalized:
    """φ(u_b) with φ(u) = slopes[0] u + slopes[1] |u| for u the batchnorm of a G-var."""

    slopes: tuple[sympy.Expr, sympy.Expr]
    batchnorm: VectorReduction
    gaussian: Reference

    @property
    def at(self) -> Affine:
        """The place in the batch."""
        return self.batchnorm.at[0]

    def rows(self, d: Derivation, ranges: dict[str, Range], first: int) -> tuple[Range, Range]:
        """Two ranges of the batch, with names that are free."""
        (r,) = self.batchnorm.ranges
        one, two = (underscored(f"{r.name}{k}", d.index_names, ranges) for k in (first, first + 1))
        return replace(r, name=one), replace(r, name=two)

    def member(self, at: Affine) -> Reference:
        """The Gaussian at a place in the batch."""
        mapping = {self.batchnorm.ranges[0].name: at}
        return replace(self.gaussian, indices=tuple(i.substitute(mapping) for i in self.gaussian.indices))

    def eps(self, d: Derivation, side: str | None) -> Node:
        return ir.ZERO if self.batchnorm.eps is None else plain(d, self.batchnorm.eps, side)


@second_moment(rank=40)
def batchnorm(d: Derivation, pair: Pair) -> Node | None:
    """E φ(u_b) γ(u'_b'), a function of the covariances of the two batches; of the means where these are independent."""
    f, g = _normalized(d, pair.f), _normalized(d, pair.g)
    if f is None or g is None:
        return None
    view, ranges = pair.view, pair.context.all_ranges()
    rows, columns = f.rows(d, ranges, 1), g.rows(d, ranges, 3)
    inside = {**ranges, **{r.name: r for r in (*rows, *columns)}}
    u1, u2 = (f.member(Affine.symbol(r.name)) for r in rows)
    w1, w2 = (g.member(Affine.symbol(r.name)) for r in columns)
    k = covariance(d, view, u1, w1, inside)
    if ir.is_zero(k):
        return ir.product(_mean(d, f, view, "left", ranges), _mean(d, g, view, "right", ranges))
    return ir.BatchnormExpectation(
        f.slopes,
        g.slopes,
        rows,
        columns,
        k,
        covariance(d, view.within("left"), u1, u2, inside),
        covariance(d, view.within("right"), w1, w2, inside),
        f.eps(d, view.left),
        g.eps(d, view.right),
        f.at,
        g.at,
        # Whether it is the same batch, wherever in it.
        same_member(f.member(Affine(0)), g.member(Affine(0))),
    )


@first_moment(rank=40)
def batchnorm_mean(d: Derivation, single: Single) -> Node | None:
    """E φ(u_b)."""
    f = _normalized(d, single.f)
    return None if f is None else _mean(d, f, single.view, "left", single.context.all_ranges())


def _mean(d: Derivation, f: Normalized, view: View, side: str, ranges: dict[str, Range]) -> Node:
    rows = f.rows(d, ranges, 1)
    one, two = (f.member(Affine.symbol(r.name)) for r in rows)
    p = covariance(d, view.within(side), one, two, {**ranges, **{r.name: r for r in rows}})
    return ir.BatchnormMean(f.slopes, rows, p, f.eps(d, view.run(side)), f.at)


def _normalized(d: Derivation, f: Body) -> Normalized | None:
    """The function as one of a batchnorm of G-vars of mean zero; None for functions of another kind."""
    if not isinstance(f, Pointwise) or len(f.reductions) != 1 or f.vectors or f.scalars:
        return None
    ((symbol, reduction),) = f.reductions
    body = reduction.body
    plain_body = len(body.vectors) == 1 and not body.reductions and body.expression == body.vectors[0][0]
    if reduction.kind != "batchnorm" or not plain_body or len(reduction.ranges) != 1:
        return None
    u, slopes = body.vectors[0][1], _slopes(f.expression, symbol)
    if slopes is None or not d.gaussian(u.name) or u.name not in d.centred:
        return None
    return Normalized(slopes, reduction, u)


def _slopes(e: sympy.Expr, u: sympy.Symbol) -> tuple[sympy.Expr, sympy.Expr] | None:
    """(α, β) with e = α u + β |u|; None where it is no such function."""
    if e.free_symbols != {u}:
        return None
    up, down = e.subs(u, 1), e.subs(u, -1)
    alpha, beta = (up - down) / 2, (up + down) / 2
    for x in (*_TESTED, *(-x for x in _TESTED)):
        if abs((e.subs(u, x) - alpha * x - beta * abs(x)).evalf()) > 1e-12:
            return None
    return sympy.nsimplify(alpha), sympy.nsimplify(beta)
