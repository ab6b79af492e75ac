"""Functions of C's as nodes of the recursion, and C's that are zero by the structure of the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import sympy

from tensorprog import functions
from tensorprog import recursion as ir
from tensorprog.errors import NotDerived, ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.fresh import underscored
from tensorprog.program.instructions import Case, Linear, Reference, ScalarChoice, ScalarForm, ScalarLeaf, Term
from tensorprog.recursion import ZERO, Node, add, product
from tensorprog.theorem.derivation import WITHIN, Context, Derivation
from tensorprog.theorem.entries import read_one
from tensorprog.theorem.moments import Single, derived_first
from tensorprog.theorem.runs import number_of_run, of_run, sizes_of

Rename = dict[str, Affine]


def scalar(d: Derivation, form: ScalarForm, side: str | None, rename: Rename | None = None) -> Node:
    """A function of C's of that run, with indices replaced."""
    forms = {s: ScalarForm(s, ((s, a),)) for s, a in form.arguments}
    return applied(d, form.expression, forms, side, rename)


def plain(d: Derivation, form: ScalarForm, side: str | None) -> Node:
    """The same where indices and sizes are primed already, if they are the second run's."""
    return _with_side(scalar(d, form, "inside"), side)


def coefficient(d: Derivation, t: Term, side: str | None) -> Node:
    """A term's coefficient in that run."""
    number = ir.Constant(number_of_run(d.reader, t.coefficient, {}, side))
    return product(number, *(scalar(d, s, side) for s in t.scalars))


def plain_coefficient(d: Derivation, t: Term, side: str | None) -> Node:
    """The same where indices and sizes are primed already, if they are the second run's."""
    return product(ir.Constant(t.coefficient), *(plain(d, s, side) for s in t.scalars))


def applied(
    d: Derivation,
    e: sympy.Expr,
    forms: Mapping[sympy.Symbol, ScalarForm],
    side: str | None,
    rename: Rename | None = None,
) -> Node:
    """An expression in symbols for C's (`forms`, each a leaf) of that run, with indices replaced."""
    rename = rename or {}
    used = {s: f for s, f in forms.items() if s in e.free_symbols}
    for s, f in list(used.items()):
        ((_, leaf),) = f.arguments
        if isinstance(leaf, Reference) and is_zero_scalar(d, leaf.name):
            e = at_zero(e, s, leaf)
            del used[s]
    e = number_of_run(d.reader, e, rename, side)
    if not used:
        return ir.Constant(e)
    arguments = []
    for s, f in used.items():
        ((_, leaf),) = f.arguments
        arguments.append((s, _leaf(d, leaf, side, rename)))
    if len(arguments) == 1 and e == arguments[0][0]:
        return arguments[0][1]
    return ir.Apply(e, tuple(arguments))


def is_zero_scalar(d: Derivation, name: str) -> bool:
    """Whether a C is zero by the structure of the program: the Moment of independent vectors of mean zero."""
    if name not in d.zero_scalars:
        d.zero_scalars[name] = False  # while it is looked at: a C that depends on itself is not known to be zero
        family = d.family(name)
        cases = d.reader.cases(name) if family.role == "assigned" else ()
        d.zero_scalars[name] = bool(cases) and all(isinstance(c.body, Linear) or _vanishes(d, name, c) for c in cases)
    return d.zero_scalars[name]


def _vanishes(d: Derivation, name: str, case: Case) -> bool:
    """Whether the rules give zero for a C in this case; what would be sampled is not known to be zero."""
    me = Reference(name, case.target, case.span)
    context = Context({r.name: r for r in case.binders})
    asked = Single(ir.SCALAR, WITHIN, me, case.body, context, part=True)
    try:
        return ir.is_zero(derived_first(d.where(case.conditions), asked))
    except NotDerived:
        return False


def at_zero(e: sympy.Expr, s: sympy.Symbol, leaf: Reference) -> sympy.Expr:
    """A function of a C at its limit 0. Raises ProgramError where it is not continuous there (theory: Growth)."""
    value = e.subs(s, 0)
    jumps = functions.facts(e, s).jumps if not e.is_polynomial(s) else ()
    if value.has(sympy.zoo, sympy.nan, sympy.oo) or any(sympy.simplify(j) == 0 for j in jumps):
        raise ProgramError(
            "this Moment goes to 0 as the width grows, and what is computed from it is not continuous there: "
            "there is no limit",
            leaf.span,
            hint="a Moment of independent vectors of mean 0 is 0; add a positive number to it before dividing",
        )
    return value


def _leaf(d: Derivation, leaf: ScalarLeaf, side: str | None, rename: Rename) -> Node:
    if isinstance(leaf, Reference):
        return read_one(d, of_run(d.program, leaf, rename, side), side)
    mapping = {**rename, **sizes_of(d.program, side)}
    if isinstance(leaf, ScalarChoice):
        return add(
            *(
                ir.Where(tuple(c.substitute(mapping) for c in conditions), scalar(d, form, side, rename), ZERO)
                for conditions, form in leaf.branches
            )
        )
    taken = d.index_names | {x for a in rename.values() for x in a.symbols}
    fresh = underscored(leaf.range.name + "_", taken)
    if side == "right":
        fresh += "'"
    r = replace(leaf.range, name=fresh).substitute(mapping)
    at = leaf.at.substitute(mapping) if leaf.at is not None else None
    body = scalar(d, leaf.body, side, {**rename, leaf.range.name: Affine.symbol(fresh)})
    if leaf.kind in ("sum", "mean"):
        node: Node = ir.Sum((r,), (), body)
        if leaf.kind == "mean":
            assert isinstance(r.low, Affine) and isinstance(r.high, Affine)
            node = product(ir.Constant(1 / d.reader.number(r.high - r.low + 1)), node)
        return node
    return ir.Reduce(leaf.kind, r, (), body, at)


def _with_side(node: Node, side: str | None) -> Node:
    """Reads inside set to one run."""

    def change(value: Any) -> Any:
        if isinstance(value, ir.Read):
            return replace(value, side=side)
        if isinstance(value, tuple):
            return tuple(change(v) for v in value)
        if isinstance(value, Node):
            return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value)})
        return value

    changed: Node = change(node)
    return changed
