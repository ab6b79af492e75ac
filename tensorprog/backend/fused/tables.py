"""What a tile is called with: Grams of inputs for all pairs, and what the two runs determine, by samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SideTable:
    """A table of one run as the kernel has it: rows of numbers, one for each of its entries and sample.

    source: its name in what `run` returns, or that of an input; dims: sizes of its axes, the samples left out.
    """

    name: str
    source: str
    is_input: bool
    dims: tuple[int, ...]


@dataclass(frozen=True)
class GramTable:
    """<x, x'>/d of two vectors of data for all pairs: which arrays (by name in `run`'s result, or as inputs), at which
    indices, with the features along which axis."""

    names: tuple[str, str]
    are_inputs: tuple[bool, bool]
    indices: tuple[tuple[int, ...], tuple[int, ...]]
    feature_axes: tuple[int, int]


@dataclass(frozen=True)
class FusedModule:
    """Source that defines `tile`, and what it is called with.

    Its arguments: `grams`, a tuple of (rows, columns) arrays, one of `grams` each; `left` and `right`, dicts of
    functions from the number of an entry to its values, (rows, 1) and (1, columns), by the names of `sides`; `same`,
    boolean (rows, columns); `params`, `move` as those of `pair`; `sizes`, integers by the names of `features`. Gives
    the kernel, (rows, columns).
    """

    source: str
    grams: tuple[GramTable, ...]
    sides: tuple[SideTable, ...]
    features: tuple[str, ...]
