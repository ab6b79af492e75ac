"""Tables, their axes and clauses, and all those of a program: its Recursion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.ir import Program
from tensorprog.recursion.nodes import Key, Node, Sampled
from tensorprog.recursion.walking import walk


@dataclass(frozen=True)
class Clause:
    """`target` := value for `binders` in their ranges, where all conditions hold."""

    binders: tuple[Range, ...]
    target: tuple[Affine, ...]
    conditions: tuple[Condition, ...]
    value: Node


@dataclass(frozen=True)
class Axis:
    """An axis of a table: its range, and which axes of the two families it runs along (None: not along that one).

    An axis along both is a diagonal: the second family's index is the first's plus `offset`.
    """

    range: Range
    left: int | None
    right: int | None
    offset: int = 0

    @property
    def runs(self) -> tuple[bool, bool]:
        """Whether it runs along the first family, and along the second."""
        return self.left is not None, self.right is not None


@dataclass(frozen=True)
class Table:
    key: Key
    axes: tuple[Axis, ...]
    clauses: tuple[Clause, ...]


@dataclass(frozen=True)
class Recursion:
    """All tables that the outputs of a program need, by key, each after those that it needs first where that can be."""

    program: Program
    tables: Mapping[Key, Table]
    output: Key | None
    limits: tuple[Key, ...]

    @cached_property
    def sampled(self) -> bool:
        """Whether some expectation has no rule, so that the kernel comes from a simulation."""
        return any(isinstance(n, Sampled) for t in self.tables.values() for c in t.clauses for n in walk(c.value))

    def system(self, stream: str) -> tuple[Table, ...]:
        """The tables of a run ("self") or of the cross stream ("cross")."""
        return tuple(t for t in self.tables.values() if t.key.stream == stream)
