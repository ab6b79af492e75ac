"""Vectors that are drawn: their law."""

from __future__ import annotations

from tensorprog.program.instructions import Declared
from tensorprog.recursion import Node
from tensorprog.theorem.derivation import Derivation
from tensorprog.theorem.entries import second
from tensorprog.theorem.moments import Pair, second_moment


@second_moment(rank=30)
def drawn(d: Derivation, pair: Pair) -> Node | None:
    """The variance of the law for the same vector, and zero, or the product of the means, for others."""
    if not isinstance(pair.f, Declared) or not isinstance(pair.g, Declared):
        return None
    return second(d, pair.view, pair.u, pair.w, pair.centred, pair.context)
