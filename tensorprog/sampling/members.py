"""How sampled source names and reads members of families, integers and numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import sympy

from tensorprog.backend.code import integers
from tensorprog.backend.code.reading import formula
from tensorprog.backend.code.tree import (
    Compare,
    Each,
    Expr,
    Literal,
    Name,
    Slice,
    TupleOf,
    call,
    compare,
    counting,
    every,
    index,
    listing,
    multiplied,
    text,
    tree,
)
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine, Entry
from tensorprog.index.bounds import Bound
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.naming import identifier
from tensorprog.program.instructions import Reference
from tensorprog.program.ir import Program
from tensorprog.program.types import Data, Position, Scalar

COMBINE, SUM_OF_DATA = Name("path.combine"), Name("sum_of_data")
"""What adds up terms (coefficient, value): of vectors, and of what is a number, or features, for each sample."""


class Members:
    def __init__(self, program: Program):
        self.program = program

    # ------------------------------------------------------------ names and integers

    def name(self, s: str) -> Name:
        """The variable of a family, of a size or of a loop."""
        return Name(identifier(s))

    def symbol(self, s: str) -> Expr:
        """An integer symbol; of an entry of data, its values in the batch."""
        return self.read(Reference(s.table, s.indices)) if isinstance(s, Entry) else self.name(s)

    def integer(self, e: Affine) -> Expr:
        return integers.integer(e, self.symbol)

    def bound(self, b: Bound) -> Expr:
        return integers.bound(b, self.symbol)

    def number(self, e: sympy.Expr) -> Expr:
        """A number in real parameters, sizes and loop indices."""
        return formula(e, {s: self.name(s.name) for s in e.free_symbols})

    def indices(self, indices: Sequence[Affine]) -> TupleOf:
        return TupleOf(tuple(map(self.integer, indices)))

    def over(self, r: Range, reverse: bool = False) -> Expr:
        """Python's range of an index."""
        return counting(self.bound(r.low), self.bound(r.high), -1 if reverse else 1)

    def each(self, r: Range) -> Each:
        return Each(identifier(r.name), self.over(r))

    # ------------------------------------------------------------ conditions

    def holds(self, conditions: Sequence[Condition]) -> Expr:
        """Whether conditions on indices hold, as Python knows."""
        for c in conditions:
            if c.expression.entries:
                raise ProgramError(f"a condition on {c.expression.entries[0]}, which is data, cannot be sampled here")
        return every("and", [self._test(c) for c in conditions])

    def one_where(self, conditions: Sequence[Condition]) -> Expr:
        """1 where conditions on data hold, 0 elsewhere, in the batch."""
        return call("jnp.where", multiplied([self._test(c) for c in conditions], "&"), 1.0, 0.0)

    def _test(self, c: Condition) -> Compare:
        return integers.test(c, self.symbol)

    # ------------------------------------------------------------ members

    def member(self, name: str, indices: Sequence[Affine]) -> Expr:
        return index(self.name(name), *map(self.integer, indices)) if indices else self.name(name)

    def read(self, r: Reference) -> Expr:
        t = self.program.families[r.name].type
        combine = SUM_OF_DATA if isinstance(t, Scalar | Data | Position) else COMBINE
        return self.for_data([r], combine, self.read_member)

    def read_member(self, r: Reference) -> Expr:
        family = self.program.families[r.name]
        if family.role == "input":
            places = [
                self.integer(i - axis.low if isinstance(axis.low, Affine) else i)
                for i, axis in zip(r.indices, family.ranges, strict=True)
            ]
            if not places:
                return self.name(r.name)
            end = [Slice()] if isinstance(family.type, Data) else []
            return index(self.name(r.name), Literal(...), *places, *end)
        if family.role == "vector" and r.indices:
            return call("path.vector", text(r.name), self.indices(r.indices))
        return self.member(r.name, r.indices)

    def for_data(self, references: Sequence[Reference], combine: Name, write: Callable[..., Expr]) -> Expr:
        """What `write` gives for references with indices that are data: a combination over all values of these."""
        entry = next((e for r in references for i in r.indices for e in i.entries), None)
        if entry is None:
            return write(*references)
        here = f"{entry.table}__"
        changed = []
        for r in references:
            indices = []
            for i in r.indices:
                indices.append(i + (Affine.symbol(here) - Affine.symbol(entry)) * i.coefficient(entry))
                if entry in indices[-1].entries:
                    raise ProgramError(f"the index {i} is not supported where the kernel is sampled", r.span)
            changed.append(replace(r, indices=tuple(indices)))
        inner = self.for_data(changed, combine, write)
        chosen = call("jnp.where", compare(self.symbol(entry), "==", self.name(here)), 1.0, 0.0)
        values = Each(identifier(here), counting(Literal(1), self.integer(entry.size)))
        return call(combine, listing(tree((chosen, inner)), values))
