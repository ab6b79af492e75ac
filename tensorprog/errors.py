"""The one error that a wrong program raises, and how it points at its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A stretch of source text; lines and columns count from 1, `end_column` is exclusive."""

    line: int = 0
    column: int = 0
    end_line: int = 0
    end_column: int = 0


class ProgramError(Exception):
    """A program is wrong: where, what is wrong in the user's terms, and the mend where there is one.

    `str()` gives the diagnostic as the command line prints it::

        rnn.netsor:12:8: error: unknown function 'erff'
           12 |     s[t] := erff(h[t])
              |             ^^^^
        hint: did you mean 'erf'?
    """

    def __init__(
        self,
        message: str,
        span: Span | None = None,
        *,
        hint: str | None = None,
        source: str | None = None,
        filename: str | None = None,
    ):
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint
        self.source = source
        self.filename = filename

    @property
    def line(self) -> int | None:
        """Line of the mistake, from 1; None where the error has no place in the text."""
        return self.span.line if self.span else None

    @property
    def column(self) -> int | None:
        """Column of the mistake, from 1; None where the error has no place in the text."""
        return self.span.column if self.span else None

    def located(self, source: str, filename: str) -> ProgramError:
        """The same error, told which text it speaks of (kept if it was told already)."""
        if self.source is None:
            self.source, self.filename = source, filename
        return self

    def __str__(self) -> str:
        name = self.filename or "<program>"
        if not self.span or not self.span.line:
            head = f"{name}: error: {self.message}"
        else:
            head = f"{name}:{self.span.line}:{self.span.column}: error: {self.message}"
        parts = [head]
        if self.span and self.span.line and self.source is not None:
            parts += _excerpt(self.source, self.span)
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


class NotDerived(ProgramError):
    """A limit that the theorem has, and that no rule here derives yet."""


def _excerpt(source: str, span: Span) -> list[str]:
    lines = source.split("\n")
    if not 1 <= span.line <= len(lines):
        return []
    text = lines[span.line - 1].rstrip("\r")
    start = max(span.column - 1, 0)
    one_line = span.end_line == span.line and span.end_column > span.column
    width = (span.end_column - span.column) if one_line else 1
    text, start = text[:200], min(start, 200)
    number = f"{span.line:5d}"
    caret = " " * start + "^" * max(1, min(width, max(1, len(text) - start)))
    return [f"{number} | {text}", f"{' ' * len(number)} | {caret}"]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint naming the nearest known name, or None where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None
