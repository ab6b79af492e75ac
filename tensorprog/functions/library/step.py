"""step and sign: the functions that jump."""

import numpy as np
import sympy

from tensorprog.functions.registry import Function, RealFunction, register


class Step(RealFunction):
    """1 for x > 0, 0 for x < 0 and 1/2 at 0, so that step(x) + step(-x) = 1 and step = (1 + sign)/2 everywhere."""

    @classmethod
    def eval(cls, x):
        if x.is_number and x.is_real:
            return sympy.Integer(1) if x.is_positive else sympy.Integer(0) if x.is_negative else sympy.Rational(1, 2)

    def fdiff(self, argindex=1):
        # Almost everywhere; the jump's delta is what `Facts.jumps` reports.
        return sympy.Integer(0)


class Sign(RealFunction):
    """-1, 0 or 1. sympy's own would differentiate into a DiracDelta."""

    @classmethod
    def eval(cls, x):
        if x.is_number and x.is_real:
            return sympy.Integer(1) if x.is_positive else sympy.Integer(-1) if x.is_negative else sympy.Integer(0)

    def fdiff(self, argindex=1):
        return sympy.Integer(0)


register(
    Function(
        "step", (1, 1), Step, "1 for x > 0, 0 for x < 0, 1/2 at 0", head=Step, jax="jnp.heaviside({0}, 0.5)",
        numpy=lambda x: np.heaviside(x, 0.5), latex=r"\operatorname{{step}}\left({0}\right)", jumps=(sympy.Integer(0),),
        growth="bounded", definition=lambda x: (1 + Sign(x)) / 2,
    )
)  # fmt: skip
register(
    Function(
        "sign", (1, 1), Sign, "-1 for x < 0, 0 at 0, 1 for x > 0", head=Sign, jax="jnp.sign({0})", numpy=np.sign,
        latex=r"\operatorname{{sign}}\left({0}\right)", jumps=(sympy.Integer(0),), growth="bounded",
    )
)  # fmt: skip
