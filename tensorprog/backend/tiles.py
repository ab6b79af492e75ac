"""How a kernel of many pairs of samples is cut into tiles, and how finished tiles are put in their places.

A tile is evaluated as a whole, by one compiled function for all of them. On a CPU its tables should stay in the cache,
since every layer passes over them a few times; on an accelerator they should keep the chip busy. Both are bounded by
the memory of the device. Between a batch and itself, only tiles on and above the diagonal are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Bytes of the largest table of a tile that is in use at a time.
CPU_TABLE = 4 * 2**20
ACCELERATOR_TABLE = 256 * 2**20
# Smaller tables than this are not cut for the sake of symmetry: every tile has its price.
LEAST_TABLE = 2**20
SYMMETRIC_PARTS = 4


@dataclass(frozen=True)
class Tiling:
    """Tiles of `rows` × `columns` samples that begin at these samples of either side."""

    n1: int
    n2: int
    rows: int
    columns: int
    symmetric: bool

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Where tiles begin, row by row; the last ones may overlap others, so that one compilation serves all."""
        return [
            (i, j)
            for i in starts(self.n1, self.rows)
            for j in starts(self.n2, self.columns)
            if not self.symmetric or j >= i
        ]

    @property
    def whole(self) -> bool:
        return self.rows == self.n1 and self.columns == self.n2

    def place(self, result: np.ndarray, block: np.ndarray, i: int, j: int) -> None:
        """Put a tile where it belongs, and its mirror image too where both sides are the same."""
        result[i : i + self.rows, j : j + self.columns] = block
        if self.symmetric:
            result[j : j + self.columns, i : i + self.rows] = mirrored(block)


def tiling(
    n1: int, n2: int, symmetric: bool, *, tile: int | None, table: float, tables: float, cpu: bool, memory: float
) -> Tiling:
    """The tiles for n1 × n2 samples.

    tile: samples a side, where it is given. table: bytes of the largest table for one pair; tables: bytes of all
    that one pair may hold at once. memory: bytes of the device.
    """
    if tile is not None:
        t1, t2 = min(tile, n1), min(tile, n2)
        return Tiling(n1, n2, t1, t2, symmetric)
    pairs = max(1, int(min((CPU_TABLE if cpu else ACCELERATOR_TABLE) / table, memory / 8 / tables)))
    side = max(1, int(pairs**0.5))
    if symmetric:
        parts = -(-n1 // min(side, n1))
        while parts < SYMMETRIC_PARTS and table * (n1 / (parts + 1)) ** 2 >= LEAST_TABLE:
            parts += 1
        t = -(-n1 // parts)
        return Tiling(n1, n2, t, t, True)
    t1 = _even(n1, side) if n2 >= side else _even(n1, max(1, pairs // n2))
    t2 = _even(n2, max(1, pairs // t1))
    return Tiling(n1, n2, t1, t2, False)


def _even(n: int, most: int) -> int:
    """The size of the fewest equal parts of n samples with at most `most` in each."""
    return -(-n // -(-n // min(most, n)))


def starts(n: int, size: int) -> Sequence[int]:
    """Where tiles of equal size begin; the last may overlap the one before."""
    return [min(i, n - size) for i in range(0, n, size)]


def pieces(n: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, number) of pieces of at most `size` of n samples."""
    for i in range(0, n, size):
        yield i, min(size, n - i)


def mirrored(block: np.ndarray) -> np.ndarray:
    """K(x2, x1) from K(x1, x2): samples and output axes change places."""
    axes = (block.ndim - 2) // 2
    left, right = range(2, 2 + axes), range(2 + axes, 2 + 2 * axes)
    return block.transpose((1, 0, *right, *left))
