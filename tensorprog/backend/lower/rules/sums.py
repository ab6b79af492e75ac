"""Sums over indices: of windows, as contractions of arrays, or in Python, index by index."""

from __future__ import annotations

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import chosen, summed, transposed, union, where
from tensorprog.backend.code.tree import Array, Call, Each, Literal, Name, call, counting, text
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.factors import factors_of, is_number_without, scaled
from tensorprog.backend.lower.indices import indicators, mask
from tensorprog.backend.lower.registry import lowering
from tensorprog.backend.lower.rules.reads import subscripts
from tensorprog.backend.lower.windows import window_sum
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import boxed
from tensorprog.naming import identifier


@lowering(ir.Sum)
def sum_over(node: ir.Sum, at: Context) -> Array:
    left = at.system.without_totals(node)
    if left is not node:
        return at.lower(left)
    window = window_sum(node, at)
    if window is not None:
        return window
    if all(_stands_alone(r.name, node, at) for r in node.ranges):
        return contraction(node, at)
    return unrolled(node, at)


def _stands_alone(name: str, node: ir.Sum, at: Context) -> bool:
    """Whether a summed index stands in reads only by itself: the sum is then a contraction of arrays."""
    for read in ir.reads(node.body):
        for k, e in enumerate(read.indices):
            alone = e == Affine.symbol(name) or (e.entries == tuple(s for s, _ in e.terms) and len(e.terms) == 1)
            if name in e.symbols and (not alone or at.system.is_history(read, k)):
                return False
    return True


def contraction(node: ir.Sum, at: Context) -> Array:
    with at.bound(node.ranges, node.conditions) as (names, conditions):
        factors = factors_of(node)
        outer = [f for f in factors if is_number_without(f, names)]
        arrays = [at.lower(f) for f in factors if f not in outer]
        arrays += indicators(conditions, at)
        dims = tuple(d for d in union(arrays, at.order) if d not in names)
        for n in names:
            if all(n not in a.dims for a in arrays):
                arrays.append(Array(call("jnp.ones", at.scope.size(at.arrays[n]), "dtype"), (n,)))
        if len(arrays) == 1:
            array = transposed(arrays[0], at.order)
            axes = tuple(array.dims.index(n) for n in names)
            value = call("jnp.sum", array, axis=axes if len(axes) > 1 else axes[0])
        else:
            value = Call(
                Name("jnp.einsum"), (text(subscripts(arrays, dims)), *arrays), (("precision", text("highest")),)
            )
    return scaled(Array(value, dims), outer, at)


def unrolled(node: ir.Sum, at: Context) -> Array:
    """A Python sum over the summed indices, each an integer."""
    scope, conditions, loops = at.scope, list(node.conditions), []
    for r in node.ranges:
        wide, more = boxed(r, {**scope.ranges, **at.arrays})
        conditions += more
        variable = identifier(r.name)
        loops.append(Each(variable, counting(scope.bound(wide.low), scope.bound(wide.high))))
        scope = scope.inside(wide, variable)
    with at.within(scope):
        body = at.lower(node.body)
        test = mask(conditions, at)
        if test is not None and at.decided(conditions):
            body = chosen(body, test.value, Array(Literal(0)), at.order)
        elif test is not None:
            body = where(test, body, None, at.order)
    return summed(body, loops)
