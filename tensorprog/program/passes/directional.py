"""The derivative of an instruction along a direction, as syntax.

Nonlin(tanh(h[t]) * c[t])   with h[t] moving by dh[t], c fixed    →   D(tanh)(h[t]) * c[t] * dh[t]
LinComb(sum[j = 1..k](a[j] * x[j]))   with x[j] moving by dx[j]   →   sum[j = 1..k](a[j] * dx[j])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tensorprog.language import syntax
from tensorprog.program.passes.arithmetic import ZERO, add, is_number, multiply, negate, subtract
from tensorprog.program.passes.derivative import derivative, references

Direction = Callable[[syntax.Expr], syntax.Expr | None]


def directional(e: syntax.Expr, direction: Direction) -> syntax.Expr:
    """d/dε of e where each reference r moves by `direction(r)`·ε (None: it does not move).

    Raises ProgramError for what has no derivative as an expression.
    """
    match e:
        case syntax.Name() | syntax.Index():
            return direction(e) or ZERO
        case syntax.Call("LinComb" | "Nonlin", (inner,)):
            return directional(inner, direction)
        case syntax.Call("MatMul" | "Moment") | syntax.Number():
            return ZERO
        case syntax.Negate(operand):
            return negate(directional(operand, direction))
        case syntax.Binary("+", left, right):
            return add(directional(left, direction), directional(right, direction))
        case syntax.Binary("-", left, right):
            return subtract(directional(left, direction), directional(right, direction))
        case syntax.Conditional(then, _, otherwise):
            a, b = directional(then, direction), directional(otherwise, direction)
            return ZERO if is_number(a, 0) and is_number(b, 0) else replace(e, then=a, otherwise=b)
        case syntax.Guard(value, otherwise):
            a, b = directional(value, direction), directional(otherwise, direction)
            return ZERO if is_number(a, 0) and is_number(b, 0) else replace(e, value=a, otherwise=b)
        case syntax.Reduction("sum" | "mean", _, body):
            inner = directional(body, direction)
            return ZERO if is_number(inner, 0) else replace(e, body=inner)
        case syntax.Binary("*", left, right) if _reduces(right):
            return multiply(left, directional(right, direction))
        case syntax.Binary("*" | "/", left, right) if _reduces(left):
            inner = directional(left, direction)
            return ZERO if is_number(inner, 0) else replace(e, left=inner)
    total: syntax.Expr = ZERO
    for r in references(e):
        moved = directional(r, direction)
        if not is_number(moved, 0):
            total = add(total, multiply(derivative(e, r), moved))
    return total


def _reduces(e: syntax.Expr) -> bool:
    """Whether e is a sum over an index, or one times numbers and C's: linear, with C's in front."""
    match e:
        case syntax.Reduction("sum" | "mean"):
            return True
        case syntax.Binary("+" | "-", left, right):
            return _reduces(left) or _reduces(right)
        case syntax.Binary("*", left, right):
            return _reduces(left) or _reduces(right)
        case syntax.Binary("/", left, _) | syntax.Negate(left):
            return _reduces(left)
    return False
