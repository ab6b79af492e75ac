"""Tables entry by entry: a function for each, which computes a value when it is first asked for, and remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tensorprog import recursion as ir
from tensorprog.backend.code.tree import (
    Compare,
    Def,
    If,
    Name,
    Return,
    Statement,
    call,
    every,
    let,
)
from tensorprog.backend.lower.clauses import as_shape, piece_of
from tensorprog.backend.lower.layout import Access
from tensorprog.backend.lower.loops import EntryByEntry
from tensorprog.backend.lower.scope import zeros
from tensorprog.backend.lower.stacked import stacked
from tensorprog.backend.lower.system import System
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition, within
from tensorprog.index.ranges import Range
from tensorprog.index.solving import reaching
from tensorprog.recursion import Clause, Table


def entry_by_entry(plan: EntryByEntry, system: System) -> list[Statement]:
    tables = plan.tables
    statements: list[Statement] = [system.comment(*tables)]
    for t in tables:
        system.entries[t.key] = f"{system.names.table(t.key)}_at"
    statements += [_function(t, system) for t in tables]
    for t in tables:
        variable, places = system.variable(t.key), _arguments(t)
        ranges = [(place, axis.range) for place, axis in zip(places, t.axes, strict=True)]
        value = stacked(call(system.entries[t.key], *places), ranges, system.shape(t, []), system.scope)
        if system.is_read(t.key, [t.key for t in tables]):
            statements.append(let(variable, value))
            system.footprint.append(tuple(a.range for a in t.axes))
        system.settle(t.key, Access(variable, (*range(len(t.axes)), *system.layout.dims(t))))
    for t in tables:
        del system.entries[t.key]
    return statements


def _arguments(table: Table) -> list[str]:
    return [f"i{k}" for k in range(len(table.axes))]


def _function(table: Table, system: System) -> Def:
    places, nothing = _arguments(table), zeros(system.shape(table, []))
    body: list[Statement] = []
    if places:
        before = [
            Compare(Name(i), (("<", system.scope.bound(a.range.low)),)) for i, a in zip(places, table.axes, strict=True)
        ]
        body.append(If(every("or", before), (Return(nothing),)))
    for clause in table.clauses:
        body += _clause(table, clause, places, system)
    body.append(Return(nothing))
    return Def(system.entries[table.key], tuple(places), tuple(body), decorators=(Name("functools.cache"),))


def _clause(table: Table, clause: Clause, places: Sequence[str], system: System) -> list[Statement]:
    """`if` the indices are those of the clause: `return` its value there."""
    if ir.is_zero(clause.value):
        return []
    scope = system.scope
    values: dict[str, Affine] = {}
    conditions = list(clause.conditions)
    # The arguments as symbols: of names that no index of a program has.
    own = [f"argument {place}" for place in places]
    for axis, target, place, here in zip(table.axes, clause.target, places, own, strict=True):
        scope = scope.inside(Range(here, axis.range.low, axis.range.high), place)
        loops = [r.name for r in clause.binders if r.name in target.symbols]
        if loops:
            values[loops[0]], more = reaching(target, loops[0], Affine.symbol(here))
            conditions += more
        else:
            conditions.append(Condition("==", Affine.symbol(here) - target))
    for r in clause.binders:
        conditions += within(Affine.symbol(r.name), r)
    clause = ir.substitute_clause(clause, values)
    tests = []
    for c in (c.substitute(values) for c in conditions):
        if c.expression.entries:
            raise ProgramError(f"a condition on {c.expression.entries[0]}, which is data, is not supported here")
        if scope.certain(c, {}) is not True:
            tests.append(scope.test(c))
    with system.within(scope):
        piece = piece_of(system, table, replace(clause, conditions=()), [])
        shape = system.shape(table, [])
    value = zeros(shape) if piece is None else as_shape(piece.value, shape) if piece.may_be_number else piece.value
    result = Return(value)
    return [If(every("and", tests), (result,))] if tests else [result]
