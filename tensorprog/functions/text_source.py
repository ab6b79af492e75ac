"""An expression as it would be written in a .netsor text."""

from __future__ import annotations

import sympy
from sympy.printing.str import StrPrinter

from tensorprog.functions.decimals import decimals
from tensorprog.functions.registry import by_head


class _TextPrinter(StrPrinter):
    def _print_Float(self, expr):
        value = float(expr)
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)

    def _print_Exp1(self, expr):
        return "exp(1)"

    def _print_Function(self, expr):
        function = by_head(expr.func)
        if function is None:
            return super()._print_Function(expr)
        count = len(expr.args) - len(function.parameters)
        arguments = [self._print(argument) for argument in expr.args[:count]]
        for (keyword, default), value in zip(function.parameters, expr.args[count:], strict=True):
            if value != default:
                arguments.append(f"{keyword} = {self._print(value)}")
        return f"{function.name}({', '.join(arguments)})"


for _head in ("erf", "tanh", "sin", "cos", "exp", "log", "ExpBase", "atan"):
    setattr(_TextPrinter, f"_print_{_head}", _TextPrinter._print_Function)


def text(expr: sympy.Expr) -> str:
    """The expression in .netsor syntax; it parses back to the same function: `relu(x)`, `x**2`, `exp(-x)/2`."""
    return _TextPrinter().doprint(decimals(sympy.sympify(expr)))
