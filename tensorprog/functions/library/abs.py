"""abs."""

import numpy as np
import sympy

from tensorprog.functions.library.step import Sign
from tensorprog.functions.registry import Function, RealFunction, register


class Absolute(RealFunction):
    """|x|. sympy's own splits products and differentiates into complex conjugates where it cannot prove x real."""

    @classmethod
    def eval(cls, x):
        if x.is_number and x.is_real:
            return x if x.is_nonnegative else -x
        if x.could_extract_minus_sign():
            return cls(-x)

    def _eval_is_nonnegative(self):
        return True

    def fdiff(self, argindex=1):
        return Sign(self.args[0])


register(
    Function(
        "abs", (1, 1), Absolute, "absolute value", head=Absolute, jax="jnp.abs({0})", numpy=np.abs,
        latex=r"\left|{0}\right|", kinks=(sympy.Integer(0),),
    )
)  # fmt: skip
