"""E relu(z)**m relu(w)**n: arc-cosine kernels of every order (Cho & Saul 2009), with relu(z)**0 = step(z)."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .arccosine import step_dual
from .shapes import inverse_deviation, leg


def half_moment(n):
    """E relu(x)**n for x of variance 1."""
    return 2 ** (n / 2 - 1) * math.gamma((n + 1) / 2) / math.sqrt(math.pi)


def rectified_dual(k, p, q, m, n):
    """E relu(z)**m relu(w)**n for integers m, n; see `rectified`."""
    return rectified(k, p, q, int(m), int(n))


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def rectified(k, p, q, m, n):
    """E relu(z)**m relu(w)**n; z and w have means zero, variances p, q and covariance k.

    By Stein's lemma from lower orders, in units of the deviations: a polynomial in the correlation, the root of 1 - c²
    and, where m + n is even, the angle. Derivatives by Price's theorem; where a delta meets a delta at c = +-1, 0.
    """
    roots = p * inverse_deviation(p), q * inverse_deviation(q)
    c = k * inverse_deviation(p) * inverse_deviation(q)
    side = leg(k, p, q)
    known = {(0, 0): step_dual(k, p, q)}

    def edge(j):
        """E delta(x) relu(y)**j."""
        return half_moment(j) / math.sqrt(2 * math.pi) * side**j if j else half_moment(0) / math.sqrt(2 * math.pi)

    def dual(i, j):
        if i < j:
            i, j = j, i
        if (i, j) not in known:
            if i >= 2 and j >= 1:
                known[i, j] = (i - 1) * dual(i - 2, j) + j * (c * dual(i - 1, j - 1))
            elif i >= 2:
                known[i, j] = (i - 1) * dual(i - 2, 0) + c * edge(i - 1)
            else:
                known[i, j] = edge(j) + c * (j * dual(0, j - 1) if j else edge(0))
        return known[i, j]

    value = _power(roots[0], m) * _power(roots[1], n) * dual(m, n)
    return jnp.where((side == 0) & (k < 0), 0, value)


def _power(x, n):
    return x**n if n else 1.0


def rectified_edge(k, p, q, n):
    """E delta(z) relu(w)**n, taken as 0 where a variance of z is 0."""
    scale = half_moment(n) / math.sqrt(2 * math.pi) * inverse_deviation(p)
    return scale * _power(q * inverse_deviation(q) * leg(k, p, q), n) + jnp.zeros_like(k)


@partial(rectified.defjvp, symbolic_zeros=True)
def _rectified_jvp(m, n, primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    value, terms = rectified(k, p, q, m, n), []
    if m and n:
        by_k = lambda: m * n * rectified(k, p, q, m - 1, n - 1)  # noqa: E731
    elif m or n:
        # E delta(z) n·relu(w)**(n - 1)
        by_k = lambda: n * rectified_edge(k, p, q, n - 1) if n else m * rectified_edge(k, q, p, m - 1)  # noqa: E731
    else:
        by_k = lambda: jax.jvp(lambda x: step_dual(x, p, q), (k,), (jnp.ones_like(k),))[1]  # noqa: E731
    if type(dk) is not SymbolicZero:
        terms.append(by_k() * dk)
    for variance, other, order, rest, moved in ((p, q, m, n, dp), (q, p, n, m, dq)):
        if type(moved) is SymbolicZero:
            continue
        if order >= 2:
            pair = (order - 2, rest)
            slope = 0.5 * order * (order - 1) * rectified(k, variance, other, *pair)
        elif order == 1:
            slope = 0.5 * rectified_edge(k, variance, other, rest)
        else:
            slope = -0.5 * k * by_k() * inverse_deviation(variance) ** 2
        terms.append(slope * moved)
    return value, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(value)
