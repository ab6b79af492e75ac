"""The integer parameters of a program: which are open, and whether a program holds together at given sizes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from tensorprog.errors import ProgramError
from tensorprog.program.build import build
from tensorprog.program.ir import Parameter, Program
from tensorprog.program.parameters import Setting


def settings(program: Program) -> dict[str, Setting]:
    """The values that the program's parameters have, as settings that build the same program again."""
    return {p.name: p.value for p in program.parameters if p.value is not None}


def check_sizes(program: Program, sizes: Mapping[str, int]) -> None:
    """Check types, indices and the order of execution at the real sizes, `{"T": 7}`.

    Raises ProgramError, located in the text, for what goes wrong at these sizes, and where an integer parameter has no
    value after all. Asked again for the same sizes, the answer costs nothing.
    """
    for p in program.parameters:
        if p.name in program.open_sizes and p.name not in sizes:
            raise missing(program, p)
    if sizes:
        _check(program.source, program.filename, tuple(sorted({**settings(program), **sizes}.items())))


def missing(program: Program, parameter: Parameter) -> ProgramError:
    """The error that a parameter without a value is."""
    kind, example = {"real": ("a number", "1"), "function": ("a function", "relu")}.get(
        parameter.kind, ("an integer", "3")
    )
    return ProgramError(
        f"the parameter '{parameter.name}' has no value, and {kind} is needed",
        parameter.span,
        hint=f"pass {parameter.name}={example}, say",
    ).located(program.source, program.filename)


@lru_cache(maxsize=256)
def _check(source: str, filename: str, values: tuple[tuple[str, Setting], ...]) -> None:
    build(source, dict(values), filename)
