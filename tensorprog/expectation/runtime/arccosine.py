"""Dual functions of relu, abs, step and sign: arc-cosine kernels (Cho & Saul 2009)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .arcsine import polynomial, positive_arcsin
from .shapes import correlation, correlation_gap, deviation, inverse_deviation, leg, reciprocal

# Polynomials in the gap g = 1 - |c| on [0, 1], interpolated at its Chebyshev nodes. arccos(1 - g)/sqrt(g), to 2e-8 in
# single and to 7e-17 in double precision:
ARCCOS_SINGLE = (
    1.4142135464083156,
    0.11785316670023775,
    0.026474482500567432,
    0.00821673096263844,
    0.0014788598231931453,
    0.003338417011053371,
    -0.0019906429602384126,
    0.001211737769810765,
)
ARCCOS_DOUBLE = (
    1.4142135623730951,
    0.11785113019774604,
    0.026516504295916166,
    0.007891816687096197,
    0.0026854115429505864,
    0.0009886937064591983,
    0.0003837000361256815,
    0.00015250797182385684,
    7.287068257137792e-05,
    -7.185800992367848e-06,
    0.00010871230018361807,
    -0.00020499919349473681,
    0.0003480987471498245,
    -0.00043000945159494793,
    0.0004006882818589302,
    -0.0002688464467735859,
    0.00012425167869548127,
    -3.537835495282187e-05,
    4.797541033020616e-06,
)
# (sqrt(2 - g) - (1 - g)·arccos(1 - g)/sqrt(g))/g, to 2e-9 and 1e-17:
EXCESS_SINGLE = (
    0.942809040237703,
    0.04714062361705161,
    0.0075725993661502925,
    0.0017812223774117152,
    0.00038571817423865845,
    0.0003532754955048098,
    -0.00015466628611202098,
    0.00011218475237378187,
)
EXCESS_DOUBLE = (
    0.9428090415820634,
    0.04714045207910578,
    0.007576144083861955,
    0.00175373706836867,
    0.0004882560753931928,
    0.0001521141993722164,
    5.109425451483467e-05,
    1.8349126840897055e-05,
    5.83672864724229e-06,
    5.465788068101837e-06,
    -6.1128606173822415e-06,
    1.3534533881674908e-05,
    -1.7948915243682663e-05,
    1.8519148835413642e-05,
    -1.3478121029305757e-05,
    6.765053154679045e-06,
    -2.0764150855087167e-06,
    3.0658986785827735e-07,
)


def _at(gap, single, double):
    """A polynomial in the gap, at the accuracy of its dtype."""
    return polynomial(double if gap.dtype == jnp.float64 else single, gap)


@jax.custom_jvp
def sign_dual(k, p, q):
    """E sign(z) sign(w) = (2/pi)·asin(c); z and w have means zero, variances p, q and covariance k.

    Its derivative is infinite at c = +-1, and taken as 0 there: right where c stays +-1, as on a kernel's diagonal.
    """
    angle = positive_arcsin(*correlation_gap(k, p, q))
    return (2 / jnp.pi) * jnp.where(k < 0, -angle, angle)


@partial(sign_dual.defjvp, symbolic_zeros=True)
def _sign_dual_jvp(primals, tangents):
    return sign_dual(*primals), _sign_dual_tangent(primals, tangents)


def _sign_dual_tangent(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    c = correlation(k, p, q)
    terms = [jnp.zeros_like(c)]
    if type(dk) is not SymbolicZero:
        terms.append(dk * inverse_deviation(p) * inverse_deviation(q))
    for variance, moved in ((p, dp), (q, dq)):
        if type(moved) is not SymbolicZero:
            terms.append(-0.5 * c * moved * reciprocal(variance))
    slope = (2 / jnp.pi) * reciprocal(leg(k, p, q))
    return slope * sum(terms[1:], terms[0])


@jax.custom_jvp
def _abs_slope(k, p, q):
    """E sign(z) sign(w) by one root, without a branch: accurate beside 1, where `sign_dual` is so beside a small c.

    The factor stands in the root so that it is not the root that `_abs_dual` takes: XLA writes roots to memory where
    several loops read them, which costs more than taking two.
    """
    _, gap = correlation_gap(k, p, q)
    angle = 1 - jnp.sqrt((4 / jnp.pi**2) * gap) * _at(gap, ARCCOS_SINGLE, ARCCOS_DOUBLE)
    return jnp.where(k < 0, -angle, angle)


@partial(_abs_slope.defjvp, symbolic_zeros=True)
def _abs_slope_jvp(primals, tangents):
    return _abs_slope(*primals), _sign_dual_tangent(primals, tangents)


def abs_dual(k, p, q):
    """E |z| |w|; of one variance with itself, E z² = p, which needs no arcsine."""
    return p if k is p and p is q else _abs_dual(k, p, q)


@jax.custom_jvp
def _abs_dual(k, p, q):
    """E |z| |w| = (2/pi)·sqrt(pq)·(sqrt(1 - c²) + c·asin(c)), which is |k| and an excess of order (1 - |c|)^(3/2).

    d/dk = E sign(z) sign(w), where c counts as 0 if a variance vanishes; d/dp = sqrt(q(1 - c²)/p)/pi, taken as 0 at p
    = 0.
    """
    _, gap = correlation_gap(k, p, q)
    # sqrt(p) as p/sqrt(p): no root but that of the correlation.
    deviations = (p * inverse_deviation(p)) * (q * inverse_deviation(q))
    excess = jnp.sqrt(gap) * gap * _at(gap, EXCESS_SINGLE, EXCESS_DOUBLE)
    return jnp.abs(k) + (2 / jnp.pi) * deviations * excess


@partial(_abs_dual.defjvp, symbolic_zeros=True)
def _abs_dual_jvp(primals, tangents):
    # What does not move costs nothing: on the cross stream of an NTK the variances stand still.
    k, p, q = primals
    dk, dp, dq = tangents
    value = abs_dual(k, p, q)
    terms = []
    if type(dk) is not SymbolicZero:
        terms.append(_abs_slope(k, p, q) * dk)
    for variance, other, moved in ((p, q, dp), (q, p, dq)):
        if type(moved) is not SymbolicZero:
            terms.append(leg(k, p, q) * deviation(other) * inverse_deviation(variance) / jnp.pi * moved)
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
