"""Numbers, laws, sums, products, choices and functions, entry by entry of a tile."""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.backend.code.integers import integer
from tensorprog.backend.code.reading import formula
from tensorprog.backend.code.tree import Binary, Expr, Literal, Name, added, index, multiplied, text
from tensorprog.backend.fused.chain import NotFused
from tensorprog.backend.fused.place import LOOP, Place, tile_lowering
from tensorprog.index.affine import Affine

MOST_TERMS = 256
NOTHING = Literal(0.0)


@tile_lowering(ir.Constant)
def constant(node: ir.Constant, at: Place) -> Expr:
    return number(node.value, at)


def number(value: sympy.Expr, at: Place) -> Expr:
    return formula(value, {s: symbol(s, at) for s in value.free_symbols})


def symbol(s: sympy.Symbol, at: Place) -> Expr:
    if s.name in at.indices:
        return integer(at.indices[s.name], {LOOP: Name("position")}.__getitem__)
    program = at.writer.program
    if s.name not in (*program.reals, *program.integers, *program.features):
        raise NotFused(f"{s.name} is given by the data")
    return Name(at.writer.names.scalar(s, {}))


@tile_lowering(ir.LawVariance)
def law(node: ir.LawVariance, at: Place) -> Expr:
    for s in (*node.scale.free_symbols, *(node.tangent.free_symbols if node.tangent is not None else ())):
        symbol(s, at)
    if not any(s.name in at.indices for s in node.scale.free_symbols):
        return Name(at.writer.taking(at.writer.names.law(node)))
    scale = number(node.scale, at)
    if not node.moves or node.tangent is None:
        return scale
    return added([scale, Binary("*", index("move", text(node.parameter)), number(node.tangent, at))])


@tile_lowering(ir.Add)
def add(node: ir.Add, at: Place) -> Expr:
    return added([at.lower(t) for t in node.terms])


@tile_lowering(ir.Product)
def product(node: ir.Product, at: Place) -> Expr:
    return multiplied([at.lower(f) for f in node.factors])


@tile_lowering(ir.Sum)
def sum_over(node: ir.Sum, at: Place) -> Expr:
    chain = at.writer.chain
    kinds = [[tuple(m.values()) for m in chain.members(node.ranges, i)] for i in at.integers()]
    if any(k != kinds[0] for k in kinds):
        raise at.uneven()
    if len(kinds[0]) > MOST_TERMS:
        raise NotFused(f"a sum of {len(kinds[0])} terms")
    terms = []
    for values in kinds[0]:
        inner = at.at({r.name: Affine(v) for r, v in zip(node.ranges, values, strict=True)})
        if inner.hold(node.conditions):
            terms.append(inner.lower(node.body))
    return added(terms) if terms else NOTHING


@tile_lowering(ir.Where)
def where(node: ir.Where, at: Place) -> Expr:
    return at.lower(node.then if at.hold(node.conditions) else node.otherwise)


@tile_lowering(ir.Apply)
def apply(node: ir.Apply, at: Place) -> Expr:
    values = {s: at.lower(a) for s, a in node.arguments}
    for s in node.expression.free_symbols - values.keys():
        values[s] = number(s, at)
    return formula(node.expression, values)
