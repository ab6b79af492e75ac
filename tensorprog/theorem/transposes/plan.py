"""Which fresh matrices, corrections and derivatives a program with transposes takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError
from tensorprog.index.fresh import numbered
from tensorprog.language import syntax
from tensorprog.program.definitions import coordinatewise
from tensorprog.program.ir import Program
from tensorprog.program.scope import Scope
from tensorprog.program.substitution import binders, subexpressions
from tensorprog.program.transposes import Use
from tensorprog.theorem.before import Order
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.dependence import Dependence, dependence
from tensorprog.theorem.transposes.trees import is_vector, reference


@dataclass(frozen=True)
class Plan:
    """What the program becomes, by names.

    fresh: the fresh matrix of each weight whose transpose multiplies.
    sides: (weight, transposed) of the families of MatMuls by weights that are used both ways.
    opposite: for each of these, those with the same weight the other way round.
    depends: which members of them each family depends on.
    pairs: (m, g) → the coefficients of m = W.T @ z along the g = W @ x that z depends on.
    hats: the Gaussian parts of these m.
    derivatives: (y, g) → ∂y/∂ĝ, for the y on the way from g to an operand that needs it.
    curved: those of them that are vectors; the others are C's.
    taken: names that are not free, to which new ones are added.
    """

    program: Program
    uses: tuple[Use, ...]
    reader: CaseReader
    order: Order
    scope: Scope
    taken: set[str]
    fresh: dict[str, str] = field(default_factory=dict)
    sides: dict[str, tuple[str, bool]] = field(default_factory=dict)
    opposite: dict[str, tuple[str, ...]] = field(default_factory=dict)
    depends: Dependence = field(default_factory=dict)
    pairs: dict[tuple[str, str], str] = field(default_factory=dict)
    hats: dict[str, str] = field(default_factory=dict)
    derivatives: dict[tuple[str, str], str] = field(default_factory=dict)
    curved: frozenset[tuple[str, str]] = frozenset()


def planned(program: Program, uses: tuple[Use, ...], corrected: bool) -> Plan:
    """The plan; without corrections where transposes behave like fresh matrices.

    Raises ProgramError where one family multiplies by a matrix and by another, or its transpose.
    """
    p = program
    # The aliases of transposes go, so that their names are free for the fresh matrices.
    taken = (
        {f.name for f in p.families.values() if f.transpose_of is None}
        | {x.name for x in p.parameters}
        | set(p.widths)
        | set(p.features)
    )
    taken |= {b.name for s in p.text.statements for b in binders(s)} | set(p.functions)
    scope = Scope(
        parameters={x.name: x for x in p.parameters},
        widths=dict(p.widths),
        features=list(p.features),
        functions=dict(p.functions),
        ranges={f.name: f.ranges for f in p.families.values()},
        types={f.name: f.type for f in p.families.values()},
    )
    plan = Plan(p, uses, CaseReader(p), Order(p), scope, taken)
    for u in uses:
        if u.transposed and u.weight not in plan.fresh:
            plan.fresh[u.weight] = _new(plan, f"{u.weight}_T")
    plan = replace(plan, sides=_sides(plan))
    if corrected:
        opposite = {
            m: tuple(g for g, (w, t) in plan.sides.items() if w == weight and t != transposed)
            for m, (weight, transposed) in plan.sides.items()
        }
        plan = replace(plan, opposite=opposite)
    plan = replace(plan, depends=dependence(plan.reader, plan.opposite) if plan.opposite else {})
    plan = replace(plan, pairs=_correction_pairs(plan))
    plan = replace(plan, hats={m: _new(plan, f"{m}_hat") for m in dict.fromkeys(m for m, _ in plan.pairs)})
    plan = replace(plan, derivatives=_needed(plan))
    return replace(plan, curved=_curved(plan))


def _sides(plan: Plan) -> dict[str, tuple[str, bool]]:
    sides: dict[str, tuple[str, bool]] = {}
    for u in plan.uses:
        if u.weight in plan.fresh:
            side = (u.weight, u.transposed)
            if sides.setdefault(u.family.name, side) != side:
                raise ProgramError(
                    f"'{u.family.name}' multiplies by {u.weight} and by another matrix or its transpose: "
                    "give each its own variable",
                    u.clause.span,
                )
    return sides


def _new(plan: Plan, stem: str) -> str:
    name = numbered(stem, plan.taken, plan.scope.is_function)
    plan.taken.add(name)
    return name


def _correction_pairs(plan: Plan) -> dict[tuple[str, str], str]:
    """(m, g) → name of the coefficients of m = W.T @ z along the g = W @ x that z depends on."""
    pairs = {}
    for u in plan.uses:
        m = u.family.name
        for g in plan.opposite.get(m, ()):
            operand = reference(u.operand)
            if operand is not None and g in plan.depends.get(operand.name, {}) and (m, g) not in pairs:
                pairs[m, g] = _new(plan, f"c_{m}" if len(plan.opposite[m]) == 1 else f"c_{m}_{g}")
    return pairs


def _needed(plan: Plan) -> dict[tuple[str, str], str]:
    """(y, g) → name of ∂y/∂ĝ, for the families y on the way from g to an operand that needs it."""
    wanted: set[tuple[str, str]] = set()
    work = []
    for u in plan.uses:
        operand = reference(u.operand)
        for g in plan.opposite.get(u.family.name, ()):
            if operand is not None and (u.family.name, g) in plan.pairs:
                work.append((operand.name, g))
    while work:
        y, g = work.pop()
        if (y, g) in wanted or g not in plan.depends.get(y, {}) or (y == g and g not in plan.hats):
            continue
        wanted.add((y, g))
        work += [(r, g) for r in _read_by(plan, y)]
    return {(y, g): _new(plan, f"d_{y}_{g}") for y, g in sorted(wanted)}


def _curved(plan: Plan) -> frozenset[tuple[str, str]]:
    """The (y, g) whose derivative is a vector: y depends on ĝ through a nonlinear function. The others' are C's."""
    curved: set[tuple[str, str]] = set()
    while True:
        more = {
            (y, g)
            for y, g in plan.derivatives
            if (is_nonlin(plan, y) and not jumps(plan, y)) or any((r, g) in curved for r in _read_by(plan, y))
        }
        if more <= curved:
            return frozenset(curved)
        curved |= more


def _read_by(plan: Plan, y: str) -> set[str]:
    """Families that y is computed from coordinatewise, through corrections too."""
    result: set[str] = set()
    for clause in plan.program.families[y].clauses:
        for e in subexpressions(clause.value):
            if isinstance(e, syntax.Call) and e.function == "MatMul":
                result |= {
                    r.name
                    for u in plan.uses
                    if (y, u.family.name) in plan.pairs
                    for r in (reference(u.operand),)
                    if r is not None
                }
        if not any(isinstance(e, syntax.Call) and e.function == "MatMul" for e in subexpressions(clause.value)):
            result |= {
                e.name
                for e in subexpressions(clause.value)
                if isinstance(e, syntax.Name | syntax.Index) and e.name in plan.depends
            }
    return result


def jumps(plan: Plan, y: str) -> bool:
    """Whether y is a function of one vector that jumps: its derivative is taken in the mean."""
    for clause in plan.program.families[y].clauses:
        if isinstance(clause.value, syntax.Call) and clause.value.function == "Nonlin":
            (inner,) = clause.value.arguments
            vectors = {
                e
                for e in subexpressions(inner)
                if isinstance(e, syntax.Name | syntax.Index) and is_vector(plan.program, e.name)
            }
            if len(vectors) != 1:
                continue
            (vector,) = vectors
            x = sympy.Symbol("x", real=True)
            try:
                if functions.facts(coordinatewise(inner, plan.scope, {vector: x}), x).jumps:
                    return True
            except ProgramError:
                continue
    return False


def is_nonlin(plan: Plan, y: str) -> bool:
    return any(
        isinstance(e, syntax.Call) and e.function == "Nonlin"
        for c in plan.program.families[y].clauses
        for e in subexpressions(c.value)
    )


def reads(plan: Plan, y: str) -> set[str]:
    return {
        e.name
        for c in plan.program.families[y].clauses
        for e in subexpressions(c.value)
        if isinstance(e, syntax.Name | syntax.Index)
    }
