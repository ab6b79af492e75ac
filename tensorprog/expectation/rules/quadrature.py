"""Hermite expansion for functions that are smooth or change about zero alone, split quadrature for the rest."""

from __future__ import annotations

from dataclasses import replace

from tensorprog import functions
from tensorprog.expectation.emit import kinks_source, same_function, scalar_tuple, two_functions
from tensorprog.expectation.landmarks import MOST_PLACES, Landmarks, landmarks
from tensorprog.expectation.plan import UNLOCATED, Plan, Request
from tensorprog.expectation.rules import rule

ANY_VARIANCE = "1e-8 at any variance (float64); 1e-5 in float32"


def _plan(request: Request, name: str, accuracy: str, modules, rule_code: str, definitions=()) -> Plan:
    f, g = request.f, request.g
    f_name, g_name, sources = two_functions(request.prefix, f, g)
    order, jumps = _order(request)

    def call(k, p, q, mu, nu, scalars_f, scalars_g):
        return (
            f"gaussian_pair({rule_code}, {order}, {f_name}, {g_name}, {k}, {p}, {q}, {mu or '0.0'}, {nu or '0.0'}, "
            f"{scalar_tuple(f, scalars_f)}, {scalar_tuple(g, scalars_g)})"
        )

    modules = ("pair", *modules, *(["split"] if jumps else []))
    return Plan(name, accuracy, (*sources, *jumps, *definitions), modules, call)


def _order(request: Request) -> tuple[str, list[str]]:
    """What `gaussian_pair` takes as order, and definitions it needs: of the places where derivatives jump."""
    sides = (request.f, request.g)
    facts = [functions.facts(side.expr, side.variable) for side in sides]
    times = ", ".join(str(f.continuity) for f in facts)
    known = all(f.located and not f.singular and len(f.kinks + f.jumps) <= MOST_PLACES for f in facts)
    if all(f.smooth for f in facts) or not known:
        return f"({times})", []
    same = same_function(*sides)
    names = [f"{request.prefix}{end}_jumps" for end in (("", "") if same else ("_left", "_right"))]
    sources = [kinks_source(name, side, f.kinks + f.jumps) for name, side, f in zip(names, sides, facts, strict=True)]
    marks = ", ".join(f"({name}, split_mean({name}))" for name in names)
    return f"({times}, {marks})", sources[:1] if same else sources


def _cuts(request: Request) -> tuple[str, str, list[str], tuple[Landmarks, Landmarks]]:
    """Names and definitions of the functions that give the landmarks of f and of g, and the landmarks."""
    f, g, prefix = request.f, request.g, request.prefix
    found = landmarks(f), landmarks(g)
    if same_function(f, g):
        names = (f"{prefix}_places",) * 2
        return *names, [kinks_source(names[0], f, found[0].places)], found
    names = f"{prefix}_left_places", f"{prefix}_right_places"
    sources = [kinks_source(n, side, marks.places) for n, side, marks in zip(names, (f, g), found, strict=True)]
    return *names, sources, found


def _split_code(names: list[str], marks: tuple[Landmarks, Landmarks], centred: bool) -> str:
    arguments, finest = list(names), tuple(float(f"{m.finest:.3g}") for m in marks)
    if finest != (1.0, 1.0):
        arguments.append(f"finest={finest}")
    if centred:
        arguments.append("centred=True")
    return f"split_pair({', '.join(arguments)})"


def _centred(request: Request, marks: tuple[Landmarks, Landmarks]) -> bool:
    """Whether both functions change about zero alone, and the means are zero."""
    return all(m.centred and not side.has_mean for m, side in zip(marks, (request.f, request.g), strict=True))


@rule(rank=20)
def hermite(request: Request) -> Plan | None:
    """Two functions without kinks, or with kinks at zero and means zero."""
    sides = (request.f, request.g)
    facts = [functions.facts(side.expr, side.variable) for side in sides]
    smooth = all(f.smooth for f in facts)
    if request.quick:
        accuracy = "1e-8 for variances up to 1 (float64); 1e-5 in float32"
        return _plan(request, "Hermite expansion", accuracy, ("conditional",), "quick_hermite") if smooth else None
    *names, definitions, marks = _cuts(request)
    centred = _centred(request, marks)
    if not (smooth or (centred and all(f.located and not f.singular for f in facts))):
        return None
    finest = min(m.finest for m in marks)
    arguments = [_split_code(names, marks, centred)]
    if not smooth:
        arguments.append("local=polar_pair")
    if not centred:
        arguments.append("centred=False")
        if finest != 1:
            arguments.append(f"finest={finest:.3g}")
    modules = ("hermite", "split") if smooth else ("hermite", "split", "polar")
    return _plan(
        request, "Hermite expansion", ANY_VARIANCE, modules, f"series_pair({', '.join(arguments)})", definitions
    )


@rule(rank=30)
def polar(request: Request) -> Plan | None:
    """Kinks at zero only, means zero, at every node of another quadrature."""
    if not request.quick:
        return None
    for side in (request.f, request.g):
        facts = functions.facts(side.expr, side.variable)
        if side.has_mean or not facts.located or any(place != 0 for place in facts.kinks + facts.jumps):
            return None
    accuracy = "1e-9 for variances up to 10, 1e-6 up to 100 (float64); 1e-5 in float32"
    return _plan(request, "polar quadrature", accuracy, ("polar",), "polar_pair")


@rule(rank=90)
def split(request: Request) -> Plan:
    """Whatever is left."""
    *names, definitions, marks = _cuts(request)
    located = all(functions.facts(side.expr, side.variable).located for side in (request.f, request.g))
    accuracy = ANY_VARIANCE if located else UNLOCATED
    code = _split_code(names, marks, _centred(request, marks))
    plan = _plan(request, "split quadrature", accuracy, ("split",), code, definitions)
    return plan if located else replace(plan, variance=0.0)
