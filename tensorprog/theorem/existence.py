"""Whether the limits that a recursion writes down exist.

y := exp(h ** 2)                    no NNGP: E y² need not be finite
s := step(h)                        no NTK: step jumps, so a finite network has no gradient there
weight W : A(n, n) ~ N(0, s / n)    no NTK: the part of W grows like n
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import numpy as np
import sympy

from tensorprog import recursion as ir
from tensorprog.errors import ProgramError, Span
from tensorprog.functions import facts, text
from tensorprog.functions.registry import head
from tensorprog.index.bounds import evaluate_bound
from tensorprog.program.instructions import Pointwise, VectorReduction
from tensorprog.program.ir import Family, Program
from tensorprog.program.substitution import free_names
from tensorprog.program.types import Vector
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.tangent import tangents

MOST_SINGULAR = 2  # a batch that varies in so many directions and is normalized without an ε has no NTK with itself


def check_nngp(recursion: ir.Recursion) -> None:
    """Raises ProgramError where a function grows faster than the Master Theorem allows, exp(O(|x|^(2 - ε))), is not
    real somewhere, or has a pole.
    """
    program = _program(recursion)
    for table in recursion.tables.values():
        for f, z, squared in _of_gaussians(table):
            if (problem := _undefined(f, z, squared)) is not None:
                place = _place(program, program.families[table.key.families[0]])
                raise ProgramError(problem[0], place, hint=problem[1]).located(program.source, program.filename)
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


def batches_without_eps(recursion: ir.Recursion) -> tuple[tuple[VectorReduction, Span | None], ...]:
    """The batchnorms that divide by a spread to which nothing is added, each with its place."""
    program = _program(recursion)
    reader = CaseReader(program)
    return tuple(
        (reduction, family.span if family.span.line else None)
        for name, family in program.families.items()
        if family.role == "assigned" and isinstance(family.type, Vector)
        for case in reader.cases(name)
        for reduction in _batchnorms(case.body)
        if not _has_eps(reduction, program)
    )


def check_batches(
    program: Program,
    batches: Sequence[tuple[VectorReduction, Span | None]],
    first,
    second,
    ntk: bool,
    directions: int | None,
) -> None:
    """Raises ProgramError where a batch is too small to be normalized, or for its NTK with itself.

    With u = (e - m) / sqrt(s) over a batch that varies in r directions (B - 1 of B samples, if these are in general
    position), E ∂u ∂u' between equal batches is E 1/s, which is finite from r = 3 on. batches: `batches_without_eps`;
    first, second: the data of both runs (`arguments.Argument`), second None for the same; directions: the least r of
    the inputs' batches, None where it is not known.
    """
    sizes = {**program.integers, **first.sizes}
    for reduction, place in batches:
        count = 1
        for r in reduction.ranges:
            count *= evaluate_bound(r.high, sizes) - evaluate_bound(r.low, sizes) + 1
        varies = count - 1 if directions is None else min(count - 1, directions)
        if varies == 0:
            what = "one sample" if count == 1 else "equal samples"
            raise ProgramError(
                f"batchnorm of {what} without an eps is 0/0", place, hint="batchnorm[…](e, eps = 1e-3), say"
            )
        if ntk and varies <= MOST_SINGULAR and _meets(first, second):
            raise ProgramError(
                f"the NTK of a batch of {count} with itself is infinite: it varies in {varies} "
                f"direction{'s' if varies > 1 else ''}, and batchnorm divides by a spread that is too often near 0",
                place,
                hint="batchnorm[…](e, eps = 1e-3), say, or batches that vary in three directions and more",
            )


def _batchnorms(body) -> Iterator[VectorReduction]:
    if isinstance(body, Pointwise):
        for _, reduction in body.reductions:
            if reduction.kind == "batchnorm":
                yield reduction
            yield from _batchnorms(reduction.body)


def _has_eps(reduction: VectorReduction, program: Program) -> bool:
    """Whether a number is added to the spread; what is no number by now is taken for one that is positive."""
    if reduction.eps is None:
        return False
    values = {s: program.reals.get(s.name) for s in reduction.eps.expression.free_symbols}
    e = reduction.eps.expression.xreplace({s: v for s, v in values.items() if v is not None})
    return bool(e != 0)


def _meets(first, second) -> bool:
    """Whether some sample of one run is one of the other; False where the data are traced and cannot be looked at."""
    if second is None:
        return True
    if any(isinstance(a, jax.core.Tracer) for x in (first, second) for a in x.arrays.values()):
        return False
    if first.shapes != second.shapes:
        return False
    samples = [
        {tuple(np.asarray(a[n]).tobytes() for a in x.arrays.values()) for n in range(x.count)} for x in (first, second)
    ]
    return bool(samples[0] & samples[1])


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


def _of_gaussians(table: ir.Table) -> Iterator[tuple[sympy.Expr, sympy.Symbol, bool]]:
    """The functions of Gaussians of mean zero in a table, each with a variable, and whether its square is asked for."""
    for clause in table.clauses:
        for node in ir.walk(clause.value):
            match node:
                case ir.SingleExpectation(mu=None):
                    yield node.f, node.z, False
                case ir.PairExpectation():
                    if node.mu is None:
                        yield node.f, node.z, True
                    if node.nu is None:
                        yield node.g, node.w, True


def _undefined(f: sympy.Expr, z: sympy.Symbol, squared: bool) -> tuple[str, str] | None:
    """What is wrong with a function of a Gaussian, and the mend."""
    known, name = facts(f, z), text(f.xreplace({z: sympy.Symbol("z", real=True)}))
    if known.edges:
        return (
            f"{name} is not a real number on one side of z = {text(known.edges[0])}, and a Gaussian takes all values",
            "take abs(x) or relu(x) in place of x",
        )
    if known.infinite and (squared or facts(sympy.sqrt(head("abs")(f)), z).infinite):
        return (
            f"{name} grows so fast at z = {text(known.infinite[0])} that its moments are infinite",
            "keep away from the pole: 1 / (abs(x) + 0.1), say",
        )
    return None


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
