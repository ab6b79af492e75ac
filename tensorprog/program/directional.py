"""The derivative of a coordinatewise expression along a direction, as syntax.

    tanh(h[t]) * c[t]   with h[t] moving by dh, c fixed   →   D(tanh)(h[t]) * dh * c[t]
"""

from __future__ import annotations

from collections.abc import Callable

from tensorprog.errors import ProgramError
from tensorprog.language import syntax
from tensorprog.program.typing import is_zero

ONE = syntax.Number("1")
ZERO = syntax.Number("0")

Direction = Callable[[syntax.Expr], syntax.Expr | None]


def directional(e: syntax.Expr, direction: Direction) -> syntax.Expr:
    """d/dε of e where each reference r moves by `direction(r)`·ε (None: it is no reference that moves).

    Zeros and ones are simplified away. Raises ProgramError for expressions that have no derivative here.
    """
    moved = direction(e)
    if moved is not None:
        return moved
    match e:
        case syntax.Number() | syntax.Name() | syntax.Index():
            return ZERO
        case syntax.Negate(operand):
            return negated(directional(operand, direction))
        case syntax.Binary("+" | "-" as op, left, right):
            a, b = directional(left, direction), directional(right, direction)
            return plus(a, b if op == "+" else negated(b))
        case syntax.Binary("*", left, right):
            return plus(
                times(directional(left, direction), right), times(left, directional(right, direction))
            )
        case syntax.Binary("/", left, right):
            a, b = directional(left, direction), directional(right, direction)
            first = over(a, right)
            if is_zero(b):
                return first
            square = syntax.Binary("**", right, syntax.Number("2"))
            return plus(first, negated(over(times(left, b), square)))
        case syntax.Binary("**", base, exponent):
            if not is_zero(directional(exponent, direction)):
                raise ProgramError("the derivative of a power with a variable exponent is not supported", e.span)
            inner = directional(base, direction)
            if is_zero(inner):
                return ZERO
            if isinstance(exponent, syntax.Number) and exponent.text.isdigit():
                k = int(exponent.text)
                lower: syntax.Expr = base if k == 2 else syntax.Binary("**", base, syntax.Number(str(k - 1)))
                return times(times(exponent, lower if k > 1 else ONE), inner)
            lower = syntax.Binary("**", base, syntax.Binary("-", exponent, ONE))
            return times(times(exponent, lower), inner)
        case syntax.Call("LinComb" | "Nonlin", (operand,)):
            return directional(operand, direction)
        case syntax.Call(name, arguments, keywords) if name not in ("MatMul", "Moment", "Trsp", "layernorm"):
            return _chain(name, arguments, keywords, direction, e)
        case syntax.DerivativeCall(function, argument, arguments, keywords):
            return _chain(syntax.DerivativeOf(function, argument), arguments, keywords, direction, e)
        case syntax.Conditional(then, condition, otherwise):
            a, b = directional(then, direction), directional(otherwise, direction)
            return ZERO if is_zero(a) and is_zero(b) else syntax.Conditional(a, condition, b)
        case syntax.Guard(value, otherwise):
            a, b = directional(value, direction), directional(otherwise, direction)
            return ZERO if is_zero(a) and is_zero(b) else syntax.Guard(a, b)
        case syntax.Reduction("sum" | "mean", _, body):
            inner = directional(body, direction)
            return ZERO if is_zero(inner) else syntax.Reduction(e.function, e.binders, inner, e.keywords)
        case syntax.Bracket() | syntax.Call("Moment" | "MatMul"):
            return ZERO
    raise ProgramError("the derivative of this is not supported", e.span)


def _chain(function, arguments, keywords, direction: Direction, e) -> syntax.Expr:
    total: syntax.Expr = ZERO
    for k, a in enumerate(arguments):
        inner = directional(a, direction)
        if not is_zero(inner):
            position = None if len(arguments) == 1 else k + 1
            slope = syntax.DerivativeCall(function, position, arguments, keywords, span=e.span)
            total = plus(total, times(slope, inner))
    return total


def plus(a: syntax.Expr, b: syntax.Expr) -> syntax.Expr:
    if is_zero(a):
        return b
    if is_zero(b):
        return a
    if isinstance(b, syntax.Negate):
        return syntax.Binary("-", a, b.operand)
    return syntax.Binary("+", a, b)


def times(a: syntax.Expr, b: syntax.Expr) -> syntax.Expr:
    if is_zero(a) or is_zero(b):
        return ZERO
    if a == ONE:
        return b
    return a if b == ONE else syntax.Binary("*", a, b)


def over(a: syntax.Expr, b: syntax.Expr) -> syntax.Expr:
    return ZERO if is_zero(a) else a if b == ONE else syntax.Binary("/", a, b)


def negated(a: syntax.Expr) -> syntax.Expr:
    if is_zero(a):
        return a
    return a.operand if isinstance(a, syntax.Negate) else syntax.Negate(a)
