"""What a function of one variable does at a place: continuous, how often, how steep, or not there at all.

Values on both sides, close to the place, are taken with many digits, so that differences tell limits from slopes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mpmath
import numpy as np
import sympy

DIGITS = 100
MOST_ORDER = 3
"""Derivatives are looked at up to this order: a place where they are continuous and more are not has this level."""
_EXACT, _SEARCHED = (1e-8, 1e-11, 1e-14), (1e-5, 1e-7, 1e-9)
"""Distances: the first two tell a gap from a slope, the last two what grows from what passes a zero nearby."""


@dataclass(frozen=True)
class Place:
    """level: how many derivatives are continuous, counted from -1 for none, not even the function; None where the
    function is analytic on both sides alike. edge: the function is not real, or not a number, on one side.
    exponents: with s and t, |f - its limits| and |f'| go like distance**s and distance**t, where they are unbounded.
    """

    level: int | None
    edge: bool = False
    exponents: tuple[float, float] = (0.0, 0.0)

    @property
    def infinite(self) -> bool:
        """Whether f², times a density, has no finite integral."""
        return self.exponents[0] <= -0.5 + 0.02

    @property
    def steep(self) -> bool:
        """Whether f'² has none."""
        return self.exponents[1] <= -0.5 + 0.02


def value(expr: sympy.Expr, symbol: sympy.Symbol, at: sympy.Expr | float) -> mpmath.mpf | None:
    """f(at) with DIGITS digits, None where it is no finite real number."""
    try:
        with mpmath.workdps(DIGITS):
            result = expr.xreplace({symbol: sympy.Float(at, DIGITS)}).evalf(DIGITS)
            if not result.is_Float and not result.is_Rational:
                return None
            number = mpmath.mpf(result._mpf_ if result.is_Float else mpmath.mpf(result.p) / result.q)
            return number if mpmath.isfinite(number) else None
    except (TypeError, ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def look(expr: sympy.Expr, symbol: sympy.Symbol, at: sympy.Expr, exact: bool) -> Place:
    """What the expression, free of other symbols, does at a place, which is `exact` or known to double precision."""
    place = at.evalf(DIGITS)
    steps = [sympy.Float(h, DIGITS) * max(1, abs(place)) for h in (_EXACT if exact else _SEARCHED)]
    noise = mpmath.mpf(10) ** (-DIGITS // 2 if exact else -13)
    derivative, level = expr, MOST_ORDER
    exponents = [0.0, 0.0]
    for order in range(MOST_ORDER + 1):
        sides = [[value(derivative, symbol, place + s * h) for h in steps] for s in (-1, 1)]
        below, above = ([v for v in side if v is not None] for side in sides)
        if len(below) + len(above) < 2 * len(steps):
            return Place(order - 1, order == 0, (exponents[0], exponents[1]))
        # what is nothing but rounding, as in a function that is zero all around, does not grow
        found = [[abs(v) if abs(v) > noise else mpmath.mpf(0) for v in side] for side in (below, above)]
        growth = min(_exponent(near, nearest, steps[1:]) for _, near, nearest in found)
        gap = [abs(a - b) for a, b in zip(below, above, strict=True)]
        unbounded = growth < -0.02
        if unbounded and order < 2:
            exponents[order] = growth
        if unbounded or not _vanishes(gap, steps, noise * (1 + max(abs(v) for v in (*below, *above)))):
            level = order - 1
            break
        derivative = derivative.diff(symbol)
    if level == -1 and exponents[0]:  # the slope of what is unbounded
        exponents[1] = exponents[0] - 1
    if level == MOST_ORDER and _analytic(expr, symbol, place, steps[0]):
        return Place(None)
    return Place(level, False, (exponents[0], exponents[1]))


def _exponent(first, second, steps) -> float:
    """s where the size goes like distance**s."""
    if not first or not second:
        return 0.0 if first == second else math.inf
    return float(mpmath.log(second / first) / mpmath.log(mpmath.mpf(float(steps[1] / steps[0]))))


def _vanishes(gap, steps, noise) -> bool:
    """Whether the difference between both sides goes to zero with the distance."""
    return gap[1] <= noise or _exponent(gap[0], gap[1], steps) > 0.02


def _analytic(expr, symbol, place, step) -> bool:
    """Whether one polynomial through points on both sides meets the function at other points."""
    return polynomial(expr, symbol, place, 1000 * float(step), 1e-20) is not None


def polynomial(expr, symbol, place, reach: float, tolerance: float, terms: int = 12) -> list[float] | None:
    """Coefficients, from the constant on, in x - place of what equals the function within `reach`, or None."""
    with mpmath.workdps(DIGITS):
        nodes = [mpmath.mpf(float(reach * np.cos(np.pi * (i + 0.5) / terms))) for i in range(terms)]
        found = [value(expr, symbol, place + sympy.Float(x, DIGITS)) for x in nodes]
        values = [v for v in found if v is not None]
        if len(values) < len(found):
            return None
        scaled = [x / reach for x in nodes]
        matrix = mpmath.matrix([[x**j for j in range(terms)] for x in scaled])
        try:
            solved = mpmath.lu_solve(matrix, mpmath.matrix(values))
        except ZeroDivisionError:
            return None
        size = max(mpmath.mpf(10) ** (-DIGITS // 2), *(abs(v) for v in values))  # below is rounding
        for fraction in (-0.9, -0.31, 0.12, 0.57, 0.96):
            there = value(expr, symbol, place + sympy.Float(fraction * reach, DIGITS))
            if there is None or abs(there - mpmath.polyval(solved[::-1], fraction)) > tolerance * size:
                return None
        return [float(solved[j] / mpmath.mpf(reach) ** j) for j in range(terms)]
