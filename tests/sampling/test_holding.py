"""Which Gaussians are integrated exactly, and which are drawn."""

from __future__ import annotations

import pytest

import tensorprog as tp
from tensorprog.sampling.holding import Holding
from tensorprog.theorem.cases import CaseReader


def held(program: str, **parameters) -> set[str]:
    text = tp.load(program, **parameters) if "\n" not in program else tp.parse(program, **parameters)
    holding = Holding(CaseReader(text.recursion.program))
    return {name for name, c in holding.class_of.items() if c in holding.held}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("gru", {"c", "r"}),  # the candidate and the reset gate; the update gate multiplies over the steps
        ("lstm", {"sum_Wo_h"}),  # the output gate: what is inside tanh(c) is drawn
        ("mgu", set()),  # its one gate both forgets and resets
    ],
)
def test_bundled_cells(program, expected):
    assert expected <= held(program)


HIGHWAY = """
program highway(T)
input  x[t = 1..T] : R(d)
weight U, R : A(n, d) ~ N(0, 1) / sqrt(d)
weight Wg : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[0] := 0
for t = 1..T:
    g[t] := Wg @ h[t-1] + U @ x[t]
    c[t] := R @ x[t]
    h[t] := sigmoid(g[t]) * h[t-1] + (1 - sigmoid(g[t])) * tanh(c[t])
output y[t = 1..T] := v.T @ h[t] / sqrt(n)
"""


def test_candidates_of_a_highway_recurrence_are_held():
    assert held(HIGHWAY) == {"c"}


def test_what_enters_a_moment_is_drawn():
    moment = HIGHWAY.replace(
        "output y[t = 1..T] := v.T @ h[t] / sqrt(n)", "m := <h[T], h[T], h[T]> / n\noutput y := v.T @ h[T] / sqrt(n)"
    )
    normed = HIGHWAY.replace(
        "output y[t = 1..T] := v.T @ h[t] / sqrt(n)", "z := layernorm(h[T], 0.1)\noutput y := v.T @ z / sqrt(n)"
    )
    assert "m :=" in moment
    assert held(normed, T=3) == set()
