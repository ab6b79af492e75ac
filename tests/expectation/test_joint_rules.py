"""Expectations over three and more Gaussians: which rule serves what, against brute force, and their derivatives."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from tensorprog import expectation, functions

Z, U, Z2, W, T, W2 = (sympy.Symbol(name, real=True) for name in ("z", "u", "z2", "w", "t", "w2"))
ZEROS = {(0, 1), (0, 3), (1, 2), (2, 3)}
HERE = pathlib.Path(__file__).parent


def function(name, *arguments):
    return functions.lookup(name).symbolic(*arguments)


RELU = function("relu", Z + function("relu", U) / 2)
CASES = {
    "relu_relu": RELU,
    "step_relu": RELU.diff(Z),
    "step_relu_step": 2 * RELU.diff(U),
    "relu_tanh": function("relu", Z + sympy.tanh(U) / 2),
    "tanh_tanh": sympy.tanh(Z + sympy.tanh(U) / 2),
    "gate": function("sigmoid", Z) * sympy.tanh(U + Z / 2),
}


MIXED = {
    "tanh_relu": sympy.tanh(Z + function("relu", U) / 2),
    "sin_relu": sympy.sin(Z + function("relu", U) / 2),
}


def twin(f):
    return f.subs({Z: W, U: T, Z2: W2}, simultaneous=True)


def with_twin(make, f, zeros=ZEROS):
    return make.joint(f, twin(f), (Z, U), (W, T), zeros=zeros)


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("make_joint_reference", HERE / "make_joint_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(HERE / "joint_reference.npz") as file:
        module.ARRAYS = {name: file[name] for name in file.files}
    return module


def covariances(module, correlations):
    """(variances, correlations of (z, w), of (u, t), 4, 4)."""
    found = np.zeros((len(module.VARIANCES), len(correlations), len(correlations), 4, 4))
    a, b = np.meshgrid(correlations, correlations, indexing="ij")
    for table, variances in zip(found, module.VARIANCES, strict=True):
        p, p2, q, q2 = variances
        table[..., range(4), range(4)] = variances
        table[..., 0, 2] = table[..., 2, 0] = a * np.sqrt(p) * np.sqrt(q)
        table[..., 1, 3] = table[..., 3, 1] = b * np.sqrt(p2) * np.sqrt(q2)
    return found


@pytest.mark.parametrize("name", CASES)
def test_against_brute_force(name, make, reference):
    correlations = reference.CORRELATIONS if name in reference.KINKED else reference.SMOOTH_CORRELATIONS
    _, value = with_twin(make, CASES[name])
    compiled, table = jax.jit(value), covariances(reference, correlations)
    expected = reference.ARRAYS[name]
    scale = np.max(np.abs(expected), axis=(1, 2), keepdims=True)
    error = np.abs(compiled(table, None) - expected) / scale
    if name == "relu_tanh":
        # coarse where the inner correlation is near +-1 and the outer one is not, and for large variances
        assert np.max(error[:2]) < 1e-5 and np.max(error[2]) < 1e-3
        error = error[:2, 1:4, 1:4]
    # next to correlation 1 a jump leaves 5e-8
    assert np.max(error) < (2e-7 if "step" in name else 1e-8 if name in reference.KINKED else 3e-7)
    single = compiled(jnp.asarray(table, jnp.float32), None)
    assert single.dtype == jnp.float32
    error = np.abs(single - expected)[:2, 1:4, 1:4] / scale[:2]
    assert np.max(error) < 2e-5


@pytest.mark.parametrize(
    ("f", "rule"),
    [
        (RELU, "orthant moments"), (RELU.diff(U), "orthant moments"),
        (function("abs", Z - 3 * function("leaky_relu", U)), "orthant moments"),
        (CASES["tanh_tanh"], "Hermite expansion in 2 + 2 variables"),
        (CASES["relu_tanh"], "trapezoidal rule in two dimensions over bivariate normal"),
        (sympy.tanh(Z + function("relu", U)), "polar quadrature over Hermite expansion"),
        (U * RELU, "polar quadrature over bivariate normal"),
        (function("relu", Z + function("elu", U)), "polar quadrature over bivariate normal"),
        (function("relu", Z + function("relu", U - 1)), "split quadrature over bivariate normal"),
    ],
    ids=str,
)  # fmt: skip
def test_rules(f, rule, make):
    plan, value = with_twin(make, f)
    assert plan.rule == rule
    covariance = np.array([[0.9, 0, 0.5, 0], [0, 1.2, 0, -0.3], [0.5, 0, 0.8, 0], [0, -0.3, 0, 0.7]])
    rng = np.random.default_rng(0)
    samples = np.linalg.cholesky(covariance) @ rng.normal(size=(4, 400_000))
    both = functions.numeric(f * twin(f), [Z, U, W, T])(*samples)
    assert abs(float(jax.jit(value)(covariance, None)) - both.mean()) < 5 * both.std() / np.sqrt(both.size)


def test_a_sum_of_gaussians_is_one_gaussian(make):
    f = function("sigmoid", Z) * sympy.tanh(U + 2 * Z2)
    zeros = {(i, j) for i in range(6) for j in range(i + 1, 6)} - {(0, 3), (1, 4), (2, 5)}
    plan, value = make.joint(f, twin(f), (Z, U, Z2), (W, T, W2), zeros=zeros)
    assert plan.rule == "Hermite expansion"
    covariance = np.eye(6)
    for i, k in enumerate((0.5, -0.3, 0.2)):
        covariance[i, i + 3] = covariance[i + 3, i] = k
    pairs = make.pair(function("sigmoid", sympy.Symbol("x", real=True)))(0.5, 1.0, 1.0)
    pairs *= make.pair(sympy.tanh(sympy.Symbol("x", real=True)))(-0.3 + 4 * 0.2, 5.0, 5.0)
    np.testing.assert_allclose(value(covariance, None), pairs, rtol=1e-9)


def test_one_sided(make):
    """E f(z, u), and E f(z, u) g(t)."""
    for f in (RELU, CASES["relu_tanh"], CASES["tanh_tanh"]):
        x = np.linspace(-9, 9, 2001)
        weight = (x[1] - x[0]) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        z, u = x[:, None], np.sqrt(1.5) * x
        samples = functions.numeric(f, [Z, U])(z, u)
        plan, value = make.joint(f, sympy.Integer(1), (Z, U), (), zeros={(0, 1)})
        assert "product quadrature" not in plan.rule
        expected = weight @ samples @ weight
        np.testing.assert_allclose(jax.jit(value)(np.diag([1.0, 1.5]), None), expected, rtol=1e-5, atol=1e-12)
        plan, value = make.joint(f, sympy.tanh(T), (Z, U), (T,), zeros={(0, 1), (0, 2)})
        assert "product quadrature" not in plan.rule
        inner = np.tanh(0.6 / 1.5 * u[:, None] + np.sqrt(0.7 - 0.36 / 1.5) * x) @ weight
        covariance = np.array([[1.0, 0, 0], [0, 1.5, 0.6], [0, 0.6, 0.7]])
        expected = weight @ (samples * inner) @ weight
        np.testing.assert_allclose(jax.jit(value)(covariance, None), expected, rtol=1e-5, atol=1e-12)


def test_within_a_side_and_across_anything_may_be_correlated(make):
    a = np.random.default_rng(1).normal(size=(4, 4))
    covariance = a @ a.T / 4 + 0.3 * np.eye(4)
    rng = np.random.default_rng(0)
    samples = np.linalg.cholesky(covariance) @ rng.normal(size=(4, 1_000_000))
    for f, rule in ((RELU, "orthant moments"), (CASES["gate"], "Hermite expansion in 2 + 2 variables")):
        plan, value = with_twin(make, f, zeros=())
        assert plan.rule == rule
        both = functions.numeric(f * twin(f), [Z, U, W, T])(*samples)
        assert abs(float(jax.jit(value)(covariance, None)) - both.mean()) < 5 * both.std() / 1000


def covariance_of(p, p2, q, q2, k, k2):
    zero = jnp.zeros_like(p)
    rows = ((p, zero, k, zero), (zero, p2, zero, k2), (k, zero, q, zero), (zero, k2, zero, q2))
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


@pytest.mark.parametrize("name", ("relu_relu", "step_relu", "relu_tanh", "tanh_tanh", "tanh_relu", "sin_relu"))
def test_derivatives(name, make):
    _, value = with_twin(make, CASES.get(name) or MIXED[name])
    whole = lambda p: value(covariance_of(*p), None)  # noqa: E731
    point = jnp.asarray([1.0, 0.8, 1.2, 0.7, 0.5, -0.3])
    # value and slope at p along v, by one compilation
    both = jax.jit(lambda p, v: jax.jvp(whole, (p,), (v,)))
    directions = np.eye(6)
    if name == "relu_tanh":  # it costs much: by the two covariances alone
        both = jax.jit(lambda p, v: jax.jvp(lambda k: whole((*point[:4], *k)), (p[4:],), (v[4:],)))
        directions = directions[4:]
    elif name == "tanh_relu":
        directions = [[0.3, -0.7, 0.5, 1.1, 0.9, 0.8]]
    step = 1e-4
    for direction in jnp.asarray(directions):
        at = lambda t, v=direction: float(both(point + t * step * v, v)[0])  # noqa: E731
        slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
        np.testing.assert_allclose(both(point, direction)[1], slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ("relu_relu", "tanh_tanh", "sin_relu"))
def test_nothing_is_nan_where_things_degenerate(name, make):
    _, value = with_twin(make, CASES.get(name) or MIXED[name])
    # in one direction: a NaN in any derivative stays one
    whole = lambda v: value(covariance_of(*v), None)  # noqa: E731
    both = jax.jit(jax.vmap(lambda v: jax.jvp(whole, (v,), (jnp.ones_like(v),))))
    points = [
        (1, 1, 1, 1, 1, 1), (1, 1, 1, 1, -1, 1), (1, 1, 1, 1, 1, -1), (1, 1, 1, 1, -1, -1), (0, 0, 0, 0, 0, 0),
        (0, 1, 0, 1, 0, 1), (1, 0, 1, 0, 1, 0), (2, 1, 8, 4, 4, 2), (1, 1, 1, 1, 0, 0),
    ]  # fmt: skip
    for dtype in (np.float64, np.float32):
        assert all(np.all(np.isfinite(a)) for a in both(jnp.asarray(points, dtype)))


def test_one_and_the_same_input_has_the_limit_of_the_derivatives(make):
    _, value = with_twin(make, RELU)
    both = jax.jit(jax.value_and_grad(lambda v: value(covariance_of(*v), None)))
    point = jnp.asarray([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    # E relu(z + relu(u)/2)², E step(z + relu(u)/2), E step(z + relu(u)/2) step(u)/4
    x = np.linspace(0, 9, 4001)
    weight = np.full(x.size, x[1]) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    weight[0] /= 2
    cdf = functions.numeric(function("normal_cdf", U), [U])(x / 2)
    square = (1 + x**2 / 4) * cdf + x / 2 * np.exp(-(x**2) / 8) / np.sqrt(2 * np.pi)
    # nearer, rounding counts in the terms of the second derivative that cancel
    for distance, bound in ((0.0, 1e-6), (1e-9, 1e-4)):
        found, slopes = both(point.at[4:].add(-distance))
        np.testing.assert_allclose(found, 0.25 + weight @ square, rtol=1e-6)
        np.testing.assert_allclose(slopes[4:], (0.25 + weight @ cdf, weight @ cdf / 4), rtol=bound)


def test_scalars_and_means(make):
    c = sympy.Symbol("c", real=True)
    f = sympy.sin(Z + c * function("relu", U))
    plan = expectation.plan_joint(f, twin(f), (Z, U), (W, T), means=(True, False, True, False), zeros=ZEROS)
    assert plan.rule == "polar quadrature over trigonometric"
    cov = {(0, 0): "1.0", (1, 1): "1.2", (2, 2): "0.8", (3, 3): "0.7", (0, 2): "k", (1, 3): "0.3"}
    call = plan.call(cov, ["m", None, "m", None], {c: "c"}, {c: "0.4"})
    source = [expectation.HEADER, expectation.runtime_source(plan.runtime), *plan.definitions]
    namespace = {}
    exec("\n\n".join(source) + f"\ndef value(k, m, c):\n    return {call}\n", namespace)
    value = jax.jit(namespace["value"])
    covariance = np.array([[1, 0, 0.5, 0], [0, 1.2, 0, 0.3], [0.5, 0, 0.8, 0], [0, 0.3, 0, 0.7]])
    samples = np.linalg.cholesky(covariance) @ np.random.default_rng(0).normal(size=(4, 1_000_000))
    left = np.sin(samples[0] + 0.2 + 0.6 * np.maximum(samples[1], 0))
    both = left * np.sin(samples[2] + 0.2 + 0.4 * np.maximum(samples[3], 0))
    assert abs(float(value(0.5, 0.2, 0.6)) - both.mean()) < 5 * both.std() / 1000
    slopes = jax.jit(jax.jacfwd(namespace["value"], (0, 1, 2)))(0.5, 0.2, 0.6)
    point, step = np.array([0.5, 0.2, 0.6]), 1e-4
    for slope, direction in zip(slopes, np.eye(3), strict=True):
        up, down = (float(value(*(point + s * step * direction))) for s in (1, -1))
        np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6)
