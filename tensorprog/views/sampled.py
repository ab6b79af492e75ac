"""What is sampled, for print: the random variables that simulation takes from their Gaussians, an equation to each.

    Z^h[t] = Z^h[t-1] (1 - gate(Z^z[t])) + gate(Z^z[t]) phi(Z^c[t])

z and c are Gaussian, with covariances by the tables; functions of the program keep their names here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.program.instructions import (
    Case,
    Linear,
    Multiply,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    VectorReduction,
)
from tensorprog.program.ir import Family, Function, Program
from tensorprog.program.types import Data, Scalar, Vector
from tensorprog.recursion import Key, Node, Table
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.derivation import gaussian


@dataclass(frozen=True)
class Definition:
    """`name` at the target of `case` is the body of it; `moment`: a C that is the body's expectation."""

    name: str
    case: Case
    moment: bool


@dataclass(frozen=True)
class Simulation:
    """The families that are functions of Gaussians, in the program's order, with their equations.

    means: the vectors drawn with a mean, from which the Gaussians have theirs.
    functions: those of the program that stand in the equations, for a reader who does not see the program.
    """

    families: tuple[str, ...]
    gaussians: tuple[str, ...]
    means: tuple[str, ...]
    definitions: tuple[Definition, ...]
    functions: tuple[Function, ...]


def simulation(tables: Mapping[Key, Table], program: Program) -> Simulation | None:
    """What the sampled expectations in these tables are made of; None where there are none."""
    nodes = [n for t in tables.values() for c in t.clauses for n in ir.walk(c.value)]
    members = [m[0] for n in nodes if isinstance(n, ir.Sampled) for m in (n.left, n.right) if m is not None]
    if not members:
        return None
    cases = _Cases(program)
    given = {k.families[0] for k in tables if k.kind == ir.SCALAR}
    start = [r for name in members if name in given for c in cases.of(name) for r in _names(c.body)]
    start += [name for name in members if name not in given]
    seen: dict[str, None] = {}
    while start:
        name = start.pop()
        if name in seen or isinstance(program.families[name].type, Data):
            continue
        seen[name] = None
        if not _is_gaussian(program, name) and name not in given:
            start += [r for c in cases.of(name) for r in _names(c.body)]
    order = [f for f in program.families if f in seen]
    families = _in_order([f for f in order if not _is_gaussian(program, f) and f not in given], cases)
    definitions = []
    for f in families:
        scalar = isinstance(program.families[f].type, Scalar)
        # A case that is a MatMul has no equation: there the vector is one of the Gaussians.
        shown = [c for c in cases.of(f) if not isinstance(c.body, Multiply)]
        definitions += [Definition(f, c, scalar and _reads_vectors(c.body)) for c in shown]
    return Simulation(
        tuple(f for f in families if isinstance(program.families[f].type, Vector)),
        tuple(f for f in order if _is_gaussian(program, f) or _multiplies(cases, f)),
        tuple(f.name for f in program.families.values() if _is_drawn_with_mean(f)),
        tuple(definitions),
        tuple(f for name, f in program.functions.items() if any(_calls(d.case.body, name) for d in definitions)),
    )


def _in_order(families: list[str], cases: _Cases) -> list[str]:
    """The families after those that they are made of at the same step, else in the given order."""
    needs = {f: {r.name for c in cases.of(f) for r in _same_step(c)} & set(families) - {f} for f in families}
    result: list[str] = []
    left = list(families)
    while left:
        result.append(next((f for f in left if needs[f] <= set(result)), left[0]))
        left.remove(result[-1])
    return result


def _same_step(case: Case) -> Iterable[Reference]:
    """The vectors in a case that do not go back by a step of a loop."""
    body = case.body
    read = body.references if isinstance(body, Pointwise) else ()
    if isinstance(body, Linear):
        read = tuple(t.vector for t in body.terms if t.vector is not None)
    for r in read:
        gaps = [t - i for t in case.target if not t.is_constant for i in r.indices]
        if not any(g.is_constant and g.constant for g in gaps):
            yield r


def _is_gaussian(program: Program, name: str) -> bool:
    return gaussian(program.families[name])


def _multiplies(cases: _Cases, name: str) -> bool:
    """Whether a vector is a MatMul in some of its cases."""
    return any(isinstance(c.body, Multiply) for c in cases.of(name))


