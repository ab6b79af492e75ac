"""Kinks, jumps, growth and smoothness."""

import math

import pytest
import sympy

from tensorprog import functions
from tensorprog.functions.analysis import SMOOTH, definition
from tensorprog.functions.places import look
from tensorprog.functions.registry import head

X, A = sympy.Symbol("x", real=True), sympy.Symbol("a", real=True)


def of(name, *arguments, **parameters):
    return functions.lookup(name).symbolic(*(arguments or (X,)), **parameters)


@pytest.mark.parametrize(
    ("expr", "kinks", "jumps", "continuity"),
    [
        (of("relu"), (0,), (), 0),
        (of("relu") ** 3, (0,), (), 2),
        (of("elu"), (0,), (), 1),
        (of("elu", alpha=2), (0,), (), 0),
        (of("step"), (), (0,), -1),
        (X * of("step"), (0,), (), 0),
        (of("relu", 2 * X - 3), (sympy.Rational(3, 2),), (), 0),
        (of("relu", X - A), (A,), (), 0),
        (of("relu", X) + of("abs", X - 1), (0, 1), (), 0),
        (of("max", X, -X), (0,), (), 0),
        (sympy.tanh(X), (), (), SMOOTH),
        (sympy.sqrt(1 + X**2), (), (), SMOOTH),
        (of("softplus") * of("gelu"), (), (), SMOOTH),
    ],
)
def test_places(expr, kinks, jumps, continuity):
    facts = functions.facts(expr, X)
    assert facts.kinks == kinks and facts.jumps == jumps and facts.continuity == continuity
    assert facts.smooth == (continuity == SMOOTH)


def test_places_found_numerically():
    (place,) = functions.facts(of("relu", sympy.tanh(X) - sympy.Rational(1, 3)), X).kinks
    assert abs(place - sympy.atanh(sympy.Rational(1, 3)).evalf()) < 1e-12
    assert functions.facts(of("relu", X**2 - 1), X).kinks == (-1, 1)
    assert not functions.facts(of("relu", sympy.tanh(X) - A), X).located


@pytest.mark.filterwarnings("error")
def test_places_of_what_overflows_far_out_are_found_without_a_warning():
    assert functions.facts(of("relu", sympy.exp(X) - 1), X).kinks == (0,)


@pytest.mark.parametrize(
    ("expr", "growth"),
    [
        (sympy.exp(-((X + sympy.Max(X**2, 0)) ** 2)), "bounded"),
        (sympy.exp(X - (X + sympy.erf(X)) ** 2), "beyond"),
        (sympy.erf(X), "bounded"), (of("relu"), "polynomial"), (X**3 * sympy.tanh(X), "polynomial"),
        (sympy.exp(X), "exponential"), (X * sympy.exp(of("relu")), "exponential"), (sympy.exp(sympy.sin(X)), "bounded"),
        (sympy.exp(X**2), "beyond"), (sympy.exp(-(X**2) / 2), "bounded"), (sympy.exp(sympy.exp(X)), "beyond"),
        (sympy.log(1 + X**2), "polynomial"), (sympy.Integer(3), "bounded"), (1 / (1 + sympy.exp(X)), "bounded"),
    ],
)  # fmt: skip
def test_growth(expr, growth):
    assert functions.facts(expr, X).growth == growth


@pytest.mark.parametrize("place", [-128.8083461420555, -41 * math.pi - 0.5, 5.0])
def test_what_passes_a_zero_nearby_or_is_zero_all_around_does_not_grow(place):
    # the inner relu is zero on whole stretches, whose points count as roots of what the outer one bends at
    z = sympy.Symbol("z", real=True)
    relu = head("relu")
    found = look(definition(relu(relu(sympy.sin(z)))), z, sympy.Float(place), exact=False)
    assert found.exponents == (0.0, 0.0)
    assert not found.steep and not found.edge
