"""Which random variables a vector depends on: the structural zeros of Σ.

Vectors that are coordinatewise functions of Gaussians from different matrices are independent in the limit.
For families this needs indices: in x[l] := x[l-1] + W[l] @ phi(x[l-1]), x[l-1] depends on W[k] for k ≤ l-1 only, so
it is independent of W[l] @ phi(x[l-1]). Sources are therefore tracked with an interval per axis, relative to the
vector's own index where that can be, to a fixed point with widening.
"""

from __future__ import annotations

from dataclasses import dataclass

from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Linear, Multiply, Pointwise, Reference
from tensorprog.program.types import Vector
from tensorprog.theorem.cases import CaseReader

ROUNDS_BEFORE_WIDENING = 3


@dataclass(frozen=True)
class Interval:
    """The index of a source along one axis: between low and high (None: unbounded), counted from
    the vector's index along axis `base`, or from zero where base is None."""

    base: int | None
    low: int | None
    high: int | None


UNKNOWN = Interval(None, None, None)
Source = tuple[Interval, ...]


class Support:
    """The sources of every vector family of a program."""

    def __init__(self, reader: CaseReader):
        self.reader = reader
        families = reader.program.families
        self.sources: dict[str, dict[str, Source]] = {
            f.name: {f.name: tuple(Interval(k, 0, 0) for k in range(len(f.ranges)))}
            for f in families.values()
            if f.role == "vector"
        }
        vectors = [f for f in families.values() if f.role == "assigned" and isinstance(f.type, Vector)]
        for f in vectors:
            self.sources[f.name] = {}
        for round_ in range(100):
            changed = False
            for f in vectors:
                new = dict(self.sources[f.name])
                # Cases at a fixed index (a first layer) last: what they read is then told in the terms of the others.
                for case in sorted(reader.cases(f.name), key=lambda c: sum(t.is_constant for t in c.target)):
                    for name, source in self._of_case(case):
                        known = new.get(name)
                        source = source if known is None else self._relative(source, known, case.target)
                        new[name] = joined(known, source, round_ >= ROUNDS_BEFORE_WIDENING)
                if new != self.sources[f.name]:
                    self.sources[f.name] = new
                    changed = True
            if not changed:
                break

    def _of_case(self, case):
        match case.body:
            case Multiply(matrix):
                declared, transposed = self.reader.matrix(matrix)
                name = declared.name + (".T" if transposed else "")
                yield name, tuple(self._interval(i, 0, 0, case.target) for i in declared.indices)
            case Linear(terms):
                for t in terms:
                    if t.vector is not None:
                        yield from self._of_reference(t.vector, case.target)
            case Pointwise() as f:
                for r in f.references:
                    yield from self._of_reference(r, case.target)

    def _of_reference(self, r: Reference, target: tuple[Affine, ...]):
        for name, source in self.sources.get(r.name, {}).items():
            moved = []
            for interval in source:
                if interval.base is None:
                    moved.append(interval)
                else:
                    moved.append(self._interval(r.indices[interval.base], interval.low, interval.high, target))
            yield name, tuple(moved)

    def _interval(self, index: Affine, low: int | None, high: int | None, target) -> Interval:
        for k, t in enumerate(target):
            difference = (index - t).substitute(self.reader.known)
            if difference.is_constant and not t.substitute(self.reader.known).is_constant:
                c = difference.constant
                return Interval(k, None if low is None else low + c, None if high is None else high + c)
        settled = index.substitute(self.reader.known)
        if settled.is_constant:
            c = settled.constant
            return Interval(None, None if low is None else low + c, None if high is None else high + c)
        return UNKNOWN

    def _relative(self, source: Source, known: Source, target: tuple[Affine, ...]) -> Source:
        """A source with intervals counted from zero told as those of `known` are, where the target is a number there.

        In h[1] := W[1] @ x and h[l] := W[l] @ phi(h[l-1]), the vector h[l] depends on W[k] for k ≤ l.
        """
        result = []
        for new, old in zip(source, known, strict=True):
            at = None if old.base is None else target[old.base].substitute(self.reader.known)
            if new.base is None and new != UNKNOWN and at is not None and at.is_constant:
                low, high = (None if end is None else end - at.constant for end in (new.low, new.high))
                new = Interval(old.base, low, high)
            result.append(new)
        return tuple(result)

    def independent(self, u: Reference, w: Reference, ranges: dict[str, Range]) -> bool:
        """Whether two vectors share no random variable, whatever the indices in their ranges."""
        left, right = self.sources.get(u.name, {}), self.sources.get(w.name, {})
        return all(self._disjoint(left[name], u, right[name], w, ranges) for name in left.keys() & right.keys())

    def _disjoint(self, a: Source, u: Reference, b: Source, w: Reference, ranges) -> bool:
        for x, y in zip(a, b, strict=True):
            x_base = Affine(0) if x.base is None else u.indices[x.base]
            y_base = Affine(0) if y.base is None else w.indices[y.base]
            for high, high_base, low, low_base in ((x.high, x_base, y.low, y_base), (y.high, y_base, x.low, x_base)):
                if high is None or low is None:
                    continue
                gap = low_base + low - high_base - high - 1
                if self.reader.certain(Condition(">=", gap), ranges) is True:
                    return True
        return False


def joined(a: Source | None, b: Source, widen: bool) -> Source:
    """The smallest source that holds both; with `widen`, ends that still move become unbounded."""
    if a is None:
        return b
    result = []
    for x, y in zip(a, b, strict=True):
        if x.base != y.base:
            result.append(UNKNOWN)
            continue
        low = None if x.low is None or y.low is None else min(x.low, y.low)
        high = None if x.high is None or y.high is None else max(x.high, y.high)
        if widen:
            low = None if low != x.low else low
            high = None if high != x.high else high
        result.append(Interval(x.base, low, high))
    return tuple(result)
