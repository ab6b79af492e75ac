"""Quadrature split at kinks, for functions and means that no better rule serves."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .shapes import common_shape, correlation, same_rank

SPLIT_REACH = 7.5


def tanh_sinh(count):
    """Nodes and weights on (0, 1), crowded doubly exponentially at both ends (Takahasi & Mori 1974)."""
    t = np.linspace(-3.0, 3.0, count)
    x = 1 / (1 + np.exp(-np.pi * np.sinh(t)))
    weights = np.pi * np.cosh(t) * x * (1 - x)
    return x, weights / weights.sum()


def gauss_legendre(count):
    """Nodes and weights of the Gauss-Legendre rule on (0, 1)."""
    x, weights = np.polynomial.legendre.leggauss(count)
    return (x + 1) / 2, weights / 2


CROWDED, EVEN = tanh_sinh(101), gauss_legendre(48)


def breaks(points, shape, dtype):
    """The points, sorted and clipped to the reach, between both ends of it: an array (len(points) + 2, *shape)."""
    ends = (-SPLIT_REACH, SPLIT_REACH)
    stacked = jnp.stack([jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in (*ends, *points)])
    return jnp.sort(jnp.clip(stacked, *ends), axis=0)


def integrate_pieces(integrand, points, rule, shape, dtype):
    """The integral of integrand(x)·(density of N(0, 1)) over the line, cut at the points; one node at a time."""
    edges = breaks(points, shape, dtype)
    nodes, weights = (jnp.asarray(a, dtype) for a in (rule[0], rule[1] / np.sqrt(2 * np.pi)))

    def add(i, total):
        left, right = edges[i // nodes.size], edges[i // nodes.size + 1]
        x = left + (right - left) * nodes[i % nodes.size]
        term = integrand(x) * jnp.exp(-0.5 * x * x) * (right - left)
        return total + weights[i % nodes.size] * term.astype(dtype)

    return lax.fori_loop(0, (edges.shape[0] - 1) * nodes.size, add, jnp.zeros(shape, dtype))


def standardized(place, mean, root):
    """Where x = (place - mean)/root; far outside if root = 0."""
    tiny = np.finfo(np.dtype(root.dtype)).tiny ** 0.5
    return (place - mean) / jnp.where(jnp.abs(root) < tiny, tiny, root)


def split_pair(f_kinks, g_kinks):
    """The rule for E f(z) g(w) where f and g are smooth but at the kinks that f_kinks(*scalars), g_kinks(*scalars)
    give.

    The outer integral, over z, is cut at the kinks of f and where the conditional mean of w crosses a kink of g: near
    there, the inner integral changes within sqrt(1 - c²), which the crowded nodes resolve. The inner one, over w given
    z, is cut at the kinks of g.
    """

    def rule(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
        k, p, q, mu, nu, *scalars = same_rank(k, p, q, mu, nu, *f_scalars, *g_scalars)
        f_scalars, g_scalars = scalars[: len(f_scalars)], scalars[len(f_scalars) :]
        shape, dtype = common_shape(k, p, q, mu, nu, *scalars), k.dtype
        c = correlation(k, p, q)
        s = jnp.sqrt((1 - c) * (1 + c))
        p_root, q_root = jnp.sqrt(jnp.maximum(p, 0)), jnp.sqrt(jnp.maximum(q, 0))
        g_places = [standardized(place, nu, q_root) for place in g_kinks(*g_scalars)]

        def outer(x):
            def inner(y):
                return g(nu + q_root * (c * x + s * y), *g_scalars)

            cuts = [standardized(place, c * x, s) for place in g_places]
            return f(mu + p_root * x, *f_scalars) * integrate_pieces(inner, cuts, EVEN, shape, dtype)

        points = [standardized(place, mu, p_root) for place in f_kinks(*f_scalars)]
        points += [standardized(place, 0, c) for place in g_places]
        return integrate_pieces(outer, points, CROWDED, shape, dtype)

    return rule


def split_mean(kinks):
    """The rule for E f(z) where f is smooth but at the kinks that kinks(*scalars) gives."""

    def rule(f, p, mu, scalars):
        p, mu, *scalars = same_rank(p, mu, *scalars)
        root = jnp.sqrt(jnp.maximum(p, 0))
        points = [standardized(place, mu, root) for place in kinks(*scalars)]
        shape = common_shape(p, mu, *scalars)
        return integrate_pieces(lambda x: f(mu + root * x, *scalars), points, CROWDED, shape, p.dtype)

    return rule
