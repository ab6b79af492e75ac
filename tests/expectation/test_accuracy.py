"""Values and derivatives against brute force, for all variances and correlations, in both dtypes."""

import jax
import jax.numpy as jnp
import numpy as np


def grid(cases, dtype):
    p, q = (np.array([pair[i] for pair in cases.VARIANCES])[:, None] for i in (0, 1))
    k = np.array(cases.CORRELATIONS) * np.sqrt(p) * np.sqrt(q)
    return tuple(jnp.asarray(a, dtype) for a in (k, p, q))


def tolerance(cases, dtype):
    """For each pair of variances: 1e-8 up to 10 and 1e-6 beyond; in float32 1e-5, and 1e-4 beyond."""
    moderate = np.array([max(pair) <= 10 for pair in cases.VARIANCES])
    return np.where(moderate, 1e-8, 1e-6) if dtype == np.float64 else np.where(moderate, 1e-5, 1e-4)


def both(cases, make, name, dtype):
    """Value and derivative by k on the grid."""
    value = make.pair({**cases.SMOOTH, **cases.KINKED}[name])
    arrays = grid(cases, dtype)
    return jax.jit(lambda k, p, q: jax.jvp(lambda k: value(k, p, q), (k,), (jnp.ones_like(k),)))(*arrays)


def check(found, expected, norm, bound):
    error = np.max(np.abs(np.asarray(found, float) - expected), axis=1) / norm
    assert np.all(error <= bound), f"errors {error} exceed {bound}"


def test_double(any_name, cases, make, brute_force):
    value, slope = both(cases, make, any_name, np.float64)
    bound = tolerance(cases, np.float64)
    check(value, brute_force[any_name], brute_force[f"{any_name}_norm"], bound)
    if any_name not in cases.JUMPS:
        # the derivative has steeper features
        check(slope, brute_force[f"{any_name}_slope"], brute_force[f"{any_name}_slope_norm"], 50 * bound)


def test_single(any_name, cases, make, brute_force):
    if any_name == "one_minus_cos":
        return  # has no digits left in float32 near zero, however it is integrated
    value, slope = both(cases, make, any_name, np.float32)
    assert value.dtype == slope.dtype == jnp.float32
    bound = tolerance(cases, np.float32)
    # what the rounding of k alone does near correlation 1, where a derivative has an infinite slope: sqrt(rounding)
    inner = [i for i, c in enumerate(cases.CORRELATIONS) if abs(c) <= 0.9 or abs(c) == 1]
    pick = lambda array: np.asarray(array)[:, inner]  # noqa: E731
    check(pick(value), pick(brute_force[any_name]), brute_force[f"{any_name}_norm"], bound)
    if any_name not in cases.JUMPS:
        expected, norm = brute_force[f"{any_name}_slope"], brute_force[f"{any_name}_slope_norm"]
        check(pick(slope), pick(expected), norm, 50 * bound)


def test_without_x64_the_values_are_the_same(cases, make, brute_force):
    with jax.enable_x64(False):
        for name in ("tanh", "relu", "gelu"):
            value, _ = both(cases, make, name, np.float32)
            assert value.dtype == jnp.float32
            check(np.asarray(value)[:4], brute_force[name][:4], brute_force[f"{name}_norm"][:4], 1e-5)


def test_one_and_the_same_input_is_exact_in_float32(make, cases):
    # a few hundred variances, so that every rounding of sqrt(p)² against p occurs
    p = jnp.asarray(np.random.default_rng(0).uniform(1e-6, 100, 500), jnp.float32)
    relu = make.pair(cases.KINKED["relu"])
    value, slope = jax.jvp(lambda k: relu(k, p, p), (p,), (jnp.ones_like(p),))
    np.testing.assert_allclose(value, p / 2, rtol=1e-6)
    np.testing.assert_array_equal(slope, np.full(500, 0.5, np.float32))
    tiny = jnp.asarray([1e-30, 1e-36], jnp.float32)
    np.testing.assert_allclose(relu(tiny, tiny, tiny), tiny / 2, rtol=1e-6)
