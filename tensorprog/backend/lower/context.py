"""Where a node is lowered: in a clause of a table, with some of the indices as dimensions of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import neighbours
from tensorprog.backend.code.tree import Array, Expr
from tensorprog.backend.lower.registry import lowering
from tensorprog.backend.lower.scope import Scope
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition, boxed
from tensorprog.index.ranges import Range
from tensorprog.recursion import Key

if TYPE_CHECKING:
    from tensorprog.backend.lower.system import System


class Context:
    """Lowers the value of one clause of the table `key`.

    arrays: the indices that are dimensions, with their ranges. order: all dimensions in their order, extended by summed
    indices on the way. runs: to which of the two runs a dimension belongs; neighbours of the same can be merged.
    """

    def __init__(
        self,
        system: System,
        arrays: Mapping[str, Range],
        order: list[str],
        key: Key,
        runs: Mapping[str, tuple[bool, bool]],
    ):
        self.system = system
        self.scope: Scope = system.scope
        self.arrays: dict[str, Range] = dict(arrays)
        self.order = order
        self.key = key
        self.runs = runs

    def lower(self, node: ir.Node) -> Array:
        result: Array = lowering.of(type(node))(node, self)
        return result

    # ------------------------------------------------------------ what is asked of the place

    @property
    def ranges(self) -> dict[str, Range]:
        """Those of all indices, of loops and of dimensions."""
        return {**self.scope.ranges, **self.arrays}

    @property
    def is_pair(self) -> bool:
        """Whether this is the cross stream, of two runs."""
        return "n1" in self.order

    def symbol(self, s: str) -> Expr:
        return self.scope.symbol(s)

    def certain(self, c: Condition, ranges: Mapping[str, Range] | None = None) -> bool | None:
        return self.scope.certain(c, self.arrays if ranges is None else ranges)

    def is_array(self, e: Affine) -> bool:
        """Whether an index expression has many values here."""
        return bool(e.entries or e.symbols & self.arrays.keys())

    def decided(self, conditions: Sequence[Condition]) -> bool:
        """Whether conditions are on Python integers alone, not on array dimensions or traced indices."""
        if any(c.expression.entries for c in conditions):
            return False
        symbols = {s for c in conditions for s in c.expression.symbols}
        return not symbols & self.arrays.keys() and not symbols & self.scope.traced

    def groups(self, dims: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """The (start, stop) of neighbouring dimensions of the same run."""
        return neighbours([self.runs.get(d) for d in dims]) if self.is_pair else ()

    # ------------------------------------------------------------ more indices

    @contextmanager
    def bound(
        self, ranges: Sequence[Range], conditions: Sequence[Condition] = ()
    ) -> Iterator[tuple[list[str], list[Condition]]]:
        """Indices as dimensions more; a range that depends on other indices becomes a box with conditions."""
        names, found = [], list(conditions)
        for r in ranges:
            self.arrays[r.name], more = boxed(r, self.ranges)
            self.order.append(r.name)
            names.append(r.name)
            found += more
        yield names, found
        for name in names:
            del self.arrays[name]
            self.order.remove(name)

    @contextmanager
    def within(self, scope: Scope) -> Iterator[None]:
        """In loops of Python inside an expression."""
        before, self.scope = self.scope, scope
        yield
        self.scope = before

    @contextmanager
    def reading(self, arrays: Mapping[str, Range]) -> Iterator[None]:
        """With other ranges for some of the dimensions."""
        before, self.arrays = self.arrays, {**self.arrays, **arrays}
        yield
        self.arrays = before
