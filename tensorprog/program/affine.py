"""Integer expressions of indices and sizes: affine forms, their minima and maxima, and what can be proved of them.

Symbols are strings. A size of the second run of a kernel carries a prime (`T'`), as do the indices of its vectors.
Quotients, rounded down, and remainders stand in affine forms as symbols of their own: `2*(p/2) + 1`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tensorprog.errors import ProgramError


class Quotient(str):
    """`numerator / divisor` rounded down, a symbol of an affine form. Made by `quotient` alone."""

    numerator: Affine
    divisor: int

    def __new__(cls, numerator: Affine, divisor: int) -> Quotient:
        self = super().__new__(cls, f"{_operand(numerator)}/{divisor}")
        self.numerator, self.divisor = numerator, divisor
        return self

    def __getnewargs__(self) -> tuple[Affine, int]:
        return self.numerator, self.divisor


class Remainder(str):
    """What `numerator` leaves of multiples of `divisor`: 0, …, divisor - 1. Made by `remainder` alone."""

    numerator: Affine
    divisor: Affine

    def __new__(cls, numerator: Affine, divisor: Affine) -> Remainder:
        self = super().__new__(cls, f"{_operand(numerator)} mod {_operand(divisor)}")
        self.numerator, self.divisor = numerator, divisor
        return self

    @property
    def operands(self) -> tuple[Affine, Affine]:
        return self.numerator, self.divisor

    def __getnewargs__(self) -> tuple[Affine, Affine]:
        return self.operands


class Entry(str):
    """An entry of data that holds indices, `t[i]`, from 1 to `size`: a symbol of an affine form.

    `table` is the input, with a prime where it is the second run's.
    """

    table: str
    indices: tuple[Affine, ...]
    size: Affine

    def __new__(cls, table: str, indices: tuple[Affine, ...], size: Affine) -> Entry:
        self = super().__new__(cls, f"{table}[{', '.join(map(str, indices))}]" if indices else f"{table}[]")
        self.table, self.indices, self.size = table, indices, size
        return self

    def __getnewargs__(self) -> tuple[str, tuple[Affine, ...], Affine]:
        return self.table, self.indices, self.size

    def substitute(self, values: Mapping[str, Affine | int]) -> Entry:
        table = values.get(self.table)
        name = table.terms[0][0] if isinstance(table, Affine) else self.table
        return Entry(name, tuple(i.substitute(values) for i in self.indices), self.size.substitute(values))


def _operand(a: Affine) -> str:
    plain = a.is_constant or (a.constant == 0 and len(a.terms) == 1 and a.terms[0][1] == 1)
    return str(a) if plain and not isinstance(a.terms and a.terms[0][0], Quotient | Remainder) else f"({a})"


@dataclass(frozen=True)
class Affine:
    """`constant + Σ coefficient · symbol`, with the terms sorted by symbol and none of them zero.

    A symbol may be a Quotient or a Remainder; `symbols` are then those inside of it.
    """

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
        if not any(isinstance(s, _COMPOSED) for s, _ in self.terms):
            return frozenset(s for s, _ in self.terms)
        return frozenset(s for s, _ in self.terms if not isinstance(s, _COMPOSED)) | self.divided

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of data in it."""
        found: list[Entry] = []
        for s, _ in self.terms:
            if isinstance(s, Entry):
                found += [s, *(e for i in s.indices for e in i.entries)]
            elif isinstance(s, Quotient | Remainder):
                found += s.numerator.entries
        return tuple(found)

    @property
    def divided(self) -> frozenset[str]:
        """The symbols inside of quotients, remainders and entries of data."""
        found: frozenset[str] = frozenset()
        for s, _ in self.terms:
            if isinstance(s, Quotient):
                found |= s.numerator.symbols
            elif isinstance(s, Remainder):
                found |= s.numerator.symbols | s.divisor.symbols
            elif isinstance(s, Entry):
                found = found.union({s.table}, *(i.symbols for i in s.indices))
        return found

    def solved(self, name: str) -> Affine | None:
        """The value of a symbol at which this is 0; None where no integer is, or the symbol is divided."""
        c = self.coefficient(name)
        if abs(c) != 1 or name in self.divided:
            return None
        return (self - Affine.symbol(name) * c) * -c

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
            if isinstance(s, Quotient):
                value = quotient(s.numerator.substitute(values), s.divisor)
            elif isinstance(s, Remainder):
                value = remainder(s.numerator.substitute(values), s.divisor.substitute(values))
            elif isinstance(s, Entry):
                value = Affine.symbol(s.substitute(values))
            if value is None:
                value = Affine.symbol(s)
            result = result + (Affine(value) if isinstance(value, int) else value) * c
        return result

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The integer at these values; KeyError names a symbol that is missing."""
        return self.constant + sum(c * _value(s, values) for s, c in self.terms)

    def __str__(self) -> str:
        parts = []
        # Indices read best first, as in `i-1` and `2*k+a`; the constant comes last.
        for s, c in self.terms:
            sign = "-" if c < 0 else "+"
            shown = f"({s})" if isinstance(s, Remainder) and (len(self.terms) > 1 or self.constant or c != 1) else s
            if isinstance(s, Quotient) and c != 1:
                shown = f"({s})"
            if isinstance(s, Entry) and not s.indices:
                shown = s.table
            parts.append(sign + (shown if abs(c) == 1 else f"{abs(c)}*{shown}"))
        if self.constant or not parts:
            parts.append(f"{self.constant:+d}")
        if parts[0].startswith("-") and len(parts) > 1:
            first = next((k for k, part in enumerate(parts) if part.startswith("+")), 0)
            parts.insert(0, parts.pop(first))
        text = "".join(parts)
        return text[1:] if text.startswith("+") else text


_COMPOSED = (Quotient, Remainder, Entry)


def _value(symbol: str, values: Mapping[str, int]) -> int:
    if isinstance(symbol, Quotient):
        return symbol.numerator.evaluate(values) // symbol.divisor
    if isinstance(symbol, Remainder):
        return symbol.numerator.evaluate(values) % symbol.divisor.evaluate(values)
    return values[symbol]


def quotient(numerator: Affine, divisor: int) -> Affine:
    """`numerator / divisor` rounded down, for a divisor of at least 1; what divides without rest comes out of it."""
    if divisor == 1:
        return numerator
    whole = Affine.build(numerator.constant // divisor, {s: c // divisor for s, c in numerator.terms})
    rest = numerator - whole * divisor
    if len(rest.terms) == 1 and isinstance(rest.terms[0][0], Quotient) and rest.terms[0][1] == 1:
        inner = rest.terms[0][0]  # (a/2 + c)/3 is (a + 2 c)/6
        return whole + quotient(inner.numerator + rest.constant * inner.divisor, inner.divisor * divisor)
    common = math.gcd(divisor, *(c for _, c in rest.terms))
    if common > 1:
        terms = {s: c // common for s, c in rest.terms}
        return whole + quotient(Affine.build(rest.constant // common, terms), divisor // common)
    return whole if rest.is_constant else whole + Affine.symbol(Quotient(rest, divisor))


def remainder(numerator: Affine, divisor: Affine) -> Affine:
    """What `numerator` leaves of multiples of `divisor`, from 0 to divisor - 1."""
    if divisor.is_constant:
        k = divisor.constant
        if k == 1:
            return Affine(0)
        rest = Affine.build(numerator.constant % k, {s: c % k for s, c in numerator.terms})
    else:
        s, c = divisor.terms[0]
        rest = numerator - divisor * (numerator.coefficient(s) // c)
    return rest if divisor.is_constant and rest.is_constant else Affine.symbol(Remainder(rest, divisor))


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
    return nonnegative(b - a)


def nonnegative(a: Affine) -> bool:
    """Whether a ≥ 0 is certain, for sizes of at least 1."""
    if not any(isinstance(s, _COMPOSED) for s, _ in a.terms):
        return all(c > 0 for _, c in a.terms) and a.constant + sum(c for _, c in a.terms) >= 0
    least, slopes = _least(a, Fraction(1))
    return all(c >= 0 for c in slopes.values()) and least + sum(slopes.values()) > -1  # a is an integer


def _least(a: Affine, factor: Fraction) -> tuple[Fraction, dict[str, Fraction]]:
    """A lower bound of factor · a, affine with the quotients and remainders in it replaced by bounds of them."""
    constant, slopes = factor * a.constant, dict[str, Fraction]()
    for s, c in a.terms:
        c = factor * c
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
        if isinstance(s, _COMPOSED) and (isinstance(s, Entry) or Affine.symbol(s).symbols & ranges.keys()):
            end = _divided_extent(s, ranges, (c > 0) == largest)
            return extent(_scaled_sum(expression - Affine.symbol(s) * c, end, c), ranges, largest)
    indices = [(s, c) for s, c in expression.terms if s in ranges]
    for s, c in indices:
        # Those first on which no other's range depends.
        if len(indices) == 1 or not any(s in _ends(ranges[x]) for x, _ in indices if x != s):
            end = ranges[s].high if (c > 0) == largest else ranges[s].low
            rest = expression - Affine.symbol(s) * c
            inner = {name: r for name, r in ranges.items() if name != s}
            return extent(_scaled_sum(rest, end, c), inner, largest)
    return expression


def behind(names: Iterable[str], ranges: Mapping[str, Range]) -> set[str]:
    """Those of the indices that have ranges here, those that their ranges speak of, and so on."""
    found: set[str] = set()
    left = set(names) & ranges.keys()
    while left:
        found |= left
        left = {x for name in left for x in _ends(ranges[name]) & ranges.keys()} - found
    return found


def _ends(r: Range) -> frozenset[str]:
    return bound_symbols(r.low) | bound_symbols(r.high)


def _divided_extent(symbol: Quotient | Remainder | Entry, ranges: Mapping[str, Range], largest: bool) -> Bound:
    """A bound of a quotient, a remainder or an entry of data over the ranges of the indices in it."""
    if isinstance(symbol, Entry):
        return symbol.size if largest else Affine(1)
    if isinstance(symbol, Quotient):
        end = extent(symbol.numerator, ranges, largest)
        return map_bound(end, lambda a: quotient(a, symbol.divisor))
    return symbol.divisor - 1 if largest else Affine(0)


def _scaled_sum(rest: Affine, end: Bound, factor: int) -> Bound:
    if isinstance(end, Affine):
        return rest + end * factor
    kind = end.kind if factor > 0 else {"min": "max", "max": "min"}[end.kind]
    return _extreme(kind, [_scaled_sum(rest, x, factor) for x in end.arguments])


def sizes_read_off(axes: Iterable[tuple[Any, Range]], known: Iterable[str]) -> Iterator[SizeReadOff]:
    """How sizes follow from the lengths of axes, each from an axis in which it alone is unknown by then."""
    waiting: Sequence[tuple[Any, Range]] = list(axes)
    settled = set(known)
    while True:
        left = []
        for axis, r in waiting:
            length = r.high - r.low + 1 if isinstance(r.low, Affine) and isinstance(r.high, Affine) else Affine(0)
            unknown = length.symbols - settled
            if len(unknown) > 1:
                left.append((axis, r))
            for name in unknown if len(unknown) == 1 else ():
                factor = length.coefficient(name)
                if factor and name not in length.divided:
                    settled.add(name)
                    yield SizeReadOff(name, axis, factor, length - Affine.symbol(name) * factor)
        if len(left) == len(waiting):
            return
        waiting = left


@dataclass(frozen=True)
class SizeReadOff:
    """`axis` has the length factor · name + rest, `rest` of sizes that are known before."""

    name: str
    axis: Any
    factor: int
    rest: Affine
