"""Source of one system of tables: the run of one input, or the pair of two runs.

Every table becomes one array. Its dimensions are, in this order: the axes that loops stepped along, the samples
(n for a run; n1, n2 for a pair), and the table's other axes in the order of `_in_layout`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy

from tensorprog import recursion as ir
from tensorprog.backend import passes
from tensorprog.backend.labelled import Code, aligned, bound_source, integer, neighbours, transposed
from tensorprog.backend.nodes import NodeWriter
from tensorprog.backend.schedule import Loop, Recursive, Schedule, Whole
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound, at_most, bound_symbols, differences, map_bound, maximum, minimum, shift
from tensorprog.index.conditions import Condition, boxed, certain, within
from tensorprog.index.ranges import Range, extent
from tensorprog.index.solving import reaching
from tensorprog.naming import identifier
from tensorprog.recursion import Clause, Key, Table

PEEL = 8


class _UnevenSteps(Exception):
    """Loops in each other whose steps are not all alike."""


@dataclass(frozen=True)
class Access:
    """Where a table's entries are found: the source of an array, and what its dimensions are.

    dims: an int for an axis of the table, a str for samples or features.
    fixed: axes that are gone, because only the entries at that index were kept.
    """

    name: str
    dims: tuple[int | str, ...]
    fixed: Mapping[int, Affine] = field(default_factory=dict)


@dataclass(frozen=True)
class _Active:
    """A loop that is being written: its index, and where earlier steps of its tables are."""

    loop: Loop
    index: Affine
    lagged: Mapping[tuple[Key, int], Access]
    history: Mapping[Key, str]


@dataclass(frozen=True)
class _Piece:
    """A clause's part of a table: `where` it goes, its value over the whole of its box, and whether that is the table.

    shared: conditions say where in the box it holds; it is zero elsewhere, where other clauses may hold.
    """

    where: str
    code: Code
    whole: bool
    shared: bool


class SystemWriter:
    """Writes the tables of one system into lines of source."""

    def __init__(
        self,
        tables: Sequence[Table],
        batch: tuple[str, ...],
        known: Mapping[str, int],
        names,
        definitions,
        external_reads: Mapping[Key, Sequence[ir.Read]],
    ):
        self.tables = {t.key: t for t in tables}
        self.batch = batch
        self.known = known
        self.names = names
        self.definitions = definitions
        self.external = external_reads
        self.lines: list[str] = []
        self.indent = 1
        self.access: dict[Key | tuple[Key, str], Access] = {}
        self.current: dict[Key, Access] = {}
        self.active: list[_Active] = []
        self.integers: dict[str, str] = {}  # loop indices that are Python or traced integers, by symbol
        self.traced: set[str] = set()
        self.loop_ranges: dict[str, Range] = {}
        self.footprint: list[tuple[Range, ...]] = []  # axes of every array that is written, for estimates of memory
        self.steps_footprint: list[tuple[Range, ...]] = []  # the same, without the histories that loops leave behind
        self.totals: dict[Key, int] = {}  # tables of which only the sum over this axis is kept
        self.windowed: set[Key] = set()  # tables of `window_sums` that shift whole rows
        self.entries: dict[Key, str] = {}  # functions that give the entries of tables one by one
        self.steps = 0
        self.count = 0

    # ------------------------------------------------------------ lines

    def line(self, text: str = "") -> None:
        self.lines.append("    " * self.indent + text if text else "")

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        self.indent += 1
        yield
        self.indent -= 1

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    # ------------------------------------------------------------ names and sizes

    def symbol(self, s: str) -> str:
        """Source of an integer symbol."""
        if s in self.integers:
            return self.integers[s]
        return self.names.size(s)

    def size(self, r: Range) -> str:
        """Source of the number of entries of a range."""
        text = self._length(r)
        return text if self.never_empty(r) else f"max({text}, 0)"

    def never_empty(self, r: Range) -> bool:
        """Whether a range has an entry, or none by a difference of its ends of just -1, for all sizes."""
        low, high = extent(r.low, self.loop_ranges, True), extent(r.high, self.loop_ranges, False)
        return at_most(self.settle(low), shift(self.settle(high), 1))

    def _length(self, r: Range) -> str:
        if isinstance(r.low, Affine) and isinstance(r.high, Affine):
            return integer(r.high - r.low + 1, self.symbol)
        if isinstance(r.low, Affine):
            return bound_source(map_bound(r.high, lambda a: a - r.low + 1), self.symbol)
        return f"{bound_source(r.high, self.symbol)} - {bound_source(r.low, self.symbol)} + 1"

    def settle(self, bound: Bound) -> Bound:
        return map_bound(bound, lambda a: a.substitute(self.known))

    def certain(self, c: Condition, ranges: Mapping[str, Range]) -> bool | None:
        return certain(c, {**self.loop_ranges, **ranges}, self.settle)

    # ------------------------------------------------------------ schedule

    def write(self, schedule: Schedule) -> None:
        for item in schedule:
            if isinstance(item, Whole):
                table = self.tables[item.key]
                if not table.clauses and item.key.kind in (ir.DATA, ir.SCALAR):
                    continue  # an input: the caller has it
                self._comment(table)
                self.current[item.key] = self._table(table, {})
                self._publish(item.key)
            elif isinstance(item, Recursive):
                self._recursive(item)
            else:
                self._loop_or_entries(item)

    def _loop_or_entries(self, loop: Loop) -> None:
        """A loop; where loops within it would have steps that differ, entry by entry instead."""
        before = len(self.lines), self.count, self.steps, dict(self.current), dict(self.access), len(self.footprint)
        try:
            self._loop(loop)
        except _UnevenSteps:
            lines, self.count, self.steps, self.current, self.access, written = before
            del self.lines[lines:], self.footprint[written:]
            self.active, self.traced, self.integers, self.loop_ranges, self.indent = [], set(), {}, {}, 1
            self._recursive(Recursive(loop.keys))

    # ------------------------------------------------------------ entries one by one

    def _recursive(self, item: Recursive) -> None:
        """A function for every table, which remembers its values: each entry is computed when it is first asked for."""
        tables = [self.tables[k] for k in item.keys]
        self._comment(*tables)
        for t in tables:
            self.entries[t.key] = f"{self.names.table(t.key)}_at"
        for t in tables:
            arguments = [f"i{k}" for k in range(len(t.axes))]
            self.line("@functools.cache")
            self.line(f"def {self.entries[t.key]}({', '.join(arguments)}):")
            with self.block():
                before = [
                    f"{i} < {bound_source(a.range.low, self.symbol)}" for i, a in zip(arguments, t.axes, strict=True)
                ]
                if before:
                    self.line(f"if {' or '.join(before)}:")
                    self.line(f"    return jnp.zeros({self._shape(t, [])}, dtype)")
                for clause in t.clauses:
                    self._entry_clause(t, clause, arguments)
                self.line(f"return jnp.zeros({self._shape(t, [])}, dtype)")
        for t in tables:
            name = self.names.table(t.key)
            text = f"{self.entries[t.key]}({', '.join(f'i{k}' for k in range(len(t.axes)))})"
            for k in reversed(range(len(t.axes))):
                r = t.axes[k].range
                low, high = bound_source(r.low, self.symbol), bound_source(r.high, self.symbol)
                text = f"jnp.stack([{text} for i{k} in range({low}, {high} + 1)])"
            if self._is_read_elsewhere(t.key, item.keys):
                self.line(f"{name} = {text}")
                self.footprint.append(tuple(a.range for a in t.axes))
            self.current[t.key] = Access(name, (*range(len(t.axes)), *self._dims(t)))
            self._publish(t.key)
        for t in tables:
            del self.entries[t.key]

    def _is_read_elsewhere(self, key: Key, members: Sequence[Key]) -> bool:
        return bool(self.external.get(key)) or any(
            r.key == key
            for t in self.tables.values()
            if t.key not in members
            for c in t.clauses
            for r in ir.entries(c.value)
        )

    def _entry_clause(self, table: Table, clause: Clause, arguments: Sequence[str]) -> None:
        """`if` the indices are those of the clause: `return` its value there."""
        if ir.is_zero(clause.value):
            return
        saved, ranges = dict(self.integers), dict(self.loop_ranges)
        values: dict[str, Affine] = {}
        conditions = list(clause.conditions)
        # The arguments as symbols: of names that no index of a program has.
        own = [f"argument {argument}" for argument in arguments]
        for k, (target, argument, here) in enumerate(zip(clause.target, arguments, own, strict=True)):
            self.integers[here] = argument
            self.loop_ranges[here] = Range(here, table.axes[k].range.low, table.axes[k].range.high)
            loops = [r.name for r in clause.binders if r.name in target.symbols]
            if loops:
                values[loops[0]], more = reaching(target, loops[0], Affine.symbol(here))
                conditions += more
            else:
                conditions.append(Condition("==", Affine.symbol(here) - target))
        for r in clause.binders:
            conditions += within(Affine.symbol(r.name), r)
        clause = ir.substitute_clause(clause, values)
        tests = []
        for c in conditions:
            c = c.substitute(values)
            if c.expression.entries:
                raise ProgramError(f"a condition on {c.expression.entries[0]}, which is data, is not supported here")
            if self.certain(c, {}) is not True:
                tests.append(f"{integer(c.expression, self.symbol)} {c.op} 0")
        if tests:
            self.line(f"if {' and '.join(tests)}:")
            self.indent += 1
        fixed = {k: Affine.symbol(a) for k, a in enumerate(own)}
        piece = self._clause(table, replace(clause, conditions=()), [], fixed)
        shape = self._shape(table, [])
        if piece is None:
            self.line(f"return jnp.zeros({shape}, dtype)")
        elif " if " in piece.code.text:  # a branch may be a mere number
            self.line(f"return jnp.broadcast_to(jnp.asarray({piece.code.text}, dtype), {shape})")
        else:
            self.line(f"return {piece.code.text}")
        if tests:
            self.indent -= 1
        self.integers, self.loop_ranges = saved, ranges

    def _publish(self, key: Key) -> None:
        if not self.active:
            self.access[key] = self.current[key]

    def _comment(self, *tables: Table) -> None:
        self.line("# " + "; ".join(self.names.describe(t) for t in tables))

    def _table(self, table: Table, fixed: Mapping[int, Affine], clauses: Sequence[Clause] | None = None) -> Access:
        """Write the assignment of a table (at fixed indices along the axes of loops)."""
        axes = _in_layout(table, fixed)
        self.footprint.append(tuple(table.axes[k].range for k in axes))
        self.steps_footprint.append(self.footprint[-1])
        name = self.names.table(table.key)
        pieces: list[_Piece] = []
        for clause in table.clauses if clauses is None else clauses:
            piece = self._clause(table, clause, axes, fixed)
            if piece is not None:
                pieces.append(piece)
        dims = self._dims(table, axes)
        if pieces and all(p.whole and p.where == pieces[0].where for p in pieces):
            # Cases that conditions tell apart, each zero where another one holds.
            text = " + ".join(p.code.wrapped() if len(pieces) > 1 else p.code.text for p in pieces)
            if all(" if " in p.code.text for p in pieces):  # where none holds, a mere number
                text = f"jnp.broadcast_to(jnp.asarray({text}, dtype), {self._shape(table, axes)})"
            self.line(f"{name} = {text}")
        elif not pieces:
            self.line(f"{name} = jnp.zeros({self._shape(table, axes)}, dtype)")
        else:
            parts = []
            for p in pieces:
                variable = self.fresh("piece")
                self.line(f"{variable} = {p.code.text}")
                parts.append(f"({p.where}, {variable}, {p.shared})")
            self.line(f"{name} = placed({self._shape(table, axes)}, dtype, [{', '.join(parts)}])")
        return Access(name, dims)

    def _dims(self, table: Table, axes: Iterable[int] = ()) -> tuple[int | str, ...]:
        """The dimensions of an array of a table along some of its axes."""
        return (*self.batch, *axes, *(("feature",) if table.key.kind == ir.DATA else ()))

    def _shape(self, table: Table, axes: Sequence[int]) -> str:
        sizes = [*(self.names.batch_size(b) for b in self.batch), *(self.size(table.axes[k].range) for k in axes)]
        if table.key.kind == ir.DATA:
            sizes.append(self.names.size(self.names.feature(table.key)))
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"

    def _clause(self, table: Table, clause: Clause, axes, fixed) -> _Piece | None:
        """The value of a clause over the whole of its box; None where it is zero."""
        if ir.is_zero(clause.value):
            return None
        binders = {r.name: r for r in clause.binders}
        # Triangular ranges become boxes with a condition.
        conditions = list(clause.conditions)
        for name, r in list(binders.items()):
            binders[name], more = boxed(r, {**self.loop_ranges, **binders})
            conditions += more
        for k in axes:
            self._clip(binders, clause.target[k], table.axes[k].range)
        conditions = [c for c in conditions if self.certain(c, binders) is not True]
        order = [*self.batch]
        where = [":"] * len(self.batch)
        dims: list[str] = list(self.batch)
        whole = True
        for k in axes:
            target, axis = clause.target[k], table.axes[k].range
            loops = [s for s, _ in target.terms if s in binders]
            if not loops:
                whole = False
                where.append(self._offset(target, axis.low))
                continue
            name, step = loops[0], target.coefficient(loops[0])
            r = binders[name]
            dims.append(name)
            order.append(name)
            first = target.substitute({name: Affine(0)})
            if step == 1:
                low = map_bound(r.low, lambda a, f=first: a + f)
                high = map_bound(r.high, lambda a, f=first: a + f)
                if self.settle(low) == self.settle(axis.low) and self.settle(high) == self.settle(axis.high):
                    where.append(":")
                    continue
                whole = False
                start = self._offset(low, axis.low)
                where.append(f"slice({start}, {start} + {self.size(r)})")
            else:
                whole = False
                low = map_bound(r.low, lambda a, f=first, s=step: a * s + f)
                high = map_bound(r.high, lambda a, f=first, s=step: a * s + f)
                where.append(f"slice({self._offset(low, axis.low)}, {self._offset(high, axis.low)} + 1, {step})")
        runs = {s: table.axes[k].runs for k in axes for s, c in clause.target[k].terms if c == 1 and s in binders}
        writer = NodeWriter(self, binders, order, clause, fixed, table.key, runs)
        code = writer.node(clause.value)
        decided = [c for c in conditions if writer.decided([c])]
        mask = writer.mask([c for c in conditions if c not in decided])
        if table.key.kind == ir.DATA:
            dims.append("feature")
            where.append(":")
            order[:] = [d for d in order if d != "feature"] + ["feature"]
        code = transposed(code, [*order, *(d for d in code.dims if d not in order)])
        if mask is not None:
            both = sorted({*code.dims, *mask.dims}, key=order.index)
            code = Code(
                f"jnp.where({aligned(mask, both, order).text}, {aligned(code, both, order).text}, 0)", tuple(both)
            )
        shape = self._box_shape(table, dims, binders)
        if tuple(dims) != code.dims:
            value = aligned(code, dims, order).text if code.dims else f"jnp.asarray({code.text}, dtype)"
            code = Code(f"jnp.broadcast_to({value}, {shape})", tuple(dims))
        if decided and (test := writer.mask(decided)) is not None:
            # Known in Python: elsewhere the value, which may divide by a size of 0, is not looked up at all.
            code = Code(f"{code.wrapped()} if {test.text} else jnp.zeros({shape}, dtype)", code.dims, False)
        index = ", ".join("slice(None)" if w == ":" else w for w in where)
        return _Piece(f"({index}{',' if len(where) == 1 else ''})", code, whole, bool(mask or decided))

    def _clip(self, binders: dict[str, Range], target: Affine, axis: Range) -> None:
        """Keep an index to the entries that an axis has: a box is wider than what the conditions leave of it."""
        loops = target.symbols & binders.keys()
        if len(loops) != 1 or target.coefficient(*loops) != 1:
            return
        (name,) = loops
        r, first = binders[name], target - Affine.symbol(name)
        low, high = (map_bound(end, lambda a: a - first) for end in (axis.low, axis.high))
        if not (at_most(self.settle(low), self.settle(r.low)) and at_most(self.settle(r.high), self.settle(high))):
            binders[name] = Range(name, maximum(r.low, low), minimum(r.high, high))

    def _box_shape(self, table: Table, dims: Iterable[str], binders: Mapping[str, Range]) -> str:
        sizes = []
        for d in dims:
            if d in binders:
                sizes.append(self.size(binders[d]))
            elif d == "feature":
                sizes.append(self.names.size(self.names.feature(table.key)))
            else:
                sizes.append(self.names.batch_size(d))
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"

    def _offset(self, e: Bound, low: Bound) -> str:
        """Source of the position of an index within an axis."""
        if isinstance(low, Affine):
            return bound_source(map_bound(e, lambda a: a - low), self.symbol)
        return f"{bound_source(e, self.symbol)} - {bound_source(low, self.symbol)}"

    # ------------------------------------------------------------ loops

    def _loop(self, loop: Loop) -> None:
        tables = [replace(self.tables[k], clauses=tuple(self._narrowed(self.tables[k]))) for k in loop.keys]
        if all(ir.is_zero(c.value) for t in tables for c in t.clauses):
            for t in tables:
                axes = _in_layout(t, self._stepped(t.key, loop) - {loop.axes[t.key]})
                name = self.names.table(t.key)
                self.line(f"{name} = jnp.zeros({self._shape(t, axes)}, dtype)")
                self.current[t.key] = Access(name, self._dims(t, axes))
                self._publish(t.key)
            return
        plan = self._plan(loop, tables)
        self._comment(*tables)
        if plan is None:
            if self.active or any(isinstance(item, Loop) for item in loop.body):
                raise _UnevenSteps
            self._unrolled(loop, tables)
        else:
            self._scanned(loop, tables, *plan)

    def _clause_range(self, loop: Loop, table: Table, clause: Clause) -> tuple[Bound, Bound, str | None]:
        """The loop indices at which a clause is active, and the binder that follows the loop's index."""
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

    def _boxed(self, clause: Clause, binder: str) -> Clause:
        """The clause where one of its binders runs over a box: conditions say which part of it is meant."""
        ranges = {r.name: r for r in clause.binders}
        box, conditions = boxed(ranges[binder], ranges)
        if not conditions:
            return clause
        binders = tuple(box if r.name == binder else r for r in clause.binders)
        return replace(clause, binders=binders, conditions=(*clause.conditions, *conditions))

    def _plan(self, loop: Loop, tables: Sequence[Table]):
        """(points before, first, last): single steps, then equal ones; None where steps differ otherwise."""
        if any(lag is None for lag in loop.lags.values()):
            return None
        ranges = [self._clause_range(loop, t, c) for t in tables for c in t.clauses]
        if any(binder == "" for _, _, binder in ranges):
            return None
        starts, ends, points = [], [], []
        for low, high, binder in ranges:
            low, high = self.settle(low), self.settle(high)
            if binder is None or low == high:
                points.append(low)
            else:
                starts.append(low if loop.step == 1 else high)
                ends.append(high if loop.step == 1 else low)
        if not starts or any(e != ends[0] for e in ends):
            return None
        if not all(isinstance(b, Affine) for b in (*starts, *points)):
            return None
        gaps = [(s - starts[0]) * loop.step for s in starts]
        if not all(g.is_constant for g in gaps):
            return None
        ahead = max(g.constant for g in gaps)
        first = starts[0] + ahead * loop.step
        before = set()
        for p in points:
            gap = (first - p) * loop.step
            if not gap.is_constant or gap.constant > PEEL:
                return None
            if gap.constant <= 0:
                return None
            before.add(gap.constant)
        before |= {d for g in gaps for d in range(1, ahead - g.constant + 1)}
        if max(before, default=0) > PEEL:
            return None
        return [first - d * loop.step for d in sorted(before, reverse=True)], first, ends[0]

    def _active_clauses(self, loop: Loop, table: Table, index: Affine, symbol: str | None, r: Range | None):
        """The table's clauses at a loop index, with the binder that follows it replaced."""
        result = []
        for c in table.clauses:
            low, high, binder = self._clause_range(loop, table, c)
            inside = {} if symbol is None or r is None else {symbol: r}
            verdicts = [
                self.certain(Condition(">=", e), inside) for e in differences(index, low) + differences(high, index)
            ]
            if any(v is False for v in verdicts):
                continue
            if binder is None:
                here = Condition("==", index - _affine(low))
                result.append(c if all(verdicts) else replace(c, conditions=(*c.conditions, here)))
                continue
            assert binder is not None
            target = c.target[loop.axes[table.key]]
            value = index - (target - Affine.symbol(binder))
            clause = ir.substitute_clause(self._boxed(c, binder), {binder: value})
            extra = tuple(
                Condition(">=", e)
                for e, v in zip(differences(index, low) + differences(high, index), verdicts, strict=True)
                if v is None
            )
            result.append(replace(clause, conditions=(*clause.conditions, *extra)))
        return result

    def _keep(self, loop: Loop, key: Key, last: Bound) -> str:
        """What of a table is needed after its loop: "last" or "all"."""
        if self.active:
            return "all"
        axis = loop.axes[key]
        for reader in self.tables.values():
            if reader.key in loop.axes:
                continue
            for c in reader.clauses:
                for r in ir.entries(c.value):
                    if r.key == key and self.settle(r.indices[axis]) != self.settle(last):
                        return "all"
        for r in self.external.get(key, ()):
            if self.settle(r.indices[axis]) != self.settle(last):
                return "all"
        return "last"

    def _step_body(self, loop: Loop, index: Affine, lagged) -> dict[Key, Access | None]:
        """Write one step; where each of the loop's tables is afterwards. None: zero at this step, and not written."""
        active = _Active(loop, index, lagged, {})
        self.active.append(active)
        before = dict(self.current)
        zero: set[Key] = set()
        for item in loop.body:
            if isinstance(item, Whole):
                table = self.tables[item.key]
                fixed = {a.loop.axes[item.key]: a.index for a in self.active if item.key in a.loop.axes}
                clauses = self._narrowed(table)
                if not index.substitute(self.known).symbols & self.loop_ranges.keys() and all(
                    ir.is_zero(c.value) for c in clauses
                ):
                    zero.add(item.key)
                    rest = _in_layout(table, fixed)
                    nothing = f"jnp.zeros({self._shape(table, rest)}, dtype)"
                    self.current[item.key] = Access(nothing, self._dims(table, rest))
                    continue
                self.current[item.key] = self._table(table, fixed, clauses)
            else:
                self._loop(item)
        result = {k: None if k in zero or k not in self.current else self.current[k] for k in loop.keys}
        self.current = before
        self.active.pop()
        return result

    def _narrowed(self, table: Table, but: Loop | None = None) -> list[Clause]:
        """The clauses of a table at the indices of all loops around (but for one)."""
        narrowed = table
        for a in self.active:
            if table.key in a.loop.axes and a.loop is not but:
                s = a.index.terms[0][0] if a.index.terms and a.index.terms[0][0] in self.loop_ranges else None
                clauses = self._active_clauses(a.loop, narrowed, a.index, s, self.loop_ranges.get(s or ""))
                narrowed = replace(narrowed, clauses=tuple(clauses))
        return list(narrowed.clauses)

    def _scanned(self, loop: Loop, tables, points: list[Affine], first: Affine, last: Bound) -> None:
        """Single steps written out, then a lax.scan."""
        values: dict[Key, list[tuple[Affine, Access]]] = {k: [] for k in loop.keys}
        slice_dims = {t.key: self._dims(t, _in_layout(t, self._stepped(t.key, loop))) for t in tables}
        for p in points:
            lagged = self._lagged_at(loop, values, p, slice_dims)
            for key, access in self._step_body(loop, p, lagged).items():
                if access is None:
                    continue
                name = self.fresh(access.name)
                self.line(f"{name} = {access.name}")
                values[key].append((p, Access(name, access.dims)))
        main = [t for t in tables if t.clauses]
        self.steps += 1
        step = f"step_{self.steps}"
        symbol = self._loop_symbol(loop, tables)
        low, high = (first, last) if loop.step == 1 else (last, first)
        r = Range(symbol, low, high)
        carried = [(t.key, lag) for t in main for lag in range(1, (loop.lags[t.key] or 0) + 1)]
        keep = {t.key: self._keep(loop, t.key, last) for t in main}
        summed = {
            t.key for t in main if keep[t.key] == "all" and self._only_summed(loop, t, values[t.key], first, last)
        }
        stacked = [t.key for t in main if keep[t.key] == "all" and t.key not in summed]
        kept = [
            t.key for t in main if keep[t.key] == "last" and not loop.lags[t.key] and self._is_read_outside(loop, t.key)
        ]
        merged = self._merged(tables, [key for key in dict(carried) if key not in stacked], slice_dims)
        inits, lag_names = [], {}
        for key, lag in carried:
            name = f"{self.names.table(key)}_before" + ("" if lag == 1 else str(lag))
            name += "_within" * len(self.active)  # the outer loop's name stays in sight
            lag_names[key, lag] = Access(name, slice_dims[key])
            start = self._value_at(values[key], first - lag * loop.step, key, slice_dims)
            inits.append(_merge(start, merged.get(key)))
        for key in (*kept, *self._in_order(summed)):
            inits.append(f"jnp.zeros({self._slice_shape(key, slice_dims)}, dtype)")
        notes = self.definitions.notes
        notes.add(passes.SCAN, (t.key for t in main if t.key.kind != ir.GRAM))
        if summed:
            notes.add(passes.SUM_IN_LOOP, self._in_order(summed))
        if any(t.key.kind == ir.GRAM for t in main):
            notes.add(passes.GRAM_IN_LOOP, (t.key for t in main if t.key.kind == ir.GRAM))
        outer_traced, outer_integers = set(self.traced), dict(self.integers)
        self.line(f"def {step}(carry, {identifier(symbol)}):")
        with self.block():
            names = [lag_names[c].name for c in carried] + [f"_{self.names.table(k)}" for k in kept]
            totals = {k: f"{self.names.table(k)}_total" for k in self._in_order(summed)}
            names += totals.values()
            if names:
                self.line(f"{', '.join(names)}{',' if len(names) == 1 else ''} = carry")
            for key, lag in carried:
                if key in merged:
                    name = lag_names[key, lag].name
                    self.line(f"{name} = jnp.reshape({name}, {self._slice_shape(key, slice_dims)})")
            self.integers[symbol] = identifier(symbol)
            self.traced.add(symbol)
            self.loop_ranges[symbol] = r
            result = self._step_body(loop, Affine.symbol(symbol), lag_names)
            del self.loop_ranges[symbol]
            carry = [
                _merge(result[k].name if lag == 1 else lag_names[k, lag - 1].name, merged.get(k)) for k, lag in carried
            ]
            carry += [result[k].name for k in kept]
            carry += [f"{total} + {result[k].name}" for k, total in totals.items()]
            ys = [result[k].name for k in stacked]
            self.line(f"return {_tuple(carry)}, {_tuple(ys)}")
        self.traced, self.integers = outer_traced, outer_integers
        end = bound_source(shift(last, loop.step), self.symbol)
        steps = f"jnp.arange({integer(first, self.symbol)}, {end}{'' if loop.step == 1 else ', -1'})"
        carry_name, ys_name = f"carry_{self.steps}", f"history_{self.steps}"
        self.line(f"{carry_name}, {ys_name} = lax.scan({step}, {_tuple(inits)}, {steps})")
        for t in tables:
            key = t.key
            if key in summed:
                position = len(carried) + len(kept) + list(totals).index(key)
                self.line(f"{totals[key]} = {carry_name}[{position}]")
                self.access[key] = Access(totals[key], slice_dims[key], {loop.axes[key]: first})
                self.totals[key] = loop.axes[key]
            elif key in stacked:
                ys = f"{ys_name}[{stacked.index(key)}]"
                self._assemble(loop, t, values[key], first, ys, slice_dims)
            elif (key, 1) in carried or key in kept:
                position = carried.index((key, 1)) if (key, 1) in carried else len(carried) + kept.index(key)
                name = self.names.table(key)
                final = f"{carry_name}[{position}]"
                if key in merged:
                    final = f"jnp.reshape({final}, {self._slice_shape(key, slice_dims)})"
                self.line(f"{name} = {final}")
                self.current[key] = Access(name, slice_dims[key], {loop.axes[key]: _affine(last)})
                self._publish(key)

    def _merged(
        self, tables: Sequence[Table], keys: Iterable[Key], slice_dims
    ) -> dict[Key, tuple[tuple[int, int], ...]]:
        """The dimensions that are one in what a scan carries: neighbours of one run, where a step has filters.

        The work of a step then has the shape that `window_sums` and `entrywise` work in, from one filter to the next.
        """
        if self.active or "n1" not in self.batch or not any(_has_filter(c) for t in tables for c in t.clauses):
            return {}
        found = {}
        for key in keys:
            axes = self.tables[key].axes
            groups = neighbours([axes[d].runs if isinstance(d, int) else None for d in slice_dims[key]])
            if groups:
                found[key] = groups
        return found

    def _in_order(self, keys: set[Key]) -> list[Key]:
        return [k for k in self.tables if k in keys]

    def _only_summed(self, loop: Loop, table: Table, values, first: Affine, last: Bound) -> bool:
        """Whether all that is read of a table after its loop is its sum over the loop's index: no history is kept.

        The sum must run over just the steps of the scan; what was written out before them must be zero.
        """
        key, axis = table.key, loop.axes[table.key]
        if self.active or self.external.get(key) or loop.step != 1 or any(access for _, access in values):
            return False
        for reader in self.tables.values():
            if reader.key in loop.axes:
                continue
            for c in reader.clauses:
                read = sum(r.key == key for r in ir.entries(c.value))
                inside = sum(
                    self._sums_steps(node, key, axis, first, last)
                    for node in ir.walk(c.value)
                    if isinstance(node, ir.Sum)
                )
                if read != inside:
                    return False
        return True

    def _sums_steps(self, node: ir.Sum, key: Key, axis: int, first: Affine, last: Bound) -> bool:
        """Whether a sum over an index, among others, reads a table at it, and depends on it nowhere else."""
        factors = node.body.factors if isinstance(node.body, ir.Product) else (node.body,)
        reads = [f for f in factors if isinstance(f, ir.Read) and f.key == key]
        if len(reads) != 1 or sum(r.key == key for r in ir.reads(node.body)) != 1:
            return False
        (read,) = reads
        ranges = [r for r in node.ranges if read.indices[axis] == Affine.symbol(r.name)]
        if not ranges:
            return False
        (over,) = ranges
        if self.settle(over.low) != self.settle(first) or self.settle(over.high) != self.settle(last):
            return False
        rest = replace(node, ranges=tuple(r for r in node.ranges if r is not over), body=ir.Constant(sympy.Integer(1)))
        bounds = [b for r in rest.ranges for b in (r.low, r.high)]
        elsewhere = {s for c in node.conditions for s in c.expression.symbols}
        elsewhere |= {s for b in bounds for s in bound_symbols(b)}
        elsewhere |= {s for k, e in enumerate(read.indices) if k != axis for s in e.symbols}
        others = [f for f in factors if f is not read]
        return over.name not in elsewhere and not any(_mentions(f, over.name) for f in others)

    def without_totals(self, node: ir.Sum) -> ir.Node:
        """A sum without the indices over which the tables that it reads were summed already, in their loops."""
        for r in ir.reads(node.body):
            if r.key in self.totals and r.side is None:
                ranges = tuple(x for x in node.ranges if Affine.symbol(x.name) != r.indices[self.totals[r.key]])
                if len(ranges) < len(node.ranges):
                    return replace(node, ranges=ranges) if ranges else node.body
        return node

    def _is_read_outside(self, loop: Loop, key: Key) -> bool:
        if self.external.get(key):
            return True
        return any(
            r.key == key
            for t in self.tables.values()
            if t.key not in loop.axes
            for c in t.clauses
            for r in ir.entries(c.value)
        )

    def _loop_symbol(self, loop: Loop, tables) -> str:
        """A name for the loop's index that no index inside has."""
        base = tables[0].axes[loop.axes[tables[0].key]].range.name
        taken = {x for t in tables for c in t.clauses for x in _index_names(c)}
        own = {b for t in tables for c in t.clauses if (b := self._clause_range(loop, t, c)[2])}
        name = base
        while name in (taken - own) or name in self.loop_ranges or (name in own and own != {name} and name in taken):
            name += "_"
        return name

    def _stepped(self, key: Key, loop: Loop) -> set[int]:
        """The axes of a table that this loop and those around it step along."""
        return {a.loop.axes[key] for a in self.active if key in a.loop.axes} | {loop.axes[key]}

    def _slice_shape(self, key: Key, slice_dims) -> str:
        return self._shape(self.tables[key], [d for d in slice_dims[key] if isinstance(d, int)])

    def _value_at(self, values, p: Affine, key: Key, slice_dims) -> str:
        for q, access in values:
            if (p - q).substitute(self.known) == Affine(0):
                return access.name
        return f"jnp.zeros({self._slice_shape(key, slice_dims)}, dtype)"

    def _lagged_at(self, loop: Loop, values, p: Affine, slice_dims):
        lagged = {}
        for key, lag in loop.lags.items():
            for k in range(1, (lag or 0) + 1):
                source = self._value_at(values[key], p - k * loop.step, key, slice_dims)
                lagged[key, k] = Access(source, slice_dims[key])
        return lagged

    def _assemble(self, loop: Loop, table: Table, values, first: Affine, ys: str, slice_dims) -> None:
        """One array of all steps: those written out, then the history of the scan."""
        key, axis = table.key, table.axes[loop.axes[table.key]].range
        start = axis.low if loop.step == 1 else axis.high
        self.footprint.append(
            tuple(table.axes[k].range for k in (loop.axes[key], *slice_dims[key]) if isinstance(k, int))
        )
        pieces = []
        low = _affine(self.settle(start))
        count = (first.substitute(self.known) - low) * loop.step
        if count.constant:
            assert count.is_constant
            for d in range(count.constant):
                pieces.append(f"{self._value_at(values, low + d * loop.step, key, slice_dims)}[None]")
        history = f"{ys}" if loop.step == 1 else f"{ys}[::-1]"
        if loop.step == -1:
            pieces.reverse()
            parts = [history, *pieces]
        else:
            parts = [*pieces, history]
        text = parts[0] if len(parts) == 1 else f"jnp.concatenate([{', '.join(parts)}])"
        self._settled(loop, key, text, slice_dims)

    def _settled(self, loop: Loop, key: Key, text: str, slice_dims) -> None:
        """Name the array of all steps of a loop; inside another loop, its axis goes to its place among the others."""
        name = self.names.table(key)
        axis = loop.axes[key]
        dims: tuple[int | str, ...] = (axis, *slice_dims[key])
        if self.active:
            table = self.tables[key]
            ordered = self._dims(table, (d for d in _in_layout(table) if d in dims))
            text, dims = f"jnp.moveaxis({text}, 0, {ordered.index(axis)})", ordered
        self.line(f"{name} = {text}")
        self.current[key] = Access(name, dims)
        self._publish(key)

    def _unrolled(self, loop: Loop, tables) -> None:
        """A Python loop, every step with its own cases: for steps that differ, or that read far back."""
        symbol = self._loop_symbol(loop, tables)
        lows, highs = [], []
        for t in tables:
            for c in t.clauses:
                low, high, _ = self._clause_range(loop, t, c)
                lows.append(low)
                highs.append(high)
        low, high = minimum(*lows), maximum(*highs)
        slice_dims = {t.key: self._dims(t, _in_layout(t, self._stepped(t.key, loop))) for t in tables}
        history = {}
        for t in tables:
            history[t.key] = f"{self.names.table(t.key)}_at"
            self.line(f"{history[t.key]} = {{}}")
        first, last = bound_source(low, self.symbol), bound_source(high, self.symbol)
        var = identifier(symbol)
        counting = f"range({first}, {last} + 1)" if loop.step == 1 else f"range({last}, {first} - 1, -1)"
        self.line(f"for {var} in {counting}:")
        with self.block():
            self.integers[symbol] = var
            self.loop_ranges[symbol] = Range(symbol, low, high)
            self.active.append(_Active(loop, Affine.symbol(symbol), {}, history))
            before = dict(self.current)
            for item in loop.body:
                assert isinstance(item, Whole)
                table = self.tables[item.key]
                fixed = {a.loop.axes[item.key]: a.index for a in self.active if item.key in a.loop.axes}
                table = replace(table, clauses=tuple(self._narrowed(table, but=loop)))
                self._unrolled_table(loop, table, fixed, symbol, history[item.key])
                self.current[item.key] = Access(f"{history[item.key]}[{var}]", slice_dims[item.key])
            self.current = before
            self.active.pop()
            del self.loop_ranges[symbol], self.integers[symbol]
        for t in tables:
            axis = t.axes[loop.axes[t.key]].range
            first, last = bound_source(axis.low, self.symbol), bound_source(axis.high, self.symbol)
            missing = f"jnp.zeros({self._slice_shape(t.key, slice_dims)}, dtype)"
            self.footprint.append(tuple(a.range for a in t.axes))
            stacked = f"jnp.stack([{history[t.key]}.get(k, {missing}) for k in range({first}, {last} + 1)])"
            self._settled(loop, t.key, stacked, slice_dims)

    def _unrolled_table(self, loop: Loop, table: Table, fixed, symbol: str, history: str) -> None:
        here = Affine.symbol(symbol)
        axes = _in_layout(table, fixed)
        self.line("pieces = []")
        for c in table.clauses:
            if ir.is_zero(c.value):
                continue
            low, high, binder = self._clause_range(loop, table, c)
            tests = []
            clause = c
            if binder is None:
                tests.append(f"{self.symbol(symbol)} == {bound_source(low, self.symbol)}")
            else:
                target = c.target[loop.axes[table.key]]
                binder = binder or next(r.name for r in c.binders if r.name in target.symbols)
                value, stepping = reaching(target, binder, here)
                clause = ir.substitute_clause(self._boxed(c, binder), {binder: value})
                tests.append(
                    f"{bound_source(low, self.symbol)} <= {self.symbol(symbol)} <= {bound_source(high, self.symbol)}"
                )
                tests += [f"{integer(e.expression, self.symbol)} == 0" for e in stepping]
            self.line(f"if {' and '.join(tests)}:")
            with self.block():
                outer = self.loop_ranges[symbol]
                self.loop_ranges[symbol] = Range(symbol, low, high)
                piece = self._clause(table, clause, axes, fixed)
                self.loop_ranges[symbol] = outer
                if piece is None:
                    self.line("pass")
                else:
                    self.line(f"pieces.append(({piece.where}, {piece.code.text}, {piece.shared}))")
        self.line(f"{history}[{self.symbol(symbol)}] = placed({self._shape(table, axes)}, dtype, pieces)")

    # ------------------------------------------------------------ reading

    def is_history(self, read: ir.Read, axis: int) -> bool:
        """Whether an axis of a table is being stepped along with every step kept by itself."""
        if read.key in self.entries and read.side is None:
            return True
        return read.side is None and any(a.history and a.loop.axes.get(read.key) == axis for a in self.active)

    def find(self, read: ir.Read, reader: Key, target: tuple[Affine, ...]) -> tuple[Access, dict[int, Affine]]:
        """Where an entry is read from, and the axes that are settled by that."""
        if read.side is not None:
            access = self.access[read.key, read.side]
            return access, dict(access.fixed)
        settled: dict[int, Affine] = {}
        if read.key in self.entries:
            arguments = ", ".join(integer(e, self.symbol) for e in read.indices)
            return Access(f"{self.entries[read.key]}({arguments})", self._dims(self.tables[read.key])), settled
        for a in self.active:
            if read.key not in a.loop.axes or reader not in a.loop.axes:
                continue
            axis = a.loop.axes[read.key]
            distance = ((a.index - read.indices[axis]) * a.loop.step).substitute(self.known)
            settled[axis] = read.indices[axis]
            if a.history:
                if distance == Affine(0):
                    continue
                table = self.tables[read.key]
                rest = _in_layout(table, self._stepped(read.key, a.loop))
                dims = self._dims(table, rest)
                index = integer(read.indices[axis], self.symbol)
                shape = self._shape(table, rest)
                text = f"{a.history[read.key]}.get({index}, jnp.zeros({shape}, dtype))"
                return Access(text, dims), settled
            assert distance.is_constant, (read, distance)
            if distance.constant:
                return a.lagged[read.key, distance.constant], settled
        if read.key in self.current:
            access = self.current[read.key]
        else:
            access = self.access[read.key]
        return access, {**settled, **access.fixed}


