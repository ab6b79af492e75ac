"""Entries of tables: as slices, zero-filled slices, single entries, or at arrays of indices; Grams of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import EVERY, aligned, union
from tensorprog.backend.code.tree import Array, Expr, Literal, Slice, call, index, text
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.indices import index_array
from tensorprog.backend.lower.registry import lowering
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound, at_most, map_bound
from tensorprog.index.ranges import Range, extent
from tensorprog.recursion import Axis

LETTERS = "abcdefghijklmnopqrstuvwxyz"


# ---------------------------------------------------------------- places


@dataclass(frozen=True)
class At:
    """One entry of an axis. certain: the axis has it for sure; elsewhere it may be outside, and then is zero."""

    position: Expr
    certain: bool


@dataclass(frozen=True)
class Part:
    """A stretch of an axis along a dimension, or all of it."""

    place: Slice
    label: str


@dataclass(frozen=True)
class Stretch:
    """A stretch that may go beyond the axis, where it is zero."""

    start: Expr
    size: Expr
    stride: int
    label: str


@dataclass(frozen=True)
class Many:
    """Entries at an array of positions; some may be outside, and then are zero."""

    positions: Array


@dataclass(frozen=True)
class LookedUp:
    """Entries at positions that are data."""

    positions: Array


Place = At | Part | Stretch | Many | LookedUp


def place(e: Affine, axis: Range, at: Context) -> Place:
    """How an axis is read at an index."""
    if not isinstance(axis.low, Affine):
        raise ProgramError("an axis that begins at the smaller of two sizes")
    scope, position = at.scope, e - axis.low
    if e.entries:
        return LookedUp(index_array(position, at))
    labels = [s for s in e.symbols if s in at.arrays]
    inside = _inside(e, axis, at)
    if not labels:
        # A loop of no steps is traced all the same, and then reads of an axis without entries.
        exists = inside and at_most(scope.settle(axis.low), scope.settle(axis.high))
        return At(scope.integer(position), exists)
    if len(labels) > 1 or e.coefficient(labels[0]) < 1 or labels[0] in e.divided or e.symbols & scope.traced:
        return Many(index_array(position, at))
    (name,), step = labels, e.coefficient(labels[0])
    r = at.arrays[name]
    first = map_bound(r.low, lambda a: position.substitute({name: a}))
    if step == 1 and scope.settle(first) == Affine(0) and _count(r, at) == _count(axis, at):
        return Part(EVERY, name)
    # Python would count a slice that ends before it begins from the other end of the array.
    if not inside or not scope.never_empty(r):
        return Stretch(scope.bound(first), scope.size(r), step, name)
    stop = map_bound(r.high, lambda a: position.substitute({name: a}) + 1)
    return Part(Slice(scope.bound(first), scope.bound(stop), None if step == 1 else Literal(step)), name)


def _count(r: Range, at: Context) -> Bound | None:
    low, high = at.scope.settle(r.low), at.scope.settle(r.high)
    return map_bound(high, lambda a: a - low) if isinstance(low, Affine) else None


def _inside(e: Affine, axis: Range, at: Context) -> bool:
    settle = at.scope.settle
    low, high = extent(e, at.ranges, False), extent(e, at.ranges, True)
    return at_most(settle(axis.low), settle(low)) and at_most(settle(high), settle(axis.high))


# ---------------------------------------------------------------- reads


@lowering(ir.Read)
def read(node: ir.Read, at: Context) -> Array:
    if node.key.kind == ir.DATA and "feature" not in at.order:
        at.order.append("feature")
    access = at.system.find(node, at.key, at.scope)
    batch = {None: None, "left": "n1", "right": "n2"}[node.side]
    places: list[Place] = []
    for d in access.dims:
        if isinstance(d, str):
            places.append(Part(EVERY, d if d == "feature" else (batch or d)))
        else:
            places.append(place(node.indices[d], at.system.names.range_of(_axis(node, d, at), node.side), at))
    return _read(access.value, places, at)


def _axis(node: ir.Read, d: int, at: Context) -> Axis:
    return at.system.names.axes(node.key)[d]


def _read(array: Expr, places: Sequence[Place], at: Context) -> Array:
    """An array at places: first by subscripts, then stretches all at once, then from the last dimension on."""
    subscripts = [
        p.place if isinstance(p, Part) else p.position if isinstance(p, At) and p.certain else EVERY for p in places
    ]
    while subscripts and subscripts[-1] == EVERY:
        subscripts.pop()
    result = index(array, *subscripts) if subscripts else array
    left = [p for p in places if not (isinstance(p, At) and p.certain)]
    stretches = [(k, p) for k, p in enumerate(left) if isinstance(p, Stretch)]
    if stretches:
        result = _taken(result, stretches)
    for k, p in reversed([*enumerate(left)]):
        if isinstance(p, Many):
            result = call("gather", result, k, p.positions)
    shift = 0  # an array of positions may bring more dimensions than one, or none
    ends = []
    for k, p in enumerate(left):
        if isinstance(p, At):
            ends.append((k + shift, p.position))
        if isinstance(p, Many):
            shift += len(p.positions.dims) - 1
    for k, position in reversed(ends):
        result = call("entry", result, k, position)
    rest = [p for p in places if not isinstance(p, At)]
    if any(isinstance(p, LookedUp) for p in rest):
        return _looked_up(result, rest, at)
    return _diagonal(
        result, [d for p in rest for d in (p.positions.dims if isinstance(p, Many | LookedUp) else (p.label,))]
    )


def _taken(array: Expr, stretches: Sequence[tuple[int, Stretch]]) -> Expr:
    several = len(stretches) > 1
    columns: list[list[Expr]] = [
        [Literal(k) for k, _ in stretches],
        [p.start for _, p in stretches],
        [p.size for _, p in stretches],
        [Literal(p.stride) for _, p in stretches],
    ]
    if columns[-1] == [Literal(1)] * len(stretches):
        columns.pop()
    return call("take", array, *(tuple(c) if several else c[0] for c in columns))


def _diagonal(array: Expr, dims: Sequence[str]) -> Array:
    """An array some of whose dimensions are the same index: along their diagonal, which comes last."""
    found = list(dims)
    while len(set(found)) < len(found):
        name = next(d for d in found if found.count(d) > 1)
        a, b = [k for k, d in enumerate(found) if d == name][:2]
        array = call("jnp.diagonal", array, axis1=a, axis2=b)
        found = [d for k, d in enumerate(found) if k not in (a, b)] + [name]
    return Array(array, tuple(found))


def _looked_up(array: Expr, places: Sequence[Place], at: Context) -> Array:
    """An array at indices that are data, in some of its dimensions."""
    labels: list[str | None] = []
    for p in places:
        labels += p.positions.dims if isinstance(p, Many) else [p.label if isinstance(p, Part | Stretch) else None]
    codes = [p.positions for p in places if isinstance(p, LookedUp)]
    whole = union([Array(array, tuple(d for d in labels if d is not None)), *codes], at.order)
    waiting = iter(codes)
    indices = [aligned(next(waiting), whole, at.order) if d is None else Literal(whole.index(d)) for d in labels]
    return Array(call("looked_up", array, tuple(indices), len(whole)), whole)


def at_places(array: Expr, dims: tuple[str, ...], places: Sequence[tuple[str, Range, Affine]], at: Context) -> Array:
    """The last dimensions of an array, each read at an index expression."""
    found = [*dims, *(name for name, _, _ in places)]
    for name, r, where in places:
        position = found.index(name)
        here = place(where, at.system.names.range_of(Axis(r, 0, None), None), at)
        match here:
            case At(source):
                array = call("entry", array, position, source)
                del found[position]
            case Stretch(start, size, stride, label):
                array = call("take", array, position, start, size, stride)
                found[position] = label
            case Part(part, label):
                if part != EVERY:
                    array = index(array, *[EVERY] * position, part)
                found[position] = label
            case Many(positions) | LookedUp(positions):
                array = call("gather", array, position, positions)
                found[position : position + 1] = positions.dims
    return _diagonal(array, found)


# ---------------------------------------------------------------- products of arrays


@lowering(ir.Gram)
def gram(node: ir.Gram, at: Context) -> Array:
    """<x, x'>/d."""
    vectors = [at.lower(r) for r in ir.data_reads(node)]
    dims = tuple(sorted({d for v in vectors for d in v.dims} - {"feature"}, key=at.order.index))
    return Array(call("inner_products", text(subscripts(vectors, dims)), *vectors), dims)


def subscripts(arrays: Sequence[Array], dims: Sequence[str]) -> str:
    """What an einsum over these arrays is called with."""
    labels = {d: LETTERS[k] for k, d in enumerate(dict.fromkeys([d for a in arrays for d in a.dims]))}
    inputs = ",".join("".join(labels[d] for d in a.dims) for a in arrays)
    return f"{inputs}->{''.join(labels[d] for d in dims)}"
