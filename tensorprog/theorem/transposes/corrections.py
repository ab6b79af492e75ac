"""Corrections: W.T @ z as its Gaussian part and a combination of the x of the W @ x that z was computed from."""

from __future__ import annotations

from dataclasses import replace

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition, strongest, within
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range
from tensorprog.index.solving import with_value
from tensorprog.language import syntax
from tensorprog.program.desugar import bound_expression
from tensorprog.program.instructions import Reference
from tensorprog.program.ir import Family
from tensorprog.program.laws import nngp_scale
from tensorprog.program.numerals import numeral
from tensorprog.program.passes.arithmetic import ZERO, add, multiply
from tensorprog.program.scope import Binding
from tensorprog.program.substitution import rename, subexpressions
from tensorprog.program.transposes import Use
from tensorprog.program.types import Matrix
from tensorprog.program.typing import is_zero
from tensorprog.theorem.before import Alternatives
from tensorprog.theorem.support import Interval
from tensorprog.theorem.transposes.plan import Plan
from tensorprog.theorem.transposes.trees import all_names, delta, index, names_in, own_indices, reference


def corrected(
    plan: Plan, position: tuple[int, ...], e: syntax.Expr, s: syntax.Assignment, coefficients: list[syntax.Assignment]
) -> syntax.Expr:
    """The value of s with its corrections; their coefficients are assigned where e stands in s.value."""
    match e:
        case syntax.Conditional(a, c, b):
            then: list[syntax.Assignment] = []
            otherwise: list[syntax.Assignment] = []
            result = replace(
                e, then=corrected(plan, position, a, s, then), otherwise=corrected(plan, position, b, s, otherwise)
            )
            # Where a branch is not taken, what it reads need not be there.
            yes, no = ({x.name: x for x in branch} for branch in (then, otherwise))
            for x in {**yes, **no}.values():
                values = (branch[x.name].value if x.name in branch else ZERO for branch in (yes, no))
                coefficients.append(replace(x, value=syntax.Conditional(next(values), c, next(values))))
            return result
        case syntax.Call("MatMul", (matrix, operand)):
            here = own_indices(s.indices)
            total: syntax.Expr = index(plan.hats[s.name], here)
            for g in plan.opposite[s.name]:
                z = reference(operand)
                if z is not None and (s.name, g) in plan.pairs and g in plan.depends.get(z.name, {}):
                    total = add(total, _correction(plan, position, s, matrix, operand, z, g, coefficients))
            return syntax.Call("LinComb", (total,), span=e.span)
    return e


def _correction(plan: Plan, position: tuple[int, ...], s, matrix, operand, z, g: str, coefficients) -> syntax.Expr:
    """Σ over the members of g = W @ x of c · x, and the assignment of the coefficients c."""
    name = plan.pairs[s.name, g]
    family = plan.program.families[g]
    here = own_indices(s.indices)
    axes = fresh_binders(plan, family, all_names(s.value) | names_in(s.indices))
    at = tuple(syntax.Name(b.name) for b in axes)
    z_indices = z.indices if isinstance(z, syntax.Index) else ()
    if z.name == g and g not in plan.hats:
        slope: syntax.Expr = delta(z_indices, at)
    else:
        slope = index(plan.derivatives[z.name, g], (*z_indices, *at))
    if isinstance(operand, syntax.Guard):
        slope = syntax.Guard(slope, ZERO, span=operand.span)
    total: syntax.Expr = ZERO
    z_at = [plan.scope.affine(i) for i in (z.indices if isinstance(z, syntax.Index) else ())]
    own = [plan.scope.affine(i) for i in (matrix.indices if isinstance(matrix, syntax.Index) else ())]
    intervals = plan.depends[z.name][g]
    for u in plan.uses:
        if u.family.name == g:
            total = add(total, _one_use(plan, position, u, name, here, z_at, own, intervals))
    if not is_zero(total):
        moment = syntax.Call("Moment", (multiply(_scale(plan, s.name), slope),), span=s.span)
        coefficients.append(syntax.Assignment(name, (*s.indices, *axes), moment, span=s.span))
    return total