def _in_layout(table: Table, without: Container[int] = ()) -> list[int]:
    """The axes of a table in the order of its array's dimensions: those of both runs, then the first's, the second's.

    Neighbours of one run can be merged into one long axis.
    """
    order = ((True, True), (True, False), (False, True))
    return sorted(
        (k for k in range(len(table.axes)) if k not in without), key=lambda k: order.index(table.axes[k].runs)
    )


def _affine(b: Bound) -> Affine:
    if not isinstance(b, Affine):
        raise ProgramError("a loop that ends at the smaller of two sizes")
    return b


def _tuple(items: Sequence[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def _merge(text: str, groups: tuple[tuple[int, int], ...] | None) -> str:
    return f"merge_axes({text}, {groups})" if groups else text


def _has_filter(clause: Clause) -> bool:
    """Whether a sum in a clause reads a table at shifted indices."""
    return any(
        len(e.symbols) > 1 and e.symbols & {r.name for r in node.ranges}
        for node in ir.walk(clause.value)
        if isinstance(node, ir.Sum)
        for r in ir.reads(node.body)
        for e in r.indices
    )


def _index_names(clause: Clause) -> set[str]:
    names = {r.name for r in clause.binders}
    for node in ir.walk(clause.value):
        if isinstance(node, ir.Sum):
            names |= {r.name for r in node.ranges}
        if isinstance(node, ir.Reduce):
            names.add(node.range.name)
    return names


def _mentions(node: ir.Node, name: str) -> bool:
    """Whether a node depends on an index."""
    for x in ir.walk(node):
        if isinstance(x, ir.Read) and any(name in e.symbols for e in x.indices):
            return True
        if isinstance(x, ir.Constant) and any(s.name == name for s in x.value.free_symbols):
            return True
        if isinstance(x, ir.LawVariance) and any(s.name == name for s in x.scale.free_symbols):
            return True
        if isinstance(x, ir.LawVariances) and name in x.at.symbols:
            return True
        if not isinstance(x, ir.Read | ir.Constant | ir.LawVariance | ir.Product | ir.Add):
            return True  # what else may depend on it is not looked into
    return False
