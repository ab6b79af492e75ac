"""Reading tables at shifted indices, zero outside."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero


def take(x, axis, start, size, stride=1):
    """Entries start + stride · k, k < size, of x along an axis (int) or several (tuples of equal length); 0 outside."""
    axes, starts, sizes, strides = (
        ((axis,), (start,), (size,), (stride,)) if isinstance(axis, int) else (axis, start, size, stride)
    )
    strides = (strides,) * len(axes) if isinstance(strides, int) else strides
    x, widths = _cut(x, axes, starts, [_spanned(n, s) for n, s in zip(sizes, strides, strict=True)])
    x = jnp.pad(x, widths) if any(w != (0, 0) for w in widths) else x
    return _every(x, axes, strides)


def _cut(x, axes, starts, sizes):
    """What x has of entries start, ..., start + size - 1 along each axis, and how many zeros belong around it."""
    widths = [(0, 0)] * x.ndim
    slices = [slice(None)] * x.ndim
    for a, first, length in zip(axes, starts, sizes, strict=True):
        low, high = min(max(first, 0), x.shape[a]), max(min(first + length, x.shape[a]), 0)
        high = max(low, high)
        slices[a] = slice(low, high)
        before = min(max(-first, 0), length)
        widths[a] = (before, length - (high - low) - before)
    return x[tuple(slices)], widths


def _spanned(size, stride):
    """From the first of so many entries to the last."""
    return max(size - 1, 0) * stride + min(size, 1)


def _every(x, axes, strides):
    """Every so many entries along some axes."""
    if all(s == 1 for s in strides):
        return x
    slices = [slice(None)] * x.ndim
    for a, s in zip(axes, strides, strict=True):
        slices[a] = slice(None, None, s)
    return x[tuple(slices)]


def spread(x, axes, gaps):
    """x with gap - 1 zeros between neighbours along each of the axes."""
    interior = dict(zip(axes, gaps, strict=True))
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, interior.get(a, 1) - 1) for a in range(x.ndim)])


def entry(x, axis, index):
    """x at an index along an axis; 0 outside. The index may be traced."""
    if isinstance(x.shape[axis], int) and x.shape[axis] == 0:
        return jnp.zeros(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)
    inside = (index >= 0) & (index < x.shape[axis])
    if isinstance(index, int):
        return (
            lax.index_in_dim(x, index, axis, False) if inside else jnp.zeros_like(lax.index_in_dim(x, 0, axis, False))
        )
    value = lax.dynamic_index_in_dim(x, jnp.clip(index, 0, x.shape[axis] - 1), axis, False)
    return jnp.where(inside, value, 0)


def gather(x, axis, indices):
    """x at an array of indices along an axis, whose dimensions replace it; 0 outside."""
    if isinstance(indices, np.ndarray) and indices.size and indices.min() >= 0 and indices.max() < x.shape[axis]:
        if indices.ndim == 1:
            starts = [0, *(np.flatnonzero(np.diff(indices) != 1) + 1), len(indices)]
            if len(starts) <= 8:  # stretches, as around the end of an axis
                stretches = [indices[starts[i] : starts[i + 1]] for i in range(len(starts) - 1)]
                parts = [lax.slice_in_dim(x, int(s[0]), int(s[-1]) + 1, axis=axis) for s in stretches]
                return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)
        return jnp.take(x, indices, axis=axis, mode="clip")
    inside = (indices >= 0) & (indices < x.shape[axis])
    value = jnp.take(x, jnp.clip(indices, 0, x.shape[axis] - 1), axis=axis)
    shape = [1] * axis + list(jnp.shape(indices)) + [1] * (x.ndim - axis - 1)
    return jnp.where(jnp.reshape(inside, shape), value, 0)


def looked_up(x, indices, rank):
    """x at indices that are data, 0 outside; the result has `rank` dimensions.

    indices: for each axis of x an array that broadcasts to the result, or the number of the dimension that it becomes.
    """
    inside, places = True, []
    for axis, i in enumerate(indices):
        size = x.shape[axis]
        if isinstance(i, int):
            places.append(jnp.arange(size).reshape([size if k == i else 1 for k in range(rank)]))
            continue
        i = jnp.reshape(i, (1,) * (rank - jnp.ndim(i)) + jnp.shape(i)).astype(jnp.int32)
        inside = inside & (i >= 0) & (i < size)
        places.append(jnp.clip(i, 0, size - 1))
    return jnp.where(inside, x[tuple(places)], 0)


def window_sums(x, passes):
    """Sums of x over windows, zero outside, one pass after another: `passes` lists (axes, offsets, starts, sizes,
    strides), strides 1 where they are left out.

    A pass shifts along all of its axes at once: entry (i, j, ...) is the sum over o in the range `offsets` of
    x[stride_i i + start_i + o, stride_j j + start_j + o, ...]. Each pass but the last is written to memory, with the
    zeros around it that the next one reads: a window along one axis by `reduce_window`, others by slices of the padded
    array. The slices of the last pass are read by the pointwise work after it, which saves a pass through memory; so
    are those of short windows that leave out entries, as in pooling.
    """
    passes = [_Window(*p) for p in passes]
    for number, here in enumerate(passes):
        later = passes[number + 1 :]
        if len(here.axes) == 1 and later and not here.short:
            window, strides, dilation = [1] * x.ndim, [1] * x.ndim, [1] * x.ndim
            window[here.axes[0]], strides[here.axes[0]], dilation[here.axes[0]] = here.number, here.strides[0], here.gap
            ahead = [here, *later]
            x, widths = _cut(
                x,
                [a for p in ahead for a in p.axes],
                [s for p in ahead for s in p.starts],
                [n for p in ahead for n in p.reach],
            )
            zero = np.zeros((), x.dtype)
            x = lax.reduce_window(x, zero, lax.add, window, strides, widths, window_dilation=dilation)
            # The zeros around it are there: later windows begin at them.
            passes[number + 1 :] = [p.at_zero() for p in later]
            continue
        x = take(x, here.axes, here.starts, here.reach)
        x = _strided_sum(x, here) if any(s != 1 for s in here.strides) else _shifted_sum(x, here)
    return x


class _Window:
    """One pass of `window_sums`: `number` offsets, `gap` apart, the first of them in `starts`."""

    def __init__(self, axes, offsets, starts, sizes, strides=None):
        low, high = min(offsets), max(offsets)
        self.axes, self.sizes = axes, sizes
        self.number, self.gap = len(offsets), (high - low) // max(len(offsets) - 1, 1) or 1
        self.starts = tuple(s + low for s in starts)
        self.strides = strides or (1,) * len(axes)

    @property
    def short(self):
        return self.number <= 4 and any(s != 1 for s in self.strides)

    @property
    def reach(self):
        """How many entries it reads along each axis, those between two that it reads counted."""
        whole = (self.number - 1) * self.gap
        return [_spanned(n, s) + whole for n, s in zip(self.sizes, self.strides, strict=True)]

    def at_zero(self):
        moved = _Window(self.axes, (0,), (0,) * len(self.axes), self.sizes, self.strides)
        moved.number, moved.gap = self.number, self.gap
        return moved


def _strided_sum(x, window):
    """Sum over o < number of the entries o · gap + stride · k, k < size, along each of the axes."""
    terms = []
    for o in range(window.number):
        slices = [slice(None)] * x.ndim
        for a, size, stride in zip(window.axes, window.sizes, window.strides, strict=True):
            slices[a] = slice(o * window.gap, o * window.gap + _spanned(size, stride), stride)
        terms.append(x[tuple(slices)])
    return sum(terms[1:], terms[0])


def _shifted_sum(x, window):
    """Sum over o < number of entries o · gap, ..., o · gap + size - 1 along each of the axes.

    Every axis is taken as one with those that follow it, up to the next that is shifted: a shift by one is then a shift
    by a row, and the loop over what is left runs through many rows at once.
    """
    shape = list(x.shape)
    sizes = [size for _, size in sorted(zip(window.axes, window.sizes, strict=True))]
    axes = sorted(window.axes)
    ends = [*axes[1:], x.ndim]
    merged = merge_axes(x, tuple(zip(axes, ends, strict=True)))
    slices = [slice(None)] * merged.ndim
    rows = []
    for k, (a, end, size) in enumerate(zip(axes, ends, sizes, strict=True)):
        shape[a] = size
        position = a - sum(e - b - 1 for b, e in zip(axes[:k], ends[:k], strict=True))
        rows.append((position, size, math.prod(x.shape[a + 1 : end])))
    terms = []
    for o in range(window.number):
        for position, size, row in rows:
            slices[position] = slice(o * window.gap * row, (o * window.gap + size) * row)
        terms.append(merged[tuple(slices)])
    return sum(terms[1:], terms[0]).reshape(shape)


def merge_axes(x, groups):
    """x with the axes start, ..., stop - 1 as one axis, for each (start, stop) of `groups`."""
    shape, done = [], 0
    for start, stop in groups:
        shape += [*x.shape[done:start], math.prod(x.shape[start:stop])]
        done = stop
    return x.reshape(*shape, *x.shape[done:])


def entrywise(function, groups, *arrays):
    """A function that acts entry by entry, on arrays that broadcast, with axes merged.

    One long axis makes for one long loop, which keeps vector units busy where the last axis alone would not fill them.
    """
    shape = jnp.broadcast_shapes(*(a.shape for a in arrays))
    laid = [a.reshape((1,) * (len(shape) - a.ndim) + a.shape) for a in arrays]
    whole = [
        (start, stop)
        for start, stop in groups
        if all(a.shape[start:stop] in (shape[start:stop], (1,) * (stop - start)) for a in laid)
    ]
    merged = [merge_axes(a, whole) for a in laid]
    value = function(*merged)  # which may not depend on all of them
    return jnp.broadcast_to(value, jnp.broadcast_shapes(*(a.shape for a in merged))).reshape(shape)


def placed(shape, dtype, pieces):
    """Zeros of that shape with arrays put in: pieces of (indices and slices, array, shared).

    A piece that is not shared has its place to itself. Those that are shared may lie over others: each is zero where
    another one holds, and they add up.
    """
    alone = [where for where, _, shared in pieces if not shared]
    for k, one in enumerate(alone):
        if any(_overlap(one, other, shape) for other in alone[:k]):
            raise AssertionError("two clauses hold in one place")
    result = None
    for where, value, shared in pieces:
        starts, sizes, strides = [], [], []
        for index, size in zip(where, shape, strict=True):
            # All of an axis, whose size may be a symbol in export.
            every = index == slice(None)
            low, high, stride = (0, size, 1) if every else _slice(index).indices(size)
            starts.append(low)
            sizes.append(size if every else max(high - low, 0))
            strides.append(stride)
        if any(stride != 1 for stride in strides):
            result = (jnp.zeros(shape, dtype) if result is None else result).at[where].add(value)
            continue
        value = jnp.broadcast_to(jnp.asarray(value, dtype).reshape(_with_axes(where, value)), sizes)
        if result is None or shared:
            widths = [(a, 0 if b is n else n - a - b) for a, b, n in zip(starts, sizes, shape, strict=True)]
            value = jnp.pad(value, widths)
            result = value if result is None else result + value
        else:
            result = lax.dynamic_update_slice(result, value, starts)
    return jnp.zeros(shape, dtype) if result is None else result


def _slice(index):
    return index if isinstance(index, slice) else slice(index, index + 1)


def _overlap(one, other, shape):
    """Whether two places have an entry in common."""
    return all(_meet(a, b, n) for a, b, n in zip(one, other, shape, strict=True))


def _meet(one, other, size):
    if one == other == slice(None):  # of an axis that has entries
        return True
    return not set(range(*_slice(one).indices(size))).isdisjoint(range(*_slice(other).indices(size)))


def _with_axes(where, value):
    """The shape of a value with an axis of length 1 for each single index, and for axes that it lacks in front."""
    sizes = list(jnp.shape(value))
    shape = [sizes.pop() if isinstance(index, slice) and sizes else 1 for index in reversed(where)]
    return shape[::-1]


@jax.custom_jvp
def equal_where(k, p, same):
    """k with p in its place where `same` holds: equal inputs have correlation 1, and no rounding may spoil that.

    The derivative stays that of k.
    """
    return jnp.where(same, p, k)


@partial(equal_where.defjvp, symbolic_zeros=True)
def _equal_where_jvp(primals, tangents):
    value = equal_where(*primals)
    dk = tangents[0]
    return value, jnp.zeros_like(value) if type(dk) is SymbolicZero else jnp.broadcast_to(dk, value.shape)
