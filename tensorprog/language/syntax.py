"""The abstract syntax of `.netsor`: one frozen dataclass a construct, each with its place in the text.

Spans do not take part in equality, so `parse(print(tree)) == tree` can be asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.errors import Span

NO_SPAN = Span()


def _span() -> Span:
    return field(default=NO_SPAN, compare=False, repr=False)


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Number:
    """A literal, kept as written: `text` is "2", "0.5", "1e-3"."""

    text: str
    span: Span = _span()


@dataclass(frozen=True)
class Name:
    """A bare name: parameter, index, width, size, variable without indices, function as an argument."""

    name: str
    span: Span = _span()


@dataclass(frozen=True)
class Index:
    """`x[e1, e2, …]`: the member of a family."""

    name: str
    indices: tuple[Expr, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Transpose:
    """`W.T`, `W[l].T`, `v[i].T`."""

    operand: Name | Index
    span: Span = _span()


@dataclass(frozen=True)
class Negate:
    """`-e`."""

    operand: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Binary:
    """`left op right` with op one of + - * / @ **, or `mod` in indices, ranges and conditions."""

    op: str
    left: Expr
    right: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Conditional:
    """`then if condition else otherwise`."""

    then: Expr
    condition: Condition
    otherwise: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Guard:
    """`( value else otherwise )`: otherwise, where an index inside is out of range."""

    value: Expr
    otherwise: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Call:
    """`f(a, b, name = c)`; also the core instructions MatMul, LinComb, Nonlin, Moment, Trsp, and layernorm."""

    function: str
    arguments: tuple[Expr, ...]
    keywords: tuple[tuple[str, Expr], ...] = ()
    span: Span = _span()


@dataclass(frozen=True)
class DerivativeCall:
    """`D(f)(x)` (argument None) or `D[i](f)(x, y)`: the partial derivative by argument i, from 1.

    `function` is the name of a function, or a DerivativeOf for `D(D(f))(x)`.
    """

    function: str | DerivativeOf
    argument: int | None
    arguments: tuple[Expr, ...]
    keywords: tuple[tuple[str, Expr], ...] = ()
    span: Span = _span()


@dataclass(frozen=True)
class DerivativeOf:
    """`D(f)` or `D[i](f)` where it is itself differentiated."""

    function: str | DerivativeOf
    argument: int | None
    span: Span = _span()


@dataclass(frozen=True)
class Reduction:
    """`sum[j = 1..i, k = 1..K](e)`, mean, prod, max, min, and the maps softmax[j](e), batchnorm[b](e, eps = 0).

    A binder without a range (`softmax[j](e)`) has `low` and `high` None: the index is bound outside.
    """

    function: str
    binders: tuple[Binder, ...]
    body: Expr
    keywords: tuple[tuple[str, Expr], ...] = ()
    span: Span = _span()


@dataclass(frozen=True)
class Bracket:
    """`<x> / n` and `<x, y> / n`; `width` is what stands behind the slash (`n`), which belongs to the bracket."""

    operands: tuple[Expr, ...]
    width: Expr
    span: Span = _span()


Expr = (
    Number
    | Name
    | Index
    | Transpose
    | Negate
    | Binary
    | Conditional
    | Guard
    | Call
    | DerivativeCall
    | Reduction
    | Bracket
)


# ---------------------------------------------------------------- conditions


@dataclass(frozen=True)
class Comparison:
    """`left op right` with op one of == != < <= > >=, between integers."""

    op: str
    left: Expr
    right: Expr
    span: Span = _span()


@dataclass(frozen=True)
class And:
    left: Condition
    right: Condition
    span: Span = _span()


@dataclass(frozen=True)
class Or:
    left: Condition
    right: Condition
    span: Span = _span()


@dataclass(frozen=True)
class Not:
    operand: Condition
    span: Span = _span()


Condition = Comparison | And | Or | Not


# ---------------------------------------------------------------- declarations and statements


@dataclass(frozen=True)
class Binder:
    """`i = low..high` or `i = high..low by -1`; both None where the range is left out."""

    name: str
    low: Expr | None = None
    high: Expr | None = None
    step: Expr | None = None
    span: Span = _span()


@dataclass(frozen=True)
class TypeName:
    """`A(n, m)`, `G(n)`, `H(n)`, `R(d)`, `C`."""

    name: str
    arguments: tuple[Expr, ...] = ()
    span: Span = _span()


@dataclass(frozen=True)
class Parameter:
    """A parameter of the header, with its default where it has one.

    The default is an expression (`1`, `1/3`, `2 * depth`) or a Name of a function (`erf`).
    """

    name: str
    default: Expr | None = None
    span: Span = _span()


@dataclass(frozen=True)
class Law:
    """`N(mean, variance) * multiplier`; `/ e` is kept as written by `divides`.

    `multiplier` is None where there is no factor. `N(0, 1) * a / b` parses as multiplier a / b.
    """

    mean: Expr
    variance: Expr
    multiplier: Expr | None = None
    divides: bool = False
    span: Span = _span()


@dataclass(frozen=True)
class Width:
    """`width m = 2 * n`."""

    name: str
    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Variable:
    """A declared name with the ranges of its family: `W[l = 2..L]`."""

    name: str
    axes: tuple[Binder, ...] = ()
    span: Span = _span()


@dataclass(frozen=True)
class Input:
    """`input x[t = 1..T] : R(d)`."""

    variables: tuple[Variable, ...]
    type: TypeName
    span: Span = _span()


@dataclass(frozen=True)
class Random:
    """`weight W1, W2 : A(n, n) ~ law`, `vector b : G(n) ~ law`, `scalar c ~ law` (of type C), any of them `fixed`."""

    kind: str  # "weight", "vector" or "scalar"
    fixed: bool
    variables: tuple[Variable, ...]
    type: TypeName
    law: Law
    span: Span = _span()


@dataclass(frozen=True)
class Definition:
    """`def gate(x) := (1 + erf(x)) / 2`; parameters may have defaults."""

    name: str
    parameters: tuple[Parameter, ...]
    body: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Assignment:
    """`h[t, i = 1..H] := value : G(n)`, with `output` in front for an output.

    An index is an expression or a Binder (which binds it over its range).
    """

    name: str
    indices: tuple[Expr | Binder, ...]
    value: Expr
    annotation: TypeName | None = None
    output: bool = False
    span: Span = _span()


@dataclass(frozen=True)
class For:
    """`for l = 1..L, i = 1..T by 2:` and its indented block."""

    binders: tuple[Binder, ...]
    body: tuple[Statement, ...]
    span: Span = _span()


Statement = Width | Input | Random | Definition | Assignment | For


@dataclass(frozen=True)
class ProgramText:
    """A whole program as written. `comment` is the text of the comment lines above the header."""

    name: str
    parameters: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    comment: str = field(default="", compare=False)
    span: Span = _span()
