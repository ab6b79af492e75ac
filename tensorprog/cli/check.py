"""`tpc check`: what can be said of a program from its text."""

from __future__ import annotations

import argparse

from tensorprog.cli.common import add_program, add_verb, load_program


def add(verbs) -> None:
    parser = add_verb(
        verbs,
        "check",
        run,
        "parses and types a program; tells its language, whether it is BP-like, its nonlinearities, which limits exist",
        "tpc check rnn --set phi=tanh\ntpc check transformer --json",
    )
    add_program(parser)
    parser.add_argument("--json", action="store_true", help="the report as JSON")


def run(arguments: argparse.Namespace) -> None:
    report = load_program(arguments).check()
    if arguments.json:
        import json

        print(json.dumps(report.json(), indent=2, ensure_ascii=False))
    else:
        print(report)
