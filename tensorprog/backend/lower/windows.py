"""Sums of one table at shifted indices, as filters have: one pass for each summed index, on all its axes at once.

An index q that an equation ties to others, c·q = p + a, reads the table with c - 1 zeros between its entries.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from tensorprog import recursion as ir
from tensorprog.backend.code.tree import Array, Expr, TupleOf, call, counting, tree
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.factors import factors_of, is_number_without, scaled
from tensorprog.backend.passes import WINDOWS
from tensorprog.index.affine import Affine, Remainder, remainder
from tensorprog.index.bounds import Bound, bound_symbols, map_bound
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range, extent
from tensorprog.recursion import Axis


@dataclass(frozen=True)
class Move:
    """An axis of a table that a window shifts: read at `stride` · label + `shift` and what is summed.

    spread: how far the entries of the table are apart there, with zeros between them.
    """

    axis: int
    label: str
    stride: int
    shift: Affine
    spread: int

    def same_as(self, other: Move) -> bool:
        return replace(self, axis=0) == replace(other, axis=0)


@dataclass(frozen=True)
class Tied:
    """An axis that is read at a summed index q, which an equation factor · q = value settles."""

    index: str
    factor: int
    value: Affine


@dataclass(frozen=True)
class Around:
    """An axis that is read at rest + (i + a) mod P, where i + a runs over a range."""

    rest: Affine
    wrapped: Remainder
    range: Range


@dataclass(frozen=True)
class Window:
    """A sum as windows over a table: for each summed index its moves, and how far apart its steps are.

    The moves of None are those of axes that no summed index shifts. others: the factors beside the table.
    """

    read: ir.Read
    others: tuple[ir.Node, ...]
    ranges: tuple[Range, ...]
    moves: Mapping[str | None, Sequence[Move]]
    gaps: Mapping[str | None, int]
    tied: Mapping[int, Tied]
    around: Mapping[int, Around]


def window_sum(node: ir.Sum, at: Context) -> Array | None:
    """The sum in windows; None where it is none."""
    window = _window(node, at)
    return None if window is None else _lowered(window, at)


# ---------------------------------------------------------------- what is a window


def _window(node: ir.Sum, at: Context) -> Window | None:
    factors = factors_of(node)
    reads = [f for f in factors if isinstance(f, ir.Read)]
    others = tuple(f for f in factors if not isinstance(f, ir.Read))
    if len(reads) != 1 or not all(is_number_without(f, [r.name for r in node.ranges]) for f in others):
        return None
    (read,) = reads
    axes = at.system.names.axes(read.key)
    tied, conditions = _tied(node, read, axes, at)
    ranges = tuple(r for r in node.ranges if r.name not in {x.index for x in tied.values()})
    names = [r.name for r in ranges]
    indices = [tied[k].value if k in tied else e for k, e in enumerate(read.indices)]
    if any(at.system.is_history(read, k) and (k in tied or e.symbols & set(names)) for k, e in enumerate(indices)):
        return None
    over = {**at.arrays, **{r.name: r for r in ranges}}
    found = _moves(indices, names, tied, over, at)
    ends = {s for r in ranges for b in (r.low, r.high) for s in bound_symbols(b)}
    if found is None or ends & (at.arrays.keys() | at.scope.traced):
        return None
    # The conditions must be no more than staying inside the table, outside of which it counts as zero.
    for c in conditions:
        if at.certain(c, over) is not True and not _implied(c, indices, axes, tied, at):
            return None
    return Window(read, others, ranges, *found[:2], tied, found[2])


def _moves(
    indices: Sequence[Affine], names: Sequence[str], tied: Mapping[int, Tied], over: Mapping[str, Range], at: Context
) -> tuple[dict[str | None, list[Move]], dict[str | None, int], dict[int, Around]] | None:
    """The moves and the gap of each summed index, and the axes that are read around; None where there are none."""
    moves: dict[str | None, list[Move]] = {n: [] for n in names}
    gaps: dict[str | None, int] = {}
    around: dict[int, Around] = {}
    for k, e in enumerate(indices):
        summed: list[str | None] = [n for n in names if n in e.symbols]
        if not summed and k not in tied:
            continue
        n, *more = summed or [None]
        if e.divided & over.keys():
            # Around the axis: a window over the axis with what it wraps around to put at its ends.
            found = _around(e, over)
            if found is None or k in tied:
                return None
            around[k] = found
            e = found.wrapped.numerator
        gap = 1 if n is None else e.coefficient(n)
        base = e if n is None else e - Affine.symbol(n) * gap
        labels = [s for s in base.symbols if s in at.arrays]
        if more or gaps.setdefault(n, gap) != gap or len(labels) != 1:
            return None
        stride = base.coefficient(labels[0])
        if stride < 1 or base.symbols & at.scope.traced:
            return None
        spread = tied[k].factor if k in tied else 1
        move = Move(k, labels[0], stride, base - Affine.symbol(labels[0]) * stride, spread)
        if not any(move.same_as(m) for m in moves.setdefault(n, [])):  # two that follow one index: a diagonal
            moves[n].append(move)
    used = [m.label for own in moves.values() for m in own]
    if not all(moves.values()) or len(set(used)) < len(used):
        return None
    return moves, gaps, around


def _tied(node: ir.Sum, read: ir.Read, axes: Sequence[Axis], at: Context) -> tuple[dict[int, Tied], list[Condition]]:
    """Axes read at summed indices that equations settle, and the other conditions."""
    found: dict[int, Tied] = {}
    ranges = {**at.arrays, **{r.name: r for r in node.ranges}}
    conditions = [c for c in node.conditions if at.certain(c, ranges) is not True]
    for r in node.ranges:
        places = [k for k, e in enumerate(read.indices) if r.name in e.symbols]
        equations = [c for c in conditions if c.op == "==" and c.expression.coefficient(r.name)]
        if not places or len(equations) != 1 or any(read.indices[k] != Affine.symbol(r.name) for k in places):
            continue
        if any(r.name in c.expression.symbols for c in conditions if c is not equations[0]):
            continue
        if not all(
            at.scope.same(axes[k].range.low, r.low) and at.scope.same(axes[k].range.high, r.high) for k in places
        ):
            continue
        c = equations[0].expression.coefficient(r.name)
        rest = equations[0].expression - Affine.symbol(r.name) * c
        conditions.remove(equations[0])
        found |= {k: Tied(r.name, abs(c), rest * (-1 if c > 0 else 1)) for k in places}
    return found, conditions


def _around(e: Affine, ranges: Mapping[str, Range]) -> Around | None:
    for s, c in e.terms:
        rest = e - Affine.symbol(s) * c
        if isinstance(s, Remainder) and c == 1 and not (rest.symbols | s.divisor.symbols) & ranges.keys():
            low, high = extent(s.numerator, ranges, False), extent(s.numerator, ranges, True)
            if isinstance(low, Affine) and isinstance(high, Affine) and not s.numerator.divided & ranges.keys():
                return Around(rest, s, Range("", low, high))
    return None


def _implied(c: Condition, indices: Sequence[Affine], axes: Sequence[Axis], tied: Container[int], at: Context) -> bool:
    """Whether a condition holds wherever the indices are inside their table."""
    for k, e in enumerate(indices):
        if k in tied:
            continue
        lows, highs = (_all_of(b, kind) for b, kind in ((axes[k].range.low, "max"), (axes[k].range.high, "min")))
        bounds = [e - b for b in lows if isinstance(b, Affine)] + [b - e for b in highs if isinstance(b, Affine)]
        for b in bounds:
            difference = (c.expression - b).substitute(at.scope.known)
            if c.op == ">=" and difference.is_constant and difference.constant >= 0:
                return True
    return False


def _all_of(b: Bound, kind: str) -> tuple[Bound, ...]:
    return b.arguments if not isinstance(b, Affine) and b.kind == kind else (b,)


# ---------------------------------------------------------------- code


def _lowered(window: Window, at: Context) -> Array:
    array = _whole(window, at)
    moves = [m for own in window.moves.values() for m in own]
    spread = {array.dims.index(m.label): m.spread for m in moves if m.spread != 1}
    if spread:
        array = Array(call("spread", array.value, tuple(spread), tuple(spread.values())), array.dims)
    passes = [_Pass.of(n, window, array.dims, at) for n in window.moves]
    at.system.definitions.notes.add(WINDOWS, [window.read.key])
    # Strided windows first, which leave less for the others, from the outermost axes on; then from the innermost
    # axes on: the pass that is fused into later work then shifts by whole rows.
    passes.sort(key=lambda p: (max(p.strides) == 1, max(p.positions) * (1 if max(p.strides) > 1 else -1)))
    last = passes[-1]
    if max(last.strides) == 1 and all(
        p == start for p in last.positions for start, stop in at.groups(array.dims) if start <= p < stop
    ):
        at.system.windowed.add(at.key)
    result = call("window_sums", array.value, [p.code for p in passes])
    return scaled(Array(result, array.dims), window.others, at)


def _whole(window: Window, at: Context) -> Array:
    """The table along all other axes; those of a window in full."""
    moves = [m for own in window.moves.values() for m in own]
    axes = at.system.names.axes(window.read.key)
    plain = {r.name: Affine(0) for r in window.ranges}
    whole: list[Affine] = []
    arrays: dict[str, Range] = {}
    for k, e in enumerate(window.read.indices):
        label = next((m.label for m in moves if m.axis == k), None)
        if label is None and k in window.tied:
            label = next(m.label for m in moves if m.label in window.tied[k].value.symbols)
        if label is None:
            whole.append(e.substitute(plain))
        elif k in window.around:
            around = window.around[k]
            arrays[label] = replace(around.range, name=label)
            whole.append(around.rest + remainder(Affine.symbol(label), around.wrapped.divisor))
        else:
            arrays[label] = replace(axes[k].range, name=label)
            whole.append(Affine.symbol(label))
    with at.reading(arrays):
        return at.lower(ir.Read(window.read.key, tuple(whole), window.read.side))


@dataclass(frozen=True)
class _Pass:
    """What `window_sums` does for one summed index."""

    positions: tuple[int, ...]
    strides: tuple[int, ...]
    code: Expr

    @staticmethod
    def of(name: str | None, window: Window, dims: Sequence[str], at: Context) -> _Pass:
        scope, moves = at.scope, window.moves[name]
        r = next((r for r in window.ranges if r.name == name), Range("", Affine(0), Affine(0)))
        positions, strides = tuple(dims.index(m.label) for m in moves), tuple(m.stride for m in moves)
        axes = at.system.names.axes(window.read.key)
        starts, sizes = [], []
        for m in moves:
            axis = window.around[m.axis].range if m.axis in window.around else axes[m.axis].range
            own = at.arrays[m.label]
            starts.append(scope.bound(_start(own, axis, m)))
            sizes.append(scope.size(own))
        parts = [tree(positions), _offsets(r, window.gaps[name], at), TupleOf(tuple(starts)), TupleOf(tuple(sizes))]
        if any(s != 1 for s in strides):
            parts.append(tree(strides))
        return _Pass(positions, strides, TupleOf(tuple(parts)))


def _start(own: Range, axis: Range, m: Move) -> Bound:
    """Where in the spread axis a window begins."""
    low = axis.low
    assert isinstance(low, Affine)
    return map_bound(own.low, lambda a: a * m.stride + m.shift - low * m.spread)


def _offsets(r: Range, gap: int, at: Context) -> Expr:
    """The range of what an index adds: the index times `gap`."""
    first, last = (r.low, r.high) if gap > 0 else (r.high, r.low)
    low, high = (at.scope.bound(map_bound(b, lambda a: a * gap)) for b in (first, last))
    return counting(low, high, abs(gap))
