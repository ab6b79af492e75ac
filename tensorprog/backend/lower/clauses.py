"""The clauses of a table, each as an array over the whole of its box, and the assignment that puts them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import EVERY, aligned, transposed, where
from tensorprog.backend.code.tree import (
    Array,
    Conditional,
    Expr,
    Let,
    Literal,
    Slice,
    Statement,
    TupleOf,
    added,
    call,
    let,
    multiplied,
    plus,
    walk,
)
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.indices import as_number, mask
from tensorprog.backend.lower.layout import Access, axes_in_order
from tensorprog.backend.lower.scope import Scope, zeros
from tensorprog.backend.lower.system import System
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import at_most, map_bound, maximum, minimum
from tensorprog.index.conditions import boxed
from tensorprog.index.ranges import Range
from tensorprog.recursion import Clause, Table


@dataclass(frozen=True)
class Piece:
    """A clause's part of a table: `places` where it goes, its value over the whole of its box.

    whole: that is all of the table. shared: conditions say where in the box it holds; it is zero elsewhere, where other
    clauses may hold.
    """

    places: tuple[Expr, ...]
    value: Array
    whole: bool
    shared: bool

    @property
    def may_be_number(self) -> bool:
        """Whether a choice in Python may leave a mere number."""
        return any(isinstance(e, Conditional) for e in walk(self.value))

    def entry(self, value: Expr) -> Expr:
        """What `placed` takes of it."""
        slices = (call("slice", None) if p == EVERY else _slice(p) for p in self.places)
        return TupleOf((TupleOf(tuple(slices)), value, Literal(self.shared)))


def _slice(place: Expr) -> Expr:
    if not isinstance(place, Slice):
        return place
    return call("slice", *(e for e in (place.start, place.stop, place.step) if e is not None))


def as_shape(value: Expr, shape: Expr) -> Expr:
    """An array of this shape, of what may be a mere number."""
    return call("jnp.broadcast_to", as_number(value), shape)


def table_statements(
    system: System, table: Table, fixed: Mapping[int, Affine] | None = None
) -> tuple[list[Statement], Access]:
    """The assignment of a table, at fixed indices along the axes of loops, and where the table is behind it."""
    fixed = fixed or {}
    axes = axes_in_order(table, fixed)
    system.footprint.append(tuple(table.axes[k].range for k in axes))
    system.steps_footprint.append(system.footprint[-1])
    variable = system.variable(table.key)
    found = (piece_of(system, table, clause, axes) for clause in table.clauses)
    pieces = [p for p in found if p is not None]
    shape = system.shape(table, axes)
    before: list[Let] = []
    if not pieces:
        value = zeros(shape)
    elif all(p.whole and p.places == pieces[0].places for p in pieces):
        # Cases that conditions tell apart, each zero where another one holds.
        value = multiplied([p.value for p in pieces], "+")
        if all(p.may_be_number for p in pieces):  # where none holds, a mere number
            value = as_shape(value, shape)
    else:
        before = [let(system.fresh("piece"), p.value) for p in pieces]
        entries = [p.entry(statement.target) for p, statement in zip(pieces, before, strict=True)]
        value = call("placed", shape, "dtype", entries)
    return [*before, let(variable, value)], Access(variable, system.layout.dims(table, axes))


def piece_of(system: System, table: Table, clause: Clause, axes: Sequence[int]) -> Piece | None:
    """The value of a clause over the whole of its box; None where it is zero."""
    if ir.is_zero(clause.value):
        return None
    scope, batch = system.scope, system.layout.batch
    binders = {r.name: r for r in clause.binders}
    # Triangular ranges become boxes with a condition.
    conditions = list(clause.conditions)
    for name, r in list(binders.items()):
        binders[name], more = boxed(r, {**scope.ranges, **binders})
        conditions += more
    for k in axes:
        _clip(binders, clause.target[k], table.axes[k].range, scope)
    conditions = [c for c in conditions if scope.certain(c, binders) is not True]
    places: list[Expr] = [EVERY] * len(batch)
    dims = list(batch)
    for k in axes:
        place, label = _place(clause.target[k], table.axes[k].range, binders, scope)
        places.append(place)
        dims += [] if label is None else [label]
    whole = all(p == EVERY for p in places)
    runs = {s: table.axes[k].runs for k in axes for s, c in clause.target[k].terms if c == 1 and s in binders}
    at = Context(system, binders, list(dims), table.key, runs)
    value = at.lower(clause.value)
    decided = [c for c in conditions if at.decided([c])]
    test = mask([c for c in conditions if c not in decided], at)
    order = at.order
    if table.key.kind == ir.DATA:
        dims.append("feature")
        places.append(EVERY)
        order[:] = [d for d in order if d != "feature"] + ["feature"]
    value = transposed(value, [*order, *(d for d in value.dims if d not in order)])
    if test is not None:
        value = where(test, value, None, order)
    shape = system.layout.shape_of(table, dims, binders, scope)
    if tuple(dims) != value.dims:
        inner = aligned(value, dims, order) if value.dims else as_number(value)
        value = Array(call("jnp.broadcast_to", inner, shape), tuple(dims))
    if decided and (known := mask(decided, at)) is not None:
        # Known in Python: elsewhere the value, which may divide by a size of 0, is not looked up at all.
        value = Array(Conditional(value, known.value, zeros(shape)), value.dims)
    return Piece(tuple(places), value, whole, bool(test or decided))


def _place(target: Affine, axis: Range, binders: Mapping[str, Range], scope: Scope) -> tuple[Expr, str | None]:
    """Where along an axis a clause goes, and the index that runs there."""
    loops = [s for s, _ in target.terms if s in binders]
    if not loops:
        return scope.offset(target, axis.low), None
    name, step = loops[0], target.coefficient(loops[0])
    r, first = binders[name], target.substitute({name: Affine(0)})
    low, high = (map_bound(b, lambda a: a * step + first) for b in (r.low, r.high))
    if step == 1 and scope.same(low, axis.low) and scope.same(high, axis.high):
        return EVERY, name
    start = scope.offset(low, axis.low)
    if step == 1:
        return Slice(start, added([start, scope.size(r)])), name
    return Slice(start, plus(scope.offset(high, axis.low), 1), Literal(step)), name


def _clip(binders: dict[str, Range], target: Affine, axis: Range, scope: Scope) -> None:
    """Keep an index to the entries that an axis has: a box is wider than what the conditions leave of it."""
    loops = target.symbols & binders.keys()
    if len(loops) != 1 or target.coefficient(*loops) != 1:
        return
    (name,) = loops
    r, first = binders[name], target - Affine.symbol(name)
    low, high = (map_bound(end, lambda a: a - first) for end in (axis.low, axis.high))
    settle = scope.settle
    if not (at_most(settle(low), settle(r.low)) and at_most(settle(r.high), settle(high))):
        binders[name] = Range(name, maximum(r.low, low), minimum(r.high, high))
