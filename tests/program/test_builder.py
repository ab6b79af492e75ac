"""Programs built by hand are those that their text gives."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.language import syntax
from tensorprog.language.parser import parse_text
from tensorprog.language.printer import print_expression
from tensorprog.language.terms import call, expression, guarded, inner, name, over, where
from tensorprog.program.build import build
from tensorprog.program.builder import ProgramBuilder
from tensorprog.resources import bundled_programs

from .replay import replayed

RNN = """program rnn(T, phi = erf, a = 1 / 3)

input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, a) / sqrt(n)
vector v : G(n)     ~ N(0, 1)

s[0] := 0
for t = 1..T:
    h[t] := W @ s[t-1] + U @ x[t]
    s[t] := phi(h[t])

output y := mean[t = 1..T](v.T @ s[t]) / sqrt(n)
"""


def rnn() -> ProgramBuilder:
    b = ProgramBuilder("rnn")
    T, phi, a = b.parameter("T"), b.parameter("phi", "erf"), b.parameter("a", Fraction(1, 3))
    x = b.input("x", "d", {"t": (1, T)})
    U = b.weight("U", "n", "d", scale=1 / call("sqrt", "d"))
    W = b.weight("W", variance=a, scale=1 / call("sqrt", "n"))
    v = b.vector("v")
    s = b.assign("s", [0], 0)
    with b.loop(t=(1, T)) as t:
        h = b.assign("h", [t], W @ s[t - 1] + U @ x[t])
        b.assign("s", [t], phi(h[t]))
    b.output("y", over("mean", v.T @ s[t], {"t": (1, T)}) / call("sqrt", "n"))
    return b


def one_at_a_time(tree: syntax.ProgramText) -> syntax.ProgramText:
    """A declaration for each variable, as a builder makes them."""
    statements: list[syntax.Statement] = []
    for s in tree.statements:
        if isinstance(s, syntax.Input | syntax.Random):
            statements += [replace(s, variables=(v,)) for v in s.variables]
        else:
            statements.append(s)
    return replace(tree, statements=tuple(statements))


def test_a_network_by_hand():
    built = rnn()
    assert str(built) == RNN
    assert built.tree() == parse_text(RNN)
    assert built.build(T=4, phi="relu") == build(RNN, {"T": 4, "phi": "relu"})
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    for part, expected in zip(tp.build(built).kernel()(x), tp.parse(RNN).kernel()(x), strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("bundled", bundled_programs())
def test_every_bundled_program_by_hand(bundled):
    tree = one_at_a_time(parse_text(bundled_programs()[bundled].read_text()))
    built = replayed(tree)
    assert built.tree() == tree
    assert parse_text(str(built)) == tree
    assert built.build() == build(str(built))


def test_what_is_built_is_placed_in_the_text_that_it_prints_as():
    b = rnn()
    b.output("z", name("v").T @ name("s")[name("T") + 1] / call("sqrt", "n"))
    with pytest.raises(tp.ProgramError, match="out of range") as wrong:
        b.build()
    line = str(b).split("\n")[wrong.value.line - 1]
    assert line == "output z := v.T @ s[T+1] / sqrt(n)"
    assert "output z := v.T @ s[T+1] / sqrt(n)" in str(wrong.value)


def test_functions_are_defined_by_functions_of_terms():
    b = ProgramBuilder("p")
    gate = b.define("gate", lambda x, a=2: (1 + call("erf", x / a)) / 2)
    x, W, v = b.input("x"), b.weight("W", "n", "d", scale=1 / call("sqrt", "d")), b.vector("v")
    b.output("y", v.T @ gate(W @ x, a=3) / call("sqrt", "n"))
    assert "def gate(x, a = 2) := (1 + erf(x / a)) / 2" in str(b)
    assert b.build() == build(str(b))


def test_indices_that_an_assignment_runs_over():
    b = ProgramBuilder("p")
    H = b.parameter("H", 3)
    x = b.input("x", "d", {"i": (1, H)})
    W = b.weight("W", "n", "d", scale=1 / call("sqrt", "d"))
    v = b.vector("v", fixed=True)
    h = b.assign("h", {"i": (1, H)}, W @ guarded(x[name("i") + 1]), ("G", "n"))
    with b.loop(l=(1, 2), i=(H, 1, -1)) as (layer, i):
        b.assign("g", [layer, i], where((layer == 1) & ~(i < 2) | (i >= H), h[i], 2 * h[i]))
    b.output("y", over("sum", v.T @ name("g")[2, "i"], {"i": (1, H)}) / call("sqrt", "n"))
    text = str(b)
    for line in (
        "h[i = 1..H] := W @ (x[i+1] else 0) : G(n)",
        "for l = 1..2, i = H..1 by -1:",
        "    g[l, i] := h[i] if l == 1 and not i < 2 or i >= H else 2 * h[i]",
        "fixed vector v : G(n)",
    ):
        assert line in text
    assert b.tree() == parse_text(text)
    assert b.build() == build(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (-2, "-2"),
        (0.5, "0.5"),
        (2.0, "2"),
        (np.float32(0.25), "0.25"),
        (np.int64(7), "7"),
        (Fraction(-1, 3), "-1 / 3"),
        (1e-7, "1e-07"),
        ("alpha", "alpha"),
    ],
)
def test_numbers_and_names(value, text):
    assert print_expression(expression(value)) == text
    again = parse_text(f"program p(a = {text})\n").parameters[0].default
    assert again == expression(value)


def test_operators_keep_the_order_that_python_gave_them():
    a, b, W = name("a"), name("b"), name("W")
    for made, text in [
        ((a - b) - (a - b), "a - b - (a - b)"),
        ((a + 1) ** 2, "(a + 1) ** 2"),
        (-(a + b) * 2, "-(a + b) * 2"),
        (W.T @ (a * b), "W.T @ (a * b)"),
        ((1 + (a + b - 1) % name("P")), "1 + (a + b - 1) mod P"),
        (inner(a, b, "m") + inner(a), "<a, b> / m + <a> / n"),
    ]:
        assert str(made) == text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: name("for"), "is no name"),
        (lambda: name("2x"), "is no name"),
        (lambda: name("a") + float("nan"), "no number of a program"),
        (lambda: name("a") + True, "no term"),
        (lambda: name("a") + np.ones(2), "does not support ufuncs"),
        (lambda: (name("a") + 1)[2], "only a name has"),
        (lambda: (name("a") + 1)(2), "no function"),
        (lambda: (name("a") + 1).T, "has a transpose"),
        (lambda: 1 if name("a") == 1 else 0, "where"),
        (lambda: bool(name("a")), "no truth value"),
        (lambda: list(name("a")), "not iterable"),
        (lambda: over("sum", "a", {"i": (1,)}), "range of i"),
    ],
)
def test_what_python_is_told_at_once(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()


def test_only_a_builder_is_built():
    with pytest.raises(TypeError, match=r"takes a ProgramBuilder, not str: tp\.parse takes a text"):
        tp.build(RNN)


def test_a_loop_that_is_open_has_no_program():
    b = ProgramBuilder()
    with pytest.raises(ValueError, match="a loop is still open"), b.loop(t=(1, 2)):
        b.tree()
    assert not b.tree().statements  # what went wrong leaves nothing behind


def test_a_built_program_is_copied_and_checked_as_any_other():
    import pickle

    program = tp.build(rnn(), T=3)
    again = pickle.loads(pickle.dumps(program))
    assert again == program == tp.parse(RNN, T=3)
    assert str(program) == RNN
    assert str(program.check()) == str(tp.parse(RNN, T=3).check()).replace("<program>", "<built program>")
