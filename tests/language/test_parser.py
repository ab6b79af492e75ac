"""Texts to trees: what each construct means, where each node stands, and what a wrong text is told."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark, logger

from tensorprog.errors import ProgramError, Span
from tensorprog.language.layout import Layout
from tensorprog.language.parser import parse_text
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
    Random,
    Reduction,
    Transpose,
    TypeName,
    Variable,
    Width,
)
from tensorprog.language.syntax_errors import KEYWORDS
from tensorprog.resources import bundled_programs, grammar_text

PROGRAMS = bundled_programs()
a, b, c, i, j, n, x, y = (Name(name) for name in "abcijnxy")
one, two = Number("1"), Number("2")


def statement(text):
    (only,) = parse_text(f"program p\n{text}").statements
    return only


def expression(text):
    return statement(f"z := {text}").value


def binary(op, left, right):
    return Binary(op, left, right)


# ---------------------------------------------------------------- the grammar and the bundled programs


def test_the_grammar_has_no_conflicts(caplog):
    """Lark resolves shift/reduce conflicts in silence, and only its debug log tells."""
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with caplog.at_level(logging.DEBUG, logger=logger.name):
            Lark(grammar_text(), parser="lalr", lexer="basic", postlex=Layout(), debug=True)
    finally:
        logger.setLevel(level)
    assert not [record for record in caplog.records if "onflict" in record.getMessage()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_bundled_programs_parse(name):
    text = PROGRAMS[name].read_text(encoding="utf-8")
    program = parse_text(text, str(PROGRAMS[name]))
    assert program.name == name
    assert f"// {program.comment}" == text.split("\n")[0]
    assert isinstance(program.statements[-1], Assignment) and program.statements[-1].output


@pytest.mark.parametrize("name", PROGRAMS)
def test_line_ends_blank_lines_and_comments_do_not_matter(name):
    text = PROGRAMS[name].read_text(encoding="utf-8")
    program = parse_text(text)
    assert parse_text(text.replace("\n", "\r\n")) == program
    assert parse_text(text.rstrip("\n")) == program
    assert parse_text("\ufeff" + text) == program
    assert parse_text(text.replace("\n", " // remark\n// column 0\n\t  // indented\n\n   \n")) == program


# ---------------------------------------------------------------- expressions


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b - c", binary("-", binary("+", a, b), c)),
        ("a / b * c", binary("*", binary("/", a, b), c)),
        ("a + b * c", binary("+", a, binary("*", b, c))),
        ("-a + b", binary("+", Negate(a), b)),
        ("-a * b", binary("*", Negate(a), b)),
        ("a * -b", binary("*", a, Negate(b))),
        ("a - -b", binary("-", a, Negate(b))),
        ("-a @ b", Negate(binary("@", a, b))),
        ("a @ -b", binary("@", a, Negate(b))),
        ("a @ -b * c", binary("*", binary("@", a, Negate(b)), c)),
        ("-a ** 2", Negate(binary("**", a, two))),
        ("a ** -2", binary("**", a, Negate(two))),
        ("a ** -b ** 2 @ c", binary("@", binary("**", a, Negate(binary("**", b, two))), c)),
        ("a ** b ** c", binary("**", a, binary("**", b, c))),
        ("a @ b @ c", binary("@", a, binary("@", b, c))),
        ("(a @ b) @ c", binary("@", binary("@", a, b), c)),
        ("a * b @ c", binary("*", a, binary("@", b, c))),
        ("a.T @ x[i-1]", binary("@", Transpose(a), Index("x", (binary("-", i, one),)))),
        ("a[i, j].T", Transpose(Index("a", (i, j)))),
        ("((a))", a),
        ("(a).T", Transpose(a)),
        ("1e-3 + 0.5", binary("+", Number("1e-3"), Number("0.5"))),
        ("f(\n  a,\n\n  // a remark\nb, alpha = 1\n)", Call("f", (a, b), (("alpha", one),))),
        ("f()", Call("f", ())),
        ("(a else 0)", Guard(a, Number("0"))),
        ("f(a else 0)", Call("f", (Guard(a, Number("0")),))),
        ("f((a else 0), b)", Call("f", (Guard(a, Number("0")), b))),
        ("(a if i == 1 else b)", Conditional(a, Comparison("==", i, one), b)),
        ("(a if i == 1 else b else c)", Guard(Conditional(a, Comparison("==", i, one), b), c)),
        (
            "a if i == 1 else b if j != 1 else c",
            Conditional(a, Comparison("==", i, one), Conditional(b, Comparison("!=", j, one), c)),
        ),
        ("<x> / n", Bracket((x,), n)),
        ("<x, y>/n/a", binary("/", Bracket((x, y), n), a)),
        ("a * <x - y, -y> / n", binary("*", a, Bracket((binary("-", x, y), Negate(y)), n))),
        ("D(f)(x)", DerivativeCall("f", None, (x,))),
        ("D[2](f)(x, y, a = 1)", DerivativeCall("f", 2, (x, y), (("a", one),))),
        ("D(D(f))(x)", DerivativeCall(DerivativeOf("f", None), None, (x,))),
        ("D[1](D[2](f))(x, y)", DerivativeCall(DerivativeOf("f", 2), 1, (x, y))),
        ("D(D[2](f))(x, y)", DerivativeCall(DerivativeOf("f", 2), None, (x, y))),
        ("D(D(D(f)))(x)", DerivativeCall(DerivativeOf(DerivativeOf("f", None), None), None, (x,))),
        ("D[2](D(f))(x, y)", DerivativeCall(DerivativeOf("f", None), 2, (x, y))),
        ("D + D[1]", binary("+", Name("D"), Index("D", (one,)))),
        ("D(x)", Call("D", (x,))),
        ("sum[i = 1..2](x)", Reduction("sum", (Binder("i", one, two),), x)),
        (
            "mean[i = 1..n, j = i..1 by -1](x)",
            Reduction("mean", (Binder("i", one, n), Binder("j", i, one, Negate(one))), x),
        ),
        ("softmax[j](x[j])", Reduction("softmax", (Binder("j"),), Index("x", (j,)))),
        ("batchnorm[i](x, eps = 1)", Reduction("batchnorm", (Binder("i"),), x, (("eps", one),))),
        ("sum[a = 1..2](x else 1)", Reduction("sum", (Binder("a", one, two),), Guard(x, one))),
        ("MatMul(a, x)", Call("MatMul", (a, x))),
        ("Trsp(a) @ x", binary("@", Call("Trsp", (a,)), x)),
        ("forgotten + ordinary", binary("+", Name("forgotten"), Name("ordinary"))),
    ],
)
def test_expression(text, tree):
    assert expression(text) == tree


def comparison(op, left=i, right=one):
    return Comparison(op, left, right)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("i < 1", comparison("<")),
        ("i >= 1", comparison(">=")),
        ("i + 1 == 2", comparison("==", binary("+", i, one), two)),
        ("(i + 1) == 2", comparison("==", binary("+", i, one), two)),
        ("((i + 1) * 2 == 2)", comparison("==", binary("*", binary("+", i, one), two), two)),
        ("(i == 1)", comparison("==")),
        ("1 <= i <= 2", And(comparison("<=", one, i), comparison("<=", i, two))),
        ("1 < i > 2 != j", And(And(comparison("<", one, i), comparison(">", i, two)), comparison("!=", two, j))),
        ("i == 1 or j == 1 and n == 1", Or(comparison("=="), And(comparison("==", j), comparison("==", n)))),
        ("(i == 1 or j == 1) and n == 1", And(Or(comparison("=="), comparison("==", j)), comparison("==", n))),
        ("not i == 1 and j == 1", And(Not(comparison("==")), comparison("==", j))),
        ("not (i == 1 and j == 1)", Not(And(comparison("=="), comparison("==", j)))),
        ("not not i == 1", Not(Not(comparison("==")))),
        ("i < <x> / n", comparison("<", i, Bracket((x,), n))),
        ("(1 if i == 1 else 2) == j", comparison("==", Conditional(one, comparison("=="), two), j)),
    ],
)
def test_condition(text, tree):
    assert expression(f"a if {text} else b") == Conditional(a, tree, b)


# ---------------------------------------------------------------- statements

STANDARD = Law(Number("0"), one)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("width m = 2 * n", Width("m", binary("*", two, n))),
        ("input x : C", Input((Variable("x"),), TypeName("C"))),
        (
            "input  x[i = 1..n], y : R(d)",
            Input((Variable("x", (Binder("i", one, n),)), Variable("y")), TypeName("R", (Name("d"),))),
        ),
        (
            "weight a, b : A(n, n) ~ N(0, 1)",
            Random("weight", False, (Variable("a"), Variable("b")), TypeName("A", (n, n)), STANDARD),
        ),
        (
            "fixed vector a : G(n) ~ N(0, 1)",
            Random("vector", True, (Variable("a"),), TypeName("G", (n,)), STANDARD),
        ),
        ("def f(x, a = 1) := a * x", Definition("f", (Parameter("x"), Parameter("a", one)), binary("*", a, x))),
        ("def f() := 1", Definition("f", (), one)),
        ("x := a : G(n)", Assignment("x", (), a, TypeName("G", (n,)))),
        ("x[1, i = 1..2] := a", Assignment("x", (one, Binder("i", one, two)), a)),
        ("output y[i = 1..2] := a : C", Assignment("y", (Binder("i", one, two),), a, TypeName("C"), True)),
        (
            "for i = 1..2, j = n..1 by -1:\n    x := a\n    y := b\n",
            For(
                (Binder("i", one, two), Binder("j", n, one, Negate(one))),
                (Assignment("x", (), a), Assignment("y", (), b)),
            ),
        ),
        ("for i = 1..2: x := a", For((Binder("i", one, two),), (Assignment("x", (), a),))),
    ],
)
def test_statement(text, tree):
    assert statement(text) == tree


@pytest.mark.parametrize(
    ("factor", "multiplier", "divides"),
    [
        ("", None, False),
        ("* a", a, False),
        ("/ a", a, True),
        ("* a / b", binary("/", a, b), False),
        ("* a * b", binary("*", a, b), False),
        ("/ a / b", binary("*", a, b), True),
        ("/ a * b", binary("/", b, a), False),
        ("/ a * b / c", binary("/", binary("/", b, a), c), False),
        ("* -a ** 2", Negate(binary("**", a, two)), False),
    ],
)
def test_factor_of_a_law(factor, multiplier, divides):
    law = statement(f"vector v : G(n) ~ N(0, 1) {factor}").law
    assert law == Law(Number("0"), one, multiplier, divides)


@pytest.mark.parametrize("header", ["program p", "program p()", "program p (\n)"])
def test_header_without_parameters(header):
    program = parse_text(header)
    assert (program.name, program.parameters, program.statements) == ("p", (), ())


def test_header_with_parameters():
    program = parse_text("program p(T, phi = erf, s = 1/3)")
    assert program.parameters == (
        Parameter("T"),
        Parameter("phi", Name("erf")),
        Parameter("s", binary("/", one, Number("3"))),
    )


def test_nested_blocks_and_comments_in_column_0():
    program = parse_text(
        "program p\nfor i = 1..2:\n  for j = 1..2:\n// here\n      x[i, j] := a\n\n// there\n  y[i] := b\nz := c // end"
    )
    outer, last = program.statements
    assert [type(inner) for inner in outer.body] == [For, Assignment]
    assert last.name == "z"


def test_comment_above_the_header():
    assert parse_text("// one\n\n//two\n//\n  //  three\nprogram p // here\n// below\n").comment == "one\ntwo\n\n three"
    assert parse_text("program p\n").comment == ""


# ---------------------------------------------------------------- places


def nodes(tree):
    if dataclasses.is_dataclass(tree) and not isinstance(tree, Span):
        yield tree
        for part in dataclasses.fields(tree):
            yield from nodes(getattr(tree, part.name))
    elif isinstance(tree, tuple):
        for part in tree:
            yield from nodes(part)


def cut(text, span):
    lines = text.split("\n")[span.line - 1 : span.end_line]
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return "\n".join(lines)


def test_places():
    text = (
        "// above\nprogram p(T, s = 1/3)\nweight W, V[l = 2..T] : A(n, d)  ~ N(0, s) / a * b  // law\n"
        "for t = 1..T:\n    h[t, i = 1..2] := (W @ x[t-1] + 2) * f(a) if 1 <= (t) < 3 else D(D(g))(x)  : G(n)\n"
        "output y := sum[j = 1..T](x else 0) / (\n  <x, y> / n)\n"
    )
    found = [(type(node).__name__, cut(text, node.span)) for node in nodes(parse_text(text))]
    for expected in [
        ("ProgramText", text.partition("\n")[2].rstrip("\n")),
        ("Parameter", "s = 1/3"),
        ("Random", "weight W, V[l = 2..T] : A(n, d)  ~ N(0, s) / a * b"),
        ("Variable", "V[l = 2..T]"),
        ("Binder", "l = 2..T"),
        ("TypeName", "A(n, d)"),
        ("Law", "N(0, s) / a * b"),
        ("Binary", "a * b"),
        ("For", text[text.index("for t") : text.index("\noutput")]),
        ("Assignment", text[text.index("h[t") : text.index("\noutput")]),
        ("Binder", "i = 1..2"),
        ("Conditional", text[text.index("(W @") : text.index("  : G(n)\n")]),
        ("Binary", "(W @ x[t-1] + 2) * f(a)"),
        ("Binary", "W @ x[t-1] + 2"),
        ("Binary", "W @ x[t-1]"),
        ("Index", "x[t-1]"),
        ("Call", "f(a)"),
        ("And", "1 <= (t) < 3"),
        ("Comparison", "1 <= (t)"),
        ("Comparison", "(t) < 3"),
        ("DerivativeCall", "D(D(g))(x)"),
        ("DerivativeOf", "D(g)"),
        ("Assignment", "output y := sum[j = 1..T](x else 0) / (\n  <x, y> / n)"),
        ("Reduction", "sum[j = 1..T](x else 0)"),
        ("Guard", "x else 0"),
        ("Bracket", "<x, y> / n"),
    ]:
        assert expected in found
    assert all(name == "ProgramText" or piece for name, piece in found)


# ---------------------------------------------------------------- wrong texts


def error_of(text):
    with pytest.raises(ProgramError) as caught:
        parse_text(text, "wrong.netsor")
    error = caught.value
    assert error.source == text and error.filename == "wrong.netsor"
    assert str(error).startswith(f"wrong.netsor:{error.line}:{error.column}: error: ")
    return error


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("", (1, 1), "holds no program", "begin with a header"),
        ("// a remark\n\n", (1, 1), "holds no program", "begin with a header"),
        ("x := 1", (1, 1), "expected the header 'program name(…)', found 'x'", "begin with a header"),
        ("\nprogramm p\n", (2, 1), "expected the header", "did you mean 'program'?"),
        ("  program p", (1, 3), "unexpected indentation", "column 1"),
        ("program", (1, 8), "expected a name after 'program', found the end of the line", None),
        ("program p(T):\nx := 1", (1, 13), "found ':'", "header ends without ':'"),
        ("\0\1\2", (1, 1), "unexpected character U+0000", None),
    ],
)
def test_wrong_header(text, place, message, hint):
    check(error_of(text), place, message, hint)


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("h[t] = 1", (2, 6), "expected ':=' after ']', found '='", "':='"),
        ("h = 1", (2, 3), "expected ':=' or '[' after 'h', found '='", "':='"),
        ("width m := 2", (2, 9), "expected '=' after 'm', found ':='", "width m = 2 * n"),
        ("def f(x) = x", (2, 10), "expected ':='", "':='"),
        ("h := 1.", (2, 6), "cannot end with '.'", "write 1 or 1.0"),
        ("h := 2 * .5", (2, 10), "cannot begin with '.'", "write 0.5"),
        ("h := x.t", (2, 7), "unexpected '.'", "W.T"),
        ("h := x^2", (2, 7), "unexpected character '^'", "'**'"),
        ("h := 2 # two", (2, 8), "unexpected character '#'", "'//'"),
        ("h := σ", (2, 6), "unexpected character 'σ'", "letters a-z"),
        ("h := 1e999", (2, 6), "beyond what floating point holds", None),
        ("h := 1e-999999999", (2, 6), "beyond what floating point holds", None),
        ("h := " + "1" * 5000, (2, 6), "more than 100 characters", None),
        ("wieght W : A(n, n) ~ N(0, 1)", (2, 1), "unknown statement 'wieght'", "did you mean 'weight'?"),
        ("For t = 1..2:\n    h := 1", (2, 1), "unknown statement 'For'", "did you mean 'for'?"),
        (
            "fixed vectro v : G(n) ~ N(0, 1)",
            (2, 7),
            "expected 'weight', 'vector' or 'scalar'",
            "did you mean 'vector'?",
        ),
        ("width := 2", (2, 1), "'width' is a keyword", "another name"),
        ("h := weight + 1", (2, 6), "'weight' is a keyword", "another name"),
        ("for = 2", (2, 5), "expected a name after 'for', found '='", None),
        ("h := 2 + if", (2, 10), "expected an expression after '+', found the keyword 'if'", None),
        ("if l == 1:\n    h := 1", (2, 1), "there is no 'if' statement", "x := e if i == 1"),
        ("program q", (2, 1), "one program", None),
        ("for t = 1..T\n    h := 1", (2, 13), "expected ':' at the end of the 'for' line", "write for t = 1..T:"),
        ("for t in 1..T:\n    h := 1", (2, 7), "expected '=' after 't', found 'in'", "for t = 1..T:"),
        ("for t = 1..T:\nh := 1", (3, 1), "expected an indented block under the 'for' of line 2", "four spaces"),
        ("for t = 1..T:", (2, 1), "expected an indented block", "four spaces"),
        ("for t = 1..T:\n\th := 1", (3, 1), "a tab in the indentation", "spaces"),
        ("for t = 1..T:\n    h := 1\n  g := 2", (4, 3), "indented by 2 spaces", "by 0, 4"),
        ("h := 1\n  + 2", (3, 3), "unexpected indentation", "inside ( ) and [ ]"),
        ("h := 1 +\n", (2, 9), "expected an expression after '+', found the end of the line", "( )"),
        ("h := f(a, b\ng := 1", (2, 7), "'(' is not closed before line 3", "')' is missing"),
        ("h := x[a", (2, 7), "'[' is never closed", "']' is missing"),
        ("h := f(a]", (2, 9), "']' does not match the '(' of line 2, column 7", "')' is missing"),
        ("h := a)", (2, 7), "')' closes nothing", None),
        ("h := <a, b>", (2, 12), "/ n belongs to the bracket", "<x, y> / n"),
        ("h := <a, b> + 2", (2, 13), "/ n belongs to the bracket", "<x, y> / n"),
        ("h := a < b", (2, 8), "found '<'", "only in conditions"),
        ("h := a if b else c", (2, 13), "expected a comparison", "i == 1"),
        ("h := a if i = 1 else c", (2, 13), "found '='", "'=='"),
        ("h := a if i == 1", (2, 17), "'else'", "both branches"),
        ("weight W : A(n, n)", (2, 19), "expected '~' and the law", "~ N(0, 1)"),
        ("weight W ~ N(0, 1)", (2, 10), "found '~'", "names a type"),
        ("weight W : A(n, n) ~ 2 * N(0, 1)", (2, 22), "expected a law N(mean, variance)", "behind the law"),
        ("weight W : A(n, n) ~ s * N(0, 1)", (2, 24), "expected a law N(mean, variance)", "behind the law"),
        ("weight W : A(n, n) ~ sqrt(2) * N(0, 1)", (2, 22), "'sqrt' is no law", "behind the law"),
        ("weight W : A(n, n) ~ N(0)", (2, 22), "a law is N(mean, variance)", "N(0, 1)"),
        ("weight W[l] : A(n, n) ~ N(0, 1)", (2, 11), "expected '='", "declared with its range: l = 1..T"),
        ("input x : R(d) ~ N(0, 1)", (2, 16), "found '~'", "an input has no law"),
        ("h := 2x", (2, 7), "expected an operator", "2 * x"),
        ("h := W x", (2, 8), "expected an operator", "'@'"),
        ("h := W[l-1](x)", (2, 8), "'W' with an index cannot be called", "an operator"),
        ("h := f(x)(y)", (2, 10), "the value of a call cannot be called", "D(f)(x)"),
        ("h := (A @ B).T", (2, 13), "'.T' stands behind the name", "B.T @ A.T"),
        ("h := x[i = 1..3]", (2, 8), "a range cannot stand in the index", "sum[i = …](…)"),
        ("h := sum[i = 1..3](a, b)", (2, 19), "takes one expression", None),
        ("h := f(a = 1, b)", (2, 15), "without a name follows one with a name", None),
        ("h := f(a = 1, a = 2)", (2, 15), "'a' is given twice", None),
        ("h := f(x else 0, y)", (2, 8), "how far this 'else' reaches", "parentheses of their own"),
        ("h := D[1](f)", (2, 6), "a derivative must be applied", "D[1](f)(x, y)"),
        ("h := D[0](f)(x)", (2, 8), "count from 1", None),
        ("h := D(2)(x)", (2, 6), "D takes the name of one function", None),
        ("h := 1 \r g := 2", (2, 8), "unexpected character U+000D", "newline"),
    ],
)
def test_wrong_statement(text, place, message, hint):
    check(error_of("program p(T)\n" + text), place, message, hint)


def check(error, place, message, hint):
    assert (error.line, error.column) == place
    assert message in error.message
    assert hint is None or hint in (error.hint or "")


@pytest.mark.parametrize(
    "value",
    [
        "(" * 10_000,
        "(" * 10_000 + "x" + ")" * 10_000,
        "[" * 10_000,
        "f(" * 300 + "x" + ")" * 300,
        "-" * 10_000 + "x",
        "+".join("x" * 10_000),
        "**".join("x" * 10_000),
        " @ ".join("x" * 10_000),
        " if i == 1 else ".join("x" * 3_000),
        "a if " + "not " * 3_000 + "i == 1 else b",
        "a if " + " < ".join("i" * 3_000) + " else b",
        "D(" * 90 + "f" + ")" * 90 + "(" * 30,
    ],
    ids=lambda value: value[:12],
)
def test_deep_nesting_is_an_error(value):
    error = error_of(f"program p\nh := {value}")
    assert "deep" in error.message or "expected" in error.message or "closed" in error.message


def test_deep_blocks_are_an_error():
    text = "program p\n" + "\n".join(" " * k + "for i = 1..2:" for k in range(300))
    assert "deeper than 100" in error_of(text).message


def test_as_deep_as_people_write():
    assert expression("+".join("x" * 150))
    assert expression("f(" * 90 + "x" + ")" * 90)


WORDS = [
    *KEYWORDS,
    *[":=", ":", ",", "=", "~", "..", "(", ")", "[", "]", "+", "-", "*", "/", "@", "**", ".T"],
    *["==", "!=", "<=", ">=", "<", ">", "x", "W", "n", "T", "D", "N", "sum", "1", "0.5"],
    *["1.", ".5", "'", "#", "^", "\t", "\0", "\r", "é"],
    "\n",
    "\n    ",
    "\r\n",
    "// c\n",
    " ",
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WORDS), max_size=30), st.sampled_from(["", "program p(T)\n", "program p\nh := "]))
def test_any_text_parses_or_is_a_located_error(words, start):
    text = start + " ".join(words)
    try:
        parse_text(text)
    except ProgramError as error:
        assert error.source is not None and error.filename == "<program>"
        assert error.line >= 1 and error.column >= 1
        assert str(error)


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_rubbish_is_a_located_error(text):
    with pytest.raises(ProgramError):
        parse_text(text)


@settings(max_examples=150)
@given(st.sampled_from(sorted(PROGRAMS)), st.integers(0, 10_000), st.integers(0, 8), st.sampled_from(["", *WORDS]))
def test_damaged_programs(name, at, length, word):
    """A stretch of a good program is replaced by something else."""
    text = PROGRAMS[name].read_text(encoding="utf-8")
    at %= len(text)
    damaged = text[:at] + word + text[at + length :]
    try:
        parse_text(damaged)
    except ProgramError as error:
        assert 1 <= error.line <= damaged.count("\n") + 1
        assert error.column >= 1
