"""The choices on the way from a recursion to its module: what each is called, and why it is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tensorprog.recursion import Key, key_text


@dataclass(frozen=True)
class Pass:
    name: str
    reason: str


NO_BORDERS = Pass("no zero borders", "entries outside a table read as zero, so rows of zeros need not be stored")
READ_THROUGH = Pass("read through", "a table that only passes on entries of a smaller one need not be there")
ROLLED = Pass("rolled", "layers written one by one, of one form, are a loop, compiled once")
ONE_SIDE = Pass("once a side", "what one input alone determines is computed for each input, not for each pair")
SCAN = Pass("scan", "steps of equal shape are one loop, compiled once")
GRAM_IN_LOOP = Pass("Gram in the loop", "only one step at a time reads it, so the table of all steps is never held")
SUM_IN_LOOP = Pass("sum in the loop", "only the sum over its steps is read, so no history is kept")
WINDOWS = Pass("separate windows", "a filter is one pass for each of its indices, the innermost axes first")
MERGED_AXES = Pass("merged axes", "neighbouring axes of the same run are one in inner loops, which are then long")
EXPECTATION = Pass("expectation", "the cheapest rule that is accurate")


@dataclass
class Notes:
    """What was chosen for one module."""

    made: dict[Pass, list[str]] = field(default_factory=dict)

    def add(self, chosen: Pass, what: str | Iterable[Key]) -> None:
        text = what if isinstance(what, str) else ", ".join(dict.fromkeys(key_text(key) for key in what))
        found = self.made.setdefault(chosen, [])
        if text and text not in found:
            found.append(text)

    def lines(self) -> tuple[str, ...]:
        """For each pass its name and reason, then what it was applied to."""
        result = []
        for chosen, found in self.made.items():
            result += [f"{chosen.name}: {chosen.reason}", *(f"    {what}" for what in found)]
        return tuple(result)
