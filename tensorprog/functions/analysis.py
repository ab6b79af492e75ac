"""Where a function is not smooth, and how it grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy

from tensorprog.functions.places import look
from tensorprog.functions.registry import by_head, head, heads
from tensorprog.functions.roots import roots
from tensorprog.functions.stable import stable

SMOOTH = 99
"""`Facts.continuity` of a function without kinks."""


@dataclass(frozen=True)
class Facts:
    """What quadrature and the theorems need to know of a function of one variable."""

    kinks: tuple[sympy.Expr, ...]
    """Where the function is continuous, or unbounded, and some derivative jumps or is singular."""
    jumps: tuple[sympy.Expr, ...]
    """Where the function itself jumps."""
    growth: str
    """"bounded", "polynomial", "exponential" (exp(O(|x|))) or "beyond"."""
    continuity: int
    """-1 with a jump, 0 where the first derivative jumps, 1 where the second does, ...; SMOOTH without kinks."""
    located: bool = True
    """False where kinks exist whose places could not be found (they depend on parameters in a nonlinear way)."""
    edges: tuple[sympy.Expr, ...] = ()
    """Beyond which the function is not real: 0 for sqrt and log. They are no jumps: what is there is never asked."""
    holes: tuple[sympy.Expr, ...] = ()
    """Where the function is analytic, though its formula is 0/0: 0 for sin(x)/x."""
    infinite: tuple[sympy.Expr, ...] = ()
    """Where it grows so that its square has no finite mean: 0 for 1/x."""
    steep: tuple[sympy.Expr, ...] = ()
    """Where its derivative does: 0 for sqrt(abs(x)) and log(abs(x))."""
    singular: tuple[sympy.Expr, ...] = ()
    """Where it or its first derivative is unbounded: 0 for abs(x)**0.75 and log(abs(x)), besides the above."""
    reach: float | None = None
    """Kinks and jumps up to this distance from zero are listed, where there are infinitely many."""
    period: sympy.Expr | None = None
    """By which the places of kinks and jumps repeat, where they do."""

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


@cache
def facts(expr: sympy.Expr, symbol: sympy.Symbol) -> Facts:
    """Kinks, jumps and growth of an expression as a function of one symbol; other symbols are parameters.

    Where a kinked function's argument is affine in the symbol, the place is exact and may contain parameters; see
    `roots` for the others. What the expression does there is looked at (`places`); parameters get test values.
    """
    expr = stable(real(expr))
    places: set[sympy.Expr] = set()
    located, reach, period = True, None, None
    for argument, value in dict.fromkeys(_singular(expr, symbol)):
        found = roots(argument - value, symbol, numeric)
        located &= found.located
        places.update(found.places)
        if found.reach is not None:
            reach = found.reach if reach is None else min(reach, found.reach)
            period = found.period
    if reach is not None:
        places = {place for place in places if not place.is_number or abs(float(place)) <= reach}
    ordered = sorted(places, key=lambda place: (not place.is_number, float(place) if place.is_number else str(place)))
    test = {s: sympy.Float(0.37 + 0.21 * i) for i, s in enumerate(sorted(expr.free_symbols - {symbol}, key=str))}
    known = {
        place: look(expr.xreplace(test), symbol, place.xreplace(test), exact=place.is_Rational) for place in ordered
    }
    bounded = {place: p for place, p in known.items() if not p.edge and p.level is not None}
    jumps = tuple(place for place, p in bounded.items() if p.level == -1 and not p.exponents[0])
    levels = [-1 if place in jumps else max(p.level or 0, 0) for place, p in bounded.items()]
    return Facts(
        kinks=tuple(place for place in bounded if place not in jumps),
        jumps=jumps,
        growth=_growth_name(_growth(expr, symbol)),
        continuity=min(levels, default=SMOOTH) if located else 0,
        located=located,
        edges=tuple(place for place, p in known.items() if p.edge),
        holes=tuple(place for place, p in known.items() if p.level is None and _is_hole(expr, symbol, place)),
        infinite=tuple(place for place, p in bounded.items() if p.infinite),
        steep=tuple(place for place, p in bounded.items() if p.steep),
        singular=tuple(place for place, p in bounded.items() if any(p.exponents)),
        reach=reach,
        period=period,
    )


def _is_hole(expr, symbol, place) -> bool:
    if expr.free_symbols != {symbol}:
        return True
    return not np.isfinite(numeric(expr, [symbol])(np.float64(place)))


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
    if (level, degree) == (0, 0.0) or _bounded_above(argument, symbol):
        return (0, 0.0)
    return (1, 0.0) if level == 0 and degree <= 1 else (2, math.inf)


def _bounded_above(expr, symbol) -> bool:
    """Whether a sum is bounded above for certain: -(x + relu(x**2))**2, say."""
    if symbol not in expr.free_symbols or _growth(expr, symbol) == (0, 0.0):
        return True
    if expr.is_Add:
        return all(_bounded_above(term, symbol) for term in expr.args)
    coefficient, factors = expr.as_coeff_mul()
    return coefficient.is_negative is True and all(_nonnegative(factor) for factor in factors)


def _nonnegative(expr) -> bool:
    even = expr.is_Pow and expr.exp.is_Integer and expr.exp % 2 == 0
    return bool(even or expr.is_nonnegative)


def _growth_name(growth: tuple[int, float]) -> str:
    level, degree = growth
    return ("bounded" if degree == 0 else "polynomial") if level == 0 else ("exponential", "beyond")[level - 1]
