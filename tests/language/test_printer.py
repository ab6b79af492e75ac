"""Trees to texts: canonical spacing, no parentheses too many, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorprog.language.parser import parse_text
from tensorprog.language.printer import print_expression, print_program, print_statement
from tensorprog.language.syntax import (
    And,
    Assignment,
    Binary,
    Binder,
    Bracket,
    Call,
    Comparison,
    Conditional,
    Definition,
    DerivativeCall,
    DerivativeOf,
    For,
    Guard,
    Index,
    Input,
    Law,
    Name,
    Negate,
    Not,
    Number,
    Or,
    Parameter,
    ProgramText,
    Random,
    Reduction,
    Transpose,
    TypeName,
    Variable,
    Width,
)
from tensorprog.resources import bundled_programs

# The strategies below are nested, and Hypothesis spells them out for its messages.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

PROGRAMS = bundled_programs()


# ---------------------------------------------------------------- golden texts


@pytest.mark.parametrize("name", PROGRAMS)
def test_bundled_programs_are_printed_as_written(name):
    """Up to how far to the right a law or an annotation stands."""
    text = PROGRAMS[name].read_text(encoding="utf-8")
    program = parse_text(text)
    printed = print_program(program)
    assert [line.split() for line in printed.split("\n")] == [line.split() for line in text.split("\n")]
    assert parse_text(printed) == program
    assert parse_text(printed).comment == program.comment


def test_layout_of_a_program():
    text = """\
// Two lines
//
// of comment.
program p(T, phi = erf, s = 1 / 3)

def gate(x, a = 1) := a * erf(x)

width m = 2 * n
input  x[t = 1..T] : R(d)
fixed weight U : A(n, d)                   ~ N(0, s) / sqrt(d)
weight W[l = 2..T], V[l = 1..2] : A(n, n)  ~ N(0, 1) * sqrt(s / n) / 2
vector v : G(n)                            ~ N(0, 1)

h[0] := 0
for t = T..1 by -1, i = 1..2*T:
    h[t] := W @ h[t-1] + U @ x[t]  : G(n)
    g[t, k = 1..2] := gate(h[t] if t == 1 and not i < 2 else 0)
    s[t] := phi(h[t])              : H(n)
    for j = 1..T:
        k[j] := <h[j], g[2*(j+1)]> / n : C

