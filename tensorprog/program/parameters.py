"""The parameters of a program's header: what kind each is, and its value."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import TypeAlias

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError, did_you_mean
from tensorprog.language import syntax
from tensorprog.language.parser import parse_expression
from tensorprog.program.ir import Parameter
from tensorprog.program.scope import CORE, Scope, finite, substituted
from tensorprog.program.substitution import children

Setting: TypeAlias = str | int | float | sympy.Expr


def bind_parameters(text: syntax.ProgramText, settings: Mapping[str, Setting], scope: Scope) -> None:
    """Put the header's parameters into the scope, at their settings or their defaults.

    A parameter is an integer where it stands in a range, an index or a condition, a function where it
    is called, a real otherwise; without a value one that stands nowhere is unused. Raises
    ProgramError for unknown settings and values of the wrong kind.
    """
    declared = {p.name for p in text.parameters}
    for name in settings:
        if name not in declared:
            known = f"it has {', '.join(sorted(declared))}" if declared else "it has none"
            raise ProgramError(
                f"the program {text.name} has no parameter '{name}'",
                text.span,
                hint=did_you_mean(name, declared) or known,
            )
    integers, called = _uses(text)
    named = {node.name for node in _walk(text) if isinstance(node, syntax.Name)}
    sizes = _sizes(text)
    definitions = {s.name for s in text.statements if isinstance(s, syntax.Definition)}
    for p in text.parameters:
        if p.name in scope.parameters:
            raise ProgramError(f"the parameter '{p.name}' is declared twice", p.span)
        if p.name in ("n", "pi") or p.name in CORE:
            raise ProgramError(f"'{p.name}' has a meaning of its own and cannot be a parameter", p.span)
        is_function = p.name in called or _names_function(p.default, definitions)
        if is_function and p.name in integers:
            raise ProgramError(f"the parameter '{p.name}' is called and used as an integer", p.span)
        if is_function:
            value: object = _function(p, settings.get(p.name), scope, definitions)
            kind = "function"
        elif p.name in integers:
            kind = "size" if p.name in sizes and p.default is None else "integer"
            value = _integer(p, settings.get(p.name), scope)
        else:
            value = _real(p, settings.get(p.name), scope)
            kind = "unused" if value is None and p.name not in named else "real"
        scope.parameters[p.name] = Parameter(p.name, kind, value, p.span)


def _names_function(default: syntax.Expr | None, definitions: set[str]) -> bool:
    return isinstance(default, syntax.Name) and (
        default.name in definitions or functions.lookup(default.name) is not None
    )


def _uses(text: syntax.ProgramText) -> tuple[set[str], set[str]]:
    integers: set[str] = set()
    called: set[str] = set()

    def names(e) -> None:
        for node in _walk(e):
            if isinstance(node, syntax.Name):
                integers.add(node.name)

    for node in _walk(text):
        match node:
            case syntax.Binder(_, low, high, step):
                for end in (low, high, step):
                    if end is not None:
                        names(end)
            case syntax.Index(_, indices):
                for i in indices:
                    names(i)
            case syntax.Assignment(_, targets):
                for target in targets:
                    if not isinstance(target, syntax.Binder):
                        names(target)
            case syntax.Comparison():
                names(node)
            case syntax.Input(_, syntax.TypeName("index", arguments)):
                for a in arguments:
                    names(a)
            case syntax.Call(function):
                called.add(function)
            case syntax.DerivativeCall(function) | syntax.DerivativeOf(function):
                if isinstance(function, str):
                    called.add(function)
    return integers, called


def _walk(node):
    yield node
    for c in children(node):
        yield from _walk(c)


def _sizes(text: syntax.ProgramText) -> set[str]:
    """Names that stand in the ends of an input's axis, `t = 1..T` or `p = 1..2*P`: read off the data."""
    found: set[str] = set()
    for s in text.statements:
        if isinstance(s, syntax.Input):
            for v in s.variables:
                for b in v.axes:
                    for end in (b.low, b.high):
                        found |= _undivided(end) if end is not None else set()
    return found


def _undivided(e: syntax.Expr) -> set[str]:
    """The names in an integer expression but for those in quotients and remainders, which tell no size."""
    match e:
        case syntax.Name(name):
            return {name}
        case syntax.Negate(operand):
            return _undivided(operand)
        case syntax.Binary("+" | "-" | "*", left, right):
            return _undivided(left) | _undivided(right)
    return set()


