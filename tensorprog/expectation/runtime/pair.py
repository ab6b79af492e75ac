"""E f(z) g(w) for jointly Gaussian z and w by any rule, with its derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .shapes import reciprocal


def derivative(f):
    """f' almost everywhere, of a function f(x, *scalars) that acts elementwise on x."""
    return lambda x, *scalars: jax.jvp(lambda y: f(y, *scalars), (x,), (jnp.ones_like(x),))[1]


def scalar_derivative(f, index):
    """The derivative of f(x, *scalars) in one of its scalars."""

    def differentiated(x, *scalars):
        def of_scalar(s):
            return f(x, *scalars[:index], s, *scalars[index + 1 :])

        s = jnp.broadcast_to(scalars[index], jnp.shape(x)).astype(jnp.result_type(x))
        return jax.jvp(of_scalar, (s,), (jnp.ones_like(s),))[1]

    return differentiated


def times_distance(f):
    """(x - mean)·f'(x), with the mean as one more scalar, the last."""
    slope = derivative(f)
    return lambda x, *scalars: (x - scalars[-1]) * slope(x, *scalars[:-1])


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def gaussian_pair(rule, order, f, g, k, p, q, mu, nu, f_scalars, g_scalars):
    """E f(z, *f_scalars) g(w, *g_scalars), z and w Gaussian with means mu, nu, variances p, q and covariance k.

    `rule` computes the value; `order` tells how often f and g can be differentiated before they jump.

    Derivatives, to all orders: Price's theorem, d/dk = E f'(z) g'(w), and d/dp = (1/2) E f''(z) g(w). Where f' jumps
    the latter is (E (z - mu) f'(z) g(w) - k E f'(z) g'(w))/(2p) by Stein's lemma, taken as 0 at p = 0. A derivative
    that would need the delta of a jump is NaN rather than silently wrong.
    """
    return rule(f, g, k, p, q, mu, nu, f_scalars, g_scalars)


@partial(gaussian_pair.defjvp, symbolic_zeros=True)
def _gaussian_pair_jvp(rule, order, f, g, primals, tangents):
    k, p, q, mu, nu, f_scalars, g_scalars = primals
    dk, dp, dq, dmu, dnu, df_scalars, dg_scalars = tangents

    def mean(u, v, lost=(0, 0), us=f_scalars, vs=g_scalars):
        left = (order[0] - lost[0], order[1] - lost[1])
        value = gaussian_pair(rule, left, u, v, k, p, q, mu, nu, us, vs)
        return value if min(left) >= -1 else jnp.full_like(value, jnp.nan)

    value = mean(f, g)
    terms = []
    moves = lambda tangent: type(tangent) is not SymbolicZero  # noqa: E731
    slopes = mean(derivative(f), derivative(g), (1, 1)) if any(map(moves, (dk, dp, dq))) else None
    if moves(dk):
        terms.append(slopes * dk)
    if moves(dp):
        if order[0] >= 1:
            terms.append(0.5 * mean(derivative(derivative(f)), g, (2, 0)) * dp)
        else:
            stein = mean(times_distance(f), g, (1, 0), us=(*f_scalars, mu))
            terms.append((stein - k * slopes) * (0.5 * reciprocal(p)) * dp)
    if moves(dq):
        if order[1] >= 1:
            terms.append(0.5 * mean(f, derivative(derivative(g)), (0, 2)) * dq)
        else:
            stein = mean(f, times_distance(g), (0, 1), vs=(*g_scalars, nu))
            terms.append((stein - k * slopes) * (0.5 * reciprocal(q)) * dq)
    if moves(dmu):
        terms.append(mean(derivative(f), g, (1, 0)) * dmu)
    if moves(dnu):
        terms.append(mean(f, derivative(g), (0, 1)) * dnu)
    for i, tangent in enumerate(df_scalars):
        if moves(tangent):
            terms.append(mean(scalar_derivative(f, i), g, (1, 0)) * tangent)
    for i, tangent in enumerate(dg_scalars):
        if moves(tangent):
            terms.append(mean(f, scalar_derivative(g, i), (0, 1)) * tangent)
    total = sum(terms) if terms else jnp.zeros_like(value)
    return value, jnp.broadcast_to(total, value.shape).astype(value.dtype)
