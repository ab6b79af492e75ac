"""How a table is made: a clause for every assignment of its family, or for every pair of assignments of its two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import maximum, minimum, shift
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Case, Linear, Pointwise, Reference
from tensorprog.program.ir import Family
from tensorprog.program.types import Data
from tensorprog.recursion import ONE, Key, Node, add
from tensorprog.theorem import rules as _rules  # noqa: F401  they register themselves
from tensorprog.theorem.derivation import ACROSS, WITHIN, Context, Derivation, Pairing
from tensorprog.theorem.entries import interleaved, read_one
from tensorprog.theorem.flattening import split_cases
from tensorprog.theorem.indices import empty, equate, gather
from tensorprog.theorem.moments import Pair, Single, derived_first, derived_second
from tensorprog.theorem.runs import primed
from tensorprog.theorem.scalars import coefficient, scalar


def table(d: Derivation, key: Key) -> ir.Table:
    """The table of that name; what it reads is asked for.

    Raises ProgramError where a rule finds that there is no limit, and NotDerived where no rule covers an output.
    """
    return _one_run_table(d, key) if key.kind in (ir.DATA, ir.SCALAR, ir.MEAN) else _pair_table(d, key)


# ---------------------------------------------------------------- one run


def _one_run_table(d: Derivation, key: Key) -> ir.Table:
    (name,) = key.families
    family = d.family(name)
    axes = tuple(ir.Axis(r, k, None) for k, r in enumerate(family.ranges))
    if family.role == "input":
        return ir.Table(key, axes, ())
    return ir.Table(key, axes, _unless_sampled(d, lambda cases: [_one_run_clause(d, key, c) for c in cases(name)]))


def _one_run_clause(d: Derivation, key: Key, case: Case) -> ir.Clause:
    d = d.where(case.conditions)
    context = Context({r.name: r for r in case.binders})
    if key.kind == ir.DATA:
        value = _data(d, case, context)
    else:
        me = Reference(key.families[0], case.target, case.span)
        value = derived_first(d, Single(key.kind, WITHIN, me, case.body, context))
    return ir.Clause(case.binders, case.target, case.conditions, value)


def _data(d: Derivation, case: Case, context: Context) -> Node:
    """Data computed from data, entry by entry."""
    if isinstance(case.body, Linear):
        total = []
        for t in case.body.terms:
            ctx = Context(context.ranges, {r.name: r for r in t.sums}, list(t.conditions))
            inner = ONE if t.vector is None else read_one(d, t.vector, None)
            total.append(gather(d.reader, ctx, coefficient(d, t, None), inner))
        return add(*total)
    assert isinstance(case.body, Pointwise)
    arguments = [(s, read_one(d, r, None)) for s, r in case.body.vectors]
    arguments += [(s, scalar(d, f, None)) for s, f in case.body.scalars]
    return ir.Apply(case.body.expression, tuple(arguments))


# ---------------------------------------------------------------- pairs


def _pair_table(d: Derivation, key: Key) -> ir.Table:
    left, right = key.families if len(key.families) == 2 else key.families * 2
    pairing = d.tables.pairings.get(key, ())
    across = key.stream == "cross"
    axes = pair_axes(d, d.family(left), d.family(right), pairing, across)
    if key.kind == ir.GRAM:
        return ir.Table(key, axes, (_gram(d, key, axes),))

    def derived(cases: Callable[[str], tuple[Case, ...]]) -> list[ir.Clause]:
        found = (
            _pair_clause(d, key, first, primed(d.reader, second, across), pairing)
            for first in cases(left)
            for second in cases(right)
        )
        return [clause for clause in found if clause is not None]

    return ir.Table(key, axes, _unless_sampled(d, derived))


def _unless_sampled(
    d: Derivation, derived: Callable[[Callable[[str], tuple[Case, ...]]], list[ir.Clause]]
) -> tuple[ir.Clause, ...]:
    """The clauses of split cases; where some are sampled, those of the cases as they are written.

    One expectation for all t: what is split off, as t = 1 and t = 2, would be sampled like the rest.
    """
    clauses = derived(lambda name: split_cases(d, name))
    return tuple(derived(d.reader.cases) if _some_sampled(clauses) else clauses)


def _some_sampled(clauses: Sequence[ir.Clause]) -> bool:
    return any(isinstance(n, ir.Sampled) for c in clauses for n in ir.walk(c.value))


def _gram(d: Derivation, key: Key, axes: tuple[ir.Axis, ...]) -> ir.Clause:
    """<x, x'>/d over all axes of a table of inner products of data."""
    view = ACROSS if key.stream == "cross" else WITHIN
    indices: tuple[dict[int, Affine], dict[int, Affine]] = ({}, {})
    for a in axes:
        here = Affine.symbol(a.range.name)
        if a.left is not None:
            indices[0][a.left] = here
        if a.right is not None:
            indices[1][a.right] = here + a.offset
    for name in key.families:
        d.tables.ask(Key(ir.DATA, "self", (name,)))
    t = d.family(key.families[0]).type
    assert isinstance(t, Data)
    left, right = (tuple(x for _, x in sorted(i.items())) for i in indices)
    binders = tuple(a.range for a in axes)
    names = (key.families[0], key.families[-1])
    value = ir.Gram(names, left, right, (view.left, view.right), t.size)
    return ir.Clause(binders, tuple(Affine.symbol(r.name) for r in binders), (), value)


