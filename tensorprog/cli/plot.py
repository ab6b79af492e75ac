"""`tpc plot`: heat maps of kernels."""

from __future__ import annotations

import argparse
import zipfile
import zlib
from pathlib import Path
from typing import Any

from tensorprog.cli.common import UsageError, add_output, add_verb, check_output


def add(verbs) -> None:
    parser = add_verb(
        verbs,
        "plot",
        run,
        "draws the covariance and correlation of kernels as heat maps",
        "tpc run mlp --x1 'digits[:100]' -o K.npz && tpc plot K.npz --labels 'digits[:100]' -o K.png",
    )
    parser.add_argument("kernels", metavar="K.npz", help="what tpc run wrote, or one kernel as .npy")
    add_output(parser, "the picture: a .png, .pdf or .svg file", required=True)
    parser.add_argument("--title", help="a line above the pictures")
    parser.add_argument(
        "--labels",
        metavar="DATA",
        help="sort by class: each input's class as A.npy or A.npz:key, or digits[:100] for the classes of digits",
    )


def run(arguments: argparse.Namespace) -> None:
    check_output(arguments.output)
    from tensorprog.plots import plot_format, plot_kernels

    try:
        plot_format(arguments.output)
    except ValueError as error:
        raise UsageError(str(error)) from None
    labels = None if arguments.labels is None else _labels(arguments.labels)
    plot_kernels(_kernels(arguments.kernels), arguments.output, arguments.title, labels)


def _labels(spec: str) -> Any:
    from tensorprog.data.digits import digit_labels
    from tensorprog.data.sources import Digits, read_array

    found = read_array(spec)
    return digit_labels(found.selection) if isinstance(found, Digits) else found


def _kernels(path: str) -> dict[str, Any]:
    """All arrays of a .npz file, or the one of a .npy file under the file's name."""
    import numpy as np

    try:
        with open(path, "rb") as file:
            if not file.peek(1):  # type: ignore[attr-defined]
                raise ValueError(f"{path} is empty")
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {Path(path).stem: loaded}
            with loaded as archive:
                return {name: archive[name] for name in archive.files}
    except OSError as error:
        if error.strerror:
            raise type(error)(f"cannot read {path}: {error.strerror.lower()}") from None
        raise ValueError(f"{path} is not a .npz or .npy file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, SyntaxError, ValueError) as error:
        if str(error).startswith(path):
            raise
        raise ValueError(f"{path} is not a .npz or .npy file, or is damaged") from None
