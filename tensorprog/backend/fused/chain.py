"""Recursions whose cross stream has a known number of entries for each pair of samples: chains of layers.

    covariance[cross](h, h') over l = 1..depth (diagonal)          depth = 3: three numbers a pair

Positions, words and pixels, whose number the data give, make tables of unknown size, and are not chains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import evaluate_bound
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.laws import sizes_in_laws
from tensorprog.program.types import Position
from tensorprog.recursion import Clause, Key, Recursion, Table

MOST_ENTRIES = 2048
MOST_GRAMS = 4

# The nodes that a tile can be taken through; what the tables of one run are made of is free.
_NODES = (
    ir.Constant | ir.LawVariance | ir.Read | ir.Gram | ir.Add | ir.Product | ir.Sum | ir.Where | ir.Apply
    | ir.PairExpectation
)  # fmt: skip


class NotFused(Exception):
    """Why a recursion has no fused kernel."""


@dataclass(frozen=True)
class Step:
    """One entry's clause, and the values of its indices: integers, or affine in the index of a loop."""

    clause: Clause
    indices: Mapping[str, Affine]


class Chain:
    """The cross stream of a recursion, entry by entry. Raises NotFused where it is no chain."""

    def __init__(self, recursion: Recursion, known: Mapping[str, int]):
        if recursion.output is None:
            raise NotFused("there is no output with a kernel")
        if recursion.sampled:
            raise NotFused("some expectations are sampled")
        program = recursion.program
        if sizes_in_laws(program):
            raise NotFused("a law depends on a size that the data give")
        if any(isinstance(f.type, Position) for f in program.inputs):
            raise NotFused("data are indices")
        self.known = dict(known)
        self.tables: dict[Key, Table] = {t.key: t for t in recursion.system("cross")}
        self.output = recursion.output
        if self.tables[self.output].axes:
            raise NotFused("the output has axes")
        self.ranges = {key: [self.ends(a.range) for a in t.axes] for key, t in self.tables.items()}
        count = 0
        for key, ends in self.ranges.items():
            number = 1
            for low, high in ends:
                number *= max(0, high - low + 1)
            if key.kind == ir.GRAM and number > MOST_GRAMS:
                raise NotFused(f"{number} Grams of inputs for a pair are read, more than {MOST_GRAMS}")
            count += number
        if count > MOST_ENTRIES:
            raise NotFused(f"{count} entries for a pair are more than {MOST_ENTRIES}")
        for t in self.tables.values():
            for c in t.clauses:
                for node in ir.walk(c.value):
                    if not isinstance(node, _NODES):
                        raise NotFused(f"{type(node).__name__} is no arithmetic of a single pair")

    def ends(self, r: Range, indices: Mapping[str, int] | None = None) -> tuple[int, int]:
        """The first and last index of a range of known length."""
        values = {**self.known, **(indices or {})}
        try:
            return evaluate_bound(r.low, values), evaluate_bound(r.high, values)
        except KeyError as missing:
            raise NotFused(f"the range {r} depends on {missing.args[0]}, which the data give") from None

    def inside(self, key: Key, index: Sequence[int]) -> bool:
        return all(low <= i <= high for i, (low, high) in zip(index, self.ranges[key], strict=True))

    def step(self, key: Key, index: Sequence[int]) -> Step | None:
        """What defines an entry; None where it is zero."""
        if not self.inside(key, index):
            return None
        for clause in self.tables[key].clauses:
            indices = self._solved(clause, index)
            if indices is not None:
                return Step(clause, {name: Affine(i) for name, i in indices.items()})
        return None

    def _solved(self, clause: Clause, index: Sequence[int]) -> dict[str, int] | None:
        """The values of a clause's indices at which it defines an entry."""
        found: dict[str, int] = {}
        binders = {r.name: r for r in clause.binders}
        for target, i in zip(clause.target, index, strict=True):
            rest = target.substitute({**self.known, **found})
            if rest.is_constant:
                if rest.constant != i:
                    return None
                continue
            (name, factor), *more = rest.terms
            if more or name not in binders:
                raise NotFused(f"the left-hand index {target}")
            value, remainder = divmod(i - rest.constant, factor)
            if remainder:
                return None
            found[name] = value
        if found.keys() != binders.keys():
            raise NotFused("an index that the left-hand side does not determine")
        for name, r in binders.items():
            low, high = self.ends(r, found)
            if not low <= found[name] <= high:
                return None
        return found if self.hold(clause.conditions, found) else None

    def hold(self, conditions: Iterable[Condition], indices: Mapping[str, int]) -> bool:
        """Whether all conditions hold at these indices."""
        for c in conditions:
            try:
                value = c.expression.evaluate({**self.known, **indices})
            except KeyError as missing:
                raise NotFused(f"a condition on {missing.args[0]}, which the data give") from None
            if not (value >= 0 if c.op == ">=" else value == 0):
                return False
        return True

    def members(self, ranges: Sequence[Range], indices: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """The values that indices take in their ranges, one after another; later ranges may depend on earlier ones."""
        if not ranges:
            yield {}
            return
        first, *rest = ranges
        low, high = self.ends(first, indices)
        for i in range(low, high + 1):
            for others in self.members(rest, {**indices, first.name: i}):
                yield {first.name: i, **others}
