"""The types of `.netsor`: matrices A(n, m), vectors G(n) and H(n), scalars C, data R(d)."""

from __future__ import annotations

from dataclasses import dataclass

from tensorprog.index.affine import Affine


@dataclass(frozen=True)
class Matrix:
    """A(rows, columns); `columns` may be the feature size of data."""

    rows: str
    columns: str

    def __str__(self) -> str:
        return f"A({self.rows}, {self.columns})"


@dataclass(frozen=True)
class Vector:
    """G(width) if Gaussian, else H(width)."""

    width: str
    gaussian: bool

    def __str__(self) -> str:
        return f"{'G' if self.gaussian else 'H'}({self.width})"


@dataclass(frozen=True)
class Scalar:
    """C."""

    def __str__(self) -> str:
        return "C"


@dataclass(frozen=True)
class Data:
    """R(size)."""

    size: str

    def __str__(self) -> str:
        return f"R({self.size})"


@dataclass(frozen=True)
class Constant:
    """A number known without data or widths: broadcasts to any of the others."""

    def __str__(self) -> str:
        return "a number"


@dataclass(frozen=True)
class Process:
    """An output `v.T @ x / sqrt(n)`: a Gaussian process over the data. Also a random scalar, which is added to it."""

    def __str__(self) -> str:
        return "a readout"


@dataclass(frozen=True)
class Position:
    """index(size): data that hold indices from 1 to size."""

    size: Affine

    def __str__(self) -> str:
        return f"index({self.size})"


Type = Matrix | Vector | Scalar | Data | Constant | Process | Position
