"""The last resort: what no rule derives is left to simulation, with the tables of the Gaussians behind it."""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.program.instructions import Linear, Pointwise, Reference
from tensorprog.program.types import Data, Vector
from tensorprog.recursion import Key, Node
from tensorprog.theorem.derivation import Body, Derivation
from tensorprog.theorem.moments import LAST, Pair, Single, first_moment, second_moment

Functions = dict[tuple[sympy.Expr, tuple[sympy.Symbol, ...]], None]


@second_moment(rank=LAST)
def sampled(d: Derivation, pair: Pair) -> Node | None:
    """E Z^u Z^w of two members of families; parts of functions have no name to be simulated by, nor have readouts."""
    if pair.part or pair.kind == ir.OUTPUT:
        return None
    functions: Functions = {}
    first, second = _gaussians(d, pair.u, pair.f, functions), _gaussians(d, pair.w, pair.g, functions)
    tables = _tables(d, pair.view.stream, first, second)
    return ir.Sampled((pair.u.name, pair.u.indices), (pair.w.name, pair.w.indices), tuple(functions), tables)


@first_moment(rank=LAST)
def sampled_mean(d: Derivation, single: Single) -> Node | None:
    """E Z^u, or a C."""
    if single.part:
        return None
    functions: Functions = {}
    found = _gaussians(d, single.u, single.f, functions)
    tables = _tables(d, single.view.stream, found, found)
    return ir.Sampled((single.u.name, single.u.indices), None, tuple(functions), tables)


def _tables(d: Derivation, stream: str, first: tuple[str, ...], second: tuple[str, ...]) -> tuple[Key, ...]:
    """The tables of covariances that the joint law of these families needs, which are asked for in full."""
    keys: dict[Key, None] = {}
    for u in first:
        for w in second:
            if d.support.sources.get(u, {}).keys() & d.support.sources.get(w, {}).keys():
                key = Key(ir.COVARIANCE, stream, (u, w))
                d.tables.ask_full(key)
                keys[key] = None
    return tuple(keys)


def _gaussians(d: Derivation, r: Reference, body: Body, functions: Functions) -> tuple[str, ...]:
    """The families of G-vars that a vector with this body is a function of, coordinate by coordinate.

    functions: to which those are added that it is made of, with the symbols of their vectors.
    """
    if d.gaussian(r.name):
        return (r.name,)
    found: dict[str, None] = {}
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        if isinstance(d.family(name).type, Data):
            return
        if d.gaussian(name):
            found[name] = None
            return
        for case in d.reader.cases(name):
            through(case.body)

    def through(body: Body) -> None:
        if isinstance(body, Pointwise):
            note(body)
            for r in body.references:
                visit(r.name)
        if isinstance(body, Linear):
            for t in body.terms:
                if t.vector is not None:
                    visit(t.vector.name)

    def note(f: Pointwise) -> None:
        symbols = tuple(s for s, r in f.vectors if isinstance(d.family(r.name).type, Vector))
        symbols += tuple(s for s, _ in f.reductions)
        functions[f.expression, symbols] = None
        for _, r in f.reductions:
            note(r.body)

    through(body)
    return tuple(found)
