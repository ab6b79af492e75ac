"""Conditions as they are written: read into affine forms, and printed.

l + 1 <= depth          0 <= depth - l - 1, and l < depth again
"""

from __future__ import annotations

from collections.abc import Callable

from tensorprog.index.affine import Affine
from tensorprog.index.conditions import NEGATED, Condition, compare
from tensorprog.language import syntax
from tensorprog.program.passes.arithmetic import affine_expression


def conjuncts(
    c: syntax.Condition, affine: Callable[[syntax.Expr], Affine], negated: bool = False
) -> list[Condition | syntax.Condition]:
    """A condition as a list of those that must all hold; an `or` is one of them, as it is."""
    match c:
        case syntax.Comparison(op, left, right):
            return [compare(NEGATED[op] if negated else op, affine(left), affine(right))]
        case syntax.Not(operand):
            return conjuncts(operand, affine, not negated)
        case syntax.And(left, right) if not negated:
            return conjuncts(left, affine) + conjuncts(right, affine)
        case syntax.Or(left, right) if negated:
            return conjuncts(left, affine, True) + conjuncts(right, affine, True)
    return [syntax.Not(c) if negated else c]


def as_syntax(c: Condition, indices: tuple[str, ...]) -> syntax.Condition:
    """A condition as it is written, with one of the indices alone on the left: `t < T`, `l == depth`."""
    form, op = c.expression, c.op
    first = next((s for s in (*indices, *(s for s, _ in form.terms)) if form.solved(s) is not None), None)
    if first is None:
        positive = Affine(0, tuple(t for t in form.terms if t[1] > 0))
        return syntax.Comparison(op, affine_expression(positive), affine_expression(positive - form))
    sign = form.coefficient(first)
    rest = (Affine.symbol(first) - form) if sign > 0 else (form + Affine.symbol(first))
    if op == ">=":
        op = ">=" if sign > 0 else "<="
        if rest.terms and rest.constant == sign:
            op, rest = op[0], rest - sign
    return syntax.Comparison(op, affine_expression(Affine.symbol(first)), affine_expression(rest))
