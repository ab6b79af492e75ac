"""Programs whose expectations no rule gives: gates, experts, several classes of Gaussians at once."""

import re

import numpy as np
import pytest
from scipy.special import erf

import tensorprog as tp

PAIR = np.array([[1.0, 0.5, -0.3], [0.9, -0.2, 0.7]])

EXPERTS = """program experts(E = 2)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight G[e = 1..E], W[e = 1..E] : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h := relu(U @ x)
for e = 1..E:
    s[e] := G[e] @ h
    o[e] := W[e] @ h
z := sum[e = 1..E](softmax[e](s[e]) * relu(o[e]))
output y := v.T @ z / sqrt(n)
"""


def relu_dual(k, p, q):
    c = np.clip(k / np.sqrt(p * q), -1, 1)
    return np.sqrt(p * q) / (2 * np.pi) * (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c)


def test_a_sum_over_experts_with_gates():
    """Σ_ee' E a_e a'_e' E relu(o_e) relu(o'_e'), gates and experts independent: gates by simulation, the rest exact."""
    k = PAIR @ PAIR.T / 3
    p = np.diag(k)
    k = relu_dual(k, p[:, None], p[None])
    root = np.linalg.cholesky(k)
    s = np.random.default_rng(0).normal(size=(400_000, 2, 2)) @ root.T
    a = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    gates = np.einsum("pex,pfy->efxy", a, a, optimize=True) / len(a)
    p = np.diag(k)
    same, apart = relu_dual(k, p[:, None], p[None]), np.sqrt(np.outer(p, p)) / (2 * np.pi)
    right = sum(gates[e, f] * (same if e == f else apart) for e in range(2) for f in range(2))
    kernel = tp.parse(EXPERTS).kernel()
    np.testing.assert_allclose(kernel(PAIR, get="nngp"), right, rtol=5e-3)


STICKS = """program sticks(P = 3)
input x : R(d)
weight U[p = 1..P] : A(n, d) ~ N(0, 1) / sqrt(d)
vector v[p = 1..P] : G(n) ~ N(0, 1)
for p = 1..P:
    h[p] := U[p] @ x
for p = 1..P:
    z[p] := prod[q = 1..p-1](sigmoid(h[q])) * h[p]
output y := sum[p = 1..P](v[p].T @ z[p]) / sqrt(n)
"""


def test_a_product_over_nothing_is_one():
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    k = PAIR[:1] @ PAIR[:1].T / 3
    gate = np.sum(weights / np.sqrt(2 * np.pi) / (1 + np.exp(-np.sqrt(k) * nodes)) ** 2)
    nngp = tp.parse(STICKS).kernel()(PAIR[:1], get="nngp")
    np.testing.assert_allclose(nngp, k * (1 + gate + gate**2), rtol=2e-3)


GATED = """program gated()
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W, V, Q : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h := U @ x
a := W @ relu(h)
b := V @ relu(h)
c := Q @ relu(h)
m := sigmoid(a) * relu(b) + tanh(a) * tanh(b)
m_2 := sigmoid(a) * m * abs(a)
m_3 := relu(m_2) * sigmoid(c) * tanh(a + b)
output y := v.T @ (m_3 + m_2) / sqrt(n)
"""


def test_functions_of_families_that_are_numbered_have_names_of_their_own():
    source = tp.parse(GATED).kernel().backend.module.source
    names = re.findall(r"^(?:def )?((?:fn_|TERMS_)\w+)", source, re.MULTILINE)
    assert len(names) == len(set(names)) > 3


OUTSIDE = """program outside()
input x[p = 1..2] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
h[p = 1..2] := U @ x[p]
e[p = 1..2] := h[p] * h[p]
for p = 1..2:
    c[p] := <(e[p+1] else 0), e[p]> / n
    g[p] := e[p] * {other} + c[p] * h[p]
output y[p = 1..2] := v.T @ g[p] / sqrt(n)
"""


def test_a_vector_out_of_range_inside_a_function():
    x = np.array([[[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 1.5, 0.5]]])
    (p, k), (_, q) = x[0] @ x[0].T / 4
    c = p * q + 2 * k**2  # E h1² h2²; the other is 0
    nngp = np.asarray(tp.parse(OUTSIDE.format(other="(h[p+1] else 0)")).kernel()(x, get="nngp"))[0, 0]
    # y[1] has h1² h2 + c h1, and y[2] has nothing
    first = 3 * p**2 * q + 12 * p * k**2 + 2 * c * 3 * p * k + c**2 * p
    np.testing.assert_allclose(nngp, [[first, 0], [0, 0]], rtol=1e-5)


CONVOLUTION = """program back(P = 2)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight L[a = 0..1] : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[p = 1..P] := U @ x[p]
for p = 1..P:
    g[p] := sum[a = 0..1](L[a] @ (erf(h[p+a]) else 0))
for p = 1..P:
    r[p] := {back}
output y := v.T @ mean[p = 1..P](r[p] + h[p]) / sqrt(n)
"""


