"""How tables, vectors and indices are named in print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property

import sympy

from tensorprog.index.affine import Affine
from tensorprog.language import syntax
from tensorprog.language.printer import print_expression
from tensorprog.program.instructions import Case, Pointwise, Reference
from tensorprog.program.ir import Program
from tensorprog.program.types import Scalar, Vector
from tensorprog.recursion import Table
from tensorprog.theorem.cases import CaseReader

MOST_OPERATIONS = 8
"""Functions with more operations than that are shown under the name of their family."""

GREEK = frozenset(
    ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
     "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi",
     "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"]
)  # fmt: skip


def written_names(program: Program) -> frozenset[str]:
    """The names that the program's text declares or assigns; families under other names are the compiler's."""
    names: set[str] = set()
    for node in _nodes(program.written):
        match node:
            case syntax.Assignment(name):
                names.add(name)
            case syntax.Input(variables=variables) | syntax.Random(variables=variables):
                names.update(v.name for v in variables)
    return frozenset(names)


def _nodes(value) -> Iterator[object]:
    if isinstance(value, tuple):
        for v in value:
            yield from _nodes(v)
    elif is_dataclass(value):
        yield value
        for f in fields(value):
            yield from _nodes(getattr(value, f.name))


def index_pair(table: Table, indices: tuple[Affine, ...]) -> tuple[tuple[Affine, ...], tuple[Affine, ...]]:
    """The indices of the two families at an entry of a table; an axis along both is a diagonal."""
    left: dict[int, Affine] = {}
    right: dict[int, Affine] = {}
    for axis, i in zip(table.axes, indices, strict=True):
        if axis.left is not None:
            left[axis.left] = i
        if axis.right is not None:
            right[axis.right] = i + axis.offset if axis.left is not None else i
    return tuple(i for _, i in sorted(left.items())), tuple(i for _, i in sorted(right.items()))


def families(table: Table) -> tuple[str, str]:
    """The two families of a table; a table of one family has it twice."""
    return table.key.families[0], table.key.families[-1]


@dataclass(frozen=True)
class Names:
    """The names of a program's families, and what stands behind those that are not in its text.

    named: temporaries that have an equation of their own, and so are called by their names.
    """

    program: Program
    named: frozenset[str] = frozenset()

    @cached_property
    def written(self) -> frozenset[str]:
        return written_names(self.program)

    @cached_property
    def reader(self) -> CaseReader:
        return CaseReader(self.program)

    @cached_property
    def order(self) -> dict[str, int]:
        """Families by their place in the program, which is the order of computation."""
        return {name: k for k, name in enumerate(self.program.families)}

    def is_temporary(self, name: str) -> bool:
        """Whether the compiler made this family to hold a part of an expression."""
        return self.program.families[name].role == "assigned" and name not in self.written

    def function_of(
        self, name: str, indices: tuple[Affine, ...]
    ) -> tuple[sympy.Expr, tuple[tuple[sympy.Symbol, Reference], ...]] | None:
        """A temporary that is a short function of vectors: the function and its vectors. None for all others."""
        family = self.program.families[name]
        if name in self.named or not self.is_temporary(name) or not isinstance(family.type, Vector):
            return None
        case = self._single(name)
        if case is None or not isinstance(case.body, Pointwise) or case.body.scalars:
            return None
        if sympy.count_ops(case.body.expression) > MOST_OPERATIONS:
            return None
        mapping = assigned(case.target, indices)
        if mapping is None:
            return None
        body = self.reader.put(case.body, mapping)
        return body.expression, body.vectors

    def _single(self, name: str) -> Case | None:
        cases = self.reader.cases(name)
        return cases[0] if len(cases) == 1 and not cases[0].conditions else None

    def definition(self, name: str) -> list[tuple[str, str]]:
        """The assignments of a temporary vector, as (target, expression) in the language."""
        family = self.program.families[name]
        if isinstance(family.type, Scalar):
            return []
        lines = []
        for clause in family.clauses:
            value = clause.value
            if isinstance(value, syntax.Call) and value.function in ("LinComb", "Nonlin"):
                (value,) = value.arguments
            if isinstance(value, syntax.Call) and value.function == "MatMul":
                value = syntax.Binary("@", value.arguments[0], value.arguments[1])
            target = f"[{', '.join(map(str, clause.target))}]" if clause.target else ""
            lines.append((name + target, print_expression(value)))
        return lines


def assigned(target: tuple[Affine, ...], indices: tuple[Affine, ...]) -> dict[str, Affine] | None:
    """Which binder of an assignment's target stands for what at these indices; None where that cannot be read off."""
    mapping: dict[str, Affine] = {}
    for t, i in zip(target, indices, strict=True):
        if len(t.terms) != 1 or t.terms[0][1] != 1 or t.terms[0][0] in mapping:
            return None
        mapping[t.terms[0][0]] = i - t.constant
    return mapping
