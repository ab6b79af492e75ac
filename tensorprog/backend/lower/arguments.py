"""The first lines of a function: inputs, sizes, parameters and laws as variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy

from tensorprog import recursion as ir
from tensorprog.backend.code.integers import integer
from tensorprog.backend.code.reading import formula
from tensorprog.backend.code.tree import (
    Attribute,
    Binary,
    Expr,
    Literal,
    Name,
    Star,
    Statement,
    TupleOf,
    call,
    index,
    let,
    text,
)
from tensorprog.backend.lower.indices import as_number
from tensorprog.backend.lower.names import Names
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range, SizeReadOff, sizes_read_off
from tensorprog.naming import identifier
from tensorprog.program.ir import Family, Program
from tensorprog.program.types import Data
from tensorprog.recursion import Key


@dataclass(frozen=True)
class Run:
    """A run: the dict of its inputs, what its variables end with, and the prime that its sizes have."""

    inputs: str
    suffix: str = ""
    prime: str = ""


def input_key(f: Family) -> Key:
    return Key(ir.DATA if isinstance(f.type, Data) else ir.SCALAR, "self", (f.name,))


def inputs(program: Program, names: Names, runs: Sequence[Run]) -> list[Statement]:
    """Inputs as variables, the sizes that they give, and their dtype."""
    statements: list[Statement] = []
    sizes: dict[str, Expr] = {}
    first: list[str] = []
    for run in runs:
        axes: list[tuple[tuple[str, int], Range]] = []
        for f in program.inputs:
            variable = names.table(input_key(f)) + run.suffix
            statements.append(let(variable, index(run.inputs, text(f.name))))
            if f is program.inputs[0]:
                first.append(variable)
            axes += [((variable, k), r) for k, r in enumerate(f.ranges)]
            if isinstance(f.type, Data):
                sizes.setdefault(names.size(f.type.size), index(f"{variable}.shape", -1))
        for size in sizes_read_off(axes, program.integers):
            sizes.setdefault(names.size(size.name + run.prime), _size(size, names, run.prime))
    batches = [Name("N")] if len(runs) == 1 else [Name("N1"), Name("N2")]
    if first:
        values: list[Expr] = [index(f"{v}.shape", 0) for v in first]
        dtype: Expr = Name(f"{first[0]}.dtype")
    else:
        values = [Literal(1)] if len(runs) == 1 else [Star(Name("same.shape"))]
        dtype = Attribute(call("jnp.asarray", 0.0), "dtype")
    statements.append(let(TupleOf((*batches, Name("dtype"))), TupleOf((*values, dtype))))
    return statements + [let(name, size) for name, size in sizes.items()]


def _size(size: SizeReadOff, names: Names, prime: str) -> Expr:
    variable, k = size.axis
    value: Expr = index(f"{variable}.shape", k + 1)
    if size.rest != Affine(0):
        value = Binary("-", value, integer(size.rest, lambda s: Name(names.size(s + prime))))
    return value if size.factor == 1 else Binary("//", value, Literal(size.factor))


def reals(program: Program) -> list[Statement]:
    return [let(identifier(r), as_number(index("params", text(r)))) for r in program.reals]


def laws(names: Names) -> list[Statement]:
    """The variances of the laws that a function has used, which move with their parameter."""
    statements: list[Statement] = []
    for name, law in names.used_laws.items():
        scale = _number(law.scale, names)
        moved = law.moves and law.tangent is not None
        if law.moves and law.tangent is not None:
            move: Expr = index("move", text(law.parameter))
            scale = Binary("+", scale, move if law.tangent == 1 else Binary("*", move, _number(law.tangent, names)))
        if not law.scale.free_symbols and not moved:
            scale = as_number(scale)  # an array, so that what is differentiated is a float
        statements.append(let(name, scale))
    for name, members in names.law_arrays.items():
        statements.append(let(name, call("jnp.stack", [*members])))
    return statements


def _number(e: sympy.Expr, names: Names) -> Expr:
    return formula(e, {s: Name(names.scalar(s, {})) for s in e.free_symbols})
