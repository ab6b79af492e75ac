"""Expressions of programs put together in Python: `W @ s[t - 1] + U @ x[t] + b` of terms is the syntax of that text.

    s, t = name("s"), name("t")
    print(2 * name("relu")(s[t - 1]) / 3)          2 * relu(s[t-1]) / 3

An index or a number that Python knows stands in as it is; a name may be given as a string where a term is expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Integral, Rational, Real
from typing import Any

from tensorprog.language import syntax
from tensorprog.language.printer import print_expression
from tensorprog.language.syntax_errors import KEYWORDS

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

Value = "Term | str | int | float | Fraction"
Ends = Sequence[Any]
"""The range of an index: (low, high), or (high, low, -1) downwards."""


class Term:
    """An expression of the language; `tree` is its syntax.

    Arithmetic, `@`, `%` (which is `mod`), indices in brackets, `.T` and calls put terms together; comparisons give
    conditions, which `&`, `|` and `~` put together and `where` takes.
    """

    __slots__ = ("tree",)
    __array_ufunc__ = None  # arrays leave their operators to terms, which refuse them
    __iter__ = None  # brackets are indices, and have no end

    def __init__(self, tree: syntax.Expr):
        self.tree = tree

    def __repr__(self) -> str:
        return f"<Term {print_expression(self.tree)}>"

    def __str__(self) -> str:
        return print_expression(self.tree)

    def __bool__(self) -> bool:
        raise TypeError(f"{self} is a term of a program and has no truth value here")

    __hash__ = None  # type: ignore[assignment]

    # ------------------------------------------------------------ arithmetic

    def __add__(self, other: Any) -> Term:
        return _binary("+", self, other)

    def __radd__(self, other: Any) -> Term:
        return _binary("+", other, self)

    def __sub__(self, other: Any) -> Term:
        return _binary("-", self, other)

    def __rsub__(self, other: Any) -> Term:
        return _binary("-", other, self)

    def __mul__(self, other: Any) -> Term:
        return _binary("*", self, other)

    def __rmul__(self, other: Any) -> Term:
        return _binary("*", other, self)

    def __truediv__(self, other: Any) -> Term:
        return _binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Term:
        return _binary("/", other, self)

    def __pow__(self, other: Any) -> Term:
        return _binary("**", self, other)

    def __matmul__(self, other: Any) -> Term:
        return _binary("@", self, other)

    def __mod__(self, other: Any) -> Term:
        return _binary("mod", self, other)

    def __rmod__(self, other: Any) -> Term:
        return _binary("mod", other, self)

    def __neg__(self) -> Term:
        return Term(syntax.Negate(self.tree))

    @property
    def T(self) -> Term:
        """The transpose of a matrix, or a vector as the readout's left factor."""
        if not isinstance(self.tree, syntax.Name | syntax.Index):
            raise TypeError(f"{self}: only a matrix or a vector with a name has a transpose")
        return Term(syntax.Transpose(self.tree))

    def __getitem__(self, indices: Any) -> Term:
        if not isinstance(self.tree, syntax.Name):
            raise TypeError(f"{self} has no indices: only a name has")
        several = indices if isinstance(indices, tuple) else (indices,)
        return Term(syntax.Index(self.tree.name, tuple(expression(i) for i in several)))

    def __call__(self, *arguments: Any, **keywords: Any) -> Term:
        if not isinstance(self.tree, syntax.Name):
            raise TypeError(f"{self} is no function: only a name is")
        return call(self.tree.name, *arguments, **keywords)

    # ------------------------------------------------------------ conditions

    def __lt__(self, other: Any) -> IndexCondition:
        return _compared("<", self, other)

    def __le__(self, other: Any) -> IndexCondition:
        return _compared("<=", self, other)

    def __gt__(self, other: Any) -> IndexCondition:
        return _compared(">", self, other)

    def __ge__(self, other: Any) -> IndexCondition:
        return _compared(">=", self, other)

    def __eq__(self, other: Any) -> IndexCondition:  # type: ignore[override]
        return _compared("==", self, other)

    def __ne__(self, other: Any) -> IndexCondition:  # type: ignore[override]
        return _compared("!=", self, other)


class IndexCondition:
    """A condition on indices; `tree` is its syntax."""

    __slots__ = ("tree",)

    def __init__(self, tree: syntax.Condition):
        self.tree = tree

    def __and__(self, other: IndexCondition) -> IndexCondition:
        return IndexCondition(syntax.And(self.tree, other.tree))

    def __or__(self, other: IndexCondition) -> IndexCondition:
        return IndexCondition(syntax.Or(self.tree, other.tree))

    def __invert__(self) -> IndexCondition:
        return IndexCondition(syntax.Not(self.tree))

    def __bool__(self) -> bool:
        raise TypeError("a condition on indices has no truth value here: choose with where(condition, then, otherwise)")


