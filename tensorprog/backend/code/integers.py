"""Trees of integer expressions: affine forms, bounds and conditions of indices."""

from __future__ import annotations

from collections.abc import Callable

from tensorprog.backend.code.tree import Binary, Compare, Expr, Literal, Unary, call, compare
from tensorprog.index.affine import Affine, Quotient, Remainder
from tensorprog.index.bounds import Bound, Extreme
from tensorprog.index.conditions import Condition

Symbols = Callable[[str], Expr]
"""The variable of a symbol."""


def integer(e: Affine, names: Symbols) -> Expr:
    """An integer expression; what is taken away stands behind what is added."""
    result: Expr | None = None
    for s, c in sorted(e.terms, key=lambda term: term[1] < 0):
        variable = _symbol(s, names)
        if result is None:
            result = _first(variable, c)
        else:
            part = variable if abs(c) == 1 else Binary("*", Literal(abs(c)), variable)
            result = Binary("-" if c < 0 else "+", result, part)
    number = Literal(abs(e.constant))
    if result is None:
        return Unary("-", number) if e.constant < 0 else number
    return result if not e.constant else Binary("-" if e.constant < 0 else "+", result, number)


def _first(variable: Expr, c: int) -> Expr:
    if abs(c) == 1:
        return variable if c == 1 else Unary("-", variable)
    factor: Expr = Literal(abs(c))
    return Binary("*", factor if c > 0 else Unary("-", factor), variable)


def _symbol(s: str, names: Symbols) -> Expr:
    if isinstance(s, Quotient):
        return Binary("//", integer(s.numerator, names), Literal(s.divisor))
    if isinstance(s, Remainder):
        return Binary("%", integer(s.numerator, names), integer(s.divisor, names))
    return names(s)


def bound(b: Bound, names: Symbols) -> Expr:
    if isinstance(b, Extreme):
        return call(b.kind, *(bound(x, names) for x in b.arguments))
    return integer(b, names)


def test(c: Condition, names: Symbols) -> Compare:
    """Whether a condition holds."""
    return compare(integer(c.expression, names), c.op, 0)
