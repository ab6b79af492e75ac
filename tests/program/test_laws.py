"""Laws of random variables: which have a limit, and what is said of those that have none."""

import pytest
import sympy

from tensorprog.errors import ProgramError
from tensorprog.program.build import build
from tensorprog.program.laws import WIDTH, growth, nngp_scale

HEADER = """program p(T, a = 1, s = 2, L = 3)
input x[t = 1..T] : R(d)
"""
LINE = HEADER.count("\n") + 1


def law_of(declaration, **settings):
    family = build(f"{HEADER}{declaration}\n", settings).families["Q"]
    return family.law, family.type


def mistake(declaration, **settings):
    with pytest.raises(ProgramError) as caught:
        build(f"{HEADER}{declaration}\n", settings, "p.netsor")
    assert caught.value.line == LINE
    return caught.value.message, caught.value.column


@pytest.mark.parametrize(
    ("declaration", "nngp"),
    [
        ("weight Q : A(n, n) ~ N(0, 1) * sqrt(s / n)", "s"),
        ("weight Q : A(n, n) ~ N(0, s / n)", "s"),
        ("weight Q : A(n, n) ~ N(0, 0) / sqrt(n)", "0"),
        ("weight Q : A(n, n) ~ N(0, 1) / sqrt(n + 5)", "1"),
        ("weight Q : A(n, n) ~ N(0, (1 + 1/n) / n)", "1"),
        ("weight Q : A(n, n) ~ N(0, n**(-a))", "1"),
        ("weight Q : A(n, n) ~ N(0, 1) * n**(-a/2)", "1"),
        ("weight Q : A(n, d) ~ N(0, s / d)", "s"),
        ("vector Q : G(n) ~ N(0, s)", "s"),
        ("vector Q : G(n) ~ N(0, s + 3 / n)", "s"),
        ("vector Q : G(n) ~ N(0, tanh(n))", "1"),
    ],
)
def test_laws_with_a_limit(declaration, nngp):
    law, t = law_of(declaration)
    scale, _ = nngp_scale(law, t, {"n": sympy.Integer(1)})
    assert str(scale) == nngp


@pytest.mark.parametrize(
    "declaration",
    [
        "vector Q : G(n) ~ N(0, s / n)",  # a readout's
        "vector Q[i = 0..2] : G(n) ~ N(0, 2 - i)",
        "vector Q[i = 1..T] : G(n) ~ N(0, 1/i)",
        "vector Q[i = 2..1] : G(n) ~ N(0, -i)",  # of nothing
        "vector Q[i = 1..L, j = 1..i] : G(n) ~ N(0, 1 / (i - j + 1))",
        "weight Q[l = 1..L] : A(n, n) ~ N(0, 1) / sqrt(n * l)",
    ],
)
def test_laws_that_are_accepted(declaration):
    law_of(declaration)


