"""elu."""

import numpy as np
import sympy

from tensorprog.functions.library.maximum import Minimum
from tensorprog.functions.library.step import Step
from tensorprog.functions.registry import Function, RealFunction, register


class Elu(RealFunction):
    """x for x > 0, alpha·(exp(x) - 1) for x < 0 (Clevert et al. 2016)."""

    @classmethod
    def eval(cls, x, alpha):
        if x.is_number and x.is_real:
            return x if x.is_nonnegative else alpha * (sympy.exp(x) - 1)

    def fdiff(self, argindex=1):
        x, alpha = self.args
        # min keeps exp from overflowing where step is zero
        negative = sympy.exp(Minimum(x, 0))
        return Step(x) + alpha * Step(-x) * negative if argindex == 1 else Step(-x) * (negative - 1)


def _elu(x, alpha=sympy.S.One):
    return Elu(x, alpha)


register(
    Function(
        "elu", (1, 1), _elu, "x for x > 0, alpha*(exp(x) - 1) for x < 0", (("alpha", sympy.Integer(1)),), head=Elu,
        jax="(jnp.maximum({0}, 0) + {1} * jnp.expm1(jnp.minimum({0}, 0)))",
        numpy=lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        latex=r"\operatorname{{elu}}_{{{1}}}\left({0}\right)", kinks=(sympy.Integer(0),),
    )
)  # fmt: skip
