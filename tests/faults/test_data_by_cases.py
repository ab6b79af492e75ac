"""Data that a program computes from its inputs: by cases, by assignments, along loops, as functions."""

import numpy as np
import pytest

import tensorprog as tp

LAYER = """program data(P)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
{statements}
output y[p = 1..P] := v.T @ (U @ {read}) / sqrt(n)
"""


def relu_dual(k, p, q):
    c = np.clip(k / np.sqrt(p * q), -1, 1)
    return np.sqrt(p * q) / (2 * np.pi) * (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c)


def erf_dual(k, p, q):
    return 2 / np.pi * np.arcsin(2 * k / np.sqrt((1 + 2 * p) * (1 + 2 * q)))


def moments(dual, k):
    p = np.diagonal(k)
    return dual(k, p[:, None], p)


def relu_slopes(k, p, q):
    return (np.pi - np.arccos(np.clip(k / np.sqrt(p * q), -1, 1))) / (2 * np.pi)


def erf_slopes(k, p, q):
    return 4 / np.pi / np.sqrt((1 + 2 * p) * (1 + 2 * q) - 4 * k**2)


def rows(size, features=3, seed=0):
    return np.random.default_rng(seed).normal(size=(size, features))


def reversed_sums(x):
    return np.cumsum(x[::-1], axis=0)[::-1]


def faded(x):
    """c[p] = c[p-1]/2 + x[p]."""
    result = [x[0]]
    for row in x[1:]:
        result.append(result[-1] / 2 + row)
    return np.array(result)


def padded(x):
    return np.concatenate([x[-1:], x, x[:1]])


def three_way(x):
    """z[p, q] is x[p] on the diagonal, x[q] above it and 0 below; what is read is its sum over q."""
    size = len(x)
    return np.array([x[p] + sum(x[q] for q in range(p + 1, size)) for p in range(size)])


WRITTEN = {
    "by cases": ("", "(x[p+1] if p < P else x[1])", lambda x: np.roll(x, -1, 0)),
    "else": ("", "(x[p+1] else x[1])", lambda x: np.roll(x, -1, 0)),
    "a function by cases": ("", "relu(x[p+1] if p < P else -x[1])", lambda x: np.maximum(0, [*x[1:], -x[0]])),
    "padded by assignments": (
        "xp[0] := x[P]\nxp[P+1] := x[1]\nxp[p = 1..P] := x[p]",
        "(xp[p+1] - 3 * xp[p-1])",
        lambda x: padded(x)[2:] - 3 * padded(x)[:-2],
    ),
    "with zeros": ("xp[0] := 0\nxp[p = 1..P] := x[p]", "xp[p-1]", lambda x: np.concatenate([0 * x[:1], x[:-1]])),
    "along a loop": ("c[1] := x[1]\nfor p = 2..P:\n    c[p] := c[p-1] / 2 + x[p]", "c[p]", faded),
    "against a loop": ("for p = P..1 by -1:\n    c[p] := (c[p+1] else 0) + x[p]", "c[p]", reversed_sums),
    "a mean": ("", "(x[p] - mean[q = 1..P](x[q]))", lambda x: x - x.mean(0)),
    "three ways over two indices": (
        "for p = 1..P:\n    z[p, q = 1..P] := x[p] if p == q else x[q] if q > p else 0",
        "sum[q = 1..P](z[p, q])",
        three_way,
    ),
    "every other": (
        "for p = 1..P:\n    z[2*p] := x[p]\n    z[2*p-1] := sin(x[p])",
        "(z[2*p] + z[2*p-1])",
        lambda x: x + np.sin(x),
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_data_that_a_program_makes(name):
    statements, read, by_hand = WRITTEN[name]
    program = tp.parse(LAYER.format(statements=statements, read=read))
    a, b = rows(4), rows(3, seed=1)
    nngp = program.kernel()(a[None], b[None], "nngp")[0, 0]
    np.testing.assert_allclose(nngp, by_hand(a) @ by_hand(b).T / 3, atol=1e-12)


def test_functions_of_two_inputs(text):
    """u = relu(x) − 2z; h = U @ u + U @ (x² + 1/2) + V @ (sin(z) x)."""
    x, z = rows(5), rows(5, seed=1)
    found = tp.parse(text("datafn")).kernel()({"x": x, "z": z})
    u, w = np.maximum(x, 0) - 2 * z + x * x + 0.5, np.sin(z) * x
    k = (u @ u.T + w @ w.T) / 3
    hidden = moments(relu_dual, k)
    wanted = moments(relu_dual, hidden)
    np.testing.assert_allclose(found.nngp, wanted, atol=1e-12)
    moved = moments(relu_slopes, hidden) * (hidden + moments(relu_slopes, k) * k)
    np.testing.assert_allclose(found.ntk, wanted + moved, atol=1e-12)


def test_else_within_else(text):
    """By NumPy: indices that `else` replaces are chosen one by one, and zero rows stand outside."""
    x = rows(4)
    p = len(x)
    place = np.arange(p)
    k = np.zeros((p, p))
    for a in range(-2, 3):
        chosen = np.array([x[i + a] if 0 <= i + a < p else x[i - a] if 0 <= i - a < p else 0 * x[0] for i in place])
        k += chosen @ chosen.T / 15
    at = np.where(place + 1 < p, place + 1, place - 1)
    g = moments(erf_dual, k)[np.ix_(at, at)]
    last = (place + 1 < p)[:, None]
    read_g, read_h = np.eye(p) + np.eye(p, k=1), last * np.eye(p, k=1)
    wanted = np.mean(read_g @ g @ read_g.T + read_h @ k @ read_h.T)
    found = tp.parse(text("nested_else")).kernel()(x[None])
    np.testing.assert_allclose(found.nngp, [[wanted]], atol=1e-12)
    moved = (moments(erf_slopes, k) * k)[np.ix_(at, at)] + g
    wanted += np.mean(read_g @ moved @ read_g.T + read_h @ k @ read_h.T)
    np.testing.assert_allclose(found.ntk, [[wanted]], atol=1e-12)
