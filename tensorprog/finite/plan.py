"""In which order a program's assignments are executed at known sizes, and which of them together.

An assignment without a dependence on itself is one step over all its indices: all pixels of an image, all tokens. One
that is part of a cycle (a recurrence over t, layers) is cut into levels: what needs nothing of the cycle first, then
what needs only that, and so on. Levels that repeat, as the tokens of a recurrent network do, are folded into a scan.

    rnn:  U_x[1..T]   ·   W_s[1], h[1], s[1]   ·   scan over t = 2..T of W_s[t], h[t], s[t]   ·   y[1..T]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx
import numpy as np

from tensorprog.finite import nodes
from tensorprog.finite.families import Families
from tensorprog.finite.lower import Lowering
from tensorprog.finite.repeats import Leaf, Run, find_runs
from tensorprog.finite.rows import Rows, executions, factored, nests, target
from tensorprog.language import syntax
from tensorprog.program.ir import Program
from tensorprog.program.types import Matrix

MOST_STEPS = 50_000


@dataclass(frozen=True, eq=False)
class Group:
    """Executions of one assignment that are computed together: a tree, and the members that its rows are."""

    family: str
    value: nodes.Node
    shape: tuple[int, ...]
    members: np.ndarray


@dataclass(frozen=True, eq=False)
class Step:
    """A group, or a run of groups that repeat; `arrays` are the numbers of the arrays that it makes."""

    group: Group | None
    run: Run | None
    arrays: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps in order. Member k of a family is row `place[family][1][k]` of array number `place[family][0][k]`."""

    steps: tuple[Step, ...]
    place: Mapping[str, tuple[np.ndarray, np.ndarray]]
    families: Families
    entries: int
    """Values of all vectors for one sample, in units of the width n."""


class _Assignment:
    """All executions of an assignment; `first` is the number of the first of them among those of all assignments."""

    def __init__(self, s: syntax.Assignment, rows: Rows, first: int):
        self.statement, self.rows, self.first = s, rows, first
        self.members = np.empty(0, np.int64)
        self.whole: nodes.Node | None = None


def make_plan(program: Program, families: Families, numbers: Mapping[str, float]) -> Plan:
    """The plan at the sizes of `families`. `numbers` as for Lowering.

    Raises ValueError where too many steps would follow one another.
    """
    return _Planner(program, families, numbers).plan()


