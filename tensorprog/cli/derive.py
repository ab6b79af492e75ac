"""`tpc derive`: the recursion of means and covariances."""

from __future__ import annotations

import argparse

from tensorprog.cli.common import add_output, add_program, add_verb, check_output, emit, load_program


def add(verbs) -> None:
    parser = add_verb(
        verbs,
        "derive",
        run,
        "derives the μ/Σ recursion of a program by the Master Theorem",
        "tpc derive rnn\ntpc derive mlp --get ntk --format latex",
    )
    add_program(parser)
    parser.add_argument("--get", choices=("nngp", "ntk"), default="nngp", help="which kernel (default: nngp)")
    parser.add_argument("--format", choices=("text", "latex", "json"), default="text", help="default: text")
    add_output(parser, "write to this file instead of stdout")


def run(arguments: argparse.Namespace) -> None:
    check_output(arguments.output)
    derived = load_program(arguments).derive(arguments.get)
    if arguments.format == "json":
        import json

        shown = json.dumps(derived.json(), indent=2, ensure_ascii=False)
    else:
        shown = derived.latex() if arguments.format == "latex" else str(derived)
    emit(shown if shown.endswith("\n") else shown + "\n", arguments.output)
