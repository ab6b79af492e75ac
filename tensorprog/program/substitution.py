"""Walking and rewriting of syntax trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace

from tensorprog.errors import Span
from tensorprog.language import syntax

_EXPRESSIONS = syntax.Expr


def children(node) -> Iterator:
    """The syntax nodes right under a node: expressions, conditions and binders."""
    for f in fields(node):
        value = getattr(node, f.name)
        yield from _nodes(value)


def _nodes(value) -> Iterator:
    if isinstance(value, Span):
        return
    if is_dataclass(value):
        yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _nodes(v)


def subexpressions(node, deep: bool = True) -> Iterator[syntax.Expr]:
    """A node's expressions: itself and all below it, or with deep=False only those right under it.

    The operand of a transpose counts; what stands in indices, ranges and conditions does not.
    """
    if deep:
        yield node
    match node:
        case syntax.Number() | syntax.Name() | syntax.Index():
            return
        case syntax.Reduction(_, _, body, keywords):
            inner = [body, *(v for _, v in keywords)]
        case syntax.Bracket(operands):
            inner = list(operands)
        case syntax.Conditional(then, _, otherwise):
            inner = [then, otherwise]
        case _:
            inner = [c for c in children(node) if isinstance(c, _EXPRESSIONS)]
    for c in inner:
        if deep:
            yield from subexpressions(c)
        else:
            yield c


def binders(node) -> Iterator[syntax.Binder]:
    """All binders in a tree: of loops, of sums, of left-hand sides."""
    if isinstance(node, syntax.Binder):
        yield node
    for c in children(node):
        yield from binders(c)


def free_names(node) -> set[str]:
    """All names in a tree that no reduction inside it binds; names of functions are left out."""
    match node:
        case syntax.Name(name):
            return {name}
        case syntax.Reduction(_, binders, body, keywords):
            names, hidden = set[str](), set[str]()
            for b in binders:
                names |= (free_names(b) if b.low is not None else {b.name}) - hidden
                if b.low is not None:
                    hidden.add(b.name)
            names |= free_names(body) - hidden
            for _, v in keywords:
                names |= free_names(v)
            return names
        case syntax.Binder(_, low, high, step):
            return set().union(*(free_names(x) for x in (low, high, step) if x is not None))
        case syntax.Index(name, indices):
            return {name}.union(*(free_names(i) for i in indices))
    names = set()
    for c in children(node):
        names |= free_names(c)
    return names


def rename(node, change: Callable[[syntax.Expr], syntax.Expr | None]):
    """The tree with every node for which `change` gives one replaced, outermost first."""
    new = change(node)
    if new is not None:
        return new
    updates = {}
    for f in fields(node):
        value = getattr(node, f.name)
        mapped = _rename_value(value, change)
        if mapped is not value:
            updates[f.name] = mapped
    return replace(node, **updates) if updates else node


def _rename_value(value, change):
    if isinstance(value, Span):
        return value
    if is_dataclass(value):
        return rename(value, change)
    if isinstance(value, tuple):
        mapped = tuple(_rename_value(v, change) for v in value)
        return value if all(a is b for a, b in zip(mapped, value, strict=True)) else mapped
    return value
