"""Indices replaced in nodes, and affine expressions as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import sympy

from tensorprog.index.affine import Affine, Entry, Quotient, Remainder
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.recursion.nodes import Node
from tensorprog.recursion.tables import Clause


def substitute(node, values: Mapping[str, Affine]):
    """Indices replaced by affine expressions, everywhere in a node, clause or range."""
    if not values:
        return node
    symbols = {sympy.Symbol(name, integer=True): affine_number(a) for name, a in values.items()}

    def change(value):
        if isinstance(value, Affine):
            return value.substitute(values)
        if isinstance(value, Range):
            return value.substitute(values)
        if isinstance(value, sympy.Basic):
            return value.xreplace(symbols) if isinstance(value, sympy.Expr) else value
        if isinstance(value, tuple):
            return tuple(change(v) for v in value)
        if isinstance(value, Node | Condition):
            return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value)})
        return value

    return change(node)


def affine_number(a: Affine, size: Callable[[str], bool] = lambda s: False) -> sympy.Expr:
    """An affine expression as a number: indices are integer symbols."""

    def symbol(s: str) -> sympy.Expr:
        if isinstance(s, Quotient):
            return sympy.floor(affine_number(s.numerator, size) / s.divisor)
        if isinstance(s, Remainder):
            return sympy.Mod(affine_number(s.numerator, size), affine_number(s.divisor, size))
        if isinstance(s, Entry):
            return sympy.Symbol(s, integer=True)  # refused where it is computed
        return sympy.Symbol(s, positive=True) if size(s) else sympy.Symbol(s, integer=True)

    return a.constant + sum((c * symbol(s) for s, c in a.terms), sympy.Integer(0))


def substitute_clause(clause: Clause, values: Mapping[str, Affine]) -> Clause:
    """A clause with some of its binders replaced."""
    return Clause(
        tuple(r.substitute(values) for r in clause.binders if r.name not in values),
        tuple(t.substitute(values) for t in clause.target),
        tuple(c.substitute(values) for c in clause.conditions),
        substitute(clause.value, values),
    )
