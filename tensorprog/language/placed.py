"""A tree that nobody wrote, with the places it has in the text that it prints as: errors can point at its lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from tensorprog.errors import Span
from tensorprog.language.printer import print_program
from tensorprog.language.syntax import For, ProgramText, Statement


def placed(tree: ProgramText) -> tuple[str, ProgramText]:
    """The text of a program, and its tree in which everything is placed at the line of its statement."""
    text = print_program(tree)
    comments = tree.comment.count("\n") + 1 if tree.comment else 0
    lines = (
        Span(k, len(line) - len(line.lstrip()) + 1, k, len(line) + 1)
        for k, line in enumerate(text.split("\n"), 1)
        if k > comments and line
    )
    header = next(lines)
    return text, replace(
        tree,
        parameters=tuple(_put(p, header) for p in tree.parameters),
        statements=tuple(_placed(s, lines) for s in tree.statements),
        span=header,
    )


def _placed(s: Statement, lines: Iterator[Span]) -> Statement:
    """A statement, which takes a line, and those of the block of a `for` the lines after it."""
    line = next(lines)
    if isinstance(s, For):
        binders = tuple(_put(b, line) for b in s.binders)
        return For(binders, tuple(_placed(inner, lines) for inner in s.body), line)
    return _put(s, line)


def _put(node: Any, span: Span) -> Any:
    """A node and all that is in it at one place."""
    if isinstance(node, tuple):
        return tuple(_put(x, span) for x in node)
    if not is_dataclass(node) or isinstance(node, type | Span):
        return node
    values = {f.name: span if f.name == "span" else _put(getattr(node, f.name), span) for f in fields(node)}
    return type(node)(**values)
