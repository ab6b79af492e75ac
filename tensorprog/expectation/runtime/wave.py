"""E of polynomials times exp of quadratics times a cosine, for two Gaussians: completing the square."""

import functools

import jax
import jax.numpy as jnp

from .shapes import correlation, total_change
from .trigonometric import cos_dual, sin_dual


@jax.custom_jvp
def determinant(k, p, q):
    """pq - k², 0 where the correlation is +-1: rounding would leave of equal variances more than everything else."""
    c = correlation(k, p, q)
    return p * q * ((1 - c) * (1 + c))


@functools.partial(determinant.defjvp, symbolic_zeros=True)
def _determinant_jvp(primals, tangents):
    (k, p, q), (dk, dp, dq) = primals, tangents
    value = determinant(k, p, q)
    return value, total_change(value, (-2 * k, dk), (q, dp), (p, dq))


@jax.custom_jvp
def inverse_root(x):
    """1/sqrt(x); the root comes last, where XLA is several times as fast, and its derivative is a power of it."""
    return jnp.sqrt(1 / x)


@inverse_root.defjvp
def _inverse_root_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    value = inverse_root(x)
    return value, -0.5 * value * value * value * dx


def damped(k, p, q, a, b):
    """Covariance and variances under exp(-a·z² - b·w²), and what its mean is 1/sqrt of."""
    if _is_zero(a) and _is_zero(b):
        return k, p, q, 1.0
    spread = determinant(k, p, q)
    grown = 1 + 2 * a * p + 2 * b * q + 4 * a * b * spread
    share = 1 / grown
    return k * share, (p + 2 * b * spread) * share, (q + 2 * a * spread) * share, grown


def gabor_dual(k, p, q, a, b, x, y, odd):
    """E exp(-a·z² - b·w²) cos(x·z) cos(y·w), or with sin for cos if `odd`; means zero, all digits at any variance."""
    k, p, q, grown = damped(k, p, q, a, b)
    value = (sin_dual if odd else cos_dual)(x * y * k, x * x * p, y * y * q)
    return value if isinstance(grown, float) else value * inverse_root(grown)


def wave_dual(k, p, q, mu, nu, m, n, a, b, s, t, x, y, odd):
    """E z**m w**n exp(-a·z² - b·w² + s·z + t·w) cos(x·z + y·w), or with sin for cos if `odd`, for a, b >= 0.

    z and w have means mu, nu (0 for none), variances p, q and covariance k. The quadratic makes z and w Gaussian with
    smaller covariances; s, t and i·x, i·y move their means.
    """
    m, n = int(m), int(n)
    k_left, p_left, q_left, grown = damped(k, p, q, a, b)
    # about the means
    exponent = _sum((s, mu), (t, nu), (-a * mu, mu), (-b * nu, nu))
    s, t = s - 2 * a * mu, t - 2 * b * nu
    moved = _sum((s, p_left), (t, k_left)), _sum((s, k_left), (t, q_left))
    turned = _sum((x, p_left), (y, k_left)), _sum((x, k_left), (y, q_left))
    exponent = exponent + 0.5 * _sum((s, moved[0]), (t, moved[1])) - 0.5 * _sum((x, turned[0]), (y, turned[1]))
    centre = mu + moved[0], nu + moved[1]
    angle = _sum((x, centre[0]), (y, centre[1]))
    real, imaginary = wave_moment(m, n, centre, turned, p_left, q_left, k_left)
    if odd:  # sin(u) = cos(u - pi/2)
        real, imaginary = imaginary, 0 - real
    if _is_zero(angle):
        value = real
    else:
        value = _sum((real, jnp.cos(angle)), (-imaginary if not _is_zero(imaginary) else 0, jnp.sin(angle)))
    if not _is_zero(exponent):
        value = value * jnp.exp(exponent)
    value = value if isinstance(grown, float) else value * inverse_root(grown)
    return value + jnp.zeros_like(k)


def _is_zero(x) -> bool:
    return isinstance(x, int | float) and x == 0


def _sum(*pairs):
    """The sum of products, those left out that are known to be zero."""
    terms = [a * b for a, b in pairs if not (_is_zero(a) or _is_zero(b))]
    return functools.reduce(lambda a, b: a + b, terms) if terms else 0


def wave_moment(m, n, centre, turned, p, q, k):
    """Real and imaginary part of E z**m w**n for variances p, q, covariance k and means centre + i·turned."""
    known: dict = {}

    def moment(m, n):
        if m < 0 or n < 0:
            return 0, 0
        if m == n == 0:
            return 1, 0
        if (m, n) not in known:
            if m:  # E z·h = mean·E h + p·E dh/dz + k·E dh/dw
                i, own, one, two = 0, p, (m - 1, n), (m - 2, n)
                mixed, factor, times = (m - 1, n - 1), n, m - 1
            else:
                i, own, one, two = 1, q, (0, n - 1), (0, n - 2)
                mixed, factor, times = (-1, -1), 0, n - 1
            (re, im), (re2, im2), (re3, im3) = moment(*one), moment(*two), moment(*mixed)
            u, v = centre[i], turned[i]
            known[m, n] = (
                _sum(
                    (u, re),
                    (-v, im) if not _is_zero(v) else (0, 0),
                    (times, _sum((own, re2))),
                    (factor, _sum((k, re3))),
                ),
                _sum((u, im), (v, re), (times, _sum((own, im2))), (factor, _sum((k, im3)))),
            )
        return known[m, n]

    return moment(m, n)


def wave_mean(p, mu, m, a, s, x, odd):
    """E z**m exp(-a·z² + s·z) cos(x·z), or with sin for cos if `odd`, of one Gaussian."""
    zero = jnp.zeros_like(p)
    return wave_dual(zero, p, zero, mu, 0, m, 0, a, 0, s, 0, x, 0, odd)
