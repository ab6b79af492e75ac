"""Where a rule is not accurate, a kernel says so, or is sampled with a standard error."""

import warnings

import numpy as np
import pytest
from scipy.special import erf

import tensorprog as tp

PROGRAM = """program reach
input x : R(d)
weight W, U : A(n, d) ~ N(0, 1) / sqrt(d)
weight M : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
a := W @ x
b := M @ tanh(U @ x + 0.3 * a)
output y := v.T @ ({}) / sqrt(n)
"""
X = np.array([[1.0, -0.5, 0.3], [0.2, 0.7, -1.0]])


def test_variances_beyond_the_reach_of_a_rule():
    kernel = tp.parse(PROGRAM.format("tanh(a + b**2)")).kernel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel(X, get="nngp")
    with pytest.warns(RuntimeWarning, match="nngp may be off by .* variances are .* times") as warned:
        found = kernel(100 * X, get="nngp")
    assert warned[0].filename == __file__  # where the kernel is called
    _, error = kernel(100 * X, get="nngp", return_error=True)
    assert error.max() > 1e-4
    rng = np.random.default_rng(0)
    g = rng.normal(size=(1_000_000, 2)) @ np.linalg.cholesky(X @ X.T / 3 * 1e4).T
    h = rng.normal(size=g.shape) @ np.linalg.cholesky(X @ X.T / 3 * 1e4).T
    t = np.tanh(h + 0.3 * g)
    b = rng.normal(size=g.shape) @ np.linalg.cholesky(t.T @ t / len(t)).T
    f = np.tanh(g + b**2)
    assert abs(f.T @ f / len(f) - np.asarray(found)).max() < 6 * error.max()


def test_kinks_at_places_that_are_not_known():
    kernel = tp.parse(PROGRAM.format("leaky_relu(layernorm(a * erf(a)))")).kernel()
    with pytest.warns(RuntimeWarning, match="kinks at places that are not known"):
        found = kernel(X, get="nngp")
    _, error = kernel(X, get="nngp", return_error=True)
    rng = np.random.default_rng(0)
    g = rng.normal(size=(1_000_000, 2)) @ np.linalg.cholesky(X @ X.T / 3).T
    z = g * erf(g)
    z = (z - z.mean(0)) / z.std(0)
    f = np.where(z > 0, z, 0.01 * z)
    assert abs(f.T @ f / len(f) - np.asarray(found)).max() < 3 * error.max() + 2e-3


def test_four_gaussians_and_kinks_are_sampled():
    program = tp.parse(PROGRAM.format("abs(layernorm(a + 0.75 * erf(b) + 0.5 * relu(b + a**2)))"))
    assert program.sampled
