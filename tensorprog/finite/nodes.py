"""What the assignments of a program compute, as trees over arrays.

A value has the shape (*rows, samples, coordinates), each of the last two 1 where the value does not depend on it: a
bias is (1, 1, n), a C is (*rows, N, 1). Leaves say which members of a family are read by their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, eq=False)
class Number:
    """Numbers over the rows, float64."""

    value: np.ndarray


@dataclass(frozen=True, eq=False)
class Read:
    """Members `ids` of a family of vectors or C's; 0 where `mask` is False."""

    family: str
    ids: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Matrix:
    """Members `ids` of a weight."""

    family: str
    ids: np.ndarray
    transposed: bool


@dataclass(frozen=True, eq=False)
class MatMul:
    matrix: Matrix
    operand: Node


@dataclass(frozen=True, eq=False)
class Dot:
    """left.T @ right, a sum over coordinates."""

    left: Node
    right: Node


@dataclass(frozen=True, eq=False)
class Apply:
    """A coordinatewise function; `name` tells functions apart."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Moment:
    """The mean over coordinates."""

    operand: Node


@dataclass(frozen=True, eq=False)
class Reduce:
    """sum, mean, prod, max or min over the last axis of the rows, of length `length`, where `mask` is True."""

    kind: str
    operand: Node
    length: int
    mask: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Normalize:
    """softmax or batchnorm of `own` among `every`, which has one axis of rows more; or along an axis of its own."""

    kind: str
    own: Node
    every: Node | None
    axis: int
    length: int
    mask: np.ndarray | None
    eps: Node | None


@dataclass(frozen=True, eq=False)
class Merge:
    """Rows put together: `index` counts through the rows of the parts, one part behind the other."""

    parts: tuple[Node, ...]
    counts: tuple[tuple[int, ...], ...]
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class Pick:
    """Of the last axis of `every`'s rows, of length `length`, the member 1, …, length that `which` tells."""

    every: Node
    which: Node
    length: int


Node = Number | Read | Matrix | MatMul | Dot | Apply | Moment | Reduce | Normalize | Merge | Pick


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case MatMul(matrix, operand):
            return matrix, operand
        case Dot(left, right):
            return left, right
        case Apply(_, _, arguments):
            return arguments
        case Moment(operand) | Reduce(_, operand):
            return (operand,)
        case Normalize(_, own, every, _, _, _, eps):
            return tuple(n for n in (own, every, eps) if n is not None)
        case Merge(parts):
            return parts
        case Pick(every, which):
            return every, which
    return ()


def leaves(node: Node) -> Iterator[Number | Read | Matrix]:
    """The leaves of a tree, in an order that trees of one signature share."""
    if isinstance(node, Number | Read | Matrix):
        yield node
    for child in children(node):
        yield from leaves(child)


def signature(node: Node) -> tuple:
    """What two trees have in common that differ in the members and numbers at their leaves alone."""
    own: tuple
    match node:
        case Number(value):
            own = (value.shape,)
        case Read(family, ids, mask):
            own = (family, ids.shape, _bytes(mask))
        case Matrix(family, ids, transposed):
            own = (family, ids.shape, transposed)
        case Apply(name):
            own = (name,)
        case Reduce(kind, _, length, mask):
            own = (kind, length, _bytes(mask))
        case Normalize(kind, _, every, axis, length, mask, eps):
            own = (kind, every is None, axis, length, _bytes(mask), eps is None)
        case Merge(_, counts, index):
            own = (counts, _bytes(index))
        case Pick(_, _, length):
            own = (length,)
        case _:
            own = ()
    return (type(node).__name__, *own, *(signature(child) for child in children(node)))


def _bytes(array: np.ndarray | None) -> tuple | None:
    return None if array is None else (array.shape, array.tobytes())


# ---------------------------------------------------------------- evaluation


def evaluate(node: Node, leaf: Callable[[Number | Read | Matrix], Any]) -> Any:
    """The value of a tree, given those of its leaves."""

    def of(n: Node) -> Any:
        return evaluate(n, leaf)

    match node:
        case Number() | Read() | Matrix():
            return leaf(node)
        case MatMul(matrix, operand):
            return _multiply(of(matrix), of(operand), matrix.transposed)
        case Dot(left, right):
            return jnp.sum(of(left) * of(right), axis=-1, keepdims=True)
        case Apply(_, function, arguments):
            return function(*map(of, arguments))
        case Moment(operand):
            return jnp.mean(of(operand), axis=-1, keepdims=True)
        case Reduce(kind, operand, length, mask):
            return _reduced(kind, _with_length(of(operand), -3, length), mask)
        case Normalize(kind, own, every, axis, length, mask, eps):
            value = of(own)
            if every is None:
                # Seen from the end, where the axes of samples and coordinates stand.
                value, mask = _with_length(value, axis - 2, length), None
                return _normalized(kind, value, value, axis - 2, True, None, eps and of(eps))
            return _normalized(kind, value, _with_length(of(every), -3, length), -3, False, mask, eps and of(eps))
        case Merge(parts, counts, index):
            return _merged([of(p) for p in parts], counts, index)
        case Pick(every, which, length):
            return _picked(_with_length(of(every), -3, length), of(which))
    raise AssertionError(node)


