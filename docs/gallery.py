"""Writes the gallery: docs/gallery.md from programs/*.netsor, and a picture of each one's kernels into docs/gallery/.

python docs/gallery.py                    # the page and all pictures
python docs/gallery.py --only rnn lstm    # the page, and these pictures
python docs/gallery.py --text             # the page alone
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tensorprog as tp
from tensorprog.data import digit_labels, digits
from tensorprog.data.sentences import first_words
from tensorprog.plots import block_matrix
from tensorprog.resources import bundled_programs

HERE = Path(__file__).resolve().parent
DIGITS = 30
BATCH = 16
_INTRODUCTION = """\
# Gallery

The programs that come along, each a text to start your own from: `tpc run NAME` and `tp.load("NAME")` find them by
their names. The pictures show their kernels, NNGP at the left and NTK at the right: on digits, sorted by class; on the
two bundled sentences at their first seven words, a block for each pair of sentences; or on one batch of digits. White
is zero where there are both signs.

This page is written by `python docs/gallery.py` from the files in `programs/`.
"""


@dataclass(frozen=True)
class Example:
    """On what a program is shown: its data as a command line names them, its settings, and how many digits."""

    data: str | None = "digits"
    count: int = DIGITS
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: Callable[[np.ndarray], Any] | None = None
    """From images (N, 8, 8) to data, where no command line names them."""
    note: str = ""

    @property
    def source(self) -> str:
        return "sentences" if self.data == "sentences" else f"digits[:{self.count}]"


def _path_graphs(images: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of an image as nodes of a path, each joined to itself and its neighbours, with averages as weights."""
    nodes = images.shape[1]
    adjacency = (np.abs(np.subtract.outer(np.arange(nodes), np.arange(nodes))) <= 1).astype(float)
    adjacency /= adjacency.sum(1, keepdims=True)
    return {"x": images, "adj": np.broadcast_to(adjacency, (len(images), nodes, nodes))}


def _brightness(images: np.ndarray) -> np.ndarray:
    """The rows of an image as tokens 1, …, 16: how bright each is, in sixteen steps."""
    return 1 + np.clip((images.mean(2) + 1) * 8, 0, 15).astype(int)


SENTENCES = Example("sentences")
EXAMPLES = {
    "attention": SENTENCES,
    "batchnorm": Example("batch", BATCH),
    "batchnorm_phi": Example("batch", BATCH, {"phi": "relu"}),
    "cnn_flat": Example(settings={"depth": 4}),
    "cnn_max": Example(count=20),
    "cnn_pool": Example(settings={"depth": 4}),
    "embedding": Example(
        inputs=_brightness,
        note="An input is a sequence of tokens, 1 to V: here the rows of an image, by brightness.",
    ),
    "gcn": Example(
        inputs=_path_graphs,
        note="An input is a graph: here the rows of an image are its nodes, each joined to itself and its neighbours.",
    ),
    "gru": SENTENCES,
    "lstm": SENTENCES,
    "mgu": SENTENCES,
    "rnn": SENTENCES,
    "semicircle": Example(None),
    "transformer": SENTENCES,
    "wide_resnet": Example(settings={"blocks": 2}),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python docs/gallery.py", description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="NAME", nargs="+", help="the pictures of these programs alone")
    parser.add_argument("--text", action="store_true", help="no pictures")
    arguments = parser.parse_args()
    (HERE / "gallery.md").write_text(page(), encoding="utf-8")
    if arguments.text:
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    (HERE / "gallery").mkdir(exist_ok=True)
    for name in arguments.only or bundled_programs():
        start = time.perf_counter()
        if _example(name).data is not None:
            draw(name, HERE / "gallery" / f"{name}.png")
        print(f"{name} {time.perf_counter() - start:.1f} s", flush=True)


def _example(name: str) -> Example:
    return EXAMPLES.get(name, Example())


# ---------------------------------------------------------------- the page


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(name, path) for name, path in bundled_programs().items())])


