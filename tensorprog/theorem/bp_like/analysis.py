"""The verdict on a program: whether it is BP-like, by which vectors, and in words why or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensorprog.program.ir import Program
from tensorprog.program.transposes import matrix_uses
from tensorprog.theorem.bp_like.gia import simple_gia
from tensorprog.theorem.bp_like.reading import Reading, listed, named
from tensorprog.theorem.bp_like.search import Search


@dataclass(frozen=True)
class BpLike:
    """The verdict on a program.

    holds: transposes, if any, behave like fresh matrices by the definition.
    witnesses: the vectors v^1..v^k; empty where none are needed, or none will do.
    orientation: for each matrix the one of "W" and "W.T" that multiplies what does not depend on the witnesses.
    transposes: whether a transpose multiplies a vector in the body.
    reasons: sentences, the first of them the most telling one.
    simple_gia: whether the Simple GIA Check holds: it makes the backward pass of this program BP-like.
    """

    holds: bool
    witnesses: tuple[str, ...]
    orientation: Mapping[str, str]
    transposes: bool
    reasons: tuple[str, ...]
    simple_gia: bool
    simple_gia_reason: str


def analyse(program: Program) -> BpLike:
    """Whether a program is BP-like, by which vectors, and in words why or why not."""
    reading = Reading(program)
    transposes = any(u.transposed for u in matrix_uses(program))
    gia, gia_reason = simple_gia(reading)

    def verdict(holds: bool, witnesses: tuple[str, ...], orientation: Mapping[str, str], *reasons: str) -> BpLike:
        return BpLike(holds, witnesses, orientation, transposes, reasons, gia, gia_reason)

    search = Search(reading)
    both = [w for w in reading.weights if len(search.orientations(w)) == 2]
    if not both:
        orientation = {w: named(w, search.orientations(w) == {True}) for w in reading.weights}
        return verdict(True, (), orientation, _no_transposes(transposes, orientation))
    zero_mean = reading.vectors(zero_mean=True)
    found = search.witnesses(zero_mean) or search.witnesses(reading.vectors())
    if found is not None:
        with_mean = [v for v in found if v not in zero_mean]
        if with_mean:
            return verdict(False, (), {}, *map(reading.mean_sentence, with_mean))
        orientation, _ = search.orient(found)
        return verdict(True, found, orientation, *search.why(found, orientation, both))
    if not zero_mean:
        vectors = reading.vectors()
        none = "no vector is declared with mean zero, so none can play the part of a gradient at the output"
        return verdict(False, (), {}, none, *map(reading.mean_sentence, vectors))
    return verdict(False, (), {}, *search.why_not(search.most_telling(zero_mean)))


def _no_transposes(transposes: bool, orientation: Mapping[str, str]) -> str:
    if not transposes:
        return "no transpose multiplies a vector, so there is nothing that must be independent of its transpose"
    swapped = tuple(w for w in orientation.values() if w.endswith(".T"))
    if not swapped:
        return "all that a transpose multiplies is zero"
    return f"no matrix multiplies vectors together with its own transpose: {listed(swapped)} may be called the matrix"
