"""Ranges of indices, the extent of expressions over them, and sizes that follow from the lengths of axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorprog.index.affine import COMPOSED, Affine, Entry, Quotient, Remainder, quotient
from tensorprog.index.bounds import Bound, Extreme, bound_symbols, extreme, map_bound, substituted


@dataclass(frozen=True)
class Range:
    """An index and the integers that it runs over, both ends included."""

    name: str
    low: Bound
    high: Bound

    def __str__(self) -> str:
        return f"{self.name} = {self.low}..{self.high}"

    def substitute(self, values: Mapping[str, Affine]) -> Range:
        """The range with symbols in its ends replaced."""
        return Range(self.name, substituted(self.low, values), substituted(self.high, values))


def extent(expression: Bound, ranges: Mapping[str, Range], largest: bool) -> Bound:
    """The largest (or smallest) value of an expression while the indices run over their ranges.

    Bounds of a range may use the indices of outer ranges; what is left over are sizes.
    """
    if isinstance(expression, Extreme):
        return extreme(expression.kind, [extent(x, ranges, largest) for x in expression.arguments])
    for s, c in expression.terms:
        if isinstance(s, COMPOSED) and (isinstance(s, Entry) or Affine.symbol(s).symbols & ranges.keys()):
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
    return extreme(kind, [_scaled_sum(rest, x, factor) for x in end.arguments])


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
