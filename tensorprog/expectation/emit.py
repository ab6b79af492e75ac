"""Python source of the functions that quadrature rules evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sympy

from tensorprog import functions
from tensorprog.expectation.plan import Scalars, Side
from tensorprog.index.fresh import underscored
from tensorprog.naming import identifier


def scalar_names(side: Side) -> dict[sympy.Symbol, str]:
    """A Python identifier for each scalar, distinct, and distinct from x."""
    names: dict[sympy.Symbol, str] = {}
    for symbol in side.scalars:
        names[symbol] = underscored(identifier(symbol.name), names.values())
    return names


def function_source(name: str, side: Side) -> str:
    """`def name(x, *scalars)` for the side's expression."""
    scalars = scalar_names(side)
    code = functions.jax_code(side.expr, {side.variable: "x", **scalars})
    if side.variable not in side.expr.free_symbols:
        code = f"jnp.full_like(x, {code})" if not side.scalars else f"{code} + jnp.zeros_like(x)"
    lines = []
    for hole in functions.facts(side.expr, side.variable).holes:
        place = functions.jax_code(hole, scalars)
        series = None if side.scalars else _series(side, hole)
        if series is None:
            lines.append(f"x = jnp.where(x == {place}, {place} + 1e-3, x)")
            continue
        reach, polynomial = series
        lines += [
            f"t = x - ({place})",
            f"near = jnp.abs(t) < {reach!r}",
            f"x = jnp.where(near, {place} + {reach!r}, x)",
        ]
        code = f"jnp.where(near, {polynomial}, {code})"
    body = "\n    ".join([*lines, f"return {code}"])
    return f"def {name}({', '.join(['x', *scalars.values()])}):\n    {body}\n"


def _series(side: Side, hole: sympy.Expr) -> tuple[float, str] | None:
    """A polynomial in t = x - hole for where the formula is 0/0, and has few digits nearby; and how far it serves."""
    for halvings in range(1, 12):
        reach = 0.5**halvings
        found = functions.polynomial(side.expr, side.variable, hole, reach, 1e-18)
        if found is not None:
            code = repr(found[-1])
            for coefficient in found[-2::-1]:
                code = f"{coefficient!r} + t * ({code})"
            return reach, code
    return None


def kinks_source(name: str, side: Side, places: Sequence[sympy.Expr]) -> str:
    """`def name(*scalars)` for the places where the side's function has kinks or jumps."""
    scalars = scalar_names(side)
    codes = [functions.jax_code(place, scalars) for place in places]
    returned = tuple_code(codes)
    # a rule's derivatives may bring scalars of their own, which come last
    return f"def {name}({', '.join([*scalars.values(), '*_'])}):\n    return {returned}\n"


def two_functions(prefix: str, f: Side, g: Side) -> tuple[str, str, tuple[str, ...]]:
    """Names of f and g and their definitions: one where they are the same function."""
    if same_function(f, g):
        return prefix, prefix, (function_source(prefix, f),)
    names = f"{prefix}_left", f"{prefix}_right"
    return *names, (function_source(names[0], f), function_source(names[1], g))


def same_function(f: Side, g: Side) -> bool:
    """Whether f and g differ at most in the name of their variable."""
    return f.scalars == g.scalars and f.expr == g.expr.xreplace({g.variable: f.variable})


def scalar_tuple(side: Side, codes: Scalars) -> str:
    """Source of the tuple of the side's scalars."""
    missing = [symbol.name for symbol in side.scalars if symbol not in codes]
    if missing:
        raise ValueError(f"no code is given for the scalars {', '.join(missing)}")
    return tuple_code(codes[symbol] for symbol in side.scalars)


def tuple_code(codes: Iterable[str]) -> str:
    """Source of a tuple."""
    values = list(codes)
    return f"({values[0]},)" if len(values) == 1 else f"({', '.join(values)})"


def several_source(
    name: str,
    expr: sympy.Expr,
    variables: Sequence[sympy.Symbol],
    scalars: Sequence[sympy.Symbol],
    other: sympy.Expr | None = None,
) -> str:
    """`def name(*variables, *scalars)` for an expression, or its product with another, of several variables."""
    names = {x: f"x{i}" for i, x in enumerate(variables)}
    names.update({s: f"scalar{i}" for i, s in enumerate(scalars)})
    body = " * ".join(f"({functions.jax_code(part, names)})" for part in (expr, other) if part is not None)
    zero = "".join(f" + 0 * {names[x]}" for x in variables)
    return f"def {name}({', '.join(names.values())}):\n    return {body}{zero}\n"
