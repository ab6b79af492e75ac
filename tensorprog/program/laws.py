"""The law of a random variable, and what it contributes as the widths go to infinity (language: Declarations).

For W in A(n, m) with entries multiplier · N(mean, variance), the NNGP carries s_W = lim m·multiplier²·variance
and the NTK lim m·multiplier² (Tensor Programs I, section 5; II, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from tensorprog.errors import ProgramError, Span
from tensorprog.language import syntax
from tensorprog.program.ir import Law, Program
from tensorprog.program.scope import Scope, at_point, finite, points, size_symbol, substituted
from tensorprog.program.types import Matrix, Process, Type

WIDTH = size_symbol("n")


@dataclass(frozen=True)
class Rate:
    """A quantity that goes like `limit` · n^exponent.

    exponent: infinite for what is faster than any power.
    slow: a factor such as log(n), slower than any power, that goes to 0 or infinity as `limit` then does; else 1.
    """

    exponent: sympy.Expr
    limit: sympy.Expr
    slow: sympy.Expr = sympy.Integer(1)

    @property
    def finite(self) -> bool:
        """Whether it has a limit and does not vanish; what is zero at every width counts as finite."""
        return self.exponent == 0 and self.slow == 1

    @property
    def grows(self) -> bool:
        return bool(self.exponent > 0) or (self.exponent == 0 and self.slow != 1 and self.limit != 0)

    def __str__(self) -> str:
        e = self.exponent
        if self.slow != 1:
            return f"like {WIDTH**e * self.slow}"
        if e == 0:
            return "like a constant"
        if e.is_infinite:
            return "faster than any power of n"
        size = abs(e)
        power = "n" if size == 1 else f"n^{size}" if size.is_Integer else f"n^({size})"
        if size == sympy.Rational(1, 2):
            power = "sqrt(n)"
        return f"like {power}" if e > 0 else f"like 1/{power}"


def growth(e: sympy.Expr, widths: dict[str, sympy.Expr] | None = None) -> Rate:
    """How an expression in the widths behaves as n → ∞.

    Raises ProgramError, without a place, where it does not go like a power of n, up to factors slower than any.
    """
    ratios = {size_symbol(name): ratio * WIDTH for name, ratio in (widths or {}).items()}
    e = sympy.powdenest(sympy.simplify(e.subs(ratios, simultaneous=True)), force=True)
    if e == 0 or WIDTH not in e.free_symbols:
        return Rate(sympy.Integer(0), e)
    exponent = sympy.simplify(WIDTH * e.diff(WIDTH) / e)
    if WIDTH in exponent.free_symbols:
        exponent = _limit(exponent, e)
    if exponent in (sympy.oo, -sympy.oo):
        return Rate(exponent, sympy.oo if exponent == sympy.oo else sympy.Integer(0))
    if not exponent.is_number or not exponent.is_finite or not exponent.is_real:
        raise _no_rate(e)
    leading = sympy.simplify(e / WIDTH**exponent)
    if WIDTH not in leading.free_symbols:
        return Rate(exponent, leading)
    limit = _limit(leading, e)
    if limit == 0 or limit.has(sympy.oo, -sympy.oo, sympy.zoo):
        return Rate(exponent, limit, leading.as_independent(WIDTH, as_Add=False)[1])
    return Rate(exponent, limit)


def _limit(e: sympy.Expr, whole: sympy.Expr) -> sympy.Expr:
    try:
        result = sympy.limit(e, WIDTH, sympy.oo)
    except (NotImplementedError, ValueError, TypeError, ArithmeticError):
        raise _no_rate(whole) from None
    if result.has(sympy.Limit, sympy.AccumBounds, sympy.nan) or WIDTH in result.free_symbols:
        raise _no_rate(whole)
    return result


def _no_rate(e: sympy.Expr) -> ProgramError:
    others = sorted(str(s) for s in e.free_symbols - {WIDTH})
    depends = f" at every {' and '.join(others)}" if others else ""
    return ProgramError(f"{e} does not go like a power of n as the width goes to infinity{depends}")


def read_law(law: syntax.Law, t: Type, scope: Scope, span: Span) -> Law:
    """The law in sympy, checked to have a limit.

    Raises ProgramError where it blows up or vanishes with the width.
    """
    mean, variance = scope.number(law.mean), scope.number(law.variance)
    multiplier = sympy.Integer(1)
    if law.multiplier is not None:
        factor = scope.number(law.multiplier)
        if law.divides and factor == 0:
            raise ProgramError("division by zero", law.multiplier.span)
        multiplier = 1 / factor if law.divides else factor
    parts = [(mean, law.mean), (variance, law.variance), (multiplier, law.multiplier or law.variance)]
    mean, variance, multiplier = (_settled(e, scope, at.span) for e, at in parts)
    _check_values(((mean, law.mean), (variance, law.variance), (multiplier, law.multiplier or law.variance)), scope)
    result = Law(mean, variance, multiplier)
    _check_scale(result, t, scope, law, law.span if law.span.line else span)
    return result


def sizes_in_laws(program: Program) -> dict[str, str]:
    """The sizes read off the data on which laws depend, each with a family that has such a law.

    Both arguments of a kernel share their parameters, so that they must agree in these sizes.
    """
    found: dict[str, str] = {}
    for f in program.families.values():
        if f.law is not None:
            symbols = f.law.mean.free_symbols | f.law.variance.free_symbols | f.law.multiplier.free_symbols
            for name in program.open_sizes:
                if size_symbol(name) in symbols:
                    found.setdefault(name, f.name)
    return found


def _settled(e: sympy.Expr, scope: Scope, span: Span) -> sympy.Expr:
    """The expression with the values of the parameters in exponents of widths: a rate is a number.

    Raises ProgramError where an exponent depends on an index or on a parameter without a value.
    """
    sizes = {size_symbol(name) for name in scope.widths}
    values = scope.values()
    changes = {}
    for power in e.atoms(sympy.Pow):
        base, exponent = power.as_base_exp()
        if not base.free_symbols & sizes or not exponent.free_symbols:
            continue
        for s in sorted(exponent.free_symbols, key=str):
            if s not in values and s not in sizes:
                what = "an index" if s.name in scope.indices else "a parameter without a value"
                raise ProgramError(f"this law goes like another power of the width for every '{s}', {what}", span)
        changes[power] = base ** substituted(exponent, values, span)
    return e.xreplace(changes) if changes else e


def _check_values(parts: tuple[tuple[sympy.Expr, syntax.Expr], ...], scope: Scope) -> None:
    """Numbers at the known parameters and, as far as the ranges are known, at every index; a variance of 0 or more."""
    values = scope.values()
    for point in points(scope, set().union(*(e.free_symbols for e, _ in parts))):
        where = at_point(point)
        for k, (e, at) in enumerate(parts):
            try:
                value = finite(substituted(e, {**values, **point}, at.span), at.span)
            except ProgramError as error:
                raise ProgramError(f"{error.message}{where}", error.span) from None
            if k == 1 and value.is_number and value.is_negative:
                raise ProgramError(f"the variance {_shown(value)} is negative{where}", at.span)


def _shown(value: sympy.Expr) -> str:
    """A number as people write it: -1 for a float too, and a decimal for a long fraction."""
    text = str(value)
    return text if len(text) <= 12 and not value.has(sympy.Float) else f"{float(value):.6g}"


def _rate(e: sympy.Expr, scope: Scope, span: Span) -> Rate:
    """`growth` at the parameters that are known."""
    try:
        return growth(substituted(e, scope.values(), span), scope.widths)
    except ProgramError as error:
        raise ProgramError(error.message, error.span or span) from None


def _check_scale(law: Law, t: Type, scope: Scope, written: syntax.Law, span: Span) -> None:
    second = law.multiplier**2 * law.variance
    sign = _rate(law.variance, scope, written.variance.span).limit
    if not isinstance(t, Matrix):
        if sign.is_negative:
            raise ProgramError("the variance is negative at large widths", written.variance.span)
        scalar = isinstance(t, Process)
        if scalar and law.mean != 0:
            raise ProgramError(
                "a random scalar has mean 0 here: the output is a Gaussian process of mean zero",
                written.mean.span,
                hint="take the mean from the targets of the regression",
            )
        for what, e in (("variance", second), ("mean", law.multiplier * law.mean)):
            rate = _rate(e, scope, span)
            # One that vanishes with the width may be a readout, which a sum over n coordinates makes up for.
            if rate.grows or rate.slow != 1 or (scalar and not rate.finite):
                verb = f"grows {rate}" if rate.grows else f"vanishes {rate}"
                kind = "scalar" if scalar else "vector"
                raise ProgramError(
                    f"the {what} of this {kind} {verb} as the width goes to infinity: a {kind}'s law is O(1)", span
                )
        return
    if law.mean != 0:
        raise ProgramError("the entries of a matrix have mean 0 here", span, hint="add a vector with a mean instead")
    fan_in = t.columns
    if fan_in in scope.widths:
        if sign.is_negative:
            raise ProgramError("the variance is negative at large widths", written.variance.span)
        rate = _rate(second * size_symbol(fan_in), scope, span)
        if rate.finite:
            return
        verb, hint = "vanishes", None
        if rate.grows:
            verb, hint = "blows up", f"divide by the fan-in: N(0, 1) / sqrt({fan_in})"
        raise ProgramError(
            f"variance × multiplier² must be O(1/{fan_in}), the fan-in: with this law W @ x {verb} {rate}",
            span,
            hint=hint,
        )
    if not _rate(second, scope, span).finite:
        raise ProgramError(
            f"variance × multiplier² must be O(1/{fan_in}), the fan-in, which is finite: the width does not belong "
            "here",
            span,
        )
    data = size_symbol(fan_in)
    values = {WIDTH: sympy.Integer(1), **scope.values()}
    if growth(substituted(law.variance, values, span).subs(data, WIDTH)).limit.is_negative:
        raise ProgramError(f"the variance is negative at large {fan_in}", written.variance.span)
    rate = growth(substituted(second * data, values, span).subs(data, WIDTH))
    if rate.grows:
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
    return scale, part_trained(tangent)


def part_trained(rate: Rate) -> sympy.Expr | Rate:
    """The limit of multiplier² times what it is summed over, 0 where it vanishes; the rate itself where it diverges."""
    if rate.finite:
        return rate.limit
    return rate if rate.grows else sympy.Integer(0)
