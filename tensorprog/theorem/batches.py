"""E φ(u_b) φ'(u'_b') for batch-normalized Gaussians u and functions with one kink, at 0: relu and its like.

Such a function is α u + β |u|, which scales with its argument: 1 / sqrt(s + eps) comes out of it, and the expectation
is an integral over two Laplace variables (Yang et al., A mean field theory of batch normalization, its Laplace method;
expectation/runtime/batchnorm.py).
"""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog.errors import NotDerived
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import Case, Pointwise, Reference, VectorReduction
from tensorprog.theorem.expectations import Expectations
from tensorprog.theorem.recursion import Node
from tensorprog.theorem.sides import Context, View, gaussian

_TESTED = (sympy.Rational(1, 3), sympy.Integer(2), sympy.Rational(37, 10))


class Batches(Expectations):
    """Batch normalization over an index, by its integral."""

    def _pointwise_pair(self, view: View, f: Pointwise, g: Pointwise, ranges, me: Reference, other: Reference) -> Node:
        if not f.reductions and not g.reductions:
            return super()._pointwise_pair(view, f, g, ranges, me, other)
        (phi, left, u), (gamma, right, w) = self._normalized(f), self._normalized(g)
        first, second = self._fresh(left.ranges[0], ranges, 1), self._fresh(left.ranges[0], ranges, 2)
        third, fourth = self._fresh(right.ranges[0], ranges, 3), self._fresh(right.ranges[0], ranges, 4)
        inside = {**ranges, **{r.name: r for r in (first, second, third, fourth)}}
        ctx = Context(dict(inside))
        u1, u2 = self._member(u, left, first), self._member(u, left, second)
        w1, w2 = self._member(w, right, third), self._member(w, right, fourth)
        k = self._gather(ctx, [self.second(view, u1, w1, True, ctx)])
        if ir.is_zero(k):
            a, b = (self._normalized_mean(x, view, side, ranges) for x, side in ((f, "left"), (g, "right")))
            return ir.product(a, b)
        run_left, run_right = view.within("left"), view.within("right")
        p = self._block(run_left, u1, u2, inside)
        q = self._block(run_right, w1, w2, inside)
        same = self._same(self._put_at(u, left), self._put_at(w, right))
        return ir.BatchnormExpectation(
            phi,
            gamma,
            (first, second),
            (third, fourth),
            k,
            p,
            q,
            self._eps(left, view.left),
            self._eps(right, view.right),
            left.at[0],
            right.at[0],
            same,
        )

    def _expectation(self, f: Pointwise, view: View, ranges, case: Case) -> Node:
        if not f.reductions:
            return super()._expectation(f, view, ranges, case)
        return self._normalized_mean(f, view, "left", ranges)

    def _normalized_mean(self, f: Pointwise, view: View, side: str, ranges) -> Node:
        """E φ(u_b)."""
        phi, reduction, u = self._normalized(f)
        first, second = self._fresh(reduction.ranges[0], ranges, 1), self._fresh(reduction.ranges[0], ranges, 2)
        inside = {**ranges, first.name: first, second.name: second}
        one, two = self._member(u, reduction, first), self._member(u, reduction, second)
        p = self._block(view.within(side), one, two, inside)
        run = view.left if side == "left" else view.right
        return ir.BatchnormMean(phi, (first, second), p, self._eps(reduction, run), reduction.at[0])

    def _block(self, view: View, a: Reference, b: Reference, ranges) -> Node:
        ctx = Context(dict(ranges))
        return self._gather(ctx, [self.second(view, a, b, True, ctx)])

    def _eps(self, reduction: VectorReduction, side: str | None) -> Node:
        return ir.ZERO if reduction.eps is None else self._scalar_plain(reduction.eps, side)

    def _normalized(self, f: Pointwise) -> tuple[tuple[sympy.Expr, sympy.Expr], VectorReduction, Reference]:
        """(α, β), the batchnorm and the G-var under it. Raises NotDerived for functions of another kind."""
        if len(f.reductions) == 1 and not (f.vectors or f.scalars):
            ((symbol, reduction),) = f.reductions
            body = reduction.body
            plain = len(body.vectors) == 1 and not body.reductions and body.expression == body.vectors[0][0]
            if reduction.kind == "batchnorm" and plain and len(reduction.ranges) == 1:
                u = body.vectors[0][1]
                slopes = _slopes(f.expression, symbol)
                if slopes is not None and gaussian(self.program.families[u.name]) and u.name in self.zero_mean:
                    return slopes, reduction, u
        raise NotDerived("the limit of this function of a reduction over vectors has no closed form here")

    def _fresh(self, r: Range, ranges, number: int) -> Range:
        name = f"{r.name}{number}"
        while name in self.index_names or name in ranges:
            name += "_"
        return replace(r, name=name)

    def _member(self, u: Reference, reduction: VectorReduction, r: Range) -> Reference:
        mapping = {reduction.ranges[0].name: Affine.symbol(r.name)}
        return replace(u, indices=tuple(i.substitute(mapping) for i in u.indices))

    def _put_at(self, u: Reference, reduction: VectorReduction) -> Reference:
        """The G-var with the batch's index left out of account: at a fixed place."""
        mapping = {reduction.ranges[0].name: Affine(0)}
        return replace(u, indices=tuple(i.substitute(mapping) for i in u.indices))


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
