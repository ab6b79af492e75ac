"""Indices of two vectors set equal: what is solved for, and the sums and conditions that are left around a product."""

from __future__ import annotations

from collections.abc import Iterable

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import bound_symbols, map_bound, maximum, minimum
from tensorprog.index.conditions import Condition, boxed
from tensorprog.index.ranges import Range, behind
from tensorprog.index.solving import integral, with_value
from tensorprog.program.instructions import Reference
from tensorprog.recursion import ZERO, Node, product
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.derivation import Context


def equate(
    reader: CaseReader,
    e: Affine,
    f: Affine,
    ranges: dict[str, Range],
    conditions: list[Condition],
    solved: dict[str, Affine],
) -> bool:
    """Make two indices equal by solving for an index in `ranges`; False where they cannot be.

    What is solved for leaves `ranges` and stands in `solved`, and what must hold for it is added to `conditions`. A
    primed index is solved for first, so that what remains speaks of the first vector's indices.
    """
    difference = e - f
    if difference.is_constant:
        return difference.constant == 0
    if not difference.divided and all(s in ranges for s, _ in difference.terms):
        reduced = integral(difference)
        if reduced is None:
            return False
        difference = reduced
    candidates = [s for s, _ in difference.terms if s in ranges and difference.solved(s) is not None]
    candidates.sort(key=lambda s: (not s.endswith("'"), s))
    for s in candidates:
        value = difference.solved(s)
        assert value is not None
        _replace_index(s, value, ranges, conditions, solved)
        return True
    verdict = reader.certain(Condition("==", difference), ranges)
    if verdict is None:
        conditions.append(Condition("==", difference))
    return verdict is not False


def _replace_index(
    s: str, value: Affine, ranges: dict[str, Range], conditions: list[Condition], solved: dict[str, Affine]
) -> None:
    """Put `value` for the index s, whose range becomes a bound on what stands in `value`."""
    r = ranges[s]
    for name, x in list(ranges.items()):
        if s in _names(x):
            if name in behind(value.symbols, ranges):
                # Its range would speak of the index itself: i ≤ P - s with i + j for s.
                ranges[name], more = boxed(x, ranges)
                conditions += more
            ranges[name] = ranges[name].substitute({s: value})
    del ranges[s]
    solved.update(with_value(solved, s, value))
    conditions[:] = [c.substitute({s: value}) for c in conditions]
    terms = [(x, k) for x, k in value.terms if x in ranges]
    if len(terms) == 1 and terms[0][1] == 1 and not ((_names(r) | value.divided) & ranges.keys()):
        # value = i + rest: the range of s moves over to i.
        (name, _), rest = terms[0], value - Affine.symbol(terms[0][0])
        own = ranges[name]
        low = maximum(own.low, map_bound(r.low, lambda a: a - rest))
        high = minimum(own.high, map_bound(r.high, lambda a: a - rest))
        ranges[name] = Range(name, low, high)
        return
    for bound, sign in ((r.low, 1), (r.high, -1)):
        leaves = [bound] if isinstance(bound, Affine) else list(bound.arguments)
        for leaf in leaves:
            assert isinstance(leaf, Affine)
            conditions.append(Condition(">=", (value - leaf) * sign))


def same_indices(reader: CaseReader, e: tuple[Affine, ...], f: tuple[Affine, ...], ctx: Context) -> bool:
    """Set two members of a random family equal: solve for summed indices, and keep conditions on the others.

    False where they are never the same member.
    """
    for x, y in zip(e, f, strict=True):
        x, y = x.substitute(ctx.solved), y.substitute(ctx.solved)
        if _on_diagonal(reader, x, y, ctx):
            continue
        if not equate(reader, x, y, ctx.sums, ctx.conditions, ctx.solved):
            return False
    return settle(reader, ctx)


def settle(reader: CaseReader, ctx: Context) -> bool:
    """Leave out the conditions that are certain; False where they cannot hold."""
    conditions = reader.left(ctx.conditions, ctx.all_ranges())
    if conditions is None:
        return False
    ctx.conditions[:] = conditions
    return True


def _on_diagonal(reader: CaseReader, x: Affine, y: Affine, ctx: Context) -> bool:
    """Where two indices are equal only on a diagonal of the clause's own indices, say so and put one for the other.

    What stands under that condition then asks for entries on the diagonal alone.
    """
    difference = x - y
    if difference.symbols & ctx.sums.keys():
        return False
    for s, _ in difference.terms:
        if s.endswith("'") and s in ctx.ranges and (value := difference.solved(s)) is not None:
            if any(s in v.symbols for v in ctx.solved.values()):
                return False
            if reader.certain(Condition("==", difference), ctx.all_ranges()) is False:
                return False
            condition = Condition("==", Affine.symbol(s) - value)
            if condition not in ctx.conditions:
                ctx.conditions.append(condition)
            ctx.solved[s] = value
            return True
    return False


def gather(reader: CaseReader, ctx: Context, *factors: Node) -> Node:
    """The product under the sums and conditions that are left of a context."""
    conditions = reader.left(ctx.conditions, ctx.all_ranges())
    if conditions is None:
        return ZERO
    body = product(*factors)
    if ir.is_zero(body):
        return ZERO
    if not ctx.sums:
        return ir.Where(tuple(conditions), body, ZERO) if conditions else body
    constants = [x for x in factors if isinstance(x, ir.Constant) and not _indices_in(x.value, ctx.sums)]
    rest = [x for x in factors if x not in constants]
    inside = tuple(c for c in conditions if c.expression.symbols & ctx.sums.keys())
    outside = tuple(c for c in conditions if c not in inside)
    value = product(*constants, ir.Sum(tuple(ctx.sums.values()), inside, product(*rest)))
    return ir.Where(outside, value, ZERO) if outside else value


def solved(r: Reference, ctx: Context) -> Reference:
    """The reference with the indices that are solved for put in."""
    return Reference(r.name, tuple(i.substitute(ctx.solved) for i in r.indices), r.span)


def empty(reader: CaseReader, ranges: dict[str, Range]) -> bool:
    """Whether one of the ranges has no index in it at any size."""
    return any(
        isinstance(r.low, Affine)
        and isinstance(r.high, Affine)
        and reader.certain(Condition(">=", r.high - r.low), {}) is False
        and not ((r.high - r.low).symbols & ranges.keys())
        for r in ranges.values()
    )


def same_member(u: Reference, v: Reference) -> tuple[Condition, ...] | None:
    """The conditions under which two references name one vector, given one input: None for never."""
    if u.name != v.name:
        return None
    conditions = []
    for e, f in zip(u.indices, v.indices, strict=True):
        difference = e - f
        if difference.is_constant and difference.constant:
            return None
        if not difference.is_constant:
            conditions.append(Condition("==", difference))
    return tuple(conditions)


def _names(r: Range) -> set[str]:
    return set(bound_symbols(r.low) | bound_symbols(r.high))


def _indices_in(e: sympy.Expr, names: Iterable[str]) -> bool:
    return any(sympy.Symbol(n, integer=True) in e.free_symbols for n in names)
