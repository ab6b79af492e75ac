"""Functions of H-vars: the same functions written out in G-vars, which other rules derive."""

from __future__ import annotations

from dataclasses import replace

from tensorprog import recursion as ir
from tensorprog.program.instructions import Pointwise
from tensorprog.recursion import Node
from tensorprog.theorem.derivation import Derivation
from tensorprog.theorem.flattening import flat
from tensorprog.theorem.moments import Pair, Single, derived_first, derived_second, first_moment, second_moment


@second_moment(rank=50)
def in_gaussians(d: Derivation, pair: Pair) -> Node | None:
    """E f g with f and g written in G-vars, each by the assignments of its run."""
    if not isinstance(pair.f, Pointwise) or not isinstance(pair.g, Pointwise):
        return None
    ranges = pair.context.all_ranges()
    f, g = flat(d, pair.f, pair.view.left, ranges), flat(d, pair.g, pair.view.right, ranges)
    if (f, g) == (pair.f, pair.g):
        return None
    return derived_second(d, replace(pair, f=f, g=g, context=pair.context.fresh(), part=True))


@first_moment(rank=50)
def mean_in_gaussians(d: Derivation, single: Single) -> Node | None:
    """E f with f written in G-vars."""
    if not isinstance(single.f, Pointwise):
        return None
    f = flat(d, single.f, single.view.left, single.context.all_ranges())
    if f == single.f:
        return None
    return derived_first(d, replace(single, kind=ir.MEAN, f=f, context=single.context.fresh(), part=True))
