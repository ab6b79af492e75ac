"""Names that are free: `i`, and `i_` or `i_2` where there is an `i` already."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

Taken = Container[str] | Callable[[str], bool]


def underscored(name: str, *taken: Taken) -> str:
    """The name with as many underscores as make it free; the primes of a second run stay last: i' gives i_'."""
    return _first(_underscored(name), taken)


def numbered(stem: str, *taken: Taken, separator: str = "_", first: int = 2) -> str:
    """The stem, or where it is taken stem_2, stem_3, …, the first that is free."""
    return _first(_numbered(stem, separator, first), taken)


def distinct(names: Iterable[str]) -> list[str]:
    """The names, with underscores where they repeat others before them."""
    result: list[str] = []
    for name in names:
        result.append(underscored(name, result))
    return result


def _underscored(name: str) -> Iterable[str]:
    stem = name.rstrip("'")
    while True:
        yield stem + name[len(name.rstrip("'")) :]
        stem += "_"


def _numbered(stem: str, separator: str, first: int) -> Iterable[str]:
    yield stem
    k = first
    while True:
        yield f"{stem}{separator}{k}"
        k += 1


def _first(names: Iterable[str], taken: Iterable[Taken]) -> str:
    return next(name for name in names if not any(t(name) if callable(t) else name in t for t in taken))
