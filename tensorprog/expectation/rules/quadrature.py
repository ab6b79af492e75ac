"""Hermite expansion for smooth functions, polar coordinates for kinks at zero, split quadrature for the rest."""

from __future__ import annotations

from tensorprog import functions
from tensorprog.expectation.emit import kinks_source, same_function, scalar_tuple, two_functions
from tensorprog.expectation.plan import Plan, Request
from tensorprog.expectation.rules import rule


def _plan(request: Request, name: str, accuracy: str, modules, rule_code: str, definitions=()) -> Plan:
    f, g = request.f, request.g
    f_name, g_name, sources = two_functions(request.prefix, f, g)
    order = tuple(functions.facts(side.expr, side.variable).continuity for side in (f, g))

    def call(k, p, q, mu, nu, scalars_f, scalars_g):
        return (
            f"gaussian_pair({rule_code}, {order}, {f_name}, {g_name}, {k}, {p}, {q}, {mu or '0.0'}, {nu or '0.0'}, "
            f"{scalar_tuple(f, scalars_f)}, {scalar_tuple(g, scalars_g)})"
        )

    return Plan(name, accuracy, (*sources, *definitions), ("pair", *modules), call)


@rule(rank=20)
def hermite(request: Request) -> Plan | None:
    """Two functions without kinks."""
    if not all(functions.facts(side.expr, side.variable).smooth for side in (request.f, request.g)):
        return None
    if request.quick:
        accuracy = "1e-8 for variances up to 1 (float64); 1e-5 in float32"
        return _plan(request, "Hermite expansion", accuracy, ("conditional",), "quick_hermite")
    accuracy = "1e-10 for variances up to 10, 1e-7 up to 100 (float64); 1e-5 in float32"
    return _plan(request, "Hermite expansion", accuracy, ("hermite",), "hermite_pair")


@rule(rank=30)
def polar(request: Request) -> Plan | None:
    """Kinks at zero only, means zero."""
    for side in (request.f, request.g):
        facts = functions.facts(side.expr, side.variable)
        if side.has_mean or not facts.located or any(place != 0 for place in facts.kinks + facts.jumps):
            return None
    accuracy = "1e-9 for variances up to 10, 1e-6 up to 100 (float64); 1e-5 in float32"
    return _plan(request, "polar quadrature", accuracy, ("polar",), "polar_pair")


@rule(rank=90)
def split(request: Request) -> Plan:
    """Whatever is left."""
    f, g, prefix = request.f, request.g, request.prefix
    names = (f"{prefix}_kinks",) * 2 if same_function(f, g) else (f"{prefix}_left_kinks", f"{prefix}_right_kinks")
    sources, located = {}, True
    for name, side in zip(names, (f, g), strict=True):
        facts = functions.facts(side.expr, side.variable)
        # a smooth function is cut at zero, about which most change
        sources[name] = kinks_source(name, side, facts.kinks + facts.jumps or (0,))
        located &= facts.located
    accuracy = "1e-8 for variances up to 10, 1e-6 up to 100 (float64); 1e-5 in float32"
    if not located:
        accuracy = "about 1e-3: the places of the kinks are not known"
    code = f"split_pair({', '.join(names)})"
    return _plan(request, "split quadrature", accuracy, ("split",), code, sources.values())
