"""Plans for E f(z) g(w) and E f(z)."""

from __future__ import annotations

import importlib
import math
import pkgutil

import sympy

from tensorprog import functions
from tensorprog.expectation import rules as _rules
from tensorprog.expectation.closed import closed_mean
from tensorprog.expectation.emit import function_source, kinks_source, scalar_tuple
from tensorprog.expectation.landmarks import landmarks
from tensorprog.expectation.plan import UNLOCATED, MeanPlan, Plan, Request, Side
from tensorprog.expectation.rules.many_kinks import accuracy_of, has_many, listed

for _module in sorted(module.name for module in pkgutil.iter_modules(_rules.__path__)):
    importlib.import_module(f"{_rules.__name__}.{_module}")

ANY_VARIANCE = "1e-9 at any variance (float64); 1e-6 in float32"


def _side(expr, variable: sympy.Symbol, has_mean: bool) -> Side:
    expr = sympy.sympify(expr)
    scalars = tuple(sorted(expr.free_symbols - {variable}, key=lambda symbol: symbol.name))
    if len({symbol.name for symbol in scalars}) < len(scalars):
        raise ValueError("two scalars have the same name")
    return Side(expr, variable, scalars, has_mean)


def plan_pair(
    f: sympy.Expr,
    g: sympy.Expr,
    z: sympy.Symbol,
    w: sympy.Symbol,
    *,
    mean_f: bool = False,
    mean_g: bool = False,
    prefix: str = "phi",
) -> Plan:
    """How to compute E f(z) g(w) for jointly Gaussian z and w.

    Other Symbols in f and g are scalars; each side has its own values of them, also where they have the same name.
    `mean_f` and `mean_g` tell whether z and w can have means other than zero. `prefix` begins the names of what the
    plan defines.
    """
    return _rules.first_plan(Request(_side(f, z, mean_f), _side(g, w, mean_g), prefix))


def plan_quick_pair(
    f: sympy.Expr, g: sympy.Expr, z: sympy.Symbol, w: sympy.Symbol, means: tuple[bool, bool], prefix: str
) -> Plan:
    """As plan_pair, for use at every node of another quadrature."""
    return _rules.first_plan(Request(_side(f, z, means[0]), _side(g, w, means[1]), prefix, quick=True))


def plan_mean(f: sympy.Expr, z: sympy.Symbol, *, mean: bool = False, prefix: str = "phi") -> MeanPlan:
    """How to compute E f(z) for a Gaussian z; see plan_pair."""
    side = _side(f, z, mean)
    closed = closed_mean(side)
    if closed is not None:
        return closed
    if has_many(side):
        return _between_kinks(side, prefix)
    facts, marks = functions.facts(side.expr, z), landmarks(side)
    definitions = (function_source(prefix, side), kinks_source(f"{prefix}_places", side, marks.places))
    rule = f"split_mean({prefix}_places{'' if marks.finest == 1 else f', {marks.finest:.3g}'})"
    if facts.smooth and not marks.centred:
        rule = f"smooth_mean({rule}, {marks.finest:.3g})"
    known = not facts.singular and set(facts.kinks + facts.jumps) <= set(marks.places)
    order = f"({facts.continuity}, {prefix}_places)" if known and not facts.smooth else str(facts.continuity)

    def call(p, mu, scalars):
        return f"gaussian_mean({rule}, {order}, {prefix}, {p}, {mu or '0.0'}, {scalar_tuple(side, scalars)})"

    accuracy, variance = (ANY_VARIANCE, math.inf) if facts.located else (UNLOCATED, 0.0)
    return MeanPlan("split quadrature", accuracy, definitions, ("mean", "split"), call, variance=variance)


def _between_kinks(side: Side, prefix: str) -> MeanPlan:
    places, reach = listed(side)
    definitions = (function_source(prefix, side), f"{prefix}_places = {places}\n")
    continuity = functions.facts(side.expr, side.variable).continuity

    def call(p, mu, scalars):
        rule = f"many_mean({prefix}_places, {reach})"
        return f"gaussian_mean({rule}, {continuity}, {prefix}, {p}, {mu or '0.0'}, {scalar_tuple(side, scalars)})"

    return MeanPlan("quadrature between kinks", accuracy_of(side), definitions, ("mean", "many"), call)
