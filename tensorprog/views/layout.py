"""Where a long line of a formula may be broken: marks in its text, outer places with lower ones."""

from __future__ import annotations

from collections.abc import Callable

_FIRST, _LAST = 0xE000, 0xE008  # marks of places to break, by depth


def mark(depth: int = 0) -> str:
    """A place where a line may be broken."""
    return chr(min(_FIRST + depth, _LAST))


def deepen(text: str) -> str:
    """The formula as a part of another: its places to break move in."""
    return "".join(chr(min(ord(c) + 1, _LAST)) if _FIRST <= ord(c) <= _LAST else c for c in text)


def unmark(text: str) -> str:
    return "".join(c for c in text if not _FIRST <= ord(c) <= _LAST)


def broken(text: str, width: int, measure: Callable[[str], int]) -> list[tuple[str, int]]:
    """The formula in lines of at most `width`, with the depth of each, broken at the outermost places that do."""

    def split(part: str, depth: int) -> list[tuple[str, int]]:
        if measure(unmark(part)) <= width - 4 * (depth > 0) or depth > _LAST - _FIRST:
            return [(part, 0)]
        lines: list[str] = []
        for segment in part.split(mark(depth)):
            if lines and measure(unmark(lines[-1] + segment)) <= width:
                lines[-1] += segment
            else:
                lines.append(segment)
        found = []
        for line in lines:
            first, *rest = split(line, depth + 1)
            found += [first, *((x, 1) for x, _ in rest)]
        return found

    return [(unmark(x).strip(), min(depth, 1)) for x, depth in split(text, 0)]
