"""Statements for the items of a plan, one after another."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog import recursion as ir
from tensorprog.backend.code.tree import Statement, let
from tensorprog.backend.lower.clauses import table_statements
from tensorprog.backend.lower.entries import entry_by_entry
from tensorprog.backend.lower.layout import Access, axes_in_order
from tensorprog.backend.lower.loops import EntryByEntry, Item, LoopPlan, Scan, Step, WholeTable, Zeros, planned
from tensorprog.backend.lower.scans import scan
from tensorprog.backend.lower.system import System
from tensorprog.backend.lower.unrolled import unrolled
from tensorprog.backend.schedule import schedule
from tensorprog.recursion import Key


def system_statements(system: System) -> list[Statement]:
    """All tables of a system but its inputs, which the caller has."""
    tables = system.tables
    order = schedule(tuple(tables.values()), system.scope.known)
    return _all(planned(order, tables, system.scope), system)


def _all(items: Sequence[Item], system: System) -> list[Statement]:
    statements: list[Statement] = []
    for item in items:
        match item:
            case WholeTable(table):
                if not table.clauses and table.key.kind in (ir.DATA, ir.SCALAR):
                    continue
                found, access = table_statements(system, table)
                statements += [system.comment(table), *found]
                system.settle(table.key, access)
            case EntryByEntry():
                statements += entry_by_entry(item, system)
            case _:
                statements += _loop(item, system)
    return statements


def _loop(plan: LoopPlan, system: System) -> list[Statement]:
    if isinstance(plan, Zeros):
        return _zeros(plan, system)
    comment = system.comment(*plan.tables)
    if isinstance(plan, Scan):
        return [comment, *scan(plan, system, lambda step: _step(step, plan.loop.keys, system))]
    return [comment, *unrolled(plan, system)]


def _zeros(plan: Zeros, system: System) -> list[Statement]:
    statements: list[Statement] = []
    for t in plan.tables:
        axes = axes_in_order(t, system.stepped(t.key, plan.loop) - {plan.loop.axes[t.key]})
        variable = system.variable(t.key)
        statements.append(let(variable, system.zeros(t, axes)))
        system.settle(t.key, Access(variable, system.layout.dims(t, axes)))
    return statements


def _step(step: Step, keys: Sequence[Key], system: System) -> tuple[list[Statement], dict[Key, Access]]:
    """One step of a loop, and where each of the loop's tables is there; zeros are not written."""
    statements: list[Statement] = []
    for item in step.items:
        if not isinstance(item, WholeTable):
            statements += _loop(item, system)
            continue
        table, fixed = item.table, system.fixed(item.table.key)
        if item.zero:
            rest = axes_in_order(table, fixed)
            system.settle(table.key, Access(system.zeros(table, rest), system.layout.dims(table, rest)))
            continue
        found, access = table_statements(system, table, fixed)
        statements += found
        system.settle(table.key, access)
    return statements, {key: system.current[key] for key in keys if key in system.current}
