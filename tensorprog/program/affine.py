"""Integer expressions of indices and sizes: affine forms, their minima and maxima, and what can be proved of them.

Symbols are strings. A size of the second run of a kernel carries a prime (`T'`), as do the indices of its vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tensorprog.errors import ProgramError


@dataclass(frozen=True)
class Affine:
    """`constant + Σ coefficient · symbol`, with the terms sorted by symbol and none of them zero."""

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def symbol(name: str) -> Affine:
        return Affine(0, ((name, 1),))

    @staticmethod
    def build(constant: int, terms: Mapping[str, int]) -> Affine:
        return Affine(constant, tuple(sorted((s, c) for s, c in terms.items() if c)))

    def coefficient(self, name: str) -> int:
        return dict(self.terms).get(name, 0)

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset(s for s, _ in self.terms)

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.constant + other, self.terms)
        merged = dict(self.terms)
        for s, c in other.terms:
            merged[s] = merged.get(s, 0) + c
        return Affine.build(self.constant + other.constant, merged)

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (-other)

    def __mul__(self, factor: int) -> Affine:
        return Affine.build(self.constant * factor, {s: c * factor for s, c in self.terms})

    def substitute(self, values: Mapping[str, Affine | int]) -> Affine:
        """Replace symbols, all at once."""
        result = Affine(self.constant)
        for s, c in self.terms:
            value = values.get(s)
            if value is None:
                value = Affine.symbol(s)
            result = result + (Affine(value) if isinstance(value, int) else value) * c
        return result

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The integer at these values; KeyError names a symbol that is missing."""
        return self.constant + sum(c * values[s] for s, c in self.terms)

    def __str__(self) -> str:
        parts = []
        # Indices read best first, as in `i-1` and `2*k+a`; the constant comes last.
        for s, c in self.terms:
            sign = "-" if c < 0 else "+"
            parts.append(sign + (s if abs(c) == 1 else f"{abs(c)}*{s}"))
        if self.constant or not parts:
            parts.append(f"{self.constant:+d}")
        if parts[0].startswith("-") and len(parts) > 1:
            first = next((k for k, part in enumerate(parts) if part.startswith("+")), 0)
            parts.insert(0, parts.pop(first))
        text = "".join(parts)
        return text[1:] if text.startswith("+") else text


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
        if not isinstance(b, Extreme):
            return False
    if isinstance(b, Extreme):
        test = all if b.kind == "min" else any
        return test(at_most(a, x) for x in b.arguments)
    difference = b - a
    return all(c > 0 for _, c in difference.terms) and difference.constant + sum(c for _, c in difference.terms) >= 0


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
    return _extreme(bound.kind, [map_bound(x, change) for x in bound.arguments])


def _extreme(kind: str, arguments: list[Bound]) -> Bound:
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
    return _extreme("min", list(arguments))


def maximum(*arguments: Bound) -> Bound:
    return _extreme("max", list(arguments))


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


@dataclass(frozen=True)
class Range:
    """An index and the integers that it runs over, both ends included."""

    name: str
    low: Bound
    high: Bound

    def __str__(self) -> str:
        return f"{self.name} = {self.low}..{self.high}"


def extent(expression: Bound, ranges: Mapping[str, Range], largest: bool) -> Bound:
    """The largest (or smallest) value of an expression while the indices run over their ranges.

    Bounds of a range may use the indices of outer ranges; what is left over are sizes.
    """
    if isinstance(expression, Extreme):
        return _extreme(expression.kind, [extent(x, ranges, largest) for x in expression.arguments])
    for s, c in expression.terms:
        if s in ranges:
            end = ranges[s].high if (c > 0) == largest else ranges[s].low
            rest = expression - Affine.symbol(s) * c
            inner = {name: r for name, r in ranges.items() if name != s}
            return extent(_scaled_sum(rest, end, c), inner, largest)
    return expression


def _scaled_sum(rest: Affine, end: Bound, factor: int) -> Bound:
    if isinstance(end, Affine):
        return rest + end * factor
    kind = end.kind if factor > 0 else {"min": "max", "max": "min"}[end.kind]
    return _extreme(kind, [_scaled_sum(rest, x, factor) for x in end.arguments])