def _multiply(matrix: Any, x: Any, transposed: bool) -> Any:
    """matrix (*rows, a, b) times x (*rows, samples, b), or its transpose times x (*rows, samples, a)."""
    width = matrix.shape[-2 if transposed else -1]
    if x.shape[-1] != width:  # a constant vector
        x = jnp.broadcast_to(x, (*x.shape[:-1], width))
    if all(size == 1 for size in matrix.shape[:-2]):
        matrix = matrix.reshape(matrix.shape[-2:])
        return x @ (matrix if transposed else matrix.T)
    # The rows along which the matrix varies go first, so that each matrix multiplies all its vectors at once.
    rows = matrix.ndim - 2
    varying = [k for k in range(rows) if matrix.shape[k] > 1]
    others = [k for k in range(rows) if matrix.shape[k] == 1]
    x = jnp.broadcast_to(x, (*np.maximum(x.shape[:-2], matrix.shape[:-2]), *x.shape[-2:]))
    order = [*varying, *others, rows, rows + 1]
    x = x.transpose(order)
    shape = x.shape
    count = int(np.prod(shape[: len(varying)]))
    flat = x.reshape(count, -1, width)
    matrices = matrix.reshape(count, *matrix.shape[-2:])
    product = flat @ (matrices if transposed else matrices.transpose(0, 2, 1))
    return product.reshape(*shape[:-1], product.shape[-1]).transpose(np.argsort(order))


def _picked(every: Any, which: Any) -> Any:
    """every (*rows, length, samples, width) at which (*rows, samples, 1), which counts from 1."""
    at = which[..., 0].astype(jnp.int32) - 1
    if all(size == 1 for size in every.shape[:-3]):
        every = every.reshape(every.shape[-3:])
        return every[at, jnp.arange(every.shape[1]) if every.shape[1] > 1 else 0]
    shape = np.broadcast_shapes(every.shape[:-3], at.shape[:-1])
    samples = max(every.shape[-2], at.shape[-1])
    every = jnp.broadcast_to(every, (*shape, every.shape[-3], samples, every.shape[-1]))
    at = jnp.broadcast_to(at, (*shape, samples))
    return jnp.take_along_axis(every, at[..., None, :, None], axis=-3)[..., 0, :, :]


def _with_length(value: Any, axis: int, length: int) -> Any:
    """A value that does not depend on an axis, repeated along it."""
    if value.shape[axis] == length:
        return value
    shape = list(value.shape)
    shape[axis] = length
    return jnp.broadcast_to(value, shape)


def _reduced(kind: str, value: Any, mask: np.ndarray | None) -> Any:
    if mask is not None:
        meant = mask[..., None, None]
        filler = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "max": -jnp.inf, "min": jnp.inf}[kind]
        value = jnp.where(meant, value, jnp.asarray(filler, value.dtype))
    match kind:
        case "sum":
            return jnp.sum(value, axis=-3)
        case "mean":
            if mask is None:
                return jnp.mean(value, axis=-3)
            count = np.broadcast_to(mask.sum(-1), mask.shape[:-1])[..., None, None]
            return jnp.sum(value, axis=-3) / jnp.asarray(count, value.dtype)
        case "prod":
            return _product(value)
        case "max":
            return jnp.max(value, axis=-3)
    return jnp.min(value, axis=-3)


def _product(value: Any) -> Any:
    # Factor by factor: the derivative of jnp.prod divides, which fails at zeros of higher order.
    return reduce(lambda a, b: a * b, [value[..., k, :, :] for k in range(value.shape[-3])])


def _normalized(kind: str, own: Any, every: Any, axis: int, keep: bool, mask: np.ndarray | None, eps: Any) -> Any:
    """`own` among `every`, whose axis of rows `axis` (from the end) is reduced, and kept with length 1 on `keep`."""
    meant = True if mask is None else mask[..., None, None]
    if kind == "softmax":
        top = jax.lax.stop_gradient(jnp.max(jnp.where(meant, every, -jnp.inf), axis=axis, keepdims=keep))
        shifted = jnp.exp(every - (top if keep else jnp.expand_dims(top, axis)))
        return jnp.exp(own - top) / jnp.sum(jnp.where(meant, shifted, 0.0), axis=axis, keepdims=keep)
    if mask is None:
        count: Any = every.shape[axis]
    else:
        count = jnp.asarray(mask.sum(-1)[..., None, None], every.dtype)
    mean = jnp.sum(jnp.where(meant, every, 0.0), axis=axis, keepdims=keep) / count
    centred = every - (mean if keep else jnp.expand_dims(mean, axis))
    square = jnp.sum(jnp.where(meant, centred**2, 0.0), axis=axis, keepdims=keep) / count
    return (own - mean) / jnp.sqrt(square if eps is None else square + eps)


def _merged(parts: list[Any], counts: tuple[tuple[int, ...], ...], index: np.ndarray) -> Any:
    samples = max(p.shape[-2] for p in parts)
    width = max(p.shape[-1] for p in parts)
    flat = [
        jnp.broadcast_to(p, (*rows, samples, width)).reshape(-1, samples, width)
        for p, rows in zip(parts, counts, strict=True)
    ]
    whole = flat[0] if len(flat) == 1 else jnp.concatenate(flat)
    return take(whole, index)


def take(array: Any, index: np.ndarray) -> Any:
    """array[index] along the first axis, as a slice where it is one."""
    flat = index.reshape(-1)
    first, count = int(flat[0]), flat.size
    if count == 1 or (np.diff(flat) == 1).all():
        whole = first == 0 and count == array.shape[0]
        picked = array if whole else jax.lax.slice_in_dim(array, first, first + count)
    else:
        picked = array.at[flat].get(mode="promise_in_bounds")
    return picked.reshape(*index.shape, *array.shape[1:])
