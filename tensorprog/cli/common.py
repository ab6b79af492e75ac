"""What several verbs share: the program and its settings, data, output files."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tensorprog.errors import did_you_mean
from tensorprog.output import Content, check_writable, write_atomically


class UsageError(Exception):
    """The command line is wrong, in a way that argparse does not see."""


def add_verb(verbs, name: str, run, summary: str, examples: str) -> argparse.ArgumentParser:
    """A verb's own parser; `run(arguments)` does the work, `examples` are shown at the end of its help."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="\n".join(["examples:" if "\n" in examples else "example:", *(f"  {e}" for e in examples.split("\n"))]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


# ---------------------------------------------------------------- the program


def add_program(parser: argparse.ArgumentParser) -> None:
    """PROGRAM and --set."""
    parser.add_argument("program", metavar="PROGRAM", help="a .netsor file, or a bundled program (tpc list)")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_setting,
        help="set a parameter of the program: a number (2, 0.5, 1/3) or the name of a function; repeatable",
    )


def load_program(arguments: argparse.Namespace):
    """The program of the command line, a `tensorprog.api.Program`. Raises ProgramError, and UsageError for `--set`."""
    from tensorprog.api import load

    settings: dict[str, str] = {}
    for name, value in arguments.settings:
        if settings.setdefault(name, value) != value:
            raise UsageError(f"--set gives '{name}' twice: {settings[name]} and {value}")
    return load(arguments.program, **settings)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name.strip(), value.strip()


# ---------------------------------------------------------------- data


def add_kernels(parser: argparse.ArgumentParser, default: str) -> None:
    """--get, of one or both kernels."""
    parser.add_argument(
        "--get", metavar="KERNELS", type=_kernels, help=f"nngp, ntk, or both as nngp,ntk (default: {default})"
    )


def _kernels(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in ("nngp", "ntk"):
            hint = did_you_mean(name.lower(), ("nngp", "ntk"))
            raise argparse.ArgumentTypeError(f"{name!r} is no kernel: nngp or ntk{f' ({hint})' if hint else ''}")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a kernel twice")
    return names


def read_data(program, sources: list[str], option: str) -> Any:
    """The data that `--x1` or `--x2` names, as a dict by input; None where there is none.

    Raises UsageError where the option does not name the program's inputs, OSError or ValueError for the files.
    """
    from tensorprog.data.sources import parse_source, read_array

    if not sources:
        return None
    names = [f.name for f in program.ir.inputs]
    if not names:
        raise UsageError(f"the program {program.name} has no inputs, and {option} is given")
    specs: dict[str, str] = {}
    for text in sources:
        try:
            source = parse_source(text)
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None
        if source.name is None and len(names) > 1:
            raise UsageError(f"{option} needs a name, {names[0]}=…: the program reads {', '.join(names)}")
        name = names[0] if source.name is None else source.name
        if name not in names:
            hint = did_you_mean(name, names) or f"it has {', '.join(names)}"
            raise UsageError(f"{option}: the program {program.name} has no input '{name}': {hint}")
        if name in specs:
            raise UsageError(f"{option} gives '{name}' twice")
        specs[name] = source.spec
    return {name: read_array(spec) for name, spec in specs.items()}


# ---------------------------------------------------------------- results


def add_output(parser: argparse.ArgumentParser, what: str, required: bool = False) -> None:
    """-o FILE."""
    parser.add_argument("-o", "--output", metavar="FILE", required=required, help=what)


def check_output(path: str | None, suffixes: tuple[str, ...] = ()) -> None:
    """Raises UsageError where `-o` names no file that can be written; asked before the work begins."""
    if path is None:
        return
    if suffixes and Path(path).suffix.lower() not in suffixes and not is_device(path):
        raise UsageError(f"cannot write {path}: its name must end in {' or '.join(suffixes)}")
    try:
        check_writable(path)
    except OSError as error:
        raise UsageError(str(error)) from None


def is_device(path: str) -> bool:
    """Whether a path is a device or a pipe, such as /dev/stdout, whose name says nothing of its content."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def emit(text: Content, path: str | None) -> None:
    """Text or bytes into a file, complete or not at all, or to stdout."""
    if path is not None:
        write_atomically(path, text)
    elif isinstance(text, bytes):
        if sys.stdout.isatty():
            raise UsageError("this is a binary result: name a file with -o")
        sys.stdout.buffer.write(text)
    else:
        assert isinstance(text, str)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def positive_integer(what: str):
    """The type of an option that is an integer, at least 1; `what` says of what, "a number of samples"."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if value < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}, at least 1")
        return value

    return parse


def tolerance(text: str) -> float:
    """The type of --tol, a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value
