"""Integers and conditions of indices as arrays over those indices that are dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import all_of, sum_of
from tensorprog.backend.code.tree import Array, Binary, Compare, Expr, Literal, Unary, call, plus, tree
from tensorprog.backend.lower.context import Context
from tensorprog.index.affine import Affine, Entry, Quotient, Remainder
from tensorprog.index.conditions import Condition
from tensorprog.recursion import Key


def index_array(e: Affine, at: Context) -> Array:
    """The integers that an index expression takes, as an array over the array indices in it."""
    labels = [s for s, _ in e.terms if s in at.arrays]
    divided = [s for s, _ in e.terms if s not in labels and at.is_array(Affine.symbol(s))]
    rest = Affine(e.constant, tuple((s, c) for s, c in e.terms if s not in (*labels, *divided)))
    if not labels and not divided:
        return Array(at.scope.integer(rest))
    terms = [_scaled(_composed(s, at), e.coefficient(s)) for s in divided]
    for s in labels:
        r = at.arrays[s]
        every = call("np.arange", at.scope.bound(r.low), plus(at.scope.bound(r.high), 1))
        terms.append(_scaled(Array(every, (s,)), e.coefficient(s)))
    if rest != Affine(0):
        terms.append(Array(at.scope.integer(rest)))
    return sum_of(terms, at.order)


def _scaled(array: Array, factor: int) -> Array:
    if abs(factor) == 1:
        return array if factor == 1 else Array(Unary("-", array), array.dims)
    return Array(Binary("*", tree(factor), array), array.dims)


def _composed(s: str, at: Context) -> Array:
    """A quotient, a remainder, or an entry of data that holds indices, of the run that its prime tells."""
    if isinstance(s, Entry):
        side = None if not at.is_pair else "right" if s.table.endswith("'") else "left"
        return at.lower(ir.Read(Key(ir.SCALAR, "self", (s.table.rstrip("'"),)), s.indices, side))
    assert isinstance(s, Quotient | Remainder)
    inner = index_array(s.numerator, at)
    if isinstance(s, Remainder):
        return Array(Binary("%", inner.value, at.scope.integer(s.divisor)), inner.dims)
    return Array(Binary("//", inner.value, Literal(s.divisor)), inner.dims)


def test_array(c: Condition, at: Context) -> Array:
    value = index_array(c.expression, at)
    return Array(Compare(value, ((c.op, Literal(0)),)), value.dims)


def mask(conditions: Sequence[Condition], at: Context) -> Array | None:
    """A boolean array: where all conditions hold. None where there is nothing to ask."""
    tests = [test_array(c, at) for c in conditions if at.certain(c) is not True]
    return all_of(tests, at.order) if len(tests) > 1 else tests[0] if tests else None


def indicators(conditions: Sequence[Condition], at: Context) -> list[Array]:
    """Arrays of 0 and 1 whose product is 1 where all conditions hold: one for all that concern the same indices.

    One array over all indices would have as many entries as all of them together have values.
    """
    groups: dict[tuple[str, ...], list[Condition]] = {}
    for c in conditions:
        here = tuple(sorted(s for s in c.expression.symbols if s in at.arrays))
        groups.setdefault(here, []).append(c)
    masks = [mask(group, at) for group in groups.values()]
    return [as_number(m, m.dims) for m in masks if m is not None]


def as_number(value: Expr, dims: tuple[str, ...] = ()) -> Array:
    """In the dtype of the data."""
    return Array(call("jnp.asarray", value, "dtype"), dims)
