"""The second run of a pair: its indices and sizes are primed, h[t'] for t' = 1..T'."""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import (
    Case,
    Linear,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    ScalarReduction,
)
from tensorprog.program.ir import Program
from tensorprog.program.scope import size_symbol
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.derivation import Body


def sizes_of(program: Program, side: str | None) -> dict[str, Affine]:
    """What stands for the sizes of that run: primed ones for those of the right."""
    return {s: Affine.symbol(s + "'") for s in program.of_runs} if side == "right" else {}


def of_run(program: Program, r: Reference, rename: dict[str, Affine], side: str | None) -> Reference:
    """A reference of that run, with indices replaced."""
    mapping = {**rename, **sizes_of(program, side)}
    return replace(r, indices=tuple(i.substitute(mapping) for i in r.indices)) if mapping else r


def number_of_run(reader: CaseReader, e: sympy.Expr, rename: dict[str, Affine], side: str | None) -> sympy.Expr:
    """A number of that run, with indices replaced."""
    values = {sympy.Symbol(k, integer=True): reader.number(v) for k, v in rename.items()}
    if side == "right":
        values |= {size_symbol(s): size_symbol(s + "'") for s in reader.program.open_sizes}
    return e.subs(values, simultaneous=True) if values else e


def primed(reader: CaseReader, case: Case, sizes: bool) -> Case:
    """The case as the second vector of a pair: indices primed, and sizes too between two runs."""
    names = {r.name for r in case.binders}
    if isinstance(case.body, Linear):
        names |= {r.name for t in case.body.terms for r in t.sums}
    mapping = {n: Affine.symbol(n + "'") for n in names}
    if sizes:
        mapping |= sizes_of(reader.program, "right")

    def change_range(r: Range) -> Range:
        r = r.substitute(mapping)
        return replace(r, name=r.name + "'")

    body = case.body
    if isinstance(body, Linear):
        terms = tuple(replace(t, sums=tuple(replace(r, name=r.name + "'") for r in t.sums)) for t in body.terms)
        body = Linear(terms)
    body = reader.put(body, mapping)
    if sizes:
        body = _prime_numbers(reader.program, body)
    return Case(
        tuple(change_range(r) for r in case.binders),
        tuple(t.substitute(mapping) for t in case.target),
        tuple(c.substitute(mapping) for c in case.conditions),
        body,
        case.span,
    )


def _prime_numbers(program: Program, body: Body) -> Body:
    values = {size_symbol(s): size_symbol(s + "'") for s in program.open_sizes}

    def scalar(f: ScalarForm) -> ScalarForm:
        return ScalarForm(f.expression.xreplace(values), tuple((s, leaf(a)) for s, a in f.arguments))

    def leaf(a: ScalarLeaf) -> ScalarLeaf:
        if isinstance(a, ScalarReduction):
            return replace(a, body=scalar(a.body))
        if isinstance(a, ScalarChoice):
            return ScalarChoice(tuple((c, scalar(f)) for c, f in a.branches))
        return a

    def pointwise(f: Pointwise) -> Pointwise:
        reductions = tuple(
            (s, replace(r, body=pointwise(r.body), eps=None if r.eps is None else scalar(r.eps)))
            for s, r in f.reductions
        )
        scalars = tuple((s, scalar(a)) for s, a in f.scalars)
        return Pointwise(f.expression.xreplace(values), f.vectors, scalars, reductions)

    match body:
        case Linear(terms):
            return Linear(
                tuple(
                    replace(
                        t,
                        coefficient=t.coefficient.xreplace(values),
                        scalars=tuple(scalar(s) for s in t.scalars),
                    )
                    for t in terms
                )
            )
        case Pointwise() as f:
            return pointwise(f)
    return body
