"""The order of work: which tables are whole array operations, and which run along an index step by step.

A table that depends on itself one step earlier (a layer, a time) is computed in a loop over that index; every other
index stays an array axis. For a set of tables that depend on each other, an axis of each is sought along which all
their dependences point the same way; what remains within one step is scheduled in the same manner again (Allen &
Kennedy's loop distribution, on tables instead of statements).

    rnn, cross stream:    gram(x, x')            → whole
                          Loop t: Cov(h, h')[t, :]   from E(s, s')[t-1, :]
                                  E(s, s')[t, :]     from Cov(h, h')[t, :]
                          kernel                 → whole
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import at_most
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range, extent
from tensorprog.recursion import (
    GRAM,
    BatchnormExpectation,
    BatchnormMean,
    Clause,
    Gram,
    Key,
    Node,
    Read,
    Reduce,
    Sum,
    Table,
    Where,
    data_reads,
    parts,
)


@dataclass(frozen=True)
class Whole:
    """Compute all of a table's remaining axes at once."""

    key: Key


@dataclass(frozen=True)
class Loop:
    """Step along one axis of each of these tables; `step` is +1 or -1.

    lags: how many earlier steps of each table are read inside; None for a table that is read at
    distances that are not fixed, so that its whole history is kept.
    """

    axes: Mapping[Key, int]
    step: int
    lags: Mapping[Key, int | None]
    body: Schedule

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(self.axes)


@dataclass(frozen=True)
class Recursive:
    """Compute entries one by one as they are asked for: tables whose dependences no loop can follow."""

    keys: tuple[Key, ...]


Schedule = tuple[Whole | Loop | Recursive, ...]


@dataclass(frozen=True)
class _Edge:
    reader: Key
    source: Key
    clause: Clause
    read: Read
    ranges: Mapping[str, Range]
    conditions: tuple[Condition, ...]


def schedule(tables: Sequence[Table], known: Mapping[str, int]) -> Schedule:
    """The order of work for the tables of one system."""
    by_key = {t.key: t for t in tables}
    edges = [
        _Edge(t.key, r.key, c, r, ranges, conditions)
        for t in tables
        for c in t.clauses
        for r, ranges, conditions in _reads(c.value, {x.name: x for x in c.binders}, c.conditions)
        if r.key in by_key
    ]
    found = _schedule(by_key, list(by_key), edges, {k: frozenset() for k in by_key}, known)
    return _with_grams_in_loops(found, by_key, edges, known)


def _with_grams_in_loops(items: Schedule, tables: Mapping[Key, Table], edges: Sequence[_Edge], known) -> Schedule:
    """Input Grams that only one loop reads, at its own step, are computed in that step.

    So the table over all steps of both runs, the largest of a recurrent network, is never held, and each step works on
    arrays that lie in one piece.
    """
    result: list[Whole | Loop | Recursive] = list(items)
    for item in items:
        if not isinstance(item, Whole) or item.key.kind != GRAM or item.key.stream != "cross":
            continue
        reads = [e for e in edges if e.source == item.key]
        loops = [x for x in result if isinstance(x, Loop) and all(e.reader in x.axes for e in reads)]
        if not reads or len(loops) != 1 or any(not isinstance(x, Whole) for x in loops[0].body):
            continue
        (loop,) = loops
        axis = _stepped_axis(tables[item.key], loop, reads, known)
        if axis is None:
            continue
        place = result.index(loop)
        result[place] = Loop({**loop.axes, item.key: axis}, loop.step, {**loop.lags, item.key: 0}, (item, *loop.body))
        result.remove(item)
    return tuple(result)


def _stepped_axis(gram: Table, loop: Loop, reads: Sequence[_Edge], known) -> int | None:
    """The axis of a Gram along which it follows the loop, step by step and over the same range."""
    if len(gram.clauses) != 1 or gram.clauses[0].conditions:
        return None
    (clause,) = gram.clauses
    for axis, target in enumerate(clause.target):
        own = [r for r in clause.binders if target == Affine.symbol(r.name)]
        if not own:
            continue

        def follows(e: _Edge, axis=axis, own=own[0]) -> bool:
            here = e.clause.target[loop.axes[e.reader]]
            binder = [r for r in e.clause.binders if here == Affine.symbol(r.name)]
            return (
                len(binder) == 1
                and e.read.indices[axis] == here
                and sum(binder[0].name in i.symbols for i in e.read.indices) == 1
                and (binder[0].low, binder[0].high) == (own.low, own.high)
            )

        if all(follows(e) for e in reads):
            return axis
    return None


def _reads(node: Node, ranges: Mapping[str, Range], conditions: tuple[Condition, ...]):
    """The reads in a node, each with the ranges and conditions of the sums and choices around it."""
    if isinstance(node, Read):
        yield node, ranges, conditions
    if isinstance(node, Gram):
        for read in data_reads(node):
            yield read, ranges, conditions
    if isinstance(node, Sum):
        ranges = {**ranges, **{r.name: r for r in node.ranges}}
        conditions = (*conditions, *node.conditions)
    if isinstance(node, Where):
        yield from _reads(node.otherwise, ranges, conditions)
        conditions = (*conditions, *node.conditions)
        yield from _reads(node.then, ranges, conditions)
        return
    if isinstance(node, Reduce):
        ranges = {**ranges, node.range.name: node.range}
    if isinstance(node, BatchnormExpectation | BatchnormMean):
        inner = node.rows if isinstance(node, BatchnormMean) else (*node.rows, *node.columns)
        ranges = {**ranges, **{r.name: r for r in inner}}
    for p in parts(node):
        yield from _reads(p, ranges, conditions)


