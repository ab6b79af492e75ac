"""Which assignment defines a member of a family."""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition, within
from tensorprog.index.ranges import Range
from tensorprog.index.solving import reaching
from tensorprog.program.instructions import Case, Reference
from tensorprog.theorem.derivation import Derivation
from tensorprog.theorem.runs import sizes_of


def case_at(
    d: Derivation, r: Reference, side: str | None, ranges: dict[str, Range]
) -> tuple[Case, dict[str, Affine]] | None:
    """The one case that defines a member of a family, with its indices solved for; None where it depends."""
    chosen = None
    sizes = sizes_of(d.program, side)
    for case in d.reader.cases(r.name):
        member = defined_by(r.indices, case, sizes)
        if member is None:
            return None
        mapping, conditions = member
        verdicts = [d.reader.certain(c, ranges, d.given) for c in conditions]
        if any(v is False for v in verdicts):
            continue
        if chosen is not None or any(v is None for v in verdicts):
            return None if len(d.reader.cases(r.name)) > 1 else (case, mapping)
        chosen = case, mapping
    return chosen


def defined_by(
    indices: tuple[Affine, ...], case: Case, sizes: Mapping[str, Affine]
) -> tuple[dict[str, Affine], list[Condition]] | None:
    """The values of a case's indices at which it defines a member, and the conditions that it does.

    sizes: what stands for the sizes of the run. None where an axis has several of the case's indices.
    """
    own = {x.name: x for x in case.binders}
    mapping: dict[str, Affine] = {}
    conditions: list[Condition] = []
    for t, i in zip(case.target, indices, strict=True):
        loops = t.symbols & own.keys()
        if not loops:
            conditions.append(Condition("==", i - t.substitute(sizes)))
            continue
        (name, *more) = loops
        factor = t.coefficient(name)
        if more or name in mapping or name in t.divided or factor < 1:
            return None
        mapping[name], one = reaching(t.substitute(sizes), name, i)
        conditions += one
    for name, value in mapping.items():
        conditions += within(value, own[name].substitute({**sizes, **mapping}))
    conditions += [c.substitute({**sizes, **mapping}) for c in case.conditions]
    return mapping, conditions
