"""`tpc VERB …`: which verbs there are, and what the exit status says.

0: done. 1: the program or its data is wrong; a diagnostic says where. 2: the command line is wrong.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from tensorprog import __version__
from tensorprog.cli import check, compile, derive, listing, plot, run, verify
from tensorprog.cli.common import UsageError
from tensorprog.errors import ProgramError

DONE, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130

_VERBS = (listing, check, derive, compile, run, verify, plot)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line (by default the process's own) and returns its exit status.

    Diagnostics go to stderr. With TENSORPROG_DEBUG set in the environment, errors show their tracebacks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without ⊤ gets \\u22a4, not an error
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed help (0) or what is wrong (2)
        return stop.code if isinstance(stop.code, int) else USAGE
    try:
        arguments.run(arguments)
        sys.stdout.flush()
        return DONE
    except BrokenPipeError:
        # The reader has gone (`tpc list | head -1`). Nothing more can be printed, not even when Python closes stdout.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except UsageError as error:
        _say(arguments.verb, error)
        return USAGE
    except Exception as error:
        if os.environ.get("TENSORPROG_DEBUG"):
            raise
        if isinstance(error, ProgramError):
            print(error, file=sys.stderr)
        else:
            _say(arguments.verb, _sentence(error))
        return WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tpc",
        description="Compiles the text of a neural network into its infinite-width kernels, NNGP and NTK.",
        epilog="example:\n  tpc run mlp --x1 'digits[:100]' --get nngp,ntk -o K.npz",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tensorprog {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")
    for verb in _VERBS:
        verb.add(verbs)
    return parser


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "the memory does not suffice: try fewer samples, --tile, or --dtype float32"
    if isinstance(error, ValueError | OSError) and str(error):
        return str(error)
    if isinstance(error, RecursionError):
        return "the program is nested too deeply"
    message = " ".join(str(error).split())[:300]
    return f"internal error: {type(error).__name__}: {message} (TENSORPROG_DEBUG=1 shows where)"


def _say(verb: str, what: object) -> None:
    print(f"tpc {verb}: error: {what}", file=sys.stderr)
