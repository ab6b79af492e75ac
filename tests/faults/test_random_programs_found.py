"""What programs at random have found: small forms of them, against themselves or against numbers."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog as tp

BACKWARDS = """program backwards(P = 2)
input x[t = 1..P] : R(d)
weight A : A(n, d) ~ N(0, 1) / sqrt(d)
weight B : A(n, n) ~ N(0, 1) / sqrt(n)
vector c : G(n) ~ N(-0.3, 1/2)
vector v : G(n) ~ N(0, 1)
for t = 1..P:
    e[t] := cos(A @ x[t]) if t == 1 else erf(A @ x[t])
f[P+1] := c
for {index} = P..1 by -1:
    f[{index}] := f[{index}+1] / 2 + erf(B @ f[{index}+1] + e[{index}]) / 2
output y[t = 1..P] := v.T @ f[t] / sqrt(n)
"""


def test_an_index_may_be_called_as_the_arguments_of_what_is_computed_entry_by_entry():
    x = np.random.default_rng(0).normal(size=(2, 2, 2))
    first, second = (np.asarray(tp.parse(BACKWARDS.format(index=i)).kernel()(x, get="nngp")) for i in ("q", "i1"))
    assert abs(first - second).max() < 1e-12
    assert abs(second - second.transpose(1, 0, 3, 2)).max() < 1e-12


HELD = """program held(P = 2)
input x[t = 1..P] : R(d)
input a[t = 1..P] : C
weight A, B : A(n, d) ~ N(0, 1) / sqrt(d)
weight W, V : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
{body}
output y := v.T @ tanh(g) / sqrt(n)
"""
SCALED = "h := a[1] * softplus(A @ x[1])\ng := W @ h + V @ tanh(W @ h)"
CONSTANT = "z[1] := 0\nz[2] := erf(B @ x[2])\nh := softplus(A @ x[1]) + 2 * cos(W @ z[1])\ng := V @ h"


@pytest.mark.slow
@pytest.mark.parametrize("body", [SCALED, CONSTANT], ids=["scaled by data", "of no variance"])
def test_what_is_held_and(body):
    """Sampled, against the rules."""
    from tensorprog.sampling.kernel import SampledKernel

    program = tp.parse(HELD.format(body=body))
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(2, 2, 2)), "a": rng.normal(size=(2, 2))}
    exact = np.asarray(program.kernel()(data, get="nngp"))
    sampled = SampledKernel(program.recursion, points=251)(data, get="nngp")
    assert abs(np.asarray(sampled) - exact).max() < 0.02 * abs(exact).max()


def test_a_covariance_that_a_size_decides_has_the_shape_of_the_samples():
    """At depth 0 the top is h, which shares the bias s; else it shares nothing with it."""
    text = """program tower(depth = 1)
input x : R(d)
weight W : A(n, d) ~ N(0, 1) / sqrt(d)
weight U : A(n, n) ~ N(0, 1) / sqrt(n)
vector s : G(n) ~ N(0, 1/2)
vector v : G(n) ~ N(0, 1)
h := W @ x + s
z[0] := h
for l = 1..depth:
    z[l] := U @ erf(z[l-1])
top := z[depth]
output y := v.T @ (sin(top) * erf(h)) / sqrt(n)
"""
    x = np.random.default_rng(0).normal(size=(2, 2))
    p = x @ x.T / 2 + 1 / 2
    k = 2 / np.pi * np.arcsin(2 * p / np.sqrt(np.outer(1 + 2 * np.diag(p), 1 + 2 * np.diag(p))))
    q = np.diag(k)
    right = k * np.exp(-np.add.outer(q, q) / 2) * np.sinh(k)
    assert abs(np.asarray(tp.parse(text).kernel()(x, get="nngp")) - right).max() < 1e-8
