"""Arrays with labelled dimensions in trees: how they are brought to the same order, and against each other.

    aligned(Array(Name("p"), ("n1", "t")), ("n1", "n2", "t", "t'"), order)        p[:, None, :, None]

What is chosen in Python, or summed there, may be a plain 0 for all dimensions, as in `table if t > 1 else 0`: so its
pieces, and the operands beside it, are brought to the dimensions that are asked for, and not the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tensorprog.backend.code.tree import (
    Array,
    Binary,
    Call,
    Comprehension,
    Conditional,
    Each,
    Expr,
    Index,
    Literal,
    Name,
    Slice,
    TupleOf,
    Unary,
    added,
    call,
    index,
    is_number,
    multiplied,
    total,
)

NEW = Literal(None)
EVERY = Slice()


def union(arrays: Iterable[Array], order: Sequence[str]) -> tuple[str, ...]:
    """The dimensions that one of the arrays has, in their order."""
    return tuple(sorted({d for a in arrays for d in a.dims}, key=order.index))


def chosen(then: Array, test: Expr, otherwise: Array, order: Sequence[str]) -> Array:
    """One of two arrays, as Python knows."""
    return _pieced([then, otherwise], lambda a, b: Conditional(a, test, b), order)


def summed(body: Array, loops: Sequence[Each]) -> Array:
    """Python's sum of an array over loops."""
    return Array(total(body, loops), body.dims)


def _pieced(pieces: Sequence[Array], make: Callable[..., Expr], order: Sequence[str]) -> Array:
    dims = union(pieces, order)
    return Array(make(*(aligned(p, dims, order) for p in pieces)), dims)


def _in_pieces(array: Array, change: Callable[[Array], Array]) -> Expr | None:
    """The array with its pieces changed, where Python puts it together; None where nothing in it is loose."""
    return _changed(array.value, change) if _is_loose(array.value) else None


def _is_loose(e: Expr) -> bool:
    """Whether an array may turn out as a plain 0, or what is made from it, entry by entry, as one with fewer axes.

    So is one times a number: new axes stand better behind the array itself.
    """
    match e:
        case Unary("-", Array()):
            return True
        case Binary("*", factor, Array()) if is_number(factor):
            return True
        case Array(value) | Unary(_, value):
            return _is_loose(value)
        case Conditional() | Call(Name("sum"), (Comprehension(),)):
            return True
        case Binary(_, left, right):
            return _is_loose(left) or _is_loose(right)
        case Call(Name("jnp.where"), arguments):
            return any(map(_is_loose, arguments))
    return False


def _changed(e: Expr, change: Callable[[Array], Array]) -> Expr | None:
    pieces: tuple[Expr, ...]
    make: Callable[..., Expr]
    match e:
        case Array():
            return change(e)
        case Literal():
            return e
        case Conditional(then, test, otherwise):
            pieces, make = (then, otherwise), lambda a, b: Conditional(a, test, b)
        case Call(Name("sum") as function, (Comprehension(body) as loops,)):
            pieces, make = (body,), lambda a: Call(function, (replace(loops, body=a),))
        case Call(Name("jnp.where") as function, arguments):
            pieces, make = arguments, lambda *changed: Call(function, changed)
        case Unary(op, operand):
            pieces, make = (operand,), lambda a: Unary(op, a)
        case Binary(op, left, right):
            pieces, make = (left, right), lambda a, b: Binary(op, a, b)
        case _:
            return None
    changed = [_changed(p, change) for p in pieces]
    return make(*changed) if all(x is not None for x in changed) else None


def _bare(array: Array) -> Array:
    """The array without the axes that an alignment has put in."""
    match array.value:
        case Index(Array() as inner, places) if NEW in places and all(p in (NEW, EVERY) for p in places):
            return inner
    return array


def transposed(array: Array, order: Sequence[str]) -> Array:
    """The same array with its dimensions in the order of `order`."""
    wanted = tuple(sorted(array.dims, key=order.index))
    if wanted == array.dims:
        return array
    array = _bare(array)
    pieces = _in_pieces(array, lambda p: aligned(transposed(_bare(p), order), wanted, order))
    if pieces is not None:
        return Array(pieces, wanted)
    return Array(call("jnp.transpose", array, tuple(array.dims.index(d) for d in wanted)), wanted)


def aligned(array: Array, dims: Iterable[str], order: Sequence[str]) -> Array:
    """The array with singleton dimensions put in, so that it broadcasts against `dims`."""
    array = transposed(_bare(array), order)
    dims = tuple(sorted(dims, key=order.index))
    if array.dims == dims[len(dims) - len(array.dims) :]:
        return array
    pieces = _in_pieces(array, lambda p: aligned(p, dims, order))
    if pieces is not None:
        return Array(pieces, array.dims)
    places = [EVERY if d in array.dims else NEW for d in dims]
    while places[0] == NEW:  # leading new axes come for free
        del places[0]
    return Array(index(array, *places), array.dims)


def sum_of(arrays: Sequence[Array], order: Sequence[str]) -> Array:
    return _pieced(arrays, lambda *parts: added(parts), order)


def product_of(arrays: Sequence[Array], order: Sequence[str]) -> Array:
    return _pieced(arrays, lambda *parts: multiplied(parts), order)


def all_of(masks: Sequence[Array], order: Sequence[str]) -> Array:
    """Where all masks hold."""
    return _pieced(masks, lambda *parts: multiplied(parts, "&"), order)


def where(mask: Array, then: Array, otherwise: Array | None, order: Sequence[str]) -> Array:
    """`jnp.where`, with 0 for no other array."""
    if otherwise is None:
        return _pieced([mask, then], lambda m, a: call("jnp.where", m, a, 0), order)
    return _pieced([mask, then, otherwise], lambda *parts: call("jnp.where", *parts), order)


def shape(sizes: Sequence[Expr]) -> TupleOf:
    return TupleOf(tuple(sizes))


def neighbours(kinds: Sequence[object | None]) -> tuple[tuple[int, int], ...]:
    """The (start, stop) of two and more neighbours of one kind; None is of no kind."""
    found, start = [], 0
    for k in range(1, len(kinds) + 1):
        if k == len(kinds) or kinds[k] != kinds[start]:
            if k - start > 1 and kinds[start] is not None:
                found.append((start, k))
            start = k
    return tuple(found)
