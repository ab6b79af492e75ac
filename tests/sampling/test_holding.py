"""Which Gaussians are integrated exactly, and which are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf, expit

import tensorprog as tp
from tensorprog.sampling.holding import Holding
from tensorprog.sampling.kernel import SampledKernel
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


TWO_CLASSES = """
program two_classes()
input x : R(d)
weight A, B, G : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
a := A @ x
b := B @ x
g := G @ x
z1 := sigmoid(g) * relu(a) + tanh(g) * erf(a)
z2 := sigmoid(g) * relu(b) + tanh(g) * erf(b)
p := W @ z1
q := W @ z2
output y := v.T @ (tanh(p) + q) / sqrt(n)
"""


def test_one_matrix_on_sums_over_two_classes_draws_them_after_all():
    """Each family can be held, and a product E z1 z2 has no form over the factors of one class: all is drawn."""
    assert {"a", "b"} <= held(TWO_CLASSES)
    kernel = SampledKernel(tp.parse(TWO_CLASSES).recursion, points=4093)
    assert kernel._namespace["HELD"] and kernel._namespace["layout_of"](*[(("x", (2,)),)] * 2) is None
    x = np.array([[1.0, 0.6]])
    nodes, w = np.polynomial.hermite_e.hermegauss(101)
    w, z = w / w.sum(), nodes * np.sqrt(x[0] @ x[0] / 2)
    gates, waves = w @ expit(z) ** 2, w @ np.tanh(z) ** 2
    up = np.sqrt(x[0] @ x[0] / 2 / 2 / np.pi)  # E relu(a)
    both = 2 * (w @ (expit(z) * np.tanh(z))) * (w @ (np.maximum(z, 0) * erf(z)))
    own = gates * (x[0] @ x[0] / 4) + waves * (w @ erf(z) ** 2) + both  # E z1 z1; the mean of erf(a) is 0
    p = nodes * np.sqrt(own)
    right = w @ np.tanh(p) ** 2 + own + 2 * (w @ (1 - np.tanh(p) ** 2)) * gates * up**2
    np.testing.assert_allclose(kernel({"x": x}, get="nngp"), [[right]], rtol=5e-3)
