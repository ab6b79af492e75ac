"""sigmoid (logistic), silu and softplus."""

import numpy as np
import scipy.special
import sympy

from tensorprog.functions.registry import Function, RealFunction, register


class Sigmoid(RealFunction):
    """1/(1 + exp(-x))."""

    @classmethod
    def eval(cls, x):
        if x.is_zero:
            return sympy.Rational(1, 2)

    def _eval_is_positive(self):
        return True

    def fdiff(self, argindex=1):
        # Not s(1 - s): this form keeps its digits on both sides.
        x = self.args[0]
        return Sigmoid(x) * Sigmoid(-x)


class Silu(RealFunction):
    """x·sigmoid(x)."""

    @classmethod
    def eval(cls, x):
        if x.is_zero:
            return sympy.Integer(0)

    def fdiff(self, argindex=1):
        x = self.args[0]
        return Sigmoid(x) * (1 + x * Sigmoid(-x))


class Softplus(RealFunction):
    """log(1 + exp(x)), without overflow."""

    def _eval_is_positive(self):
        return True

    def fdiff(self, argindex=1):
        return Sigmoid(self.args[0])


register(
    Function(
        "sigmoid", (1, 1), Sigmoid, "logistic function 1/(1 + exp(-x))", head=Sigmoid, jax="jax.nn.sigmoid({0})",
        numpy=scipy.special.expit, latex=r"\sigma\left({0}\right)", growth="bounded",
        definition=lambda x: (1 + sympy.tanh(x / 2)) / 2,
    )
)  # fmt: skip
register(
    Function(
        "silu", (1, 1), Silu, "x*sigmoid(x)", head=Silu, jax="jax.nn.silu({0})",
        numpy=lambda x: x * scipy.special.expit(x), latex=r"\operatorname{{silu}}\left({0}\right)",
        definition=lambda x: x * (1 + sympy.tanh(x / 2)) / 2,
    )
)  # fmt: skip
register(
    Function(
        "softplus", (1, 1), Softplus, "log(1 + exp(x))", head=Softplus, jax="jax.nn.softplus({0})",
        numpy=lambda x: np.logaddexp(0, x), latex=r"\operatorname{{softplus}}\left({0}\right)",
        definition=lambda x: sympy.log(1 + sympy.exp(x)),
    )
)  # fmt: skip
