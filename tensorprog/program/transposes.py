"""Where a program multiplies by a matrix, and whether by the transpose of a declared weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tensorprog.language import syntax
from tensorprog.program.ir import Clause, Family, Program
from tensorprog.program.substitution import subexpressions


@dataclass(frozen=True)
class Use:
    """`family := … MatMul(W, operand) …` in a clause, W = `weight` or, `transposed`, weight.T."""

    family: Family
    clause: Clause
    weight: str
    transposed: bool
    operand: syntax.Expr


def matrix_uses(program: Program) -> Iterator[Use]:
    """Every MatMul of a program."""
    for family in program.families.values():
        for clause in family.clauses:
            for e in subexpressions(clause.value):
                if isinstance(e, syntax.Call) and e.function == "MatMul":
                    matrix, operand = e.arguments
                    assert isinstance(matrix, syntax.Name | syntax.Index)
                    yield Use(family, clause, *declared_weight(program, matrix.name), operand)


def declared_weight(program: Program, name: str) -> tuple[str, bool]:
    """The weight that a matrix stands for, and whether it is its transpose; `Trsp` twice is none."""
    transposed = False
    while (source := program.families[name].transpose_of) is not None:
        name, transposed = source, not transposed
    return name, transposed
