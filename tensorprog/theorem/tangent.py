"""The NTK's recursion: the derivative of the cross tables along the correlation of two copies of the parameters.

With K_ρ(x, x') the limit of E f(x; θ) f(x'; θ_ρ), NTK = Σ_p (1/var_p) ∂K/∂ρ_p at ρ = 1, by Price's theorem and the
product rule (Tensor Programs II, section 3, has the same number from the backward pass). Only cross tables move with ρ:

    s_W·E(s, s') + …            →   s_W·Θ(s, s') + t_W·E(s, s') + …      t_W the law's tangent
    E f(z) g(w), Cov(z, w) = k  →   E f'(z) g'(w) · k̇
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy

from tensorprog import functions
from tensorprog import recursion as ir
from tensorprog.errors import ProgramError
from tensorprog.program.laws import Rate, nngp_scale
from tensorprog.recursion import ZERO, Key, Node, Recursion, Table, add, product

PREFIX = "tangent-"


@dataclass(frozen=True)
class Tangents:
    """`tables`: for the key of every cross table that moves, the table of its derivative, under `tangent_key(key)`.

    A value reads tables of the recursion and of this mapping alike. `primitives` gives for the functions (f', g') of
    an expectation made here the (f, g) with E f'(z) g'(w) = ∂/∂k E f(z) g(w) (Price's theorem).
    """

    tables: Mapping[Key, Table]
    primitives: Mapping[tuple[sympy.Expr, sympy.Expr], tuple[sympy.Expr, sympy.Expr]]
    output: Key


def tangent_key(key: Key) -> Key:
    """The key of the derivative of a table."""
    return replace(key, kind=PREFIX + key.kind)


def primal_key(key: Key) -> Key:
    """The key of the table that `key` is the derivative of; `key` itself where it is no derivative."""
    return replace(key, kind=key.kind.removeprefix(PREFIX))


def is_tangent(key: Key) -> bool:
    return key.kind.startswith(PREFIX)


def tangents(recursion: Recursion) -> Tangents:
    """The derivative of every cross table that is not zero by its structure, and of the output in any case.

    Raises ProgramError where there is no NTK: outputs that are C's alone, a law whose part grows with the width
    (standard parametrization), a function that jumps.
    """
    if recursion.output is None:
        raise ProgramError("the outputs of this program are C's: it has no kernel", recursion.program.text.span)
    cross = {t.key: t for t in recursion.system("cross")}
    moving: set[Key] = set()
    maker = _Maker(recursion, moving)
    while True:
        values = {key: [maker.derivative(c.value) for c in t.clauses] for key, t in cross.items()}
        more = {key for key, v in values.items() if not all(ir.is_zero(x) for x in v)} - moving
        if not more:
            break
        moving |= more
    tables = {}
    for key in [k for k in cross if k in moving or k == recursion.output]:
        clauses = tuple(replace(c, value=v) for c, v in zip(cross[key].clauses, values[key], strict=True))
        tables[tangent_key(key)] = Table(tangent_key(key), cross[key].axes, clauses)
    return Tangents(tables, maker.primitives, tangent_key(recursion.output))


class _Maker:
    """Derivatives of nodes, given which tables move."""

    def __init__(self, recursion: Recursion, moving: set[Key]):
        self.recursion = recursion
        self.moving = moving
        self.primitives: dict[tuple[sympy.Expr, sympy.Expr], tuple[sympy.Expr, sympy.Expr]] = {}

    def derivative(self, node: Node) -> Node:
        match node:
            case ir.LawVariance():
                return self._law(node)
            case ir.Read(key, indices, side):
                return ir.Read(tangent_key(key), indices, side) if key in self.moving else ZERO
            case ir.Add(terms):
                return add(*map(self.derivative, terms))
            case ir.Product(factors):
                return add(*(self._times(factors, i) for i in reversed(range(len(factors)))))
            case ir.Sum(body=body):
                inner = self.derivative(body)
                return ZERO if ir.is_zero(inner) else replace(node, body=inner)
            case ir.Where(then=then, otherwise=otherwise):
                yes, no = self.derivative(then), self.derivative(otherwise)
                return ZERO if ir.is_zero(yes) and ir.is_zero(no) else replace(node, then=yes, otherwise=no)
            case ir.Apply(expression, arguments):
                return add(
                    *(
                        product(ir.Apply(expression.diff(s), arguments), inner)
                        for s, a in arguments
                        if not ir.is_zero(inner := self.derivative(a))
                    )
                )
            case ir.PairExpectation():
                return self._pair(node)
            case ir.JointExpectation():
                return self._joint(node)
            case ir.BatchnormExpectation(k=k):
                inner = self.derivative(k)
                return ZERO if ir.is_zero(inner) else replace(node, moved=inner)
            case ir.Sampled(functions=functions, tables=tables) if not self.moving.isdisjoint(tables):
                for f, symbols in functions:
                    for s in symbols:
                        self._no_jumps(f, s)
                return replace(node, moved=True)
        # Numbers, data and what belongs to one run alone do not move.
        return ZERO

    def _law(self, node: ir.LawVariance) -> Node:
        if not node.moves:
            return ZERO
        if node.tangent is None:
            family = self.recursion.program.families[node.name]
            assert family.law is not None
            _, rate = nngp_scale(family.law, family.type, dict(self.recursion.program.widths))
            raise ProgramError(
                f"the part of '{node.name}' in the NTK grows {rate if isinstance(rate, Rate) else 'like n'}, the width",
                family.span if family.span.line else None,
                hint="draw the parameter from N(0, s) and put the width into the multiplier: N(0, s) / sqrt(n)",
            )
        return ir.Constant(node.tangent)

    def _times(self, factors: tuple[Node, ...], i: int) -> Node:
        inner = self.derivative(factors[i])
        return ZERO if ir.is_zero(inner) else product(*factors[:i], inner, *factors[i + 1 :])

    def _pair(self, node: ir.PairExpectation) -> Node:
        inner = self.derivative(node.k)
        if ir.is_zero(inner):
            return ZERO
        for e, s in ((node.f, node.z), (node.g, node.w)):
            self._no_jumps(e, s)
        f, g = node.f.diff(node.z), node.g.diff(node.w)
        if f == 0 or g == 0:
            return ZERO
        self.primitives[f, g] = node.f, node.g
        if f.is_number and g.is_number:
            return product(ir.Constant(f * g), inner)
        return product(replace(node, f=f, g=g), inner)

    def _joint(self, node: ir.JointExpectation) -> Node:
        count = len(node.zs)
        total = []
        for j, w in enumerate(node.ws):
            row = count + j
            for i, z in enumerate(node.zs):
                inner = self.derivative(node.covariance[row * (row + 1) // 2 + i])
                if ir.is_zero(inner):
                    continue
                self._no_jumps(node.f, z)
                self._no_jumps(node.g, w)
                f, g = node.f.diff(z), node.g.diff(w)
                if f != 0 and g != 0:
                    total.append(product(replace(node, f=f, g=g), inner))
        return add(*total)

    def _no_jumps(self, e: sympy.Expr, s: sympy.Symbol) -> None:
        known = functions.facts(e, s)
        z = sympy.Symbol("z", real=True)
        shown = functions.text(e.xreplace({s: z}))
        if known.steep:
            raise ProgramError(
                f"the derivative of {shown} grows so fast at {z} = {functions.text(known.steep[0])} that its square "
                "has no finite mean: the NTK is infinite",
                self.recursion.program.text.span,
                hint="ask for the NNGP alone, or take a function that is less steep there, such as sqrt(abs(x) + 0.1)",
            )
        if known.jumps:
            raise ProgramError(
                f"{shown} jumps: finite networks have no gradient through it, so there is no NTK",
                self.recursion.program.text.span,
                hint="ask for the NNGP alone, or take a continuous function",
            )
