"""What wrong programs are told: message, line, column and hint."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.program.build import build

HEADER = """program p(T, phi = erf, a = 1, L = 3)
input x[t = 1..T] : R(d)
input c[t = 1..T] : C
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector b, v : G(n) ~ N(0, 1)
"""
OUTPUT = "output y := v.T @ relu(W @ (U @ x[1]) + b) / sqrt(n)\n"
FIRST = HEADER.count("\n") + 1  # the line of the body's first statement


def error_of(body, header=HEADER, **settings):
    with pytest.raises(ProgramError) as caught:
        build(f"{header}{body}\n{OUTPUT}", settings, "p.netsor")
    return caught.value


def accepted(body, header=HEADER, **settings):
    return build(f"{header}{body}\n{OUTPUT}", settings, "p.netsor")


OUTSIDE = "write ( … else 0 ), which is 0 outside"
AN_H = "a coordinatewise function or an added number makes an H; W @ x makes it Gaussian again"


@pytest.mark.parametrize(
    ("body", "message", "line", "column", "hint"),
    [
        # names
        ("z := erff(b)", "unknown function 'erff'", 1, 6, "did you mean 'erf'?"),
        ("z := bb + b", "undefined name 'bb'", 1, 6, "did you mean 'b'?"),
        ("z := b * (1 if zz > 1 else 0)", "undefined name 'zz'", 1, 16, "did you mean 'z'?"),
        ("vector b : G(n) ~ N(0, 1)", "'b' is declared twice, first on line 6", 1, 8, None),
        ("vector L : G(n) ~ N(0, 1)", "'L' is taken: it is a parameter", 1, 8, None),
        ("b := v", "'b' is declared on line 6 and cannot be assigned", 1, 1, None),
        ("z := n * b", "the width 'n' goes to infinity: it belongs in laws, Moments and outputs only", 1, 6, None),
        # indices
        ("z := W @ x", "'x' has 1 index, none is given", 1, 10, None),
        ("z := c[1, 1] * b", "'c' has 1 index, 2 are given", 1, 6, None),
        ("z := b[1]", "'b' has no index, 1 is given", 1, 6, None),
        ("z := c[1.5] * b", "an index or a range needs an integer, not 1.5", 1, 8, None),
        ("z := c[0] * b", "c[0] is out of range: c has t = 1..6", 1, 6, OUTSIDE),
        ("z := sum[t = 1..2, t = 1..3](b)", "the index 't' is named twice", 1, 20, None),
        ("for t = 1..2, t = 1..3:\n    z[t] := b", "the index 't' is named twice", 1, 15, None),
        ("z[t = 1..2, t = 1..2] := b", "the index 't' is named twice", 1, 13, None),
        ("z := batchnorm[t](b)", "index 't' has no range", 1, 16, "write t = 1..T, say"),
        # order and sizes
        ("z := u + b\nu := b", "u is read before it is defined", 1, 6, "line 8 assigns it later"),
        ("z := b\nz := b", "z is assigned twice", 2, 1, "it is assigned in line 7 already"),
        ("for t = 1..1000000000:\n    z[t] := b", "this loop runs 1000000000 times", 1, 5, None),
        ("z := sum[t = 1..1000000000](b * t)", "this sum has 1000000000 terms", 1, 6, None),
        ("z := mean[j = 1..0](b)", "the mean of nothing", 1, 6, "its range is empty here"),
        # types
        ("z := relu(b) : G(n)", "'z' is H(n), not G(n)", 1, 16, AN_H),
        ("z := b + 1 : G(n)", "'z' is H(n), not G(n)", 1, 14, AN_H),
        ("z := U @ b", "A(n, d) cannot multiply G(n): the sizes d and n differ", 1, 10, None),
        ("z := W @ x[1]", "A(n, n) cannot multiply R(d): the sizes n and d differ", 1, 10, None),
        ("z := b @ v", "left of @ stands a matrix, not G(n)", 1, 6, "coordinatewise products are written *"),
        ("z := W * b", "matrices are only multiplied with vectors: W @ x", 1, 6, None),
        ("z := relu(x[1]) + b", "R(d) and G(n) do not go together", 1, 6, None),
        ("weight Q : G(n) ~ N(0, 1)", "a weight is a matrix A(n, m), not G(n)", 1, 12, "did you mean 'vector'?"),
        ("vector Q : A(n, n) ~ N(0, 1)", "a vector is Gaussian, G(n), not A(n, n)", 1, 12, "did you mean 'weight'?"),
        (
            "weight Q : A(n, k) ~ N(0, 1)",
            "unknown width 'k'",
            1,
            17,
            "declare it: width k = 2 * n, or an input with R(k)",
        ),
        # conditions
        ("z := b * (1 if c[1] > 0 else 0)", "conditions compare integers; 'c' is a C", 1, 16, None),
        ("z := b * (1 if b > 0 else 0)", "conditions compare integers; 'b' is G(n)", 1, 16, None),
        ("z := b * (1 if a > 1/2 else 0)", "conditions compare integers", 1, 20, None),
        # calls
        ("z := relu()", "relu takes 1 argument, none is given", 1, 6, None),
        ("z := relu(b, b)", "relu takes 1 argument, 2 are given", 1, 6, None),
        ("z := elu(b, 2, 3)", "elu takes 1 to 2 arguments, 3 are given", 1, 6, None),
        ("z := D(relu)(b, b)", "D[1](relu) takes 1 argument, 2 are given", 1, 6, None),
        ("z := MatMul(W)", "MatMul takes 2 arguments, 1 is given", 1, 6, None),
        ("def g(x) := W @ x\nz := g()", "g takes 1 argument, none is given", 2, 6, None),
        ("def g(x, k) := x / k\nz := g(b)", "g takes 2 arguments, 1 is given", 2, 6, None),
        ("def g(x) := g(x) + 1\nz := g(b)", "'g' calls itself", 1, 13, None),
        ("def g(x) := W @ g(x)\nz := g(b)", "'g' calls itself", 1, 17, None),
        (
            "def g(x) := f(x) + 1\ndef f(x) := x\nz := g(b)",
            "'g' calls 'f', which is defined later, on line 8",
            1,
            13,
            "put the def of 'f' first",
        ),
        # numbers
        ("z := b / 0", "division by zero", 1, 6, None),
        ("z := b / (L - L)", "division by zero", 1, 6, None),
        ("z := b / (a - 1)", "division by zero", 1, 6, None),
        ("z := b * 0**(-1)", "division by zero", 1, 10, None),
        ("z := sum[t = 1..2](b / (t - 1))", "division by zero at t = 1", 1, 20, None),
        ("def g(x) := x / (a - 1)\nz := g(b)", "division by zero", 2, 6, None),
        ("def g(x, k) := x / k\nz := g(b, 0)", "division by zero", 2, 6, None),
        ("z := b * sqrt(-1)", "this has no finite real value", 1, 10, None),
        ("z := b * log(-1)", "this has no finite real value", 1, 10, None),
        ("z := b * log(a - 1)", "this has no finite real value", 1, 10, None),
        ("z := b * (-1)**(1/2)", "this has no finite real value", 1, 10, None),
        ("z := b * 10 ** 10 ** 10", "this power is beyond what floating point holds", 1, 10, None),
        ("z := b * L**500000000", "this power is beyond what floating point holds", 1, 10, None),
        ("z := b * exp(exp(exp(100)))", "this number is beyond what floating point holds", 1, 14, None),
    ],
)
def test_wrong_programs(body, message, line, column, hint):
    error = error_of(body)
    assert (error.message, error.line - FIRST + 1, error.column, error.hint) == (message, line, column, hint)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (10**400, "the parameter 'a' is beyond what floating point holds"),
        ("1" + "0" * 400, "the parameter 'a' is beyond what floating point holds"),
        ("1e400", "the parameter 'a' is beyond what floating point holds"),
        ("10**10**10", "the parameter 'a' is beyond what floating point holds"),
        (float("nan"), "the parameter 'a' is nan: a finite number is needed"),
        ("1/0", "the parameter 'a' is a number, not '1/0'"),
        ("sqrt(-1)", "the parameter 'a' is a number, not 'sqrt(-1)'"),
        ("2, b = 3", "the parameter 'a' is a number, not '2, b = 3'"),
        (True, "the parameter 'a' is a number, not True"),
    ],
)
def test_wrong_settings(setting, message):
    error = error_of("z := a * b", a=setting)
    assert (error.message, error.line, error.column, error.filename) == (message, 1, 25, "p.netsor")


def test_settings_of_the_wrong_kind():
    assert error_of("for l = 1..L:\n    z[l] := b", L=1.5).message == "the parameter 'L' is an integer, not 1.5"
    assert error_of("z := phi(b)", phi=3).message == "the parameter 'phi' is a function: pass its name, not 3"
    assert error_of("z := b", aa=3).hint == "did you mean 'a'?"


def test_large_settings_that_fit():
    text = accepted("z := a * b", a=1e300).text
    assert str(text.parameters[2].default.text) == "1e+300"


def test_a_function_without_value():
    header = HEADER.replace("phi = erf", "phi")
    for body in ("z := phi(b)", "z := D(phi)(b)"):
        error = error_of(body, header)
        assert (error.message, error.line, error.column) == ("the parameter 'phi' has no value", FIRST, 6)
        assert error.hint == "pass phi=relu, say"


def test_functions_passed_that_are_no_coordinatewise_ones():
    program = accepted("def g(x) := W @ x\nz := phi(b)", phi="g")
    [clause] = program.families["z"].clauses
    assert clause.value.function == "MatMul"
    assert "phi" not in [p.name for p in program.text.parameters]
    error = error_of("def g(x) := W @ x\nz := D(phi)(b)", phi="g")
    assert error.message == "'g' is no coordinatewise function: it has no derivative here"
    error = error_of("def g(x) := phi(x) + 1\nz := g(b)", phi="g")
    assert error.message == "'g' calls itself, by way of the parameter 'phi'"


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        ("z := b / (L - 3) if L > 3 else b", {}),
        ("for l = 1..L:\n    z[l] := b / (l - 1) if l > 1 else b", {}),
        ("for l = 2..L:\n    z[l] := b / (L - 1)", {"L": 1}),
        ("for l = 1..L:\n    z[l] := sum[j = 1..l](b / (l - j + 1)) + sum[j = 2..l](b / (l - 1))", {}),
        ("z := b * T**(-1/2) + b / T", {}),
        ("z := c[1]**3 * b + b**2 + b**0.5 * log(c[1]) / c[1]", {}),
        ("def relu(x) := 2 * relu(x)\nz := relu(b)", {}),
    ],
)
def test_what_is_not_computed_is_not_refused(body, settings):
    accepted(body, **settings)


def test_a_parameter_that_stands_nowhere_needs_no_value():
    text = "program p(H)\ninput x : R(d)\nweight W : A(n, d) ~ N(0, 1/d)\nvector v : G(n) ~ N(0, 1)\n"
    program = tp.parse(text + "output y := v.T @ relu(W @ x) / sqrt(n)\n")
    assert "H: stands nowhere" in str(program.check())
    assert program.kernel()(np.ones((1, 2)), get="nngp")[0, 0] == pytest.approx(0.5)


def test_a_family_without_members_says_why_it_has_none():
    with pytest.raises(ProgramError) as caught:
        tp.load("myrtle", depth=1)
    assert caught.value.message == "c[1] is out of range: c has no members (at i = 1, j = 1)"
    assert caught.value.hint == "l = 1..(depth+1)/3 is empty where depth = 1: take a larger one"


@pytest.mark.parametrize("value", [-1, -1.0, "-1"])
def test_a_negative_variance_is_shown_as_it_was_given(value):
    with pytest.raises(ProgramError) as caught:
        tp.load("rnn", var_w=value)
    assert caught.value.message == "the variance -1 is negative"


def test_a_negative_variance_in_a_call_is_shown_as_in_the_text():
    kernel = tp.load("rnn").kernel()
    for value, shown in ((-1.0, "-1"), (-0.25, "-0.25"), (np.float32(-0.1), "-0.1")):
        with pytest.raises(ProgramError) as caught:
            kernel(np.ones((1, 1, 2)), params={"var_w": value})
        assert caught.value.message == f"the variance {shown} is negative"
