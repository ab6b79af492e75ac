"""`tpc verify`: finite networks against the theory."""

from __future__ import annotations

import argparse
import sys

from tensorprog.cli.common import (
    UsageError,
    add_kernels,
    add_program,
    add_verb,
    check_output,
    load_program,
    positive_integer,
    read_data,
    tolerance,
)
from tensorprog.errors import ProgramError

_DEFAULT_WIDTHS, _DEFAULT_SEEDS = "64,128,256,512", 10


def add(verbs) -> None:
    parser = add_verb(
        verbs,
        "verify",
        run,
        "compares finite networks with the limit: deviations by width, and their slope",
        "tpc verify rnn --x1 'digits[:4]' --widths 64,128,256 --seeds 10 --plot rnn.png\n"
        "tpc verify semicircle --widths 64,128,...,512",
    )
    add_program(parser)
    data = "A.npy, A.npz:key, digits or digits[:10]; NAME=… before it for programs with several inputs, repeatable"
    parser.add_argument("--x1", metavar="DATA", action="append", default=[], help=f"data: {data}")
    parser.add_argument(
        "--widths",
        metavar="N,N,…",
        type=_widths,
        default=_widths(_DEFAULT_WIDTHS),
        help=f"the widths n; 64,128,...,1024 goes on in the same ratio (default: {_DEFAULT_WIDTHS})",
    )
    parser.add_argument(
        "--seeds",
        metavar="S",
        type=positive_integer("a number of seeds"),
        default=_DEFAULT_SEEDS,
        help=f"how many networks of each width (default: {_DEFAULT_SEEDS})",
    )
    add_kernels(parser, "nngp,ntk")
    parser.add_argument(
        "--tol",
        metavar="E",
        type=tolerance,
        help="for limits that are sampled: the standard error to reach, as a part of the largest entry",
    )
    parser.add_argument("--plot", metavar="P.png", help="draw the deviations: a .png, .pdf or .svg file")
    parser.add_argument("--json", action="store_true", help="the numbers as JSON")
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="of the networks (default: float32)"
    )


def run(arguments: argparse.Namespace) -> None:
    check_output(arguments.plot, (".png", ".pdf", ".svg"))
    import jax

    jax.config.update("jax_enable_x64", True)
    program = load_program(arguments)
    names = [f.name for f in program.ir.inputs]
    if names and not arguments.x1:
        raise UsageError(f"--x1 is needed: the program {program.name} reads {', '.join(names)}")
    found = _verify(program, arguments)
    if arguments.plot is not None:
        found.plot(arguments.plot)
    if arguments.json:
        import json

        print(json.dumps(found.json(), indent=2))
    else:
        print(found)


def _verify(program, arguments: argparse.Namespace):
    from tensorprog.cli.progress import Progress
    from tensorprog.finite.verify import verify

    x1 = read_data(program, arguments.x1, "--x1")
    if arguments.get and program.recursion.output is None:
        print("tpc verify: the outputs are C's: --get has no part in it", file=sys.stderr)
    try:
        with Progress("networks", unit="network") as progress:
            return verify(
                program,
                x1,
                arguments.widths,
                arguments.seeds,
                arguments.get or ("nngp", "ntk"),
                dtype=arguments.dtype,
                tol=arguments.tol,
                progress=progress,
            )
    except ProgramError as error:
        if arguments.get is None and program.recursion.output is not None and error is program.ntk_error:
            error.hint = "--get nngp verifies the other kernel"
        raise


def _widths(text: str) -> tuple[int, ...]:
    """`64,128,256` or `64,128,...,1024`, where the ratio of the first two goes on."""
    parts = [part.strip() for part in text.replace("\N{HORIZONTAL ELLIPSIS}", "...").split(",")]
    numbers: list[int] = []
    for k, part in enumerate(parts):
        if part == "..." and len(numbers) >= 2 and k == len(parts) - 2 and numbers[-1] > numbers[-2]:
            last = _width(parts[-1], text)
            ratio = numbers[-1] / numbers[-2]
            while numbers[-1] * ratio < last * 0.999:
                numbers.append(round(numbers[-1] * ratio))
        else:
            numbers.append(_width(part, text))
    return tuple(dict.fromkeys(numbers))


def _width(part: str, text: str) -> int:
    try:
        width = int(part)
    except ValueError:
        width = 0
    if width < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of widths, 64,128,256 or 64,128,...,1024")
    return width
