"""The recursion as plain data: every table with its formulas, and the rule that computes every expectation."""

from __future__ import annotations

from tensorprog import recursion as ir
from tensorprog.expectation import JointPlan, MeanPlan, NoRule, Plan
from tensorprog.index.ranges import Range
from tensorprog.recursion import Key, Recursion, Table
from tensorprog.theorem.joint_rules import joint_plan
from tensorprog.theorem.tangent import tangent_key
from tensorprog.views import closed
from tensorprog.views.formula import Formulas
from tensorprog.views.latex import LatexNotation
from tensorprog.views.layout import unmark
from tensorprog.views.notation import Piece, slopes_shown
from tensorprog.views.selection import select
from tensorprog.views.simulated import functions, random_variables
from tensorprog.views.text import TextNotation


def as_json(recursion: Recursion, get: str = "nngp") -> dict:
    """{program, get, parameters, outputs, sampled, random_variables, tables}; all tables, those of one run too.

    sampled: whether some expectation has no rule; random_variables: the equations of what is simulated then.
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
        "sampled": recursion.sampled,
        "random_variables": _random_variables(words, tex),
        "tables": [_table(t, words, tex) for t in (*selection.nngp, *selection.ntk)],
    }


def _random_variables(words: Formulas, tex: Formulas) -> list[dict]:
    found = []
    for shown, set_ in zip(random_variables(words), random_variables(tex), strict=True):
        definition = shown[2]
        found.append(
            {
                "name": definition.name,
                "ranges": [_range(r) for r in definition.case.binders],
                "conditions": words.conditions(definition.case.conditions),
                "text": f"{shown[0]} = {unmark(shown[1])}",
                "where": functions(words),
                "latex": f"{set_[0]} = {unmark(set_[1])}",
                "latex_where": functions(tex),
            }
        )
    return found


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
    match node:
        case ir.PairExpectation():
            return _planned(closed.pair_plan(node), node.f, node.g)
        case ir.SingleExpectation():
            return _planned(closed.mean_plan(node), node.f)
        case ir.JointExpectation():
            try:
                return _planned(joint_plan(node), node.f, node.g)
            except NoRule:
                # An expectation of slopes: what is computed is the derivative of that of values, which has a rule.
                return {
                    "functions": _shown(node.f, node.g),
                    "rule": "derivative of a rule",
                    "accuracy": "that of the rule",
                }
        case ir.Sampled():
            return {
                "functions": _shown(*(f for f, _ in node.functions)),
                "rule": "randomised quasi-Monte Carlo",
                "accuracy": "a standard error comes with it",
            }
        case ir.BatchnormExpectation() | ir.BatchnormMean():
            slopes = [node.phi, *([node.gamma] if isinstance(node, ir.BatchnormExpectation) else [])]
            return {
                "functions": [slopes_shown(s, Piece("u"), TextNotation()).text for s in slopes],
                "rule": f"integral over {'two Laplace variables' if len(slopes) > 1 else 'a Laplace variable'}",
                "accuracy": "1e-9 (float64); 1e-5 in float32",
            }
    return None


def _planned(plan: Plan | MeanPlan | JointPlan, *functions) -> dict:
    return {"functions": _shown(*functions), "rule": plan.rule, "accuracy": plan.accuracy}


def _shown(*functions) -> list[str]:
    return [TextNotation().number(f, {}).text for f in functions]
