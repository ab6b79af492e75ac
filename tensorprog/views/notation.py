"""What a notation has words for, text or LaTeX, and the pieces that formulas are put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import sympy

from tensorprog.functions import lookup
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.views.layout import deepen

SUM, PRODUCT, ATOM = range(3)


@dataclass(frozen=True)
class Piece:
    """A formula and how tightly it holds together: SUM, PRODUCT or ATOM.

    One with a sum sign is `wide`: a factor behind it would read as a part of its body.
    """

    text: str
    level: int = ATOM
    wide: bool = False


class Notation(Protocol):
    """The words of a notation: text or LaTeX."""

    inline: int
    """Entries are put into a closed form up to this width; beyond it they get letters."""
    widest: int
    """A denominator beyond this width is taken apart into factors."""

    def width(self, text: str) -> int: ...
    def number(self, e: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> Piece: ...
    def affine(self, a: Affine) -> str: ...
    def member(self, name: str, indices: Sequence[Affine], primed: bool) -> str: ...
    def pair(self, kind: str, left: str, right: str) -> str: ...
    def mean(self, vector: str) -> str: ...
    def inner(self, left: str, right: str, feature: str) -> str: ...
    def parentheses(self, text: str) -> str: ...
    def times(self, factors: Sequence[str]) -> str: ...
    def over(self, numerator: str, denominator: Piece) -> str: ...
    def total(self, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece: ...
    def indicator(self, conditions: Sequence[str], negated: bool) -> str: ...
    def reduction(self, kind: str, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece: ...
    def softmax(self, range_: Range, at: str, body: str) -> Piece: ...
    def bounds(self, low: Sequence[str], middle: str, high: Sequence[str]) -> str: ...
    def equal(self, left: str, right: str) -> str: ...
    def expectation(self, body: str) -> str: ...
    def letter(self, name: str, number: int, primed: bool = False) -> str: ...
    def gaussian(
        self, letters: Sequence[str], means: Sequence[str] | None, covariance: Sequence[Sequence[str]]
    ) -> str: ...
    def moments(
        self,
        letters: Sequence[str],
        means: Sequence[tuple[str, str]],
        entries: Sequence[tuple[str, str, str]],
        zeros: bool,
    ) -> list[str]: ...
    def define(self, left: str, right: str) -> str: ...
    def element(self, letter: str, indices: Sequence[Affine]) -> str: ...
    def random(self, vector: str) -> str: ...
    def slope(self, of: str, by: str) -> str: ...
    def sampled(self, body: str) -> Piece: ...
    def over_gaussians(self, letters: Sequence[str], body: str) -> Piece: ...
    def members(self, letter: str, families: Sequence[str]) -> str: ...
    def call(self, name: str, argument: str) -> str: ...
    def laplace(self, letters: BatchLetters) -> tuple[Piece, list[str]]: ...


@dataclass(frozen=True)
class BatchLetters:
    """What stands in the integral of a batch normalization: an entry for each of its one or two batches.

    s: the Laplace variables; sizes: of the batches; eps: None where it is 0; blocks: the covariances, the cross one in
    the middle.
    """

    s: tuple[str, ...]
    sizes: tuple[str, ...]
    eps: tuple[Piece | None, ...]
    omega: str
    centring: str
    diagonal: str
    pi: str
    value: str
    blocks: tuple[str, ...]


def inside(piece: Piece) -> Piece:
    """A piece as a part of another: its places to break move in."""
    return Piece(deepen(piece.text), piece.level, piece.wide)


def tight(n: Notation, piece: Piece, last: bool = True) -> str:
    """A factor; in parentheses where it must be."""
    if piece.level == SUM or (piece.wide and not last):
        return n.parentheses(deepen(piece.text))
    return deepen(piece.text)


def decays(letters: BatchLetters) -> list[tuple[Piece, str, str]]:
    """(ε, size, Laplace variable) of the batches that have an ε."""
    every = zip(letters.eps, letters.sizes, letters.s, strict=True)
    return [(e, b, s) for e, b, s in every if e is not None]


def slopes_shown(slopes: tuple[sympy.Expr, sympy.Expr], z: Piece, notation: Notation) -> Piece:
    """α z + β |z|, with its name where it is relu."""
    x = sympy.Symbol("x", real=True)
    alpha, beta = slopes
    half = sympy.Rational(1, 2)
    relu = lookup("relu")
    assert relu is not None
    shown = relu.symbolic(x) if (alpha, beta) == (half, half) else alpha * x + beta * sympy.Abs(x)
    return notation.number(shown, {x: z})
