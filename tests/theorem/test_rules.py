"""The rules for moments, each by itself, and a new one that a file of its own adds."""

import importlib.util
from textwrap import dedent

import numpy as np
import pytest
import sympy

import tensorprog as tp
from tensorprog import recursion as ir
from tensorprog.errors import NotDerived
from tensorprog.program.build import build
from tensorprog.program.instructions import Declared, Reference
from tensorprog.recursion import Key
from tensorprog.theorem import moments
from tensorprog.theorem.derivation import ACROSS, WITHIN, Context, derivation
from tensorprog.theorem.derive import derive
from tensorprog.theorem.moments import LAST, Pair, Single
from tensorprog.theorem.rules import addends, batchnorm, flattened, joint, laws, matmul, one_gaussian, sampled, stein

TEXT = """
    program two()
    input x : R(d)
    weight W : A(n, d) ~ N(0, 3) / sqrt(d)
    weight U : A(n, n) ~ N(0, 2) / sqrt(n)
    vector b : G(n) ~ N(0, 1/2)
    vector v : G(n) ~ N(0, 1)
    h := MatMul(W, x)
    s := Nonlin({phi})
    g := MatMul(U, s)
    r := Nonlin(abs(s))
    output y := v.T @ g / sqrt(n)
    """


def parsed(phi="tanh(h)"):
    return build(dedent(TEXT.format(phi=phi)).lstrip(), {}, "two.netsor")


D = derivation(parsed())


def asked(u, w, kind=ir.MOMENT, view=ACROSS):
    """The question for the second moment of two vectors without indices."""
    bodies = [D.reader.cases(name)[0].body for name in (u, w)]
    return Pair(kind, view, Reference(u, ()), Reference(w, ()), *bodies, Context({}))


def test_a_matmul_is_the_law_times_what_it_multiplies():
    node = matmul.matmul(D, asked("g", "g", ir.COVARIANCE))
    law, entry = node.factors
    assert (law.name, law.scale, law.tangent) == ("U", 2, 1)
    assert entry == ir.Read(Key(ir.MOMENT, "cross", ("s", "s")), ())
    assert entry.key in D.tables.pending


def test_matmuls_by_different_weights_and_vectors_drawn_have_nothing_in_common():
    assert ir.is_zero(matmul.matmul(D, asked("g", "h", ir.COVARIANCE)))
    assert ir.is_zero(matmul.unrelated(D, asked("g", "b", ir.COVARIANCE)))
    assert ir.is_zero(laws.drawn(D, asked("b", "v")))
    assert laws.drawn(D, asked("b", "b")).scale == sympy.Rational(1, 2)


def test_data_has_inner_products():
    _, entry = matmul.matmul(D, asked("h", "h", ir.COVARIANCE)).factors
    assert entry == ir.Read(Key(ir.GRAM, "cross", ("x", "x")), ())


def test_a_function_of_one_gaussian_each():
    node = one_gaussian.pair_expectation(D, asked("s", "s"))
    assert isinstance(node, ir.PairExpectation)
    assert (node.f.func, node.g.func, node.same) == (sympy.tanh, sympy.tanh, ())
    assert node.k.factors[0].moves and not node.p.factors[0].moves
    inside = one_gaussian.pair_expectation(D, asked("s", "s", view=WITHIN))
    assert inside.k == inside.p == inside.q


def test_a_function_of_a_function_is_written_in_gaussians_first():
    assert one_gaussian.pair_expectation(D, asked("r", "r")) is None
    assert flattened.in_gaussians(D, asked("s", "s")) is None
    node = flattened.in_gaussians(D, asked("r", "s"))
    assert str(node.f) == "Absolute(tanh(h))" and node.g == sympy.tanh(node.w)


def test_steins_lemma():
    """E tanh(h) h' = E tanh'(h) · Cov(h, h'), on whichever side the function stands."""
    for pair in (asked("s", "h"), asked("h", "s")):
        slope, law, entry = stein.stein(D, pair).factors
        assert sympy.simplify(slope.f - (1 - sympy.tanh(slope.z) ** 2)) == 0
        assert (law.name, entry.key.kind) == ("W", ir.GRAM)


def test_rules_leave_to_others_what_they_do_not_cover():
    assert matmul.matmul(D, asked("s", "s")) is None
    assert stein.stein(D, asked("s", "s")) is None
    assert addends.addends(D, asked("s", "s")) is None
    assert batchnorm.batchnorm(D, asked("s", "s")) is None
    assert one_gaussian.pair_expectation(D, asked("s", "g")) is None
    assert joint.joint_expectation(D, asked("r", "r")) is None


