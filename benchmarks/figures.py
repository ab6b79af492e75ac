"""The figures of the Tensor Programs papers: kernels of four architectures, and how finite networks approach them.

    python benchmarks/figures.py gp  -o docs/images/kernels_by_width.png
    python benchmarks/figures.py ntk -o docs/images/ntk_by_width.png

Data: the two bundled sentences for what reads sequences, one batch of bundled digits for batch normalization. Seeds are
fixed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import pairwise

import jax
import numpy as np
from matplotlib.figure import Figure

import tensorprog as tp
from tensorprog.data import digit_labels, digits, sentences
from tensorprog.data.sentences import first_words
from tensorprog.finite.picture import draw_deviations
from tensorprog.output import check_writable, write_atomically
from tensorprog.plots import plot_format

WIDTHS = (64, 128, 256, 512, 1024)
SEEDS = 40
BATCH = 16
TOL = 5e-4  # standard error of limits that are sampled, as a part of the largest entry
_DPI = 130


@dataclass(frozen=True)
class Network:
    """A column of a figure: a bundled program, and what it is called."""

    program: str
    title: str
    batch: bool = False  # of digits, in place of sentences


NETWORKS = (
    Network("rnn", "RNN"),
    Network("gru", "GRU"),
    Network("transformer", "transformer"),
    Network("batchnorm", "batchnorm", batch=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/figures.py", description=__doc__.split("\n")[0])
    parser.add_argument("figure", choices=("gp", "ntk"), help="gp: NNGP kernels and deviations; ntk: deviations")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="a .png, .pdf or .svg file")
    parser.add_argument("--widths", metavar="N", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--seeds", metavar="S", type=int, default=SEEDS)
    arguments = parser.parse_args()
    kind = plot_format(arguments.output)
    check_writable(arguments.output)
    jax.config.update("jax_enable_x64", True)
    draw = {"gp": gp_figure, "ntk": ntk_figure}[arguments.figure]
    figure = draw(arguments.widths, arguments.seeds)
    write_atomically(arguments.output, lambda file: figure.savefig(file, format=kind, dpi=_DPI))


def gp_figure(widths, seeds) -> Figure:
    """NNGP kernels, a heat map each; below it the deviation of networks of finite width."""
    figure = Figure(figsize=(11.5, 6.0), layout="constrained")
    axes = figure.subplots(2, len(NETWORKS), squeeze=False, height_ratios=(1.0, 1.0))
    found = []
    for k, network in enumerate(NETWORKS):
        _heat_map(figure, axes[0, k], network)
        found.append(_deviations(axes[1, k], network, "nngp", widths, seeds))
    _same_heights(axes[1], found)
    return figure


def ntk_figure(widths, seeds) -> Figure:
    """The NTK's deviation by width, of what has gradients with rules of their own: recurrence, attention, batchnorm."""
    networks = [n for n in NETWORKS if n.program != "gru"]
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(networks), squeeze=False)
    found = []
    for k, network in enumerate(networks):
        found.append(_deviations(axes[0, k], network, "ntk", widths, seeds))
        axes[0, k].set_title(network.title, fontsize=13)
    _same_heights(axes[0], found)
    return figure


def _batch() -> np.ndarray:
    """The first digits as one batch, sorted by class: (1, BATCH, 64)."""
    order = np.argsort(digit_labels(slice(BATCH)), kind="stable")
    return digits(slice(BATCH))[order].reshape(1, BATCH, 64)


def _heat_map(figure: Figure, axes, network: Network) -> None:
    data = _batch() if network.batch else sentences()
    program = tp.load(network.program)
    kernel = program.kernel(tol=TOL)(data, None, "nngp")
    if network.batch:
        values = np.asarray(kernel)[0, 0]
        labels = np.sort(digit_labels(slice(BATCH)))
        names, starts = np.unique(labels, return_index=True)
        bounds = [*starts, BATCH]
        what = "digit, one batch"
    else:
        values = np.block([[np.asarray(block) for block in row] for row in kernel])
        lengths = [len(s) for s in data]
        names, bounds = ["sentence 1", "sentence 2"], [0, *np.cumsum(lengths)]
        what = "word"
    image = axes.imshow(values, cmap="viridis", extent=(0, len(values), len(values), 0), interpolation="nearest")
    middles = [(a + b) / 2 for a, b in pairwise(bounds)]
    axes.set_xticks(middles, [str(name) for name in names], fontsize=9)
    axes.set_yticks(middles, [str(name) for name in names], fontsize=9)
    if not network.batch:
        axes.tick_params(axis="y", rotation=90)
        for label in axes.get_yticklabels():
            label.set_verticalalignment("center")
    for bound in bounds[1:-1]:
        for line in (axes.axhline, axes.axvline):
            line(bound, color="white", linewidth=0.9)
    axes.set_title(network.title, fontsize=13)
    axes.set_xlabel(what, fontsize=10)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=9)


def _deviations(axes, network: Network, kernel: str, widths, seeds: int) -> tp.Verification:
    data = _batch() if network.batch else first_words()
    program = tp.load(network.program)
    found = tp.verify(program, data, widths, seeds, kernel, replicates=1, tol=TOL)
    print(found, file=sys.stderr)
    draw_deviations(axes, found)
    axes.set_xlabel("width n", fontsize=11)
    axes.set_ylabel("")
    axes.tick_params(labelsize=9)
    axes.legend(fontsize=9, frameon=False, loc="upper right")
    return found


def _same_heights(row, found: list[tp.Verification]) -> None:
    """One vertical axis for a row, labelled at its left, with room above for the legends."""
    quartiles = np.concatenate([q for f in found for q in f.quantiles.values()])
    low, high = quartiles.min(), quartiles.max()
    for k, axes in enumerate(row):
        axes.set_ylim(low / 1.2, high * 2.8)
        if k:
            axes.set_yticklabels([])
    row[0].set_ylabel("relative deviation from the limit", fontsize=11)


if __name__ == "__main__":
    main()