class _Planner:
    def __init__(self, program: Program, families: Families, numbers: Mapping[str, float]):
        self.program = program
        self.families = families
        self.lowering = Lowering(program, families, numbers)
        self.assignments = self._assignments()
        self.groups: list[Group] = []
        self.steps: list[Step] = []
        self.arrays = 0
        self.place = {
            f.name: (np.full(families.count(f.name), -1), np.zeros(families.count(f.name), np.int64))
            for f in program.families.values()
            if families.is_computed(f.name)
        }

    def _assignments(self) -> list[_Assignment]:
        result: list[_Assignment] = []
        count = 0
        for s, binders in nests(self.program.text.statements):
            if isinstance(self.program.families[s.name].type, Matrix):
                continue
            rows = executions(binders, self.families.sizes)
            if rows.count:
                result.append(_Assignment(s, rows, count))
                count += rows.count
                self.families.reach(s.name, target(s, rows, self.families.sizes))
        for a in result:
            a.members = self.families.numbers(a.statement.name, target(a.statement, a.rows, self.families.sizes), 1)
        return result

    def plan(self) -> Plan:
        readers, sources = self._dependences()
        owner = np.repeat(np.arange(len(self.assignments)), [a.rows.count for a in self.assignments])
        pairs = np.unique(np.stack([owner[readers], owner[sources]]), axis=1) if len(readers) else np.zeros((2, 0), int)
        graph = networkx.DiGraph()
        graph.add_nodes_from(range(len(self.assignments)))
        graph.add_edges_from((int(s), int(r)) for r, s in pairs.T)
        condensed = networkx.condensation(graph)
        order = networkx.lexicographical_topological_sort(condensed, key=lambda c: min(condensed.nodes[c]["members"]))
        for component in order:
            members = sorted(condensed.nodes[component]["members"])
            if len(members) == 1 and not graph.has_edge(members[0], members[0]):
                self._whole(self.assignments[members[0]])
            else:
                inside = np.isin(owner, members)
                own = inside[readers] & inside[sources]
                self._cycle(members, readers[own], sources[own])
        self._emit_what_is_read()
        widths = self.lowering.numbers
        entries = sum(
            len(a.members) * widths.get(getattr(self.program.families[a.statement.name].type, "width", ""), 1.0)
            for a in self.assignments
        )
        return Plan(tuple(self.steps), self.place, self.families, int(entries))

    # ------------------------------------------------------------ dependences

    def _dependences(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (execution that reads, execution that is read), by their numbers."""
        executed = {name: np.full(self.families.count(name), -1) for name in self.place}
        for a in self.assignments:
            executed[a.statement.name][a.members] = a.first + np.arange(a.rows.count)
        readers, sources = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for a in self.assignments:
            edges: list[tuple[str, np.ndarray, np.ndarray]] = []
            self.lowering.edges = edges
            a.whole = self.lowering.lower(a.statement.value, factored(a.rows, np.arange(a.rows.count)))
            self.lowering.edges = None
            for family, rows, members in edges:
                readers.append(a.first + rows)
                sources.append(executed[family][members])
        return np.concatenate(readers), np.concatenate(sources)

    # ------------------------------------------------------------ steps

    def _whole(self, a: _Assignment) -> None:
        group = self._group(a, np.arange(a.rows.count), a.whole)
        self._single(group)

    def _group(self, a: _Assignment, places: np.ndarray, value: nodes.Node | None = None) -> Group:
        rows = factored(a.rows, places)
        if value is None:
            value = self.lowering.lower(a.statement.value, rows)
        return Group(a.statement.name, value, rows.shape, a.members[places])

    def _single(self, group: Group) -> None:
        where, row = self.place[group.family]
        where[group.members] = self.arrays
        row[group.members] = np.arange(len(group.members))
        self.steps.append(Step(group, None, (self.arrays,)))
        self.arrays += 1

    def _cycle(self, members: Sequence[int], readers: np.ndarray, sources: np.ndarray) -> None:
        assignments = [self.assignments[k] for k in members]
        numbers = np.concatenate([a.first + np.arange(a.rows.count) for a in assignments])
        local = np.full(int(numbers.max()) + 1, -1)
        local[numbers] = np.arange(len(numbers))
        level = _levels(len(numbers), local[readers], local[sources])
        groups: list[Group] = []
        parts: list[tuple[int, int, np.ndarray]] = []
        start = 0
        for k, a in enumerate(assignments):
            own = level[start : start + a.rows.count]
            start += a.rows.count
            ascending = np.argsort(own, kind="stable")
            for piece in np.split(ascending, np.flatnonzero(np.diff(own[ascending])) + 1):
                parts.append((int(own[piece[0]]), k, piece))
        if len(parts) > MOST_STEPS:
            raise ValueError(
                f"{self.program.name} takes {len(parts)} steps one after another at these sizes: at most {MOST_STEPS}"
            )
        for _, k, places in sorted(parts, key=lambda p: p[:2]):
            groups.append(self._group(assignments[k], places))
        self._fold(groups)

    def _fold(self, groups: list[Group]) -> None:
        """Steps for the groups of a cycle, those that repeat as runs."""
        home = {g.family: np.full(self.families.count(g.family), -1) for g in groups}
        row = {g.family: np.zeros(self.families.count(g.family), np.int64) for g in groups}
        for k, g in enumerate(groups):
            home[g.family][g.members] = k
            row[g.family][g.members] = np.arange(len(g.members))
        k = 0
        for run in find_runs([(g.value, (g.family, g.shape)) for g in groups], home, row):
            for g in groups[k : run.start]:
                self._single(g)
            self._run(run, groups)
            k = run.start + run.period * run.count
        for g in groups[k:]:
            self._single(g)

    def _run(self, run: Run, groups: list[Group]) -> None:
        numbers = []
        for slot in range(run.period):
            for step in range(run.count):
                g = groups[run.start + step * run.period + slot]
                where, row = self.place[g.family]
                where[g.members] = self.arrays
                row[g.members] = step * len(g.members) + np.arange(len(g.members))
            numbers.append(self.arrays)
            self.arrays += 1
        run.groups = tuple(groups[run.start : run.start + run.period])
        run.before = tuple(groups[max(run.start - run.period * run.lag, 0) : run.start])
        self.steps.append(Step(None, run, tuple(numbers)))

    def _emit_what_is_read(self) -> None:
        """Tells runs which of their arrays are read outside."""
        used = set()
        for step in self.steps:
            if step.run is not None:
                for leaf in step.run.leaves.values():
                    used |= self._arrays_of(leaf)
                for g in step.run.before:
                    used |= set(np.unique(self.place[g.family][0][g.members]).tolist())
            else:
                assert step.group is not None
                for n in nodes.leaves(step.group.value):
                    if isinstance(n, nodes.Read) and n.family in self.place:
                        used |= set(np.unique(self.place[n.family][0][n.ids]).tolist())
        for f in self.program.outputs:
            used |= set(np.unique(self.place[f.name][0]).tolist())
        for step in self.steps:
            if step.run is not None:
                step.run.emitted = tuple(k for k, number in enumerate(step.arrays) if number in used)

    def _arrays_of(self, leaf: Leaf) -> set[int]:
        if leaf.kind not in ("each", "same") or leaf.family not in self.place:
            return set()
        return set(np.unique(self.place[leaf.family][0][leaf.ids]).tolist())


def _levels(count: int, readers: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """For each of `count` executions the length of the longest way that leads to it.

    What waits for nothing comes just before it is first read: taps of a filter that lie outside the image stay with
    the others of their layer.
    """
    order = np.argsort(sources, kind="stable")
    readers, sources = readers[order], sources[order]
    starts = np.searchsorted(sources, np.arange(count + 1))
    waiting = np.bincount(readers, minlength=count)
    level = np.zeros(count, np.int64)
    front = np.flatnonzero(waiting == 0)
    depth = 0
    while front.size:
        level[front] = depth
        sizes = starts[front + 1] - starts[front]
        ends = np.cumsum(sizes)
        edges = np.repeat(starts[front] - (ends - sizes), sizes) + np.arange(ends[-1])
        reached, times = np.unique(readers[edges], return_counts=True)
        waiting[reached] -= times
        front = reached[waiting[reached] == 0]
        depth += 1
    first = np.full(count, count)
    np.minimum.at(first, sources, level[readers])
    return np.where((level == 0) & (first < count), first - 1, level)
