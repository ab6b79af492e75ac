"""What the command line takes as data: `A.npy`, `A.npz:key`, `digits`, `digits[100:200]`, `sentences`, each also as
`name=…`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.data.digits import digits
from tensorprog.data.sentences import first_words

_BUNDLED = re.compile(r"(?P<name>digits|sentences)\s*(?:\[(?P<selection>[^\[\]]*)\])?")
_ARCHIVE_KEY = re.compile(r"(?P<path>.+\.npz):(?P<key>.+)", re.IGNORECASE | re.DOTALL)
_NPY_MAGIC, _ZIP_MAGIC = b"\x93NUMPY", b"PK"


@dataclass(frozen=True)
class Source:
    """One piece of data on the command line: which input it is for (None: the only one), and where it comes from."""

    name: str | None
    spec: str


@dataclass(frozen=True)
class Digits:
    """A selection of the bundled digits, not yet laid out for an input's axes (`fit_digits` does that)."""

    selection: slice

    @property
    def images(self) -> NDArray[np.float64]:
        """The images, shape (N, 8, 8), in [-1, 1]. Raises ValueError where the selection is empty."""
        return digits(self.selection)


def parse_source(text: str) -> Source:
    """Splits `name=SPEC`; where no name stands before the first `=`, all of the text is the specification.

    A file whose own name looks like `a=b.npy` is written `./a=b.npy`. Raises ValueError where nothing is specified.
    """
    name, equals, rest = text.partition("=")
    source = (
        Source(name.strip(), rest.strip()) if equals and name.strip().isidentifier() else Source(None, text.strip())
    )
    if not source.spec:
        raise ValueError(f"no data in {text!r}: give a .npy file, FILE.npz:KEY, digits[:100] or sentences")
    return source


def read_array(spec: str) -> NDArray[np.floating[Any]] | Digits:
    """Reads what a specification (without `name=`) stands for.

    Returns `Digits` for the bundled digits (a file of that name is written `./digits`), else an array whose first axis
    counts the inputs: float32 where the file has float32 or float16, float64 where it has another real type. Of the
    bundled sentences it is (N, T, 32), each at as many words as the shortest of them has.

    Raises OSError where the file cannot be opened; ValueError where it is no .npy or .npz file, is damaged, lacks the
    key, holds no real numbers, holds infinities or NaN, or where nothing is selected. Pickled objects are never loaded.
    """
    match = _BUNDLED.fullmatch(spec.strip())
    if match and match["name"] == "sentences":
        return first_words(_selection(match["selection"], spec))
    if match:
        chosen = Digits(_selection(match["selection"], spec))
        _ = chosen.images  # an empty selection is the user's mistake here, not the later reader's
        return chosen
    archive = _ARCHIVE_KEY.fullmatch(spec)
    # A file whose name holds the colon itself is meant as it stands.
    if archive and not os.path.exists(spec):
        return _real(_load(archive["path"], archive["key"]), spec)
    return _real(_load(spec, None), spec)


def fit_digits(
    images: NDArray[np.floating[Any]], axes: int, features: bool, *, batch: bool = False
) -> NDArray[np.floating[Any]]:
    """Lays images of shape (N, 8, 8) out for an input with so many axes: the dtype stays.

    With features (an input of type R(d)): no axis gives (N, 64); one, (N, 8, 8), the rows as tokens; two, (N, 8, 8, 1).
    Without (type C): one axis gives (N, 64), two (N, 8, 8), three (N, 8, 8, 1).
    With `batch`, the input's first axis runs over the images, which make up one input: (1, N, …), and the rest of the
    axes are as above; an input `x[b = 1..B] : R(d)` gets (1, N, 64).

    Raises ValueError for another number of axes, or where images are not of shape (N, 8, 8).
    """
    if images.ndim != 3 or images.shape[1:] != (8, 8):
        raise ValueError(f"digits have shape (N, 8, 8), not {images.shape}")
    count = len(images)
    dimensions = axes + features - batch  # of one image
    layouts = {1: (count, 64), 2: (count, 8, 8), 3: (count, 8, 8, 1)}
    if dimensions not in layouts or axes < batch:
        kind = "R(d)" if features else "C"
        plural = "axis" if axes == 1 else "axes"
        raise ValueError(f"digits are images of 8 x 8 and do not fit an input of type {kind} with {axes} {plural}")
    laid_out = images.reshape(layouts[dimensions])
    return laid_out[None] if batch else laid_out


def _selection(text: str | None, spec: str) -> slice:
    if text is None:
        return slice(None)
    parts = text.split(":")
    try:
        bounds = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        bounds = []
    if len(bounds) == 1 and bounds[0] is not None:  # digits[3] is one image, and keeps its axis
        start = bounds[0]
        return slice(start, start + 1 if start != -1 else None)
    if not 2 <= len(bounds) <= 3 or bounds[2:] == [0]:
        name = spec.partition("[")[0].strip()
        raise ValueError(f"cannot read the selection in {spec!r}: write it as {name}[:100] or {name}[100:200]")
    return slice(*bounds)


def _load(path: str, key: str | None) -> NDArray[Any]:
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is not a regular file")  # opening a pipe could wait for ever
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise type(error)(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    with file:
        start = file.read(len(_NPY_MAGIC))
        file.seek(0)
        if start.startswith(_ZIP_MAGIC):
            with _damage_reported(path, ".npz"), np.load(file, allow_pickle=False) as archive:
                keys = list(archive.files)
                chosen = key if key is not None or len(keys) != 1 else keys[0]
                if chosen in keys:
                    return np.asarray(archive[chosen])
            found = ", ".join(keys) or "none"
            wanted = f"no array {key!r}" if key is not None else "several arrays, so say which"
            raise ValueError(f"{path} has {wanted if keys else 'no arrays'}: it has {found} (write FILE.npz:KEY)")
        if start != _NPY_MAGIC:
            raise ValueError(f"{path} is empty" if not start else f"{path} is not a .npy or .npz file")
        if key is not None:
            raise ValueError(f"{path} is a .npy file: it has one array and no key {key!r}")
        with _damage_reported(path, ".npy"):
            return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def _damage_reported(path: str, kind: str) -> Iterator[None]:
    # A damaged file surfaces as whatever NumPy or zipfile trips over (ValueError, EOFError, SyntaxError, MemoryError,
    # BadZipFile, zlib.error, UnicodeDecodeError, tokenize errors, ...). To the user all of these are one thing.
    try:
        yield
    except Exception as error:
        if "Object arrays" in str(error):
            raise ValueError(f"{path} holds Python objects, which are not loaded: save an array of numbers") from None
        raise ValueError(f"{path} is damaged or cut short: it cannot be read as a {kind} file") from None


def _real(array: NDArray[Any], spec: str) -> NDArray[np.floating[Any]]:
    if array.dtype.kind not in "biuf":
        what = {"c": "complex numbers", "U": "text", "S": "text", "O": "Python objects"}.get(array.dtype.kind)
        raise ValueError(f"{spec} holds {what or f'values of type {array.dtype}'}: data must be real numbers")
    if array.ndim == 0:
        raise ValueError(f"{spec} is a single number: the first axis of data counts the inputs")
    if array.shape[0] == 0:
        raise ValueError(f"{spec} is empty: its shape is {array.shape}")
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    real: NDArray[np.floating[Any]] = array.astype(np.float32 if narrow else np.float64)
    if not np.isfinite(real).all():
        raise ValueError(f"{spec} holds infinities or NaN")
    return real
