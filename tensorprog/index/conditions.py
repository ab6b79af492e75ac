"""Conditions between affine forms: what is certain of them, and which of them others imply.

i = 1..P       i ≥ 1 is certain, i ≥ 0 too; i ≥ P + 1 never holds; i ≥ 2 depends
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound, at_most, differences, substituted
from tensorprog.index.ranges import Range, extent

NEGATED = {"==": "!=", "!=": "==", ">=": "<", "<": ">=", "<=": ">", ">": "<="}

Certain = Callable[["Condition"], bool | None]


@dataclass(frozen=True)
class Condition:
    """`expression op 0`, where op is ">=", "==" or "!="."""

    op: str
    expression: Affine

    def substitute(self, values: Mapping[str, Affine]) -> Condition:
        return Condition(self.op, self.expression.substitute(values))

    @property
    def symbols(self) -> frozenset[str]:
        return self.expression.symbols

    def __str__(self) -> str:
        return f"{self.expression} {self.op} 0"


def at_least(a: Affine, b: Affine) -> Condition:
    return Condition(">=", a - b)


def equal(a: Affine, b: Affine) -> Condition:
    return Condition("==", a - b)


def compare(op: str, left: Affine, right: Affine) -> Condition:
    """`left op right`, for any of the six comparisons."""
    match op:
        case ">=" | ">":
            return at_least(left, right + (op == ">"))
        case "<=" | "<":
            return at_least(right, left + (op == "<"))
    return Condition(op, left - right)


def within(value: Affine, r: Range) -> list[Condition]:
    """That a value lies in a range. Raises ProgramError where the range is not one interval."""
    return [Condition(">=", e) for e in (*differences(value, r.low), *differences(r.high, value))]


def boxed(r: Range, ranges: Mapping[str, Range]) -> tuple[Range, list[Condition]]:
    """A range as wide as it gets while other indices run over theirs, and the conditions that make it narrower."""
    low, high = extent(r.low, ranges, False), extent(r.high, ranges, True)
    here = Affine.symbol(r.name)
    narrower = [] if low == r.low else differences(here, r.low)
    narrower += [] if high == r.high else differences(r.high, here)
    return Range(r.name, low, high), [Condition(">=", e) for e in narrower]


def certain(c: Condition, ranges: Mapping[str, Range], settle: Callable[[Bound], Bound] = lambda b: b) -> bool | None:
    """Whether a condition always holds (True), never (False), or depends (None), for sizes of at least 1.

    settle: puts the values of known sizes into a bound.
    """
    low = settle(extent(c.expression, ranges, False))
    if c.op == ">=" and at_most(Affine(0), low):
        return True
    high = settle(extent(c.expression, ranges, True))
    if c.op == ">=":
        return False if at_most(high, Affine(-1)) else None
    if isinstance(low, Affine) and low == high and low.is_constant:
        return (low.constant == 0) == (c.op == "==")
    if at_most(high, Affine(-1)) or at_most(Affine(1), low):
        return c.op == "!="
    return None


def judging(ranges: Iterable[Range], sizes: Mapping[str, int]) -> Certain:
    """Tells what is certain of a condition while indices run over ranges, and these sizes have these values."""
    by_name = {r.name: r for r in ranges}

    def judge(c: Condition) -> bool | None:
        return certain(c, by_name, lambda bound: substituted(bound, sizes))

    return judge


def sides(c: Condition) -> tuple[Affine, ...]:
    """Expressions that are ≥ 0 where a condition holds."""
    return {">=": (c.expression,), "==": (c.expression, -c.expression)}.get(c.op, ())


def implies(c: Condition, d: Condition, judge: Certain) -> bool:
    """Whether d certainly holds where c does."""
    if d.op != ">=" or not c.symbols & d.symbols:
        return c == d
    return any(judge(Condition(">=", d.expression - e)) is True for e in sides(c))


def contradict(c: Condition, d: Condition, judge: Certain) -> bool:
    """Whether two conditions certainly do not hold together."""
    pairs = [(e, f) for e in sides(c) for f in sides(d) if e.symbols & f.symbols]
    return any(judge(Condition(">=", e + f)) is False for e, f in pairs)


def complementary(a: Condition, b: Condition, judge: Certain) -> bool:
    """Whether certainly one of two conditions holds, and never both."""
    for x, y in ((a, b), (b, a)):
        if {x.op, y.op} == {"==", "!="} and x.expression in (y.expression, -y.expression):
            return True
        if x.op == y.op == ">=" and x.expression == -y.expression - 1:
            return True
        if x.op == "==" and y.op == ">=":
            for e in (x.expression, -x.expression):
                if y.expression == e - 1 and judge(Condition(">=", e)) is True:
                    return True
    return False


def without_implied(conditions: Iterable[Condition], judge: Certain) -> list[Condition] | None:
    """The conditions that the others do not imply; None where two contradict each other.

    The cases of wrapped indices say that p + a is beyond P, and again that it is not below 1.
    """
    kept: list[Condition] = []
    for c in dict.fromkeys(conditions):
        if any(contradict(c, d, judge) for d in kept):
            return None
        if not any(implies(d, c, judge) for d in kept):
            kept = [d for d in kept if not implies(c, d, judge)] + [c]
    return kept


def strongest(conditions: Sequence[Condition]) -> list[Condition]:
    """Without the bounds that others of the same terms imply."""
    least: dict[tuple, int] = {}
    for c in conditions:
        if c.op == ">=":
            key = c.expression.terms
            least[key] = min(least.get(key, c.expression.constant), c.expression.constant)
    return list(
        dict.fromkeys(c for c in conditions if c.op != ">=" or least[c.expression.terms] == c.expression.constant)
    )
