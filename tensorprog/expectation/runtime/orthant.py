"""Expectations of step and relu of Gaussians with means, by the bivariate normal distribution function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .shapes import correlation, reciprocal, same_rank, sine

ndtr = jax.scipy.special.ndtr


OWEN_NODES, OWEN_WEIGHTS = np.polynomial.legendre.leggauss(24)


def normal_density(x):
    """The density of N(0, 1)."""
    return jnp.exp(-0.5 * x * x) / jnp.sqrt(2 * jnp.pi)


def in_deviations(mean, variance):
    """mean/sqrt(variance), at most 40 either way; 0/0 is 0."""
    root = jnp.sqrt(jnp.maximum(variance, 0))
    tiny = float(jnp.finfo(root.dtype).tiny) ** 0.5
    return jnp.clip(mean / jnp.maximum(root, tiny), -40, 40)


@jax.custom_jvp
def given(h, k, c):
    """(h - c·k)/sqrt(1 - c²), the first Gaussian's mean in deviations where the second is zero; 0/0 is 0.

    Its derivatives count as 0 at c = +-1, as those of `sine`.
    """
    s = sine(c)
    tiny = float(jnp.finfo(s.dtype).tiny) ** 0.5
    # h - c·k without cancellation where c is near 1 and h near k, or c near -1 and h near -k
    distance = jnp.where(c >= 0, (h - k) + (1 - c) * k, (h + k) - (1 + c) * k)
    return jnp.clip(distance / jnp.maximum(s, tiny), -1e9, 1e9)


@given.defjvp
def _given_jvp(primals, tangents):
    (h, k, c), (dh, dk, dc) = primals, tangents
    value, inverse = given(h, k, c), reciprocal(sine(c))
    return value, (dh - c * dk - k * dc + value * c * inverse * dc) * inverse


def owen(h, u):
    """Owen's T(h, u/h) for h, u >= 0, not both zero: the integral of exp(-h²(1 + x²)/2)/(2·pi·(1 + x²)) over (0, u/h).

    For u > h by T(h, a) + T(ah, 1/a) = (P(h) + P(ah))/2 - P(h) P(ah), so that the integrand has no layer (Owen 1956).
    """
    large, small = jnp.maximum(h, u), jnp.minimum(h, u)
    ratio = small * reciprocal(large)
    nodes, weights = jnp.asarray((OWEN_NODES + 1) / 2, h.dtype), jnp.asarray(OWEN_WEIGHTS / (4 * np.pi), h.dtype)

    def add(i, total):
        x = ratio * nodes[i]
        return total + weights[i] * jnp.exp(-0.5 * large**2 * (1 + x * x)) / (1 + x * x)

    value = ratio * lax.fori_loop(0, nodes.size, add, jnp.zeros_like(ratio), unroll=4)
    a, b = ndtr(-h), ndtr(-u)
    return jnp.where(u > h, 0.5 * (a + b) - a * b - value, value)


def bivariate_normal(h, k, c):
    """P(x < h, y < k) for standard normal x, y of correlation c, by Owen's T (Owen 1956), to rounding."""
    h, k, c = jnp.broadcast_arrays(h, k, c)
    u, v = given(k, h, c), given(h, k, c)
    sign = lambda x: jnp.where(x < 0, -1, 1)  # noqa: E731  (zero is the limit from above)
    left = sign(h) * sign(u) * owen(jnp.abs(h), jnp.abs(u))
    right = sign(k) * sign(v) * owen(jnp.abs(k), jnp.abs(v))
    value = 0.5 * (ndtr(h) + ndtr(k)) - left - right - jnp.where(sign(h) * sign(k) < 0, 0.5, 0.0)
    return jnp.where((h == 0) & (k == 0), 0.25 + jnp.arcsin(c) / (2 * jnp.pi), value).astype(c.dtype)


def _deviations(k, p, q, mu, nu):
    k, p, q, mu, nu = same_rank(k, p, q, mu, nu)
    return k, p, q, mu, nu, in_deviations(mu, p), in_deviations(nu, q), correlation(k, p, q)


@jax.custom_jvp
def step_step(k, p, q, mu, nu):
    """E step(z) step(w) for means mu, nu. Its derivative in c is taken as 0 at c = +-1."""
    *_, h, j, c = _deviations(k, p, q, mu, nu)
    return bivariate_normal(h, j, c)


def _slope(zero, *terms):
    """The sum of slopes times tangents, for what moves: pairs (function that gives the slope, tangent)."""
    moved = [slope() * tangent for slope, tangent in terms if type(tangent) is not SymbolicZero]
    return sum(moved[1:], moved[0]) if moved else jnp.zeros_like(zero)


