"""Shapes, dtypes and the correlation of a pair of Gaussians."""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

RESOLUTION = 1.0
"""How finely rules of quadrature are cut; below 1 their error grows, which is how it is estimated."""


def finer(count):
    """That many nodes or terms, by the resolution."""
    return max(round(RESOLUTION * count), 2)


def float_dtype(*arrays):
    """The floating dtype that the arrays have in common."""
    dtype = jnp.result_type(*arrays)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(dtype, jnp.float32)


def same_rank(*arrays):
    """The arrays as floats of one dtype and one number of axes; singleton axes stay."""
    dtype = float_dtype(*arrays)
    rank = max(jnp.ndim(a) for a in arrays)
    return [jnp.asarray(a, dtype).reshape((1,) * (rank - jnp.ndim(a)) + jnp.shape(a)) for a in arrays]


def common_shape(*arrays):
    """The shape that all the arrays broadcast to."""
    return functools.reduce(jnp.broadcast_shapes, (jnp.shape(a) for a in arrays))


def without_entries(*arrays):
    """Whether the arrays together have no entry, as tables over an empty range; symbolic sizes count as positive."""
    return any(isinstance(n, int) and n == 0 for n in common_shape(*arrays))


def total_change(value, *parts):
    """The tangent Σ slope · change of a value, without the changes that are known to be zero."""
    moved = [slope * change for slope, change in parts if type(change) is not SymbolicZero]
    return jnp.broadcast_to(sum(moved[1:], moved[0]), value.shape) if moved else jnp.zeros_like(value)


def reciprocal(x):
    """1/x, and 0 at x = 0."""
    return jnp.where(x == 0, 0, 1 / jnp.where(x == 0, 1, x))


def deviation(p):
    """sqrt(p) of a variance, which rounding may have made negative."""
    return jnp.sqrt(jnp.maximum(p, 0))


@jax.custom_jvp
def inverse_deviation(p):
    """1/sqrt(p), and 0 at p = 0, with the derivative 0 there; a root comes last, which XLA does not compute twice. What
    is not a number stays so.
    """
    return jnp.sqrt(1 / jnp.where(p < jnp.finfo(p.dtype).tiny, jnp.inf, p))


@inverse_deviation.defjvp
def _inverse_deviation_jvp(primals, tangents):
    (p,), (dp,) = primals, tangents
    inverse = inverse_deviation(p)
    return inverse, -0.5 * inverse * inverse * inverse * dp


def correlation(k, p, q):
    """k/sqrt(pq) in [-1, 1]; 0 where a variance vanishes.

    The roots, taken apart on the small shapes of p and q, neither under- nor overflow where p·q does. A few roundings
    from +-1 count as +-1: equal inputs have correlation 1 exactly, where all that is singular in sqrt(1 - c²) takes
    its limit.
    """
    c = k * reciprocal(deviation(p)) * reciprocal(deviation(q))
    near_one = 1 - 4 * float(jnp.finfo(c.dtype).eps)
    return jnp.where(c >= near_one, 1.0, jnp.where(c <= -near_one, -1.0, c))


def correlation_gap(k, p, q):
    """(|c|, 1 - |c|) at the correlation c = k/sqrt(pq); (0, 1) where a variance vanishes.

    Like `correlation`, it takes |c| within a few roundings of 1 for 1: equal inputs have correlation 1 exactly, where
    all that is singular in 1 - c² takes its limit.
    """
    x = jnp.abs(k) * inverse_deviation(p) * inverse_deviation(q)
    gap = 1 - x
    return x, jnp.where(gap < 4 * float(jnp.finfo(gap.dtype).eps), 0, gap)


@jax.custom_jvp
def leg(k, p, q):
    """sqrt(1 - c²) of the correlation c; its derivative, infinite at c = +-1, counts as 0 there."""
    _, gap = correlation_gap(k, p, q)
    return jnp.sqrt(gap * (2 - gap))


@functools.partial(leg.defjvp, symbolic_zeros=True)
def _leg_jvp(primals, tangents):
    k, p, q = primals
    dk, dp, dq = tangents
    value = leg(k, p, q)
    c = correlation(k, p, q)
    moved = jnp.zeros_like(value)
    if type(dk) is not SymbolicZero:
        moved = moved + dk * inverse_deviation(p) * inverse_deviation(q)
    for variance, change in ((p, dp), (q, dq)):
        if type(change) is not SymbolicZero:
            moved = moved - 0.5 * c * change * reciprocal(variance)
    return value, -c * reciprocal(value) * moved


@jax.custom_jvp
def sine(c):
    """sqrt(1 - c²) of a correlation; its derivative, infinite at c = +-1, counts as 0 there."""
    return jnp.sqrt((1 - c) * (1 + c))


@sine.defjvp
def _sine_jvp(primals, tangents):
    (c,), (dc,) = primals, tangents
    return sine(c), -c * reciprocal(sine(c)) * dc
