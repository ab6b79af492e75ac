"""Arrays that are written to a file part by part, and need not fit into the memory."""

from __future__ import annotations

import mmap
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.output import replacing

WRITTEN = 256 * 2**20  # bytes after which parts that are written need not stay in memory


class MappedArray:
    """An array in a .npy file, into which parts are assigned."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype):
        self.array = np.lib.format.open_memmap(path, mode="w+", shape=shape, dtype=dtype)
        self.written = 0

    def __setitem__(self, key: Any, value: np.ndarray) -> None:
        self.array[key] = value
        self.written += value.nbytes
        if self.written >= WRITTEN:
            self.release()

    def release(self) -> None:
        """Write to disk what is only in memory, and let go of it."""
        self.array.flush()
        self.written = 0
        pages = self.array._mmap  # type: ignore[attr-defined]
        if hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)


class Store:
    """A .npy file of one array, or a .npz file of several, not compressed, by name."""

    def __init__(self, folder: Path, single: Path | None):
        self.folder = folder
        self.single = single
        self.files: dict[str, Path] = {}
        self.arrays: list[MappedArray] = []
        self.stack = ExitStack()

    def create(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> MappedArray:
        """A new array of zeros. Raises OSError where the disk has no room for it."""
        size = int(np.prod(shape, dtype=np.float64)) * np.dtype(dtype).itemsize
        # The parts of a .npz file are put together at the end, beside their copies.
        needed = size if self.single is not None else 2 * size
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(28, f"it takes {needed / 2**30:.1f} GiB, and the disk has {free / 2**30:.1f} GiB left")
        path = self.single
        if path is None:
            path = self.stack.enter_context(_temporary(self.folder))
        self.files[name] = path
        self.arrays.append(MappedArray(path, shape, dtype))
        return self.arrays[-1]


@contextmanager
def store(path: str | os.PathLike[str]) -> Iterator[Store]:
    """Where to put arrays that `path` holds when the block ends; whatever fails, the file stays as it was before.

    Raises OSError, with one sentence, where the file cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as temporary:
            target = Store(temporary.parent, temporary if path.suffix.lower() == ".npy" else None)
            with target.stack:
                yield target
                for array in target.arrays:
                    array.release()
                if target.single is None:
                    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                        for name, file in target.files.items():
                            archive.write(file, f"{name}.npy")
    except OSError as error:
        if str(error).startswith("cannot write"):
            raise
        raise OSError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A file that is gone afterwards."""
    import secrets

    path = folder / f".tmp-{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
