"""Equations solved for indices, against trying every point."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorprog.index.affine import Affine, remainder
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.index.solving import digits, eliminated, integral, reaching, unwrapped, with_value

p, q, i, size = map(Affine.symbol, ("p", "q", "i", "P"))


def holds(conditions: list[Condition], at) -> bool:
    return all(c.expression.evaluate(at) >= 0 if c.op == ">=" else c.expression.evaluate(at) == 0 for c in conditions)


@given(st.integers(-4, 4).filter(bool), st.integers(-5, 5), st.integers(-2, 2))
def test_the_index_at_which_a_target_is_somewhere(factor, constant, slope):
    target = p * factor + q * slope + constant
    value, conditions = reaching(target, "p", i)
    for at in ({"i": a, "q": b} for a, b in itertools.product(range(-9, 10), range(3))):
        expected = [x for x in range(-40, 41) if target.evaluate({**at, "p": x}) == at["i"]]
        assert ([value.evaluate(at)] if holds(conditions, at) else []) == expected


@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(-9, 9))
def test_reduced_equations_have_the_same_solutions(a, b, c):
    equation = Affine.build(c, {"p": a, "q": b})
    reduced = integral(equation)
    for at in ({"p": x, "q": y} for x, y in itertools.product(range(-6, 7), repeat=2)):
        assert (equation.evaluate(at) == 0) == (reduced is not None and reduced.evaluate(at) == 0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shift", [-2, 0, 3])
def test_an_index_that_goes_once_around(sign, shift):
    equation = remainder(p * sign + q + shift, size) + 1 - i
    name, value, conditions = unwrapped(equation, {"p": Range("p", Affine(1), size)})
    assert name == "p"
    for P, b, x in itertools.product((1, 2, 5), (-1, 0, 1), range(-1, 8)):
        at = {"P": P, "q": b, "i": x}
        expected = [k for k in range(1, P + 1) if equation.evaluate({**at, "p": k}) == 0]
        assert ([value.evaluate(at)] if holds(conditions, at) else []) == expected


def test_no_index_goes_around_another_length():
    equation = remainder(p + q, size) - i
    assert unwrapped(equation, {"p": Range("p", Affine(1), size + 1)}) is None
    assert unwrapped(p - i, {"p": Range("p", Affine(1), size)}) is None


@pytest.mark.parametrize(
    ("target", "low", "high"),
    [(p * 3 + q, 0, 2), (p * 2 - q, 0, 1), (p * -4 + q * 2 + 1, 1, 1), (p * 6 + q * 2, -1, 1)],
)
def test_digits_of_a_number(target, low, high):
    ranges = {"p": Range("p", Affine(1), size), "q": Range("q", Affine(low), Affine(high))}
    values, rest = digits(target - i, ranges)
    for x in range(-30, 31):
        found = [
            (a, b)
            for a, b in itertools.product(range(-40, 41), range(low, high + 1))
            if target.evaluate({"p": a, "q": b}) == x
        ]
        at = {"i": x}
        here = (values["p"].evaluate(at), values["q"].evaluate(at))
        inside = rest.evaluate(at) == 0 and low <= here[1] <= high
        assert ([here] if inside else []) == found


def test_what_are_no_digits():
    ranges = {"p": Range("p", Affine(1), size), "q": Range("q", Affine(0), Affine(3))}
    assert digits(p * 3 + q - i, ranges) is None  # two ways to say 3
    assert digits(p * 3 + q - i, ranges | {"q": Range("q", Affine(0), size)}) is None
    assert digits(i - 1, ranges) is None


def test_one_index_after_another():
    equations = [p * 2 + q * 2 - i, p - q + 1]
    equation, name, value = eliminated(equations, ["p"])
    assert (equation, name, value) == (equations[1], "p", q - 1)
    assert with_value({"i": p * 3}, "p", value) == {"i": (q - 1) * 3, "p": q - 1}
    assert eliminated(equations, ["size"]) is None
