"""What becomes of a quantity when some vectors change sign."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

import numpy as np
import sympy

from tensorprog.functions import definition, numeric
from tensorprog.functions.library.step import Sign


class Parity(Enum):
    """What becomes of a quantity when the v's change sign."""

    ZERO = "is zero"
    INDEPENDENT = "does not depend on"
    ODD = "is odd in"
    EVEN = "is even in"
    NEITHER = "is neither odd nor even in"


ZERO, INDEPENDENT, ODD, EVEN, NEITHER = Parity

# Of what is not known yet, while the fixed point is sought: None.
Maybe = Parity | None


def join(a: Parity, b: Parity) -> Parity:
    """What holds of both, as of a sum."""
    if a == b or b == ZERO:
        return a
    if a == ZERO:
        return b
    return EVEN if {a, b} == {INDEPENDENT, EVEN} else NEITHER


def times(a: Parity, b: Parity) -> Parity:
    """The parity of a product."""
    if ZERO in (a, b):
        return ZERO
    if NEITHER in (a, b):
        return NEITHER
    if ODD in (a, b):
        return EVEN if a == b else ODD
    return INDEPENDENT if a == b == INDEPENDENT else EVEN


def joined(a: Maybe, b: Maybe) -> Maybe:
    return b if a is None else a if b is None else join(a, b)


def parity(expression: sympy.Expr, arguments: Mapping[sympy.Symbol, Parity]) -> Maybe:
    """The parity of a function of quantities whose parities are known; other symbols are constants.

    Only what can be proved counts as odd or even. None where the function has no value at arguments that are zero.
    """
    return _parity(expression, frozenset(arguments.items()))


@lru_cache(maxsize=4096)
def _parity(expression: sympy.Expr, arguments: frozenset[tuple[sympy.Symbol, Parity]]) -> Maybe:
    expression = expression.xreplace({s: sympy.Integer(0) for s, p in arguments if p == ZERO})
    if expression.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    if expression == 0:
        return ZERO
    present = {s: p for s, p in arguments if s in expression.free_symbols}
    kinds = set(present.values())
    if kinds <= {INDEPENDENT}:
        return ZERO if _vanishes(expression) else INDEPENDENT
    if NEITHER in kinds:
        return NEITHER
    if ODD not in kinds:
        return EVEN
    flipped = expression.xreplace({s: -s for s, p in present.items() if p == ODD})
    odd, even = (_vanishes(flipped + expression), _vanishes(flipped - expression))
    if odd and even:
        return ZERO
    return ODD if odd else EVEN if even else NEITHER


def _vanishes(e: sympy.Expr) -> bool:
    """Whether an expression can be shown to be zero."""
    if e == 0:
        return True
    e = _signs_out(definition(e))
    if e == 0:
        return True
    if not e.free_symbols or not _zero_at_samples(e):
        return False
    return sympy.expand(e) == 0 or sympy.simplify(e) == 0


def _signs_out(e: sympy.Expr) -> sympy.Expr:
    """sign(−x) as −sign(x); the other functions of known parity do that by themselves."""
    return e.replace(
        lambda part: isinstance(part, Sign) and part.args[0].could_extract_minus_sign(),
        lambda part: -Sign(-part.args[0]),
    )


def _zero_at_samples(e: sympy.Expr) -> bool:
    symbols = sorted(e.free_symbols, key=str)
    generator = np.random.default_rng(0)
    low = np.array([0.2 if s.is_positive else -2.0 for s in symbols])[:, None]
    points = generator.uniform(low, 2.0, (len(symbols), 16))
    try:
        values = np.abs(np.asarray(numeric(e, symbols)(*points), complex))
    except (TypeError, ValueError, NameError, NotImplementedError, AttributeError):
        return True  # cannot be evaluated: left to algebra
    return not (values[np.isfinite(values)] > 1e-6).any()
