"""Which MatMuls a vector was computed from, coordinate by coordinate, and at which of their indices.

The corrections of the general Master Theorem (Tensor Programs III, box 1) run over all W @ x_i that a vector z was
computed from. For families that is a set of families with an interval for each index: x[k-1] of
x[k] := W @ x[k-1] + W.T @ x[k-1] depends on W_x[j] for j ≤ k - 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.index.affine import Affine
from tensorprog.program.instructions import Linear, Multiply, Pointwise, Reference
from tensorprog.program.types import Vector
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.support import ROUNDS_BEFORE_WIDENING, UNKNOWN, Interval, Source, joined

Dependence = Mapping[str, Mapping[str, Source]]


def dependence(reader: CaseReader, opposite: Mapping[str, tuple[str, ...]]) -> Dependence:
    """For every vector family, the MatMul families whose Gaussian parts it is a function of.

    `opposite` maps a MatMul family to those of the transposed matrix: their operands enter its corrections.
    """
    families = [f.name for f in reader.program.families.values() if f.role == "assigned" and isinstance(f.type, Vector)]
    found: dict[str, dict[str, Source]] = {name: {} for name in families}

    def through(r: Reference, target) -> list[tuple[str, Source]]:
        return [
            (name, tuple(_moved(reader, i, r.indices, target) for i in source))
            for name, source in found.get(r.name, {}).items()
        ]

    for round_ in range(100):
        changed = False
        for name in families:
            new = dict(found[name])
            for case in reader.cases(name):
                for key, source in _of_case(reader, name, case, found, opposite, through):
                    new[key] = joined(new.get(key), source, round_ >= ROUNDS_BEFORE_WIDENING)
            if new != found[name]:
                found[name] = new
                changed = True
        if not changed:
            break
    return found


def _of_case(reader, name, case, found, opposite, through):
    match case.body:
        case Multiply(_, vector):
            axes = len(reader.program.families[name].ranges)
            yield name, tuple(Interval(k, 0, 0) for k in range(axes))
            if name not in opposite:
                return
            # Through a correction: the operands of the opposite MatMuls that the own operand depends on.
            for other in opposite[name]:
                for key, steps in through(vector, case.target):
                    if key != other:
                        continue
                    for c in reader.cases(other):
                        if isinstance(c.body, Multiply):
                            for inner, source in found.get(c.body.vector.name, {}).items():
                                moved = (_moved(reader, i, c.body.vector.indices, c.target) for i in source)
                                yield inner, tuple(_composed(i, steps) for i in moved)
        case Linear(terms):
            for t in terms:
                if t.vector is not None:
                    yield from through(t.vector, case.target)
        case Pointwise() as f:
            for r in f.references:
                yield from through(r, case.target)


def _moved(reader: CaseReader, interval: Interval, indices: tuple[Affine, ...], target) -> Interval:
    """An interval relative to a reference's indices, made relative to those of what reads it."""
    if interval.base is None:
        return interval
    index = indices[interval.base]
    low, high = interval.low, interval.high
    for k, t in enumerate(target):
        difference = (index - t).substitute(reader.known)
        if difference.is_constant and not t.substitute(reader.known).is_constant:
            c = difference.constant
            return Interval(k, None if low is None else low + c, None if high is None else high + c)
    settled = index.substitute(reader.known)
    if settled.is_constant:
        c = settled.constant
        return Interval(None, None if low is None else low + c, None if high is None else high + c)
    return UNKNOWN


def _composed(inner: Interval, steps: Source) -> Interval:
    """An interval relative to an index that itself lies in an interval."""
    if inner.base is None:
        return inner
    outer = steps[inner.base]
    low = None if inner.low is None or outer.low is None else inner.low + outer.low
    high = None if inner.high is None or outer.high is None else inner.high + outer.high
    return Interval(outer.base, low, high)
