"""Sums, products and quotients of expressions, without the zeros and ones that a derivative brings."""

from __future__ import annotations

from tensorprog.index.affine import Affine
from tensorprog.language import syntax
from tensorprog.language.syntax import Binary, Expr, Negate, Number
from tensorprog.program.desugar import bound_expression

ZERO = Number("0")
ONE = Number("1")
_AT = syntax.Name("")


def is_number(e: Expr, value: int) -> bool:
    return isinstance(e, Number) and float(e.text) == value


def add(a: Expr, b: Expr) -> Expr:
    """a + b: `x + -y` and `-y + x` are x - y."""
    if is_number(a, 0):
        return b
    if is_number(b, 0):
        return a
    if isinstance(b, Negate):
        return subtract(a, b.operand)
    if isinstance(a, Negate):
        return subtract(b, a.operand)
    return Binary("+", a, b)


def subtract(a: Expr, b: Expr) -> Expr:
    if is_number(b, 0):
        return a
    if is_number(a, 0):
        return negate(b)
    if isinstance(b, Negate):
        return add(a, b.operand)
    return Binary("-", a, b)


def negate(a: Expr) -> Expr:
    if is_number(a, 0):
        return ZERO
    return a.operand if isinstance(a, Negate) else Negate(a)


def multiply(a: Expr, b: Expr) -> Expr:
    """a * b, with a sign taken outside, and factors from the left: `a * (b * c)` is (a * b) * c."""
    if is_number(a, 0) or is_number(b, 0):
        return ZERO
    if isinstance(a, Negate):
        return negate(multiply(a.operand, b))
    if isinstance(b, Negate):
        return negate(multiply(a, b.operand))
    if is_number(a, 1):
        return b
    if is_number(b, 1):
        return a
    if isinstance(b, Binary) and b.op in "*/" and len(b.op) == 1:
        return Binary(b.op, multiply(a, b.left), b.right)
    return Binary("*", a, b)


def divide(a: Expr, b: Expr) -> Expr:
    if is_number(a, 0):
        return ZERO
    if isinstance(a, Negate):
        return negate(divide(a.operand, b))
    return a if is_number(b, 1) else Binary("/", a, b)


def power(a: Expr, exponent: Expr) -> Expr:
    if is_number(exponent, 0):
        return ONE
    return a if is_number(exponent, 1) else Binary("**", a, exponent)


def affine_expression(a: Affine) -> Expr:
    """An affine form as syntax: `l + 1`, `2 * i`."""
    positive_first = sorted(a.terms, key=lambda term: term[1] < 0)
    return bound_expression(Affine(a.constant, tuple(positive_first)), _AT)
