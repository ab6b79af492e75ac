"""`tpc run`: the kernels on data, or the limits of outputs of type C."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorprog.cli.common import (
    UsageError,
    add_kernels,
    add_output,
    add_program,
    add_verb,
    check_output,
    is_device,
    load_program,
    positive_integer,
    read_data,
    tolerance,
)
from tensorprog.errors import ProgramError
from tensorprog.output import write_atomically

MOST_SHOWN = 12  # rows and columns of a matrix that is printed


def add(verbs) -> None:
    parser = add_verb(
        verbs,
        "run",
        run,
        "computes the kernels of a program on data",
        "tpc run mlp --x1 'digits[:100]' --get nngp,ntk -o K.npz\n"
        "tpc run rnn --set var_w=1/3 --x1 'digits[:5]' --x2 'digits[5:8]' --get nngp\n"
        "tpc run semicircle",
    )
    add_program(parser)
    data = "A.npy, A.npz:key, digits[:100] or sentences; NAME=… before it for programs with several inputs, repeatable"
    parser.add_argument("--x1", metavar="DATA", action="append", default=[], help=f"data: {data}")
    parser.add_argument("--x2", metavar="DATA", action="append", default=[], help="the second argument (default: x1)")
    add_kernels(parser, "nngp,ntk")
    add_output(parser, "the result as K.npz with the keys nngp and ntk, or one kernel as K.npy; without it, a summary")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="default: float64")
    parser.add_argument(
        "--tile",
        metavar="N",
        type=positive_integer("a number of samples"),
        help="samples of x1 and x2 to be handled at once",
    )
    parser.add_argument(
        "--tol",
        metavar="E",
        type=tolerance,
        help="for kernels that are sampled: the standard error to reach, as a part of the largest entry",
    )
    parser.add_argument("--seed", metavar="S", type=_seed, default=0, help="of what is sampled (default: 0)")


def run(arguments: argparse.Namespace) -> None:
    get = arguments.get or ("nngp", "ntk")
    check_output(arguments.output, (".npz", ".npy"))
    if arguments.dtype == "float64":
        import jax

        jax.config.update("jax_enable_x64", True)
    program = load_program(arguments)
    if program.recursion.output is None:
        results = _limits(program, arguments)
        _show_limits(results)
    else:
        if _is_single(arguments.output) and len(get) > 1:
            raise UsageError(f"{arguments.output} holds one kernel: say which with --get, or write a .npz file")
        saved = arguments.output if arguments.output is not None and not is_device(arguments.output) else None
        results = _kernels(program, get, arguments, saved)
        if saved is not None:
            return
        if arguments.output is None:
            _show_kernels(results)
    if arguments.output is not None:
        _write(arguments.output, results)


def _kernels(program, get: tuple[str, ...], arguments: argparse.Namespace, saved: str | None) -> dict[str, Any]:
    """The kernels; where they go to a file, they are written tile by tile, and nothing is returned."""
    import numpy as np

    from tensorprog.cli.progress import Progress

    if not arguments.x1:
        names = ", ".join(f.name for f in program.ir.inputs)
        raise UsageError(f"--x1 is needed: the program {program.name} reads {names}" if names else "--x1 is needed")
    x1, x2 = read_data(program, arguments.x1, "--x1"), read_data(program, arguments.x2, "--x2")
    results: dict[str, Any] = {}
    try:
        with Progress("kernel") as progress:
            sampling = {"tol": arguments.tol, "seed": arguments.seed} if program.sampled else {}
            kernel = program.kernel(tile=arguments.tile, dtype=arguments.dtype, progress=progress, **sampling)
            if saved is not None:
                finite = kernel.save(saved, x1, x2, get)
            else:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always", RuntimeWarning)
                    computed = kernel(x1, x2, get, return_stderr=program.sampled)
                results = {name: np.asarray(value) for name, value in computed._asdict().items()}
                finite = {name: bool(said) or bool(np.isfinite(value).all()) for name, value in results.items()}
                for warning in said:
                    print(f"tpc run: warning: {warning.message}", file=sys.stderr)
    except ProgramError as error:
        if arguments.get is None and error is program.ntk_error:
            error.hint = "--get nngp computes the other kernel"
        raise
    for name, all_finite in finite.items():
        if not all_finite:
            print(f"tpc run: warning: {name} has entries that are not finite", file=sys.stderr)
    return results


def _limits(program, arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from tensorprog.theorem.existence import needs_data

    if arguments.get:
        print("tpc run: the outputs are C's: their limits are computed, and --get has no part in it", file=sys.stderr)
    if arguments.x2:
        raise UsageError("--x2 is for kernels: the outputs of this program are C's, functions of one argument")
    x1 = read_data(program, arguments.x1, "--x1")
    if x1 is None and needs_data(program.recursion) and program.ir.inputs:
        raise UsageError("--x1 is needed: the limits depend on data")
    found = program.limits(x1, dtype=arguments.dtype, return_stderr=program.sampled)
    return {name: np.asarray(value) for name, value in found.items()}


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer, 0 or more")
    return int(text)


# ---------------------------------------------------------------- results


def _is_single(path: str | None) -> bool:
    return path is not None and Path(path).suffix.lower() == ".npy" and not is_device(path)


def _write(path: str, results: Mapping[str, Any]) -> None:
    import numpy as np

    if _is_single(path):
        if len(results) > 1:
            raise UsageError(f"{path} holds one array, and the results are {', '.join(results)}: write a .npz file")
        (array,) = results.values()
        write_atomically(path, lambda file: np.save(file, array))
    else:
        write_atomically(path, lambda file: np.savez(file, **results))


def _show_limits(results: Mapping[str, Any]) -> None:
    for name, value in results.items():
        if name.endswith("_stderr"):
            continue
        error = results.get(f"{name}_stderr")
        print(f"{name} = {_matrix(value)}" + ("" if error is None else f", standard errors up to {error.max():.2g}"))


def _show_kernels(results: Mapping[str, Any]) -> None:
    from tensorprog.plots import block_matrix

    for name, value in results.items():
        if name.endswith("_stderr"):
            continue
        error = results.get(f"{name}_stderr")
        sampled = "" if error is None else f", standard errors up to {error.max():.2g}"
        print(f"{name}: shape {value.shape}, {value.dtype}, from {value.min():.6g} to {value.max():.6g}{sampled}")
        matrix = block_matrix(value).values
        if max(matrix.shape) <= MOST_SHOWN:
            print(_matrix(matrix))


def _matrix(value) -> str:
    import numpy as np

    return np.array2string(value, precision=8, suppress_small=True, max_line_width=200)
