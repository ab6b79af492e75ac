"""LinComb: moments are bilinear (Tensor Programs I, section 5).

E Z^u Z^w = Σ_s Σ_t a_s b_t E Z^s Z^t     for u := Σ_s a_s s, w := Σ_t b_t t
"""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.program.instructions import Linear, Reference, Term
from tensorprog.recursion import ONE, ZERO, Node, add
from tensorprog.theorem.derivation import Context, Derivation
from tensorprog.theorem.entries import mean, second
from tensorprog.theorem.indices import gather
from tensorprog.theorem.moments import Pair, Single, first_moment, second_moment
from tensorprog.theorem.scalars import coefficient, plain_coefficient


@second_moment(rank=20)
def bilinear(d: Derivation, pair: Pair) -> Node | None:
    """Each term of the first sum against each of the second; what is no sum is one term."""
    if not isinstance(pair.f, Linear) and not isinstance(pair.g, Linear):
        return None
    lefts = pair.f.terms if isinstance(pair.f, Linear) else (_whole(pair.u),)
    rights = pair.g.terms if isinstance(pair.g, Linear) else (_whole(pair.w),)
    return add(*(_term(d, pair, s, t) for s in lefts for t in rights))


def _whole(r: Reference) -> Term:
    return Term(sympy.Integer(1), (), r, None, (), ())


def _term(d: Derivation, pair: Pair, s: Term, t: Term) -> Node:
    view = pair.view
    if pair.centred and (s.vector is None or t.vector is None):
        return ZERO
    sums = {r.name: r for r in (*s.sums, *t.sums)}
    ctx = Context(pair.context.all_ranges(), sums, [*s.conditions, *t.conditions])
    if s.vector is not None and t.vector is not None:
        inner = second(d, view, s.vector, t.vector, pair.centred, ctx)
    elif t.vector is not None:
        inner = mean(d, t.vector, view.right)
    elif s.vector is not None:
        inner = mean(d, s.vector, view.left)
    else:
        inner = ONE
    if ir.is_zero(inner):
        return ZERO
    left, right = plain_coefficient(d, s, view.left), plain_coefficient(d, t, view.right)
    return gather(d.reader, ctx, ir.substitute(left, ctx.solved), ir.substitute(right, ctx.solved), inner)


@first_moment(rank=20)
def linear(d: Derivation, single: Single) -> Node | None:
    """E Z^u = Σ_s a_s E Z^s."""
    if not isinstance(single.f, Linear):
        return None
    if single.kind == ir.SCALAR:  # the zero vector's
        return ZERO
    total = []
    for t in single.f.terms:
        ctx = Context(single.context.all_ranges(), {r.name: r for r in t.sums}, list(t.conditions))
        inner = ONE if t.vector is None else mean(d, t.vector, single.view.left)
        total.append(gather(d.reader, ctx, coefficient(d, t, single.view.left), inner))
    return add(*total)
