"""Integer expressions with quotients and remainders against Python's integers."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorprog.index.affine import Affine, Entry, quotient, remainder
from tensorprog.index.bounds import evaluate_bound, nonnegative
from tensorprog.index.ranges import Range, SizeReadOff, extent, sizes_read_off
from tensorprog.language.parser import parse_text
from tensorprog.language.syntax import For
from tensorprog.program.scope import Binding, Scope

NAMES = ("i", "j", "P", "Q")
RANGES = {"i": Range("i", Affine(-2), Affine(3)), "j": Range("j", Affine(1), Affine.symbol("P"))}
SIZES = [{"P": p, "Q": q} for p, q in itertools.product((1, 2, 5), (1, 4))]
POINTS = [
    {**sizes, "i": i, "j": j} for sizes in SIZES for i in range(-2, 4) for j in range(1, sizes["P"] + 1)
]  # fmt: skip


def _sum(a, b):
    return a[0] + b[0], lambda at: a[1](at) + b[1](at)


def _times(a, k):
    return a[0] * k, lambda at: a[1](at) * k


def _quotient(a, k):
    return quotient(a[0], k), lambda at: a[1](at) // k


def _remainder(a, divisor):
    form = divisor if isinstance(divisor, Affine) else Affine(divisor)
    return remainder(a[0], form), lambda at: a[1](at) % form.evaluate(at)


leaves = st.sampled_from(NAMES).map(lambda s: (Affine.symbol(s), lambda at: at[s])) | st.integers(-7, 7).map(
    lambda k: (Affine(k), lambda at: k)
)
divisors = st.integers(1, 4) | st.sampled_from([Affine.symbol("P"), Affine.symbol("Q") * 2, Affine.symbol("P") + 1])
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(_sum, inner, inner),
        st.builds(_times, inner, st.integers(-3, 3)),
        st.builds(_quotient, inner, st.integers(1, 6)),
        st.builds(_remainder, inner, divisors),
    ),
    max_leaves=6,
)


@given(expressions)
def test_values(pair):
    form, value = pair
    assert [form.evaluate(at) for at in POINTS] == [value(at) for at in POINTS]
    assert form.symbols <= set(NAMES)
    assert pickle.loads(pickle.dumps(form)) == form


@given(expressions, st.sampled_from(NAMES), expressions)
def test_substitution(pair, name, other):
    (form, value), (inner, inside) = pair, other
    if name in ("P", "Q"):  # a size stays a size: it may be divided by
        inner, inside = Affine.symbol("Q") + 1, lambda at: at["Q"] + 1
    changed = form.substitute({name: inner})
    for at in POINTS:
        assert changed.evaluate(at) == value({**at, name: inside(at)})


@given(expressions)
def test_bounds_hold(pair):
    form, value = pair
    low, high = extent(form, RANGES, False), extent(form, RANGES, True)
    for sizes in SIZES:
        values = [value({**sizes, "i": i, "j": j}) for i in range(-2, 4) for j in range(1, sizes["P"] + 1)]
        assert evaluate_bound(low, sizes) <= min(values)
        assert evaluate_bound(high, sizes) >= max(values)


@given(expressions)
def test_what_is_called_nonnegative_is(pair):
    form, value = pair
    if nonnegative(form):
        assert all(value({**at, "i": i, "j": j}) >= 0 for at in SIZES for i in (1, 2, 5) for j in (1, 3))


@given(expressions, st.sampled_from(("i", "j")))
def test_solutions_solve(pair, name):
    form, value = pair
    solved = form.solved(name)
    if solved is not None:
        assert name not in solved.symbols
        assert all(value({**at, name: solved.evaluate(at)}) == 0 for at in POINTS)


@given(expressions)
def test_the_text_of_an_expression_means_the_same(pair):
    form, _ = pair
    (loop,) = parse_text(f"program p()\nfor k = {form}..1:\n    h[k] := 0\n").statements
    assert isinstance(loop, For)
    scope = Scope(features=["P", "Q"], indices={n: Binding(RANGES[n]) for n in ("i", "j")})
    assert scope.affine(loop.binders[0].low) == form


@pytest.mark.parametrize(
    ("form", "certain"),
    [
        (quotient(Affine.symbol("P") + 1, 2) - 1, True),
        (quotient(Affine.symbol("P"), 2) - 1, False),
        (Affine.symbol("P") - quotient(Affine.symbol("P"), 2) * 2, True),
        (Affine.symbol("P") - remainder(Affine.symbol("Q"), Affine.symbol("P")) - 1, True),
        (remainder(Affine.symbol("Q"), Affine(3)), True),
        (Affine(2) - remainder(Affine.symbol("Q"), Affine(3)), True),
        (Affine(1) - remainder(Affine.symbol("Q"), Affine(3)), False),
        (Affine.symbol(Entry("t", (Affine.symbol("i"),), Affine.symbol("P"))) - 1, True),
        (Affine.symbol("P") - Affine.symbol(Entry("t", (), Affine.symbol("P"))), True),
    ],
)
def test_what_is_known_of_quotients_remainders_and_data(form, certain):
    assert nonnegative(form) is certain


def test_equal_expressions_are_equal():
    p, q = Affine.symbol("P"), Affine.symbol("Q")
    assert quotient(p + 2, 2) == quotient(p, 2) + 1
    assert quotient(quotient(p, 2), 3) == quotient(p, 6)
    assert quotient(p * 2, 4) == quotient(p, 2)
    assert quotient(p * 4 + q, 2) == p * 2 + quotient(q, 2)
    assert remainder(q + p, p) == remainder(q, p)
    assert remainder(q * 4 + 5, Affine(3)) == remainder(q + 2, Affine(3))


def test_an_entry_of_the_second_run_has_primes():
    entry = Affine.symbol(Entry("t", (Affine.symbol("i") + 1,), Affine.symbol("P")))
    primes = {s: Affine.symbol(s + "'") for s in ("t", "i", "P")}
    assert str(entry.substitute(primes)) == "t'[i'+1]"
    assert entry.substitute(primes).entries[0].size == Affine.symbol("P'")
    assert entry.symbols == {"t", "i"}


def test_sizes_are_read_off_axes_in_the_order_in_which_they_follow():
    p, q = Affine.symbol("P"), Affine.symbol("Q")
    axes = [("x", Range("p", Affine(1), p * 2 + q)), ("y", Range("q", Affine(0), q * 3)), ("z", Range("r", p, p + q))]
    found = list(sizes_read_off(axes, ()))
    assert found == [SizeReadOff("Q", "y", 3, Affine(1)), SizeReadOff("P", "x", 2, q)]
