"""Numbers, and the variances of laws."""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import aligned, sum_of
from tensorprog.backend.code.reading import formula
from tensorprog.backend.code.tree import Array, Binary, Expr, Name, index, text
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.indices import as_number, index_array
from tensorprog.backend.lower.registry import lowering
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine


@lowering(ir.Constant)
def constant(node: ir.Constant, at: Context) -> Array:
    return number(node.value, at)


def number(value: sympy.Expr, at: Context) -> Array:
    """A number in real parameters, sizes and indices."""
    if any("[" in s.name for s in value.free_symbols):
        raise ProgramError("an index that is data cannot stand as a number, as in a law that depends on it")
    labels = {s.name for s in value.free_symbols if s.is_integer and s.name in at.arrays}
    dims = tuple(sorted(labels, key=at.order.index))
    values: dict[sympy.Symbol, Expr] = {}
    for s in value.free_symbols:
        if s.name in labels and s.is_integer:
            values[s] = as_number(aligned(index_array(Affine.symbol(s.name), at), dims, at.order)).value
            continue
        values[s] = Name(at.system.names.scalar(s, at.scope.variables))
        if s.name in at.scope.traced:  # an integer of a loop, which would make float64 of a float32
            values[s] = as_number(values[s]).value
    return Array(formula(value, values), dims)


@lowering(ir.LawVariance)
def law(node: ir.LawVariance, at: Context) -> Array:
    names = at.system.names
    if isinstance(node, ir.LawVariances):
        return Array(index(names.laws(node), at.scope.integer(node.at)))
    if not any(s.is_integer and not s.is_positive for s in node.scale.free_symbols):
        return Array(Name(names.law(node)))
    scale = number(node.scale, at)
    if not node.moves or node.tangent is None:
        return scale
    tangent = number(node.tangent, at)
    moved = Array(Binary("*", index("move", text(node.parameter)), tangent.value), tangent.dims)
    return sum_of([scale, moved], at.order)
