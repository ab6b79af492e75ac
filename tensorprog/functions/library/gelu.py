"""gelu, by erf and not by its tanh approximation, with the normal distribution's cdf and density."""

import scipy.special
import scipy.stats
import sympy

from tensorprog.functions.registry import Function, RealFunction, register


class NormalCdf(RealFunction):
    """Distribution function of N(0, 1)."""

    @classmethod
    def eval(cls, x):
        if x.is_zero:
            return sympy.Rational(1, 2)

    def _eval_is_positive(self):
        return True

    def fdiff(self, argindex=1):
        return NormalPdf(self.args[0])


class NormalPdf(RealFunction):
    """Density of N(0, 1)."""

    def _eval_is_positive(self):
        return True

    def fdiff(self, argindex=1):
        return -self.args[0] * NormalPdf(self.args[0])


class Gelu(RealFunction):
    """x·normal_cdf(x) (Hendrycks & Gimpel 2016)."""

    @classmethod
    def eval(cls, x):
        if x.is_zero:
            return sympy.Integer(0)

    def fdiff(self, argindex=1):
        x = self.args[0]
        return NormalCdf(x) + x * NormalPdf(x)


register(
    Function(
        "normal_cdf", (1, 1), NormalCdf, "distribution function of N(0, 1)", head=NormalCdf,
        jax="jax.scipy.special.ndtr({0})", numpy=scipy.special.ndtr, latex=r"\Phi\left({0}\right)", growth="bounded",
        definition=lambda x: (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    )
)  # fmt: skip
register(
    Function(
        "normal_pdf", (1, 1), NormalPdf, "density of N(0, 1)", head=NormalPdf,
        jax=lambda x: f"(jnp.exp(-({x})**2 / 2) / jnp.sqrt(2 * jnp.pi))", numpy=scipy.stats.norm.pdf,
        latex=r"\varphi\left({0}\right)", growth="bounded",
        definition=lambda x: sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi),
    )
)  # fmt: skip
register(
    Function(
        "gelu", (1, 1), Gelu, "x*normal_cdf(x), exact", head=Gelu, jax="jax.nn.gelu({0}, approximate=False)",
        numpy=lambda x: x * scipy.special.ndtr(x), latex=r"\operatorname{{gelu}}\left({0}\right)",
        definition=lambda x: x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    )
)  # fmt: skip
