"""Quadrature between kinks, for functions with many of them, as abs(sin(x))."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .shapes import RESOLUTION, common_shape, correlation, same_rank
from .split import gauss_legendre, tanh_sinh

MANY_REACH = {True: 8.0, False: 6.0}
MANY_OUTER, MANY_INNER = (
    {True: tanh_sinh(int(101 * RESOLUTION)), False: tanh_sinh(int(41 * RESOLUTION))},
    gauss_legendre(int(16 * RESOLUTION)),
)
"""Nodes between two kinks: crowded at both, near which the inner integral changes within sqrt(1 - c²); and even."""
PANEL = 3.0
"""Deviations over which the inner nodes resolve a Gaussian."""


def weighted(total, x, factor):
    """total + factor·(density of N(0, 1) at x), over an axis of nodes in front."""
    return total + jnp.sum(factor * jnp.exp(-0.5 * x * x) / np.sqrt(2 * np.pi), axis=0)


def between_kinks(integrand, edges, rule, shape, dtype):
    """The integral of integrand(x)·(density of N(0, 1)) over the pieces between sorted edges (count, *shape); pieces
    that are empty for all entries are skipped.
    """
    reach = edges[-1]
    first = jnp.min(jnp.sum(edges <= -reach, axis=0)) - 1
    last = edges.shape[0] - jnp.min(jnp.sum(edges >= reach, axis=0))
    nodes, weights = (jnp.asarray(a, dtype).reshape(-1, *[1] * len(shape)) for a in rule)

    def add(i, total):
        left, right = edges[i], edges[i + 1]
        x = left + (right - left) * nodes
        return weighted(total, x, integrand(x) * ((right - left) * weights)).astype(dtype)

    return lax.fori_loop(first, last, add, jnp.zeros(shape, dtype))


def edges_of(points, reach, shape, dtype):
    """The points, clipped to ±reach and sorted, with both ends."""
    ends = jnp.asarray([-reach, reach], dtype).reshape(2, *[1] * len(shape))
    parts = [jnp.broadcast_to(jnp.clip(a, -reach, reach), (a.shape[0], *shape)) for a in (ends, *points)]
    return jnp.sort(jnp.concatenate(parts), axis=0)


def column(places, shape, dtype):
    return jnp.asarray(places, dtype).reshape(-1, *[1] * len(shape))


def conditional_mean(g, places, mean, spread, reach, dtype):
    """E g(w) of Gaussians of these means and deviations, cut at the sorted places within the reach of each."""
    table = jnp.asarray([*places, np.inf], dtype)
    start, end = (jnp.searchsorted(table, mean + side * reach * spread) for side in (-1, 1))
    inverse = 1 / jnp.where(spread > 0, spread, 1)
    widest = np.max(np.diff(places)) if len(places) > 1 else np.inf
    length = jnp.minimum(2 * reach, widest / jnp.maximum(jnp.min(spread), 1e-30))
    length = jnp.where(len(places) > 1, length, 2 * reach)
    panels = jnp.ceil(2 * reach / PANEL).astype(int) if len(places) < 2 else jnp.ceil(length / PANEL).astype(int)
    nodes, weights = (jnp.asarray(a, dtype).reshape(-1, *[1] * mean.ndim) for a in MANY_INNER)

    def edge(t):
        """The t-th place in reach, in deviations; the ends before and behind."""
        index = jnp.clip(start + t - 1, 0, len(places))
        inside = (table[index] - mean) * inverse
        return jnp.where(t == 0, -reach, jnp.where(start + t - 1 < end, jnp.clip(inside, -reach, reach), reach))

    def add(i, total):
        piece, panel = i // panels, i % panels
        left, right = edge(piece), edge(piece + 1)
        width = (right - left) / panels
        y = left + (panel + nodes) * width
        return weighted(total, y, g(mean + spread * y) * (width * weights)).astype(dtype)

    return lax.fori_loop(0, (jnp.max(end - start) + 1) * panels, add, jnp.zeros(mean.shape, dtype))


def many_pair(f_places, g_places, f_reach, g_reach):
    """The rule for E f(z) g(w) where f and g are smooth but at these numbers, sorted, which are all up to the distances
    `reach` from zero; NaN where a Gaussian reaches farther.
    """

    def block(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
        shape, dtype = common_shape(k, p, q, mu, nu, *f_scalars, *g_scalars), k.dtype
        reach = MANY_REACH[dtype == jnp.float64]
        c = correlation(k, p, q)
        s = jnp.sqrt((1 - c) * (1 + c))
        p_root, q_root = jnp.sqrt(jnp.maximum(p, 0)), jnp.sqrt(jnp.maximum(q, 0))
        tiny = float(jnp.finfo(dtype).tiny) ** 0.5
        slope = jnp.where(jnp.abs(q_root * c) < tiny, tiny, q_root * c)

        def outer(x):
            mean, spread = jnp.broadcast_arrays(nu + q_root * c * x, q_root * s)
            inner = conditional_mean(lambda w: g(w, *g_scalars), g_places, mean, spread, reach, dtype)
            return f(mu + p_root * x, *f_scalars) * inner

        points = [
            (column(f_places, shape, dtype) - mu) / jnp.maximum(p_root, tiny),
            (column(g_places, shape, dtype) - nu) / slope,
        ]
        edges = edges_of(points, reach, shape, dtype)
        value = between_kinks(outer, edges, MANY_OUTER[dtype == jnp.float64], shape, dtype)
        listed = (jnp.abs(mu) + reach * p_root <= f_reach) & (jnp.abs(nu) + reach * q_root <= g_reach)
        return jnp.where(listed, value, jnp.nan)

    def rule(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
        everything = same_rank(k, p, q, mu, nu, *f_scalars, *g_scalars)
        count = 5 + len(f_scalars)

        def split(arrays):
            values = (*arrays[:5], tuple(arrays[5:count]), tuple(arrays[count:]))
            return block(f, g, *values)

        if len(common_shape(*everything)) == 0:
            return split(everything)
        # one slice of the first axis at a time: there are as many numbers to an entry as there are kinks
        moving = [a.shape[0] > 1 for a in everything]

        def row(slices):
            slices = list(slices)
            return split([slices.pop(0) if moves else a[0] for a, moves in zip(everything, moving, strict=True)])

        if not any(moving):
            return row(())[None]
        return lax.map(row, tuple(a for a, moves in zip(everything, moving, strict=True) if moves))

    return rule


def many_mean(places, reach):
    """The rule for E f(z), as many_pair."""

    def rule(f, p, mu, scalars):
        p, mu, *scalars = same_rank(p, mu, *scalars)
        shape, dtype = common_shape(p, mu, *scalars), p.dtype
        most = MANY_REACH[dtype == jnp.float64]
        root = jnp.sqrt(jnp.maximum(p, 0))
        points = [(column(places, shape, dtype) - mu) / jnp.maximum(root, float(jnp.finfo(dtype).tiny) ** 0.5)]
        edges = edges_of(points, most, shape, dtype)
        integrand = lambda x: f(mu + root * x, *scalars)  # noqa: E731
        value = between_kinks(integrand, edges, MANY_OUTER[dtype == jnp.float64], shape, dtype)
        return jnp.where(jnp.abs(mu) + most * root <= reach, value, jnp.nan)

    return rule
