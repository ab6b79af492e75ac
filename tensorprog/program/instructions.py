"""The instructions of a program as records: what a member of a family is defined by.

Linear    Σ coefficient · C's · vector, under sums       (LinComb, readouts, the zero vector)
Multiply  W @ x                                          (MatMul)
Pointwise f(vectors; C's)                                (Nonlin, Moment)
Declared  drawn from a law                               (vector)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy

from tensorprog.errors import Span
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.language import syntax


@dataclass(frozen=True)
class Reference:
    """A member of a family."""

    name: str
    indices: tuple[Affine, ...]
    span: Span = field(default=syntax.NO_SPAN, compare=False)


@dataclass(frozen=True)
class Term:
    """coefficient · Π scalars · vector, summed over `sums` where `conditions` hold.

    vector None: the vector of ones. readout: v in v.T @ vector, or where there is no vector a random scalar, which
    stands for itself. `scalars` are expressions of C's.
    """

    coefficient: sympy.Expr
    scalars: tuple[ScalarForm, ...]
    vector: Reference | None
    readout: Reference | None
    sums: tuple[Range, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class ScalarForm:
    """A function of C's: `expression` with symbols standing for references or reductions over C's."""

    expression: sympy.Expr
    arguments: tuple[tuple[sympy.Symbol, ScalarLeaf], ...]


@dataclass(frozen=True)
class ScalarReduction:
    """max, min, prod, sum, mean or softmax of C's over a range; softmax is read at `at`."""

    kind: str
    range: Range
    body: ScalarForm
    at: Affine | None = None


@dataclass(frozen=True)
class ScalarChoice:
    """The value of the branch whose conditions hold (no two do), or 0."""

    branches: tuple[tuple[tuple[Condition, ...], ScalarForm], ...]


ScalarLeaf = Reference | ScalarReduction | ScalarChoice


@dataclass(frozen=True)
class Linear:
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Multiply:
    matrix: Reference
    vector: Reference
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Pointwise:
    """A coordinatewise function: symbols of `expression` stand for vectors, functions of C's, and reductions."""

    expression: sympy.Expr
    vectors: tuple[tuple[sympy.Symbol, Reference], ...]
    scalars: tuple[tuple[sympy.Symbol, ScalarForm], ...]
    reductions: tuple[tuple[sympy.Symbol, VectorReduction], ...] = ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """Every vector that it reads, those inside reductions too (their indices name the reductions' ranges)."""
        return (
            *(r for _, r in self.vectors),
            *(r for _, reduction in self.reductions for r in reduction.body.references),
        )


@dataclass(frozen=True)
class VectorReduction:
    """sum, mean, prod, max, min, softmax or batchnorm of a function of vectors over ranges, coordinate by coordinate.

    softmax and batchnorm are read at `at`, an index for each range; `eps` is batchnorm's.
    """

    kind: str
    ranges: tuple[Range, ...]
    body: Pointwise
    at: tuple[Affine, ...] = ()
    eps: ScalarForm | None = None


@dataclass(frozen=True)
class Declared:
    """A vector drawn at random: it is defined by its law alone."""


Instruction = Linear | Multiply | Pointwise | Declared


@dataclass(frozen=True)
class Case:
    """`target` over `binders` where `conditions` hold: the instruction `body`."""

    binders: tuple[Range, ...]
    target: tuple[Affine, ...]
    conditions: tuple[Condition, ...]
    body: Instruction
    span: Span = field(default=syntax.NO_SPAN, compare=False)
