"""E sin(z) sin(w) and E cos(z) cos(w) for means zero."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def sin_dual(k, p, q):
    """exp(-(p + q)/2)·sinh(k), as a difference of exponentials that neither overflows nor cancels."""
    return -0.5 * jnp.sign(k) * jnp.exp(jnp.abs(k) - 0.5 * (p + q)) * jnp.expm1(-2 * jnp.abs(k))


@jax.custom_jvp
def cos_dual(k, p, q):
    """exp(-(p + q)/2)·cosh(k)."""
    return 0.5 * (jnp.exp(k - 0.5 * (p + q)) + jnp.exp(-k - 0.5 * (p + q)))


@sin_dual.defjvp
def _sin_dual_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    value = sin_dual(k, p, q)
    return value, cos_dual(k, p, q) * dk - 0.5 * value * (dp + dq)


@cos_dual.defjvp
def _cos_dual_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    value = cos_dual(k, p, q)
    return value, sin_dual(k, p, q) * dk - 0.5 * value * (dp + dq)
