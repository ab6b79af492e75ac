"""Where a function is not smooth, and how it grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from tensorprog.functions.registry import by_head, head, heads

SMOOTH = 99
"""`Facts.continuity` of a function without kinks."""


@dataclass(frozen=True)
class Facts:
    """What quadrature and the theorems need to know of a function of one variable."""

    kinks: tuple[sympy.Expr, ...]
    """Where the function is continuous and some derivative jumps or is singular."""
    jumps: tuple[sympy.Expr, ...]
    """Where the function itself jumps."""
    growth: str
    """"bounded", "polynomial", "exponential" (exp(O(|x|))) or "beyond"."""
    continuity: int
    """-1 with a jump, 0 where the first derivative jumps, 1 where the second does, ...; SMOOTH without kinks."""
    located: bool = True
    """False where kinks exist whose places could not be found (they depend on parameters in a nonlinear way)."""

    @property
    def smooth(self) -> bool:
        return self.continuity == SMOOTH


def definition(expr: sympy.Expr) -> sympy.Expr:
    """The expression with each function replaced by its definition in simpler ones (gelu by erf, relu by abs, ...)."""
    expr = sympy.sympify(expr)
    while True:
        simpler = expr.replace(_is_defined, _defined)
        if simpler == expr:
            return expr
        expr = simpler


def real(expr: sympy.Expr) -> sympy.Expr:
    """The expression with the registry's abs and sign for sympy's, whose derivatives hold deltas and conjugates.

    sympy makes them of its own: sqrt(x**2) is Abs(x) as soon as it is written down.
    """
    expr = sympy.sympify(expr)
    if not expr.has(sympy.Abs, sympy.sign):
        return expr
    return expr.replace(sympy.Abs, head("abs")).replace(sympy.sign, head("sign"))


def _defined(part):
    function = by_head(part.func)
    assert function is not None and function.definition is not None
    return function.definition(*part.args)


def _is_defined(part) -> bool:
    function = by_head(part.func)
    return function is not None and function.definition is not None


def numeric(expr: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> Callable:
    """The expression as a NumPy function of the symbols, elementwise in float64."""
    table = {function.head.__name__: function.numpy for function in heads() if function.head and function.numpy}
    function = sympy.lambdify(list(symbols), expr, modules=[table, "scipy", "numpy"])

    def call(*values):
        with np.errstate(all="ignore"):
            return np.broadcast_to(function(*values), np.broadcast_shapes(*map(np.shape, values)))

    return call


def facts(expr: sympy.Expr, symbol: sympy.Symbol) -> Facts:
    """Kinks, jumps and growth of an expression as a function of one symbol; other symbols are parameters.

    Where a kinked function's argument is affine in the symbol, the place is exact and may contain parameters.
    Otherwise roots are searched as sign changes on 8001 points, dense at 0 and reaching to ±1000; what is then not
    found has `located` False if the argument contains parameters, and is taken not to exist if it does not.
    """
    expr = sympy.sympify(expr)
    places: list[sympy.Expr] = []
    located = True
    for argument, value in _singular(expr, symbol):
        found = _solve(argument, value, symbol)
        located &= found is not None
        places += found or ()
    places = sorted(
        set(places), key=lambda place: (not place.is_number, float(place) if place.is_number else str(place))
    )
    levels = {place: _continuity(expr, symbol, place) for place in places}
    return Facts(
        kinks=tuple(place for place in places if 0 <= levels[place] < SMOOTH),
        jumps=tuple(place for place in places if levels[place] == -1),
        growth=_growth_name(_growth(expr, symbol)),
        continuity=min(levels.values(), default=SMOOTH) if located else 0,
        located=located,
    )


def _singular(expr, symbol):
    """Pairs (argument, value): something inside expr is not smooth where the argument takes the value."""
    for part in sympy.preorder_traversal(expr):
        if symbol not in part.free_symbols:
            continue
        function = by_head(part.func)
        if function is not None and function.name in ("max", "min"):
            for i, a in enumerate(part.args):
                yield from ((a - b, sympy.Integer(0)) for b in part.args[i + 1 :])
        elif function is not None:
            yield from ((part.args[0], value) for value in function.kinks + function.jumps)
        elif part.is_Pow and symbol in part.base.free_symbols and not (part.exp.is_Integer and part.exp >= 0):
            yield part.base, sympy.Integer(0)


def _solve(argument, value, symbol) -> list[sympy.Expr] | None:
    difference = sympy.expand(argument - value)
    if symbol not in difference.free_symbols:
        return []
    if difference.is_polynomial(symbol) and sympy.degree(difference, symbol) == 1:
        slope, offset = sympy.Poly(difference, symbol).all_coeffs()
        return [sympy.simplify(-offset / slope)]
    if difference.free_symbols != {symbol}:
        return None
    function = numeric(difference, [symbol])
    grid = np.sinh(np.linspace(-7.6, 7.6, 8001))
    grid[4000] = 0.0
    values = np.asarray(function(grid), float)
    roots = [grid[i] for i in np.flatnonzero(values == 0)]
    if len(roots) > 100:  # zero on a whole stretch, as relu(relu(x)): the places are the inner function's
        roots = [grid[i] for i in np.flatnonzero(np.diff((values == 0).astype(int)))]
        roots = [0.0 if abs(root) < 0.01 else root for root in roots]
    for i in np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0):
        roots.append(_bisect(function, grid[i], grid[i + 1]))
    return [sympy.Integer(int(r)) if r == int(r) else sympy.Float(r) for r in roots]


def _bisect(function, low, high) -> float:
    rising = function(np.float64(high)) > 0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (low, middle) if (function(np.float64(middle)) > 0) == rising else (middle, high)
    return float(middle)


def _continuity(expr, symbol, place) -> int:
    """How many derivatives pass continuously through a place, minus one counted from jumps; parameters get test
    values.
    """
    parameters = sorted(expr.free_symbols - {symbol}, key=str)
    test = {s: sympy.Float(0.37 + 0.21 * i) for i, s in enumerate(parameters)}
    at = float(place.subs(test))
    step = 1e-7 * max(1.0, abs(at))
    derivative = expr.subs(test)
    for order in range(4):
        function = numeric(derivative, [symbol])
        left, right = (np.asarray(function(np.array([at + s * step, at + 2 * s * step])), float) for s in (-1, 1))
        with np.errstate(all="ignore"):
            slope = max(abs(left[1] - left[0]), abs(right[1] - right[0]))
            gap = abs(right[0] - left[0])
        # Through a smooth point the gap is two steps of the function's own slope.
        if not gap <= 4 * slope + 1e-6 * (1 + abs(left[0])):
            return order - 1
        derivative = derivative.diff(symbol)
    return 3


# Growth: (level, degree); level 0 is polynomial of that degree, 1 is exp(O(|x|)), 2 is beyond.


def _growth(expr, symbol) -> tuple[int, float]:
    if symbol not in expr.free_symbols:
        return (0, 0.0)
    if expr == symbol:
        return (0, 1.0)
    parts = [_growth(argument, symbol) for argument in expr.args]
    if expr.is_Add:
        return max(parts)
    if expr.is_Mul:
        return (max(level for level, _ in parts), sum(degree for _, degree in parts))
    if expr.is_Pow:
        level, degree = parts[0]
        if symbol in expr.exp.free_symbols:
            return (2, math.inf)
        power = float(expr.exp) if expr.exp.is_number else 1.0
        if power < 0:  # taken to stay away from its poles, where it grows at most like a polynomial
            return (level, 0.0)
        return (level, degree * power)
    function = by_head(expr.func)
    kind = function.growth if function is not None else "linear"
    level, degree = max(parts)
    if kind == "bounded":
        return (0, 0.0)
    if kind == "logarithm":
        return (0, 0.0 if (level, degree) == (0, 0.0) else max(degree, 0.01))
    if kind == "exponential":
        return _growth_of_exp(expr.args[0], symbol, (level, degree))
    return (level, degree)


def _growth_of_exp(argument, symbol, inner) -> tuple[int, float]:
    level, degree = inner
    if argument.is_polynomial(symbol) and degree > 1:
        leading = sympy.Poly(argument, symbol).LC()
        if degree % 2 == 0 and leading.is_negative:
            return (0, 0.0)
    if (level, degree) == (0, 0.0):
        return (0, 0.0)
    return (1, 0.0) if level == 0 and degree <= 1 else (2, math.inf)


def _growth_name(growth: tuple[int, float]) -> str:
    level, degree = growth
    return ("bounded" if degree == 0 else "polynomial") if level == 0 else ("exponential", "beyond")[level - 1]
