"""Whether the numbers of a program are finite, its conditions integers, and its calls complete."""

from __future__ import annotations

import sympy

from tensorprog.errors import ProgramError, Span
from tensorprog.index.affine import Affine
from tensorprog.index.rows import COMPARE
from tensorprog.language import syntax
from tensorprog.program.scope import (
    CORE,
    Scope,
    apply_definition,
    arithmetic,
    at_point,
    finite,
    points,
    substituted,
)
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Scalar


class Numbers:
    """The numbers in assignments are finite, conditions compare integers, functions get the arguments they take.

    Numbers are looked at with the parameters that are known and at every index, except in the branches of conditions
    that are still open and within `( … else … )`: what is not computed may be anything.
    """

    def __init__(self, scope: Scope):
        self.scope = scope

    def check(self, statements, live: bool = True) -> None:
        for s in statements:
            match s:
                case syntax.For(binders, body):
                    inner = live and not self._hides(binders)
                    with self.scope.binding(binders):
                        self.check(body, inner)
                case syntax.Assignment(_, indices, value):
                    bound = tuple(i for i in indices if isinstance(i, syntax.Binder))
                    inner = live and not self._hides(bound)
                    with self.scope.binding(bound):
                        self._value(value, inner)

    def _hides(self, binders) -> bool:
        return any(b.low is not None and b.name in self.scope.indices for b in binders)

    def _value(self, e: syntax.Expr, live: bool) -> sympy.Expr:
        """The expression in sympy, a Dummy for what is no number."""
        leaf = sympy.Dummy(real=True)
        match e:
            case syntax.Name(name):
                indexed = name in self.scope.ranges and name not in self.scope.indices
                return leaf if indexed else self.scope.number(e)
            case syntax.Number():
                return self.scope.number(e)
            case syntax.Negate(operand):
                return -self._value(operand, live)
            case syntax.Binary("@", _, right):
                self._value(right, live)
            case syntax.Binary(op, left, right):
                a, b = self._value(left, live), self._value(right, live)
                if op == "/" and live and not b.has(sympy.Dummy):
                    for point, value in self._at(b, right.span):
                        if value == 0:
                            raise ProgramError(f"division by zero{at_point(point)}", e.span)
                return self._checked(arithmetic(op, a, b, e.span), e.span, live)
            case syntax.Call(name, arguments, keywords):
                values = [self._value(a, live) for a in arguments]
                named = {k: self._value(v, live) for k, v in keywords}
                if name not in CORE and name != "layernorm":
                    return self._checked(self.scope.apply(name, values, named, e.span), e.span, live)
            case syntax.DerivativeCall(function, argument, arguments, keywords):
                values = [self._value(a, live) for a in arguments]
                named = {k: self._value(v, live) for k, v in keywords}
                derived = self.scope.derivative(function, argument, e.span)
                return self._checked(apply_definition(derived, values, named, e.span), e.span, live)
            case syntax.Conditional(then, condition, otherwise):
                holds = self._holds(condition)
                if holds is not None:
                    return self._value(then if holds else otherwise, live)
                self._value(then, False)
                self._value(otherwise, False)
            case syntax.Guard(inside, otherwise):
                self._value(inside, False)
                self._value(otherwise, False)
            case syntax.Reduction(_, binders, body, keywords):
                for _, v in keywords:
                    self._value(v, live)
                inner = live and not self._hides(binders)
                with self.scope.binding(binders):
                    self._value(body, inner)
            case syntax.Bracket(operands):
                for o in operands:
                    self._value(o, live)
        return leaf

    def _checked(self, value: sympy.Expr, span: Span, live: bool) -> sympy.Expr:
        if live and (value.free_symbols & self.scope.values().keys() or not value.has(sympy.Dummy)):
            for point, known in self._at(value, span):
                try:
                    finite(known, span)
                except ProgramError as error:
                    raise ProgramError(f"{error.message}{at_point(point)}", span) from None
        return sympy.Dummy(real=True) if value.has(sympy.Dummy) else value

    def _at(self, value: sympy.Expr, span: Span):
        values = self.scope.values()
        for point in points(self.scope, value.free_symbols):
            yield point, substituted(value, {**values, **point}, span)

    def _holds(self, c: syntax.Condition) -> bool | None:
        """Whether a condition holds; None where that depends on indices or on sizes that are open."""
        match c:
            case syntax.Not(operand):
                holds = self._holds(operand)
                return None if holds is None else not holds
            case syntax.And(left, right) | syntax.Or(left, right):
                both = (self._holds(left), self._holds(right))
                deciding = isinstance(c, syntax.Or)
                return deciding if deciding in both else None if None in both else not deciding
            case syntax.Comparison(op, left, right):
                difference = (self._integer(left) - self._integer(right)).substitute(self.scope.integers())
                if not difference.is_constant:
                    return None
                return COMPARE[op](difference.constant, 0)
        raise AssertionError(c)

    def _integer(self, e: syntax.Expr) -> Affine:
        try:
            return self.scope.affine(e)
        except ProgramError as error:
            for s in subexpressions(e):
                if isinstance(s, syntax.Name | syntax.Index) and s.name in self.scope.types:
                    t = self.scope.types[s.name]
                    what = "a C" if isinstance(t, Scalar) else str(t)
                    raise ProgramError(f"conditions compare integers; '{s.name}' is {what}", s.span) from None
            if "affine" in error.message or "integer" in error.message:
                raise ProgramError("conditions compare integers", error.span) from None
            raise
