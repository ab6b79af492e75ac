"""The members of a program's families at known sizes: numbered, the last index running fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.finite.rows import executions, nests, target
from tensorprog.index.bounds import evaluate_bound
from tensorprog.index.rows import holds, integer, named
from tensorprog.language import syntax
from tensorprog.program.ir import Program
from tensorprog.program.types import Matrix


@dataclass
class _Hull:
    """low and shape of the box around a family's members; `axes` of a declared one, whose ranges may depend."""

    low: list[int]
    shape: list[int]
    axes: tuple[syntax.Binder, ...] | None = None


class Families:
    """Where the members of families are, at these values of the integer parameters."""

    def __init__(self, program: Program, sizes: Mapping[str, int]):
        self.program = program
        self.sizes = sizes
        self._hulls: dict[str, _Hull] = {}
        self._transposes: dict[str, np.ndarray] = {}
        for f in program.families.values():
            ends = [(evaluate_bound(r.low, sizes), evaluate_bound(r.high, sizes)) for r in f.ranges]
            self._hulls[f.name] = _Hull([a for a, _ in ends], [max(b - a + 1, 0) for a, b in ends])
        for s in program.text.statements:
            if isinstance(s, syntax.Input | syntax.Random):
                for v in s.variables:
                    self._hulls[v.name].axes = v.axes

    def __contains__(self, name: str) -> bool:
        return name in self._hulls

    def is_computed(self, name: str) -> bool:
        """Whether a family is assigned, and no matrix."""
        f = self.program.families[name]
        return f.role in ("assigned", "output") and not isinstance(f.type, Matrix)

    def shape(self, name: str) -> tuple[int, ...]:
        """Lengths of a family's axes."""
        return tuple(self._hulls[name].shape)

    def lows(self, name: str) -> tuple[int, ...]:
        """The first index of each axis."""
        return tuple(self._hulls[name].low)

    def count(self, name: str) -> int:
        return int(np.prod(self._hulls[name].shape, dtype=np.int64))

    def reach(self, name: str, columns: Sequence[np.ndarray]) -> None:
        """Make room for what is assigned beyond the ranges that hold for sizes of at least 1."""
        hull = self._hulls[name]
        for k, v in enumerate(columns):
            if v.size:
                low = min(hull.low[k], int(v.min())) if hull.shape[k] else int(v.min())
                high = max(hull.low[k] + hull.shape[k] - 1, int(v.max()))
                hull.low[k], hull.shape[k] = low, high - low + 1

    def numbers(self, name: str, columns: Sequence[Any], dims: int) -> np.ndarray:
        """The numbers of the members at these indices, an array of `dims` axes; out of range they mean nothing."""
        hull = self._hulls[name]
        number: Any = 0
        for v, low, size in zip(columns, hull.low, hull.shape, strict=True):
            number = number * size + (v - low)
        number = np.asarray(number, np.int64)
        return number.reshape((1,) * dims) if number.ndim != dims else number

    def inside(self, name: str, columns: Sequence[Any]) -> np.ndarray | bool:
        """Where indices lie in the ranges of a family."""
        hull = self._hulls[name]
        result: np.ndarray | bool = True
        names: dict[str, Any] = {}
        for k, v in enumerate(columns):
            if hull.axes is not None:
                axis = hull.axes[k]
                assert axis.low is not None and axis.high is not None
                low, high = integer(axis.low, named(names, self.sizes)), integer(axis.high, named(names, self.sizes))
                names[axis.name] = v
            else:
                low, high = hull.low[k], hull.low[k] + hull.shape[k] - 1
            result = np.logical_and(result, np.logical_and(v >= low, v <= high))
        return result

    def weight(self, name: str, ids: np.ndarray) -> tuple[str, np.ndarray, bool]:
        """The declared weight that members of a family of matrices are, its members, and whether transposed."""
        transposed = False
        while (source := self.program.families[name].transpose_of) is not None:
            if name not in self._transposes:
                self._transposes[name] = self._sources(name)
            name, ids, transposed = source, self._transposes[name][ids], not transposed
        return name, ids, transposed

    def _sources(self, name: str) -> np.ndarray:
        """For each member of a family of transposes, the member that it is the transpose of."""
        sources = np.zeros(self.count(name), np.int64)
        for s, binders in nests(self.program.text.statements):
            if s.name != name:
                continue
            rows = executions(binders, self.sizes)
            members = self.numbers(name, target(s, rows, self.sizes), 1)

            def fill(e: syntax.Expr, places: np.ndarray, rows=rows, members=members) -> None:
                if not places.size:
                    return
                names = {k: i.value[places] for k, i in rows.indices.items()}
                if isinstance(e, syntax.Conditional):
                    where = np.broadcast_to(holds(e.condition, named(names, self.sizes)), places.shape)
                    fill(e.then, places[where])
                    fill(e.otherwise, places[~where])
                    return
                assert isinstance(e, syntax.Call) and e.function == "Trsp", e
                (inner,) = e.arguments
                assert isinstance(inner, syntax.Name | syntax.Index)
                indices = inner.indices if isinstance(inner, syntax.Index) else ()
                columns = [np.broadcast_to(integer(i, named(names, self.sizes)), places.shape) for i in indices]
                sources[members[places]] = self.numbers(inner.name, columns, 1)

            fill(s.value, np.arange(rows.count))
        return sources
