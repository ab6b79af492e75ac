"""How tables lie as arrays: the samples first, (n,) of a run and (n1, n2) of a pair of runs, then their axes.

Axes of a table come in the order of `axes_in_order`; those that loops step along are no dimensions inside a step.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import shape
from tensorprog.backend.code.tree import Expr, Name, TupleOf
from tensorprog.backend.lower.names import Names
from tensorprog.backend.lower.scope import Scope
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.recursion import Table

Dims = tuple[int | str, ...]
"""Of an array of a table: an int for an axis of the table, a str for samples or features."""


@dataclass(frozen=True)
class Access:
    """Where a table's entries are found: an array, and what its dimensions are.

    fixed: axes that are gone, because only the entries at that index were kept.
    """

    value: Expr
    dims: Dims
    fixed: Mapping[int, Affine] = field(default_factory=dict)


def axes_in_order(table: Table, without: Container[int] = ()) -> list[int]:
    """The axes of a table in the order of its array's dimensions: those of both runs, then the first's, the second's.

    Neighbours of one run can be merged into one long axis.
    """
    order = ((True, True), (True, False), (False, True))
    return sorted(
        (k for k in range(len(table.axes)) if k not in without), key=lambda k: order.index(table.axes[k].runs)
    )


@dataclass(frozen=True)
class Layout:
    """The dimensions of arrays, and their sizes, in a function with these samples."""

    batch: tuple[str, ...]
    names: Names

    def dims(self, table: Table, axes: Iterable[int] = ()) -> Dims:
        """The dimensions of an array of a table along some of its axes."""
        return (*self.batch, *axes, *(("feature",) if table.key.kind == ir.DATA else ()))

    def shape(self, table: Table, axes: Iterable[int], scope: Scope) -> TupleOf:
        return self.shape_of(table, (*self.batch, *axes), {}, scope, feature=table.key.kind == ir.DATA)

    def shape_of(
        self,
        table: Table,
        dims: Sequence[int | str],
        ranges: Mapping[str, Range],
        scope: Scope,
        feature: bool = False,
    ) -> TupleOf:
        """The shape along axes of a table, indices in `ranges`, samples and features."""
        sizes: list[Expr] = []
        for d in (*dims, *(("feature",) if feature else ())):
            if isinstance(d, int):
                sizes.append(scope.size(table.axes[d].range))
            elif d in ranges:
                sizes.append(scope.size(ranges[d]))
            elif d == "feature":
                sizes.append(Name(self.names.size(self.names.feature(table.key))))
            else:
                sizes.append(Name(self.names.batch_size(d)))
        return shape(sizes)
