"""Expressions and statements of Python, as far as emitted modules have them: plain frozen data.

    call("jnp.zeros", (size, 3), Name("dtype"))      jnp.zeros((T - 1, 3), dtype)

Signs stand in `Unary`: a Literal is never negative, so that a tree has the shape that Python reads in its print.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from types import EllipsisType


@dataclass(frozen=True)
class Expr:
    """An expression."""


@dataclass(frozen=True)
class Name(Expr):
    """A variable, or something in a module: `x`, `jnp.zeros`."""

    name: str


@dataclass(frozen=True)
class Literal(Expr):
    """A number that is not negative, a string, None, or an ellipsis."""

    value: int | float | bool | str | EllipsisType | None


@dataclass(frozen=True)
class Attribute(Expr):
    of: Expr
    name: str


@dataclass(frozen=True)
class Call(Expr):
    function: Expr
    arguments: tuple[Expr, ...]
    keywords: tuple[tuple[str, Expr], ...] = ()


@dataclass(frozen=True)
class Slice(Expr):
    """`start:stop:step`, as a place of an Index."""

    start: Expr | None = None
    stop: Expr | None = None
    step: Expr | None = None


@dataclass(frozen=True)
class Index(Expr):
    of: Expr
    places: tuple[Expr, ...]


@dataclass(frozen=True)
class Unary(Expr):
    """`-x`, `not x`."""

    op: str
    operand: Expr


@dataclass(frozen=True)
class Binary(Expr):
    """Arithmetic of two: + - * / // % ** & |."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Compare(Expr):
    """`first op x`, or in a chain `first op x op y`."""

    first: Expr
    rest: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True)
class Logic(Expr):
    """`x and y and z`, `x or y`: two operands and more."""

    op: str
    operands: tuple[Expr, ...]


@dataclass(frozen=True)
class Conditional(Expr):
    then: Expr
    test: Expr
    otherwise: Expr


@dataclass(frozen=True)
class Lambda(Expr):
    parameters: tuple[str, ...]
    body: Expr


@dataclass(frozen=True)
class Each(Expr):
    """`for variable in over`, in a comprehension."""

    variable: str
    over: Expr


@dataclass(frozen=True)
class Comprehension(Expr):
    """`[body for … in … if test]`; in parentheses where it is lazy."""

    body: Expr
    loops: tuple[Each, ...]
    test: Expr | None = None
    lazy: bool = False


@dataclass(frozen=True)
class TupleOf(Expr):
    """tall: an item a line, where a statement gives it a name or returns it."""

    items: tuple[Expr, ...]
    tall: bool = False


