"""Indices that wrap around: `x[e mod P]` counts from the first index of its axis, as `x[(e - low) mod P + low]` does.

input x[p = 1..P] : R(d)        x[(p+1) mod P] is x[p+1], and x[1] at p = P
"""

from __future__ import annotations

from dataclasses import replace

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.language import syntax
from tensorprog.program.desugar import as_affine, bound_expression
from tensorprog.program.scope import Scope
from tensorprog.program.substitution import rename


def with_remainders(statements, scope: Scope):
    """The statements with every index that is a `mod` as a whole written as a remainder, which counts from 0.

    scope: with the ranges of all families. Raises ProgramError where an axis begins at a minimum or maximum of sizes.
    """

    def change(e):
        if not isinstance(e, syntax.Index) or not any(_wraps(i) for i in e.indices):
            return None
        ranges = scope.ranges.get(e.name, ())
        if len(ranges) != len(e.indices):
            return None  # an error of its own, further on
        indices = []
        for i, r in zip(e.indices, ranges, strict=True):
            if _wraps(i):
                if not isinstance(r.low, Affine):
                    raise ProgramError(
                        f"this axis of '{e.name}' begins at {r.low}: no index wraps around on it", i.span
                    )
                i = _counted_from(r.low, i)
            indices.append(rename(i, change))
        return replace(e, indices=tuple(indices))

    return tuple(rename(s, change) for s in statements)


def _wraps(e: syntax.Expr) -> bool:
    return isinstance(e, syntax.Binary) and e.op == "mod"


def _counted_from(low: Affine, e: syntax.Expr) -> syntax.Expr:
    assert isinstance(e, syntax.Binary)
    if low == Affine(0):
        return e
    down = low.is_constant and low.constant < 0
    start = bound_expression(-low if down else low, e)
    before, after = ("+", "-") if down else ("-", "+")
    inner: syntax.Expr = syntax.Binary(before, e.left, start, span=e.left.span)
    form = as_affine(e.left)
    if form is not None and form.constant:
        inner = replace(bound_expression(form - low, e), span=e.left.span)  # (p + 1 - 1) mod P is p mod P
    return syntax.Binary(after, replace(e, left=inner), start, span=e.span)
