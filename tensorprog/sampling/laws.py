"""`laws_of` and `axis_sizes`: what a simulation asks of a program's laws and of its inputs."""

from __future__ import annotations

from collections.abc import Iterable

import sympy

from tensorprog.backend.code.tree import (
    Attribute,
    Binary,
    Def,
    DictOf,
    Expr,
    Lambda,
    Literal,
    Return,
    Statement,
    Unary,
    call,
    index,
    let,
    text,
    tree,
)
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range, sizes_read_off
from tensorprog.naming import identifier
from tensorprog.program.instructions import Term
from tensorprog.program.ir import Family
from tensorprog.program.laws import WIDTH, growth, nngp_scale
from tensorprog.program.scope import size_symbol
from tensorprog.program.types import Data, Vector
from tensorprog.sampling.members import Members


def laws_of(members: Members, readouts: Iterable[Term]) -> Def:
    program = members.program
    coefficients = {t.readout.name: t.coefficient for t in reversed([*readouts]) if t.readout}
    head: list[Statement] = [let(members.name(r), index("params", text(r))) for r in program.reals]
    head += [let(members.name(d), index("sizes", text(d))) for d in (*program.features, *program.open_sizes)]
    head += [let(members.name(name), value) for name, value in program.integers.items()]
    laws = []
    for f in program.families.values():
        if f.law is None:
            continue
        scale, tangent, mean = (_float(e, members) for e in _law(f, coefficients.get(f.name), members))
        rate: Expr = Literal(0.0)
        if not f.fixed and tangent != Literal(0.0):
            rates = call("rates.get", text(f.stands_for or f.name), 0.0)
            rate = Binary("*", tangent, rates)
        laws.append((text(f.name), Lambda(tuple(identifier(r.name) for r in f.ranges), tree((scale, rate, mean)))))
    return Def(
        "laws_of",
        ("params", "sizes", "rates"),
        (*head, Return(DictOf(tuple(laws), tall=True))),
        (
            "Of every weight and vector, by its indices: lim fan-in · multiplier² · variance; the same without",
            "the variance, times the rate at which it is trained, or 0; the mean.",
        ),
    )


def _law(f: Family, coefficient: sympy.Expr | None, members: Members) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
    """coefficient: the number with which a readout stands in the output; None for other families."""
    assert f.law is not None
    widths, law = dict(members.program.widths), f.law
    if coefficient is not None and f.role != "scalar":
        # A readout: its sum over the coordinates, and how what divides it goes with n, belong to the law.
        assert isinstance(f.type, Vector)
        sums = size_symbol(f.type.width) * WIDTH ** (2 * growth(coefficient, widths).exponent)
        scale = growth(law.multiplier**2 * law.variance * sums, widths).limit
        rate = growth(law.multiplier**2 * sums, widths)
        tangent = rate.limit if rate.finite else sympy.Integer(0)
    else:
        scale, found = nngp_scale(law, f.type, widths)
        tangent = found if isinstance(found, sympy.Expr) else sympy.Integer(0)  # refused where the NTK is asked for
    mean = growth(law.mean * law.multiplier, widths).limit if f.role == "vector" else sympy.Integer(0)
    return scale, tangent, mean


def _float(e: sympy.Expr, members: Members) -> Expr:
    """A number that is no integer to Python."""
    match members.number(e):
        case Literal(int() as value):
            return Literal(float(value))
        case Unary("-", Literal(int() as value)):
            return Unary("-", Literal(float(value)))
        case value:
            return value


def axis_sizes(members: Members) -> Def:
    program = members.program
    head: list[Statement] = []
    if program.open_sizes:
        head = [let(members.name(f.name), index("x", text(f.name))) for f in program.inputs] + sizes(members)
    found = DictOf(tuple((text(s), members.name(s)) for s in program.open_sizes))
    return Def("axis_sizes", ("x",), (*head, Return(found)), ("The sizes that the axes of the inputs give.",))


def sizes(members: Members) -> list[Statement]:
    """Sizes from the shapes of the inputs, and the known integer parameters."""
    program = members.program
    statements: list[Statement] = [let(members.name(name), value) for name, value in program.integers.items()]
    seen = set(program.integers)
    axes: list[tuple[Expr, Range]] = []
    for f in program.inputs:
        shape = Attribute(members.name(f.name), "shape")
        after = len(f.ranges) + isinstance(f.type, Data)
        axes += [(index(shape, k - after), r) for k, r in enumerate(f.ranges)]
        if isinstance(f.type, Data) and f.type.size not in seen:
            statements.append(let(members.name(f.type.size), index(shape, -1)))
            seen.add(f.type.size)
    for size in sizes_read_off(axes, program.integers):
        value: Expr = size.axis
        if size.rest != Affine(0):
            value = Binary("-", value, members.integer(size.rest))
        if size.factor != 1:
            value = Binary("//", value, Literal(size.factor))
        statements.append(let(members.name(size.name), value))
    return statements
