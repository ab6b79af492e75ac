"""max and min of two or more arguments."""

import functools

import numpy as np
import sympy

from tensorprog.functions.library.abs import Absolute
from tensorprog.functions.library.step import Step
from tensorprog.functions.registry import Function, RealFunction, register


def _nested(operation):
    return lambda *codes: functools.reduce(lambda a, b: f"jnp.{operation}({a}, {b})", codes)


def _distinct(cls, arguments, best):
    distinct = list(dict.fromkeys(arguments))
    if all(a.is_number and a.is_real for a in distinct):
        return best(*distinct)
    if len(distinct) == 1:
        return distinct[0]
    return None if len(distinct) == len(arguments) else cls(*distinct)


class Maximum(RealFunction):
    """The largest argument; at a tie of two the derivative is shared equally."""

    nargs = None

    @classmethod
    def eval(cls, *arguments):
        return _distinct(cls, arguments, sympy.Max)

    def fdiff(self, argindex=1):
        own = self.args[argindex - 1]
        return sympy.Mul(*(Step(own - other) for i, other in enumerate(self.args) if i != argindex - 1))


class Minimum(RealFunction):
    """The smallest argument; at a tie of two the derivative is shared equally."""

    nargs = None

    @classmethod
    def eval(cls, *arguments):
        return _distinct(cls, arguments, sympy.Min)

    def fdiff(self, argindex=1):
        own = self.args[argindex - 1]
        return sympy.Mul(*(Step(other - own) for i, other in enumerate(self.args) if i != argindex - 1))


def _by_abs(sign):
    return lambda *args: functools.reduce(lambda a, b: (a + b + sign * Absolute(sympy.expand(a - b))) / 2, args)


register(
    Function(
        "max", (2, None), Maximum, "the largest of its arguments", head=Maximum, jax=_nested("maximum"),
        numpy=lambda *x: functools.reduce(np.maximum, x), latex=r"\max\left({all}\right)", definition=_by_abs(1),
    )
)  # fmt: skip
register(
    Function(
        "min", (2, None), Minimum, "the smallest of its arguments", head=Minimum, jax=_nested("minimum"),
        numpy=lambda *x: functools.reduce(np.minimum, x), latex=r"\min\left({all}\right)", definition=_by_abs(-1),
    )
)  # fmt: skip
