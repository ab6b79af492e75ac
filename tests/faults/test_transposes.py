"""Programs that go back by a transpose: their limits, and how they are printed."""

import jax
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.theorem.views import as_json, equations, latex, text

PLANE = np.array([[1.0, 0.5, -0.3], [0.2, -1.1, 0.7]])


def views(program):
    """The derivations of both kernels in all formats: their texts."""
    recursion = program.derive("nngp").recursion
    for get in ("nngp", "ntk"):
        assert latex(recursion, get) and as_json(recursion, get)["tables"] and equations(recursion, get)
        yield text(recursion, get)


# ---------------------------------------------------------------- one family, several products


def test_a_family_of_products_by_a_matrix_and_by_another_transpose(text):
    with jax.enable_x64(True):
        nngp, ntk = tp.parse(text("transpose_mixed")).kernel()(PLANE)
    k = PLANE @ PLANE.T / 3
    p = np.diag(k)
    roots = np.sqrt(np.outer(1 + 2 * p, 1 + 2 * p))
    dual, slopes = 2 / np.pi * np.arcsin(2 * k / roots), 4 / np.pi / np.sqrt(roots**2 - 4 * k**2)
    c = 2 / np.sqrt(np.pi) / np.sqrt(1 + 2 * p)
    q = dual + np.outer(c, c) * k
    moved = slopes * 2 * k + dual + np.outer(c, c) * k
    np.testing.assert_allclose(nngp, 5 * q, rtol=1e-9)
    np.testing.assert_allclose(ntk, 5 * moved + q + 5 * q, rtol=1e-9)


LINEAR = """program p()
input x : R(d)
width m = n / 2
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(m, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[0] := U @ x
for k = 1..2:
    h[k] := W.T @ (W @ h[k-1])
output y := v.T @ h[2] / sqrt(n)
"""


def test_a_loop_with_a_matrix_and_its_transpose_at_half_the_width():
    # h[2] = (W.T W)^2 h[0] has the fourth moment of the Marchenko-Pastur law of ratio 1/2, 1/2·(1 + 6c + 6c² + c³) with
    # c = 1/2 the part of rows: the moments of W.T W with E W² = 1/n are Σ N(k, r) c^r, N the numbers of Narayana.
    moment = sum(a * 0.5**r for r, a in ((1, 1), (2, 6), (3, 6), (4, 1)))
    with jax.enable_x64(True):
        nngp = tp.parse(LINEAR).kernel()(PLANE, get="nngp")
    np.testing.assert_allclose(nngp, moment * PLANE @ PLANE.T / 3, rtol=1e-9)


# ---------------------------------------------------------------- print


@pytest.mark.parametrize("name", ["hopfield_relu", "highway", "eqprop", "sampled_einsum"])
def test_what_is_sampled_has_all_its_views(name, text):
    for shown in views(tp.parse(text(name))):
        assert "sum[;" not in shown
        assert "Θ(U_x, h'[k']) = 0" not in shown


REZERO = """program rezero(L = 3)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W[l = 1..L] : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
vector a[l = 1..L] : G(n) ~ N(0, 1/10)
h[0] := U @ x
for l = 1..L:
    h[l] := h[l-1] + a[l] * relu(W[l] @ h[l-1])
output y := v.T @ relu(h[L]) / sqrt(n)
"""


def test_a_sum_of_a_product_and_what_is_no_gaussian_is_printed():
    nngp, ntk = views(tp.parse(REZERO))
    assert "Z^h[0] = Z^U_x" in " ".join(nngp.split())
    assert "over all members of" in ntk
