"""A dry run of the loops and indices of a program at given sizes: every read finds what was assigned before it.

Every execution of an assignment has a point on a clock. The statements of a block follow one another; a loop whose
body takes m ticks takes m ticks a pass, as many passes as it makes at most, so that a pass is found by its ordinal.
One pass over the program notes when each member of a family is assigned; a second compares this with the time of
every read. Both handle all passes of all loops around an assignment together, a row for each, in arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from tensorprog.errors import ProgramError, Span
from tensorprog.index.bounds import evaluate_bound
from tensorprog.index.ranges import Range, extent
from tensorprog.index.rows import LARGEST, Integers, holds, integer
from tensorprog.language import syntax
from tensorprog.language.printer import print_index
from tensorprog.program.scope import Scope
from tensorprog.program.substitution import free_names
from tensorprog.program.types import Position

LIMIT = 10**7  # members of an assignment, passes of a loop, terms of a reduction for one member
_CHUNK = 1 << 18  # rows handled at once: the arrays stay in the cache
_PATIENCE = 2 * 10**8  # rows of the reductions of one assignment; more are left unchecked
_DENSE = 1 << 28  # members of a family noted in an array over its whole range
_FEW = 64  # values of data that are all tried

_NOT_OF_NOTHING = ("mean", "max", "min", "softmax", "batchnorm")


def check_order(statements: tuple[syntax.Statement, ...], scope: Scope, sizes: Mapping[str, int]) -> None:
    """Run the loops of a program, as it is written, without its vectors.

    sizes: every integer parameter and open size. Functions that read variables must have been expanded.

    Raises ProgramError, for the first mistake in the order of execution: a member assigned twice, read before it is
    assigned, or out of range outside `( … else … )`; a mean, max or min of nothing; more than LIMIT members or passes.
    """
    _DryRun(statements, scope, {**scope.integers(), **sizes}).run()


# ---------------------------------------------------------------- the program as a tree of loops


@dataclass(eq=False)
class _Leaf:
    """An assignment. `tired` is set once its reductions are too large to be followed."""

    assignment: syntax.Assignment
    offset: int = 0  # within the block
    spent: int = 0
    tired: bool = False

    ticks = 1


@dataclass(eq=False)
class _Loop:
    """One index of a `for`, of a target or of a reduction."""

    binder: syntax.Binder
    body: list[_Loop | _Leaf]
    assignment: syntax.Assignment | None = None  # where the index is bound in a target
    steers: bool = False  # whether the range of a loop inside depends on this index
    offset: int = 0
    most: int = 0  # passes at a time
    total: int = 0  # passes in all

    @property
    def ticks(self) -> int:
        return self.most * sum(node.ticks for node in self.body)


def _plan(statements) -> list[_Loop | _Leaf]:
    nodes: list[_Loop | _Leaf] = []
    for s in statements:
        match s:
            case syntax.Assignment(_, indices):
                nodes += _nest([i for i in indices if isinstance(i, syntax.Binder)], [_Leaf(s)], s)
            case syntax.For(binders, body):
                nodes += _nest(binders, _plan(body), None)
    return nodes


def _nest(binders, body: list[_Loop | _Leaf], assignment: syntax.Assignment | None) -> list[_Loop | _Leaf]:
    for b in reversed(binders):
        body = [_Loop(b, body, assignment, b.name in _range_names(body))]
    return body


def _range_names(nodes: list[_Loop | _Leaf]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, _Loop):
            names |= free_names(node.binder) | _range_names(node.body)
    return names


def _set_offsets(nodes: list[_Loop | _Leaf]) -> int:
    """Place the statements of a block one behind the other; gives the length of the block."""
    ticks = 0
    for node in nodes:
        node.offset = ticks
        ticks += node.ticks
        if isinstance(node, _Loop):
            _set_offsets(node.body)
    return ticks


def _loops(nodes: list[_Loop | _Leaf]) -> Iterator[_Loop]:
    for node in nodes:
        if isinstance(node, _Loop):
            yield node
            yield from _loops(node.body)


# ---------------------------------------------------------------- rows


@dataclass(frozen=True)
class _Rows:
    """Points of execution in their order: the values of the indices, and the time.

    ends: the range of every index at each row.
    roots: for each row, where it comes from in some earlier selections of rows.
    group, last: the row before the loop over the index `last`, the innermost, went over its range.
    """

    count: int
    time: np.ndarray
    names: Mapping[str, Integers] = field(default_factory=dict)
    ends: Mapping[str, tuple[Integers, Integers, int]] = field(default_factory=dict)
    roots: tuple[np.ndarray, ...] = ()
    group: np.ndarray | None = None
    last: str | None = None

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(
            len(rows),
            self.time[rows],
            {k: _pick(v, rows) for k, v in self.names.items()},
            {k: (_pick(low, rows), _pick(high, rows), step) for k, (low, high, step) in self.ends.items()},
            tuple(r[rows] for r in self.roots),
            None if self.group is None else self.group[rows],
            self.last,
        )

    def where(self, mask: np.ndarray) -> _Rows:
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def rooted(self) -> _Rows:
        """These rows, to be found again: one root more."""
        return replace(self, roots=(*self.roots, np.arange(self.count)))

    def over(self, name: str, ends: tuple[Integers, Integers, int], offset: int = 0, ticks: int = 0) -> Iterator[_Rows]:
        """These rows, each repeated for every value of an index; in pieces, in the order of execution."""
        low, _, step = ends
        for parent, ordinal in _repeats(_passes(*ends), self.count):
            rows = self.take(parent)
            value = _pick(low, parent) + step * ordinal
            time = rows.time + offset
            if ticks:
                time = time + ordinal.astype(time.dtype) * ticks
            names = {k: v for k, v in rows.names.items() if k != name}
            bounds = (_pick(low, parent), _pick(ends[1], parent), step)
            yield _Rows(rows.count, time, {**names, name: value}, {**rows.ends, name: bounds}, rows.roots, parent, name)


def _pick(value: Integers, rows: np.ndarray) -> Integers:
    return value[rows] if isinstance(value, np.ndarray) else value


def _check_size(ends: Sequence[Integers], binder: syntax.Binder) -> None:
    """What stands beside arrays of indices fits their integers."""
    if any(not isinstance(end, np.ndarray) and abs(end) >= LARGEST for end in ends):
        raise ProgramError("this index is too large", binder.span)


def _passes(low: Integers, high: Integers, step: int) -> Integers:
    """How many integers a range has."""
    n = (high - low) // step + 1
    return np.maximum(n, 0) if isinstance(n, np.ndarray) else max(n, 0)


def _repeats(passes: Integers, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each of `count` rows its number and 0, 1, … up to its passes; in pieces."""
    if isinstance(passes, np.ndarray):
        stops = np.cumsum(passes)
        total = int(stops[-1]) if count else 0
    else:
        total = passes * count
    for start in range(0, total, _CHUNK):
        flat = np.arange(start, min(start + _CHUNK, total))
        if isinstance(passes, np.ndarray):
            first, last = np.searchsorted(stops, [flat[0], flat[-1]], side="right")
            inside = np.minimum(stops[first : last + 1], flat[-1] + 1)
            parent = np.repeat(np.arange(first, last + 1), np.diff(inside, prepend=flat[0]))
            yield parent, flat - (stops - passes)[parent]
        else:
            parent = flat // passes
            yield parent, flat - parent * passes


