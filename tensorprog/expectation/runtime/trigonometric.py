"""E sin(z) sin(w) and E cos(z) cos(w) for means zero."""

import functools

import jax
import jax.numpy as jnp

from .shapes import total_change


@jax.custom_jvp
def sin_dual(k, p, q):
    """exp(-(p + q)/2)·sinh(k), as a difference of exponentials that neither overflows nor cancels."""
    larger, lack = _exponentials(k, p, q)
    return -0.5 * jnp.sign(k) * larger * lack


@jax.custom_jvp
def cos_dual(k, p, q):
    """exp(-(p + q)/2)·cosh(k)."""
    larger, lack = _exponentials(k, p, q)
    return 0.5 * larger * (2 + lack)


def _exponentials(k, p, q):
    """exp(|k| - (p + q)/2), and what exp(-|k| - (p + q)/2) is smaller, as a part of it: both duals take these two."""
    return jnp.exp(jnp.abs(k) - 0.5 * (p + q)), jnp.expm1(-2 * jnp.abs(k))


@functools.partial(sin_dual.defjvp, symbolic_zeros=True)
def _sin_dual_jvp(primals, tangents):
    dk, dp, dq = tangents
    value = sin_dual(*primals)
    return value, total_change(value, (cos_dual(*primals), dk), (-0.5 * value, dp), (-0.5 * value, dq))


@functools.partial(cos_dual.defjvp, symbolic_zeros=True)
def _cos_dual_jvp(primals, tangents):
    dk, dp, dq = tangents
    value = cos_dual(*primals)
    return value, total_change(value, (sin_dual(*primals), dk), (-0.5 * value, dp), (-0.5 * value, dq))
