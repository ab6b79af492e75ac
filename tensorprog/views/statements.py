"""What text and LaTeX do alike to statements: zeros joined, terms of sums put in order."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.recursion import Clause


def sums_in_order(terms: Sequence[sympy.Expr]) -> list[sympy.Expr]:
    """Terms of a sum as people write them: numbers first, and none with a minus before the others."""
    return sorted(terms, key=lambda t: (t.could_extract_minus_sign(), not t.is_number))


def merge_zeros(clauses: Sequence[Clause]) -> list[Clause]:
    """Zero entries with as few clauses: [0, 0] and [0, t], t = 1..T, become [0, t], t = 0..T."""
    clauses = list(clauses)
    for a in clauses:
        for b in clauses:
            joined = _joined(a, b) if a is not b and not a.conditions and not b.conditions else None
            if joined is not None:
                return merge_zeros([joined if c is b else c for c in clauses if c is not a])
    return clauses


def _joined(a: Clause, b: Clause) -> Clause | None:
    different = [k for k, (e, f) in enumerate(zip(a.target, b.target, strict=True)) if e != f]
    if len(different) != 1 or not a.target[different[0]].is_constant:
        return None
    (k,) = different
    binder = next((r for r in b.binders if b.target[k] == Affine.symbol(r.name)), None)
    if binder is None or binder.low != a.target[k] + 1 or set(a.binders) != set(b.binders) - {binder}:
        return None
    wider = tuple(Range(r.name, a.target[k], r.high) if r is binder else r for r in b.binders)
    return Clause(wider, b.target, (), b.value)