def _one_use(
    plan: Plan, position: tuple[int, ...], u: Use, name: str, here, z_at: list[Affine], own: list[Affine], intervals
) -> syntax.Expr:
    """The corrections along the members of one assignment g := W @ x."""
    taken = set(plan.scope.indices) | plan.taken
    renamed: dict[str, str] = {}
    for r in u.clause.loops:
        renamed[r.name] = underscored(r.name, taken, renamed.values())
    mapping = {old: Affine.symbol(new) for old, new in renamed.items()}
    ranges = {renamed[r.name]: replace(r.substitute(mapping), name=renamed[r.name]) for r in u.clause.loops}
    target = [t.substitute(mapping) for t in u.clause.target]
    operand = rename(
        u.operand,
        lambda e: syntax.Name(renamed[e.name]) if isinstance(e, syntax.Name) and e.name in renamed else None,
    )
    with plan.scope.bound([Binding(r) for r in u.clause.loops]):
        matrix = next(
            e.arguments[0]
            for e in subexpressions(u.clause.value)
            if isinstance(e, syntax.Call) and e.function == "MatMul" and e.arguments[1] == u.operand
        )
        assert isinstance(matrix, syntax.Name | syntax.Index)
        declared, _ = plan.reader.matrix(as_reference(plan, matrix))
    theirs = [i.substitute(mapping) for i in declared.indices]
    solved: dict[str, Affine] = {}
    conditions: list[Condition] = []
    equations = list(zip(theirs, own, strict=True))
    for t, interval in zip(target, intervals, strict=True):
        base = Affine(0) if interval.base is None else z_at[interval.base]
        if interval.low is not None and interval.low == interval.high:
            equations.append((t, base + interval.low))
        else:
            conditions += between(t, base, interval)
    for left, right in equations:
        difference = (left - right).substitute(solved)
        names = (x for x, _ in difference.terms if x in ranges and x not in solved)
        name_ = next((x for x in names if difference.solved(x) is not None), None)
        if name_ is None:
            if difference != Affine(0):
                conditions.append(Condition("==", difference))
            continue
        value = difference.solved(name_)
        assert value is not None
        solved = with_value(solved, name_, value)
        r = ranges[name_]
        assert isinstance(r.low, Affine) and isinstance(r.high, Affine)
        conditions += within(value, r)
    inside = {x: r for x, r in ranges.items() if x not in solved}
    outer = {**plan.scope.index_ranges(), **inside}
    earlier = plan.order.before(u.clause.position, position, mapping)
    always = [c.substitute(solved) for c in conditions]
    alternatives = _settled(plan, [[*always, *(c.substitute(solved) for c in a)] for a in earlier or [[]]], outer)
    if earlier == [] or not alternatives:
        return ZERO

    def put(e):
        if isinstance(e, syntax.Name) and e.name in solved:
            return bound_expression(solved[e.name], e)
        return None

    at = tuple(bound_expression(t.substitute(solved), operand) for t in target)
    term: syntax.Expr = multiply(index(name, (*here, *at)), rename(operand, put))
    condition = written(alternatives, operand)
    if condition is not None:
        term = syntax.Conditional(term, condition, ZERO)
    if inside:
        binders = tuple(
            syntax.Binder(x, bound_expression(r.low, operand), bound_expression(r.high, operand))
            for x, r in inside.items()
        )
        term = syntax.Reduction("sum", binders, term)
    return term


def _settled(plan: Plan, alternatives: Alternatives, ranges: dict[str, Range]) -> Alternatives:
    """The alternatives that can hold, without what is certain; one that is without conditions stands alone."""
    result: Alternatives = []
    for conditions in alternatives:
        verdicts = [plan.reader.certain(c, ranges) for c in conditions]
        if False in verdicts:
            continue
        kept = strongest([c for c, v in zip(conditions, verdicts, strict=True) if v is None])
        if not kept:
            return [[]]
        if kept not in result:
            result.append(kept)
    return result


def _scale(plan: Plan, m: str) -> syntax.Expr:
    """s_{W.T} (or s_W): lim fan-in · multiplier² · variance of the matrix in m = W.T @ z."""
    weight, transposed = plan.sides[m]
    family = plan.program.families[weight]
    assert family.law is not None and isinstance(family.type, Matrix)
    t = Matrix(family.type.columns, family.type.rows) if transposed else family.type
    scale, _ = nngp_scale(family.law, t, dict(plan.program.widths))
    if any(s.is_integer and not s.is_positive for s in scale.free_symbols):
        raise ProgramError(
            f"the law of '{weight}' depends on its index; corrections for its transpose are not derived",
            family.span,
        )
    return numeral(scale)


def fresh_binders(plan: Plan, family: Family, taken: set[str]) -> tuple[syntax.Binder, ...]:
    binders = []
    used = set(taken) | set(plan.scope.indices)
    for r in family.ranges:
        name = underscored(r.name, used, plan.taken)
        used.add(name)
        at = syntax.Name(name)
        binders.append(syntax.Binder(name, bound_expression(r.low, at), bound_expression(r.high, at)))
    return tuple(binders)


def as_reference(plan: Plan, e: syntax.Name | syntax.Index) -> Reference:
    indices = e.indices if isinstance(e, syntax.Index) else ()
    return Reference(e.name, tuple(plan.scope.affine(i) for i in indices), e.span)


def between(t: Affine, base: Affine, interval: Interval) -> list[Condition]:
    result = []
    if interval.low is not None:
        result.append(Condition(">=", t - base - interval.low))
    if interval.high is not None:
        result.append(Condition(">=", base + interval.high - t))
    return result


def written(alternatives: Alternatives, at: syntax.Expr) -> syntax.Condition | None:
    """That one of the alternatives holds; None where one always does."""
    result: syntax.Condition | None = None
    for conditions in alternatives:
        both: syntax.Condition | None = None
        for c in conditions:
            one = syntax.Comparison(c.op, bound_expression(c.expression, at), ZERO)
            both = one if both is None else syntax.And(both, one)
        if both is None:
            return None
        result = both if result is None else syntax.Or(result, both)
    return result
