"""Heat maps of kernels: covariance and, where a kernel is of inputs with themselves, correlation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tensorprog.output import write_atomically

FORMATS = ("png", "pdf", "svg")
_PANEL = 4.2  # inches, the side of one panel
_DPI = 120
_MOST_PIXELS = 2000  # a larger matrix is thinned: no screen shows more, and the copies would not fit the memory
_MOST_LINES = 50  # more lines between blocks would hide the blocks
_MOST_ELONGATED = 4  # beyond this ratio of the sides, entries are no longer drawn as squares
_BOTH_SIGNS = 0.05  # from this ratio of the smaller extreme to the larger, colours diverge from zero
_STDERR = "_stderr"  # ends the keys of standard errors, which are no kernels


@dataclass(frozen=True)
class BlockMatrix:
    """A kernel laid out as a matrix: a block for each pair of inputs, (outputs of x1's run, outputs of x2's) in size.

    `values` has shape (N1 · rows, N2 · columns), with `rows` and `columns` the size of one block.
    """

    values: NDArray[Any]
    rows: int
    columns: int


def block_matrix(kernel: NDArray[Any]) -> BlockMatrix:
    """Lays a kernel (N1, N2, *axes of x1's outputs, *axes of x2's outputs) out as a matrix of blocks.

    Several output axes are run together, the last fastest. Both runs have the same number of axes; of an odd number the
    first takes one more, so (N1, N2, T) has blocks of T × 1.

    Raises ValueError below two axes, or where an axis is empty.
    """
    if kernel.ndim < 2 or kernel.size == 0:
        raise ValueError(
            f"an array of shape {kernel.shape} is not a kernel: (N1, N2, ...) is expected, and none of them 0"
        )
    middle = 2 + (kernel.ndim - 1) // 2
    inputs1, inputs2 = kernel.shape[:2]
    rows = int(np.prod(kernel.shape[2:middle], dtype=int))
    columns = int(np.prod(kernel.shape[middle:], dtype=int))
    blocks = kernel.reshape(inputs1, inputs2, rows, columns).transpose(0, 2, 1, 3)
    return BlockMatrix(blocks.reshape(inputs1 * rows, inputs2 * columns), rows, columns)


def is_self_kernel(matrix: NDArray[Any]) -> bool:
    """Whether a matrix is square and symmetric up to rounding, so that its diagonal holds the variances."""
    if matrix.shape[0] != matrix.shape[1]:
        return False
    scale = float(np.max(np.abs(matrix), initial=0.0, where=np.isfinite(matrix)))
    return bool(np.allclose(matrix, matrix.T, rtol=0.0, atol=1e-4 * scale, equal_nan=True))


def correlation(matrix: NDArray[Any]) -> NDArray[Any]:
    """K_ij / sqrt(K_ii K_jj) of a square matrix (M, M); 0 where a variance is 0 (or, by an estimate's noise, below)."""
    deviation = np.sqrt(np.maximum(np.diagonal(matrix), 0.0))
    scale = np.outer(deviation, deviation)
    return np.divide(matrix, scale, out=np.zeros_like(scale), where=scale > 0)


@dataclass(frozen=True)
class Classes:
    """The inputs of a kernel sorted by class.

    `order` (N,) lists the inputs, class by class and within a class as they were; `names` are the classes, and
    `starts` the places in `order` where each begins, followed by N.
    """

    order: NDArray[np.intp]
    names: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, labels: Sequence[Any] | NDArray[Any]) -> Classes:
        """From the class of each input, (N,). Raises ValueError for another shape, and above fifty classes."""
        array = np.asarray(labels)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"labels are one value for each input: their shape is {array.shape}, not (N,)")
        values, counts = np.unique(array, return_counts=True)
        if len(values) > _MOST_LINES:
            raise ValueError(f"the labels have {len(values)} different values: at most {_MOST_LINES} can be told apart")
        whole = array.dtype.kind == "f" and bool((values == np.round(values)).all())
        names = tuple(str(int(value) if whole else value) for value in values)
        return cls(np.argsort(array, kind="stable"), names, (0, *map(int, np.cumsum(counts))))

    def sort(self, name: str, kernel: NDArray[Any]) -> NDArray[Any]:
        """A kernel (N, N, ...) of these inputs with themselves, in their order. Raises ValueError for another shape."""
        count = len(self.order)
        if kernel.shape[:2] != (count, count):
            raise ValueError(
                f"there are {count} labels, and {name!r} has shape {kernel.shape}: "
                f"labels need the kernel of {count} inputs with themselves"
            )
        return kernel[self.order][:, self.order]


def plot_kernels(
    arrays: Mapping[str, NDArray[Any]],
    path: str | os.PathLike[str],
    title: str | None = None,
    labels: Sequence[Any] | NDArray[Any] | None = None,
) -> None:
    """Draws every kernel in `arrays` (`{"nngp": (N1, N2, ...), "ntk": ...}`), a row each, into a PNG, PDF or SVG file.

    Beside the kernel stands its correlation, where the kernel is of inputs with themselves. Keys that end in `_stderr`
    are left out. With `labels` (N,), the class of each input, such a kernel's inputs are sorted by class, and lines
    stand between the classes.

    Raises ValueError for another suffix, an array that is no kernel, labels that do not fit, or where there is no
    kernel; OSError where the file cannot be written.
    """
    kind = plot_format(path)
    kernels = {name: np.asarray(array) for name, array in arrays.items() if not name.endswith(_STDERR)}
    if not kernels:
        raise ValueError("there is no kernel to plot")
    for name, kernel in kernels.items():
        if kernel.dtype.kind not in "biuf":
            raise ValueError(f"{name!r} is not a kernel: it does not hold real numbers")
    classes = None if labels is None else Classes.of(labels)
    if classes:
        kernels = {name: classes.sort(name, kernel) for name, kernel in kernels.items()}
    figure = _draw({name: block_matrix(kernel) for name, kernel in kernels.items()}, title, classes)
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=_DPI))


