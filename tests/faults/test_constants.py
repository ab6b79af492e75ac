"""C's that are zero and vectors of variance zero: what is left is a function of fewer Gaussians."""

import jax
import numpy as np

import tensorprog as tp

TRIPLE = np.array([[1.0, 0.5, -0.3], [0.2, -1.1, 0.7], [-2.0, 0.4, 0.1]])
NORMALIZED = """program normalized()
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
{vectors}vector v : G(n) ~ N(0, 1)
h := U @ x
output y := v.T @ relu({inside}) / sqrt(n)
"""
TRAINED = "vector g : G(n) ~ N(1, 0)\nvector c : G(n) ~ N(0, 0)\n"


def arccosine(k):
    """E relu(z) relu(w) and E step(z) step(w) at variances 1."""
    k = np.clip(k, -1, 1)
    step = (np.pi - np.arccos(k)) / (2 * np.pi)
    return np.sqrt(1 - k**2) / (2 * np.pi) + k * step, step


def correlations():
    k = TRIPLE @ TRIPLE.T
    return k / np.sqrt(np.outer(np.diag(k), np.diag(k)))


def kernels(vectors, inside):
    with jax.enable_x64(True):
        program = tp.parse(NORMALIZED.format(vectors=vectors, inside=inside))
        return program.derive("nngp"), program.kernel()(TRIPLE)


def test_a_mean_that_is_zero_is_zero():
    derivation, (nngp, ntk) = kernels("", "layernorm(h)")
    k = correlations()
    relu, step = arccosine(k)
    np.testing.assert_allclose(nngp, relu, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ntk, relu + k * step, rtol=1e-9, atol=1e-12)
    assert "0/sqrt" not in str(derivation) and "asin(c)" in str(derivation)
    # the vector of the relu is known to be centred: no rule for Gaussians with means is taken
    assert not [k for k in derivation.recursion.tables if k.kind == "mean"]


def test_a_trained_gain_and_shift_of_variance_zero():
    """relu(g z + c) at g = 1, c = 0; by g the derivative is z step(z), by c it is step(z)."""
    _, (nngp, ntk) = kernels(TRAINED, "g * layernorm(h) + c")
    k = correlations()
    relu, step = arccosine(k)
    np.testing.assert_allclose(nngp, relu, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ntk, relu + k * step + relu + step, rtol=1e-9, atol=1e-12)
    assert (np.abs(np.diag(ntk) - 2) < 1e-9).all()


def test_a_gain_that_is_fixed_has_no_part():
    _, (nngp, ntk) = kernels("fixed vector g : G(n) ~ N(2, 0)\n", "g * layernorm(h)")
    k = correlations()
    relu, step = arccosine(k)
    np.testing.assert_allclose(nngp, 4 * relu, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ntk, 4 * (relu + k * step), rtol=1e-9, atol=1e-12)
