"""The kernel of the output: the second moment of readouts.

E y y' = Σ lim n · (factor)² · multiplier² · variance · E Z^x Z^x'     for y := v.T @ x · factor
"""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog import recursion as ir
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.program.instructions import Linear, Term
from tensorprog.program.ir import Family
from tensorprog.program.laws import WIDTH, Rate, growth, part_trained
from tensorprog.program.scope import size_symbol
from tensorprog.program.types import Vector
from tensorprog.recursion import ONE, ZERO, Node, add
from tensorprog.theorem.derivation import Context, Derivation, View
from tensorprog.theorem.entries import at_member, law, second
from tensorprog.theorem.indices import gather, same_indices
from tensorprog.theorem.moments import Pair, second_moment
from tensorprog.theorem.scalars import plain


@second_moment(rank=10)
def readouts(d: Derivation, pair: Pair) -> Node | None:
    """The sum over pairs of readouts by the same vector, each with its limit as the width grows.

    Raises ProgramError where a part of the output has no limit, or none but zero.
    """
    if pair.kind != ir.OUTPUT:
        return None
    if not isinstance(pair.f, Linear) or not isinstance(pair.g, Linear):
        raise ProgramError("an output is a readout v.T @ x / sqrt(n)", pair.u.span)
    return add(*(_term(d, pair, s, t) for s in pair.f.terms for t in pair.g.terms))


def _term(d: Derivation, pair: Pair, s: Term, t: Term) -> Node:
    view = pair.view
    if s.readout is None or t.readout is None:
        raise ProgramError("an output is a readout v.T @ x / sqrt(n)", pair.u.span)
    if s.readout.name != t.readout.name:
        return ZERO
    sums = {r.name: r for r in (*s.sums, *t.sums)}
    ctx = Context(pair.context.all_ranges(), sums, [*s.conditions, *t.conditions])
    if not same_indices(d.reader, s.readout.indices, t.readout.indices, ctx):
        return ZERO
    v = d.family(s.readout.name)
    if s.vector is None or t.vector is None:  # a random scalar
        inner: Node = ONE
        coordinates: sympy.Expr = sympy.Integer(1)
    else:
        inner, coordinates = second(d, view, s.vector, t.vector, False, ctx), _width(v)
    indices = tuple(i.substitute(ctx.solved) for i in s.readout.indices)
    variance, exponent = _law(d, v, view, indices)
    rate = growth(s.coefficient * t.coefficient * coordinates * WIDTH**exponent, dict(d.program.widths))
    if not rate.finite:
        raise _no_limit(v, rate, exponent, s.vector is not None, pair)
    left = [ir.substitute(plain(d, x, view.left), ctx.solved) for x in s.scalars]
    right = [ir.substitute(plain(d, x, view.right), ctx.solved) for x in t.scalars]
    factor = ir.substitute(ir.Constant(rate.limit), ctx.solved)
    return gather(d.reader, ctx, factor, *left, *right, variance, inner)


def _law(d: Derivation, v: Family, view: View, indices: tuple[Affine, ...]) -> tuple[Node, sympy.Expr]:
    """The law of a readout without a power of n, and its exponent: `v ~ N(0, s / n)` is N(0, s), and -1."""
    variance = law(d, v, view, indices)
    assert v.law is not None
    widths = dict(d.program.widths)
    # Where the variance is 0 at any width, what is trained tells.
    size = v.law.multiplier**2 * (v.law.variance if v.law.variance != 0 else 1)
    exponent = growth(size, widths).exponent
    if exponent == 0:
        return variance, exponent
    scale = growth(v.law.multiplier**2 * v.law.variance / WIDTH**exponent, widths).limit
    tangent = part_trained(growth(v.law.multiplier**2 / WIDTH**exponent, widths))
    rate = at_member(d, tangent, v, indices) if isinstance(tangent, sympy.Expr) else None
    return replace(variance, scale=at_member(d, scale, v, indices), tangent=rate), exponent


def _no_limit(v: Family, rate: Rate, exponent: sympy.Expr, vector: bool, pair: Pair) -> ProgramError:
    """The error for an output, or its part by one readout, that has no limit or none but zero."""
    assert isinstance(pair.f, Linear)
    several = len({x.readout.name for x in pair.f.terms if x.readout is not None}) > 1
    what = f"the output's part by '{v.name}'" if several else "the output"
    verb = f"grows {_root(rate)}" if rate.grows else f"vanishes {_root(rate)}"
    hint = None
    if vector and exponent == 0:
        hint = f"divide it by sqrt({_width(v)})"
    elif vector:
        hint = (
            f"the law of '{v.name}' goes {_root(replace(rate, exponent=exponent))} itself: "
            f"draw it from N(0, s), and divide the output by sqrt({_width(v)})"
        )
    elif several:
        hint = "leave it out, or let it be O(1)"
    end = ": it has no limit" if rate.grows else ""
    return ProgramError(f"{what} {verb} with the width{end}", pair.u.span if pair.u.span.line else None, hint=hint)


def _width(v: Family) -> sympy.Expr:
    """How many coordinates a readout sums over."""
    assert isinstance(v.type, Vector)
    return size_symbol(v.type.width)


def _root(rate: Rate) -> str:
    return str(replace(rate, exponent=rate.exponent / 2))
