"""Where an expression of one variable is zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy

MOST_ROOTS = 129
"""Of infinitely many roots, those nearest to zero that are listed."""
GRID = np.concatenate([-np.sinh(np.linspace(0, 7.6, 4001))[:0:-1], np.sinh(np.linspace(0, 7.6, 4001))])
"""Dense at 0 and reaching to ±1000."""
STRETCH = 100
"""So many zeros in a row are no roots, but a function that is zero on a stretch."""


@dataclass(frozen=True)
class Roots:
    """`places`: exact, or floats with all their digits. `located`: False where there may be others, which depend on
    parameters. `reach`: the distance from zero up to which all are listed, where there are more; `period`: where they
    repeat.
    """

    places: tuple[sympy.Expr, ...] = ()
    located: bool = True
    reach: float | None = None
    period: sympy.Expr | None = None


def roots(expr: sympy.Expr, symbol: sympy.Symbol, numeric) -> Roots:
    """The real roots of an expression in a symbol; `numeric(expr, symbols)` makes it a NumPy function.

    Of polynomials of degree 1 they are exact and may contain parameters, of other polynomials with numbers they are
    exact to double precision. Of a periodic function they are found on one period, of others on a grid, as changes of
    sign and as places where the function touches zero.
    """
    expr = sympy.expand(expr)
    if symbol not in expr.free_symbols or expr.is_nonzero or expr.is_positive or expr.is_negative:
        return Roots()
    if expr.is_polynomial(symbol) and sympy.degree(expr, symbol) == 1:
        slope, offset = sympy.Poly(expr, symbol).all_coeffs()
        return Roots((sympy.simplify(-offset / slope),))
    if expr.free_symbols != {symbol}:
        return Roots(located=False)
    if expr.is_polynomial(symbol):
        return Roots(tuple(_of_polynomial(expr, symbol)))
    period = _period(expr, symbol)
    function, slope = numeric(expr, [symbol]), numeric(expr.diff(symbol), [symbol])
    if period is not None:
        length = float(period)
        found = [r % length for r in _on_grid(function, slope, np.linspace(-0.503, 0.503, 2001) * length)]
        within = sorted({0.0 if min(r, length - r) < 1e-12 * length else r for r in found})
        distinct = [r for i, r in enumerate(within) if i == 0 or r - within[i - 1] > 1e-9 * length]
        turns = max(1, MOST_ROOTS // max(1, 2 * len(distinct)))
        places = sorted((r + length * n for r in distinct for n in range(-turns, turns)), key=abs)
        reach = turns * length if places else None
        return Roots(tuple(map(_number, places)), True, reach, period if places else None)
    found = sorted(_on_grid(function, slope, GRID), key=abs)
    reach = abs(found[MOST_ROOTS]) if len(found) > MOST_ROOTS else None
    return Roots(tuple(map(_number, found[:MOST_ROOTS])), True, reach)


def _number(root: float) -> sympy.Expr:
    return sympy.Integer(int(root)) if root == int(root) else sympy.Float(root)


def _of_polynomial(expr, symbol) -> list[sympy.Expr]:
    polynomial = sympy.Poly(expr, symbol)
    if all(a.is_Rational for a in polynomial.all_coeffs()):
        polynomial = polynomial.sqf_part()
    found = []
    for root in polynomial.nroots(n=30, maxsteps=200):
        real, imaginary = root.as_real_imag()
        if abs(imaginary) < 1e-13 * (1 + abs(real)):
            nearest = sympy.nsimplify(real, rational=True, tolerance=1e-25)
            exact = nearest.q < 10**6 and polynomial.eval(nearest) == 0
            found.append(nearest if exact else sympy.Float(real, 15))
    return found


def _period(expr, symbol) -> sympy.Expr | None:
    """A period, where the symbol stands in sines and cosines of commensurate slopes alone."""
    slopes: set[sympy.Expr] = set()

    def circular(part):
        if not isinstance(part, sympy.sin | sympy.cos) or not part.args[0].is_polynomial(symbol):
            return False
        polynomial = sympy.Poly(part.args[0], symbol)
        return polynomial.degree() == 1

    def replace(part):
        slopes.add(abs(sympy.Poly(part.args[0], symbol).LC()))
        return sympy.Dummy(real=True)

    if symbol in expr.replace(circular, replace).free_symbols or not slopes:
        return None
    first = sympy.Min(*slopes)
    ratios = [sympy.nsimplify(s / first) for s in slopes]
    if not all(r.is_Rational for r in ratios):
        return None
    return 2 * sympy.pi * sympy.ilcm(1, *(r.q for r in ratios)) / first


def _on_grid(function, slope, grid) -> list[float]:
    values = np.asarray(function(grid), float)
    zeros = np.flatnonzero(values == 0)
    if len(zeros) > STRETCH:  # as relu(relu(x)): the places are the inner function's
        found = [grid[i] for i in np.flatnonzero(np.diff((values == 0).astype(int)))]
        found = [0.0 if abs(root) < 0.01 else root for root in found]
    else:
        found = [grid[i] for i in zeros]
    for i in np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0):
        found.append(_bisect(function, grid[i], grid[i + 1]))
    size, sign = np.abs(values), np.sign(values)
    inner = size[1:-1]
    one_sided = (sign[:-2] * sign[2:] > 0) & (inner > 0)
    lowest = np.flatnonzero((inner < size[:-2]) & (inner <= size[2:]) & one_sided) + 1
    for i in lowest:  # it may touch zero there without a change of sign
        a, b = grid[i - 1], grid[i + 1]
        if slope(np.float64(a)) * slope(np.float64(b)) < 0:
            root = _bisect(slope, a, b)
            if abs(function(np.float64(root))) < 1e-13 * max(size[i - 1], size[i + 1]):
                found.append(root)
    return found


def _bisect(function, low, high) -> float:
    rising = function(np.float64(high)) > 0
    middle = low
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (low, middle) if (function(np.float64(middle)) > 0) == rising else (middle, high)
    # the end that is nearer, and zero where it is next to it
    best = min((low, high, middle), key=lambda x: abs(function(np.float64(x))))
    return 0.0 if abs(best) < 1e-15 else float(best)
