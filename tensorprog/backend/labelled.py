"""Pieces of JAX source whose array dimensions carry labels, and how they are brought together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensorprog.index.affine import Affine, Quotient, Remainder
from tensorprog.index.bounds import Bound, Extreme


@dataclass(frozen=True)
class Code:
    """Source of an array with these labelled dimensions, in the order of the array.

    `atomic`: needs no parentheses as an operand.

    `parts`: pieces that the text puts together, `around` what it has before, between and behind them. One of them may
    be a plain 0 for all dimensions, as in `(table if t > 1 else 0)`, so that only pieces can be subscripted.
    """

    text: str
    dims: tuple[str, ...] = ()
    atomic: bool = True
    parts: tuple[Code, ...] = ()
    around: tuple[str, ...] = ()

    def wrapped(self) -> str:
        return self.text if self.atomic else f"({self.text})"


def pieced(parts: Sequence[Code], around: Sequence[str], order: Sequence[str]) -> Code:
    """The array whose source is that of `parts`, brought to the same dimensions, with `around` around them."""
    dims = union(parts, order)
    parts = tuple(aligned(p, dims, order) for p in parts)
    text = around[0] + "".join(p.text + behind for p, behind in zip(parts, around[1:], strict=True))
    return Code(text, dims, parts=parts, around=tuple(around))


def transposed(code: Code, order: Sequence[str]) -> Code:
    """The same array with its dimensions in the order of `order`."""
    wanted = tuple(sorted(code.dims, key=order.index))
    if wanted == code.dims:
        return code
    if code.parts:
        return pieced([transposed(p, order) for p in code.parts], code.around, order)
    permutation = tuple(code.dims.index(d) for d in wanted)
    return Code(f"jnp.transpose({code.text}, {permutation})", wanted)


def aligned(code: Code, dims: Sequence[str], order: Sequence[str]) -> Code:
    """The array with singleton dimensions put in, so that it broadcasts against `dims`."""
    code = transposed(code, order)
    dims = tuple(sorted(dims, key=order.index))
    if code.dims == dims[len(dims) - len(code.dims) :]:
        return code
    if code.parts:
        return Code(pieced([aligned(p, dims, order) for p in code.parts], code.around, order).text, code.dims)
    subscript = ", ".join(":" if d in code.dims else "None" for d in dims)
    # Leading new axes come for free.
    while subscript.startswith("None, "):
        subscript = subscript[6:]
    return Code(f"{code.wrapped()}[{subscript}]", code.dims)


def union(codes: Sequence[Code], order: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({d for c in codes for d in c.dims}, key=order.index))


def combined(op: str, codes: Sequence[Code], order: Sequence[str]) -> Code:
    """Sum (+) or product (*) of several arrays."""
    dims = union(codes, order)
    parts = []
    for c in codes:
        a = aligned(c, dims, order)
        parts.append(a.text if (a.atomic or op == "+") else f"({a.text})")
    text = f" {op} ".join(parts).replace("+ -", "- ")
    return Code(text, dims, atomic=len(codes) == 1 and codes[0].atomic)


def neighbours(kinds: Sequence[object | None]) -> tuple[tuple[int, int], ...]:
    """The (start, stop) of two and more neighbours of one kind; None is of no kind."""
    found, start = [], 0
    for k in range(1, len(kinds) + 1):
        if k == len(kinds) or kinds[k] != kinds[start]:
            if k - start > 1 and kinds[start] is not None:
                found.append((start, k))
            start = k
    return tuple(found)


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
