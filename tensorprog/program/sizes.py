"""The integer parameters of a program: which are open, and whether a program holds together at given sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tensorprog.errors import ProgramError
from tensorprog.index.bounds import bound_symbols
from tensorprog.index.ranges import Range
from tensorprog.language import syntax
from tensorprog.language.printer import print_index
from tensorprog.program.build import build
from tensorprog.program.ir import Parameter, Program
from tensorprog.program.parameters import Setting
from tensorprog.program.substitution import children, free_names


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


# ---------------------------------------------------------------- lengths that do not follow the data


@dataclass(frozen=True)
class OwnLength:
    """`length`, a parameter that is set, says how far `index` goes into an axis that `size`, of the data, ends."""

    length: str
    index: str
    size: str


def own_lengths(program: Program) -> Iterator[OwnLength]:
    """Strided, valid and upsampled layers whose length is a number of its own.

    A window from some index on, `h[i]` or `h[i+2]`, is as long as the program says; what jumps, or moves by several
    indices, goes over the whole axis at one length of the data and not at another.
    """
    for family in program.families.values():
        for clause in family.clauses:
            ends: dict[str, set[str]] = {}
            for r in clause.loops:
                ends[r.name] = _behind(_ends(r), ends)
            yield from _own_lengths(program, clause.value, ends)


def _own_lengths(program: Program, node, ends: Mapping[str, set[str]]) -> Iterator[OwnLength]:
    match node:
        case syntax.Index(name, indices) if name in program.families:
            for e, r in zip(indices, program.families[name].ranges, strict=False):
                sizes = _ends(r) & set(program.open_sizes)
                used = free_names(e) & ends.keys()
                reached = _behind(free_names(e), ends)
                if sizes and used and not _is_window(e, used) and not reached & set(program.open_sizes):
                    for length in sorted(set().union(*(ends[i] for i in used)) & program.integers.keys()):
                        yield OwnLength(length, print_index(e), min(sizes))
        case syntax.Reduction(binders=binders):
            ends = dict(ends)
            for b in binders:
                if b.low is not None and b.high is not None:
                    ends[b.name] = _behind(free_names(b.low) | free_names(b.high), ends)
    for child in children(node):
        yield from _own_lengths(program, child, ends)


def _ends(r: Range) -> set[str]:
    return set(bound_symbols(r.low) | bound_symbols(r.high))


def _behind(names: set[str], ends: Mapping[str, set[str]]) -> set[str]:
    """The sizes behind names: those among them, and those at the ends of the indices among them."""
    return set().union(names - ends.keys(), *(ends[n] for n in names & ends.keys()))


def _is_window(e: syntax.Expr, used: set[str]) -> bool:
    """Whether an index is another one plus a constant."""
    match e:
        case syntax.Binary("+" | "-", left, right):
            return len(used) == 1 and all(_is_window(x, used) for x in (left, right))
        case syntax.Name():
            return len(used) == 1
    return not free_names(e) & used
