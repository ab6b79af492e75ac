"""Where a node of a tile is lowered: at values of its indices, which are integers, or affine in the index of a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tensorprog import recursion as ir
from tensorprog.backend.code.tree import Expr
from tensorprog.backend.fused.chain import NotFused
from tensorprog.backend.lower.registry import Lowerings
from tensorprog.backend.schedule import Loop
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition

if TYPE_CHECKING:
    from tensorprog.backend.fused.writer import Writer

LOOP = "·"  # the symbol of a loop's index; no program has it

tile_lowering = Lowerings("tensorprog.backend.fused.rules")
"""Functions of a node and its Place that give the node's value for a tile of pairs."""


class Uneven(Exception):
    """A loop whose steps are not alike, or of which more is read than its last steps."""

    def __init__(self, loop: Loop):
        self.loop = loop


@dataclass(frozen=True)
class Place:
    writer: Writer
    indices: Mapping[str, Affine]

    def lower(self, node: ir.Node) -> Expr:
        try:
            function = tile_lowering.of(type(node))
        except LookupError:
            raise NotFused(f"{type(node).__name__} is no arithmetic of a single pair") from None
        result: Expr = function(node, self)
        return result

    def at(self, indices: Mapping[str, Affine]) -> Place:
        """The place with other indices beside its own."""
        return replace(self, indices={**self.indices, **indices})

    def settled(self, e: Affine) -> Affine:
        """An index expression as an integer, or in the index of the loop around it."""
        e = e.substitute(self.indices).substitute(self.writer.chain.known)
        if e.symbols - {LOOP}:
            raise NotFused(f"the index {e} depends on what the data give")
        return e

    def everywhere(self, e: Affine) -> list[int]:
        """The values of a settled index expression over the steps of the loop around it."""
        return [e.constant] if e.is_constant else [e.evaluate({LOOP: i}) for i in self.writer.steps_around()]

    def integers(self) -> list[dict[str, int]]:
        """The indices as integers, at every step of the loop around them."""
        if all(e.is_constant for e in self.indices.values()):
            return [{s: e.constant for s, e in self.indices.items()}]
        return [{s: e.evaluate({LOOP: i}) for s, e in self.indices.items()} for i in self.writer.steps_around()]

    def hold(self, conditions: Sequence[Condition]) -> bool:
        """Whether all conditions hold, at all steps alike."""
        verdicts = {self.writer.chain.hold(conditions, values) for values in self.integers()}
        if len(verdicts) > 1:
            raise self.uneven()
        return verdicts.pop()

    def uneven(self) -> Uneven:
        """That steps of the loop around are not alike."""
        assert self.writer.rolled is not None
        return Uneven(self.writer.rolled.loop)
