"""The bundled handwritten digits: 1797 images of 8 × 8 pixels, ten classes (source and licence: README.md beside)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FILE = Path(__file__).resolve().with_name("digits.npz")


def digits(selection: slice = slice(None)) -> NDArray[np.float64]:
    """The selected images, shape (N, 8, 8), float64 in [-1, 1] (pixel/8 - 1, so that background is -1).

    Raises ValueError where the selection is empty.
    """
    return _select("images", selection) / 8.0 - 1.0


def digit_labels(selection: slice = slice(None)) -> NDArray[np.int64]:
    """The classes 0..9 of the selected images, shape (N,), int64. Raises ValueError where the selection is empty."""
    return _select("labels", selection).astype(np.int64)


def _select(key: str, selection: slice) -> NDArray[np.uint8]:
    everything = _load()[key]
    selected = everything[selection]
    if len(selected) == 0:
        raise ValueError(f"the selection of digits is empty: there are {len(everything)}, counted from 0")
    return selected


@cache
def _load() -> dict[str, NDArray[np.uint8]]:
    with np.load(_FILE, allow_pickle=False) as file:
        return {key: file[key] for key in ("images", "labels")}
