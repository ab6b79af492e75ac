"""Left-hand sides solved for the indices in them: which execution of an assignment makes a member.

for p = 1..P, r = 0..1:
    u[2*p-r] := M[r] @ h[p]         u[i] := M[i mod 2] @ h[(i + 1)/2], i = 1..2*P
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import map_bound
from tensorprog.index.conditions import Condition
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range, extent
from tensorprog.index.solving import Values, digits, eliminated
from tensorprog.program.ir import Family


def solved_case(case: Any, family: Family, settle: Callable[[Affine], Affine], put: Callable[[Any, dict], Any]) -> Any:
    """The case with an index of its own for every axis whose index is no index alone, times a positive number.

    settle: puts known sizes in; put: replaces indices in a body.

    Raises ProgramError where the indices on the left do not tell those of the loops.
    """
    loops = {r.name: r for r in case.binders}
    uses = [[s for s in t.symbols if s in loops] for t in case.target]
    counts = {s: sum(s in u for u in uses) for s in loops}
    plain = [
        not u or (len(u) == 1 and t.coefficient(u[0]) > 0 and counts[u[0]] == 1)
        for u, t in zip(uses, case.target, strict=True)
    ]
    # One axis of several with the same index may keep it: u[p, p+r].
    for k, (u, t) in enumerate(zip(uses, case.target, strict=True)):
        if not plain[k] and u and t == Affine.symbol(u[0]):
            others = [j for j, p in enumerate(plain) if p and case.target[j] == t]
            plain[k] = not others
    if all(plain):
        return case
    kept = {s for u, p in zip(uses, plain, strict=True) if p for s in u}
    names = _fresh(family, case, plain)
    target = tuple(t if p else Affine.symbol(n) for t, p, n in zip(case.target, plain, names, strict=True))
    pending = [t - Affine.symbol(n) for t, p, n in zip(case.target, plain, names, strict=True) if not p]
    values: Values = {}
    rests: list[Affine] = []
    while pending:
        pending = [e.substitute(values) for e in pending]
        unknown = {s: r for s, r in loops.items() if s not in kept and s not in values}
        told = next(((e, found) for e in pending if (found := digits(e, unknown, settle)) is not None), None)
        if told is not None:
            equation, (solution, rest) = told
            rests += [rest] if rest != Affine(0) else []
        elif len(pending) > 1 and (one := eliminated(pending, unknown)) is not None:
            # For one of several indices, where another equation will tell the others.
            equation, name, value = one
            solution = {name: value}
        else:
            break
        pending.remove(equation)
        values = {s: v.substitute(solution) for s, v in values.items()} | solution
    unsolved = loops.keys() - values.keys() - kept
    if unsolved:
        written = ", ".join(map(str, case.target))
        raise ProgramError(
            f"{family.name}[{written}] does not tell {' and '.join(sorted(unsolved))}: "
            "which execution of this assignment makes a member cannot be solved for",
            case.span,
            hint="assign over one index at a time, and shift or stretch it where it is read",
        )
    conditions = [c.substitute(values) for c in case.conditions]
    conditions += [Condition("==", e.substitute(values)) for e in (*pending, *rests)]
    for s, v in values.items():
        for bound, sign in ((loops[s].low, 1), (loops[s].high, -1)):
            for leaf in (bound,) if isinstance(bound, Affine) else bound.arguments:
                assert isinstance(leaf, Affine)
                conditions.append(Condition(">=", (v - leaf.substitute(values)) * sign))
    ranges = [_moved(r, values, loops, conditions) for r in case.binders if r.name in kept]
    for t, p, n in zip(case.target, plain, names, strict=True):
        if not p:
            ranges.append(Range(n, extent(t, loops, False), extent(t, loops, True)))
    return replace(
        case, binders=tuple(ranges), target=target, conditions=tuple(conditions), body=put(case.body, values)
    )


def _fresh(family: Family, case: Any, plain: list[bool]) -> list[str]:
    taken = {r.name for r in case.binders}
    names = []
    for r, p in zip(family.ranges, plain, strict=True):
        name = r.name if p else underscored(r.name, taken)
        taken.add(name)
        names.append(name)
    return names


def _moved(r: Range, values: dict[str, Affine], loops: dict[str, Range], conditions: list[Condition]) -> Range:
    """The range of an index that stays; ends that depend on indices that go become conditions."""
    here = Affine.symbol(r.name)
    low, high = (map_bound(b, lambda a: a) for b in (r.low, r.high))
    if isinstance(low, Affine) and low.symbols & values.keys():
        conditions.append(Condition(">=", here - low.substitute(values)))
        low = extent(low, loops, False)
    if isinstance(high, Affine) and high.symbols & values.keys():
        conditions.append(Condition(">=", high.substitute(values) - here))
        high = extent(high, loops, True)
    return Range(r.name, low, high)
