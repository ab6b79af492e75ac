"""Laws that a program cannot have, and the N(mean, variance) that does the same between widths.

~ U(-1, 1)      has the variance of N(0, 1/3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from tensorprog.language.printer import print_expression
from tensorprog.language.syntax import Binary, Call, Expr, Negate, Number

_UNIVERSAL = (
    "write {}, which has the same mean and variance: a matrix between widths, A(n, m), has no more influence on the "
    "limit; the law of a vector, or of weights on data, has, and only a Gaussian one is derived"
)


def gaussian_instead(name: str, arguments: Sequence[Expr]) -> str | None:
    """A sentence that says which Gaussian law stands for another one; None for names that are no known law."""
    kind = name.lower()
    counts = {"uniform": 2, "laplace": 2, "rademacher": 0, "normal": 2, "gaussian": 2}
    kind = {"u": "uniform", "unif": "uniform"}.get(kind, kind)
    if counts.get(kind) != len(arguments):
        return None
    if kind in ("normal", "gaussian"):
        mean, spread = arguments
        return f"a law is N(mean, variance), with the variance in second place: {_law(mean, _times(spread, spread))}"
    if kind == "rademacher":
        return _UNIVERSAL.format("N(0, 1)")
    first, second = arguments
    if kind == "laplace":
        law = _law(first, _times(Number("2"), _times(second, second)))
    elif first == Negate(second):
        law = _law(Number("0"), _folded("/", _times(second, second), Number("3")))
    else:
        width = _folded("-", second, first)
        mean = _folded("/", _folded("+", first, second), Number("2"))
        law = _law(mean, _folded("/", _times(width, width), Number("12")))
    return _UNIVERSAL.format(law)


def _law(mean: Expr, variance: Expr) -> str:
    return f"N({print_expression(mean)}, {print_expression(variance)})".replace(" / ", "/")


def _times(a: Expr, b: Expr) -> Expr:
    if isinstance(a, Call) and a.function == "sqrt" and a == b and len(a.arguments) == 1:
        return a.arguments[0]
    return Binary("**", a, Number("2")) if a == b and _value(a) is None else _folded("*", a, b)


def _folded(op: str, a: Expr, b: Expr) -> Expr:
    """`a op b`, computed where both are numbers."""
    x, y = _value(a), _value(b)
    operations: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
        "+": lambda x, y: x + y,
        "-": lambda x, y: x - y,
        "*": lambda x, y: x * y,
        "/": lambda x, y: x / y,
    }
    if x is not None and y is not None:
        return _number(operations[op](x, y))
    return Binary(op, a, b)


def _value(e: Expr) -> Fraction | None:
    match e:
        case Number(text):
            return Fraction(text)
        case Negate(operand):
            inner = _value(operand)
            return None if inner is None else -inner
        case Binary("/", left, right):
            a, b = _value(left), _value(right)
            return None if a is None or not b else a / b
    return None


def _number(value: Fraction) -> Expr:
    whole = Number(str(abs(value.numerator)))
    size: Expr = whole if value.denominator == 1 else Binary("/", whole, Number(str(value.denominator)))
    return Negate(size) if value < 0 else size