output y[t = 1..T] := v.T @ h[t] / sqrt(n)
"""
    assert print_program(parse_text(text)) == text


def test_print_statement():
    (loop,) = parse_text("program p\nfor t=1..T :\n  h[t]:=W@h[t - 1]:G( n )\n").statements
    assert print_statement(loop) == "for t = 1..T:\n    h[t] := W @ h[t-1] : G(n)"
    assert print_statement(loop, 4) == "    for t = 1..T:\n        h[t] := W @ h[t-1] : G(n)"


@pytest.mark.parametrize(
    "text",
    [
        "a - (b - c) - d",
        "a / (b / c) * d",
        "(a + b) * c",
        "a * -b",
        "-a ** -2",
        "(-a) ** 2",
        "(a ** b) ** c",
        "-W @ x",
        "(-W) @ x",
        "W @ -x",
        "(A @ B) @ W.T @ x",
        "W[l].T @ (x + y)",
        "x[2*(i+1), -j] + y[i/2, a if i == 1 else b]",
        "a if i == 1 else b if not (i == 1 or j >= 2) else c",
        "(a if i == 1 else b) + 1",
        "f(a if 1 <= i and i <= 2 else b, alpha = 0.5)",
        "((x[i] else 0) + y else 1)",
        "phi(x[i-1] else 0)",
        "max((x else 0), y)",
        "sum[a = -1..1, b = 1..2*T by -2](K[a, b] @ (x[i+a, j+b] else 0))",
        "batchnorm[b](h[l, b], eps = 1e-5)",
        "D[2](f)(x, y) * D(D(f))(x)",
        "<k[l, i], k[l, j]> / n / temp",
        "a / (<x> / n)",
        "c * <x - y, -y> / n",
        "(<x> / n) ** 2",
        "<x> / (x.T)",
        "-<x> / n",
    ],
)
def test_canonical_expressions(text):
    (statement,) = parse_text(f"program p\nz := {text}").statements
    assert print_expression(statement.value) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("((a))+(b*c)", "a + b * c"),
        ("<x,y>/n/temp", "<x, y> / n / temp"),
        ("x[ i + 1 , 2 * j ]", "x[i+1, 2*j]"),
        ("a if 1<=i<3 else (b)", "a if 1 <= i and i < 3 else b"),
        ("f( (x else 0) )", "f(x else 0)"),
    ],
)
def test_spacing_is_made_canonical(text, canonical):
    (statement,) = parse_text(f"program p\nz := {text}").statements
    assert print_expression(statement.value) == canonical


def test_long_lines_do_not_push_the_annotations_of_others():
    long = " + ".join(["x"] * 40)
    text = print_program(parse_text(f"program p\na := x : G(n)\nb := {long} : G(n)\ncc := x : G(n)\n"))
    assert text == f"program p\n\na := x   : G(n)\nb := {long}  : G(n)\ncc := x  : G(n)\n"


# ---------------------------------------------------------------- there and back

names = st.sampled_from(["x", "h", "W", "n", "T", "phi", "D", "N", "sum", "C", "forx", "_a1", "mod", "scalar"])
numbers = st.sampled_from(["0", "1", "2", "10", "0.5", "1e-3", "2.5E+2"]).map(Number)
plain = names.map(Name)
functions = names.filter(lambda name: name != "D")


def tuples(of, least=0, most=2):
    return st.lists(of, min_size=least, max_size=most).map(tuple)


def keywords(of):
    return st.dictionaries(names, of, max_size=2).map(lambda found: tuple(found.items()))


def binders_of(of):
    ranged = st.builds(Binder, names, of, of, st.none() | of)
    return ranged, st.builds(Binder, names)


derivatives = st.recursive(
    st.builds(DerivativeOf, functions, st.none() | st.integers(1, 3)),
    lambda inner: st.builds(DerivativeOf, inner, st.none() | st.integers(1, 3)),
    max_leaves=3,
)


def conditions_of(of):
    comparisons = st.builds(Comparison, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), of, of)
    return st.recursive(
        comparisons,
        lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner) | st.builds(Not, inner),
        max_leaves=3,
    )


def larger(of):
    ranged, bare = binders_of(of)
    indexed = st.builds(Index, names, tuples(of, 1))
    return st.one_of(
        indexed,
        st.builds(Transpose, plain | indexed),
        st.builds(Negate, of),
        st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "@", "**"]), of, of),
        st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "@", "**", "mod"]), of, of),
        st.builds(Conditional, of, conditions_of(of), of),
        st.builds(Guard, of, of),
        st.builds(Call, names, tuples(of), keywords(of)),
        st.builds(DerivativeCall, functions | derivatives, st.none() | st.integers(1, 3), tuples(of), keywords(of)),
        st.builds(Reduction, names, tuples(ranged | bare, 1), of, keywords(of)),
        st.builds(Bracket, tuples(of, 1), of),
    )


expressions = st.recursive(numbers | plain, larger, max_leaves=10)
small = st.recursive(numbers | plain, larger, max_leaves=3)
ranged_binders = binders_of(small)[0]
types = st.builds(TypeName, names, tuples(small))
parameters = tuples(st.builds(Parameter, names, st.none() | small))
variables = tuples(st.builds(Variable, names, tuples(ranged_binders)), 1, 3)
laws = st.builds(Law, small, small) | st.builds(Law, small, small, small, st.booleans())
simple = st.one_of(
    st.builds(Width, names, small),
    st.builds(Input, variables, types),
    st.builds(Random, st.sampled_from(["weight", "vector"]), st.booleans(), variables, types, laws),
    st.builds(Random, st.just("scalar"), st.booleans(), variables, st.just(TypeName("C")), laws),
    st.builds(Definition, names, parameters, small),
    st.builds(Assignment, names, tuples(small | ranged_binders), small, st.none() | types, st.booleans()),
)
statements = st.recursive(
    simple, lambda inner: st.builds(For, tuples(ranged_binders, 1), tuples(inner, 1, 3)), max_leaves=4
)
comments = st.sampled_from(["", "one", "one\n\n  two // three"])
programs = st.builds(ProgramText, names, parameters, tuples(statements, 0, 4), comments)


@settings(max_examples=250)
@given(expressions)
def test_expressions_come_back(tree):
    text = print_expression(tree)
    (statement,) = parse_text(f"program p\nz := {text}").statements
    assert statement.value == tree
    assert print_expression(statement.value) == text


@settings(max_examples=60)
@given(programs)
def test_programs_come_back(tree):
    text = print_program(tree)
    back = parse_text(text)
    assert back == tree
    assert back.comment == tree.comment
    assert print_program(back) == text


@settings(max_examples=100)
@given(expressions)
def test_parentheses_stand_only_where_they_are_needed(tree):
    """Behind a plus, sums and conditionals need them, and nothing else does."""
    text = print_expression(Binary("+", Name("a"), tree)).removeprefix("a + ")
    if isinstance(tree, Conditional) or (isinstance(tree, Binary) and tree.op in "+-"):
        assert text == f"({print_expression(tree)})"
    else:
        assert text == print_expression(tree)
