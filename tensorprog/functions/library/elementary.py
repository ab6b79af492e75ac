"""Functions that sympy has, with derivatives that need no mending, and the shorthands sqrt and square."""

import sympy

from tensorprog.functions.registry import Function, register

_ZERO = (sympy.Integer(0),)

register(Function("erf", (1, 1), sympy.erf, "error function", head=sympy.erf, jax="jax.scipy.special.erf({0})",
                  latex=r"\operatorname{{erf}}\left({0}\right)", growth="bounded"))  # fmt: skip
register(Function("tanh", (1, 1), sympy.tanh, "hyperbolic tangent", head=sympy.tanh, jax="jnp.tanh({0})",
                  latex=r"\tanh\left({0}\right)", growth="bounded"))  # fmt: skip
register(Function("sin", (1, 1), sympy.sin, "sine", head=sympy.sin, jax="jnp.sin({0})",
                  latex=r"\sin\left({0}\right)", growth="bounded"))  # fmt: skip
register(Function("cos", (1, 1), sympy.cos, "cosine", head=sympy.cos, jax="jnp.cos({0})",
                  latex=r"\cos\left({0}\right)", growth="bounded"))  # fmt: skip
register(Function("arctan", (1, 1), sympy.atan, "inverse tangent", head=sympy.atan, jax="jnp.arctan({0})",
                  latex=r"\arctan\left({0}\right)", growth="bounded"))  # fmt: skip
register(Function("exp", (1, 1), sympy.exp, "exponential function", head=sympy.exp, jax="jnp.exp({0})",
                  latex=r"e^{{{0}}}", growth="exponential"))  # fmt: skip
register(Function("log", (1, 1), sympy.log, "natural logarithm", head=sympy.log, jax="jnp.log({0})",
                  latex=r"\log\left({0}\right)", kinks=_ZERO, growth="logarithm"))  # fmt: skip
register(Function("sqrt", (1, 1), sympy.sqrt, "square root"))
register(Function("square", (1, 1), lambda x: x**2, "x**2"))
