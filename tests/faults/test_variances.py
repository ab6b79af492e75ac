"""Data that nobody normalised: variances far from 1, in both dtypes, against panels that shrink towards every bend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, ndtr

import tensorprog as tp


def mean(h, variance, cuts=(0.0,)):
    """E h(z) by Gauss-Legendre panels that double in length away from every cut."""
    reach = 9.5 * np.sqrt(variance)
    steps = reach * 2.0 ** np.arange(-44, 1)
    edges = np.unique(np.clip([c + s * e for c in cuts for e in [0.0, *steps] for s in (-1, 1)], -reach, reach))
    t, v = np.polynomial.legendre.leggauss(24)
    z = (edges[:-1, None] + np.diff(edges)[:, None] * (t + 1) / 2).ravel()
    weights = (np.diff(edges)[:, None] * v / 2).ravel() * np.exp(-z * z / (2 * variance))
    return np.sum(weights * h(z)) / np.sqrt(2 * np.pi * variance)


def kernels(f, slope, variance, cuts=(0.0,)):
    """NNGP and NTK of v.T @ f(W @ x) / sqrt(n) at an input of that variance."""
    nngp = mean(lambda z: f(z) ** 2, variance, cuts)
    return nngp, nngp + variance * mean(lambda z: slope(z) ** 2, variance, cuts)


def pdf(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def sech2(z):
    return 4 * expit(2 * z) * expit(-2 * z)


FUNCTIONS = {
    "tanh(x)": (np.tanh, sech2, (30, 100, 1e4)),
    "sigmoid(x)": (expit, lambda z: expit(z) * expit(-z), (100,)),
    "log(1 + exp(5 * x)) / 5": (lambda z: np.logaddexp(0, 5 * z) / 5, lambda z: expit(5 * z), (20, 30, 1e4)),
    "(exp(x) - exp(-x)) / (exp(x) + exp(-x))": (np.tanh, sech2, (0.1, 100)),
    "arctan(x)": (np.arctan, lambda z: 1 / (1 + z * z), (1e-6, 1, 100, 1e4)),
    "exp(-x**2)": (lambda z: np.exp(-z * z), lambda z: -2 * z * np.exp(-z * z), (100,)),
    "gelu(x)": (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * pdf(z), (1e-6, 1, 316, 1e4)),
    "normal_cdf(x)": (ndtr, pdf, (1e-6, 1, 316, 1e4)),
    "elu(x)": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
        (1e-6, 1, 316, 1e4),
    ),
}


# compiling is what takes time: single precision where it fails otherwise than double precision does
SINGLE = ("tanh(x)", "gelu(x)", "normal_cdf(x)", "elu(x)")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_variance(function, one):
    f, slope, points = FUNCTIONS[function]
    kernel = one(function).kernel()
    for dtype, bound in ((np.float64, 1e-7), (np.float32, 1e-4))[: 2 if function in SINGLE else 1]:
        x = np.array(points, dtype)[:, None]
        expected = np.array([kernels(f, slope, float(point) ** 2) for point in x[:, 0]]).T
        for found, right in zip(kernel(x), expected, strict=True):
            np.testing.assert_allclose(np.diag(found), right, rtol=bound)
    if function == "tanh(x)":  # as simulation gave it
        np.testing.assert_allclose([expected[0][1], expected[1][1]], [0.99202, 54.183], rtol=2e-5)


CORRELATED = """program correlated()
input c : C
vector u, w : G(n) ~ N(0, 1)
vector v : G(n) ~ N(0, 1)
h := c * u + sqrt(1 - c**2) * w
m := <tanh(u), tanh(h)> / n
r := <relu(h), relu(h)> / n
output y := v.T @ (m * relu(u)) / sqrt(n)
output b := r
"""


def test_newton_steps_may_reach_correlation_one_and_pass_it():
    program = tp.parse(CORRELATED)
    variance = mean(lambda z: np.tanh(z) ** 2, 1.0)
    slope = mean(lambda z: sech2(z) ** 2, 1.0)
    kernel = program.kernel()
    own = jax.jit(jax.value_and_grad(lambda c: kernel(c[None], None, "nngp")[0, 0]))
    for c in (1.0, 1 + 1e-12):
        found, gradient = own(jnp.asarray(c))
        np.testing.assert_allclose(found, variance**2 / 2, rtol=1e-9)
        np.testing.assert_allclose(gradient, variance * slope, rtol=1e-8)
    np.testing.assert_allclose(program.limits(np.array([1.0, 1 + 1e-9]))["b"], 0.5)


DEEP = """program deep()
input x : R(d)
weight W[l = 1..15] : A(n, n) ~ N(0, 1) * sqrt(4000 / n)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
h[0] := U @ x
for l = 1..15:
    h[l] := W[l] @ relu(h[l-1])
output y := v.T @ relu(h[15]) / sqrt(n)
"""


def test_overflow_says_where_and_which_dtype_would_do():
    kernel = tp.parse(DEEP).kernel()
    x = np.array([[1e-13, 0.0], [1.0, 2.0]], np.float32)
    with pytest.warns(
        RuntimeWarning, match=r"nngp has .* not finite, the first at \[0, 1\]: float32 overflows"
    ) as said:
        found = kernel(x)
    assert "float64 does not" in str(said[0].message)
    assert np.isfinite(found.nngp[0, 0]) and np.isfinite(kernel(x.astype(float)).ntk).all()
    with pytest.warns(RuntimeWarning, match="overflows in float32 and in float64"):
        tp.parse(DEEP.replace("4000", "4000**7")).kernel()(x[1:])
    with pytest.warns(RuntimeWarning, match=r"first at \[0, 0\]"):
        tp.parse(DEEP.replace("4000", "4000**7")).kernel()(x[1:].astype(float), None, "ntk")


@pytest.mark.parametrize("function", ["tanh(x)", "relu(x)", "x / (1 + abs(x))"])
def test_estimates_of_the_error_bound_it(function, one):
    f, slope, cuts = {
        "tanh(x)": (np.tanh, sech2, (0,)),
        "relu(x)": (lambda z: np.maximum(z, 0), lambda z: z > 0, (0,)),
        "x / (1 + abs(x))": (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2.0, (0,)),
    }[function]
    kernel = one(function).kernel()
    for dtype in (np.float64, np.float32) if function == "relu(x)" else (np.float64,):
        points = np.array([1e-3, 1.0, 30.0, 1e4], dtype)
        found = kernel(points[:, None], return_error=True)
        assert found._fields == ("nngp", "ntk", "nngp_error", "ntk_error")
        expected = np.array([kernels(f, slope, float(x) ** 2, cuts) for x in points]).T
        for value, error, right in zip(found[:2], found[2:], expected, strict=True):
            assert np.all(np.abs(np.diag(value) - right) <= np.diag(error) + 1e-13 * right)
            assert np.all(error <= (2e-7 if dtype == np.float64 else 1e-4) * np.sqrt(np.outer(right, right)))
    with pytest.raises(ValueError, match=r"outside of jax\.jit"):
        jax.jit(lambda x: kernel(x, return_error=True))(points[:, None])
