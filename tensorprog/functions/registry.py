"""What a coordinatewise function is, and the table of those that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sympy


@dataclass(frozen=True)
class Function:
    """A coordinatewise function of the language.

    `symbolic(*args)` makes the expression: first the arguments, then the values of the parameters, positional or by
    keyword. A function that is only shorthand (`square`) has no `head`; the others name the sympy class that stands
    for them, how it is written in JAX, NumPy and LaTeX, and where it is not smooth.
    """

    name: str
    arguments: tuple[int, int | None]
    """Least and largest number of arguments; None: any number."""
    symbolic: Callable[..., sympy.Expr]
    description: str
    parameters: tuple[tuple[str, sympy.Expr], ...] = ()
    """Keyword and default of each parameter."""
    head: type | None = None
    jax: Callable[..., str] | str = ""
    """Template or callable: from the code of the arguments to JAX source."""
    numpy: Callable | None = None
    """The same on NumPy arrays; None where NumPy or SciPy has it under the head's name."""
    latex: str = ""
    kinks: tuple[sympy.Expr, ...] = ()
    """Values of the first argument where a derivative jumps or is singular."""
    jumps: tuple[sympy.Expr, ...] = ()
    """Values of the first argument where the function itself jumps."""
    growth: str = "linear"
    """Of the outermost function in its argument: bounded, logarithm, linear or exponential."""
    definition: Callable[..., sympy.Expr] | None = None
    """The same function in simpler ones: gelu by erf, leaky_relu by abs; what closed forms are found from."""


_BY_NAME: dict[str, Function] = {}
_BY_HEAD: dict[type, Function] = {}


def register(function: Function) -> Function:
    """Make a function known under its name and its sympy class."""
    if function.name in _BY_NAME:
        raise ValueError(f"two functions are named {function.name!r}")
    _BY_NAME[function.name] = function
    if function.head is not None:
        _BY_HEAD[function.head] = function
    return function


def names() -> tuple[str, ...]:
    """Names of all known functions, sorted."""
    return tuple(sorted(_BY_NAME))


def lookup(name: str) -> Function | None:
    """The function of that name, or None."""
    return _BY_NAME.get(name)


def by_head(head: type) -> Function | None:
    """The function that a sympy class stands for, or None."""
    return _BY_HEAD.get(head)


def head(name: str) -> type:
    """The sympy class of the function of that name, which must have one."""
    found = _BY_NAME[name].head
    assert found is not None
    return found


def heads() -> Sequence[Function]:
    """All functions that have a sympy class of their own."""
    return tuple(_BY_HEAD.values())


class RealFunction(sympy.Function):
    """Base of the sympy classes made here: real for real arguments, evaluated at numbers only."""

    def _eval_is_real(self):
        return True

    def _eval_evalf(self, precision):
        values = [argument.evalf(precision) for argument in self.args]
        if not all(value.is_Float or value.is_Integer for value in values):
            return None
        function = by_head(self.func)
        if function is None or function.definition is None:
            return None
        return function.definition(*values).evalf(precision)
