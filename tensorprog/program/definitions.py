"""Functions that a program defines: coordinatewise bodies in sympy."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError
from tensorprog.language import syntax
from tensorprog.program.declarations import assigned_names
from tensorprog.program.ir import Function
from tensorprog.program.macros import expand_macros
from tensorprog.program.scope import (
    Scope,
    apply_definition,
    arithmetic,
)
from tensorprog.program.substitution import subexpressions


def read_definitions(statements, scope: Scope):
    """Coordinatewise `def`s become functions of the scope; the others are written out where they are called."""
    kept = []
    variables = set(scope.spans) | {name for name, _ in assigned_names(statements)}
    later = {s.name: s for s in statements if isinstance(s, syntax.Definition)}
    for s in statements:
        if not isinstance(s, syntax.Definition):
            kept.append(s)
            continue
        names = [p.name for p in s.parameters]
        if len(set(names)) < len(names):
            raise ProgramError(f"an argument of '{s.name}' is named twice", s.span)
        if _is_coordinatewise(s.body, set(names), variables, scope):
            _check_calls(s, later, scope)
            scope.functions[s.name] = _function(s, scope)
            kept.append(s)
        else:
            scope.macros[s.name] = s
        del later[s.name]
    called = {p.name: scope.function_name(p.name) for p in scope.parameters.values() if p.kind == "function"}
    passed = {name: scope.macros[real] for name, real in called.items() if real in scope.macros}
    return expand_macros(tuple(kept), {**scope.macros, **passed})


def _check_calls(s: syntax.Definition, later: Mapping[str, syntax.Definition], scope: Scope) -> None:
    """Raises ProgramError where a coordinatewise `def` calls itself or one that follows.

    The name of a built-in function means that function until the `def` of that name is complete.
    """
    for e in subexpressions(s.body):
        if not isinstance(e, syntax.Call | syntax.DerivativeCall) or not isinstance(e.function, str):
            continue
        name = scope.function_name(e.function)
        if name not in later or functions.lookup(name) is not None:
            continue
        through = "" if name == e.function else f", by way of the parameter '{e.function}'"
        if name == s.name:
            raise ProgramError(f"'{name}' calls itself{through}", e.span)
        raise ProgramError(
            f"'{s.name}' calls '{name}'{through}, which is defined later, on line {later[name].span.line}",
            e.span,
            hint=f"put the def of '{name}' first",
        )


def _is_coordinatewise(e: syntax.Expr, arguments: set[str], variables: set[str], scope: Scope) -> bool:
    match e:
        case syntax.Name(name):
            return name in arguments or name not in variables
        case syntax.Number():
            return True
        case syntax.Negate(operand):
            return _is_coordinatewise(operand, arguments, variables, scope)
        case syntax.Binary(op, a, b):
            return op != "@" and all(_is_coordinatewise(x, arguments, variables, scope) for x in (a, b))
        case syntax.Call(name, args, keywords):
            inner = [*args, *(v for _, v in keywords)]
            plain = scope.function_name(name) not in scope.macros and name != "layernorm"
            return plain and all(_is_coordinatewise(x, arguments, variables, scope) for x in inner)
        case syntax.DerivativeCall(_, _, args, keywords):
            return all(_is_coordinatewise(x, arguments, variables, scope) for x in [*args, *(v for _, v in keywords)])
    return False


def _function(s: syntax.Definition, scope: Scope) -> Function:
    arguments = {p.name: sympy.Symbol(f"_{p.name}", real=True) for p in s.parameters}
    body = coordinatewise(s.body, scope, {syntax.Name(p.name): arguments[p.name] for p in s.parameters})
    defaults = tuple(None if p.default is None else scope.number(p.default) for p in s.parameters)
    return Function(s.name, tuple(arguments.values()), defaults, body)


def coordinatewise(e: syntax.Expr, scope: Scope, leaves: Mapping[syntax.Expr, sympy.Expr]) -> sympy.Expr:
    """A coordinatewise expression in sympy, `leaves` giving the symbols of its vectors and C's.

    Raises ProgramError for what is no function of these.
    """
    if e in leaves:
        return leaves[e]
    match e:
        case syntax.Number() | syntax.Name():
            return scope.number(e)
        case syntax.Negate(operand):
            return -coordinatewise(operand, scope, leaves)
        case syntax.Binary(op, a, b) if op != "@":
            return arithmetic(op, coordinatewise(a, scope, leaves), coordinatewise(b, scope, leaves), e.span)
        case syntax.Call(name, arguments, keywords):
            values = [coordinatewise(a, scope, leaves) for a in arguments]
            return scope.apply(name, values, {k: coordinatewise(v, scope, leaves) for k, v in keywords}, e.span)
        case syntax.DerivativeCall(function, argument, arguments, keywords):
            values = [coordinatewise(a, scope, leaves) for a in arguments]
            derived = scope.derivative(function, argument, e.span)
            named = {k: coordinatewise(v, scope, leaves) for k, v in keywords}
            return apply_definition(derived, values, named, e.span)
    raise ProgramError("this is no coordinatewise function", e.span)