def plot_format(path: str | os.PathLike[str]) -> str:
    """The format that a file's suffix asks for: "png", "pdf" or "svg". Raises ValueError for another one."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"cannot plot into {path}: its name must end in .png, .pdf or .svg")
    return kind


def _draw(kernels: Mapping[str, BlockMatrix], title: str | None, classes: Classes | None) -> Figure:
    thinned = {name: _Panel.of(block) for name, block in kernels.items()}
    with_correlation = {name: is_self_kernel(panel.values) for name, panel in thinned.items()}
    columns = 2 if any(with_correlation.values()) else 1
    # A Figure of its own, not pyplot's: nothing global is touched, and no display is asked for.
    figure = Figure(
        figsize=(_PANEL * 1.15 * columns, _PANEL * len(kernels) + (0.4 if title else 0)), layout="constrained"
    )
    axes = figure.subplots(len(kernels), columns, squeeze=False)
    for row, (name, panel) in zip(axes, thinned.items(), strict=True):
        heading = name.upper()
        _heat_map(figure, row[0], panel, panel.values, f"{heading} covariance" if name == "nngp" else heading, classes)
        if with_correlation[name]:
            _heat_map(figure, row[1], panel, correlation(panel.values), f"{heading} correlation", classes, ceiling=1.0)
        elif columns == 2:
            row[1].set_axis_off()
    if title:
        figure.suptitle(title, fontsize=14)
    return figure


@dataclass(frozen=True)
class _Panel:
    """A block matrix as it is drawn: every `step`-th entry, and the full size in inputs for the axes."""

    values: NDArray[np.float64]
    step: int
    block: BlockMatrix

    @classmethod
    def of(cls, block: BlockMatrix) -> _Panel:
        step = -(-max(block.values.shape) // _MOST_PIXELS)
        return cls(block.values[::step, ::step].astype(np.float64), step, block)


def _heat_map(
    figure: Figure,
    axes: Axes,
    panel: _Panel,
    values: NDArray[np.float64],
    title: str,
    classes: Classes | None,
    ceiling: float | None = None,
) -> None:
    height, width = panel.block.values.shape
    low, high, colours = _colours(values, ceiling)
    elongated = max(height, width) > _MOST_ELONGATED * min(height, width)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect="auto" if elongated else "equal",
        extent=(0, width, height, 0),
        interpolation="nearest" if max(values.shape) < 500 else "auto",
    )
    axes.set_facecolor("0.8")  # what shows where a value is not finite
    axes.set_title(title, fontsize=13)
    note = f", one in {panel.step} drawn" if panel.step > 1 else ""
    for side, argument, length, block in (
        ("x", "x2", width, panel.block.columns),
        ("y", "x1", height, panel.block.rows),
    ):
        if classes:
            _mark_classes(axes, side, classes, block)
            label = f"{argument}, samples by class"
        else:
            _mark_inputs(axes, side, length, block)
            label = _axis_label(argument, length, block)
        (axes.set_xlabel if side == "x" else axes.set_ylabel)(label + note, fontsize=11)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=10)


def _colours(values: NDArray[np.float64], ceiling: float | None) -> tuple[float, float, str]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    size = max(abs(low), abs(high))
    if low < -_BOTH_SIGNS * size and high > _BOTH_SIGNS * size:  # white is zero
        size = ceiling or size
        return -size, size, "RdBu_r"
    if ceiling is not None:
        high = ceiling
    if high - low <= 1e-9 * size or size == 0:  # one value everywhere
        low, high = low - (0.5 * size or 0.5), high + (0.5 * size or 0.5)
    return low, high, "viridis"


def _mark_inputs(axes: Axes, side: str, length: int, block: int) -> None:
    """Ticks that number the inputs (or the outputs, where there is one input), and thin lines between the blocks."""
    unit = block if length > block else 1
    count = length // unit
    ticks = MaxNLocator(nbins=8, integer=True).tick_values(0, count - 1)
    numbers = sorted({int(tick) for tick in ticks if 0 <= tick < count})
    positions = [(number + 0.5) * unit for number in numbers]
    axis, line = (axes.xaxis, axes.axvline) if side == "x" else (axes.yaxis, axes.axhline)
    axis.set_ticks(positions, [str(number) for number in numbers], fontsize=10)
    if unit > 1 and count <= _MOST_LINES:
        _lines(line, [boundary * unit for boundary in range(1, count)])


def _mark_classes(axes: Axes, side: str, classes: Classes, block: int) -> None:
    """The name of every class in its middle, and thin lines between the classes."""
    axis, line = (axes.xaxis, axes.axvline) if side == "x" else (axes.yaxis, axes.axhline)
    middles = [0.5 * block * (start + end) for start, end in pairwise(classes.starts)]
    axis.set_ticks(middles, classes.names, fontsize=10)
    _lines(line, [block * start for start in classes.starts[1:-1]])


def _lines(line: Callable[..., object], positions: Sequence[int]) -> None:
    for position in positions:
        line(position, color="white", linewidth=0.9)
        line(position, color="black", linewidth=0.4)


def _axis_label(argument: str, length: int, block: int) -> str:
    if block == 1:
        return f"{argument}, sample"
    if length == block:
        return f"{argument}, output"
    return f"{argument}, sample (blocks of {block} outputs)"
