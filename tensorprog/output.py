"""Writing results so that a file is either complete or as it was before."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | Callable[[BinaryIO], object]
"""What goes into a file: text (written as UTF-8), bytes, or a function that writes into an open binary file."""


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises OSError, with one sentence, where `path` cannot become an output file. To be asked before long work."""
    target = _target(path)
    try:
        os.stat(target)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name that is too long, a loop of links, a directory that may not be entered
        raise OSError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a directory")
    if not target.parent.exists():
        raise FileNotFoundError(f"cannot write {path}: there is no directory {target.parent}")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"cannot write {path}: {target.parent} is not a directory")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"cannot write {path}: the file is write-protected")
    if not _is_special(target) and not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write {path}: no permission to write in {target.parent}")


def write_atomically(path: str | os.PathLike[str], content: Content) -> None:
    """Writes `content` to `path`, which is complete afterwards, or untouched where anything fails.

    The content goes into a temporary file of the same directory, which then takes the place of `path`. The permissions
    of an existing file are kept, a symbolic link stays one, and a device or pipe (`/dev/stdout`) is written in place.

    Raises OSError, with one sentence, where the file cannot be written; what a writer function raises besides OSError
    passes through.
    """
    check_writable(path)
    target = _target(path)
    try:
        if _is_special(target):
            with open(target, "wb") as file:
                _write(file, content)
        else:
            with replacing(path) as temporary, open(temporary, "wb") as file:
                _write(file, content)
    except OSError as error:
        raise OSError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new, empty file in the directory of `path`, which takes its place where the block ends without an exception.

    Raises OSError where there can be no such file. `path` must not be a device.
    """
    check_writable(path)
    target = _target(path)
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    # Not tempfile.mkstemp: its files are private (0600), and results should have the permissions of any new file.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:  # an interrupt from the keyboard must not leave the temporary file behind either
        temporary.unlink(missing_ok=True)
        raise


def _write(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def _target(path: str | os.PathLike[str]) -> Path:
    # A link is followed, so that it stays one; but /dev/stdout may lead to a pipe, which has no path of its own.
    return Path(path) if _is_special(Path(path)) else Path(os.path.realpath(path))


def _is_special(target: Path) -> bool:
    # os.path, unlike pathlib, takes a name that cannot exist (one that is too long) for a file that does not.
    return os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target)