def _function(p: syntax.Parameter, setting: object, scope: Scope, definitions: set[str]) -> str | None:
    if setting is None:
        if p.default is None:
            return None
        if not isinstance(p.default, syntax.Name):
            raise ProgramError(f"the parameter '{p.name}' is called: its default is the name of a function", p.span)
        setting, span = p.default.name, p.default.span
    else:
        span = p.span
    if not isinstance(setting, str):
        raise ProgramError(f"the parameter '{p.name}' is a function: pass its name, not {setting!r}", p.span)
    other = scope.parameters.get(setting)
    if functions.lookup(setting) is None and setting not in definitions and not (other and other.kind == "function"):
        hint = did_you_mean(setting, [*functions.names(), *definitions])
        raise ProgramError(f"unknown function '{setting}' for the parameter '{p.name}'", span, hint=hint)
    return setting


def _integer(p: syntax.Parameter, setting: object, scope: Scope) -> int | None:
    if setting is None:
        if p.default is None:
            return None
        try:
            value = scope.affine(p.default).substitute(scope.integers())
        except ProgramError as error:
            if isinstance(p.default, syntax.Name):
                raise
            raise ProgramError(
                f"the parameter '{p.name}' stands in a range, an index or a condition: it is an integer", error.span
            ) from None
        if not value.is_constant:
            return None
        return value.constant
    number = _evaluate(p, setting)
    if not number.is_Integer:
        raise ProgramError(f"the parameter '{p.name}' is an integer, not {_short(setting)}", p.span)
    return int(number)


def _real(p: syntax.Parameter, setting: object, scope: Scope) -> sympy.Expr | None:
    if setting is not None:
        return _evaluate(p, setting)
    if p.default is None:
        return None
    value = scope.number(p.default)
    known = {s.name: scope.parameters[s.name].value for s in value.free_symbols if s.name in scope.parameters}
    if any(v is None for v in known.values()):
        return None
    values = {s: sympy.sympify(known[s.name]) for s in value.free_symbols if s.name in known}
    return _finite(p, substituted(value, values, p.default.span), p.name)


def _evaluate(p: syntax.Parameter, setting: object) -> sympy.Expr:
    """A setting as an exact number: 3, 1.5, "1/3", "2*pi"."""
    if isinstance(setting, bool):
        raise ProgramError(f"the parameter '{p.name}' is a number, not {setting}", p.span)
    if isinstance(setting, sympy.Expr):
        return _finite(p, setting, setting)
    if isinstance(setting, numbers.Integral):
        return _finite(p, sympy.Integer(int(setting)), setting)
    if isinstance(setting, numbers.Real) or (hasattr(setting, "dtype") and getattr(setting, "ndim", 1) == 0):
        try:
            value = float(setting)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ProgramError(f"the parameter '{p.name}' is a number, not {_short(repr(setting))}", p.span) from None
        if value != value or value in (float("inf"), float("-inf")):
            raise ProgramError(f"the parameter '{p.name}' is {value}: a finite number is needed", p.span)
        return sympy.Rational(repr(value))
    if isinstance(setting, str):
        try:
            parsed = parse_expression(setting)
            if parsed is not None:
                return _finite(p, Scope().number(parsed), setting)
        except ProgramError as error:
            if "beyond" in error.message or (setting.strip().isdigit() and len(setting) > 300):
                raise _too_large(p) from None
    raise ProgramError(
        f"the parameter '{p.name}' is a number, not {_short(repr(setting))}",
        p.span,
        hint="write 2, 0.5, 1/3 or 1e-3, say",
    )


def _finite(p: syntax.Parameter, value: sympy.Expr, shown: object) -> sympy.Expr:
    if value.free_symbols or not value.is_finite or not value.is_real:
        raise ProgramError(f"the parameter '{p.name}' is a real number, not {_short(shown)}", p.span)
    try:
        return finite(value, p.span)
    except ProgramError:
        raise _too_large(p) from None


def _too_large(p: syntax.Parameter) -> ProgramError:
    return ProgramError(f"the parameter '{p.name}' is beyond what floating point holds", p.span)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "…"
