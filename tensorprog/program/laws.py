"""The law of a random variable, and what it contributes as the widths go to infinity (language: Declarations).

For W in A(n, m) with entries multiplier · N(mean, variance), the NNGP carries s_W = lim m·multiplier²·variance
and the NTK lim m·multiplier² (Tensor Programs I, section 5; II, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from tensorprog.errors import ProgramError, Span
from tensorprog.language import syntax
from tensorprog.program.ir import Law
from tensorprog.program.scope import Scope, size_symbol
from tensorprog.program.types import Matrix, Type

WIDTH = size_symbol("n")


@dataclass(frozen=True)
class Rate:
    """A quantity that goes like `limit` · n^exponent."""

    exponent: sympy.Expr
    limit: sympy.Expr

    @property
    def finite(self) -> bool:
        return self.exponent == 0

    def __str__(self) -> str:
        e = self.exponent
        if e == 0:
            return "like a constant"
        size = abs(e)
        power = "n" if size == 1 else f"n^{size}" if size.is_Integer else f"n^({size})"
        if size == sympy.Rational(1, 2):
            power = "sqrt(n)"
        return f"like {power}" if e > 0 else f"like 1/{power}"


def growth(e: sympy.Expr, widths: dict[str, sympy.Expr] | None = None) -> Rate:
    """How an expression in the widths behaves as n → ∞."""
    ratios = {size_symbol(name): ratio * WIDTH for name, ratio in (widths or {}).items()}
    e = sympy.powdenest(sympy.simplify(e.subs(ratios, simultaneous=True)), force=True)
    if e == 0 or WIDTH not in e.free_symbols:
        return Rate(sympy.Integer(0), e)
    exponent = sympy.simplify(WIDTH * e.diff(WIDTH) / e)
    if WIDTH in exponent.free_symbols:
        exponent = sympy.limit(exponent, WIDTH, sympy.oo)
    leading = sympy.simplify(e / WIDTH**exponent)
    if WIDTH in leading.free_symbols:
        leading = sympy.limit(leading, WIDTH, sympy.oo)
    return Rate(exponent, leading)


def read_law(law: syntax.Law, t: Type, scope: Scope, span: Span) -> Law:
    """The law in sympy, checked to have a limit.

    Raises ProgramError where it blows up or vanishes with the width, or depends on a size read off the data.
    """
    mean, variance = scope.number(law.mean), scope.number(law.variance)
    multiplier = sympy.Integer(1)
    if law.multiplier is not None:
        factor = scope.number(law.multiplier)
        if law.divides and factor == 0:
            raise ProgramError("division by zero", law.multiplier.span)
        multiplier = 1 / factor if law.divides else factor
    for e, at in ((mean, law.mean), (variance, law.variance), (multiplier, law.multiplier or law.variance)):
        for s in sorted(e.free_symbols, key=str):
            p = scope.parameters.get(s.name)
            if p is not None and p.kind == "size":
                raise ProgramError(
                    f"a law may not depend on '{s.name}', which is read off the data: both arguments of a kernel "
                    "share their parameters",
                    at.span,
                )
    known = variance.xreplace(
        {s: scope.parameters[s.name].value for s in variance.free_symbols if _known(s.name, scope)}
    )
    if known.is_number and known.is_negative:
        raise ProgramError(f"the variance {known} is negative", law.variance.span)
    result = Law(mean, variance, multiplier)
    _check_scale(result, t, scope, law.span if law.span.line else span)
    return result


def _known(name: str, scope: Scope) -> bool:
    p = scope.parameters.get(name)
    return p is not None and isinstance(p.value, sympy.Expr)


def _check_scale(law: Law, t: Type, scope: Scope, span: Span) -> None:
    second = law.multiplier**2 * law.variance
    if not isinstance(t, Matrix):
        for what, e in (("variance", second), ("mean", law.multiplier * law.mean)):
            rate = growth(e, scope.widths)
            if rate.exponent > 0:
                raise ProgramError(
                    f"the {what} of this vector grows {rate} as the width goes to infinity: a vector's law is O(1)",
                    span,
                )
        return
    if law.mean != 0:
        raise ProgramError("the entries of a matrix have mean 0 here", span, hint="add a vector with a mean instead")
    fan_in = t.columns
    if fan_in in scope.widths:
        rate = growth(second * size_symbol(fan_in), scope.widths)
        if rate.finite:
            return
        verb, hint = ("blows up", None) if rate.exponent > 0 else ("vanishes", None)
        if rate.exponent > 0:
            hint = f"divide by the fan-in: N(0, 1) / sqrt({fan_in})"
        raise ProgramError(
            f"variance × multiplier² must be O(1/{fan_in}), the fan-in: with this law W @ x {verb} {rate}", span, hint=hint
        )
    if growth(second, scope.widths).exponent != 0:
        raise ProgramError(
            f"variance × multiplier² must be O(1/{fan_in}), the fan-in, which is finite: the width does not belong here",
            span,
        )
    data = size_symbol(fan_in)
    rate = growth((second * data).subs(WIDTH, 1).subs(data, WIDTH))
    if rate.exponent > 0:
        raise ProgramError(
            f"variance × multiplier² must be O(1/{fan_in}), the fan-in",
            span,
            hint=f"divide by the fan-in: N(0, 1) / sqrt({fan_in})",
        )


def nngp_scale(law: Law, t: Type, widths: dict[str, sympy.Expr]) -> tuple[sympy.Expr, sympy.Expr | Rate]:
    """(factor, rate): a MatMul's covariance is variance-part · E[x x'], a vector's is itself.

    The first is lim fan-in·multiplier²·variance (1 for the fan-in of a vector); the second is
    lim fan-in·multiplier², or its Rate where that diverges (the NTK of a standard parametrization).
    """
    fan_in = size_symbol(t.columns) if isinstance(t, Matrix) else sympy.Integer(1)
    scale = growth(fan_in * law.multiplier**2 * law.variance, widths).limit
    tangent = growth(fan_in * law.multiplier**2, widths)
    return scale, tangent.limit if tangent.exponent <= 0 and tangent.finite else tangent