@pytest.mark.parametrize(
    ("declaration", "message", "column"),
    [
        ("vector Q[i = 0..2] : G(n) ~ N(0, 1 - i)", "the variance -1 is negative at i = 2", 34),
        ("vector Q[i = 0..2] : G(n) ~ N(0, 1/i)", "division by zero at i = 0", 34),
        ("vector Q[i = 0..T] : G(n) ~ N(0, 1/i)", "division by zero at i = 0", 34),
        ("vector Q[l = 1..L] : G(n) ~ N(0, 1) * sqrt(2 - l)", "this has no finite real value at l = 3", 39),
        ("vector Q : G(n) ~ N(0, -1)", "the variance -1 is negative", 24),
        ("vector Q : G(n) ~ N(0, a - s)", "the variance -1 is negative", 24),
        ("vector Q : G(n) ~ N(0, a / (a - 1))", "division by zero", 24),
        ("vector Q : G(n) ~ N(1/0, 1)", "division by zero", 21),
        ("vector Q : G(n) ~ N(0, sqrt(-1))", "this has no finite real value", 24),
        ("weight Q : A(n, n) ~ N(0, (1 - n)/n**2)", "the variance is negative at large widths", 27),
        ("weight Q : A(n, d) ~ N(0, (1 - d)/d**2)", "the variance is negative at large d", 27),
        ("weight Q : A(n, n) ~ N(1, 1) / n", "the entries of a matrix have mean 0 here", 22),
        (
            "vector Q : G(n) ~ N(0, n)",
            "the variance of this vector grows like n as the width goes to infinity: a vector's law is O(1)",
            19,
        ),
        (
            "vector Q : G(n) ~ N(log(n), 1)",
            "the mean of this vector grows like log(n) as the width goes to infinity: a vector's law is O(1)",
            19,
        ),
        (
            "vector Q : G(n) ~ N(0, 1/log(n))",
            "the variance of this vector vanishes like 1/log(n) as the width goes to infinity: a vector's law is O(1)",
            19,
        ),
        (
            "vector Q : G(n) ~ N(0, exp(n))",
            "the variance of this vector grows faster than any power of n as the width goes to infinity: "
            "a vector's law is O(1)",
            19,
        ),
        ("vector Q : G(n) ~ N(0, sin(n))", "sin(n) does not go like a power of n as the width goes to infinity", 24),
        (
            "weight Q : A(n, n) ~ N(0, 1)",
            "variance × multiplier² must be O(1/n), the fan-in: with this law W @ x blows up like n",
            22,
        ),
        (
            "weight Q : A(n, n) ~ N(0, 1) / n",
            "variance × multiplier² must be O(1/n), the fan-in: with this law W @ x vanishes like 1/n",
            22,
        ),
        (
            "weight Q : A(n, n) ~ N(0, log(n) / n)",
            "variance × multiplier² must be O(1/n), the fan-in: with this law W @ x blows up like log(n)",
            22,
        ),
        (
            "weight Q : A(n, n) ~ N(0, 1 / (n * log(n)))",
            "variance × multiplier² must be O(1/n), the fan-in: with this law W @ x vanishes like 1/log(n)",
            22,
        ),
        (
            "weight Q : A(n, d) ~ N(0, 1) / n",
            "variance × multiplier² must be O(1/d), the fan-in, which is finite: the width does not belong here",
            22,
        ),
        ("weight Q : A(n, d) ~ N(0, 1)", "variance × multiplier² must be O(1/d), the fan-in", 22),
        (
            "weight Q[l = 1..L] : A(n, n) ~ N(0, 1) / n**(l/2)",
            "this law goes like another power of the width for every 'l', an index",
            42,
        ),
        ("weight Q : A(n, n) ~ N(0, 1 / n) * 10**10**10", "this power is beyond what floating point holds", 36),
        ("width m = (a - 1) * n", "the width m is 0 * n: a width is a positive multiple of another", 11),
        ("width m = n**2", "a width is a positive multiple of another: width m = 2 * n", 11),
    ],
)
def test_laws_without(declaration, message, column):
    assert mistake(declaration) == (message, column)


def test_an_exponent_that_a_setting_spoils():
    assert mistake("weight Q : A(n, n) ~ N(0, n**(-a))", a="1/2")[0].endswith("W @ x blows up like sqrt(n)")
    assert mistake("weight Q : A(n, n) ~ N(0, n**(-a))", a=2)[0].endswith("W @ x vanishes like 1/n")


@pytest.mark.parametrize(
    ("e", "shown", "finite", "grows"),
    [
        (3, "like a constant", True, False),
        (0, "like a constant", True, False),
        (1 + 1 / WIDTH, "like a constant", True, False),
        (5 * WIDTH, "like n", False, True),
        (WIDTH**2 / 7, "like n^2", False, True),
        (1 / sympy.sqrt(WIDTH), "like 1/sqrt(n)", False, False),
        (2 * sympy.log(WIDTH), "like log(n)", False, True),
        (3 / sympy.log(WIDTH), "like 1/log(n)", False, False),
        (WIDTH * sympy.log(WIDTH), "like n*log(n)", False, True),
        (sympy.exp(-WIDTH), "faster than any power of n", False, False),
    ],
)
def test_growth(e, shown, finite, grows):
    rate = growth(sympy.sympify(e))
    assert (str(rate), rate.finite, rate.grows) == (shown, finite, grows)