def pair_axes(d: Derivation, f: Family, g: Family, pairing: Pairing, across: bool) -> tuple[ir.Axis, ...]:
    """Axes of the two families interleaved, a diagonal once; across two runs the second's sizes are primed."""
    paired = {a: (b, o) for a, b, o in pairing}
    taken = {b for _, b, _ in pairing}
    mapping = {s: Affine.symbol(s + "'") for s in d.program.open_sizes} if across else {}
    axes: list[ir.Axis] = []
    right = [k for k in range(len(g.ranges)) if k not in taken]

    def second(k: int) -> ir.Axis:
        r = g.ranges[k].substitute(mapping)
        return ir.Axis(replace(r, name=r.name + "'"), None, k)

    for k, r in enumerate(f.ranges):
        if k in paired:
            j, offset = paired[k]
            other = g.ranges[j].substitute(mapping)
            low = maximum(r.low, shift(other.low, -offset))
            high = minimum(r.high, shift(other.high, -offset))
            axes.append(ir.Axis(Range(r.name, low, high), k, j, offset))
            continue
        axes.append(ir.Axis(r, k, None))
        if k in right:
            axes.append(second(k))
            right.remove(k)
    axes += [second(k) for k in right]
    return tuple(axes)


def _pair_clause(d: Derivation, key: Key, c: Case, e: Case, pairing: Pairing) -> ir.Clause | None:
    """The clause of an assignment of the first family and one of the second; None where no entry is by both."""
    ranges = {r.name: r for r in (*c.binders, *e.binders)}
    conditions = [*c.conditions, *e.conditions]
    solved: dict[str, Affine] = {}
    for a, b, offset in pairing:
        here = c.target[a].substitute(solved) + offset
        there = e.target[b].substitute(solved)
        if not equate(d.reader, here, there, ranges, conditions, solved):
            return None
    left = tuple(t.substitute(solved) for t in c.target)
    right = tuple(t.substitute(solved) for t in e.target)
    kept = d.reader.left([x.substitute(solved) for x in conditions], ranges)
    if kept is None or empty(d.reader, ranges):
        return None
    pair = Pair(
        key.kind,
        ACROSS if key.stream == "cross" else WITHIN,
        Reference(key.families[0], left, c.span),
        Reference(key.families[-1], right, e.span),
        d.reader.put(c.body, solved),
        d.reader.put(e.body, solved),
        Context(dict(ranges)),
    )
    value = derived_second(d.where(kept), pair)
    order = [r.name for r in (*c.binders, *e.binders) if r.name in ranges]
    binders = tuple(ranges[n] for n in order)
    return ir.Clause(binders, interleaved(left, right, pairing), (*kept, *pair.context.conditions), value)
