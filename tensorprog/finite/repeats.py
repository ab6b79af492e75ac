"""Groups of assignments that follow one another in the same way, again and again: the body of a scan.

W_s[2], h[2], s[2], W_s[3], h[3], s[3], …     a run of period 3: W_s reads s of one period before, U_x is given
                                              from outside, a row for each period, and b the same for all
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorprog.finite import nodes

LEAST = 4  # periods that are worth a scan
_LONGEST = 96  # the longest period that is looked for

Signed = tuple[nodes.Node, tuple]
"""The tree of a group, and what else must agree for two groups to repeat each other."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """Where a leaf of the repeated trees takes its value from.

    kind: "same" in all periods, from outside; "each" period its own, from outside, with a first axis of periods in
    `ids`; "number", numbers with that first axis; "own": rows `ids` of the group `slot` of `lag` periods before.
    """

    kind: str
    family: str = ""
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0))
    slot: int = 0
    lag: int = 0


@dataclass(eq=False)
class Run:
    """`count` periods of `period` groups each from group `start` on.

    leaves: for every leaf of the groups of the first period, by its id. lag: the largest of any leaf.
    groups, before: the groups of the first period, and those of the `lag` periods ahead of it.
    emitted: the slots that are read outside of the run.
    """

    start: int
    period: int
    count: int
    lag: int
    leaves: dict[int, Leaf]
    groups: tuple[Any, ...] = ()
    before: tuple[Any, ...] = ()
    emitted: tuple[int, ...] = ()


def find_runs(groups: Sequence[Signed], home: Mapping[str, np.ndarray], row: Mapping[str, np.ndarray]) -> Iterator[Run]:
    """The runs among the groups of a cycle, in order.

    home, row: for the members of the families of the cycle, the group that computes each and its row there.
    """
    numbers: dict[tuple, int] = {}
    kinds = np.array([numbers.setdefault((nodes.signature(g), extra), len(numbers)) for g, extra in groups])
    free = 0
    while free < len(kinds):
        found = None
        for start, period, count in _candidates(kinds, free):
            # A recurrence begins in its own way; what it reads is regular some periods later.
            for peeled in range(min(4, count - LEAST + 1)):
                found = _run(groups, home, row, start + peeled * period, period, count - peeled)
                if found is not None:
                    break
            if found is not None:
                break
        if found is None:
            return
        yield found
        free = found.start + found.period * found.count


def _candidates(kinds: np.ndarray, free: int) -> list[tuple[int, int, int]]:
    """(start, period, count) of stretches that repeat, those that cover most first, short periods preferred."""
    result = []
    for period in range(1, min(_LONGEST, (len(kinds) - free) // LEAST) + 1):
        equal = np.concatenate([[False], kinds[free:-period] == kinds[free + period :], [False]])
        edges = np.flatnonzero(np.diff(equal))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            count = (end - begin) // period + 1
            if count >= LEAST:
                result.append((free + int(begin), period, int(count)))
    return sorted(result, key=lambda c: (-c[1] * c[2], c[1]))[:8]


def _run(groups, home, row, start: int, period: int, count: int) -> Run | None:
    leaves: dict[int, Leaf] = {}
    lag = 0
    for slot in range(period):
        trees = [groups[start + step * period + slot][0] for step in range(count)]
        for same in zip(*map(nodes.leaves, trees), strict=True):
            leaf = _leaf(same, groups, home, row, start, period)
            if leaf is None:
                return None
            leaves[id(same[0])] = leaf
            lag = max(lag, leaf.lag)
    return Run(start, period, count, lag, leaves)


def _leaf(same: tuple, groups_of: Sequence[Signed], home, row, start: int, period: int) -> Leaf | None:
    """What the leaves at one place of the trees of all periods have in common."""
    first = same[0]
    if isinstance(first, nodes.Number):
        values = np.stack([n.value for n in same])
        if (values == values[:1]).all():
            return Leaf("same", ids=values[0])
        return Leaf("number", ids=values)
    ids = np.stack([n.ids for n in same])
    if isinstance(first, nodes.Read) and first.family in home:
        groups = home[first.family][ids]
        if (groups < start).all():
            return _outside(first.family, ids)
        relative = groups - (start + period * np.arange(len(same))).reshape((-1,) + (1,) * (ids.ndim - 1))
        distance = int(relative.reshape(-1)[0])
        rows = row[first.family][ids]
        if (groups < 0).any() or (relative != distance).any() or (rows != rows[:1]).any():
            return None
        lag, slot = -(distance // period), distance % period
        # What is carried into the first period must look like what the periods make.
        if any(groups_of[start + slot - k * period][1] != groups_of[start + slot][1] for k in range(1, lag + 1)):
            return None
        return Leaf("own", first.family, rows[0], slot, lag)
    return _outside(first.family, ids)


def _outside(family: str, ids: np.ndarray) -> Leaf:
    if (ids == ids[:1]).all():
        return Leaf("same", family, ids[0])
    return Leaf("each", family, ids)
