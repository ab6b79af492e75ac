"""Batch normalization followed by piecewise linear functions: against reference arrays, simulation and differences."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tensorprog.expectation.runtime.batchnorm import batchnorm_mean, batchnorm_pair, batchnorm_self
from tensorprog.expectation.source import HEADER, runtime_source

RELU, ABS, IDENTITY, LEAKY = (0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.55, 0.45)
SIDES = {"relu": (RELU, RELU), "abs and leaky": (ABS, LEAKY), "identity and relu": (IDENTITY, RELU)}

compiled = {function: jax.jit(function) for function in (batchnorm_pair, batchnorm_self, batchnorm_mean)}


# The functions as traced values, so that one compilation serves all of them.
def pair(S1, S2, X, eps1, eps2, phi=RELU, gamma=RELU):
    return compiled[batchnorm_pair](S1, S2, X, eps1, eps2, phi, gamma)


def own(S, eps, phi=RELU, gamma=RELU):
    return compiled[batchnorm_self](S, eps, phi, gamma)


def mean(S, eps, phi=RELU):
    return compiled[batchnorm_mean](S, eps, phi)


@jax.jit
def kernel_and_slope(S1, S2, X, eps):
    """The value, and its derivative in X along X."""
    return jax.jvp(lambda X: batchnorm_pair(S1, S2, X, eps, eps), (X,), (X,))


@jax.jit
def slopes(S1, S2, X, eps1, eps2, weights):
    """The gradient of a weighted sum of entries."""
    return jax.grad(lambda *a: jnp.sum(weights * batchnorm_pair(*a)), (0, 1, 2, 3, 4))(S1, S2, X, eps1, eps2)


@jax.jit
def slopes_of_slope(S1, S2, X, eps, direction, weights):
    """The gradient of a weighted sum of entries of the derivative in X."""

    def slope(S1, S2, X, eps):
        return jnp.sum(weights * jax.jvp(lambda X: batchnorm_pair(S1, S2, X, eps, eps), (X,), (direction,))[1])

    return slope(S1, S2, X, eps), jax.grad(slope, (0, 1, 2, 3))(S1, S2, X, eps)


def covariances(x, y):
    """S1, S2 and X of batches x and y, (samples, dimensions)."""
    return tuple(np.asarray(a @ b.T / x.shape[-1]) for a, b in ((x, x), (y, y), (x, y)))


def batches(B1, B2, seed=0, dimensions=30):
    """Two batches with a part in common, and a common offset."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(max(B1, B2), dimensions))
    x, y = (common[:B] + 0.7 * rng.normal(size=(B, dimensions)) + 0.5 for B in (B1, B2))
    return x, y


