"""Sums and products of nodes, choices between two, and functions of scalars."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from tensorprog import recursion as ir
from tensorprog.backend.code import arrays
from tensorprog.backend.code.arrays import aligned, product_of, sum_of, union
from tensorprog.backend.code.reading import formula
from tensorprog.backend.code.tree import Array, Call, Literal, Name, Unary, call
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.indices import mask
from tensorprog.backend.lower.registry import lowering
from tensorprog.backend.lower.rules.numbers import number
from tensorprog.backend.lower.rules.reads import at_places

MINUS_ONE = ir.Constant(sympy.Integer(-1))
_INITIAL = {"max": Unary("-", Name("jnp.inf")), "min": Name("jnp.inf"), "prod": Literal(1)}


@lowering(ir.Add)
def add(node: ir.Add, at: Context) -> Array:
    return sum_of([at.lower(t) for t in node.terms], at.order)


@lowering(ir.Product)
def product(node: ir.Product, at: Context) -> Array:
    return _product(node.factors, at)


def _product(factors: Sequence[ir.Node], at: Context) -> Array:
    if MINUS_ONE in factors and len(factors) > 1:
        inner = _product([f for f in factors if f != MINUS_ONE], at)
        return Array(Unary("-", inner.value), inner.dims)
    # Numbers first, so that they multiply small arrays.
    return product_of(sorted((at.lower(f) for f in factors), key=lambda a: len(a.dims)), at.order)


@lowering(ir.Where)
def where(node: ir.Where, at: Context) -> Array:
    test = mask(node.conditions, at)
    then = at.lower(node.then)
    if test is None:
        return then
    otherwise = at.lower(node.otherwise)
    if at.decided(node.conditions):  # known in Python: the other branch must not be looked up at all
        return arrays.chosen(then, test.value, otherwise, at.order)
    return arrays.where(test, then, otherwise, at.order)


@lowering(ir.Apply)
def apply(node: ir.Apply, at: Context) -> Array:
    values = {s: at.lower(a) for s, a in node.arguments}
    dims = union([*values.values(), *numbers_in(at, node.expression)], at.order)
    for s in node.expression.free_symbols - values.keys():
        values[s] = number(s, at)
    return Array(formula(node.expression, {s: aligned(a, dims, at.order) for s, a in values.items()}), dims)


def numbers_in(at: Context, *expressions: sympy.Expr) -> list[Array]:
    """The loop indices that stand as numbers in functions, so that the result has their dimensions."""
    symbols = {s for e in expressions for s in e.free_symbols if s.is_integer and s.name in at.arrays}
    return [number(s, at) for s in sorted(symbols, key=str)]


@lowering(ir.Reduce)
def reduce(node: ir.Reduce, at: Context) -> Array:
    with at.bound([node.range], node.conditions) as ((name,), conditions):
        over = at.arrays[name]
        body = at.lower(node.body)
        if name not in body.dims:  # the same for all of them
            every = Array(call("jnp.zeros", at.scope.size(over), "dtype"), (name,))
            body = sum_of([body, every], at.order)
        test = mask(conditions, at)
        dims = union([body, *([test] if test else [])], at.order)
        axis = dims.index(name)
        value = aligned(body, dims, at.order)
        only = (("where", aligned(test, dims, at.order)),) if test else ()
    rest = tuple(d for d in dims if d != name)
    keywords = (("axis", Literal(axis)), *only)
    if node.kind == "softmax":
        assert node.at is not None
        result = Call(Name("jax.nn.softmax"), (value,), keywords)
        if axis + 1 < len(dims):
            result = call("jnp.moveaxis", result, axis, -1)
        return at_places(result, rest, [(name, over, node.at)], at)
    initial = (("initial", _INITIAL[node.kind]),) if test else ()
    return Array(Call(Name(f"jnp.{node.kind}"), (value,), (keywords[0], *initial, *only)), rest)
