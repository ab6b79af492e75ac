"""How loops are run, as plain data, before any code is made: as a scan, in Python, or entry by entry.

    for t = 1..T:  h[t] from s[t-1] …        Scan: t = 1 by itself, where there is no s[0]; then t = 2..T alike

Steps that are alike but for some at the beginning are a `Scan`. Where they differ otherwise, or read far back, they are
an `Unrolled` loop in Python, each with its own cases; where they do so inside of other loops, `EntryByEntry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tensorprog import recursion as ir
from tensorprog.backend.lower.scope import Scope
from tensorprog.backend.schedule import Loop, Recursive, Schedule, Whole
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound, differences, map_bound, maximum, minimum
from tensorprog.index.conditions import Condition, boxed
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range, extent
from tensorprog.naming import identifier
from tensorprog.recursion import Clause, Key, Table

PEEL = 8
"""The most steps that are written out before a scan."""

Around = tuple[tuple[Loop, Affine], ...]
"""The loops around, each with its index."""


@dataclass(frozen=True)
class WholeTable:
    """All of a table, or of what of it is at one step of the loops around; zero there where it says so."""

    table: Table
    zero: bool = False


@dataclass(frozen=True)
class Zeros:
    """A loop that makes nothing but zeros."""

    loop: Loop
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Step:
    """One step of a loop, at this index."""

    index: Affine
    items: tuple[StepItem, ...]

    def makes(self, key: Key) -> bool:
        """Whether a table is not just zero at the step."""
        for item in self.items:
            if isinstance(item, WholeTable) and item.table.key == key:
                return not item.zero
        return True


@dataclass(frozen=True)
class Scan:
    """Single steps, then equal ones, from `first` to `last`.

    tables: their clauses at the loops around. scope: the one inside of the equal steps.
    """

    loop: Loop
    tables: tuple[Table, ...]
    before: tuple[Step, ...]
    step: Step
    symbol: str
    scope: Scope
    first: Affine
    last: Bound


@dataclass(frozen=True)
class Unrolled:
    """A loop in Python; `bodies` are the tables of a step, in its order, with their clauses at the loops around."""

    loop: Loop
    tables: tuple[Table, ...]
    bodies: tuple[Table, ...]
    symbol: str
    scope: Scope
    low: Bound
    high: Bound


@dataclass(frozen=True)
class EntryByEntry:
    """Functions that compute entries when they are asked for."""

    tables: tuple[Table, ...]


LoopPlan = Zeros | Scan | Unrolled
StepItem = WholeTable | LoopPlan
Item = StepItem | EntryByEntry


class _Uneven(Exception):
    """Loops in each other whose steps are not all alike."""


def planned(schedule: Schedule, tables: Mapping[Key, Table], scope: Scope) -> tuple[Item, ...]:
    """The schedule with all that is decided of its loops."""
    planner = _Planner(tables)
    items: list[Item] = []
    for item in schedule:
        if isinstance(item, Whole):
            items.append(WholeTable(tables[item.key]))
        elif isinstance(item, Recursive):
            items.append(EntryByEntry(tuple(tables[k] for k in item.keys)))
        else:
            try:
                items.append(planner.loop(item, (), scope))
            except _Uneven:
                items.append(EntryByEntry(tuple(tables[k] for k in item.keys)))
    return tuple(items)


@dataclass(frozen=True)
class _Planner:
    all_tables: Mapping[Key, Table]

    def loop(self, loop: Loop, around: Around, scope: Scope) -> LoopPlan:
        tables = tuple(narrowed(self.all_tables[k], around, scope) for k in loop.keys)
        if all(ir.is_zero(c.value) for t in tables for c in t.clauses):
            return Zeros(loop, tables)
        found = _equal_steps(loop, tables, scope)
        if found is None:
            if around or not all(isinstance(item, Whole) for item in loop.body):
                raise _Uneven
            return _unrolled(loop, tables, scope)
        points, first, last = found
        before = tuple(self._step(loop, p, around, scope) for p in points)
        symbol = _loop_symbol(loop, tables, scope)
        low, high = (first, last) if loop.step == 1 else (last, first)
        inside = scope.inside(Range(symbol, low, high), identifier(symbol), traced=True)
        step = self._step(loop, Affine.symbol(symbol), around, inside)
        return Scan(loop, tables, before, step, symbol, inside, first, last)

    def _step(self, loop: Loop, index: Affine, around: Around, scope: Scope) -> Step:
        around = (*around, (loop, index))
        certain = not index.substitute(scope.known).symbols & scope.ranges.keys()
        items: list[StepItem] = []
        for item in loop.body:
            if isinstance(item, Whole):
                table = narrowed(self.all_tables[item.key], around, scope)
                items.append(WholeTable(table, certain and all(ir.is_zero(c.value) for c in table.clauses)))
            elif isinstance(item, Loop):
                items.append(self.loop(item, around, scope))
            else:
                raise _Uneven  # what no loop can follow within this one is asked for entry by entry with the rest
        return Step(index, tuple(items))


def _unrolled(loop: Loop, tables: tuple[Table, ...], scope: Scope) -> Unrolled:
    symbol = _loop_symbol(loop, tables, scope)
    ends = [clause_range(loop, t, c)[:2] for t in tables for c in t.clauses]
    low, high = minimum(*(a for a, _ in ends)), maximum(*(b for _, b in ends))
    inside = scope.inside(Range(symbol, low, high), identifier(symbol))
    by_key = {t.key: t for t in tables}
    bodies = tuple(by_key[item.key] for item in loop.body if isinstance(item, Whole))
    return Unrolled(loop, tables, bodies, symbol, inside, low, high)


# ---------------------------------------------------------------- clauses at the steps of loops


def clause_range(loop: Loop, table: Table, clause: Clause) -> tuple[Bound, Bound, str | None]:
    """The loop indices at which a clause is active, and the binder that follows the loop's index.

    None: it is active at one step alone. "": several binders follow, or one at a distance that grows.
    """
    target = clause.target[loop.axes[table.key]]
    binders = {r.name: r for r in clause.binders}
    own = [s for s, _ in target.terms if s in binders]
    if not own:
        return target, target, None
    if len(own) > 1 or target.coefficient(own[0]) != 1:
        return extent(target, binders, False), extent(target, binders, True), ""
    rest = target - Affine.symbol(own[0])
    r = binders[own[0]]
    low, high = extent(r.low, binders, False), extent(r.high, binders, True)
    return map_bound(low, lambda a: a + rest), map_bound(high, lambda a: a + rest), own[0]


def with_box(clause: Clause, binder: str) -> Clause:
    """The clause where one of its binders runs over a box: conditions say which part of it is meant."""
    ranges = {r.name: r for r in clause.binders}
    box, conditions = boxed(ranges[binder], ranges)
    if not conditions:
        return clause
    binders = tuple(box if r.name == binder else r for r in clause.binders)
    return replace(clause, binders=binders, conditions=(*clause.conditions, *conditions))


def narrowed(table: Table, around: Around, scope: Scope) -> Table:
    """The table with its clauses at the indices of the loops around it."""
    for loop, index in around:
        if table.key in loop.axes:
            s = index.terms[0][0] if index.terms and index.terms[0][0] in scope.ranges else None
            inside = {} if s is None else {s: scope.ranges[s]}
            table = replace(table, clauses=tuple(_active(loop, table, index, inside, scope)))
    return table


def _active(loop: Loop, table: Table, index: Affine, inside: Mapping[str, Range], scope: Scope) -> list[Clause]:
    """The table's clauses at a loop index, with the binder that follows it replaced."""
    result = []
    for c in table.clauses:
        low, high, binder = clause_range(loop, table, c)
        tests = [Condition(">=", e) for e in differences(index, low) + differences(high, index)]
        verdicts = [scope.certain(test, inside) for test in tests]
        if any(v is False for v in verdicts):
            continue
        if binder is None:
            here = Condition("==", index - as_affine(low))
            result.append(c if all(verdicts) else replace(c, conditions=(*c.conditions, here)))
            continue
        target = c.target[loop.axes[table.key]]
        value = index - (target - Affine.symbol(binder))
        clause = ir.substitute_clause(with_box(c, binder), {binder: value})
        extra = tuple(test for test, v in zip(tests, verdicts, strict=True) if v is None)
        result.append(replace(clause, conditions=(*clause.conditions, *extra)))
    return result


