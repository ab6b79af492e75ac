"""Bounds of indices: affine forms, their minima and maxima, and what can be proved of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tensorprog.errors import ProgramError
from tensorprog.index.affine import COMPOSED, Affine, Entry, Quotient, Remainder


@dataclass(frozen=True)
class Extreme:
    """The minimum or maximum of several integer expressions."""

    kind: str  # "min" or "max"
    arguments: tuple[Bound, ...]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.arguments))})"


Bound = Affine | Extreme


def at_most(a: Bound, b: Bound) -> bool:
    """Whether a ≤ b is certain, for sizes of at least 1."""
    if isinstance(a, Extreme):
        test = any if a.kind == "min" else all
        if test(at_most(x, b) for x in a.arguments):
            return True
        if isinstance(b, Affine):
            return False
    if isinstance(b, Extreme):
        test = all if b.kind == "min" else any
        return test(at_most(a, x) for x in b.arguments)
    assert isinstance(a, Affine)
    return nonnegative(b - a)


def nonnegative(a: Affine) -> bool:
    """Whether a ≥ 0 is certain, for sizes of at least 1."""
    if not any(isinstance(s, COMPOSED) for s, _ in a.terms):
        return all(c > 0 for _, c in a.terms) and a.constant + sum(c for _, c in a.terms) >= 0
    least, slopes = _least(a, Fraction(1))
    return all(c >= 0 for c in slopes.values()) and least + sum(slopes.values()) > -1  # a is an integer


def _least(a: Affine, factor: Fraction) -> tuple[Fraction, dict[str, Fraction]]:
    """A lower bound of factor · a, affine with the quotients and remainders in it replaced by bounds of them."""
    constant, slopes = factor * a.constant, dict[str, Fraction]()
    inner: dict[str, Fraction]
    for s, coefficient in a.terms:
        c = factor * coefficient
        if isinstance(s, Quotient):
            rounding = Fraction(s.divisor - 1, s.divisor) if c > 0 else Fraction(0)
            least, inner = _least(s.numerator, c / s.divisor)
            constant += least - c * rounding
        elif isinstance(s, Remainder):
            least, inner = _least(s.divisor - 1, c) if c < 0 else (Fraction(0), {})
            constant += least
        elif isinstance(s, Entry):
            least, inner = _least(s.size, c) if c < 0 else (c, {})
            constant += least
        else:
            inner = {s: c}
        for name, slope in inner.items():
            slopes[name] = slopes.get(name, Fraction(0)) + slope
    return constant, slopes


def below(a: Bound, b: Bound) -> bool:
    """Whether a < b is certain, for sizes of at least 1."""
    return at_most(shift(a, 1), b)


def shift(bound: Bound, by: int) -> Bound:
    if isinstance(bound, Affine):
        return bound + by
    return Extreme(bound.kind, tuple(shift(x, by) for x in bound.arguments))


def map_bound(bound: Bound, change: Callable[[Affine], Affine]) -> Bound:
    """The bound with every affine leaf changed."""
    if isinstance(bound, Affine):
        return change(bound)
    return extreme(bound.kind, [map_bound(x, change) for x in bound.arguments])


def substituted(bound: Bound, values: Mapping[str, Affine | int]) -> Bound:
    """The bound with symbols replaced, all at once."""
    return map_bound(bound, lambda a: a.substitute(values))


def extreme(kind: str, arguments: list[Bound]) -> Bound:
    flat: list[Bound] = []
    for x in arguments:
        flat += x.arguments if isinstance(x, Extreme) and x.kind == kind else [x]
    wins = at_most if kind == "min" else (lambda a, b: at_most(b, a))
    kept: list[Bound] = []
    for x in flat:
        if any(wins(y, x) for y in kept):
            continue
        kept = [y for y in kept if not wins(x, y)] + [x]
    return kept[0] if len(kept) == 1 else Extreme(kind, tuple(kept))


def minimum(*arguments: Bound) -> Bound:
    return extreme("min", list(arguments))


def maximum(*arguments: Bound) -> Bound:
    return extreme("max", list(arguments))


def differences(a: Bound, b: Bound) -> list[Affine]:
    """Affine expressions that are all ≥ 0 just where a ≥ b.

    Raises ProgramError where a is a maximum or b a minimum: then there are alternatives.
    """
    if isinstance(a, Affine) and isinstance(b, Affine):
        return [a - b]
    if isinstance(b, Affine):
        assert not isinstance(a, Affine)
        if a.kind == "min":
            return [d for x in a.arguments for d in differences(x, b)]
        raise ProgramError("a range that ends at a maximum")
    if b.kind == "max":
        return [d for x in b.arguments for d in differences(a, x)]
    raise ProgramError("a range that begins at a minimum")


def bound_symbols(bound: Bound) -> frozenset[str]:
    if isinstance(bound, Affine):
        return bound.symbols
    return frozenset().union(*(bound_symbols(x) for x in bound.arguments))


def evaluate_bound(bound: Bound, values: Mapping[str, int]) -> int:
    if isinstance(bound, Affine):
        return bound.evaluate(values)
    return (min if bound.kind == "min" else max)(evaluate_bound(x, values) for x in bound.arguments)
