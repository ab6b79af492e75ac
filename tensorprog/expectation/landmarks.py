"""Where a function changes: the places that a quadrature is cut at, and how fine the changes are."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from tensorprog import functions
from tensorprog.expectation.plan import Side

MOST_PLACES = 8
"""Places beyond this number are left out, the farthest from zero first."""


SINGULAR = 1e-10
"""The distance down to which nodes crowd about a place where a function, or its derivative, is unbounded."""


@dataclass(frozen=True)
class Landmarks:
    """Outside the surroundings of its landmarks, a function of large variance looks like powers of its argument."""

    places: tuple[sympy.Expr, ...]
    """Kinks, jumps, and where smooth functions bend: the zeros of the arguments of tanh, exp, ...; 0 if none."""
    finest: float
    """The least distance, about, over which the function changes; 1 where that depends on scalars."""

    @property
    def centred(self) -> bool:
        """Whether zero is the only place."""
        return self.places == (0,)


def landmarks(side: Side) -> Landmarks:
    """The landmarks of a function and of its derivatives."""
    facts = functions.facts(side.expr, side.variable)
    kinks = list(dict.fromkeys(facts.kinks + facts.jumps))
    bends: dict[sympy.Expr, None] = {}
    finest = 1.0
    for argument in _arguments(side.expr, side.variable):
        for place, scale in _of_argument(argument, side.variable):
            bends.setdefault(place)
            finest = min(finest, scale)
    if facts.singular:  # what is left out beside the place counts
        return Landmarks(tuple(dict.fromkeys([*kinks, *bends]))[:MOST_PLACES], SINGULAR)
    found = list(dict.fromkeys([*kinks, *bends]))
    if len(found) > MOST_PLACES:
        found = sorted(found, key=lambda x: (x not in kinks, abs(float(x)) if x.is_number else 0.0))[:MOST_PLACES]
    return Landmarks(tuple(found) or (sympy.Integer(0),), max(finest, 1e-6))


def _arguments(expr: sympy.Expr, z: sympy.Symbol):
    """What stands inside functions, exponents, and powers that are not polynomials."""
    for part in sympy.preorder_traversal(expr):
        if z not in part.free_symbols:
            continue
        if part.is_Function:
            yield part.args[0]
        elif part.is_Pow and not (part.exp.is_Integer and part.exp >= 0):
            yield part.base if z in part.base.free_symbols else part.exp


def _of_argument(argument: sympy.Expr, z: sympy.Symbol):
    """Pairs (place, scale) where a function of the argument bends."""
    if z not in argument.free_symbols or not argument.is_polynomial(z):
        return  # its own parts tell
    polynomial = sympy.Poly(argument, z)
    if polynomial.degree() == 1:
        slope, offset = polynomial.all_coeffs()
        yield sympy.simplify(-offset / slope), abs(1 / float(slope)) if slope.is_number else 1.0
    elif all(a.is_number for a in polynomial.all_coeffs()):
        scale = abs(float(polynomial.LC())) ** (-1 / polynomial.degree())
        for root in [*polynomial.nroots(), *polynomial.diff().nroots()]:
            real, imaginary = (float(x) for x in root.as_real_imag())
            place = 0.0 if abs(real) < 1e-9 * (1 + abs(imaginary)) else real
            width = abs(imaginary) if abs(imaginary) > 1e-9 else scale
            yield sympy.Integer(int(place)) if place == int(place) else sympy.Float(place), min(width, scale)
    else:
        yield sympy.Integer(0), 1.0