def _sum_product(a: Integers, b: Integers, count: int) -> int:
    """The sum of a·b over all rows, exactly."""
    if not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        return count * a * b
    if int(np.max(a)) * int(np.max(b)) * count > LARGEST:
        a, b = np.asarray(a, dtype=object), np.asarray(b, dtype=object)
    return int(np.sum(a * b))


# ---------------------------------------------------------------- families


@dataclass
class _Declared:
    """An input, weight or vector: there from the start, all over its range."""

    name: str
    axes: tuple[syntax.Binder, ...]


@dataclass
class _Assigned:
    """When each member was assigned first; 0 where it never was."""

    name: str
    axes: list[str]
    low: list[int]
    high: list[int]
    clock: type
    times: np.ndarray = field(init=False)
    batches: list[tuple[np.ndarray, np.ndarray]] | None = None  # numbers of members with times, where the range is huge
    keys: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self._size() > _DENSE:
            self.batches = []
            self.times = np.zeros(0, self.clock)
        else:
            # Memory that is never written costs nothing.
            self.times = np.zeros(self._size(), self.clock)

    def _size(self) -> int:
        size = 1
        for low, high in zip(self.low, self.high, strict=True):
            size *= max(high - low + 1, 0)
        return size

    def numbers(self, columns: list[Integers], count: int) -> np.ndarray:
        """The place of each member in the list of all, the last index running fastest."""
        number: Integers = 0
        for v, low, high in zip(columns, self.low, self.high, strict=True):
            number = number * (high - low + 1) + (v - low)
        return number if isinstance(number, np.ndarray) else np.full(count, number)

    def reach(self, columns: list[Integers], span: Span) -> None:
        """Make room for members beyond the range that was derived for sizes of at least 1."""
        low = [int(np.min(v)) for v in columns]
        high = [int(np.max(v)) for v in columns]
        if self._size() > 0:
            low = [min(a, b) for a, b in zip(low, self.low, strict=True)]
            high = [max(a, b) for a, b in zip(high, self.high, strict=True)]
        if (low, high) == (self.low, self.high):
            return
        wider = _Assigned(self.name, self.axes, low, high, self.clock)
        if self.batches is not None or wider.batches is not None:
            if self._size() > 0 or wider._size() > LARGEST:
                raise ProgramError(f"the indices of {self.name} lie too far apart", span)
        elif self._size() > 0:
            shape = [h - a + 1 for a, h in zip(low, high, strict=True)]
            old = tuple(slice(a - b, h - b + 1) for a, b, h in zip(self.low, low, self.high, strict=True))
            view = wider.times.reshape(shape)
            view[old] = self.times.reshape([h - a + 1 for a, h in zip(self.low, self.high, strict=True)])
        self.low, self.high, self.times, self.batches = low, high, wider.times, wider.batches

    def note(self, columns: list[Integers], time: np.ndarray, span: Span) -> list[tuple[int, int]]:
        """Enter members that are assigned at these times; gives those that are assigned twice: (time, number)."""
        self.reach(columns, span)
        numbers = self.numbers(columns, len(time))
        if self.batches is not None:
            self.batches.append((numbers, time))
            return []
        if not self.times[numbers].any():
            self.times[numbers] = time
            if (self.times[numbers] == time).all():
                return []
            self.times[numbers] = 0
        return self._merge(numbers, time)

    def _merge(self, numbers: np.ndarray, time: np.ndarray) -> list[tuple[int, int]]:
        order = np.argsort(numbers, kind="stable")  # the times of a batch ascend already
        sorted_numbers = numbers[order]
        first = np.ones(len(order), bool)
        first[1:] = sorted_numbers[1:] != sorted_numbers[:-1]
        again = order[~first]
        twice = [(time[k], int(numbers[k])) for k in (again[time[again].argmin()],)] if len(again) else []
        numbers, time = sorted_numbers[first], time[order[first]]
        before = self.times[numbers]
        later = np.where(before > 0, np.maximum(before, time), 0)
        if later.any():
            k = np.flatnonzero(later)[later[later > 0].argmin()]
            twice.append((later[k], int(numbers[k])))
        self.times[numbers] = np.where(before > 0, np.minimum(before, time), time)
        return twice

    def close(self) -> list[tuple[int, int]]:
        """Sort what was entered, where the range is huge; gives members assigned twice as `note` does."""
        if self.batches is None:
            return []
        numbers = np.concatenate([np.zeros(0, np.int64), *(n for n, _ in self.batches)])
        time = np.concatenate([np.zeros(0, self.clock), *(t for _, t in self.batches)])
        self.batches = []
        order = np.lexsort((time, numbers))
        numbers, time = numbers[order], time[order]
        first = np.ones(len(order), bool)
        first[1:] = numbers[1:] != numbers[:-1]
        again = np.flatnonzero(~first)
        self.keys, self.times = numbers[first], time[first]
        return [(time[k], int(numbers[k])) for k in (again[time[again].argmin()],)] if len(again) else []

    def when(self, columns: list[Integers], count: int) -> np.ndarray:
        numbers = self.numbers(columns, count)
        if self.keys is None:
            return self.times[numbers]
        if not len(self.keys):
            return np.zeros(count, self.clock)
        place = np.minimum(np.searchsorted(self.keys, numbers), len(self.keys) - 1)
        return np.where(self.keys[place] == numbers, self.times[place], 0)

    def member(self, number: int) -> list[int]:
        indices: list[int] = []
        for low, high in zip(reversed(self.low), reversed(self.high), strict=True):
            number, k = divmod(number, high - low + 1)
            indices.insert(0, low + k)
        return indices