def error(found, expected):
    return np.max(np.abs(np.asarray(found) - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize("dtype, loosest", ((np.float64, 1e-9), (np.float32, 1e-5)))
def test_reference_arrays(reference, dtype, loosest):
    digits = reference["digits"].reshape(32, -1)
    S1, S2, X = (a.astype(dtype) for a in covariances(digits[:7], digits[7:12]))
    value, slope = kernel_and_slope(S1, S2, X, 0.0)
    assert value.dtype == dtype
    assert error(value, reference["batchnorm_gp_cross_depth1"]) < loosest
    assert error(value + slope, reference["batchnorm_ntk_cross"]) < loosest
    value, slope = kernel_and_slope(S1, S1, S1, 0.0)
    assert error(value + slope, reference["batchnorm_ntk_same"]) < max(loosest, 1e-9)
    if dtype == np.float32:
        return
    S1, S2, X = covariances(digits[:16], digits[16:])
    deeper = pair(own(S1, 0.0), own(S2, 0.0), pair(S1, S2, X, 0.0, 0.0), 0.0, 0.0)
    assert error(deeper, reference["batchnorm_gp_cross_depth2"]) < loosest


def test_simulation():
    x, y = batches(5, 4)
    root = np.linalg.qr(np.concatenate([x, y]).T / np.sqrt(x.shape[1]), mode="r")
    rng = np.random.default_rng(1)
    h = rng.normal(size=(300_000, 9)) @ root

    def normalized(h, eps):
        z = h - h.mean(axis=1, keepdims=True)
        return z / np.sqrt(np.mean(z**2, axis=1, keepdims=True) + eps)

    def side(u, phi):
        return phi[0] * u + phi[1] * np.abs(u)

    def check(found, samples):
        assert np.max(np.abs(found - samples.mean(axis=0)) / (samples.std(axis=0) / len(samples) ** 0.5)) < 4.5

    u, v = normalized(h[:, :5], 0.3), normalized(h[:, 5:], 0.0)
    S1, S2, X = covariances(x, y)
    for f, g in SIDES.values():
        check(pair(S1, S2, X, 0.3, 0.0, f, g), side(u, f)[:, :, None] * side(v, g)[:, None, :])
        check(own(S1, 0.3, f, g), side(u, f)[:, :, None] * side(u, g)[:, None, :])
        if g is not IDENTITY:
            check(mean(S2, 0.0, g), side(v, g))


@pytest.mark.parametrize("sides", SIDES)
def test_a_batch_with_itself(sides):
    f, g = SIDES[sides]
    for B in (2, 5):
        x, _ = batches(B, B)
        if B == 5:
            x[4:] = x[:1]
        for eps in (0.0, 1e-5, 0.5, 100.0):
            S, _, _ = covariances(x, x)
            np.testing.assert_allclose(pair(S, S, S, eps, eps, f, g), own(S, eps, f, g), rtol=1e-9, atol=1e-11)


def test_moments_that_are_known():
    for B, eps in ((2, 0.0), (5, 0.0), (5, 0.2)):
        S, _, _ = covariances(*batches(B, B))
        u2 = np.trace(own(S, eps, IDENTITY, IDENTITY))
        if eps == 0:
            np.testing.assert_allclose(u2, B, rtol=1e-10)
        np.testing.assert_allclose(np.trace(own(S, eps, ABS, ABS)), u2, rtol=1e-12)
    # independent of each other
    S1, S2, X = covariances(*batches(5, 4))
    product = np.outer(mean(S1, 0.1), mean(S2, 0.0))
    np.testing.assert_allclose(pair(S1, S2, 0 * X, 0.1, 0.0), product, rtol=1e-9)
    assert not np.any(mean(S1, 0.1, IDENTITY))


def test_linear_functions():
    """Numbers, unlike traced values, leave the absolute values out where their factor is 0."""
    S1, S2, X = covariances(*batches(5, 4))
    known = jax.jit(lambda *a: batchnorm_pair(*a, 0.1, 0.0, IDENTITY, RELU))
    np.testing.assert_allclose(known(S1, S2, X), pair(S1, S2, X, 0.1, 0.0, IDENTITY, RELU), rtol=1e-12)
    known = jax.jit(lambda S: batchnorm_self(S, 0.1, IDENTITY, RELU))
    np.testing.assert_allclose(known(S1), own(S1, 0.1, IDENTITY, RELU), rtol=1e-12)


def test_two_samples_without_eps():
    """u = (sign z, -sign z), so that kernels are orthant probabilities."""
    x, y = batches(2, 2)
    S1, S2, X = covariances(x, y)
    difference = np.array([1, -1])
    c = difference @ X @ difference / np.sqrt((difference @ S1 @ difference) * (difference @ S2 @ difference))
    alike, opposite = (0.25 + sign * np.arcsin(c) / (2 * np.pi) for sign in (1, -1))
    expected = np.array([[alike, opposite], [opposite, alike]])
    np.testing.assert_allclose(pair(S1, S2, X, 0.0, 0.0), expected, rtol=1e-10)
    np.testing.assert_allclose(pair(S1, S1, S1, 0.0, 0.0), np.eye(2) / 2, atol=1e-10)
    np.testing.assert_allclose(own(S1, 0.0), np.eye(2) / 2, atol=1e-10)
    # several samples of each kind; of two kinds with 2 and 3 the squared distances from the mean are as 3/2 to 2/3
    left, right = [0, 0, 1, 1, 1], [0, 0, 1, 1]
    S1, S2, X = S1[np.ix_(left, left)], S2[np.ix_(right, right)], X[np.ix_(left, right)]
    weights = np.sqrt(np.array([1.5, 1.5, 2 / 3, 2 / 3, 2 / 3]))[:, None]
    np.testing.assert_allclose(pair(S1, S2, X, 0.0, 0.0), weights * expected[np.ix_(left, right)], rtol=1e-9)


def perturbed(arguments, index, step, direction):
    return [a + step * direction if i == index else a for i, a in enumerate(arguments)]


def symmetric(rng, like):
    direction = rng.normal(size=np.shape(like))
    square = direction.ndim == 2 and direction.shape[0] == direction.shape[1]
    return (direction + direction.T) / 2 if square else direction


def fourth_order(function, arguments, index, direction, step=1e-3):
    at = lambda t: function(*perturbed(arguments, index, t * step, direction))  # noqa: E731
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


def test_derivatives_are_those_of_differences():
    rng = np.random.default_rng(2)
    arguments = [*covariances(*batches(5, 4)), 0.1, 0.3]
    weights = rng.normal(size=(5, 4))
    gradient = slopes(*arguments, weights)
    for index, part in enumerate(gradient):
        direction = symmetric(rng, arguments[index])
        found = np.sum(np.asarray(part) * direction)
        expected = fourth_order(lambda *a: np.sum(weights * pair(*a)), arguments, index, direction)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for function, w in ((own, rng.normal(size=(5, 5))), (mean, rng.normal(size=5))):
        total = lambda S, eps, function=function, w=w: jnp.sum(w * function(S, eps))  # noqa: E731
        arguments = [arguments[0], 0.1]
        for index, part in enumerate(jax.jit(jax.grad(total, (0, 1)))(*arguments)):
            direction = symmetric(rng, arguments[index])
            expected = fourth_order(total, arguments, index, direction)
            np.testing.assert_allclose(np.sum(np.asarray(part) * direction), expected, rtol=1e-6)


def test_derivatives_of_a_batch_with_itself():
    """All covariances moving as one, a pair moves as a single batch does."""
    rng = np.random.default_rng(3)
    S, _, _ = covariances(*batches(5, 5))
    direction = symmetric(rng, S)
    alone, both = (
        jax.jit(lambda eps, function=function: jax.jvp(function, (S, eps), (direction, jnp.ones_like(eps))))
        for function in (batchnorm_self, lambda S, eps: batchnorm_pair(S, S, S, eps, eps))
    )
    for eps in (0.0, 0.2):
        for found, expected in zip(both(eps), alone(eps), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    # in X alone, from below: the error of the difference is of the order of the root of the step
    step = 1e-6
    _, slope = kernel_and_slope(S, S, S, 0.2)
    difference = (pair(S, S, S, 0.2, 0.2) - pair(S, S, (1 - step) * S, 0.2, 0.2)) / step
    assert error(slope, np.asarray(difference)) < 3e-3


def test_equal_eigenvalues_have_derivatives():
    """As samples that are orthogonal, where those of eigenvectors do not exist."""
    rng = np.random.default_rng(4)
    arguments = [np.eye(5), np.eye(4), 0.4 * np.eye(5, 4), 0.1, 0.0]
    weights = rng.normal(size=(5, 4))
    for index, part in enumerate(slopes(*arguments, weights)[:4]):
        direction = symmetric(rng, arguments[index])
        expected = fourth_order(lambda *a: np.sum(weights * pair(*a)), arguments, index, direction)
        np.testing.assert_allclose(np.sum(np.asarray(part) * direction), expected, rtol=1e-6)


def test_gradients_of_a_neural_tangent_kernel():
    rng = np.random.default_rng(5)
    S1, S2, X = covariances(*batches(5, 4))
    arguments = [S1, S2, X, 0.1]
    fixed = X, rng.normal(size=X.shape)
    gradient = slopes_of_slope(*arguments, *fixed)[1]
    for index, part in enumerate(gradient):
        direction = symmetric(rng, arguments[index])
        expected = fourth_order(lambda *a: slopes_of_slope(*a, *fixed)[0], arguments, index, direction)
        np.testing.assert_allclose(np.sum(np.asarray(part) * direction), expected, rtol=1e-5)


def degenerate():
    """Two batches and eps, by name."""
    x, y = batches(5, 5)
    return {
        "no data": (0 * x, y, 0.1),
        "no data without eps": (0 * x, y, 0.0),
        "all equal": (x[[0, 0, 0, 0, 0]], y, 0.1),
        "all equal without eps": (x[[0, 0, 0, 0, 0]], y, 0.0),
        "two of each": (x[[0, 1, 1, 2, 2]], y, 0.0),
        "equal in both": (x[[0, 0, 1, 2, 3]], x[[3, 2, 2, 1, 4]], 0.0),
        "nearly equal": (x[[0, 0, 0, 1, 1]] + 1e-6 * x, x[[0, 1, 2, 2, 3]] + 1e-7 * y, 1e-5),
        "in one direction": (x[:, :1], y[:, :1], 0.0),
        "huge and tiny": (1e6 * x, 1e-6 * y, 0.0),
        "huge and tiny with eps": (1e6 * x, 1e-6 * y, 1e-5),
    }


@pytest.mark.parametrize("dtype", (np.float64, np.float32))
def test_no_nan(dtype):
    cases = degenerate()
    pairs = {(name, i): (a, c, eps) for name, (a, b, eps) in cases.items() for i, c in enumerate((b, a))}
    S1, S2, X = (
        np.stack(parts).astype(dtype) for parts in zip(*(covariances(a, c) for a, c, _ in pairs.values()), strict=True)
    )
    eps = np.array([eps for *_, eps in pairs.values()], dtype)
    value, slope = kernel_and_slope(S1, S2, X, eps)
    gradient = slopes(S1, S2, X, eps, eps, np.ones_like(X)) if dtype == np.float64 else ()
    for i, (name, _) in enumerate(pairs):
        assert all(np.all(np.isfinite(part[i])) for part in (value, slope, *gradient)), name
        if name.startswith(("no data", "all equal")):
            assert not np.any(value[i]) and np.max(np.abs(slope[i])) < 1e-12, name
        if dtype == np.float64:
            assert np.all(np.asarray(value[i]) >= -1e-12), name
    for function in (own, mean):
        assert np.all(np.isfinite(function(S1, eps)))
    # one direction: u is known but for the sign
    u, v = (a[:, 0] - a[:, 0].mean() for a in cases["in one direction"][:2])
    products = [np.outer(np.maximum(s * u, 0), np.maximum(s * v, 0)) for s in (1, -1)]
    found = value[list(pairs).index(("in one direction", 0))]
    loosest = 1e-9 if dtype == np.float64 else 1e-5
    assert error(found, sum(products) / 2 / (u.std() * v.std())) < loosest


def test_one_sample():
    x, y = batches(1, 3)
    for eps in (0.1, 0.0):
        S1, S2, X = covariances(x, y)
        assert not np.any(kernel_and_slope(S1, S2, X, eps))
        assert not np.any(own(S1, eps)) and not np.any(mean(S1, eps))


def test_scale_of_the_data():
    x, y = batches(5, 4)
    S1, S2, X = covariances(x, y)
    value, slope = kernel_and_slope(S1, S2, X, 0.0)
    for scale1, scale2 in ((1e6, 1e6), (1e-6, 1e6), (1e-6, 1e-6)):
        scaled = kernel_and_slope(scale1**2 * S1, scale2**2 * S2, scale1 * scale2 * X, 0.0)
        np.testing.assert_allclose(scaled[0], value, rtol=1e-12)
        np.testing.assert_allclose(scaled[1], slope, rtol=1e-12, atol=1e-13)
    with_eps = kernel_and_slope(S1, S2, X, 0.1)
    scaled = kernel_and_slope(1e12 * S1, 1e12 * S2, 1e12 * X, 1e11)
    np.testing.assert_allclose(scaled, with_eps, rtol=1e-12, atol=1e-13)


def test_offsets_do_not_matter():
    """A constant added to all of a batch, as by a bias that the samples share."""
    S1, S2, X = covariances(*batches(5, 4))
    np.testing.assert_allclose(pair(S1 + 3, S2 + 2, X - 1, 0.1, 0.0), pair(S1, S2, X, 0.1, 0.0), rtol=1e-11)


def test_nearly_equal_samples():
    """As differences of samples shrink, their part of the kernel does."""
    x, y = batches(5, 4)
    close = x[[0, 0, 1, 1, 2]]
    S1, S2, X = covariances(close, y)
    limit = np.asarray(pair(S1, S2, X, 0.0, 0.0))
    for step in (1e-5, 1e-7):
        found = pair(*covariances(close + step * x, y), 0.0, 0.0)
        assert error(found, limit) < 3 * step


def test_tables_of_pairs():
    left = np.stack([batches(5, 4, seed)[0] for seed in range(3)])
    right = np.stack([batches(5, 4, seed + 7)[1] for seed in range(2)])
    S1, S2 = (np.einsum("nbi,nci->nbc", a, a) / 30 for a in (left, right))
    X = np.einsum("nbi,mci->nmbc", left, right) / 30
    eps = np.array([0.1, 0.0, 10.0])
    table = pair(S1[:, None], S2[None], X, eps[:, None], 0.0)
    assert table.shape == (3, 2, 5, 4)
    selves, means = own(S1, eps), mean(S1, eps)
    assert selves.shape == (3, 5, 5) and means.shape == (3, 5)
    for i in range(3):
        np.testing.assert_allclose(selves[i], own(S1[i], eps[i]), rtol=1e-12)
        np.testing.assert_allclose(means[i], mean(S1[i], eps[i]), rtol=1e-12)
        for j in range(2):
            np.testing.assert_allclose(table[i, j], pair(S1[i], S2[j], X[i, j], eps[i], 0.0), rtol=1e-12)


def test_slopes_of_leaky_relu_have_derivatives():
    S1, _, _ = covariances(*batches(5, 4))
    value = lambda a: jnp.sum(batchnorm_self(S1, 0.1, ((1 + a) / 2, (1 - a) / 2), RELU))  # noqa: E731
    at = jax.jit(jax.value_and_grad(value))
    np.testing.assert_allclose(at(0.1)[1], (at(0.2)[0] - at(0.0)[0]) / 0.2, rtol=1e-10)


@pytest.mark.parametrize("vmapped", (False, True))
def test_one_matrix_at_a_time(vmapped):
    """Of several matrices, LAPACK's calls wait for threads of the pool that they are called on, for ever at times."""

    def slope(S, X):
        return jax.jvp(lambda X: batchnorm_pair(S, S, X, 0.1, 0.1), (X,), (X,))[1]

    functions = slope, lambda S, X: batchnorm_self(S, 0.1) + batchnorm_mean(S, 0.1)[..., None]
    S = np.ones((2, 3, 5, 5))
    for function in functions:
        function = jax.vmap(jax.vmap(function)) if vmapped else function
        gradient = jax.grad(lambda S, X, function=function: jnp.sum(function(S, X)))
        text = jax.jit(gradient).trace(S, S).lower(lowering_platforms=("cpu",)).as_text()
        shapes = re.findall(r"custom_call @lapack_.* : \(tensor<([0-9x]*)xf", text)
        assert shapes and set(shapes) == {"5x5"}


def test_source_stands_alone():
    namespace = {}
    exec(f"{HEADER}\n\n{runtime_source(['batchnorm'])}", namespace)
    S1, S2, X = covariances(*batches(5, 4))
    found = jax.jit(namespace["batchnorm_pair"])(S1, S2, X, 0.1, 0.1)
    np.testing.assert_array_equal(found, pair(S1, S2, X, 0.1, 0.1))
