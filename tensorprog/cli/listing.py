"""`tpc list`: the bundled programs."""

from __future__ import annotations

import argparse

from tensorprog.cli.common import add_verb


def add(verbs) -> None:
    add_verb(verbs, "list", run, "lists the bundled programs, a line each", "tpc list")


def run(arguments: argparse.Namespace) -> None:
    from tensorprog.resources import bundled_programs

    programs = bundled_programs()
    width = max(map(len, programs), default=0)
    for name, path in programs.items():
        with open(path, encoding="utf-8") as file:
            first = file.readline().strip()
        print(f"{name:{width}}  {first.removeprefix('//').strip() if first.startswith('//') else ''}".rstrip())
