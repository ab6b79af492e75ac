"""Quadrature between kinks, where a function has more than the general rule is cut at."""

from __future__ import annotations

from tensorprog import functions
from tensorprog.expectation.emit import same_function, scalar_tuple, tuple_code, two_functions
from tensorprog.expectation.landmarks import MOST_PLACES
from tensorprog.expectation.plan import Plan, Request, Side
from tensorprog.expectation.rules import rule


@rule(rank=15)
def many_kinks(request: Request) -> Plan | None:
    """Functions with many kinks or jumps, at places that are numbers."""
    f, g = request.f, request.g
    if not any(has_many(side) for side in (f, g)):
        return None
    f_name, g_name, sources = two_functions(request.prefix, f, g)
    (f_places, f_reach), (g_places, g_reach) = listed(f), listed(g)
    names = (f"{request.prefix}_places",) * 2
    sources += (f"{names[0]} = {f_places}\n",)
    if not same_function(f, g):
        names = names[0], f"{request.prefix}_right_places"
        sources += (f"{names[1]} = {g_places}\n",)
    order = tuple(functions.facts(side.expr, side.variable).continuity for side in (f, g))

    def call(k, p, q, mu, nu, scalars_f, scalars_g):
        return (
            f"gaussian_pair(many_pair({names[0]}, {names[1]}, {f_reach}, {g_reach}), {order}, {f_name}, {g_name}, "
            f"{k}, {p}, {q}, {mu or '0.0'}, {nu or '0.0'}, {scalar_tuple(f, scalars_f)}, {scalar_tuple(g, scalars_g)})"
        )

    return Plan("quadrature between kinks", accuracy_of(f, g), sources, ("pair", "many"), call)


def accuracy_of(*sides: Side) -> str:
    """To what the rule is right, and where."""
    reaches = [functions.facts(side.expr, side.variable).reach for side in sides]
    reach = min((r for r in reaches if r is not None), default=None)
    known = "1e-8 (float64); 1e-5 in float32"
    return known if reach is None else f"{known}, for deviations up to {reach / 8:.3g}; NaN beyond"


def has_many(side: Side) -> bool:
    """Whether the function has more kinks than the general rule takes, at numbers."""
    facts = functions.facts(side.expr, side.variable)
    places = facts.kinks + facts.jumps
    return len(places) > MOST_PLACES and facts.located and all(place.is_number for place in places)


def listed(side: Side) -> tuple[str, str]:
    """Source of the sorted places, and of the distance from zero up to which they are all."""
    facts = functions.facts(side.expr, side.variable)
    places = sorted(float(place) for place in facts.kinks + facts.jumps)
    return tuple_code(map(repr, places)), "np.inf" if facts.reach is None else repr(facts.reach)
