"""The arcsine of generated modules, and the dual functions that are made of it, at the accuracy of the dtype."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from tensorprog.expectation.runtime.arccosine import abs_dual, relu_dual, sign_dual, step_dual
from tensorprog.expectation.runtime.arcsine import arcsin, arcsin_by_cosine, positive_arcsin
from tensorprog.expectation.runtime.errorfunction import erf_dual

DTYPES = (np.float32, np.float64)


def exact(function, *arguments):
    """`function` of mpmath on arrays of numbers taken as they are, rounded once."""
    with mpmath.workdps(50):
        values = [float(function(*map(mpmath.mpf, map(float, entry)))) for entry in zip(*arguments, strict=True)]
    return np.array(values)


def points(dtype):
    """Correlations of all sizes: 0, tiny, around the point where the method changes, near 1 and 1."""
    eps = float(np.finfo(dtype).eps)
    near = 1 - np.array([0, eps / 2, eps, 8 * eps, 1e-6, 1e-4, 1e-2])
    x = np.concatenate([[0, 1e-30, 1e-12, 1e-3], np.linspace(0, 1, 203), 0.5 + np.array([-eps, 0, eps]), near])
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arcsine(dtype):
    x = points(dtype)
    c = np.concatenate([-x, x])
    found = np.asarray(arcsin(jnp.asarray(c)))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, exact(mpmath.asin, c), rtol=3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_argument_has_lost_comes_from_the_gap(dtype):
    gap = np.array([0, 1e-30, 1e-20, 1e-12, 1e-9, 1e-3], dtype)
    found = np.asarray(positive_arcsin(jnp.asarray(1 - gap), jnp.asarray(gap)))
    np.testing.assert_allclose(found, exact(lambda g: mpmath.asin(1 - g), gap), rtol=3 * np.finfo(dtype).eps)
    x = points(dtype)
    found = np.asarray(arcsin_by_cosine(jnp.asarray(x), jnp.asarray((1 - x) * (1 + x))))
    np.testing.assert_allclose(found, exact(mpmath.asin, x), rtol=4 * np.finfo(dtype).eps)


def _arguments(dtype):
    c = np.concatenate([-points(dtype), points(dtype)]).astype(np.float64)
    p, q = 1.7, 0.6
    return (c * np.sqrt(p * q)).astype(dtype), np.full(c.size, p, dtype), np.full(c.size, q, dtype)


CLOSED = {
    abs_dual: lambda c, s: 2 / mpmath.pi * s * (mpmath.sqrt(1 - c * c) + c * mpmath.asin(c)),
    relu_dual: lambda c, s: s / (2 * mpmath.pi) * (mpmath.sqrt(1 - c * c) + c * (mpmath.pi - mpmath.acos(c))),
    step_dual: lambda c, s: (mpmath.pi - mpmath.acos(c)) / (2 * mpmath.pi),
    sign_dual: lambda c, s: 2 / mpmath.pi * mpmath.asin(c),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dual", CLOSED, ids=lambda dual: dual.__name__)
def test_duals_of_kinks(dual, dtype):
    k, p, q = _arguments(dtype)

    def closed(k, p, q):
        s = mpmath.sqrt(p * q)
        return CLOSED[dual](max(-1, min(1, k / s)), s)

    eps = np.finfo(dtype).eps
    # The kinks' correlation has an infinite slope at +-1: a rounding of k moves step and sign by its root.
    tolerance = 4 * eps if dual in (abs_dual, relu_dual) else 4 * eps**0.5
    found = np.asarray(dual(*map(jnp.asarray, (k, p, q))))
    np.testing.assert_allclose(found, exact(closed, k, p, q), atol=tolerance)
    inside = np.abs(k / np.sqrt(p * q)) < 0.99
    np.testing.assert_allclose(found[inside], exact(closed, k, p, q)[inside], atol=20 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("dual", "slope"), [(abs_dual, sign_dual), (relu_dual, step_dual)], ids=["abs", "relu"])
def test_slopes_of_kinks(dual, slope, dtype):
    """∂E|z||w|/∂k = E sign(z) sign(w), which takes another way than `sign_dual`, as accurate beside 1."""
    k, p, q = map(jnp.asarray, _arguments(dtype))
    value, found = jax.jvp(lambda k: dual(k, p, q), (k,), (jnp.ones_like(k),))
    assert found.dtype == dtype
    np.testing.assert_array_equal(value, dual(k, p, q))
    np.testing.assert_allclose(found, slope(k, p, q), rtol=0, atol=4 * np.finfo(dtype).eps)
    small = np.asarray(jnp.abs(k) < 1e-20)  # independent: half of the time
    np.testing.assert_allclose(found[small], slope(k, p, q)[small], rtol=0, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e4])
def test_dual_of_erf(dtype, variance):
    k, p, q = (variance * a for a in _arguments(dtype))
    found = np.asarray(erf_dual(*map(jnp.asarray, (k, p, q))))
    wanted = exact(lambda k, p, q: 2 / mpmath.pi * mpmath.asin(2 * k / mpmath.sqrt((1 + 2 * p) * (1 + 2 * q))), k, p, q)
    # 1 - s² is some 1/variance, of which k keeps no more than its own rounding.
    tolerance = 8 * np.finfo(dtype).eps * max(1, variance**0.5)
    np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dual", [*CLOSED, erf_dual], ids=lambda dual: dual.__name__)
def test_equal_opposite_and_vanishing_arguments(dual, dtype):
    """Exact where nothing may be lost, with finite derivatives there: an input with itself is on every diagonal."""
    p = jnp.asarray([1e-6, 0.3, 1.0, 77.7], dtype)
    top, bottom = dual(p + 0, p, p), dual(-p, p, p)
    ends = {abs_dual: (p, p), relu_dual: (p / 2, 0 * p), step_dual: (p / p / 2, 0 * p), sign_dual: (p / p, -p / p)}
    if dual in ends:
        for found, wanted in zip((top, bottom), ends[dual], strict=True):
            np.testing.assert_allclose(found / p, wanted / p, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    tangents = jax.jit(lambda k, p, q: jax.jvp(lambda k: dual(k, p, q), (k,), (jnp.ones_like(k),)))
    gradients = jax.jit(jax.grad(lambda k, p, q: dual(k, p, q).sum(), argnums=(0, 1, 2)))
    for arguments in ((p, p, p), (-p, p, p), (0 * p, 0 * p, p), (0 * p, 0 * p, 0 * p)):
        value, slope = tangents(*arguments)
        assert value.dtype == slope.dtype == dtype
        assert np.isfinite(value).all() and np.isfinite(slope).all()
        assert all(np.isfinite(g).all() for g in gradients(*arguments))


def test_derivatives_agree_with_differences():
    k, p, q = jnp.asarray([-0.7, 0.01, 0.4]), jnp.asarray([1.1, 0.5, 2.0]), jnp.asarray([0.9, 0.8, 0.3])
    for dual in (abs_dual, relu_dual, step_dual, sign_dual, erf_dual):
        check_grads(lambda k, p, q, dual=dual: dual(k, p, q), (k, p, q), order=2, rtol=1e-5)