def test_transposed_convolutions_by_guards_and_by_conditions():
    """r[p] = Σ_a L[a].T erf(g[p-a]) = Ŷ[p] + Σ_a E erf'(g[p-a]) erf(h[p]), its Gaussians by the law of the g's."""
    x = np.array([[[1.0, 0.5, -0.3], [0.2, -1.1, 0.7]]])
    cov = x[0] @ x[0].T / 3

    def dual(k, p, q):
        return 2 / np.pi * np.arcsin(2 * k / np.sqrt((1 + 2 * p) * (1 + 2 * q)))

    p = np.diag(cov)
    e = dual(cov, p[:, None], p[None])
    g = e + np.array([[e[1, 1], 0], [0, 0]])  # g[1] = L[0] e[1] + L[1] e[2], g[2] = L[0] e[2]
    s = np.diag(g)
    slope = 2 / np.sqrt(np.pi) / np.sqrt(1 + 2 * s)
    c = np.array([slope[0], slope[1] + slope[0]])
    f = dual(g, s[:, None], s[None])
    hat = f + np.array([[0, 0], [0, f[0, 0]]])
    # r[p] + h[p] = Ŷ[p] + c[p] erf(h[p]) + h[p]
    slopes = 2 / np.sqrt(np.pi) / np.sqrt(1 + 2 * p)
    cross = slopes[:, None] * cov  # E erf(h[p]) h[q]
    total = hat + np.outer(c, c) * e + c[:, None] * cross + (c[:, None] * cross).T + cov
    for back in (
        "sum[a = 0..1](L[a].T @ (erf(g[p-a]) else 0))",
        "sum[a = 0..1](L[a].T @ erf(g[p-a]) if p - a >= 1 else 0)",
    ):
        nngp = tp.parse(CONVOLUTION.format(back=back)).kernel()(x, get="nngp")
        np.testing.assert_allclose(nngp, [[total.mean()]], rtol=1e-4)


@pytest.mark.slow
def test_one_assignment_with_transposes_in_both_branches():
    """Branches have coefficients of their own, as two assignments have."""
    text = """program p(K = 2)
input x : R(d)
width m = n / 2
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(m, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[0] := U @ x
e[0] := W @ relu(h[0])
for k = 1..K:
    h[k] := h[0] + (W.T @ tanh(e[0]) if k == 1 else W.T @ (relu(e[k-1]) - e[0]))
    e[k] := W @ relu(h[k])
output y := v.T @ relu(h[K]) / sqrt(n)
"""
    apart = text.replace(
        "for k = 1..K:\n    h[k] := h[0] + (W.T @ tanh(e[0]) if k == 1 else W.T @ (relu(e[k-1]) - e[0]))",
        "h[1] := h[0] + W.T @ tanh(e[0])\ne[1] := W @ relu(h[1])\n"
        "for k = 2..K:\n    h[k] := h[0] + W.T @ (relu(e[k-1]) - e[0])",
    )
    one, two = (tp.parse(t).kernel()(PAIR, get="nngp") for t in (text, apart))
    np.testing.assert_allclose(one, two, rtol=5e-3)


FILTERED = """program filtered(P)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector k[a = -1..1] : G(n) ~ N(0, 1)
vector v : G(n) ~ N(0, 1)
for p = 1..P:
    z[p] := relu(U @ x[p])
for p = 1..P:
    e[p] := sum[a = -1..1](k[a] * (z[p+a] else 0))
output {output} / sqrt(n)
"""


@pytest.mark.parametrize(
    ("output", "get"),
    [
        ("y[p = 1..P] := v.T @ e[p]", "nngp"),
        pytest.param("y[p = 1..P] := v.T @ e[p]", "ntk", marks=pytest.mark.slow),
        pytest.param("y[p = 1..P] := sum[a = -1..1](v.T @ (k[a] * (z[p+a] else 0)))", "nngp", marks=pytest.mark.slow),
    ],
)
def test_a_filter_of_vectors_on_functions_of_gaussians(output, get):
    """e[p] = Σ_a k[a] z[p+a] adds up products of two Gaussians each: samples are needed of one of them."""
    x = np.random.default_rng(0).normal(size=(1, 3, 3))
    k = x[0] @ x[0].T / 3
    p = np.diag(k)
    z = relu_dual(k, p[:, None], p[None])
    step = (np.pi - np.arccos(np.clip(k / np.sqrt(np.outer(p, p)), -1, 1))) / (2 * np.pi)
    shifts = [np.eye(3, k=a) for a in (-1, 0, 1)]
    nngp, by_u = (sum(s @ m @ s.T for s in shifts) for m in (z, step * k))
    found = tp.parse(FILTERED.format(output=output)).kernel(points=1021 if get == "nngp" else 16381)(x, get=get)
    np.testing.assert_allclose(found[0, 0], nngp if get == "nngp" else 2 * nngp + by_u, rtol=2e-2)


def test_a_program_of_a_matrix_and_its_transpose_that_is_sampled(text):
    """By Gauss-Hermite rules of the limit: m = Ẑ + c arctan(a) with c = E arctan'(k), and W.T @ tanh(m) is Gaussian."""
    z, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    of_k = w @ np.arctan(z * np.sqrt(PAIR[0] @ PAIR[0] / 3)) ** 2
    hat, c = w @ np.arctan(z * np.sqrt(of_k)) ** 2, w @ (1 / (1 + z * z * of_k))
    m = z[:, None] * np.sqrt(hat) + c * np.arctan(z * np.sqrt(PAIR[0] @ PAIR[0] / 3))
    a = z * np.sqrt(w @ np.tanh(m) ** 2 @ w)
    last = erf(a) * np.tanh(a)
    # a2 is b, of mean 1/3 and variance 1/2
    right = w @ last**2 + 2 * 2 / 3 * (w @ last) + 4 * (1 / 9 + 1 / 2)
    nngp = tp.parse(text("sampled_einsum")).kernel()(PAIR[:1], get="nngp")
    np.testing.assert_allclose(nngp, [[right]], rtol=2e-3)
