"""E f(z) for one Gaussian, with its derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .shapes import common_shape, finer, float_dtype, reciprocal, same_rank, without_entries
from .slopes import density, derivative, jump, scalar_derivative, times_distance


def trapezoid_mean(f, p, mu, scalars):
    """E f(z) of a smooth f by the trapezoidal rule; exponentially accurate (Trefethen & Weideman 2014)."""
    p, mu, *scalars = same_rank(p, mu, *scalars)
    root = jnp.sqrt(jnp.maximum(p, 0))
    x = np.linspace(-12.8, 12.8, finer(640) + 1)
    nodes = jnp.asarray(x, p.dtype)
    weights = jnp.asarray((x[1] - x[0]) / np.sqrt(2 * np.pi) * np.exp(-(x**2) / 2), p.dtype)

    def add(i, total):
        return total + weights[i] * f(mu + root * nodes[i], *scalars).astype(total.dtype)

    return lax.fori_loop(0, nodes.size, add, jnp.zeros(common_shape(p, mu, *scalars), p.dtype))


def smooth_mean(beyond, finest=1.0):
    """The rule for E f(z) of a smooth f: evenly spaced nodes where they resolve it, `beyond` for larger variances."""

    def rule(f, p, mu, scalars):
        return lax.cond(
            jnp.max(p) <= 60 * finest**2,
            lambda values: trapezoid_mean(f, *values),
            lambda values: beyond(f, *values).astype(jnp.result_type(p)),
            (p, mu, tuple(scalars)),
        )

    return rule


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def gaussian_mean(rule, order, f, p, mu, scalars):
    """E f(z, *scalars), z Gaussian with mean mu and variance p, by `rule`; f can be differentiated `order` times
    before it jumps, at places(*scalars) if order is a pair (order, places).

    d/dmu = E f'(z) and d/dp = (1/2) E f''(z), or E (z - mu) f'(z)/(2p) where f' jumps, in the sense of distributions
    where f does; NaN where the places of jumps are not known.
    """
    if without_entries(p, mu, *scalars):
        return jnp.zeros(common_shape(p, mu, *scalars), float_dtype(p, mu, *scalars))
    return rule(f, p, mu, scalars)


@partial(gaussian_mean.defjvp, symbolic_zeros=True)
def _gaussian_mean_jvp(rule, order, f, primals, tangents):
    p, mu, scalars = primals
    dp, dmu, dscalars = tangents
    times, places = order if isinstance(order, tuple) else (order, None)

    def mean(u, lost=0, values=scalars):
        return gaussian_mean(rule, (max(times - lost, -1), places), u, p, mu, values)

    def at_jumps(weight):
        """What the deltas of f' add, each times weight(place)."""
        if times >= 0:
            return 0.0
        if places is None:
            return jnp.nan
        dtype = jnp.result_type(p, mu)
        return sum(jump(f, a, scalars, dtype) * density(a, mu, p) * weight(a) for a in places(*scalars))

    value = mean(f)
    terms = [jnp.zeros_like(value)]
    if type(dp) is not SymbolicZero and times >= 1:
        terms.append(0.5 * mean(derivative(derivative(f)), 2) * dp)
    elif type(dp) is not SymbolicZero:
        away = mean(times_distance(derivative(f)), 1, (*scalars, mu)) + at_jumps(lambda a: a - mu)
        terms.append(away * (0.5 * reciprocal(p)) * dp)
    if type(dmu) is not SymbolicZero:
        terms.append((mean(derivative(f), 1) + at_jumps(jnp.ones_like)) * dmu)
    for i, tangent in enumerate(dscalars):
        if type(tangent) is not SymbolicZero:
            by_scalar = mean(scalar_derivative(f, i), 1)
            terms.append((by_scalar if times >= 0 else jnp.full_like(by_scalar, jnp.nan)) * tangent)
    return value, jnp.broadcast_to(sum(terms), value.shape).astype(value.dtype)
