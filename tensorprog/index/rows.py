"""Integer expressions and conditions at many points together: the values of indices in NumPy arrays.

2*i + 1 at i = [1 2 3]      [3 5 7]
i < 3 or i == T             [True True False], with T = 5
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import numpy as np

from tensorprog.errors import ProgramError
from tensorprog.language import syntax

Integers = int | np.ndarray
Lookup = Callable[[syntax.Name | syntax.Index], Integers | None]
"""The value of a name or of an entry of data; None where that is no integer here."""

LARGEST = 1 << 61  # integers beyond are refused, so that no sum of two overflows
COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def named(*values: Mapping[str, Integers]) -> Lookup:
    """Looks a name up in one mapping after another."""
    return lambda e: next((v[e.name] for v in values if e.name in v), None) if isinstance(e, syntax.Name) else None


def integer(e: syntax.Expr, value: Lookup) -> Integers:
    """The values of an expression; arrays broadcast. `/` rounds down.

    Raises ProgramError where it is no integer, is divided by less than 1, or grows too large.
    """
    match e:
        case syntax.Number(text) if text.isdigit():
            return int(text)
        case syntax.Name() | syntax.Index() if (found := value(e)) is not None:
            return found
        case syntax.Negate(operand):
            return -integer(operand, value)
        case syntax.Binary("+" | "-" | "*" as op, left, right):
            a, b = integer(left, value), integer(right, value)
            if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
                x, y = (int(np.max(np.abs(v))) if np.size(v) else 0 for v in (a, b))
                if (x * y if op == "*" else x + y) >= LARGEST or max(x, y) >= LARGEST:
                    raise ProgramError("this index is too large", e.span)
            return a + b if op == "+" else a - b if op == "-" else a * b
        case syntax.Binary("/" | "mod" as op, left, right):
            a, b = integer(left, value), integer(right, value)
            if not isinstance(b, int) or b < 1:
                what = "divided by" if op == "/" else "taken modulo"
                raise ProgramError(f"an index is {what} {b}, where a positive number is needed", right.span)
            return a // b if op == "/" else a % b
    raise ProgramError("an index or the end of a range is affine in loop indices and integer parameters", e.span)


def holds(c: syntax.Condition, value: Lookup) -> np.ndarray | bool:
    """Where a condition holds. Raises ProgramError as `integer` does."""
    match c:
        case syntax.Comparison(op, left, right):
            return COMPARE[op](integer(left, value), integer(right, value))
        case syntax.And(left, right):
            return np.logical_and(holds(left, value), holds(right, value))
        case syntax.Or(left, right):
            return np.logical_or(holds(left, value), holds(right, value))
        case syntax.Not(operand):
            return np.logical_not(holds(operand, value))
    raise AssertionError(c)
