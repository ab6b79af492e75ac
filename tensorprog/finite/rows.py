"""Executions of an assignment, all together: the values of its indices in NumPy arrays.

    for i = 1..2:
        s[i, j = 1..3] := …        rows of shape (2, 3); i has the values [[1], [2]], j the values [[1, 2, 3]]

Where the indices run over a product of sets, every index keeps an axis of its own, so that what depends on few of
them is computed once; else (`j = 1..i`) there is one axis, flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tensorprog.index.rows import Integers, integer, named
from tensorprog.language import syntax


@dataclass(frozen=True)
class Index:
    """An index's values, and the ends of its range; arrays that broadcast to the shape of the rows."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def map(self, change) -> Index:
        return Index(change(self.value), change(self.low), change(self.high))


@dataclass(frozen=True)
class Rows:
    """`number` tells which execution a row belongs to: reductions repeat them, conditions select among them."""

    shape: tuple[int, ...]
    indices: Mapping[str, Index]
    number: np.ndarray

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def full(self, array: np.ndarray | int | bool) -> np.ndarray:
        """An array over the rows, one entry for each, flat."""
        return np.broadcast_to(np.asarray(array), self.shape).reshape(-1)

    def select(self, places: np.ndarray) -> Rows:
        """The rows at these places of the flat order, in an array's shape; index arrays are collapsed where they can.

        places: integers of any shape, which becomes the shape of the rows.
        """

        def pick(array: np.ndarray) -> np.ndarray:
            return collapse(self.full(array)[places])

        indices = {name: index.map(pick) for name, index in self.indices.items()}
        return Rows(places.shape, indices, self.full(self.number)[places])

    def over(self, name: str, low: Integers, high: Integers) -> tuple[Rows, np.ndarray | None]:
        """These rows with one axis more, for an index over low..high, which is not empty in any row.

        Gives the rows and, where the ranges differ in length, which entries are meant; the others repeat the last.
        """
        dims = (1,) * len(self.shape)
        first = np.reshape(low, np.shape(low) or dims)[..., None]
        last = np.reshape(high, np.shape(high) or dims)[..., None]
        counts = last - first + 1
        longest = int(counts.max())
        value = first + np.arange(longest)
        mask = None
        if (counts != longest).any():
            mask = value <= last
            value = np.minimum(value, last)
        indices = {k: index.map(lambda a: a[..., None]) for k, index in self.indices.items()}
        indices[name] = Index(value, first, last)
        return Rows((*self.shape, longest), indices, self.number[..., None]), mask


def collapse(array: np.ndarray) -> np.ndarray:
    """The array with every axis along which it does not vary of length 1."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis) if array.shape[axis] > 1 else None
        if first is not None and (array == first).all():
            array = first
    return array


def executions(binders: Sequence[syntax.Binder], sizes: Mapping[str, int]) -> Rows:
    """All executions of an assignment inside these loops, outermost first: flat rows, numbered from 0."""
    values: dict[str, Index] = {}
    count = 1
    for b in binders:
        assert b.low is not None and b.high is not None
        names = {k: i.value for k, i in values.items()}
        ends = [np.broadcast_to(np.asarray(integer(e, named(names, sizes))), (count,)) for e in (b.low, b.high)]
        if b.step is not None and integer(b.step, named(names, sizes)) == -1:
            ends.reverse()
        low, high = ends
        passes = np.maximum(high - low + 1, 0)
        parent = np.repeat(np.arange(count), passes)
        ordinal = np.arange(len(parent)) - (np.cumsum(passes) - passes)[parent]
        values = {k: index.map(lambda a, p=parent: a[p]) for k, index in values.items()}
        values[b.name] = Index(low[parent] + ordinal, low[parent], high[parent])
        count = len(parent)
    return Rows((count,), values, np.arange(count))


def factored(rows: Rows, places: np.ndarray) -> Rows:
    """Some of the executions (`places`, ascending), with an axis for each index where they are a product."""
    axes: list[np.ndarray] = []
    distinct = {name: np.unique(index.value[places]) for name, index in rows.indices.items()}
    axes = [v for v in distinct.values() if len(v) > 1]
    shape = tuple(len(v) for v in axes)
    if int(np.prod(shape, dtype=np.int64)) != len(places) or len(shape) < 2:
        return rows.select(places)
    return rows.select(places.reshape(shape))


def nests(statements: Iterable[syntax.Statement], around: tuple[syntax.Binder, ...] = ()):
    """Every assignment with the loops around it, those of its own target last."""
    for s in statements:
        match s:
            case syntax.For(binders, body):
                yield from nests(body, (*around, *binders))
            case syntax.Assignment(_, indices):
                yield s, (*around, *(i for i in indices if isinstance(i, syntax.Binder)))


def target(s: syntax.Assignment, rows: Rows, sizes: Mapping[str, int]) -> list[np.ndarray]:
    """The indices that are assigned, an array over the flat rows each."""
    names = {k: i.value for k, i in rows.indices.items()}
    entries = (syntax.Name(i.name) if isinstance(i, syntax.Binder) else i for i in s.indices)
    return [rows.full(integer(e, named(names, sizes))) for e in entries]


def renumbered(rows: Rows) -> Rows:
    """The rows numbered from 0 on."""
    return replace(rows, number=np.arange(rows.count).reshape(rows.shape))
