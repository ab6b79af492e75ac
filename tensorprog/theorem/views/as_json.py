"""The recursion as plain data: every table with its formulas, and the rule that computes every expectation."""

from __future__ import annotations

from tensorprog.expectation import JointPlan, MeanPlan, Plan
from tensorprog.program.affine import Range
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.recursion import Key, Recursion, Table
from tensorprog.theorem.tangent import tangent_key
from tensorprog.theorem.views import closed
from tensorprog.theorem.views.formula import Formulas, unmark
from tensorprog.theorem.views.latex import LatexNotation
from tensorprog.theorem.views.selection import select
from tensorprog.theorem.views.text import TextNotation


def as_json(recursion: Recursion, get: str = "nngp") -> dict:
    """{program, get, parameters, outputs, tables}; all tables, those of one run too.

    A table has its key, its axes and its clauses; a clause its left and right side as text and as LaTeX, its ranges and
    conditions, and the rules of its expectations with their accuracy. Raises as `text`.
    """
    selection = select(recursion, get, everything=True)
    words, tex = Formulas(TextNotation(), selection), Formulas(LatexNotation(), selection)
    outputs = [*([recursion.output] if recursion.output else []), *recursion.limits]
    if get == "ntk" and recursion.output is not None:
        outputs.insert(1, tangent_key(recursion.output))
    return {
        "program": selection.names.program.name,
        "get": get,
        "parameters": {p.name: None if p.value is None else str(p.value) for p in selection.names.program.parameters},
        "outputs": [_key(k) for k in outputs],
        "tables": [_table(t, words, tex) for t in (*selection.nngp, *selection.ntk)],
    }


def _key(key: Key) -> dict:
    return {"kind": key.kind, "stream": key.stream, "families": list(key.families)}


def _range(r: Range) -> dict:
    return {"index": r.name, "low": str(r.low), "high": str(r.high)}


def _table(table: Table, words: Formulas, tex: Formulas) -> dict:
    return {
        "key": _key(table.key),
        "axes": [{**_range(a.range), "left": a.left, "right": a.right, "offset": a.offset} for a in table.axes],
        "clauses": [_clause(table, c, words, tex) for c in table.clauses],
    }


def _clause(table: Table, clause: ir.Clause, words: Formulas, tex: Formulas) -> dict:
    left, right, where = words.statement(table, clause)
    formula, value, terms = tex.statement(table, clause)
    return {
        "ranges": [_range(r) for r in clause.binders],
        "conditions": words.conditions(clause.conditions),
        "text": f"{left} = {unmark(right)}",
        "where": [unmark(w) for w in where],
        "latex": f"{formula} = {unmark(value)}",
        "latex_where": [unmark(w) for w in terms],
        "expectations": [r for n in ir.walk(clause.value) if (r := _rule(n)) is not None],
    }


def _rule(node: ir.Node) -> dict | None:
    plan: Plan | MeanPlan | JointPlan
    match node:
        case ir.PairExpectation():
            plan, functions = closed.pair_plan(node), [node.f, node.g]
        case ir.SingleExpectation():
            plan, functions = closed.mean_plan(node), [node.f]
        case ir.JointExpectation():
            plan, functions = closed.joint_plan(node), [node.f, node.g]
        case _:
            return None
    shown = [TextNotation().number(f, {}).text for f in functions]
    return {"functions": shown, "rule": plan.rule, "accuracy": plan.accuracy}
