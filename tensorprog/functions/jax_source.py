"""Readable JAX source of an expression."""

from __future__ import annotations

import re
from collections.abc import Mapping

import sympy
from sympy.core.function import AppliedUndef
from sympy.printing.str import StrPrinter

from tensorprog.functions.decimals import rounded
from tensorprog.functions.registry import by_head
from tensorprog.functions.stable import stable


class _JaxPrinter(StrPrinter):
    """Numbers become Python literals, which are weakly typed and never upcast a float32 array."""

    def __init__(self, symbols: Mapping[sympy.Symbol, str]):
        super().__init__()
        self._symbols = symbols

    def _print_Symbol(self, expr):
        return self._symbols.get(expr, expr.name)

    _print_Dummy = _print_Symbol

    def _print_Float(self, expr):
        return repr(float(expr))

    def _print_Pi(self, expr):
        return "jnp.pi"

    def _print_Exp1(self, expr):
        return "jnp.exp(1.0)"

    def _print_NaN(self, expr):
        return "jnp.nan"

    def _print_Pow(self, expr, rational=False):
        base, exponent = expr.args
        if exponent == sympy.Rational(1, 2):
            return f"jnp.sqrt({self._print(base)})"
        if exponent == -sympy.Rational(1, 2):
            return f"1/jnp.sqrt({self._print(base)})"
        if exponent.is_Rational and not exponent.is_Integer:
            return f"{self.parenthesize(base, 70, strict=False)}**({float(exponent)!r})"
        return super()._print_Pow(expr, rational)

    def _print_Function(self, expr):
        arguments = [self._print(argument) for argument in expr.args]
        function = by_head(expr.func)
        if function is None:
            if isinstance(expr, AppliedUndef) or getattr(expr, "runtime", False):
                # floats, since an integer has no derivative in JAX
                numbers = [f"{code}.0" if a.is_Integer else code for a, code in zip(expr.args, arguments, strict=True)]
                return f"{expr.func.__name__}({', '.join(numbers)})"
            raise ValueError(f"no JAX source is known for {expr.func.__name__}")
        return function.jax(*arguments) if callable(function.jax) else _fill(function.jax, arguments)

    def _print_floor(self, expr):
        return f"({self.parenthesize(expr.args[0], 50)} // 1)"

    def _print_Mod(self, expr):
        left, right = (self.parenthesize(a, 70) for a in expr.args)
        return f"({left} % {right})"

    def _print_Relational(self, expr):
        raise ValueError(f"a condition on random variables has no JAX source: {expr}")


for _head in ("erf", "tanh", "sin", "cos", "exp", "log", "ExpBase", "atan"):
    setattr(_JaxPrinter, f"_print_{_head}", _JaxPrinter._print_Function)


def _fill(template: str, arguments: list[str]) -> str:
    """Put arguments in; bare in a call or after a comma, in parentheses next to an operator."""
    wrapped = [
        a if a.isidentifier() or not _beside_operator(template, i) else f"({a})" for i, a in enumerate(arguments)
    ]
    return template.format(*wrapped)


def _beside_operator(template: str, index: int) -> bool:
    return f"{{{index}}} *" in template or f"* {{{index}}}" in template


def jax_code(expr: sympy.Expr, names: Mapping[sympy.Symbol, str]) -> str:
    """JAX source of an expression, using only `jnp` and `jax`; `names` gives the code of each Symbol.

    Sound in float32 and float64: no overflow inside softplus, silu or their derivatives, and a float32 array stays
    float32. Raises ValueError for a function that has no JAX source, and for a number that no float holds.
    """
    codes = {symbol: code if _is_atom(code) else f"({code})" for symbol, code in names.items()}
    return _JaxPrinter(codes).doprint(rounded(stable(sympy.sympify(expr))))


def _is_atom(code: str) -> bool:
    """Whether code can stand next to an operator: a name, a literal, or one closed bracket such as f(x) or a[i]."""
    if code.isidentifier() or code.replace(".", "", 1).isdigit():
        return True
    head = re.match(r"[\w.]*", code).end()  # type: ignore[union-attr]
    depth = 0
    for i, character in enumerate(code[head:], head):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and i < len(code) - 1:
            return False
    return head < len(code) and code[head] in "(["
