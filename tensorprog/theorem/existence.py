"""Whether the limits that a recursion writes down exist.

y := exp(h ** 2)                    no NNGP: E y² need not be finite
s := step(h)                        no NTK: step jumps, so a finite network has no gradient there
weight W : A(n, n) ~ N(0, s / n)    no NTK: the part of W grows like n
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy

from tensorprog.errors import ProgramError, Span
from tensorprog.functions import facts, text
from tensorprog.program.ir import Family, Program
from tensorprog.program.substitution import free_names
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.tangent import tangents


def check_nngp(recursion: ir.Recursion) -> None:
    """Raises ProgramError where a function grows faster than the Master Theorem allows, exp(O(|x|^(2 - ε)))."""
    program = _program(recursion)
    for table in recursion.tables.values():
        for f, symbols in _functions(table):
            for z in symbols:
                if facts(f, z).growth == "beyond":
                    raise ProgramError(
                        f"{text(f)} grows faster in {z} than the Master Theorem allows, exp(|{z}|^(2 - ε)): "
                        "its moments may be infinite",
                        _place(program, program.families[table.key.families[0]]),
                    ).located(program.source, program.filename)


def check_ntk(recursion: ir.Recursion) -> None:
    """Raises ProgramError where the NNGP exists and the NTK does not, or where there is no output to have one."""
    program = _program(recursion)
    try:
        tangents(recursion)
    except ProgramError as error:
        raise error.located(program.source, program.filename) from None


def needs_data(recursion: ir.Recursion) -> bool:
    """Whether anything in the recursion is read off the inputs, or off their sizes."""
    program = _program(recursion)
    inputs = {f.name for f in program.inputs}
    return bool(program.open_sizes) or any(inputs.intersection(key.families) for key in recursion.tables)


def _functions(table: ir.Table) -> Iterator[tuple[sympy.Expr, Sequence[sympy.Symbol]]]:
    """The functions in the expectations of a table, each with the symbols of its Gaussians."""
    for clause in table.clauses:
        for node in ir.walk(clause.value):
            match node:
                case ir.SingleExpectation():
                    yield node.f, (node.z,)
                case ir.PairExpectation():
                    yield node.f, (node.z,)
                    yield node.g, (node.w,)
                case ir.JointExpectation():
                    yield node.f, node.zs
                    yield node.g, node.ws
                case ir.Sampled():
                    yield from node.functions


def _program(recursion: ir.Recursion) -> Program:
    assert isinstance(recursion.program, Program)
    return recursion.program


def _place(program: Program, family: Family | None) -> Span | None:
    """Where a family is written; for one that the core form made, where the first statement that reads it is."""
    seen: set[str] = set()
    while family is not None and not family.span.line:
        seen.add(family.name)
        name = family.name
        readers = (
            f
            for f in program.families.values()
            if f.name not in seen and any(name in free_names(c.value) for c in f.clauses)
        )
        family = next(readers, None)
    return family.span if family is not None else None
