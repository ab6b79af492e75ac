"""The factors of what is summed: those that depend on no summed index stand before the sum."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import product_of
from tensorprog.backend.code.tree import Array
from tensorprog.backend.lower.context import Context


def factors_of(node: ir.Sum) -> tuple[ir.Node, ...]:
    return node.body.factors if isinstance(node.body, ir.Product) else (node.body,)


def is_number_without(node: ir.Node, names: Sequence[str]) -> bool:
    """Whether a node is a number that depends on none of these indices."""
    if not isinstance(node, ir.Constant | ir.LawVariance):
        return False
    values = [x.value for x in ir.walk(node) if isinstance(x, ir.Constant)]
    values += [x.scale for x in ir.walk(node) if isinstance(x, ir.LawVariance)]
    return not any(s.name in names and s.is_integer for v in values for s in v.free_symbols)


def scaled(array: Array, factors: Sequence[ir.Node], at: Context) -> Array:
    return product_of([*(at.lower(f) for f in factors), array], at.order)
