"""An expression in LaTeX."""

from __future__ import annotations

import sympy
from sympy.printing.latex import LatexPrinter

from tensorprog.functions.decimals import rounded
from tensorprog.functions.registry import by_head


class _LatexPrinter(LatexPrinter):
    def _print_Function(self, expr, exp=None):
        function = by_head(expr.func)
        if function is None or not function.latex:
            return super()._print_Function(expr, exp)
        arguments = [self._print(argument) for argument in expr.args]
        body = function.latex.format(*arguments, all=", ".join(arguments))
        return body if exp is None else rf"\left({body}\right)^{{{exp}}}"


def latex(expr: sympy.Expr) -> str:
    """The expression in LaTeX, with the names of the functions as in the papers."""
    return _LatexPrinter().doprint(rounded(sympy.sympify(expr)))
