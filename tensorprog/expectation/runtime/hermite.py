"""E f(z) g(w) of smooth functions by their Hermite expansions."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .shapes import common_shape, correlation, reciprocal, same_rank

HERMITE_NODES = np.linspace(-12.8, 12.8, 641)
HERMITE_MOST_TERMS = 4096


def hermite_pair(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
    """E f(z) g(w) = sum over m of a_m(p) b_m(q) c^m, with a_m(p) = E f(mu + sqrt(p) x) He_m(x)/sqrt(m!).

    The coefficients are taken on the small shapes of p and q, by the trapezoidal rule, whose error for analytic
    functions is exponentially small (Trefethen & Weideman 2014). Terms are added, 16 at a time, until the Parseval
    tails E f² - sum a_m² and E g² - sum b_m² bound the rest at correlation 1.
    """
    k, p, q, mu, nu, *scalars = same_rank(k, p, q, mu, nu, *f_scalars, *g_scalars)
    f_scalars, g_scalars = scalars[: len(f_scalars)], scalars[len(f_scalars) :]
    left, right = common_shape(p, mu, *f_scalars), common_shape(q, nu, *g_scalars)
    shape = common_shape(k, p, q, mu, nu, *scalars)
    known = [np.prod(s) for s in (left, right) if all(isinstance(n, int) for n in s)]  # not while it is exported
    if sum(known) * HERMITE_NODES.size > 2**27 and len(shape):
        return _by_slices(f, g, shape, (k, p, q, mu, nu), f_scalars, g_scalars)
    dtype = k.dtype
    nodes = jnp.asarray(HERMITE_NODES, dtype)
    root_weight = jnp.asarray(np.exp(-(HERMITE_NODES**2) / 4), dtype)
    weight = float((HERMITE_NODES[1] - HERMITE_NODES[0]) / np.sqrt(2 * np.pi))

    def samples(function, mean, variance, values):
        x = mean[..., None] + jnp.sqrt(jnp.maximum(variance, 0))[..., None] * nodes
        return (function(x, *(s[..., None] for s in values)) * root_weight).astype(dtype)

    f_samples, g_samples = samples(f, mu, p, f_scalars), samples(g, nu, q, g_scalars)
    f_square, g_square = (weight * jnp.sum(s * s, axis=-1) for s in (f_samples, g_samples))
    c = correlation(k, p, q)
    c16 = c**16
    # rounding keeps the computed tails from falling further
    tolerance = 1e-11 if dtype == jnp.float64 else 1e-6

    def coefficients(values, functions):
        return weight * jnp.einsum("...n,mn->...m", values, functions, precision=lax.Precision.HIGHEST)

    def unfinished(state):
        m, *_, f_tail, g_tail = state
        f_rest = jnp.max(jnp.maximum(f_tail, 0) * reciprocal(f_square))
        g_rest = jnp.max(jnp.maximum(g_tail, 0) * reciprocal(g_square))
        return (m < HERMITE_MOST_TERMS) & (jnp.minimum(f_rest, 1) * jnp.minimum(g_rest, 1) > tolerance**2)

    def following(pair, j):
        before, now = pair
        return (now, (nodes * now - jnp.sqrt(j) * before) / jnp.sqrt(j + 1)), now

    def add_terms(state):
        m, before, now, power, total, f_tail, g_tail = state
        (before, now), functions = lax.scan(following, (before, now), (m + jnp.arange(16)).astype(dtype))
        a, b = coefficients(f_samples, functions), coefficients(g_samples, functions)
        partial_sum = a[..., 15] * b[..., 15]
        for i in range(14, -1, -1):
            partial_sum = partial_sum * c + a[..., i] * b[..., i]
        f_tail, g_tail = f_tail - jnp.sum(a * a, axis=-1), g_tail - jnp.sum(b * b, axis=-1)
        return m + 16, before, now, power * c16, total + power * partial_sum, f_tail, g_tail

    start = (jnp.asarray(0), jnp.zeros_like(nodes), root_weight, jnp.ones(shape, dtype), jnp.zeros(shape, dtype))
    return lax.while_loop(unfinished, add_terms, (*start, f_square, g_square))[4]


def _by_slices(f, g, shape, arrays, f_scalars, g_scalars):
    """One slice of the first axis at a time, where samples at all nodes would not fit."""
    everything = [*arrays, *f_scalars, *g_scalars]
    moving = [a for a in everything if a.shape[0] > 1]

    def one(slices):
        slices = list(slices)
        k, p, q, mu, nu, *rest = (slices.pop(0) if a.shape[0] > 1 else a[0] for a in everything)
        return hermite_pair(f, g, k, p, q, mu, nu, rest[: len(f_scalars)], rest[len(f_scalars) :])

    return lax.map(one, tuple(moving)) if moving else one(())[None]


def normalized_rows(x, first, terms):
    """first·He_m(x)/sqrt(m!) for m below `terms`, as a matrix (terms, nodes)."""
    rows = [first, x * first]
    for m in range(1, terms - 1):
        rows.append((x * rows[m] - np.sqrt(m) * rows[m - 1]) / np.sqrt(m + 1))
    return np.stack(rows[:terms])


def trapezoid_functions(x, terms):
    """What times samples at the equidistant nodes x gives the first coefficients: a matrix (terms, nodes)."""
    root = np.exp(-(x**2) / 4)
    return normalized_rows(x, root, terms) * root * (x[1] - x[0]) / np.sqrt(2 * np.pi)


def hermite_functions(count):
    """Nodes of the Gauss-Hermite rule, and what times samples there gives as many coefficients."""
    x, weights = np.polynomial.hermite_e.hermegauss(count)
    return x, normalized_rows(x, np.ones(count), count) * weights / weights.sum()
