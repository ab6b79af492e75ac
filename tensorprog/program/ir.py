"""The Program: families of vectors over index sets, defined by the five instructions.

A family is one node, whatever the number of its members: a 32×32 image is one family with two axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import sympy

from tensorprog.errors import Span
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.language import syntax
from tensorprog.program.types import Position, Type


@dataclass(frozen=True)
class Parameter:
    """A parameter of the header.

    kind: "integer", "real", "function", "size" (an integer that may be read off the data's axes) or "unused" (one
    without a value that stands nowhere).
    value: int, sympy number, name of a function, or None where it is open.
    """

    name: str
    kind: str
    value: int | sympy.Expr | str | None
    span: Span = field(default=syntax.NO_SPAN, compare=False)


@dataclass(frozen=True)
class Law:
    """`N(mean, variance) * multiplier`, sympy expressions in the real parameters and the widths."""

    mean: sympy.Expr
    variance: sympy.Expr
    multiplier: sympy.Expr


@dataclass(frozen=True)
class Clause:
    """One assignment to a family: `target` over `loops`, outer index first.

    `reverse[i]` says that loop i counts down. `value` is a core expression: an instruction
    (a Call of MatMul, LinComb, Nonlin, Moment or Trsp), a Conditional of such, a readout of an output.
    `position` locates the assignment in the nest of loops: see order.py.
    """

    loops: tuple[Range, ...]
    reverse: tuple[bool, ...]
    target: tuple[Affine, ...]
    value: syntax.Expr
    position: tuple[int, ...]
    span: Span = field(default=syntax.NO_SPAN, compare=False)


@dataclass(frozen=True)
class Family:
    """Vectors, matrices or scalars over an index set.

    role: "input", "weight", "vector" and "scalar" (drawn at random), "assigned" or "output".
    ranges: the hull of the index set, an axis each, named by the declaration or the first assignment.
    transpose_of: the weight that a `Trsp` names again.
    stands_for: the weight whose transpose this fresh matrix stands for; both are one trained parameter.
    """

    name: str
    role: str
    type: Type
    ranges: tuple[Range, ...]
    law: Law | None = None
    fixed: bool = False
    clauses: tuple[Clause, ...] = ()
    transpose_of: str | None = None
    stands_for: str | None = None
    span: Span = field(default=syntax.NO_SPAN, compare=False)


@dataclass(frozen=True)
class Function:
    """A coordinatewise `def` of the program: `body` in sympy, over `arguments`, and over real parameters."""

    name: str
    arguments: tuple[sympy.Symbol, ...]
    defaults: tuple[sympy.Expr | None, ...]
    body: sympy.Expr


@dataclass(frozen=True)
class Program:
    """A typed program in core form.

    widths: name → ratio to n, a positive sympy number, `n` itself 1.
    features: sizes d that data give.
    text: the core form as syntax, which `str()` prints.
    source, written: what the program was made of, as text and as syntax; spans are places in it.
    """

    name: str
    parameters: tuple[Parameter, ...]
    widths: Mapping[str, sympy.Expr]
    features: tuple[str, ...]
    functions: Mapping[str, Function]
    families: Mapping[str, Family]
    text: syntax.ProgramText
    source: str = field(compare=False, repr=False)
    filename: str = field(compare=False, repr=False)
    written: syntax.ProgramText = field(compare=False, repr=False)

    @property
    def integers(self) -> dict[str, int]:
        """The integer parameters whose values are known."""
        return {p.name: p.value for p in self.parameters if isinstance(p.value, int) and p.kind in ("integer", "size")}

    @cached_property
    def open_sizes(self) -> tuple[str, ...]:
        """Integer parameters without a value: read off the data, or to be passed."""
        return tuple(p.name for p in self.parameters if p.kind in ("integer", "size") and p.value is None)

    @property
    def of_runs(self) -> tuple[str, ...]:
        """What indices are made of and each run has its own: open sizes, and inputs that hold indices."""
        return (*self.open_sizes, *(f.name for f in self.inputs if isinstance(f.type, Position)))

    @property
    def reals(self) -> dict[str, sympy.Expr | None]:
        """The real parameters and their values (None where open)."""
        return {p.name: p.value for p in self.parameters if p.kind == "real"}

    @cached_property
    def outputs(self) -> tuple[Family, ...]:
        return tuple(f for f in self.families.values() if f.role == "output")

    @cached_property
    def inputs(self) -> tuple[Family, ...]:
        return tuple(f for f in self.families.values() if f.role == "input")

    @cached_property
    def trained(self) -> tuple[str, ...]:
        """The weights, vectors and scalars that are drawn and not fixed."""
        return tuple(f.name for f in self.families.values() if f.law is not None and not f.fixed and not f.stands_for)

    def with_family(self, family: Family) -> Program:
        return replace(self, families={**self.families, family.name: family})