def name(text: str) -> Term:
    """What has this name in the program. Raises ValueError for what is none."""
    return Term(syntax.Name(checked_name(text)))


def checked_name(text: str) -> str:
    """A name of the language. Raises ValueError for what is none."""
    if not isinstance(text, str) or not _NAME.match(text) or text in KEYWORDS:
        raise ValueError(f"{text!r} is no name: letters, digits and _, no digit first, and no word of the language")
    return text


def expression(value: Any) -> syntax.Expr:
    """The syntax of a term, a number or a name.

    Raises TypeError for anything else, ValueError for a number that is not finite or a string that is no name.
    """
    match value:
        case Term():
            return value.tree
        case str():
            return name(value).tree
        case bool():
            raise TypeError(f"{value} is no term of a program")
        case Integral():
            return _signed(int(value))  # type: ignore[call-overload]
        case Rational():
            top = _signed(int(value.numerator))
            return top if value.denominator == 1 else syntax.Binary("/", top, syntax.Number(str(value.denominator)))
        case Real():
            number = float(value)
            if not isfinite(number):
                raise ValueError(f"{value} is no number of a program")
            return _signed(int(number) if number.is_integer() and abs(number) < 1e15 else number)
    raise TypeError(f"{value!r} is no term of a program: a term, a number or a name is needed")


def _signed(value: int | float) -> syntax.Expr:
    return syntax.Negate(syntax.Number(repr(-value))) if value < 0 else syntax.Number(repr(value))


def _binary(op: str, left: Any, right: Any) -> Term:
    try:
        return Term(syntax.Binary(op, expression(left), expression(right)))
    except TypeError:
        if not (isinstance(left, Term | str | Real) and isinstance(right, Term | str | Real)):
            return NotImplemented
        raise


def _compared(op: str, left: Any, right: Any) -> IndexCondition:
    return IndexCondition(syntax.Comparison(op, expression(left), expression(right)))


# ---------------------------------------------------------------- what no operator says


def call(function: str, *arguments: Any, **keywords: Any) -> Term:
    """`function(a, b, name = c)`; also MatMul, LinComb, Nonlin, Moment and Trsp, the instructions of the core form."""
    named = tuple((checked_name(k), expression(v)) for k, v in keywords.items())
    return Term(syntax.Call(checked_name(function), tuple(map(expression, arguments)), named))


def derivative(function: str | syntax.DerivativeOf, *arguments: Any, by: int | None = None, **keywords: Any) -> Term:
    """`D(function)(a)`, or `D[by](function)(a, b)` by one of its arguments, counted from 1."""
    named = tuple((checked_name(k), expression(v)) for k, v in keywords.items())
    return Term(syntax.DerivativeCall(function, by, tuple(map(expression, arguments)), named))


def where(condition: IndexCondition, then: Any, otherwise: Any = 0) -> Term:
    """`then if condition else otherwise`."""
    return Term(syntax.Conditional(expression(then), condition.tree, expression(otherwise)))


def guarded(value: Any, otherwise: Any = 0) -> Term:
    """`(value else otherwise)`: otherwise, where an index inside is out of range."""
    return Term(syntax.Guard(expression(value), expression(otherwise)))


def over(function: str, body: Any, ranges: Mapping[str, Ends | None], **keywords: Any) -> Term:
    """`sum[t = 1..T](body)`, and mean, prod, max, min, softmax, batchnorm: `over("sum", s[t], {"t": (1, T)})`.

    A range that is None, of softmax and batchnorm, is that of the index outside.
    """
    named = tuple((checked_name(k), expression(v)) for k, v in keywords.items())
    return Term(syntax.Reduction(checked_name(function), binders(ranges), expression(body), named))


def inner(x: Any, y: Any = None, width: str = "n") -> Term:
    """`<x, y> / n`, or `<x> / n`, the mean of the coordinates of x."""
    operands = (expression(x),) if y is None else (expression(x), expression(y))
    return Term(syntax.Bracket(operands, expression(width)))


def binders(ranges: Mapping[str, Ends | None]) -> tuple[syntax.Binder, ...]:
    """`i = 1..H, j = 1..W`. Raises ValueError where a range has not two ends, and a step at the most."""
    found = []
    for index, ends in ranges.items():
        if ends is not None and len(ends) not in (2, 3):
            raise ValueError(f"the range of {index} is (low, high), or (high, low, -1), not {tuple(ends)!r}")
        low, high, step = (*map(expression, ends or ()), None, None, None)[:3]
        found.append(syntax.Binder(checked_name(index), low, high, step))
    return tuple(found)
