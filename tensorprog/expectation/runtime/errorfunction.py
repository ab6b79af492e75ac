"""Dual functions of erf and z·erf(z), hence of gelu."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .arcsine import arcsin_by_cosine
from .shapes import correlation


@jax.custom_jvp
def erf_dual(k, p, q):
    """E erf(z) erf(w) = (2/pi)·asin(2k/sqrt((1 + 2p)(1 + 2q))) (Williams 1997); means zero.

    The arcsine keeps its digits where the sine s is near 1: 1 - s² is D/((1 + 2p)(1 + 2q)) with D = 1 + 2(p + q) + 4(pq
    - k²). d/dk = (4/pi)/sqrt(D), d/dp = -(4/pi)·k/((1 + 2p)·sqrt(D)).
    """
    # Roots of the small shapes of p and q, taken before they meet those of k.
    left, right = jnp.sqrt(1 / (1 + 2 * p)), jnp.sqrt(1 / (1 + 2 * q))
    s = 2 * jnp.abs(k) * left * right
    angle = arcsin_by_cosine(s, _determinant(k, p, q) * (left * left) * (right * right))
    return (2 / jnp.pi) * jnp.where(k < 0, -angle, angle)


@partial(erf_dual.defjvp, symbolic_zeros=True)
def _erf_dual_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    slope = (4 / jnp.pi) / jnp.sqrt(_determinant(k, p, q))
    terms = [] if type(dk) is SymbolicZero else [slope * dk]
    for variance, moved in ((p, dp), (q, dq)):
        if type(moved) is not SymbolicZero:
            terms.append(-slope * k / (1 + 2 * variance) * moved)
    return erf_dual(k, p, q), sum(terms[1:], terms[0]) if terms else jnp.zeros_like(slope)


@jax.custom_jvp
def _determinant(k, p, q):
    """That of 1 + 2·covariance; pq - k² by the correlation, which rounding leaves at 1 for equal inputs."""
    c = correlation(k, p, q)
    return 1 + 2 * (p + q) + 4 * (p * q * ((1 - c) * (1 + c)))


@partial(_determinant.defjvp, symbolic_zeros=True)
def _determinant_jvp(primals, tangents):
    value, (k, p, q) = _determinant(*primals), primals
    slopes = zip((-8 * k, 2 + 4 * q, 2 + 4 * p), tangents, strict=True)
    terms = [slope * moved for slope, moved in slopes if type(moved) is not SymbolicZero]
    return value, sum(terms[1:], terms[0]) + jnp.zeros_like(value) if terms else jnp.zeros_like(value)


@jax.custom_jvp
def xerf_dual(k, p, q):
    """E z·erf(z)·w·erf(w), from E erf(z) erf(w) by Stein's lemma in both arguments; means zero.

    d/dk = E (z·erf(z))' (w·erf(w))' and d/dp = (1/2) E (z·erf(z))'' w·erf(w), with no terms that cancel at large
    variance.
    """
    root, c = jnp.sqrt(_determinant(k, p, q)), correlation(k, p, q)
    rest = p * q * ((1 - c) * (1 + c)) + k * k * (1 / (1 + 2 * p) + 1 / (1 + 2 * q))
    return k * erf_dual(k, p, q) + (4 / jnp.pi) * rest / root


@partial(xerf_dual.defjvp, symbolic_zeros=True)
def _xerf_dual_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    value, determinant, left, right = xerf_dual(k, p, q), _determinant(k, p, q), 1 / (1 + 2 * p), 1 / (1 + 2 * q)
    root, terms = jnp.sqrt(determinant), []
    if type(dk) is not SymbolicZero:
        terms.append((erf_dual(k, p, q) + (4 / jnp.pi) * k / root * (left + right + 1 / determinant)) * dk)
    c = correlation(k, p, q)
    for inverse, other, moved in ((left, q, dp), (right, p, dq)):
        if type(moved) is not SymbolicZero:
            # the density times erf' is that of variances p/(1 + 2p) and rest, and of covariance k/(1 + 2p)
            rest, covariance = (other + 2 * (p * q * ((1 - c) * (1 + c)))) * inverse, k * inverse
            near = 0.5 * (1 + inverse) * rest
            far = 2 * covariance * covariance * (1 + rest) / (determinant * inverse)
            terms.append((4 / jnp.pi) * (near - far) / root * moved)
    return value, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(value)


def gelu_dual(k, p, q):
    """E gelu(z) gelu(w), from gelu(z) = z·(1 + erf(z/sqrt 2))/2; means zero."""
    return 0.25 * (k + 2 * xerf_dual(k / 2, p / 2, q / 2))
