"""Indices put into instructions: `W[l] @ x[t]` at l = t - 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import sympy

from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.program.instructions import (
    Declared,
    Instruction,
    Linear,
    Multiply,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    ScalarReduction,
    Term,
    VectorReduction,
)

Values = Mapping[str, Affine]
Number = Callable[[Affine], sympy.Expr]
"""An affine form as a number, with sizes told from indices."""


def put(body: Instruction, values: Values, number: Number) -> Instruction:
    """An instruction with indices replaced by affine forms, in its numbers too."""
    match body:
        case Linear(terms):
            return Linear(tuple(put_term(t, values, number) for t in terms))
        case Multiply(matrix, vector, conditions):
            return Multiply(
                put_reference(matrix, values), put_reference(vector, values), put_conditions(conditions, values)
            )
        case Declared():
            return body
    return _put_pointwise(body, values, number)


def put_reference(r: Reference, values: Values) -> Reference:
    return Reference(r.name, tuple(i.substitute(values) for i in r.indices), r.span) if values else r


def put_conditions(conditions: Iterable[Condition], values: Values) -> tuple[Condition, ...]:
    return tuple(c.substitute(values) for c in conditions)


def put_term(t: Term, values: Values, number: Number) -> Term:
    if not values:
        return t
    return Term(
        _put_number(t.coefficient, values, number),
        tuple(_put_scalar(s, values, number) for s in t.scalars),
        t.vector and put_reference(t.vector, values),
        t.readout and put_reference(t.readout, values),
        tuple(r.substitute(values) for r in t.sums),
        put_conditions(t.conditions, values),
    )


def _put_number(e: sympy.Expr, values: Values, number: Number) -> sympy.Expr:
    return e.xreplace({sympy.Symbol(k, integer=True): number(v) for k, v in values.items()})


def _put_scalar(s: ScalarForm, values: Values, number: Number) -> ScalarForm:
    def leaf(a: ScalarLeaf) -> ScalarLeaf:
        match a:
            case Reference():
                return put_reference(a, values)
            case ScalarChoice(branches):
                return ScalarChoice(
                    tuple((put_conditions(c, values), _put_scalar(f, values, number)) for c, f in branches)
                )
        inner = {k: v for k, v in values.items() if k != a.range.name}
        at = a.at and a.at.substitute(values)
        return ScalarReduction(a.kind, a.range.substitute(values), _put_scalar(a.body, inner, number), at)

    return ScalarForm(_put_number(s.expression, values, number), tuple((x, leaf(a)) for x, a in s.arguments))


def _put_pointwise(p: Pointwise, values: Values, number: Number) -> Pointwise:
    if not values:
        return p
    return Pointwise(
        _put_number(p.expression, values, number),
        tuple((s, put_reference(r, values)) for s, r in p.vectors),
        tuple((s, _put_scalar(f, values, number)) for s, f in p.scalars),
        tuple((s, _put_reduction(r, values, number)) for s, r in p.reductions),
    )


def _put_reduction(r: VectorReduction, values: Values, number: Number) -> VectorReduction:
    own = {x.name for x in r.ranges}
    inner = {k: v for k, v in values.items() if k not in own}
    return VectorReduction(
        r.kind,
        tuple(x.substitute(values) for x in r.ranges),
        _put_pointwise(r.body, inner, number),
        tuple(i.substitute(values) for i in r.at),
        r.eps and _put_scalar(r.eps, values, number),
    )
