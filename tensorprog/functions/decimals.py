"""Fractions of large integers, which decimals become when they meet, written as the decimals they are."""

from __future__ import annotations

import sympy

LARGEST_EXACT = 2**24
"""Fractions of integers up to this are written as such: float32 holds them, and so do JAX's integers."""


def rounded(expr: sympy.Expr) -> sympy.Expr:
    """The expression with a float for every fraction of large integers. Raises ValueError where no float holds it."""
    return _replaced(expr, _float)


def decimals(expr: sympy.Expr) -> sympy.Expr:
    """As `rounded`, but only for fractions that the float prints exactly, so that a text parses back to the same."""
    return _replaced(expr, lambda r: f if sympy.Rational(repr(float(f := _float(r)))) == r else r)


def _replaced(expr, replacement):
    large = [r for r in expr.atoms(sympy.Rational) if max(abs(r.p), r.q) > LARGEST_EXACT]
    return expr.xreplace({r: replacement(r) for r in large}) if large else expr


def _float(number: sympy.Rational) -> sympy.Float:
    try:
        return sympy.Float(number.p / number.q)  # correctly rounded, also where p or q alone has no float
    except OverflowError:
        raise ValueError(f"the number {sympy.Float(number, 3)} is larger than floats are") from None
