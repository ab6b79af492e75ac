"""The picture of a verification: deviations by width, on logarithmic axes, beside the slope of -1/2."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from tensorprog.output import write_atomically
from tensorprog.plots import plot_format

if TYPE_CHECKING:
    from tensorprog.finite.verify import Verification

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart without red and green
_DPI = 120


def plot_deviations(found: Verification, path: str | os.PathLike[str], title: str | None = None) -> None:
    """Median deviations with their quartiles, and a dashed line of slope -1/2; PNG, PDF or SVG.

    Raises ValueError for another suffix, OSError where the file cannot be written.
    """
    kind = plot_format(path)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    draw_deviations(axes, found)
    axes.set_title(title or found.program, fontsize=14)
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=_DPI))


def draw_deviations(axes, found: Verification) -> None:
    """The same onto matplotlib axes, which may stand in a larger figure."""
    widths = np.asarray(found.widths, float)
    slopes = found.slopes
    top = 0.0
    for k, (name, quantiles) in enumerate(found.quantiles.items()):
        colour = _COLOURS[k % len(_COLOURS)]
        label = name.upper() if name in ("nngp", "ntk") else name
        slope = slopes[name]
        if slope is not None:
            label += f", slope {slope:.2f}".replace("-", "\N{MINUS SIGN}")
        axes.plot(widths, quantiles[:, 1], color=colour, marker="o", linewidth=1.8, label=label)
        axes.fill_between(widths, quantiles[:, 0], quantiles[:, 2], color=colour, alpha=0.2, linewidth=0)
        if name in found.limit_errors:
            axes.axhline(found.limit_errors[name], color=colour, linestyle=":", linewidth=1.2)
        if np.isfinite(quantiles[0, 1]):
            top = max(top, float(quantiles[0, 1]))
    if top > 0 and len(widths) > 1:
        guide = 1.4 * top * np.sqrt(widths[0] / widths)
        axes.plot(widths, guide, color="0.35", linestyle="--", linewidth=1.2, label="slope \N{MINUS SIGN}1/2")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_ticks(found.widths)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("width n", fontsize=12)
    axes.set_ylabel("relative deviation from the limit", fontsize=12)
    axes.tick_params(labelsize=10)
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.legend(fontsize=10, frameon=False)


def _ticks(widths: tuple[int, ...]) -> list[int]:
    """The widths, thinned where their labels would run into one another."""
    kept: list[int] = []
    for w in widths:
        if not kept or w >= 1.4 * kept[-1]:
            kept.append(w)
    return kept