def test_a_part_of_a_function_is_not_sampled():
    pair = asked("s", "r")
    node = sampled.sampled(D, pair)
    assert node.tables == (Key(ir.COVARIANCE, "cross", ("h", "h")),)
    assert sampled.sampled(D, Pair(**{**vars(pair), "part": True})) is None


# ---------------------------------------------------------------- which rule is taken


@pytest.fixture
def rule():
    """Register a rule for second moments, for one test."""
    added = []

    def add(rank, function):
        added.append(moments.second_moment(rank)(function))

    yield add
    for function in added:
        moments.SECOND.remove(function)


def test_the_lowest_rank_is_taken_and_none_is_no_answer(rule):
    seen = []
    rule(1, lambda d, pair: seen.append(1))
    rule(2, lambda d, pair: ir.ONE)
    rule(3, lambda d, pair: ir.ZERO)
    assert moments.derived_second(D, asked("s", "s")) == ir.ONE and seen == [1]


def test_what_a_rule_finds_underivable_is_left_to_the_last(rule):
    def refuse(d, pair):
        raise NotDerived("not this one")

    rule(1, refuse)
    rule(2, lambda d, pair: ir.ONE)
    assert isinstance(moments.derived_second(D, asked("s", "s")), ir.Sampled)
    rule(LAST - 1, lambda d, pair: ir.ONE)
    assert isinstance(moments.derived_second(D, asked("s", "s")), ir.Sampled)
    with pytest.raises(NotDerived, match="not this one"):
        moments.derived_second(D, Pair(**{**vars(asked("s", "s")), "part": True}))


def test_there_is_no_answer_to_what_no_rule_covers():
    with pytest.raises(NotDerived, match="no rule derives this mean"):
        moments.derived_first(D, Single(ir.MEAN, WITHIN, Reference("b", ()), Declared(), Context({}), part=True))


# ---------------------------------------------------------------- a rule of one's own

SQUARES = '''
"""Squares of Gaussians of mean zero, by Isserlis: E z² w² = E z² E w² + 2 (E z w)²."""

import sympy

from tensorprog.program.instructions import Pointwise
from tensorprog.theorem.entries import covariance, variance
from tensorprog.theorem.moments import second_moment
from tensorprog.recursion import Constant, add, product


@second_moment(rank=63)
def squares(d, pair):
    arguments = [_squared(d, f) for f in (pair.f, pair.g)]
    if None in arguments:
        return None
    (z, w), ranges = arguments, pair.context.all_ranges()
    k = covariance(d, pair.view, z, w, ranges)
    p, q = variance(d, z, "left", pair.view, ranges), variance(d, w, "right", pair.view, ranges)
    return add(product(p, q), product(Constant(sympy.Integer(2)), k, k))


def _squared(d, f):
    """The Gaussian that a function is the square of."""
    if not isinstance(f, Pointwise) or len(f.vectors) != 1:
        return None
    ((s, r),) = f.vectors
    return r if f.expression == s**2 and d.gaussian(r.name) and r.name in d.centred else None
'''


def test_a_new_rule_is_one_file_that_registers_itself(tmp_path):
    path = tmp_path / "squares.py"
    path.write_text(SQUARES, encoding="utf-8")
    key = Key(ir.MOMENT, "cross", ("s", "s"))
    program = parsed("h**2")
    assert isinstance(derive(program).tables[key].clauses[0].value, ir.PairExpectation)
    spec = importlib.util.spec_from_file_location("squares", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        assert isinstance(derive(program).tables[key].clauses[0].value, ir.Add)
        x = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
        found = tp.parse(dedent(TEXT.format(phi="h**2")).lstrip()).kernel()({"x": x}, get=("nngp", "ntk"))
    finally:
        moments.SECOND.remove(module.squares)
    assert isinstance(derive(program).tables[key].clauses[0].value, ir.PairExpectation)
    # By hand: Σ = 3 <x, x'>/3 is the covariance of h, and its derivative <x, x'>/3 along the correlation.
    k = x @ x.T
    p = np.diag(k)
    nngp = 2 * (np.outer(p, p) + 2 * k**2)
    # Trained are W, which moves k by k/3, U and v: (∂/∂k 2(pq + 2k²)) k/3 + nngp/2 + nngp.
    np.testing.assert_allclose(found.nngp, nngp, rtol=1e-6)
    np.testing.assert_allclose(found.ntk, 8 * k * k / 3 + nngp / 2 + nngp, rtol=1e-6)
