"""Reading tables at shifted indices, zero outside."""

import jax.numpy as jnp
from jax import lax


def take(x, axis, start, size):
    """Entries start, ..., start + size - 1 of x along an axis (int) or several (tuples of equal length); 0 outside."""
    axes, starts, sizes = ((axis,), (start,), (size,)) if isinstance(axis, int) else (axis, start, size)
    widths = [(0, 0)] * x.ndim
    slices = [slice(None)] * x.ndim
    for a, first, length in zip(axes, starts, sizes, strict=True):
        low, high = min(max(first, 0), x.shape[a]), max(min(first + length, x.shape[a]), 0)
        high = max(low, high)
        slices[a] = slice(low, high)
        before = min(max(-first, 0), length)
        widths[a] = (before, length - (high - low) - before)
    x = x[tuple(slices)]
    return jnp.pad(x, widths) if any(w != (0, 0) for w in widths) else x


def entry(x, axis, index):
    """x at an index along an axis; 0 outside. The index may be traced."""
    inside = (index >= 0) & (index < x.shape[axis])
    if isinstance(index, int):
        return (
            lax.index_in_dim(x, index, axis, False) if inside else jnp.zeros_like(lax.index_in_dim(x, 0, axis, False))
        )
    value = lax.dynamic_index_in_dim(x, jnp.clip(index, 0, x.shape[axis] - 1), axis, False)
    return jnp.where(inside, value, 0)


def gather(x, axis, indices):
    """x at an array of indices along an axis, whose dimensions replace it; 0 outside."""
    inside = (indices >= 0) & (indices < x.shape[axis])
    value = jnp.take(x, jnp.clip(indices, 0, x.shape[axis] - 1), axis=axis)
    shape = [1] * axis + list(jnp.shape(indices)) + [1] * (x.ndim - axis - 1)
    return jnp.where(jnp.reshape(inside, shape), value, 0)


def window_sum(x, axes, offsets, starts, sizes):
    """Sum of x shifted by each offset along all of `axes` at once, zero outside.

    Entry (i, j, ...) of the result is the sum over o of x[i + start_i + o, j + start_j + o, ...]. The barrier keeps
    the compiler from computing the sum again for every use of its entries.
    """
    total = sum(take(x, axes, [s + o for s in starts], sizes) for o in offsets)
    return lax.optimization_barrier(total)


def placed(shape, dtype, pieces):
    """Zeros of that shape with arrays put in: pieces of (slices, array), which do not overlap."""
    result = jnp.zeros(shape, dtype)
    for where, value in pieces:
        result = result.at[where].add(value)
    return result


def equal_where(k, p, same):
    """k with p in its place where `same` holds: equal inputs have correlation 1, and no rounding may spoil that.

    The derivative stays that of k.
    """
    return k + lax.stop_gradient(jnp.where(same, p - k, 0))