@dataclass(frozen=True)
class ListOf(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class DictOf(Expr):
    """tall: an item a line, where a statement gives it a name or returns it."""

    items: tuple[tuple[Expr, Expr], ...]
    tall: bool = False


@dataclass(frozen=True)
class Star(Expr):
    """`*x`, among arguments and items."""

    of: Expr


@dataclass(frozen=True)
class Array(Expr):
    """An expression of an array with these labelled dimensions, in their order. Nothing to Python: see `arrays`."""

    value: Expr
    dims: tuple[str, ...] = ()


# ---------------------------------------------------------------- statements


@dataclass(frozen=True)
class Statement:
    """A statement, or what stands in its place: a comment, an empty line."""


@dataclass(frozen=True)
class Let(Statement):
    """`target = value`; a TupleOf as target takes a value apart."""

    target: Expr
    value: Expr


@dataclass(frozen=True)
class Do(Statement):
    """An expression for what it does."""

    value: Expr


@dataclass(frozen=True)
class Return(Statement):
    value: Expr


@dataclass(frozen=True)
class Raise(Statement):
    error: Expr


@dataclass(frozen=True)
class Pass(Statement):
    pass


@dataclass(frozen=True)
class Comment(Statement):
    text: str


@dataclass(frozen=True)
class Blank(Statement):
    pass


@dataclass(frozen=True)
class If(Statement):
    test: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class For(Statement):
    variable: str
    over: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Def(Statement):
    """A function; the lines of `doc` are those of its docstring."""

    name: str
    parameters: tuple[str, ...]
    body: tuple[Statement, ...]
    doc: tuple[str, ...] = ()
    decorators: tuple[Expr, ...] = ()


# ---------------------------------------------------------------- making trees

Value = Expr | str | int | float | bool | None | Sequence["Value"]
"""What `tree` takes for an expression: a name, a number, a tuple."""


def tree(value: Value) -> Expr:
    """An expression from what stands for it: a name for a str, a literal for a number, tuples for tuples."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, str):
        return Name(value)
    if isinstance(value, bool) or value is None:
        return Literal(value)
    if isinstance(value, int | float):
        return Unary("-", Literal(-value)) if str(value).startswith("-") else Literal(value)
    if isinstance(value, list):
        return ListOf(tuple(tree(v) for v in value))
    return TupleOf(tuple(tree(v) for v in value))


def text(value: str) -> Literal:
    """A string."""
    return Literal(value)


def call(function: Value, *arguments: Value, **keywords: Value) -> Call:
    """A call; keywords in their order, those that are no string's name left to `Call` itself."""
    return Call(tree(function), tuple(map(tree, arguments)), tuple((k, tree(v)) for k, v in keywords.items()))


def index(of: Value, *places: Value) -> Index:
    return Index(tree(of), tuple(map(tree, places)))


def compare(left: Value, op: str, right: Value) -> Compare:
    return Compare(tree(left), ((op, tree(right)),))


def binary(op: str, left: Value, right: Value) -> Binary:
    return Binary(op, tree(left), tree(right))


def let(target: Value, value: Value) -> Let:
    return Let(tree(target), tree(value))


def every(op: str, tests: Sequence[Expr]) -> Expr:
    """All of the tests (and), or one of them (or); for none what holds of none."""
    if not tests:
        return Literal(op == "and")
    return tests[0] if len(tests) == 1 else Logic(op, tuple(tests))


def listing(body: Value, *loops: Each, test: Expr | None = None) -> Comprehension:
    return Comprehension(tree(body), loops, test)


def total(body: Expr, loops: Sequence[Each], test: Expr | None = None) -> Call:
    """Python's sum of a body over loops."""
    return Call(Name("sum"), (Comprehension(body, tuple(loops), test, lazy=True),))


def counting(low: Expr, high: Expr, step: int = 1) -> Call:
    """`range` from low to high, which is reached."""
    if step == -1:
        return call("range", high, minus(low, 1), -1)
    return call("range", low, plus(high, 1), *(() if step == 1 else (step,)))


def plus(e: Expr, by: int) -> Expr:
    return Binary("+", e, Literal(by))


def minus(e: Expr, by: int) -> Expr:
    return Binary("-", e, Literal(by))


# ---------------------------------------------------------------- sums and products


def added(terms: Iterable[Expr]) -> Expr:
    """The sum, from the left; a term that begins with a minus is taken away."""
    result: Expr | None = None
    for term in terms:
        for sign, part in _signed(term, first=result is None):
            result = part if result is None else Binary(sign, result, part)
    assert result is not None
    return result


def _signed(term: Expr, first: bool) -> list[tuple[str, Expr]]:
    """The terms of a sum, each with its sign; the very first of all keeps its minus."""
    inner = term.value if isinstance(term, Array) else term
    if isinstance(inner, Binary) and inner.op in "+-":
        return [*_signed(inner.left, first), (inner.op, inner.right)]
    positive = None if first else without_minus(term)
    return [("+", term)] if positive is None else [("-", positive)]


def without_minus(e: Expr) -> Expr | None:
    """What -e is, where e begins with a minus: x * y for -x * y. None where it does not."""
    match e:
        case Array(value, dims):
            positive = without_minus(value)
            return None if positive is None else Array(positive, dims)
        case Unary("-", operand):
            return operand
        case Binary("*", Unary("-", Literal(1)), right):
            return right
        case Binary("*" | "/" as op, left, right):
            positive = without_minus(left)
            return None if positive is None else Binary(op, positive, right)
    return None


def multiplied(factors: Iterable[Expr], op: str = "*") -> Expr:
    """The product from the left, or another operation."""
    first, *others = factors
    for factor in others:
        first = Binary(op, first, factor)
    return first


# ---------------------------------------------------------------- asking


def is_number(e: Expr) -> bool:
    """Whether an expression is a number as written, with or without a sign."""
    if isinstance(e, Array):
        return is_number(e.value)
    if isinstance(e, Unary):
        return e.op == "-" and is_number(e.operand)
    return isinstance(e, Literal) and isinstance(e.value, int | float) and not isinstance(e.value, bool)


def parts(e: Expr) -> Iterable[Expr]:
    """The expressions right under an expression."""
    for f in fields(e):
        yield from _parts(getattr(e, f.name))


def _parts(value: object) -> Iterable[Expr]:
    if isinstance(value, Expr):
        yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _parts(v)


def walk(e: Expr) -> Iterable[Expr]:
    yield e
    for p in parts(e):
        yield from walk(p)


def names(e: Expr) -> set[str]:
    """The names that an expression has, bound ones too."""
    return {x.name for x in walk(e) if isinstance(x, Name)}