# ---------------------------------------------------------------- the dry run


@dataclass(frozen=True)
class _Mark:
    """Where a guard collects the rows at which an index inside is out of range."""

    outside: np.ndarray
    level: int  # which of the roots of a row is the row of the guard


class _DryRun:
    def __init__(self, statements: tuple[syntax.Statement, ...], scope: Scope, sizes: Mapping[str, int]):
        self.statements = statements
        self.scope = scope
        self.sizes = sizes
        self.plan = _plan(statements)
        self.families: dict[str, _Declared | _Assigned] = {}
        self.leaf: _Leaf | None = None
        self.first: tuple[tuple, ProgramError] | None = None
        self.chosen: dict[syntax.Expr, int] = {}  # values of data that hold indices

    def run(self) -> None:
        self._measure(self.plan, _Rows(1, np.ones(1, np.int64)), 1)
        for loop in _loops(self.plan):
            if loop.total > LIMIT:
                if loop.assignment is not None:
                    raise ProgramError(f"this assignment has {loop.total} members", loop.assignment.span)
                raise ProgramError(f"this loop runs {loop.total} times", loop.binder.span)
        # Where the ranges of loops differ wildly the clock outgrows 64 bits; Python's integers are slow but exact.
        clock = np.int64 if _set_offsets(self.plan) < LARGEST else object
        start = _Rows(1, np.ones(1, clock))
        self._declare(clock)
        self._go(self.plan, start, self._write)
        for family in self.families.values():
            if isinstance(family, _Assigned):
                self._assigned_twice(family, family.close())
        self._go(self.plan, start, self._reads)
        if self.first is not None:
            raise self.first[1]

    # ------------------------------------------------------------ loops

    def _measure(self, nodes: list[_Loop | _Leaf], rows: _Rows, weight: Integers) -> None:
        """Count the passes of all loops; an index that no other range depends on is not expanded.

        weight: how often each row stands for a pass.
        """
        for node in nodes:
            if not isinstance(node, _Loop):
                continue
            ends = self._ends(node.binder, rows)
            if any(isinstance(end, np.ndarray) for end in ends):
                _check_size(ends, node.binder)
            passes = _passes(*ends)
            new = _sum_product(weight, passes, rows.count)
            if new == 0:
                continue
            node.most = max(node.most, int(np.max(passes)))
            node.total += new
            if node.total > LIMIT * (rows.count if self.leaf else 1):
                continue
            _check_size(ends, node.binder)
            if not node.steers:
                self._measure(node.body, rows, weight * passes)
                continue
            for piece in rows.over(node.binder.name, ends):
                assert piece.group is not None
                self._measure(node.body, piece, _pick(weight, piece.group))

    def _go(self, nodes: list[_Loop | _Leaf], rows: _Rows, action) -> None:
        for node in nodes:
            if isinstance(node, _Leaf):
                action(node, replace(rows, time=rows.time + node.offset))
            else:
                ticks = sum(inner.ticks for inner in node.body)
                ends = self._ends(node.binder, rows)
                for piece in rows.over(node.binder.name, ends, node.offset, ticks):
                    self._go(node.body, piece, action)

    def _ends(self, b: syntax.Binder, rows: _Rows) -> tuple[Integers, Integers, int]:
        if b.low is None or b.high is None:
            if b.name not in rows.ends:
                raise ProgramError(f"index '{b.name}' has no range", b.span, hint=f"write {b.name} = 1..T, say")
            return rows.ends[b.name]
        step = 1 if b.step is None else self._integer(b.step, {})
        if not isinstance(step, int) or step == 0:
            raise ProgramError("the step of a range is a number other than zero", b.span)
        return self._integer(b.low, rows.names), self._integer(b.high, rows.names), step

    def _leaf_at(self, time: int) -> _Leaf:
        """The assignment that is executed at a time."""
        nodes, time = self.plan, int(time) - 1
        while True:
            node = next(n for n in reversed(nodes) if n.offset <= time and n.ticks > 0)
            if isinstance(node, _Leaf):
                return node
            time = (time - node.offset) % sum(inner.ticks for inner in node.body)
            nodes = node.body

    # ------------------------------------------------------------ integers and conditions

    def _integer(self, e: syntax.Expr, names: Mapping[str, Integers]) -> Integers:
        return integer(e, partial(self._value, names))

    def _holds(self, c: syntax.Condition, names: Mapping[str, Integers]) -> np.ndarray | bool:
        return holds(c, partial(self._value, names))

    def _value(self, names: Mapping[str, Integers], e: syntax.Name | syntax.Index) -> Integers | None:
        if self.chosen and e in self.chosen:
            return self.chosen[e]
        if isinstance(e, syntax.Index):
            return None
        if e.name in names:
            return names[e.name]
        if e.name in self.sizes:
            return self.sizes[e.name]
        raise self.scope.undefined(e.name, e.span)

    # ------------------------------------------------------------ writing

    def _declare(self, clock: type) -> None:
        for s in self.statements:
            if isinstance(s, syntax.Input | syntax.Random):
                for v in s.variables:
                    self.families[v.name] = _Declared(v.name, v.axes)
        for leaf in _leaves(self.plan):
            s = leaf.assignment
            if s.name not in self.families:
                low, high, axes = self._hull(s)
                self.families[s.name] = _Assigned(s.name, axes, low, high, clock)

    def _hull(self, s: syntax.Assignment) -> tuple[list[int], list[int], list[str]]:
        ranges = self.scope.ranges.get(s.name)
        if ranges is None or len(ranges) != len(s.indices):
            names = [i.name if isinstance(i, syntax.Binder | syntax.Name) else "index" for i in s.indices]
            return [1] * len(names), [0] * len(names), names
        outer: dict[str, Range] = {}
        low, high = [], []
        try:
            for r in ranges:
                low.append(evaluate_bound(extent(r.low, outer, largest=False), self.sizes))
                high.append(evaluate_bound(extent(r.high, outer, largest=True), self.sizes))
                outer[r.name] = r
        except KeyError as missing:
            name = missing.args[0]
            raise ProgramError(f"the size '{name}' has no value", s.span, hint=f"pass {name}=") from None
        return low, high, [r.name for r in ranges]

    def _write(self, leaf: _Leaf, rows: _Rows) -> None:
        s = leaf.assignment
        family = self.families[s.name]
        if not isinstance(family, _Assigned) or len(family.axes) != len(s.indices):
            return
        columns = [
            rows.names[i.name] if isinstance(i, syntax.Binder) else self._integer(i, rows.names) for i in s.indices
        ]
        self._assigned_twice(family, family.note(columns, rows.time, s.span))

    def _assigned_twice(self, family: _Assigned, members: list[tuple[int, int]]) -> None:
        for time, number in members:
            indices = family.member(number)
            second = self._leaf_at(time).assignment
            before = self._leaf_at(family.when(list(indices), 1)[0]).assignment
            hint = None
            if before is not second and before.span.line:
                hint = f"it is assigned in line {before.span.line} already"
            error = ProgramError(f"{_member(family.name, indices)} is assigned twice", second.span, hint=hint)
            self._note((time, 1), error)

    # ------------------------------------------------------------ reading

    def _reads(self, leaf: _Leaf, rows: _Rows) -> None:
        if self.first is not None and rows.time[0] > self.first[0][0]:
            return
        self.leaf = leaf
        self._walk(leaf.assignment.value, rows, None)

    def _walk(self, e: syntax.Expr, rows: _Rows, mark: _Mark | None) -> None:
        """Look up what e reads at these rows; or, inside a guard, mark the rows where an index is out of range."""
        assert self.leaf is not None
        if rows.count == 0 or self.leaf.tired:
            return
        match e:
            case syntax.Number():
                pass
            case syntax.Name(name):
                if name not in rows.names:
                    self._look_up(e, name, (), rows, mark)
            case syntax.Index(name, indices):
                self._look_up(e, name, indices, rows, mark)
            case syntax.Transpose(operand) | syntax.Negate(operand):
                self._walk(operand, rows, mark)
            case syntax.Binary(_, left, right):
                self._walk(left, rows, mark)
                self._walk(right, rows, mark)
            case syntax.Conditional(then, condition, otherwise) if self._positions(condition, rows):
                for position in self._positions(condition, rows):
                    self._walk(position, rows, mark)
                self._walk(then, rows, mark)
                self._walk(otherwise, rows, mark)
            case syntax.Conditional(then, condition, otherwise):
                holds = np.broadcast_to(self._holds(condition, rows.names), rows.count)
                self._walk(then, rows.where(holds), mark)
                self._walk(otherwise, rows.where(~holds), mark)
            case syntax.Guard(value, otherwise):
                outside = np.zeros(rows.count, bool)
                self._walk(value, rows.rooted(), _Mark(outside, len(rows.roots)))
                if mark is None:
                    self._walk(value, rows.where(~outside), None)
                self._walk(otherwise, rows.where(outside), mark)
            case syntax.Call(_, arguments, keywords) | syntax.DerivativeCall(_, _, arguments, keywords):
                for a in (*arguments, *(v for _, v in keywords)):
                    self._walk(a, rows, mark)
            case syntax.Bracket(operands):
                for o in operands:
                    self._walk(o, rows, mark)
            case syntax.Reduction():
                self._reduce(e, rows, mark)

    def _look_up(self, e: syntax.Name | syntax.Index, name: str, indices, rows: _Rows, mark: _Mark | None) -> None:
        family = self.families.get(name)
        if family is None or len(family.axes) != len(indices):
            return  # a number or a function, or a mistake that the types show
        positions = [p for i in indices for p in self._positions(i, rows) if p not in self.chosen]
        if positions:
            for p in positions:
                self._walk(p, rows, mark)
            before = self.chosen
            for values in self._values_of(positions):
                self.chosen = {**before, **dict(zip(positions, values, strict=True))}
                self._look_up(e, name, indices, rows, mark)
            self.chosen = before
            return
        columns = [self._integer(i, rows.names) for i in indices]
        ranges = self._ranges(family, columns)
        outside: np.ndarray | bool = False
        for v, (_, low, high) in zip(columns, ranges, strict=True):
            outside = outside | (v < low) | (v > high)
        if np.any(outside):
            outside = np.broadcast_to(outside, rows.count)
            if mark is not None:
                mark.outside[rows.roots[mark.level][outside]] = True
                return
            k = int(np.argmax(outside))
            member = _member(name, _all_at(columns, k))
            has = ", ".join(f"{axis} = {_at(low, k)}..{_at(high, k)}" for axis, low, high in ranges)
            first = "" if isinstance(family, _Declared) else f"assign {member} first, or "
            hint = f"{first}write ( … else 0 ), which is 0 outside"
            empty = [a for a, (_, low, high) in enumerate(ranges) if _at(low, k) > _at(high, k)]
            if empty and isinstance(family, _Declared):
                has, hint = "no members", self._empty(family.axes[empty[0]])
            message = f"{member} is out of range: {name} has {has}{self._place(rows, k, '(at ')}"
            self._note((rows.time[k], 0), ProgramError(message, e.span, hint=hint))
            inside = np.flatnonzero(~outside)
            rows, columns = rows.take(inside), [_pick(v, inside) for v in columns]
        if mark is not None or isinstance(family, _Declared) or rows.count == 0:
            return
        when = family.when(columns, rows.count)
        missing = (when == 0) | (when >= rows.time)
        if missing.any():
            k = int(np.argmax(missing))
            member = _member(name, _all_at(columns, k))
            hint = f"assign {member} first"
            if when[k]:
                line = self._leaf_at(when[k]).assignment.span.line
                hint = f"{member} is what this computes" if when[k] == rows.time[k] else f"line {line} assigns it later"
            error = ProgramError(f"{member} is read{self._place(rows, k)} before it is defined", e.span, hint=hint)
            self._note((rows.time[k], 0), error)

    def _positions(self, e, rows: _Rows) -> list[syntax.Name | syntax.Index]:
        """`Scope.positions` where these rows stand."""
        return [p for p in self.scope.positions(e) if p.name not in rows.names]

    def _values_of(self, positions: list[syntax.Name | syntax.Index]) -> Iterator[tuple[int, ...]]:
        """Values that data may have: all of them, or where there are many, some."""
        ends = []
        for p in positions:
            t = self.scope.types[p.name]
            assert isinstance(t, Position)
            ends.append(evaluate_bound(t.size, self.sizes))
        if len(ends) == 1 and ends[0] <= _FEW:
            yield from ((k,) for k in range(1, ends[0] + 1))
            return
        for k in range(_FEW // 4 + 1):
            yield tuple(1 + round((end - 1) * 4 * k / _FEW) for end in ends)
        yield from itertools.product(*((1, end) for end in ends)) if len(ends) > 1 else ()

    def _ranges(self, family: _Declared | _Assigned, columns: list[Integers]) -> list[tuple[str, Integers, Integers]]:
        """The range of every axis; one may depend on the indices before it."""
        if isinstance(family, _Assigned):
            return list(zip(family.axes, family.low, family.high, strict=True))
        ranges: list[tuple[str, Integers, Integers]] = []
        names: dict[str, Integers] = {}
        for b, v in zip(family.axes, columns, strict=True):
            assert b.low is not None and b.high is not None
            ranges.append((b.name, self._integer(b.low, names), self._integer(b.high, names)))
            names[b.name] = v
        return ranges

    def _empty(self, axis: syntax.Binder) -> str:
        """Why a declared family has no members: its range, and the parameters in it."""
        names = sorted((free_names(axis.low) | free_names(axis.high)) & self.sizes.keys())
        given = ", ".join(f"{n} = {self.sizes[n]}" for n in names)
        assert axis.low is not None and axis.high is not None
        written = f"{axis.name} = {print_index(axis.low)}..{print_index(axis.high)}"
        return f"{written} is empty" + (f" where {given}: take a larger one" if given else "")

    def _reduce(self, e: syntax.Reduction, rows: _Rows, mark: _Mark | None) -> None:
        assert self.leaf is not None
        for _, v in e.keywords:
            self._walk(v, rows, mark)
        inherited = e.binders[0].low is None
        if inherited and len(e.binders) == 1 and mark is None and rows.last == e.binders[0].name:
            # All members along the index read the same: it is enough to look at the first of them.
            assert rows.group is not None
            new = np.ones(rows.count, bool)
            new[1:] = rows.group[1:] != rows.group[:-1]
            rows = rows.where(new)
        loops = _nest(e.binders, [], None)
        self._measure(loops, rows, 1)
        terms = max(loop.total for loop in _loops(loops))
        if terms > LIMIT * rows.count:
            raise ProgramError(f"this {e.function} has {terms // rows.count} terms", e.span)
        self.leaf.spent += terms
        if self.leaf.spent > _PATIENCE:
            self.leaf.tired = True
            return
        some = np.zeros(rows.count, bool)
        self._over_terms(e, e.binders, rows.rooted(), mark, some, len(rows.roots))
        if e.function in _NOT_OF_NOTHING and mark is None and not some.all() and not self.leaf.tired:
            k = int(np.argmin(some))
            place = self._place(rows, k)
            error = ProgramError(f"the {e.function} of nothing{place}", e.span, hint="its range is empty here")
            self._note((rows.time[k], 0), error)

    def _over_terms(self, e: syntax.Reduction, binders, rows: _Rows, mark: _Mark | None, some, level: int) -> None:
        if not binders:
            some[rows.roots[level]] = True
            self._walk(e.body, rows, mark)
            return
        for piece in rows.over(binders[0].name, self._ends(binders[0], rows)):
            self._over_terms(e, binders[1:], piece, mark, some, level)

    # ------------------------------------------------------------ errors

    def _note(self, moment: tuple, error: ProgramError) -> None:
        """Keep the mistake that comes first; an assignment reads before it writes."""
        if self.first is None or moment < self.first[0]:
            self.first = moment, error

    def _place(self, rows: _Rows, k: int, opening: str = "at ") -> str:
        """Where the loops stand at a row, with a blank in front."""
        values = ", ".join(f"{name} = {_at(v, k)}" for name, v in rows.names.items())
        return f" {opening}{values}{')' if opening.startswith('(') else ''}" if values else ""


def _leaves(nodes: list[_Loop | _Leaf]) -> Iterator[_Leaf]:
    for node in nodes:
        if isinstance(node, _Leaf):
            yield node
        else:
            yield from _leaves(node.body)


def _at(value: Integers, k: int) -> int:
    return int(value[k]) if isinstance(value, np.ndarray) else int(value)


def _all_at(columns: list[Integers], k: int) -> list[int]:
    return [_at(v, k) for v in columns]


def _member(name: str, indices: list[int]) -> str:
    return f"{name}[{', '.join(map(str, indices))}]" if indices else name
