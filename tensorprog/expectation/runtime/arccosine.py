"""Dual functions of relu, abs, step and sign: arc-cosine kernels (Cho & Saul 2009)."""

import jax
import jax.numpy as jnp

from .shapes import correlation, reciprocal

# arccos(x)/sqrt(1 - x) on [0, 1], to 3e-8
ARCCOS = (1.57079630, -0.21459849, 0.08897410, -0.05014503, 0.03080825, -0.01696547, 0.00658089, -0.00123700)


def arcsin(c):
    """arcsin; in float32 by a polynomial (Abramowitz & Stegun 4.4.46), several times faster than the library's."""
    if c.dtype == jnp.float64:
        return jnp.arcsin(c)
    x = jnp.abs(c)
    polynomial = jnp.full_like(x, ARCCOS[-1])
    for coefficient in ARCCOS[-2::-1]:
        polynomial = polynomial * x + coefficient
    return jnp.sign(c) * (0.5 * jnp.pi - jnp.sqrt(1 - x) * polynomial)


@jax.custom_jvp
def sign_dual(k, p, q):
    """E sign(z) sign(w) = (2/pi)·asin(c); z and w have means zero, variances p, q and covariance k.

    Its derivative is infinite at c = +-1, and taken as 0 there: right where c stays +-1, as on a kernel's diagonal.
    """
    return (2 / jnp.pi) * arcsin(correlation(k, p, q))


@sign_dual.defjvp
def _sign_dual_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    c = correlation(k, p, q)
    dc = dk * reciprocal(jnp.sqrt(p)) * reciprocal(jnp.sqrt(q)) - 0.5 * c * (dp * reciprocal(p) + dq * reciprocal(q))
    return sign_dual(k, p, q), (2 / jnp.pi) * reciprocal(jnp.sqrt((1 - c) * (1 + c))) * dc


@jax.custom_jvp
def abs_dual(k, p, q):
    """E |z| |w| = (2/pi)·sqrt(pq)·(sqrt(1 - c²) + c·asin(c)).

    d/dk = E sign(z) sign(w), where c counts as 0 if a variance vanishes; d/dp = sqrt(q(1 - c²)/p)/pi, taken as 0 at p
    = 0.
    """
    c = correlation(k, p, q)
    root = jnp.sqrt((1 - c) * (1 + c))
    return (2 / jnp.pi) * jnp.sqrt(p) * jnp.sqrt(q) * (root + c * arcsin(c))


@abs_dual.defjvp
def _abs_dual_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    c = correlation(k, p, q)
    root = jnp.sqrt((1 - c) * (1 + c))
    by_p = root * jnp.sqrt(q) * reciprocal(jnp.sqrt(p)) / jnp.pi
    by_q = root * jnp.sqrt(p) * reciprocal(jnp.sqrt(q)) / jnp.pi
    return abs_dual(k, p, q), sign_dual(k, p, q) * dk + by_p * dp + by_q * dq


def relu_dual(k, p, q):
    """E relu(z) relu(w) = sqrt(pq)/(2·pi)·(sqrt(1 - c²) + (pi - arccos c)·c), from relu = (z + |z|)/2."""
    return 0.25 * (k + abs_dual(k, p, q))


def step_dual(k, p, q):
    """E step(z) step(w) = (pi - arccos c)/(2·pi), from step = (1 + sign)/2."""
    return 0.25 * (1 + sign_dual(k, p, q))


@jax.custom_jvp
def abs_mean(p):
    """E |z| = sqrt(2p/pi); its derivative is taken as 0 at p = 0."""
    return jnp.sqrt((2 / jnp.pi) * p)


@abs_mean.defjvp
def _abs_mean_jvp(primals, tangents):
    (p,), (dp,) = primals, tangents
    return abs_mean(p), 0.5 * abs_mean(p) * reciprocal(p) * dp


def sign_slope(p):
    """E z·sign(w)/k = sqrt(2/(pi·p)) for w of variance p, and 0 at p = 0."""
    return abs_mean(reciprocal(p))