def _is_drawn_with_mean(f: Family) -> bool:
    return f.role == "vector" and f.law is not None and f.law.mean != 0


class _Cases:
    """The cases of a program's families with the program's functions under their names: gate(z), not 1/2 + erf(z)/2."""

    def __init__(self, program: Program):
        named = {k: replace(f, body=_named(f)) for k, f in program.functions.items()}
        self.plain, self.named = CaseReader(program), CaseReader(replace(program, functions=named))
        self.families = program.families

    def of(self, name: str) -> tuple[Case, ...]:
        if self.families[name].role == "input":
            return ()
        found = self.named.cases(name)
        # A name has no derivative: D(gate)(z) is written out.
        open_ = any(e.has(sympy.Derivative, sympy.Subs) for c in found for e in _expressions(c.body))
        return self.plain.cases(name) if open_ else found


def _named(f: Function) -> sympy.Expr:
    return sympy.Function(f.name, real=True)(*f.arguments)


def _expressions(body) -> Iterable[sympy.Expr]:
    if isinstance(body, Pointwise):
        yield body.expression
        for _, r in body.reductions:
            yield from _expressions(r.body)


def _calls(body, name: str) -> bool:
    return any(e.atoms(sympy.Function(name, real=True)) for e in _expressions(body))


def _reads_vectors(body) -> bool:
    return isinstance(body, Pointwise) and bool(body.references)


def _names(body) -> Iterable[str]:
    """The families that a body reads, C's too."""
    if isinstance(body, Pointwise):
        yield from (r.name for _, r in body.vectors)
        for _, form in body.scalars:
            yield from _scalar_names(form)
        for _, r in body.reductions:
            yield from _names(r.body)
            if r.eps is not None:
                yield from _scalar_names(r.eps)
    if isinstance(body, Linear):
        for t in body.terms:
            if t.vector is not None:
                yield t.vector.name
            for form in t.scalars:
                yield from _scalar_names(form)


def _scalar_names(form: ScalarForm) -> Iterable[str]:
    for _, leaf in form.arguments:
        if isinstance(leaf, Reference):
            yield leaf.name
        elif isinstance(leaf, ScalarChoice):
            for _, branch in leaf.branches:
                yield from _scalar_names(branch)
        else:
            yield from _scalar_names(leaf.body)


# ---------------------------------------------------------------- C's as nodes


def scalar_node(form: ScalarForm, program: Program) -> Node:
    """A function of C's as a node, which views print as they print others."""
    arguments = tuple((s, _leaf(leaf, program)) for s, leaf in form.arguments)
    if not arguments:
        return ir.Constant(form.expression)
    if len(arguments) == 1 and form.expression == arguments[0][0]:
        return arguments[0][1]
    return ir.Apply(form.expression, arguments)


def _leaf(leaf: ScalarLeaf, program: Program) -> Node:
    if isinstance(leaf, Reference):
        kind = ir.DATA if isinstance(program.families[leaf.name].type, Data) else ir.SCALAR
        return ir.Read(Key(kind, "self", (leaf.name,)), leaf.indices)
    if isinstance(leaf, ScalarChoice):
        return ir.add(*(ir.Where(conditions, scalar_node(f, program), ir.ZERO) for conditions, f in leaf.branches))
    body = scalar_node(leaf.body, program)
    if leaf.kind not in ("sum", "mean"):
        return ir.Reduce(leaf.kind, leaf.range, (), body, leaf.at)
    count = size(leaf.range)
    number = 1 if leaf.kind == "sum" or count is None else 1 / ir.affine_number(count, CaseReader(program).is_size)
    return ir.product(ir.Constant(sympy.sympify(number)), ir.Sum((leaf.range,), (), body))


def size(r) -> Affine | None:
    """How many values a range has; None where its ends are minima or maxima."""
    return r.high - r.low + 1 if isinstance(r.low, Affine) and isinstance(r.high, Affine) else None


def table_of(key: Key, tables, program: Program) -> Table:
    """A table, or for a C that the equations leave out an empty one with its axes."""
    if key in tables:
        return tables[key]
    ranges = program.families[key.families[0]].ranges
    return Table(key, tuple(ir.Axis(r, k, None) for k, r in enumerate(ranges)), ())


def own_index(r: VectorReduction) -> bool:
    """Whether batchnorm[b](h[b]) is read at b, as the program writes it."""
    return r.at == tuple(Affine.symbol(x.name) for x in r.ranges)
