"""A loop in Python, every step with its own cases: for steps that differ, or that read far back."""

from __future__ import annotations

from tensorprog import recursion as ir
from tensorprog.backend.code.tree import (
    Attribute,
    Call,
    Compare,
    DictOf,
    Do,
    Expr,
    For,
    If,
    ListOf,
    Literal,
    Name,
    Pass,
    Statement,
    call,
    compare,
    counting,
    every,
    index,
    let,
)
from tensorprog.backend.lower.clauses import piece_of
from tensorprog.backend.lower.layout import Access, axes_in_order
from tensorprog.backend.lower.loops import Unrolled, clause_range, with_box
from tensorprog.backend.lower.scope import Scope
from tensorprog.backend.lower.stacked import stacked
from tensorprog.backend.lower.system import Active, System
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.index.solving import reaching
from tensorprog.recursion import Clause, Table


def unrolled(plan: Unrolled, system: System) -> list[Statement]:
    loop, outer = plan.loop, system.scope
    histories = {t.key: f"{system.names.table(t.key)}_at" for t in plan.tables}
    statements: list[Statement] = [let(name, DictOf(())) for name in histories.values()]
    rests = {t.key: axes_in_order(t, system.stepped(t.key, loop)) for t in plan.tables}
    variable, symbol = plan.scope.variables[plan.symbol], Affine.symbol(plan.symbol)
    first, last = outer.bound(plan.low), outer.bound(plan.high)
    body: list[Statement] = []
    with system.inside(Active(loop, symbol, {}, histories), plan.scope):
        for table in plan.bodies:
            here = index(histories[table.key], variable)
            body += [*_step(plan, table, system), let(here, _placed(table, rests[table.key], system))]
            system.settle(table.key, Access(here, system.layout.dims(table, rests[table.key])))
    statements.append(For(variable, counting(first, last, loop.step), tuple(body)))
    for t in plan.tables:
        axis = t.axes[loop.axes[t.key]].range
        nothing = system.zeros(t, rests[t.key])
        step = Call(Attribute(Name(histories[t.key]), "get"), (Name("k"), nothing))
        system.footprint.append(tuple(a.range for a in t.axes))
        steps = stacked(step, [("k", axis)], system.shape(t, rests[t.key]), outer)
        statements.append(let(system.variable(t.key), steps))
        dims = (loop.axes[t.key], *system.layout.dims(t, rests[t.key]))
        system.settle(t.key, Access(system.variable(t.key), dims))
    return statements


def _placed(table: Table, axes: list[int], system: System) -> Expr:
    return call("placed", system.shape(table, axes), "dtype", "pieces")


def _step(plan: Unrolled, table: Table, system: System) -> list[Statement]:
    """The pieces of a table at one step."""
    statements: list[Statement] = [let("pieces", ListOf(()))]
    for c in table.clauses:
        if not ir.is_zero(c.value):
            statements.append(_piece(plan, table, c, system))
    return statements


def _piece(plan: Unrolled, table: Table, clause: Clause, system: System) -> If:
    scope: Scope = system.scope
    low, high, binder = clause_range(plan.loop, table, clause)
    here = scope.symbol(plan.symbol)
    tests: list[Expr]
    if binder is None:
        tests = [compare(here, "==", scope.bound(low))]
    else:
        target = clause.target[plan.loop.axes[table.key]]
        binder = binder or next(r.name for r in clause.binders if r.name in target.symbols)
        value, stepping = reaching(target, binder, Affine.symbol(plan.symbol))
        clause = ir.substitute_clause(with_box(clause, binder), {binder: value})
        tests = [Compare(scope.bound(low), (("<=", here), ("<=", scope.bound(high))))]
        tests += [Compare(scope.integer(e.expression), (("==", Literal(0)),)) for e in stepping]
    with system.within(scope.narrowed(Range(plan.symbol, low, high))):
        piece = piece_of(system, table, clause, axes_in_order(table, system.fixed(table.key)))
    done = Pass() if piece is None else Do(call("pieces.append", piece.entry(piece.value)))
    return If(every("and", tests), (done,))