def _section(name: str, path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(k for k, line in enumerate(lines) if not line.startswith("//"))
    comment = " ".join(line.removeprefix("//").strip() for line in lines[:start])
    comment = comment.replace("<", "&lt;")  # <q, k> is no tag
    example = _example(name)
    program = tp.load(name)
    report = program.check()
    kind = "limits of scalars" if example.data is None else "sampled" if program.sampled else "exact"
    parts = [
        f"## {name}\n",
        comment + "\n",
        f"*{report.language}; {'BP-like' if report.bp_like else 'not BP-like'}; {kind}.*\n",
    ]
    parts += ["```netsor", *lines[start:], "```\n"]
    if example.note:
        parts.append(example.note + "\n")
    if example.data is not None:
        settings = "".join(f" --set {key}={value}" for key, value in example.settings.items())
        if example.inputs is None:
            parts += ["```", f"tpc run {name}{settings} --x1 '{example.source}' --get nngp,ntk -o K.npz", "```\n"]
        parts.append(f"![NNGP and NTK of {name}](gallery/{name}.png)\n")
    else:
        parts += ["```", f"tpc run {name}", "```\n"]
    return "\n".join(parts)


# ---------------------------------------------------------------- the pictures


def draw(name: str, path: Path) -> None:
    """The kernels of a program on its example, side by side."""
    example = _example(name)
    program = tp.load(name, **example.settings)
    order = np.argsort(digit_labels(slice(example.count)), kind="stable")
    images = digits(slice(example.count))[order]
    if example.data == "sentences":
        data: Any = first_words()
    elif example.inputs is not None:
        data = example.inputs(images)
    elif example.data == "batch":
        data = images.reshape(1, example.count, 64)
    else:
        shapes = {0: (-1, 64), 1: (-1, 8, 8), 2: (-1, 8, 8, 1)}
        data = images.reshape(shapes[len(program.ir.inputs[0].ranges)])
    kernels = program.kernel()(data)
    figure = Figure(figsize=(6.4, 2.7), layout="constrained")
    for axes, title, kernel in zip(figure.subplots(1, 2), ("NNGP", "NTK"), kernels, strict=True):
        _heat_map(figure, axes, title, np.asarray(kernel), example)
    # Without metadata, so that a picture drawn again is the same file.
    figure.savefig(path, dpi=85, metadata={"Software": None})


def _heat_map(figure: Figure, axes, title: str, kernel: np.ndarray, example: Example) -> None:
    block = block_matrix(kernel)
    values = block.values
    low, high, colours = float(values.min()), float(values.max()), "viridis"
    if low < -0.05 * high:
        low, high, colours = -max(high, -low), max(high, -low), "RdBu_r"
    size = len(values)
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, extent=(0, size, size, 0), interpolation="nearest")
    if example.data == "sentences":
        bounds, names = [0, size // 2, size], ["sentence 1", "sentence 2"]
        axes.tick_params(axis="y", rotation=90)
    else:
        labels = np.sort(digit_labels(slice(example.count)))
        values_of, starts = np.unique(labels, return_index=True)
        bounds, names = [*starts, size], [str(value) for value in values_of]
        axes.set_xlabel("digit", fontsize=9)
    middles = [(a + b) / 2 for a, b in pairwise(bounds)]
    axes.set_xticks(middles, names, fontsize=8)
    axes.set_yticks(middles, names, fontsize=8)
    if example.data == "sentences":
        for label in axes.get_yticklabels():
            label.set_verticalalignment("center")
    for bound in bounds[1:-1]:
        axes.axhline(bound, color="white", linewidth=0.9)
        axes.axhline(bound, color="black", linewidth=0.4)
        axes.axvline(bound, color="white", linewidth=0.9)
        axes.axvline(bound, color="black", linewidth=0.4)
    axes.set_title(title, fontsize=11)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=8)


if __name__ == "__main__":
    main()
