"""Numbers that are known by their value as the syntax that a program writes them with."""

from __future__ import annotations

import sympy

from tensorprog.errors import ProgramError
from tensorprog.functions import text
from tensorprog.language import syntax
from tensorprog.language.parser import parse_expression


def numeral(value: sympy.Expr | int) -> syntax.Expr:
    """A number, also of sizes and parameters, without places: `sqrt(H * W)`, `1 / 3`."""
    written = parse_expression(text(sympy.sympify(value)))
    assert written is not None
    return written


def setting_numeral(value: sympy.Expr | int) -> syntax.Expr:
    """The value of a parameter; where it is too long to be written, its nearest floating-point number."""
    try:
        written = parse_expression(str(value))
    except ProgramError:
        written = parse_expression(repr(float(value)))
    assert written is not None
    return written
