"""What a program compiles to, as text: its recursion with the notes of its lowering, and its module."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import tensorprog as tp
from tensorprog.lowering import compiled, module_source
from tensorprog.recursion import print_recursion
from tensorprog.resources import bundled_programs

PROGRAMS = tuple(bundled_programs())
FOLDER = Path(__file__).parent / "texts"
PACKAGE = Path(tp.__file__).parent
PARTS = ("recursion", "derivation", "module")


@cache
def program(name: str) -> tp.Program:
    return tp.load(name)


def golden(name: str, part: str) -> str:
    """The part of a program that a file holds.

    recursion: the moment IR, and what was chosen when it was lowered. derivation: what is shown of NNGP and NTK.
    module: what is emitted, without what stands in a runtime folder but for its titles.
    """
    loaded = program(name)
    if part == "recursion":
        notes = compiled(loaded.recursion).module.lowering
        return "\n".join([print_recursion(loaded.recursion), "lowering", *(f"    {note}" for note in notes), ""])
    if part == "derivation":
        kinds = ("nngp", "ntk") if loaded.ntk_error is None and loaded.recursion.output is not None else ("nngp",)
        return "\n\n".join(str(loaded.derive(kind)) for kind in kinds) + "\n"
    return without_runtime(module_source(loaded.recursion))


def without_runtime(source: str) -> str:
    """Emitted source without the statements and comments of the runtime folders."""
    known, lines = _runtime(), source.split("\n")
    left_out: set[int] = set()
    for statement in ast.parse(source).body:
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
        span = range(first - 1, statement.end_lineno)
        if "\n".join(lines[n] for n in span) in known:
            left_out |= set(span)
    left_out |= {n for n, line in enumerate(lines) if line.startswith("#") and line in known}
    kept = "\n".join(line for n, line in enumerate(lines) if n not in left_out)
    return re.sub(r"\n{4,}", "\n\n\n", kept)


@cache
def _runtime() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.glob("**/runtime/*.py")))


def path_of(name: str, part: str) -> Path:
    return FOLDER / f"{name}.{part}.txt"
