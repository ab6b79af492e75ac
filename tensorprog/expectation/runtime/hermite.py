"""E f(z) g(w) by the Hermite expansions of f and g."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .shapes import RESOLUTION, common_shape, correlation, finer, reciprocal, same_rank

EVEN_NODES = np.linspace(-12.8, 12.8, finer(640) + 1), np.full(finer(640) + 1, 25.6 / finer(640))
SERIES_BLOCK, SERIES_MOST, SERIES_ENDS = 16, 1024, 256
"""Terms added at a time, at most, and before correlations ±1 are taken apart."""
SERIES_TOLERANCE = {True: 1e-11 / RESOLUTION**24, False: 1e-6 / RESOLUTION**8}
SERIES_FLOOR = {True: 1e-14, False: 4e-7}
"""Relative to the value, and to the norms of f and g: where rounding ends what a tail can tell."""
MODERATE_VARIANCE, EVEN_VARIANCE = 10.0, 60.0
"""Up to which a local rule serves, and evenly spaced nodes for what changes over a distance of 1."""


def graded_nodes():
    """Nodes and weights on the line in Gauss-Legendre panels that shrink by thirds towards zero: functions that change
    about zero, or have a kink there, are resolved at any variance up to 1e10.
    """
    edges = np.concatenate([[0.0], 3.0 ** np.arange(-12, 1), np.arange(2.0, 11.0)])
    x, w = [], []
    for left, right in np.stack([edges[:-1], edges[1:]], axis=1):
        t, v = np.polynomial.legendre.leggauss(finer(20 if left >= 1 else 14))
        x.append(left + (right - left) * (t + 1) / 2)
        w.append((right - left) / 2 * v)
    right, weights = np.concatenate(x), np.concatenate(w)
    return np.concatenate([-right[::-1], right]), np.concatenate([weights[::-1], weights])


def series_pair(fallback, local=None, centred=True, finest=1.0):
    """The rule for E f(z) g(w) = sum over m of a_m(p) b_m(q) c^m, with a_m(p) = E f(mu + sqrt(p) x) He_m(x)/sqrt(m!).

    The coefficients are taken on the small shapes of p and q. Terms are added until the Parseval tails E f² - sum a_m²
    and E g² - sum b_m², times |c|^m, bound the rest. Correlations of exactly +-1, where that may be never, are one
    quadrature over f(z) g(+-w); rows with entries beside +-1 that need too many terms are left to `fallback`, or
    `local` where all variances are moderate.

    `centred`: f and g change about zero alone and the means are zero, so that one set of nodes crowded at zero serves
    every variance. Otherwise the nodes are evenly spaced (for smooth functions, exponentially accurate: Trefethen &
    Weideman 2014), and larger variances than they resolve go to `fallback`.
    """

    def rest(*arguments):
        if local is None:
            return fallback(*arguments)
        variance = jnp.maximum(jnp.max(arguments[3]), jnp.max(arguments[4]))
        choose = lambda rule: lambda values: rule(*arguments[:2], *values)  # noqa: E731
        return lax.cond(variance <= MODERATE_VARIANCE, choose(local), choose(fallback), arguments[2:])

    def rule(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
        if centred:
            return _series(rest, True, f, g, k, p, q, mu, nu, f_scalars, g_scalars)
        k, p, q, mu, nu, *scalars = same_rank(k, p, q, mu, nu, *f_scalars, *g_scalars)
        f_scalars, g_scalars = scalars[: len(f_scalars)], scalars[len(f_scalars) :]
        largest = jnp.maximum(jnp.max(p), jnp.max(q))
        return lax.cond(
            largest <= EVEN_VARIANCE * finest**2,
            lambda values: _series(rest, False, f, g, *values),
            lambda values: fallback(f, g, *values),
            (k, p, q, mu, nu, tuple(f_scalars), tuple(g_scalars)),
        )

    return rule


def _series(rest, centred, f, g, k, p, q, mu, nu, f_scalars, g_scalars):
    k, p, q, mu, nu, *scalars = same_rank(k, p, q, mu, nu, *f_scalars, *g_scalars)
    f_scalars, g_scalars = scalars[: len(f_scalars)], scalars[len(f_scalars) :]
    left, right = common_shape(p, mu, *f_scalars), common_shape(q, nu, *g_scalars)
    shape, dtype = common_shape(k, p, q, mu, nu, *scalars), k.dtype
    places, widths = graded_nodes() if centred else EVEN_NODES
    known = [np.prod(s) for s in (left, right) if all(isinstance(n, int) for n in s)]  # not while it is exported
    if sum(known) * places.size > 2**27 and len(shape):
        return _by_slices(rest, f, g, shape, (k, p, q, mu, nu), f_scalars, g_scalars, centred)
    nodes = jnp.asarray(places, dtype)
    root_weight = jnp.asarray(np.exp(-(places**2) / 4), dtype)
    weight = jnp.asarray(widths / np.sqrt(2 * np.pi), dtype)

    def samples(function, mean, variance, values):
        """f(z)·exp(-x²/4), as a share of the largest, and that."""
        x = mean[..., None] + jnp.sqrt(jnp.maximum(variance, 0))[..., None] * nodes
        found = (function(x, *(s[..., None] for s in values)) * root_weight).astype(dtype)
        largest = jnp.max(jnp.abs(found), axis=-1)
        return found * reciprocal(largest)[..., None], largest

    (f_samples, f_scale), (g_samples, g_scale) = samples(f, mu, p, f_scalars), samples(g, nu, q, g_scalars)
    f_square, g_square = (jnp.sum(weight * s * s, axis=-1) for s in (f_samples, g_samples))
    c = correlation(k, p, q)
    power_step = c**SERIES_BLOCK
    tolerance, floor = (a[dtype == jnp.float64] for a in (SERIES_TOLERANCE, SERIES_FLOOR))
    norm = jnp.sqrt(f_square) * jnp.sqrt(g_square)

    def coefficients(values, functions):
        return jnp.einsum("...n,mn->...m", values, functions, precision=lax.Precision.HIGHEST)

    def unfinished(state):
        """Where what is left out may still matter."""
        _, _, _, power, total, f_tail, g_tail = state
        bound = jnp.abs(power) * (jnp.sqrt(jnp.maximum(f_tail, 0)) * jnp.sqrt(jnp.maximum(g_tail, 0)))
        return bound > tolerance * jnp.abs(total) + floor * norm

    def going_on(state):
        m = state[0]
        return (m < SERIES_MOST) & jnp.any(unfinished(state) & ((m < SERIES_ENDS) | (jnp.abs(c) < 1)))

    def following(pair, j):
        before, now = pair
        return (now, (nodes * now - jnp.sqrt(j) * before) / jnp.sqrt(j + 1)), now * weight

    def add_terms(state):
        m, before, now, power, total, f_tail, g_tail = state
        (before, now), functions = lax.scan(following, (before, now), (m + jnp.arange(SERIES_BLOCK)).astype(dtype))
        a, b = coefficients(f_samples, functions), coefficients(g_samples, functions)
        partial_sum = a[..., -1] * b[..., -1]
        for i in range(SERIES_BLOCK - 2, -1, -1):
            partial_sum = partial_sum * c + a[..., i] * b[..., i]
        f_tail, g_tail = f_tail - jnp.sum(a * a, axis=-1), g_tail - jnp.sum(b * b, axis=-1)
        return m + SERIES_BLOCK, before, now, power * power_step, total + power * partial_sum, f_tail, g_tail

    start = (jnp.asarray(0), jnp.zeros_like(nodes), root_weight, jnp.ones(shape, dtype), jnp.zeros(shape, dtype))
    state = lax.while_loop(going_on, add_terms, (*start, f_square, g_square))
    total, missing = state[4], unfinished(state)
    ends = missing & (jnp.abs(c) >= 1)

    def with_ends(total):
        upper, lower = (jnp.einsum("...n,...n->...", f_samples * weight, s) for s in (g_samples, g_samples[..., ::-1]))
        return jnp.where(ends, jnp.where(c > 0, upper, lower), total)

    total = lax.cond(jnp.any(ends), with_ends, lambda total: total, total) * (f_scale * g_scale)
    missing = missing & ~ends
    everything = (k, p, q, mu, nu, *scalars)

    def by_fallback(values):
        k, p, q, mu, nu, *scalars = values
        return rest(f, g, k, p, q, mu, nu, tuple(scalars[: len(f_scalars)]), tuple(scalars[len(f_scalars) :]))

    def row(i):
        """The entries of one row, where some are missing by the fallback."""
        own = [
            lax.dynamic_slice_in_dim(a, i, 1) if a.shape[0] == shape[0] else a for a in (total, missing, *everything)
        ]
        return lax.cond(
            jnp.any(own[1]),
            lambda own: jnp.where(own[1], by_fallback(own[2:]), own[0]),
            lambda own: own[0],
            own,
        )

    def rows():
        return lax.map(row, jnp.arange(shape[0])).reshape(shape) if shape else by_fallback(everything)

    return lax.cond(jnp.any(missing), rows, lambda: total)


def _by_slices(rest, f, g, shape, arrays, f_scalars, g_scalars, centred):
    """One slice of the first axis at a time, where samples at all nodes would not fit."""
    everything = [*arrays, *f_scalars, *g_scalars]
    moving = [a for a in everything if a.shape[0] > 1]

    def one(slices):
        slices = list(slices)
        k, p, q, mu, nu, *values = (slices.pop(0) if a.shape[0] > 1 else a[0] for a in everything)
        return _series(rest, centred, f, g, k, p, q, mu, nu, values[: len(f_scalars)], values[len(f_scalars) :])

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
