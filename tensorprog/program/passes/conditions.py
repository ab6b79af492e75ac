"""Conditions between affine forms: which of them always hold where an assignment stands, and how the others print.

l = 2..depth          l + 1 >= 2 holds, l + 1 <= depth is l < depth
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tensorprog.index.affine import Affine
from tensorprog.index.bounds import nonnegative
from tensorprog.index.ranges import Range, extent
from tensorprog.language import syntax
from tensorprog.program.passes.arithmetic import affine_expression

_NEGATED = {"==": "!=", "!=": "==", ">=": "<", ">": "<=", "<=": ">", "<": ">="}


@dataclass(frozen=True)
class Condition:
    """`form op 0` with op one of == != >=."""

    op: str
    form: Affine

    def substitute(self, values: Mapping[str, Affine]) -> Condition:
        return Condition(self.op, self.form.substitute(values))

    @property
    def symbols(self) -> frozenset[str]:
        return self.form.symbols


def at_least(a: Affine, b: Affine) -> Condition:
    return Condition(">=", a - b)


def compare(op: str, left: Affine, right: Affine) -> Condition:
    d = left - right
    match op:
        case ">=":
            return Condition(">=", d)
        case ">":
            return Condition(">=", d - 1)
        case "<=":
            return Condition(">=", -d)
        case "<":
            return Condition(">=", -d - 1)
    return Condition(op, d)


def conjuncts(
    c: syntax.Condition, affine: Callable[[syntax.Expr], Affine], negated: bool = False
) -> list[Condition | syntax.Condition]:
    """A condition as a list of those that must all hold; an `or` is one of them, as it is."""
    match c:
        case syntax.Comparison(op, left, right):
            return [compare(_NEGATED[op] if negated else op, affine(left), affine(right))]
        case syntax.Not(operand):
            return conjuncts(operand, affine, not negated)
        case syntax.And(left, right) if not negated:
            return conjuncts(left, affine) + conjuncts(right, affine)
        case syntax.Or(left, right) if negated:
            return conjuncts(left, affine, True) + conjuncts(right, affine, True)
    return [syntax.Not(c) if negated else c]


@dataclass(frozen=True)
class Facts:
    """What is known where an assignment stands: the ranges of its indices, outermost first, and sizes of at least 1.

    small: sizes whose value is known and less than 1.
    """

    ranges: tuple[Range, ...]
    small: Mapping[str, int]

    def with_ranges(self, ranges: tuple[Range, ...]) -> Facts:
        return Facts((*self.ranges, *ranges), self.small)

    def nonnegative(self, form: Affine) -> bool:
        """Whether form ≥ 0 is certain."""
        for r in reversed(self.ranges):
            if r.name in form.divided:
                least = extent(form, {r.name: r}, False)
                if not isinstance(least, Affine):
                    return False
                form = least
            c = form.coefficient(r.name)
            if c:
                end = r.low if c > 0 else r.high
                if not isinstance(end, Affine):
                    return False
                form = form.substitute({r.name: end})
        return nonnegative(form.substitute(self.small))

    def judge(self, c: Condition) -> bool | None:
        """True or False where a condition always or never holds."""
        d = c.form
        if c.op == ">=":
            return True if self.nonnegative(d) else False if self.nonnegative(-d - 1) else None
        if not d.terms:
            return (d.constant == 0) == (c.op == "==")
        return (c.op == "!=") if self.nonnegative(d - 1) or self.nonnegative(-d - 1) else None

    def complementary(self, a: Condition, b: Condition) -> bool:
        """Whether always one of both holds, and never both."""
        for x, y in ((a, b), (b, a)):
            if {x.op, y.op} == {"==", "!="} and x.form in (y.form, -y.form):
                return True
            if x.op == y.op == ">=" and x.form == -y.form - 1:
                return True
            if x.op == "==" and y.op == ">=":
                for form in (x.form, -x.form):
                    if y.form == form - 1 and self.nonnegative(form):
                        return True
        return False


def as_syntax(c: Condition, indices: tuple[str, ...]) -> syntax.Condition:
    """A condition as it is written, with one of the indices alone on the left: `t < T`, `l == depth`."""
    form, op = c.form, c.op
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
