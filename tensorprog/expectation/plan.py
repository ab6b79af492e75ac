"""The plan of a Gaussian expectation: plain data that a code generator reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sympy

Scalars = Mapping[sympy.Symbol, str]

UNLOCATED = "about 1e-3: the places of the kinks are not known"
"""The accuracy of quadrature that cannot be cut at a function's kinks."""


@dataclass(frozen=True)
class Plan:
    """How E f(z) g(w) (or E f(z)) is computed.

    `call(k, p, q, mu, nu, scalars_f, scalars_g)` takes the JAX source of the arrays and gives that of the value: k has
    the full shape of the result, p, mu and the scalars of f may have singleton axes where only the right argument
    varies, q, nu and the scalars of g where only the left one does; mu and nu may be None (zero). The value has the
    dtype of the arrays. The same arguments, as sympy expressions, give `symbolic` its closed form; None where there is
    none.
    """

    rule: str
    """Name for people: "arc-cosine", "Hermite expansion", "split quadrature", ..."""
    accuracy: str
    """Relative accuracy, and where it holds."""
    definitions: tuple[str, ...]
    """Python source to stand at top level before the call, names derived from the prefix."""
    runtime: tuple[str, ...]
    """Runtime modules that the call needs."""
    _call: Callable[..., str]
    _symbolic: Callable[..., sympy.Expr | None] = lambda *_: None
    variance: float = math.inf
    """The variance up to which the rule is as accurate as 1e-6 asks; 0 where it never is."""

    def call(
        self,
        k: str,
        p: str,
        q: str,
        mu: str | None = None,
        nu: str | None = None,
        scalars_f: Scalars | None = None,
        scalars_g: Scalars | None = None,
    ) -> str:
        """JAX source of the value, given the source of the arrays."""
        return self._call(k, p, q, mu, nu, scalars_f or {}, scalars_g or {})

    def symbolic(self, k, p, q, mu=0, nu=0) -> sympy.Expr | None:
        """The closed form, or None where there is none; scalars of f and g stand as their own Symbols."""
        return self._symbolic(*map(sympy.sympify, (k, p, q, mu, nu)))


@dataclass(frozen=True)
class MeanPlan:
    """How E f(z) is computed; as Plan, with `call(p, mu, scalars)` and `symbolic(p, mu)`."""

    rule: str
    accuracy: str
    definitions: tuple[str, ...]
    runtime: tuple[str, ...]
    _call: Callable[..., str]
    _symbolic: Callable[..., sympy.Expr | None] = lambda *_: None
    variance: float = math.inf

    def call(self, p: str, mu: str | None = None, scalars: Scalars | None = None) -> str:
        """JAX source of the value, given the source of the arrays."""
        return self._call(p, mu, scalars or {})

    def symbolic(self, p, mu=0) -> sympy.Expr | None:
        """The closed form, or None where there is none."""
        return self._symbolic(sympy.sympify(p), sympy.sympify(mu))


@dataclass(frozen=True)
class Side:
    """One function of a pair, in normal form: its variable and scalars renamed to what the generated source calls
    them.
    """

    expr: sympy.Expr
    variable: sympy.Symbol
    scalars: tuple[sympy.Symbol, ...]
    """The scalar Symbols that occur, in a fixed order."""
    has_mean: bool


@dataclass(frozen=True)
class Request:
    """What a rule is asked: E f(z) g(w), and the prefix for names."""

    f: Side
    g: Side
    prefix: str
    quick: bool = False
    """Whether the expectation is taken at every node of another quadrature, where coarser rules must do."""
