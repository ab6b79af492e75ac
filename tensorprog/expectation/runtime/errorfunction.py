"""Dual functions of erf and z·erf(z), hence of gelu."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .arcsine import arcsin_by_cosine


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


def _determinant(k, p, q):
    """That of 1 + 2·covariance."""
    return 1 + 2 * (p + q) + 4 * (p * q - k * k)


def xerf_dual(k, p, q):
    """E z·erf(z)·w·erf(w), from E erf(z) erf(w) by Stein's lemma in both arguments; means zero."""
    rest = p * q + k * k - 2 * k * k * (p / (1 + 2 * p) + q / (1 + 2 * q))
    root = jnp.sqrt(_determinant(k, p, q))
    return k * erf_dual(k, p, q) + (4 / jnp.pi) * rest / root


def gelu_dual(k, p, q):
    """E gelu(z) gelu(w), from gelu(z) = z·(1 + erf(z/sqrt 2))/2; means zero."""
    return 0.25 * (k + 2 * xerf_dual(k / 2, p / 2, q / 2))