@partial(step_step.defjvp, symbolic_zeros=True)
def _step_step_jvp(primals, tangents):
    _, p, q, mu, nu, h, j, c = _deviations(*primals)
    dk, dp, dq, dmu, dnu = tangents
    p_root, q_root = reciprocal(jnp.sqrt(p)), reciprocal(jnp.sqrt(q))
    by_c = normal_density(j) * normal_density(given(h, j, c)) * reciprocal(sine(c))
    by_mu = lambda: normal_density(h) * ndtr(given(j, h, c)) * p_root  # noqa: E731
    by_nu = lambda: normal_density(j) * ndtr(given(h, j, c)) * q_root  # noqa: E731
    value = step_step(*primals)
    slope = _slope(
        value,
        (lambda: by_c * p_root * q_root, dk),
        (lambda: -0.5 * p_root**2 * (mu * by_mu() + c * by_c), dp),
        (lambda: -0.5 * q_root**2 * (nu * by_nu() + c * by_c), dq),
        (by_mu, dmu),
        (by_nu, dnu),
    )
    return value, slope


@jax.custom_jvp
def step_relu(k, p, q, mu, nu):
    """E step(z) relu(w) for means mu, nu."""
    k, p, q, mu, nu, h, j, c = _deviations(k, p, q, mu, nu)
    edge = normal_density(j) * ndtr(given(h, j, c)) + c * normal_density(h) * ndtr(given(j, h, c))
    return nu * bivariate_normal(h, j, c) + jnp.sqrt(q) * edge


def _relu_at_edge(p, q, h, j, c):
    """E delta(z) relu(w): the density of z at 0 times the mean of relu(w) there; 0 at p = 0."""
    t, s = given(j, h, c), sine(c)
    mean = (j - c * h) * ndtr(t) + s * normal_density(t)
    return normal_density(h) * reciprocal(jnp.sqrt(p)) * jnp.sqrt(q) * mean


@step_relu.defjvp
def _step_relu_jvp(primals, tangents):
    k, p, q, mu, _, h, j, c = _deviations(*primals)
    dk, dp, dq, dmu, dnu = tangents
    p_root, q_root = reciprocal(jnp.sqrt(p)), reciprocal(jnp.sqrt(q))
    by_k = normal_density(h) * p_root * ndtr(given(j, h, c))  # E delta(z) step(w)
    by_mu = _relu_at_edge(p, q, h, j, c)
    # E delta'(z) relu(w) by Stein's lemma, and E step(z) delta(w)
    by_p = -0.5 * (mu * by_mu * p_root**2 + k * by_k * p_root**2)
    by_q = 0.5 * normal_density(j) * q_root * ndtr(given(h, j, c))
    by_nu = step_step(*primals)
    return step_relu(*primals), by_k * dk + by_p * dp + by_q * dq + by_mu * dmu + by_nu * dnu


@jax.custom_jvp
def relu_relu(k, p, q, mu, nu):
    """E relu(z) relu(w) for means mu, nu (Rosenbaum 1961)."""
    k, p, q, mu, nu, h, j, c = _deviations(k, p, q, mu, nu)
    s = sine(c)
    p_root, q_root = jnp.sqrt(p), jnp.sqrt(q)
    edges = mu * q_root * normal_density(j) * ndtr(given(h, j, c)) + nu * p_root * normal_density(h) * ndtr(
        given(j, h, c)
    )
    corner = p_root * q_root * s * normal_density(j) * normal_density(given(h, j, c))
    return (mu * nu + k) * bivariate_normal(h, j, c) + edges + corner


@partial(relu_relu.defjvp, symbolic_zeros=True)
def _relu_relu_jvp(primals, tangents):
    k, p, q, mu, nu, h, j, c = _deviations(*primals)
    dk, dp, dq, dmu, dnu = tangents
    value = relu_relu(*primals)
    slope = _slope(
        value,
        (lambda: step_step(*primals), dk),
        (lambda: 0.5 * _relu_at_edge(p, q, h, j, c), dp),
        (lambda: 0.5 * _relu_at_edge(q, p, j, h, c), dq),
        (lambda: step_relu(k, p, q, mu, nu), dmu),
        (lambda: step_relu(k, q, p, nu, mu), dnu),
    )
    return value, slope


def step_mean(p, mu):
    """E step(z) for mean mu and variance p."""
    p, mu = same_rank(p, mu)
    root = jnp.sqrt(jnp.where(p > 0, p, 1))
    return jnp.where(p > 0, ndtr(mu / root), jnp.heaviside(mu, 0.5))


@jax.custom_jvp
def relu_mean(p, mu):
    """E relu(z) for mean mu and variance p; its derivative by p is taken as 0 at p = 0."""
    p, mu = same_rank(p, mu)
    h = in_deviations(mu, p)
    return mu * ndtr(h) + jnp.sqrt(p) * normal_density(h)


@relu_mean.defjvp
def _relu_mean_jvp(primals, tangents):
    p, mu = same_rank(*primals)
    dp, dmu = tangents
    by_p = 0.5 * normal_density(in_deviations(mu, p)) * reciprocal(jnp.sqrt(p))
    return relu_mean(p, mu), by_p * dp + step_mean(p, mu) * dmu
