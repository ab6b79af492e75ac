"""Reductions over an index, on the axis before the last."""

import jax
import jax.numpy as jnp
from jax import lax


class Stack:
    """Vectors over an index, for the functions that reduce it."""

    def __init__(self, vectors):
        self.vectors = vectors


def stack_scalars(values):
    """Numbers of the batch over an index, (…, B, 1)."""
    return jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(v) for v in values)), -1)[..., None]


def stacked_values(values, dtype):
    """Samples of vectors over an index, (…, B, P); of none, whose product is 1, (0, 1)."""
    return jnp.stack(jnp.broadcast_arrays(*values), -2) if values else jnp.zeros((0, 1), dtype)


def data_sum(terms, zero):
    """Σ coefficient · data; data of None is the number 1."""
    return sum((spread(c) * (1.0 if x is None else x) for c, x in terms), zero)


def spread(c):
    """A number of the batch against features."""
    return c[..., None] if jnp.ndim(c) else c


def reduce_sum(stack):
    return jnp.sum(stack, -2)


def reduce_mean(stack):
    return jnp.mean(stack, -2)


def reduce_prod(stack):
    return jnp.prod(stack, -2)


def reduce_max(stack):
    return jnp.max(stack, -2)


def reduce_min(stack):
    return jnp.min(stack, -2)


def reduce_softmax(stack, at):
    return pick(jax.nn.softmax(stack, -2), at)


def reduce_batchnorm(stack, at, eps=0.0):
    """(e - m) / sqrt(s + eps) at one index; 0 where all are equal and eps is 0."""
    centred = stack - jnp.mean(stack, -2, keepdims=True)
    spread_ = jnp.mean(centred**2, -2) + eps
    positive = spread_ > 0
    return jnp.where(positive, pick(centred, at) / jnp.sqrt(jnp.where(positive, spread_, 1)), 0)


def pick(stack, at):
    at = jnp.asarray(at).ravel()[0].astype(jnp.int32)
    return lax.dynamic_index_in_dim(stack, at, stack.ndim - 2, keepdims=False)