def _schedule(tables, keys, edges, used, known) -> Schedule:
    graph = networkx.DiGraph()
    graph.add_nodes_from(keys)
    inside = set(keys)
    edges = [e for e in edges if e.reader in inside and e.source in inside]
    graph.add_edges_from((e.source, e.reader) for e in edges)
    order = {k: i for i, k in enumerate(keys)}
    condensed = networkx.condensation(graph)
    result: list[Whole | Loop | Recursive] = []
    for component in networkx.lexicographical_topological_sort(
        condensed, key=lambda c: min(order[k] for k in condensed.nodes[c]["members"])
    ):
        members = sorted(condensed.nodes[component]["members"], key=order.__getitem__)
        own = [e for e in edges if e.reader in members and e.source in members]
        if not own:
            result.append(Whole(members[0]))
        else:
            try:
                result.append(_loop(tables, members, own, used, known))
            except ProgramError:
                if any(used.values()):
                    raise
                result.append(Recursive(tuple(members)))
    return tuple(result)


def _loop(tables, members, edges, used, known) -> Loop:
    first = members[0]
    fallback: Loop | None = None
    for axis in range(len(tables[first].axes)):
        if axis in used[first]:
            continue
        for step in (1, -1):
            found = _try(tables, members, edges, used, known, axis, step)
            if found is None:
                continue
            if all(lag is not None for lag in found.lags.values()):
                return found
            fallback = fallback or found
    if fallback is not None:
        return fallback
    names = ", ".join(sorted({n for k in members for n in k.families}))
    raise ProgramError(f"no order of steps along an index computes {names}: their dependences point both ways")


def _try(tables, members, edges, used, known, axis: int, step: int) -> Loop | None:
    axes = {members[0]: axis}
    # Align the axes of all tables along their dependences.
    progress = True
    while progress and len(axes) < len(members):
        progress = False
        for e in edges:
            if (e.reader in axes) == (e.source in axes):
                continue
            # An edge at no fixed distance says nothing about which axes go together; another one may.
            if e.reader in axes:
                match = _aligned(e.clause.target[axes[e.reader]], e.read.indices, used[e.source], known)
                other = e.source
            else:
                match = _aligned(e.read.indices[axes[e.source]], e.clause.target, used[e.reader], known)
                other = e.reader
            if match is not None:
                axes[other] = match
                progress = True
    if len(axes) < len(members):
        return None
    lags: dict[Key, int | None] = dict.fromkeys(members, 0)
    within = []
    carried = 0
    for e in edges:
        distance = (e.clause.target[axes[e.reader]] - e.read.indices[axes[e.source]]).substitute(known) * step
        distance = _on_diagonals(distance, e.conditions)
        if not distance.is_constant:
            # A fixed earlier index, as in h[t] from h[0]: allowed where it is certainly earlier.
            if not _earlier(e, distance):
                return None
            lags[e.source] = None
            carried += 1
            continue
        d = distance.constant
        if d < 0:
            return None
        if d == 0:
            within.append(e)
            continue
        carried += 1
        if lags[e.source] is not None:
            lags[e.source] = max(lags[e.source] or 0, d)
    if not carried:
        return None
    inner_used = {k: used[k] | {axes[k]} for k in members}
    try:
        body = _schedule(tables, members, within, inner_used, known)
    except ProgramError:
        return None
    return Loop(axes, step, lags, body)


def _aligned(e: Affine, candidates: Sequence[Affine], used, known) -> int | None:
    """The position whose index follows e at a fixed distance; the nearest, first come."""
    if e.substitute(known).is_constant:
        # A fixed index (a first layer): any free axis at a fixed index will do, the same position preferred.
        for k, c in enumerate(candidates):
            if k not in used and c.substitute(known).is_constant:
                return k
        return None
    for k, c in enumerate(candidates):
        if k not in used and (e - c).substitute(known).is_constant:
            return k
    return None


def _on_diagonals(distance: Affine, conditions: Sequence[Condition]) -> Affine:
    """The distance where the equations among the conditions hold."""
    for c in conditions:
        if c.op == "==":
            for k in (1, -1):
                if (distance + c.expression * k).is_constant:
                    return distance + c.expression * k
    return distance


def _earlier(e: _Edge, distance: Affine) -> bool:
    """Whether `distance` ≥ 1 wherever the entry is read: by the ranges of its indices, or by a condition on them."""
    if at_most(Affine(1), extent(distance, e.ranges, False)):
        return True
    for c in e.conditions:
        gap = distance - c.expression
        if c.op == ">=" and gap.is_constant and gap.constant >= 1:
            return True
    return False
