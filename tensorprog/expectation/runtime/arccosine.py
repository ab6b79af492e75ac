"""Dual functions of relu, abs, step and sign: arc-cosine kernels (Cho & Saul 2009)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .arcsine import positive_arcsin
from .shapes import correlation, deviation, inverse_deviation, reciprocal


def _angle(k, p, q):
    """(arcsin |c|, sqrt(1 - c²)) at the correlation c = k/sqrt(pq); (0, 1) where a variance vanishes.

    Like `correlation`, it takes |c| within a few roundings of 1 for 1: equal inputs have correlation 1 exactly, where
    all that is singular in 1 - c² takes its limit. The same source for values and derivatives of all duals makes the
    compiler compute it once.
    """
    x = jnp.abs(k) * inverse_deviation(p) * inverse_deviation(q)
    gap = 1 - x
    gap = jnp.where(gap < 4 * float(jnp.finfo(gap.dtype).eps), 0, gap)
    return positive_arcsin(x, gap), jnp.sqrt(gap * (2 - gap))


@jax.custom_jvp
def sign_dual(k, p, q):
    """E sign(z) sign(w) = (2/pi)·asin(c); z and w have means zero, variances p, q and covariance k.

    Its derivative is infinite at c = +-1, and taken as 0 there: right where c stays +-1, as on a kernel's diagonal.
    """
    angle = _angle(k, p, q)[0]
    return (2 / jnp.pi) * jnp.where(k < 0, -angle, angle)


@partial(sign_dual.defjvp, symbolic_zeros=True)
def _sign_dual_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    c = correlation(k, p, q)
    terms = [jnp.zeros_like(c)]
    if type(dk) is not SymbolicZero:
        terms.append(dk * inverse_deviation(p) * inverse_deviation(q))
    for variance, moved in ((p, dp), (q, dq)):
        if type(moved) is not SymbolicZero:
            terms.append(-0.5 * c * moved * reciprocal(variance))
    slope = (2 / jnp.pi) * reciprocal(jnp.sqrt((1 - c) * (1 + c)))
    return sign_dual(k, p, q), slope * sum(terms[1:], terms[0])


def abs_dual(k, p, q):
    """E |z| |w|; of one variance with itself, E z² = p, which needs no arcsine."""
    return p if k is p and p is q else _abs_dual(k, p, q)


@jax.custom_jvp
def _abs_dual(k, p, q):
    """E |z| |w| = (2/pi)·sqrt(pq)·(sqrt(1 - c²) + c·asin(c)).

    d/dk = E sign(z) sign(w), where c counts as 0 if a variance vanishes; d/dp = sqrt(q(1 - c²)/p)/pi, taken as 0 at p
    = 0. Value and d/dk share one arcsine.
    """
    angle, root = _angle(k, p, q)
    return (2 / jnp.pi) * (jnp.abs(k) * angle + deviation(p) * deviation(q) * root)


@partial(_abs_dual.defjvp, symbolic_zeros=True)
def _abs_dual_jvp(primals, tangents):
    # What does not move costs nothing: on the cross stream of an NTK the variances stand still.
    k, p, q = primals
    dk, dp, dq = tangents
    value = abs_dual(k, p, q)
    terms = []
    if type(dk) is not SymbolicZero:
        terms.append(sign_dual(k, p, q) * dk)
    for variance, other, moved in ((p, q, dp), (q, p, dq)):
        if type(moved) is not SymbolicZero:
            root = _angle(k, p, q)[1]
            terms.append(root * deviation(other) * inverse_deviation(variance) / jnp.pi * moved)
    return value, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(value)


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
