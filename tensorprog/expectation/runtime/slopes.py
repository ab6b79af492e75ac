"""Derivatives of the functions under an expectation, in the sense of distributions where they jump."""

import jax
import jax.numpy as jnp

from .shapes import common_shape, reciprocal


def derivative(f):
    """f' almost everywhere, of a function f(x, *scalars) that acts elementwise on x."""
    return lambda x, *scalars: jax.jvp(lambda y: f(y, *scalars), (x,), (jnp.ones_like(x),))[1]


def scalar_derivative(f, index):
    """The derivative of f(x, *scalars) in one of its scalars."""

    def differentiated(x, *scalars):
        def of_scalar(s):
            return f(x, *scalars[:index], s, *scalars[index + 1 :])

        # at the nodes of another quadrature the scalar varies where x does not
        s = jnp.broadcast_to(scalars[index], common_shape(x, scalars[index])).astype(jnp.result_type(x))
        return jax.jvp(of_scalar, (s,), (jnp.ones_like(s),))[1]

    return differentiated


def times_distance(f):
    """(x - mean)·f(x), with the mean as one more scalar, the last."""
    return lambda x, *scalars: (x - scalars[-1]) * f(x, *scalars[:-1])


LARGE_VARIANCE = 1.0
"""From which on the derivative by a variance goes by Stein's lemma."""


def slope_by_variance(f):
    """f''/2, or (x - mean)·f'/(2·variance) at large variance; mean and variance are two more scalars, the last."""
    slope = derivative(f)
    second = derivative(slope)

    def chosen(x, *scalars):
        *own, mean, variance = scalars
        by_stein = (x - mean) * slope(x, *own) * (0.5 * reciprocal(variance))
        return jnp.where(variance > LARGE_VARIANCE, by_stein, 0.5 * second(x, *own))

    return chosen


def both_sides(f, place, scalars, dtype):
    """f just below and just above a place."""
    place = jnp.asarray(place, dtype)
    gap = 8 * jnp.finfo(dtype).eps * jnp.abs(place) + float(jnp.finfo(dtype).tiny) ** 0.5
    return f(place - gap, *scalars), f(place + gap, *scalars)


def jump(f, place, scalars, dtype):
    """By how much f jumps at a place: the weight of the delta that its derivative has there."""
    below, above = both_sides(f, place, scalars, dtype)
    return above - below


def density(place, mean, variance):
    """The density of a Gaussian at a place, taken as 0 where the variance is 0 (and it is 0 or infinite)."""
    inverse = reciprocal(variance)
    return jnp.sqrt(inverse / (2 * jnp.pi)) * jnp.exp(-0.5 * (place - mean) ** 2 * inverse)
