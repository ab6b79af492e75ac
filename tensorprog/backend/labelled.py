"""Source of integer expressions of indices."""

from __future__ import annotations

from tensorprog.index.affine import Affine, Quotient, Remainder
from tensorprog.index.bounds import Bound, Extreme


def integer(e: Affine, names) -> str:
    """Source of an integer expression; `names` maps symbols to source."""
    parts = []
    for s, c in sorted(e.terms, key=lambda t: t[1] < 0):
        name = _symbol(s, names)
        term = name if abs(c) == 1 else f"{abs(c)} * {name}"
        parts.append(("- " if c < 0 else "+ ") + term)
    if e.constant or not parts:
        parts.append(("- " if e.constant < 0 else "+ ") + str(abs(e.constant)))
    text = " ".join(parts)
    if text.startswith("+ "):
        return text[2:]
    return "-" + text[2:]


def _symbol(s: str, names) -> str:
    if isinstance(s, Quotient):
        return f"(({integer(s.numerator, names)}) // {s.divisor})"
    if isinstance(s, Remainder):
        return f"(({integer(s.numerator, names)}) % ({integer(s.divisor, names)}))"
    return names(s)


def bound_source(bound: Bound, names) -> str:
    if isinstance(bound, Extreme):
        return f"{bound.kind}({', '.join(bound_source(b, names) for b in bound.arguments)})"
    return integer(bound, names)
