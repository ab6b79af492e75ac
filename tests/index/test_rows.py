"""Integer expressions and conditions over arrays of indices, against Python at every point."""

import itertools

import numpy as np
import pytest

from tensorprog.errors import ProgramError
from tensorprog.index.rows import LARGEST, holds, integer, named
from tensorprog.language import syntax
from tensorprog.language.parser import parse_text

I, J = np.arange(-3, 4)[:, None], np.arange(1, 6)  # noqa: E741
LOOKUP = named({"i": I, "j": J}, {"P": 5, "i": 100})


def index(text: str) -> syntax.Expr:
    program = parse_text(f"program p(P)\ny := x[{text}]\n")
    return program.statements[0].value.indices[0]


def condition(text: str) -> syntax.Condition:
    program = parse_text(f"program p(P)\ny := 1 if {text} else 0\n")
    return program.statements[0].value.condition


@pytest.mark.parametrize(
    "text", ["2*i - j + P", "-(i + 1)", "(i + j)/2", "(i - 2*j) mod 3", "1 + (i + j - 1) mod P", "7"]
)
def test_integers(text):
    found = np.broadcast_to(integer(index(text), LOOKUP), (7, 5))
    python = text.replace("/", "//").replace("mod", "%")
    for (a, i), (b, j) in itertools.product(enumerate(range(-3, 4)), enumerate(range(1, 6))):
        assert found[a, b] == eval(python, {"i": i, "j": j, "P": 5})


@pytest.mark.parametrize("text", ["i < j", "i == 0 or j >= P", "not (i > 1 and j != 2)", "2*i <= j"])
def test_conditions(text):
    found = np.broadcast_to(holds(condition(text), LOOKUP), (7, 5))
    for (a, i), (b, j) in itertools.product(enumerate(range(-3, 4)), enumerate(range(1, 6))):
        assert found[a, b] == eval(text, {"i": i, "j": j, "P": 5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k", "affine in loop indices"),
        ("i/0", "divided by 0, where a positive number"),
        ("i mod (P - 5)", "taken modulo 0"),
        (f"{LARGEST // 2} * i", "too large"),
        ("t[1]", "affine in loop indices"),
    ],
)
def test_what_is_no_integer(text, message):
    with pytest.raises(ProgramError, match=message):
        integer(index(text), LOOKUP)
