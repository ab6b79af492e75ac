"""Equations between affine forms, solved for one index or for several.

2*p + 1 = i                        p = i/2 where i mod 2 = 1
3*p + q = i,  q = 0..2             p = i/3, q = i mod 3
(p + a - 1) mod P + 1 = q          p = 1 + (q - a - 1) mod P, for p = 1..P
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from tensorprog.index.affine import Affine, Remainder, quotient, remainder
from tensorprog.index.conditions import Condition, at_least
from tensorprog.index.ranges import Range

Values = dict[str, Affine]


def integral(equation: Affine) -> Affine | None:
    """The equation `expression = 0` with coefficients that have no common divisor; None where no integers solve it."""
    divisor = math.gcd(*(c for _, c in equation.terms))
    if divisor <= 1:
        return equation
    if equation.constant % divisor:
        return None
    return Affine(equation.constant // divisor, tuple((s, c // divisor) for s, c in equation.terms))


def with_value(values: Mapping[str, Affine], name: str, value: Affine) -> Values:
    """The solution with one more index in it, whose value is put into those of the others."""
    return {s: v.substitute({name: value}) for s, v in values.items()} | {name: value}


def reaching(target: Affine, name: str, here: Affine) -> tuple[Affine, list[Condition]]:
    """The value of an index at which `target`, factor · index + rest, is `here`.

    The condition says that there is one: that the factor divides.
    """
    factor = target.coefficient(name)
    distance = here - (target - Affine.symbol(name) * factor)
    if factor < 0:
        factor, distance = -factor, -distance
    rest = remainder(distance, Affine(factor))
    return quotient(distance, factor), [] if rest == Affine(0) else [Condition("==", rest)]


def unwrapped(equation: Affine, unknown: Mapping[str, Range]) -> tuple[str, Affine, list[Condition]] | None:
    """`(u + c) mod P + r = 0` solved for an index u that goes once around: u = low + (-r - c - low) mod P.

    Gives the index, its value within its range, and the conditions that there is one.
    """
    for s, sign in equation.terms:
        if not isinstance(s, Remainder) or abs(sign) != 1:
            continue
        rest = (equation - Affine.symbol(s) * sign) * -sign  # the remainder is this
        for name, r in unknown.items():
            factor = s.numerator.coefficient(name)
            if not isinstance(r.low, Affine) or not isinstance(r.high, Affine):
                continue
            if abs(factor) != 1 or r.high - r.low + 1 != s.divisor or r.low.symbols & unknown.keys():
                continue
            others = s.numerator - Affine.symbol(name) * factor
            if name in (others - rest).symbols:
                continue
            value = r.low + remainder((rest - others) * factor - r.low, s.divisor)
            return name, value, [at_least(rest, Affine(0)), at_least(s.divisor - 1, rest)]
    return None


def digits(
    equation: Affine, unknown: Mapping[str, Range], settle: Callable[[Affine], Affine] = lambda a: a
) -> tuple[Values, Affine] | None:
    """All unknown indices of an equation, where they are the digits of a number: 3*p + q with q = 0..2.

    settle: puts known sizes in. Gives their values, and what must be 0 beside; None where they are no such digits.
    """
    weights = {s: c for s, c in equation.terms if s in unknown}
    if not weights or equation.divided & weights.keys():
        return None
    names = sorted(weights, key=lambda s: -abs(weights[s]))
    starts: Values = {names[0]: Affine(0)}
    spans = [0]
    for s in names[1:]:
        low, high = unknown[s].low, unknown[s].high
        if not isinstance(low, Affine) or not isinstance(high, Affine):
            return None
        length = settle(high - low)
        if not length.is_constant:
            return None
        starts[s] = low if weights[s] > 0 else high
        spans.append(length.constant * abs(weights[s]))
    if any(abs(weights[s]) <= sum(spans[k + 1 :]) for k, s in enumerate(names[:-1])):
        return None
    number = Affine(0) - equation
    for s in names:
        number = number + Affine.symbol(s) * weights[s] - starts[s] * weights[s]
    values: Values = {}
    for s in names:
        weight = abs(weights[s])
        digit, number = quotient(number, weight), remainder(number, Affine(weight))
        values[s] = starts[s] + digit * (1 if weights[s] > 0 else -1)
    return values, number


def eliminated(equations: Iterable[Affine], unknown: Iterable[str]) -> tuple[Affine, str, Affine] | None:
    """The first of the equations that has a solution for one of the unknown indices: it, the index, and its value."""
    names = set(unknown)
    for e in equations:
        for s in e.symbols & names:
            value = e.solved(s)
            if value is not None:
                return e, s, value
    return None
