"""Dual functions of erf and z·erf(z), hence of gelu."""

import jax.numpy as jnp


def erf_dual(k, p, q):
    """E erf(z) erf(w) = (2/pi)·asin(2k/sqrt((1 + 2p)(1 + 2q))) (Williams 1997); means zero.

    Written with the arctangent, which keeps its digits where the sine is near 1.
    """
    return (2 / jnp.pi) * jnp.arctan2(2 * k, jnp.sqrt(1 + 2 * (p + q) + 4 * (p * q - k * k)))


def xerf_dual(k, p, q):
    """E z·erf(z)·w·erf(w), from E erf(z) erf(w) by Stein's lemma in both arguments; means zero."""
    rest = p * q + k * k - 2 * k * k * (p / (1 + 2 * p) + q / (1 + 2 * q))
    root = jnp.sqrt(1 + 2 * (p + q) + 4 * (p * q - k * k))
    return k * erf_dual(k, p, q) + (4 / jnp.pi) * rest / root


def gelu_dual(k, p, q):
    """E gelu(z) gelu(w), from gelu(z) = z·(1 + erf(z/sqrt 2))/2; means zero."""
    return 0.25 * (k + 2 * xerf_dual(k / 2, p / 2, q / 2))
