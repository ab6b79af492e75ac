"""Small trees of syntax, and names in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tensorprog.language import syntax
from tensorprog.program.ir import Program
from tensorprog.program.passes.arithmetic import ONE, ZERO
from tensorprog.program.substitution import binders, free_names
from tensorprog.program.types import Vector
from tensorprog.program.typing import is_zero


def delta(indices: Iterable[syntax.Expr], at: Iterable[syntax.Expr]) -> syntax.Expr:
    """1 where the indices agree, else 0."""
    condition: syntax.Condition | None = None
    for i, j in zip(indices, at, strict=True):
        c = syntax.Comparison("==", i, j)
        condition = c if condition is None else syntax.And(condition, c)
    return ONE if condition is None else syntax.Conditional(ONE, condition, ZERO)


def reference(e: syntax.Expr) -> syntax.Name | syntax.Index | None:
    """The vector that a MatMul multiplies, out of its guards; None for zero."""
    while isinstance(e, syntax.Guard):
        e = e.value
    if is_zero(e):
        return None
    assert isinstance(e, syntax.Name | syntax.Index)
    return e


def own_indices(indices: Iterable[syntax.Expr | syntax.Binder]) -> tuple[syntax.Expr, ...]:
    """The indices of an assignment's left side, as its right side says them."""
    return tuple(syntax.Name(i.name) if isinstance(i, syntax.Binder) else i for i in indices)


def names_in(indices: Iterable[syntax.Expr | syntax.Binder]) -> set[str]:
    """The names that the indices of a left side bind."""
    return {i.name for i in indices if isinstance(i, syntax.Binder)}


def all_names(e: syntax.Expr) -> set[str]:
    """Every name in a tree, bound or free: a new index under any of them would be captured or capture."""
    return free_names(e) | {b.name for b in binders(e)}


def index(name: str, indices: Sequence[syntax.Expr]) -> syntax.Name | syntax.Index:
    return syntax.Index(name, tuple(indices)) if indices else syntax.Name(name)


def is_vector(program: Program, name: str) -> bool:
    return name in program.families and isinstance(program.families[name].type, Vector)
