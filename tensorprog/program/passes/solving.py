"""From reads to what a vector receives: the index equations of a read, solved for the reader's indices.

s[t-1] is read by W_s[t], t = 1..T         s[t] receives W.T @ d_W_s[t+1] if t < T
g[q] is read by h[p], in a sum over q      g[q] receives sum[p = 1..P](adj[p, q] * d_h[p])
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import bound_symbols
from tensorprog.index.conditions import Condition, at_least, judging
from tensorprog.index.ranges import Range
from tensorprog.index.solving import unwrapped, with_value
from tensorprog.language import syntax
from tensorprog.program.desugar import as_affine
from tensorprog.program.passes.arithmetic import ZERO, affine_expression, negate
from tensorprog.program.passes.conditions import as_syntax, conjuncts
from tensorprog.program.passes.reads import Read
from tensorprog.program.scope import Scope
from tensorprog.program.substitution import free_names, rename, subexpressions


@dataclass(frozen=True)
class Place:
    """Where a vector is assigned.

    indices: those of the vector, in terms of loops.
    ranges: of the indices of the output, then of the loops, outermost first.
    outer: the names of the indices of the output.
    visible: the names of indices that expressions at the place may use.
    """

    indices: tuple[Affine, ...]
    ranges: tuple[Range, ...]
    outer: tuple[str, ...]
    visible: tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """`value if conditions else 0`."""

    value: syntax.Expr
    conditions: tuple[Condition | syntax.Condition, ...]


@dataclass(frozen=True)
class _Solution:
    values: dict[str, Affine]
    conditions: list[Condition | syntax.Condition]
    guarded: bool
    free: tuple[Range, ...]


@dataclass
class Solver:
    """names: those of the indices in the text; taken: names that no index may take."""

    scope: Scope
    small: Mapping[str, int]
    names: Mapping[str, str]
    taken: frozenset[str]
    unwrapped: set[str] = field(default_factory=set)  # indices that were solved for within their ranges

    def term(self, read: Read, place: Place) -> Term | None:
        """What a vector at a place receives from a read; None where it is always 0."""
        solution = self._solve(read, place)
        if solution is None:
            return None
        value = read.value
        if solution.guarded:
            value = rename(value, lambda s: syntax.Guard(s, ZERO) if s == read.seed else None)
        value = _substitute(value, solution.values)
        chosen = self._choose_names(read, solution, value, place)
        indices = (*place.visible, *chosen.values())
        renaming = {s: Affine.symbol(name) for s, name in chosen.items()}
        inner: list[syntax.Condition] = []
        outer: list[Condition | syntax.Condition] = []
        free = {r.name for r in solution.free}
        on_data: list[syntax.Condition] = []
        for c in solution.conditions:
            if isinstance(c, Condition) and c.expression.entries:
                on_data.append(as_syntax(c.substitute(renaming), indices))
            elif isinstance(c, Condition):
                if c.symbols & free:
                    inner.append(as_syntax(c.substitute(renaming), indices))
                else:
                    outer.append(c)
            elif free_names(c) & free:
                inner.append(_substitute(c, renaming))
            else:
                outer.append(_substitute(c, renaming))
        value = _substitute(value, renaming)
        if on_data:
            # Within the others, which say where the data are looked at.
            value = syntax.Conditional(value, joined(on_data), ZERO)
        if inner:
            value = syntax.Conditional(value, joined(inner), ZERO)
        if solution.free:
            binders = tuple(
                syntax.Binder(chosen[r.name], _end(r.low, renaming), _end(r.high, renaming)) for r in solution.free
            )
            if isinstance(value, syntax.Negate):
                value = negate(syntax.Reduction("sum", binders, value.operand))
            else:
                value = syntax.Reduction("sum", binders, value)
        return Term(value, tuple(outer))

    # ------------------------------------------------------------ equations

    def _solve(self, read: Read, place: Place) -> _Solution | None:
        unknown = {r.name: k for k, r in enumerate(read.unknowns)}
        equations = [a - b for a, b in zip(read.indices, place.indices, strict=True)]
        if read.output:
            equations += [a - Affine.symbol(o) for a, o in zip(read.output, place.outer, strict=True)]
        values: dict[str, Affine] = {}
        pending = list(equations)
        wrapped: list[Condition | syntax.Condition] = []
        while True:
            pending = [e.substitute(values) for e in pending]
            # The index with the longest range first, so that no sum goes over it: `p[i+a]` is solved for i, not for a.
            # Then the innermost: the ranges of the others do not depend on it.
            candidates = [
                (len(e.symbols & unknown.keys()) > 1, -_length(read.unknowns[unknown[s]]), -unknown[s], k, s)
                for k, e in enumerate(pending)
                for s, _ in e.terms
                if s in unknown and e.solved(s) is not None
            ]
            if not candidates:
                if self._unwrap(pending, read, values, wrapped):
                    continue
                break
            *_, k, s = min(candidates)
            solved = pending.pop(k).solved(s)
            assert solved is not None
            values = with_value(values, s, solved)

        conditions = wrapped
        ranges: list[tuple[Condition, Condition]] = []  # that a guard around the seed can look after
        free: list[Range] = []
        others = _uses(read.value, read.seed)
        for r in read.unknowns:
            low, high = _affine(r.low, read), _affine(r.high, read)
            a, b = low.substitute(values), high.substitute(values)
            if r.name in values:
                v = values[r.name]
                if r.name in self.unwrapped:
                    continue
                if read.boxed and r.name not in others:
                    ranges.append((at_least(v, a), at_least(b, v)))
                else:
                    conditions += [at_least(v, a), at_least(b, v)]
                continue
            allowed = {f.name for f in free}
            if ((a.symbols | b.symbols) & unknown.keys()) - allowed:
                v = Affine.symbol(r.name)
                conditions += [at_least(v, a), at_least(b, v)]
                a, b = _hull(low, read, False), _hull(high, read, True)
            free.append(Range(r.name, a, b))
        conditions += [Condition("==", e) for e in pending]
        for entry in dict.fromkeys(e for i in read.indices for e in i.substitute(values).entries):
            for i, r in zip(entry.indices, self.scope.ranges[entry.table], strict=True):
                conditions += [at_least(i, _affine(r.low, read)), at_least(_affine(r.high, read), i)]
        for written in read.conditions:
            for part in conjuncts(written, self.scope.affine):
                conditions.append(part.substitute(values) if isinstance(part, Condition) else _substitute(part, values))
        judge = judging((*place.ranges, *free), self.small)
        guarded = False
        for pair in ranges:
            if all(judge(c) is None for c in pair):
                guarded = True
            else:
                conditions += pair
        return self._simplify(conditions, guarded, values, free, place)

    def _unwrap(self, pending: list[Affine], read: Read, values: dict[str, Affine], conditions: list) -> bool:
        """Solve one of the equations for an index that goes once around; whether there was one."""
        names = {r.name for r in read.unknowns}
        unknown = {r.name: r for r in read.unknowns if r.name not in values and not bound_symbols(r.low) & names}
        for k, e in enumerate(pending):
            found = unwrapped(e, unknown)
            if found is not None:
                name, value, more = found
                conditions += more
                del pending[k]
                values.update(with_value(values, name, value))
                self.unwrapped.add(name)
                return True
        return False

    def _simplify(self, conditions, guarded: bool, values, free: list[Range], place: Place) -> _Solution | None:
        judge = judging((*place.ranges, *free), self.small)
        kept: list[Condition | syntax.Condition] = []
        for c in conditions:
            holds = judge(c) if isinstance(c, Condition) else None
            if holds is False:
                return None
            if holds is None and c not in kept:
                kept.append(c)
        ranges, tightened = list(free), True
        while tightened:
            tightened = False
            for c in kept:
                if isinstance(c, Condition) and c.op == ">=" and self._tighten(c, ranges, place):
                    kept.remove(c)
                    tightened = True
                    break
        return _Solution(values, kept, guarded, tuple(ranges))

    def _tighten(self, c: Condition, ranges: list[Range], place: Place) -> bool:
        """Put a condition into the range of the innermost index in it, where that narrows the range for certain."""
        k = next((k for k in reversed(range(len(ranges))) if c.expression.coefficient(ranges[k].name)), None)
        if k is None or abs(c.expression.coefficient(ranges[k].name)) != 1:
            return False
        r = ranges[k]
        judge = judging((*place.ranges, *ranges[:k]), self.small)
        end = Affine.symbol(r.name) - c.expression * c.expression.coefficient(r.name)
        if c.expression.coefficient(r.name) > 0 and isinstance(r.low, Affine) and judge(at_least(end, r.low)):
            ranges[k] = Range(r.name, end, r.high)
            return True
        if c.expression.coefficient(r.name) < 0 and isinstance(r.high, Affine) and judge(at_least(r.high, end)):
            ranges[k] = Range(r.name, r.low, end)
            return True
        return False

    # ------------------------------------------------------------ how it is written

    def _choose_names(self, read: Read, solution: _Solution, value: syntax.Expr, place: Place) -> dict[str, str]:
        """A name for every index that is summed over here, as in the text where that name is not in use."""
        chosen: dict[str, str] = {}
        used = set(self.taken) | set(place.visible)
        spare = [self.names[s] for s in solution.values]
        reductions = [s for s in subexpressions(value) if isinstance(s, syntax.Reduction)]
        inside = [b.name for s in reductions for b in s.binders if b.low is not None]
        for s in dict.fromkeys([*(r.name for r in solution.free), *inside]):
            name = self.names.get(s, s)
            candidates = [name, *spare, *(f"{name}_{k}" for k in range(2, len(used) + 3))]
            chosen[s] = next(c for c in candidates if c not in used)
            used.add(chosen[s])
        return chosen


def is_case(condition: Condition, special: syntax.Expr, general: syntax.Expr) -> bool:
    """Whether `special` is what `general` is under a condition such as `l == 1`."""
    if condition.op != "==":
        return False
    for s, _ in condition.expression.terms:
        value = condition.expression.solved(s)
        if value is not None and _substitute(general, {s: value}) == special:
            return True
    return False


def joined(conditions: list[syntax.Condition]) -> syntax.Condition:
    result = conditions[0]
    for c in conditions[1:]:
        result = syntax.And(result, c)
    return result


def _affine(end, read: Read) -> Affine:
    if not isinstance(end, Affine):
        raise ProgramError("the range of this index is too involved for a backward pass", read.span)
    return end


def _length(r: Range) -> float:
    """How many values an index has, in so far as that is no matter of sizes."""
    if not (isinstance(r.low, Affine) and isinstance(r.high, Affine)):
        return math.inf
    length = r.high - r.low
    return length.constant + 1 if length.is_constant else math.inf


def _hull(end: Affine, read: Read, largest: bool) -> Affine:
    """The largest or smallest value of the end of a range, in terms of sizes."""
    for r in reversed(read.unknowns):
        c = end.coefficient(r.name)
        if c:
            end = end.substitute({r.name: _affine(r.high if (c > 0) == largest else r.low, read)})
    return end


def _uses(value: syntax.Expr, seed: syntax.Expr) -> set[str]:
    """The names in an expression outside of its seed."""
    return free_names(rename(value, lambda s: ZERO if s == seed else None))


def _end(end, renaming: Mapping[str, Affine]) -> syntax.Expr:
    return affine_expression(end.substitute(renaming))


def _substitute(e, values: Mapping[str, Affine], number: bool = True):
    """An expression or condition with indices replaced; names of bound indices change with them.

    number: whether it is a number, in which `/` does not round.
    """

    def change(s):
        match s:
            case syntax.Name(name) if name in values:
                if number and values[name].divided:
                    raise ProgramError(
                        f"the backward pass has no way to write the index {values[name]} as a number", s.span
                    )
                return affine_expression(values[name])
            case syntax.Index(name, indices):
                return syntax.Index(name, tuple(_index(_substitute(i, values, False)) for i in indices))
            case syntax.Comparison(op, left, right):
                return syntax.Comparison(op, _substitute(left, values, False), _substitute(right, values, False))
            case syntax.Reduction(function, binders, body, keywords):
                return syntax.Reduction(
                    function,
                    tuple(_binder(b, values) for b in binders),
                    _substitute(body, values),
                    tuple((k, _substitute(v, values)) for k, v in keywords),
                )
        return None

    return rename(e, change)


def _binder(b: syntax.Binder, values: Mapping[str, Affine]) -> syntax.Binder:
    low, high, step = (e if e is None else _substitute(e, values, False) for e in (b.low, b.high, b.step))
    value = values.get(b.name)
    if value is None:
        return syntax.Binder(b.name, low, high, step)
    if b.low is None:
        raise ProgramError(
            "the backward pass has no place for a softmax inside of an expression",
            b.span,
            hint="assign it to a variable of its own, as in a[i, j = 1..i] := softmax[j](s[i, j])",
        )
    return syntax.Binder(next(iter(value.symbols)), low, high, step)


def _index(e: syntax.Expr) -> syntax.Expr:
    """An index in its shortest form: `t - 1 + 1` is t."""
    form = as_affine(e)
    return e if form is None else affine_expression(form)
