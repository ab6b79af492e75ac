"""Derivatives along the Gaussian parts, carried along beside the assignments."""

from __future__ import annotations

from collections.abc import Callable

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError
from tensorprog.language import syntax
from tensorprog.program.definitions import coordinatewise
from tensorprog.program.passes.arithmetic import ZERO, divide, multiply
from tensorprog.program.passes.directional import directional
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Vector
from tensorprog.theorem.transposes.corrections import fresh_binders
from tensorprog.theorem.transposes.plan import Plan, is_nonlin, reads
from tensorprog.theorem.transposes.trees import all_names, delta, index, is_vector, names_in


def derivative(plan: Plan, s: syntax.Assignment, g: str, name: str) -> syntax.Assignment:
    """∂y/∂ĝ beside the assignment of y."""
    family = plan.program.families[g]
    axes = fresh_binders(plan, family, all_names(s.value) | names_in(s.indices))
    at = tuple(syntax.Name(b.name) for b in axes)

    def direction(e: syntax.Expr) -> syntax.Expr | None:
        if isinstance(e, syntax.Name | syntax.Index):
            if e.name == plan.hats.get(g, g):
                indices = e.indices if isinstance(e, syntax.Index) else ()
                return delta(indices, at)
            if (e.name, g) in plan.derivatives and e.name not in plan.scope.indices:
                indices = e.indices if isinstance(e, syntax.Index) else ()
                return index(plan.derivatives[e.name, g], (*indices, *at))
        return None

    value = _jump(plan, s, direction) or directional(s.value, direction)
    t = plan.program.families[s.name].type
    assert isinstance(t, Vector)
    vector = (s.name, g) in plan.curved
    annotation = syntax.TypeName("H", (syntax.Name(t.width),)) if vector else syntax.TypeName("C")
    return syntax.Assignment(name, (*s.indices, *axes), value, annotation, span=s.span)


def _jump(plan: Plan, s: syntax.Assignment, direction: Callable) -> syntax.Expr | None:
    """For a function that jumps, of one Gaussian vector h: E f'(h) = E f(h)(h - Eh)/Var h in place of f'(h).

    The almost everywhere derivative would miss the jump (TP III, remark 2.12); its mean is all that a
    coefficient needs where h is Gaussian.
    """
    value = s.value
    if not (isinstance(value, syntax.Call) and value.function == "Nonlin"):
        return None
    (inner,) = value.arguments
    vectors = {
        e
        for e in subexpressions(inner)
        if isinstance(e, syntax.Name | syntax.Index) and is_vector(plan.program, e.name)
    }
    symbols: dict[syntax.Expr, sympy.Symbol] = {
        v: sympy.Symbol(f"x{k}", real=True) for k, v in enumerate(sorted(vectors, key=str))
    }
    try:
        f = coordinatewise(inner, plan.scope, symbols)
    except ProgramError:
        return None
    if not any(functions.facts(f, x).jumps for x in symbols.values()):
        return None
    (vector, *more) = vectors
    t = plan.program.families[vector.name].type
    moved = any(
        r == s.name and y != s.name and is_nonlin(plan, y)
        for y in plan.program.families
        for r in reads(plan, y)
        if any((y, g) in plan.derivatives for g in plan.hats)
    )
    if more or not (isinstance(t, Vector) and t.gaussian) or moved:
        raise ProgramError(
            "a correction needs the derivative of a function that jumps; this is derived only for one of a single "
            "G-var, whose image is combined linearly",
            s.span,
        )
    mean = syntax.Call("Moment", (vector,))
    covariance = syntax.Binary(
        "-",
        syntax.Call("Moment", (syntax.Binary("*", inner, vector),)),
        syntax.Binary("*", syntax.Call("Moment", (inner,)), mean),
    )
    variance = syntax.Binary(
        "-", syntax.Call("Moment", (syntax.Binary("*", vector, vector),)), syntax.Binary("*", mean, mean)
    )
    return multiply(divide(covariance, variance), direction(vector) or ZERO)
