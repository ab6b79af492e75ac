"""The tables of one function: where each is found, while code for them is made.

A system is the run of one input, or the pair of two runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tensorprog import recursion as ir
from tensorprog.backend.code.tree import Attribute, Call, Comment, Expr, Name, TupleOf, call
from tensorprog.backend.lower.definitions import Definitions
from tensorprog.backend.lower.layout import Access, Layout, axes_in_order
from tensorprog.backend.lower.names import Names
from tensorprog.backend.lower.scope import Scope, zeros
from tensorprog.backend.schedule import Loop
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.recursion import Key, Table


@dataclass(frozen=True)
class Active:
    """A loop that code is made inside of: its index, and where earlier steps of its tables are.

    lagged: those of a scan, by how many steps before. histories: dicts of all steps of a loop in Python.
    """

    loop: Loop
    index: Affine
    lagged: Mapping[tuple[Key, int], Access]
    histories: Mapping[Key, str]


class System:
    """What is known of the tables of a function on the way through its schedule."""

    def __init__(
        self,
        tables: Sequence[Table],
        batch: tuple[str, ...],
        names: Names,
        definitions: Definitions,
        external: Mapping[Key, Sequence[ir.Read]],
    ):
        self.tables = {t.key: t for t in tables}
        self.names = names
        self.definitions = definitions
        self.external = external
        self.layout = Layout(batch, names)
        self.scope = Scope(names.program.integers, names.size)
        self.access: dict[Key | tuple[Key, str], Access] = {}
        self.current: dict[Key, Access] = {}
        self.active: tuple[Active, ...] = ()
        self.footprint: list[tuple[Range, ...]] = []  # axes of every array that is made, for estimates of memory
        self.steps_footprint: list[tuple[Range, ...]] = []  # the same, without the histories that loops leave behind
        self.totals: dict[Key, int] = {}  # tables of which only the sum over this axis is kept
        self.windowed: set[Key] = set()  # tables of `window_sums` that shift whole rows
        self.entries: dict[Key, str] = {}  # functions that give the entries of tables one by one
        self.scans = 0
        self._count = 0

    # ------------------------------------------------------------ names and shapes

    def fresh(self, stem: str) -> Name:
        """A variable that no other one is called as."""
        self._count += 1
        return Name(f"{stem}_{self._count}")

    def variable(self, key: Key) -> Name:
        return Name(self.names.table(key))

    def zeros(self, table: Table, axes: Sequence[int]) -> Expr:
        return zeros(self.shape(table, axes))

    def shape(self, table: Table, axes: Sequence[int]) -> TupleOf:
        return self.layout.shape(table, axes, self.scope)

    def comment(self, *tables: Table) -> Comment:
        return Comment("; ".join(self.names.describe(t) for t in tables))

    # ------------------------------------------------------------ places

    @contextmanager
    def inside(self, active: Active, scope: Scope | None = None) -> Iterator[None]:
        """In a step of a loop; what tables are there is forgotten behind it."""
        before = self.active, self.scope, dict(self.current)
        self.active, self.scope = (*self.active, active), scope or self.scope
        yield
        self.active, self.scope, self.current = before

    @contextmanager
    def within(self, scope: Scope) -> Iterator[None]:
        before, self.scope = self.scope, scope
        yield
        self.scope = before

    def settle(self, key: Key, access: Access) -> None:
        """Say where a table is."""
        self.current[key] = access
        if not self.active:
            self.access[key] = access

    @property
    def loops(self) -> tuple[tuple[Loop, Affine], ...]:
        return tuple((a.loop, a.index) for a in self.active)

    def fixed(self, key: Key) -> dict[int, Affine]:
        """The axes of a table that the loops around step along, and where they are."""
        return {a.loop.axes[key]: a.index for a in self.active if key in a.loop.axes}

    def stepped(self, key: Key, loop: Loop) -> set[int]:
        """The axes of a table that this loop and those around it step along."""
        return {*self.fixed(key), loop.axes[key]}

    # ------------------------------------------------------------ reading

    def is_read(self, key: Key, but: Sequence[Key]) -> bool:
        """Whether a table is read elsewhere than by these."""
        return bool(self.external.get(key)) or any(
            r.key == key
            for t in self.tables.values()
            if t.key not in but
            for c in t.clauses
            for r in ir.entries(c.value)
        )

    def is_history(self, read: ir.Read, axis: int) -> bool:
        """Whether an axis of a table is being stepped along with every step kept by itself."""
        if read.side is not None:
            return False
        return read.key in self.entries or any(a.histories and a.loop.axes.get(read.key) == axis for a in self.active)

    def find(self, read: ir.Read, reader: Key, scope: Scope) -> Access:
        """Where an entry is read from."""
        if read.side is not None:
            return self.access[read.key, read.side]
        if read.key in self.entries:
            entry = call(self.entries[read.key], *map(scope.integer, read.indices))
            return Access(entry, self.layout.dims(self.tables[read.key]))
        for a in self.active:
            if read.key not in a.loop.axes or reader not in a.loop.axes:
                continue
            here = read.indices[a.loop.axes[read.key]]
            distance = ((a.index - here) * a.loop.step).substitute(scope.known)
            if a.histories:
                if distance == Affine(0):
                    continue
                table = self.tables[read.key]
                rest = axes_in_order(table, self.stepped(read.key, a.loop))
                nothing = zeros(self.layout.shape(table, rest, scope))
                step = Call(Attribute(Name(a.histories[read.key]), "get"), (scope.integer(here), nothing))
                return Access(step, self.layout.dims(table, rest))
            assert distance.is_constant, (read, distance)
            if distance.constant:
                return a.lagged[read.key, distance.constant]
        return self.current.get(read.key) or self.access[read.key]

    def without_totals(self, node: ir.Sum) -> ir.Node:
        """A sum without the indices over which the tables that it reads were summed already, in their loops."""
        for r in ir.reads(node.body):
            if r.key in self.totals and r.side is None:
                ranges = tuple(x for x in node.ranges if Affine.symbol(x.name) != r.indices[self.totals[r.key]])
                if len(ranges) < len(node.ranges):
                    return replace(node, ranges=ranges) if ranges else node.body
        return node
