"""Programs that go back by a transpose: their limits, and how they are printed."""

import jax
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.views import as_json, equations, latex, text

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


# ---------------------------------------------------------------- statements in their order


TARGETS = np.array([0.4, 1.0])
SAMPLES = np.array([[0.3, 0.8, 0.3], [-1.3, 0.9, 0.4], [-0.5, 0.6, 0.4]])


def trained(n, steps, seed):
    """The outputs of one network of width n on both samples and a third input, after each step of gradient descent."""
    rng = np.random.default_rng(seed)
    U, W, v = rng.normal(size=(n, 3)) / np.sqrt(3), rng.normal(size=(n, n)) / np.sqrt(n), rng.normal(size=n)
    found = []
    for _ in range(steps + 1):
        h = SAMPLES @ U.T
        z = np.tanh(h)
        g = z @ W.T
        a = np.tanh(g)
        f = a @ v / n
        found.append(f)
        c = (f[:2] - TARGETS) / 2
        dg = v * (1 - a**2)
        dh = (dg @ W) * (1 - z**2)
        W = W - (c[:, None] * dg[:2]).T @ z[:2] / n
        v = v - c @ a[:2]
        U = U - (c[:, None] * dh[:2]).T @ SAMPLES[:2] / 3
    return np.array(found)


def test_training_in_a_loop_against_networks(text):
    limit = tp.parse(text("training_rolled")).limits({"x": SAMPLES[None], "y": TARGETS[None]})["out"][0]
    draws = np.array([trained(500, 2, seed) for seed in range(12)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - limit) < 4 * error + 0.005).all()
    assert limit[2, 0] > limit[1, 0] > 0.05


UNROLLED = """
h1[i = 1..3] := U @ x[i]
z1[i = 1..3] := tanh(h1[i])
g1[i = 1..3] := W @ z1[i]
f1[i = 1..3] := <v, tanh(g1[i])> / n
for i = 1..2:
    c1[i] := (f1[i] - y[i]) / 2
    dg1[i] := v * D(tanh)(g1[i])
    dh1[i] := (W.T @ dg1[i]) * D(tanh)(h1[i])
h2[i = 1..3] := h1[i] - sum[j = 1..2](c1[j] * (<h1[i], h1[j]> / n) * dh1[j])
z2[i = 1..3] := tanh(h2[i])
g2[i = 1..3] := W @ z2[i] - sum[j = 1..2](c1[j] * (<z2[i], z1[j]> / n) * dg1[j])
f2[i = 1..3] := <v - sum[j = 1..2](c1[j] * tanh(g1[j])), tanh(g2[i])> / n
output out[i = 1..3] := f2[i]
"""


@pytest.mark.slow
def test_training_in_a_loop_is_training_step_by_step(text):
    data = {"x": SAMPLES[None], "y": TARGETS[None]}
    head = [
        line for line in text("training_rolled").splitlines() if line.startswith(("program", "input", "weight", "vec"))
    ]
    unrolled = tp.parse("\n".join(head).replace("(S = 2, K = 2, eta = 1, phi = tanh)", "(S = 2)") + UNROLLED)
    rolled = tp.parse(text("training_rolled"), K=1)
    np.testing.assert_allclose(rolled.limits(data)["out"][0, 1], unrolled.limits(data)["out"][0], atol=2e-3)


SPECTRUM = """program spectrum()
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector x0 : G(n)   ~ N(0, 1)
"""
LOOPS = {
    "counting down": """x[4] := x0
for k = 3..1 by -1:
    x[k] := W.T @ W @ x[k+1]
output q[k = 1..3] := <x0, x[k]> / n
""",
    "two indices": """x[0, 2] := x0
for a = 1..2, b = 1..2:
    x[a, b] := W.T @ W @ (x[a, b-1] if b > 1 else x[a-1, 2])
output q[a = 1..2, b = 1..2] := <x0, x[a, b]> / n
""",
    "two loops": """x[1, 0] := x0
for a = 1..2:
    for b = 1..2:
        x[a, b] := W.T @ W @ x[a, b-1]
    x[a+1, 0] := x[a, 2]
output q[a = 1..2, b = 1..2] := <x0, x[a, b]> / n
""",
    "a step at a time": """x[0] := x0
y[1] := W @ x[0]
x[1] := W.T @ y[1]
for k = 2..4:
    y[k] := W @ x[k-1]
    x[k] := W.T @ y[k]
output q[k = 1..4] := <x0, x[k]> / n
""",
}


@pytest.mark.parametrize("kind", LOOPS)
def test_loops_of_a_matrix_and_its_transpose(kind):
    """<x, (W.T W)^k x>/n: the moments 1, 2, 5, 14 of Marchenko and Pastur."""
    moments = np.ravel(tp.parse(SPECTRUM + LOOPS[kind]).limits()["q"])
    np.testing.assert_allclose(sorted(moments), [1, 2, 5, 14][: len(moments)], rtol=1e-5)


@pytest.mark.slow
def test_one_family_by_a_matrix_and_its_transpose():
    """h[1] := W @ …, h[2] := W.T @ …: as with a name for each."""
    text = """program p()
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[0] := U @ x
h[1] := W @ relu(h[0])
h[2] := W.T @ relu(h[1])
h[3] := W @ (relu(h[2]) + h[1])
output y := v.T @ relu(h[3]) / sqrt(n)
"""
    apart = text.replace("[", "").replace("]", "")
    one, two = (tp.parse(t).kernel()(PLANE[:1], get="nngp") for t in (text, apart))
    np.testing.assert_allclose(one, two, rtol=1e-4)
