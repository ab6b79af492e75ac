"""Integer expressions of indices and sizes: affine forms.

Symbols are strings. A size of the second run of a kernel carries a prime (`T'`), as do the indices of its vectors.
Quotients, rounded down, and remainders stand in affine forms as symbols of their own: `2*(p/2) + 1`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


class Quotient(str):
    """`numerator / divisor` rounded down, a symbol of an affine form. Made by `quotient` alone."""

    numerator: Affine
    divisor: int

    def __new__(cls, numerator: Affine, divisor: int) -> Quotient:
        self = super().__new__(cls, f"{_operand(numerator)}/{divisor}")
        self.numerator, self.divisor = numerator, divisor
        return self

    def __reduce__(self) -> tuple[type[Quotient], tuple[Affine, int]]:
        return Quotient, (self.numerator, self.divisor)


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

    def __reduce__(self) -> tuple[type[Remainder], tuple[Affine, Affine]]:
        return Remainder, self.operands


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

    def __reduce__(self) -> tuple[type[Entry], tuple[str, tuple[Affine, ...], Affine]]:
        return Entry, (self.table, self.indices, self.size)

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
        if not any(isinstance(s, COMPOSED) for s, _ in self.terms):
            return frozenset(s for s, _ in self.terms)
        return frozenset(s for s, _ in self.terms if not isinstance(s, COMPOSED)) | self.divided

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


COMPOSED = (Quotient, Remainder, Entry)


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