def as_affine(b: Bound) -> Affine:
    if not isinstance(b, Affine):
        raise ProgramError("a loop that ends at the smaller of two sizes")
    return b


# ---------------------------------------------------------------- steps that are alike


def _equal_steps(loop: Loop, tables: Sequence[Table], scope: Scope) -> tuple[list[Affine], Affine, Bound] | None:
    """(points before, first, last): single steps, then equal ones; None where steps differ otherwise."""
    if any(lag is None for lag in loop.lags.values()):
        return None
    ranges = [clause_range(loop, t, c) for t in tables for c in t.clauses]
    if any(binder == "" for _, _, binder in ranges):
        return None
    starts: list[Bound] = []
    ends: list[Bound] = []
    points: list[Bound] = []
    for low, high, binder in ranges:
        low, high = scope.settle(low), scope.settle(high)
        if binder is None or low == high:
            points.append(low)
        else:
            starts.append(low if loop.step == 1 else high)
            ends.append(high if loop.step == 1 else low)
    if not starts or any(e != ends[0] for e in ends):
        return None
    starting, single = ([b for b in found if isinstance(b, Affine)] for found in (starts, points))
    if len(starting) < len(starts) or len(single) < len(points):
        return None
    gaps = [(s - starting[0]) * loop.step for s in starting]
    if not all(g.is_constant for g in gaps):
        return None
    ahead = max(g.constant for g in gaps)
    first = starting[0] + ahead * loop.step
    before = set()
    for p in single:
        gap = (first - p) * loop.step
        if not gap.is_constant or not 0 < gap.constant <= PEEL:
            return None
        before.add(gap.constant)
    before |= {d for g in gaps for d in range(1, ahead - g.constant + 1)}
    if max(before, default=0) > PEEL:
        return None
    return [first - d * loop.step for d in sorted(before, reverse=True)], first, ends[0]


def _loop_symbol(loop: Loop, tables: Sequence[Table], scope: Scope) -> str:
    """A name for the loop's index that no index inside has."""
    base = tables[0].axes[loop.axes[tables[0].key]].range.name
    taken = {x for t in tables for c in t.clauses for x in _index_names(c)}
    own = {b for t in tables for c in t.clauses if (b := clause_range(loop, t, c)[2])}
    return underscored(base, taken - own, scope.ranges, lambda name: name in own and own != {name})


def _index_names(clause: Clause) -> set[str]:
    names = {r.name for r in clause.binders}
    for node in ir.walk(clause.value):
        if isinstance(node, ir.Sum):
            names |= {r.name for r in node.ranges}
        if isinstance(node, ir.Reduce):
            names.add(node.range.name)
    return names
