"""Where the files that come with the package are: the grammar and the bundled programs.

A wheel carries both below `tensorprog/_bundled/`; a checkout (and so an editable install) has them at its top level.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _root() -> Path:
    bundled = _PACKAGE / "_bundled"
    return bundled if bundled.is_dir() else _PACKAGE.parent


def grammar_text() -> str:
    """The Lark grammar of `.netsor` programs. OSError where the installation lacks it."""
    return (_root() / "grammar" / "netsor.lark").read_text(encoding="utf-8")


def bundled_programs() -> dict[str, Path]:
    """Name → file of every bundled program, sorted by name (`{"mlp": Path(".../programs/mlp.netsor"), ...}`)."""
    return {path.stem: path for path in sorted((_root() / "programs").glob("*.netsor"))}
