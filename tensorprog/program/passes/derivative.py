"""Derivatives of coordinatewise expressions, as expressions.

relu(h) * c               by h     D(relu)(h) * c
max(x, y) - x / y         by y     D[2](max)(x, y) + x / y**2
f * c + i * g             by c     f
"""

from __future__ import annotations

from dataclasses import replace

from tensorprog.errors import ProgramError
from tensorprog.language.printer import print_expression
from tensorprog.language.syntax import (
    Binary,
    Call,
    Conditional,
    DerivativeCall,
    DerivativeOf,
    Expr,
    Guard,
    Index,
    Name,
    Negate,
    Number,
    Reduction,
)
from tensorprog.program.passes.arithmetic import (
    ONE,
    ZERO,
    add,
    divide,
    is_number,
    multiply,
    negate,
    power,
    subtract,
)
from tensorprog.program.substitution import subexpressions

_VARIADIC = ("max", "min")


def derivative(e: Expr, by: Expr) -> Expr:
    """The partial derivative of e by one of the references in it, ∂e/∂by; all other references are constants.

    Raises ProgramError for reductions over an index, which have no derivative that is a coordinatewise function.
    """
    if e == by:
        return ONE
    if not any(s == by for s in subexpressions(e)):
        return ZERO
    match e:
        case Negate(operand):
            return negate(derivative(operand, by))
        case Binary("+", left, right):
            return add(derivative(left, by), derivative(right, by))
        case Binary("-", left, right):
            return subtract(derivative(left, by), derivative(right, by))
        case Binary("*", left, right):
            return add(multiply(derivative(left, by), right), multiply(left, derivative(right, by)))
        case Binary("/", left, right):
            first = divide(derivative(left, by), right)
            square = Binary("**", right, Number("2"))
            return subtract(first, divide(multiply(left, derivative(right, by)), square))
        case Binary("**", left, right):
            return add(_of_base(left, right, by), _of_exponent(left, right, by))
        case Conditional(then, condition, otherwise):
            a, b = derivative(then, by), derivative(otherwise, by)
            return ZERO if is_number(a, 0) and is_number(b, 0) else replace(e, then=a, condition=condition, otherwise=b)
        case Guard():
            return ZERO  # a guarded reference is one of its own, other than the reference inside
        case Call(name, (first, second, third, *more)) if name in _VARIADIC:
            rest = Call(name, (second, third, *more), span=e.span)
            return derivative(Call(name, (first, rest), span=e.span), by)
        case Call(name, arguments, keywords):
            _check_keywords(name, keywords, by)
            return _chain(name, arguments, keywords, by)
        case DerivativeCall(function, argument, arguments, keywords):
            _check_keywords("D", keywords, by)
            return _chain(DerivativeOf(function, argument), arguments, keywords, by)
        case Reduction(name):
            raise ProgramError(f"the derivative of {name} over vectors is not supported in a backward pass", e.span)
    raise ProgramError(f"the derivative of {print_expression(e)} is not supported in a backward pass", e.span)


def _of_base(base: Expr, exponent: Expr, by: Expr) -> Expr:
    inner = derivative(base, by)
    if is_number(inner, 0):
        return ZERO
    if isinstance(exponent, Number) and exponent.text.isdigit():
        lower: Expr = Number(str(int(exponent.text) - 1))
    else:
        lower = subtract(exponent, ONE)
    return multiply(multiply(exponent, power(base, lower)), inner)


def _of_exponent(base: Expr, exponent: Expr, by: Expr) -> Expr:
    inner = derivative(exponent, by)
    return multiply(multiply(Call("log", (base,)), Binary("**", base, exponent)), inner)


def _chain(function: str | DerivativeOf, arguments: tuple[Expr, ...], keywords, by: Expr) -> Expr:
    """Σ_i D[i](f)(arguments) · ∂(argument i)/∂by."""
    total: Expr = ZERO
    for k, a in enumerate(arguments):
        inner = derivative(a, by)
        if is_number(inner, 0):
            continue
        outer = DerivativeCall(function, None if len(arguments) == 1 else k + 1, arguments, keywords)
        total = add(total, multiply(outer, inner))
    return total


def _check_keywords(name: str, keywords, by: Expr) -> None:
    for k, v in keywords:
        if any(s == by for s in subexpressions(v)):
            raise ProgramError(f"the derivative of {name} by its argument '{k}' is not supported", v.span)


def references(e: Expr) -> list[Expr]:
    """The references in a coordinatewise expression, guarded or not, in the order of the text, each once."""
    if isinstance(e, Name | Index | Guard):
        return [e]
    found: dict[Expr, None] = {}
    for s in subexpressions(e, deep=False):
        found.update(dict.fromkeys(references(s)))
    return list(found)
