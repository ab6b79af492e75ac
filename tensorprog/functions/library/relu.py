"""relu and leaky_relu."""

import numpy as np
import sympy

from tensorprog.functions.library.abs import Absolute
from tensorprog.functions.library.step import Step
from tensorprog.functions.registry import Function, RealFunction, register


class Relu(RealFunction):
    """max(x, 0), with derivative step (so 1/2 at 0)."""

    @classmethod
    def eval(cls, x):
        if x.is_number and x.is_real:
            return x if x.is_positive else sympy.Integer(0)

    def _eval_is_nonnegative(self):
        return True

    def fdiff(self, argindex=1):
        return Step(self.args[0])


class LeakyRelu(RealFunction):
    """x for x > 0, slope·x for x < 0."""

    @classmethod
    def eval(cls, x, slope):
        if slope == 1:
            return x
        if slope == 0:
            return Relu(x)
        if x.is_number and x.is_real:
            return x if x.is_positive else slope * x

    def fdiff(self, argindex=1):
        x, slope = self.args
        return Step(x) + slope * Step(-x) if argindex == 1 else -Relu(-x)


_SLOPE = sympy.Rational(1, 100)


def _leaky_relu(x, slope=_SLOPE):
    return LeakyRelu(x, slope)


register(
    Function(
        "relu", (1, 1), Relu, "max(x, 0)", head=Relu, jax="jnp.maximum({0}, 0)", numpy=lambda x: np.maximum(x, 0),
        latex=r"\operatorname{{relu}}\left({0}\right)", kinks=(sympy.Integer(0),),
        definition=lambda x: (x + Absolute(x)) / 2,
    )
)  # fmt: skip
register(
    Function(
        "leaky_relu", (1, 1), _leaky_relu, "x for x > 0, slope*x for x < 0", (("slope", _SLOPE),),
        head=LeakyRelu, jax="(jnp.maximum({0}, 0) + {1} * jnp.minimum({0}, 0))",
        numpy=lambda x, slope: np.where(x > 0, x, slope * x),
        latex=r"\operatorname{{leaky\_relu}}_{{{1}}}\left({0}\right)", kinks=(sympy.Integer(0),),
        definition=lambda x, slope: (1 + slope) / 2 * x + (1 - slope) / 2 * Absolute(x),
    )
)  # fmt: skip
