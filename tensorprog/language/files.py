"""Finding and reading the text of a program: a file, or a bundled program by its name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tensorprog.errors import ProgramError, did_you_mean
from tensorprog.resources import bundled_programs

MOST_BYTES = 1 << 20
"""The size of a text beyond which it is taken for something else than a program."""


def read_program(path_or_name: str | os.PathLike[str]) -> tuple[str, str]:
    """The text of a program, and what diagnostics call it. A file goes before a bundled program of the same name.

    Raises ProgramError where there is no such file, where it cannot be read, or where it is no text in UTF-8.
    """
    if not isinstance(path_or_name, str | os.PathLike):
        raise ProgramError(
            f"a program is named by a path or a word, not by a value of type {type(path_or_name).__name__}"
        )
    path = Path(path_or_name)
    bundled = bundled_programs()
    if isinstance(path_or_name, str) and path_or_name in bundled and not os.path.isfile(path):
        path, shown = bundled[path_or_name], f"{path_or_name}.netsor"
    else:
        shown = os.fspath(path_or_name)
    return _text(_bytes(path, shown, bundled), shown), shown


def _bytes(path: Path, shown: str, bundled: Iterable[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except IsADirectoryError:
        raise ProgramError("this is a directory, not a program", filename=shown) from None
    except (FileNotFoundError, NotADirectoryError):
        hint = did_you_mean(path.stem, bundled) or f"the bundled programs are {', '.join(bundled)}"
        raise ProgramError("there is no such file or bundled program", filename=shown, hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise ProgramError(f"the file cannot be read: {reason.lower()}", filename=shown) from None
    if len(data) > MOST_BYTES:
        raise ProgramError(f"this is no program: it is larger than {MOST_BYTES >> 20} MiB", filename=shown)
    return data


def _text(data: bytes, shown: str) -> str:
    if b"\0" in data:
        raise ProgramError("this is no program: it is a binary file, not a text", filename=shown)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"this is no text in UTF-8: line {line} has the byte 0x{data[error.start]:02x}"
        raise ProgramError(message, filename=shown) from None
    if not text.strip():
        raise ProgramError("the file is empty", filename=shown, hint="a program begins: program NAME(PARAMETERS)")
    return text.replace("\r\n", "\n")
