"""Derivatives in k, p, q, the means and the scalars: against differences, and free of NaN where things degenerate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = (
    "relu",
    "leaky_relu",
    "elu",
    "tanh_abs",
    "erf",
    "gelu",
    "tanh",
    "sin",
    "wave",
    "poly",
    "xerf",
)
X = sympy.Symbol("x", real=True)


def differences(function, point, step=1e-4):
    """Central differences of fourth order in each argument."""
    slopes = []
    for i in range(len(point)):
        at = lambda t, i=i: function(*(v + t * step * (j == i) for j, v in enumerate(point)))  # noqa: E731
        slopes.append((8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step))
    return np.array(slopes)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_differences(name, cases, make):
    plain = make.pair({**cases.SMOOTH, **cases.KINKED}[name])
    both = jax.jit(jax.value_and_grad(plain, (0, 1, 2)))
    for point in ((0.3, 1.0, 1.0), (-0.9, 0.8, 2.0)):
        expected = differences(lambda *v: both(*v)[0], point)
        np.testing.assert_allclose(both(*point)[1], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ("relu", "elu", "erf", "tanh", "poly", "sin"))
def test_gradients_with_means(name, cases, make):
    value = make.pair({**cases.SMOOTH, **cases.KINKED}[name], means=True)
    both = jax.jit(jax.value_and_grad(value, (0, 1, 2, 3, 4)))
    point = (0.4, 1.0, 0.7, 0.3, -0.5)
    expected = differences(lambda *v: both(*v)[0], point)
    np.testing.assert_allclose(both(*point)[1], expected, rtol=1e-6, atol=1e-8)


def test_second_derivatives(cases, make):
    for name in ("erf", "tanh", "gelu", "sin"):
        both = jax.jit(jax.value_and_grad(jax.grad(make.pair(cases.SMOOTH[name])), (0, 1, 2)))
        point = (0.4, 1.0, 0.7)
        expected = differences(lambda *v: both(*v)[0], point)  # noqa: B023
        np.testing.assert_allclose(both(*point)[1], expected, rtol=1e-6, atol=1e-8)


def test_scalars_are_differentiated_on_their_own_side(make):
    a = sympy.Symbol("a", real=True)
    value = make.pair(sympy.tanh(a * X) + a**2, scalars=(a,))
    point = (0.4, 1.0, 0.7, 0.9, 1.4)
    found = jax.jit(jax.grad(value, (0, 1, 2, 3, 4)))(*point)
    np.testing.assert_allclose(found, differences(jax.jit(value), point), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_nan_where_things_degenerate(name, cases, make):
    value = make.pair({**cases.SMOOTH, **cases.KINKED}[name])
    # in one direction: a NaN in any derivative stays one
    both = jax.jit(jax.vmap(lambda *v: jax.jvp(value, v, tuple(map(jnp.ones_like, v)))))
    points = [
        (1, 1, 1),
        (-1, 1, 1),
        (0, 0, 1),
        (0, 1, 0),
        (0, 0, 0),
        (2, 2, 2),
        (0, 1, 1),
        (1e-12, 1e-12, 1e-12),
        (3, 1, 9),
    ]
    for dtype in (np.float64, np.float32):
        results, slopes = both(*jnp.asarray(points, dtype).T)
        assert np.all(np.isfinite(results)) and np.all(np.isfinite(slopes)), name


def test_zero_variance_is_exact(cases, make):
    for name, at_zero in (("tanh", 0.0), ("softplus", np.log(2)), ("elu", 0.0), ("gate", 0.5)):
        value = make.pair({**cases.SMOOTH, **cases.KINKED}[name])
        np.testing.assert_allclose(value(0.0, 0.0, 0.0), at_zero**2, atol=1e-14)
    mean = make.pair(sympy.tanh(X), means=True)
    np.testing.assert_allclose(mean(0.0, 0.0, 0.0, 0.3, 0.5), np.tanh(0.3) * np.tanh(0.5), rtol=1e-12)


@given(st.floats(1e-6, 50), st.floats(1e-6, 50), st.floats(-1, 1))
@settings(max_examples=30)
def test_symmetry_and_cauchy_schwarz(p, q, c):
    for name in ("relu", "tanh", "gelu"):
        value = COMPILED[name]
        k = c * np.sqrt(p) * np.sqrt(q)
        here = float(value(k, p, q))
        np.testing.assert_allclose(here, value(k, q, p), rtol=1e-9, atol=1e-12)
        assert here**2 <= value(p, p, p) * value(q, q, q) * (1 + 1e-9)


COMPILED = {}


@pytest.fixture(autouse=True, scope="module")
def compiled(cases, make):
    for name in ("relu", "tanh", "gelu"):
        COMPILED[name] = jax.jit(make.pair({**cases.SMOOTH, **cases.KINKED}[name]))


def test_forward_and_reverse_mode_agree_under_jit_and_vmap(cases, make):
    value = make.pair(cases.SMOOTH["tanh"])
    point = jnp.asarray([[0.3, 1.0, 1.0], [0.9, 1.0, 2.0]])
    reverse = jax.jit(jax.vmap(jax.grad(value, (0, 1, 2))))(*point.T)
    forward = jax.jit(jax.vmap(jax.jacfwd(value, (0, 1, 2))))(*point.T)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10)


def test_slopes_of_jumps_have_their_deltas(cases, make):
    both = jax.jit(jax.value_and_grad(make.pair(cases.KINKED["step"] * sympy.cos(X)), (0, 1, 2)))
    point = (0.3, 1.0, 0.7)
    np.testing.assert_allclose(both(*point)[1], differences(lambda *v: both(*v)[0], point), rtol=1e-6, atol=1e-8)
