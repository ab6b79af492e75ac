"""A program as bodies of families and uses of matrices, and which declared vectors each depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tensorprog.errors import ProgramError, Span
from tensorprog.language import syntax
from tensorprog.language.printer import print_expression
from tensorprog.program.instructions import Declared, Linear, Multiply, Pointwise, Reference, ScalarChoice, ScalarForm
from tensorprog.program.ir import Family, Program
from tensorprog.program.scope import Scope
from tensorprog.program.substitution import free_names, subexpressions
from tensorprog.program.transposes import declared_weight
from tensorprog.program.types import Process, Scalar, Vector
from tensorprog.program.typing import is_zero
from tensorprog.theorem.cases import CaseReader

Body = Linear | Multiply | Pointwise | syntax.Expr
"""What a case assigns; the core expression itself where a case has no form in cases.py (batchnorm over vectors)."""


@dataclass(frozen=True)
class Use:
    """`matrix @ operand` in the program, as its text has it."""

    weight: str
    transposed: bool
    operand: str | syntax.Expr
    product: str
    vector: str
    line: int

    @property
    def place(self) -> str:
        return self.product + (f" on line {self.line}" if self.line else "")


class Reading:
    """A program as bodies of families and uses of matrices."""

    def __init__(self, program: Program):
        self.program = program
        self.reader = CaseReader(program)
        self.scope = Scope(
            parameters={p.name: p for p in program.parameters},
            widths=dict(program.widths),
            features=list(program.features),
            functions=dict(program.functions),
            ranges={f.name: f.ranges for f in program.families.values()},
            types={f.name: f.type for f in program.families.values()},
        )
        self.bodies: dict[str, tuple[Body, ...]] = {}
        self.uses: list[Use] = []
        for f in program.families.values():
            if f.role in ("assigned", "output") and isinstance(f.type, Vector | Scalar):
                self.bodies[f.name] = tuple(self._bodies(f))
        self.uses.sort(key=lambda u: u.line)
        self.weights = tuple(w for w in program.families if any(u.weight == w for u in self.uses))
        self.readouts = tuple(self._readouts())

    def _bodies(self, f: Family) -> Iterator[Body]:
        try:
            cases = self.reader.cases(f.name)
        except ProgramError:
            for clause in f.clauses:
                yield clause.value
                self._uses_in(clause.value, clause.span)
            return
        for case in cases:
            if isinstance(case.body, Declared):
                continue
            yield case.body
            if isinstance(case.body, Multiply):
                weight, transposed = self.reader.matrix(case.body.matrix)
                matrix, vector = case.body.matrix, case.body.vector
                self._use(weight.name, transposed, vector.name, matrix, vector, case.span)

    def _uses_in(self, e: syntax.Expr, span: Span) -> None:
        for s in subexpressions(e):
            if isinstance(s, syntax.Call) and s.function == "MatMul" and not is_zero(s.arguments[1]):
                matrix, operand = s.arguments
                assert isinstance(matrix, syntax.Name | syntax.Index)
                weight, transposed = declared_weight(self.program, matrix.name)
                self._use(weight, transposed, operand, matrix, operand, span)

    def _use(self, weight: str, transposed: bool, operand: str | syntax.Expr, matrix, vector, span: Span) -> None:
        left, right = (self.written(x) for x in (matrix, vector))
        product = f"{left} @ {f'({right})' if self._bracketed(vector.span) else right}"
        line = matrix.span.line or vector.span.line or span.line
        self.uses.append(Use(weight, transposed, operand, product, right, line))

    # -- words

    def written(self, x: Reference | syntax.Expr) -> str:
        """An expression as the program's text has it."""
        text = " ".join(self._between(x.span).split())
        if text:
            return text
        if isinstance(x, Reference):
            return f"{x.name}[{', '.join(map(str, x.indices))}]" if x.indices else x.name
        return print_expression(x)

    def _between(self, span: Span) -> str:
        lines = self.program.source.split("\n")
        if not 1 <= span.line <= span.end_line <= len(lines):
            return ""
        part = lines[span.line - 1 : span.end_line]
        part[-1] = part[-1][: span.end_column - 1]
        part[0] = part[0][span.column - 1 :]
        return "\n".join(part)

    def _bracketed(self, span: Span) -> bool:
        lines = self.program.source.split("\n")
        if not 1 <= span.line <= span.end_line <= len(lines):
            return False
        before = lines[span.line - 1][: span.column - 1].rstrip()
        after = lines[span.end_line - 1][span.end_column - 1 :].lstrip()
        return before.endswith("(") and after.startswith(")")

    def mean_sentence(self, name: str) -> str:
        f = self.program.families[name]
        assert f.law is not None
        at = f" on line {f.span.line}" if f.span.line else ""
        return f"{name}{at} has mean {f.law.mean}: what is odd in {name} averages out only if that is zero"

    # -- vectors and matrices

    def vectors(self, zero_mean: bool = False) -> tuple[str, ...]:
        """The declared vectors, or those of mean zero; readouts come first."""
        names = [
            f.name
            for f in self.program.families.values()
            if f.role == "vector" and f.law is not None and (f.law.mean == 0 or not zero_mean)
        ]
        return tuple(sorted(names, key=lambda name: name not in self.readouts))

    def _readouts(self) -> Iterator[str]:
        """The v's of v.T @ x in the output."""
        for f in self.program.outputs:
            if isinstance(f.type, Process):
                parts = [s for c in f.clauses for s in subexpressions(c.value)]
                yield from dict.fromkeys(s.operand.name for s in parts if isinstance(s, syntax.Transpose))


def listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def named(weight: str, transposed: bool) -> str:
    return weight + ".T" if transposed else weight


def dependences(reading: Reading) -> dict[str, frozenset[str]]:
    """The declared vectors that every family depends on."""
    reach = {v: frozenset({v}) for v in reading.vectors()}
    reads = {name: frozenset().union(*map(_reads, bodies)) for name, bodies in reading.bodies.items()}
    changed = True
    while changed:
        changed = False
        for name, others in reads.items():
            new = frozenset().union(*(reach.get(o, frozenset()) for o in others))
            if new != reach.get(name, frozenset()):
                reach[name] = new
                changed = True
    return reach


def depends_on(operand: str | syntax.Expr, reach: Mapping[str, frozenset[str]]) -> frozenset[str]:
    names = {operand} if isinstance(operand, str) else free_names(operand)
    return frozenset().union(*(reach.get(name, frozenset()) for name in names))


def _reads(body: Body) -> frozenset[str]:
    """The families that an assignment reads."""
    match body:
        case Linear(terms):
            vectors = {t.vector.name for t in terms if t.vector is not None}
            return frozenset(vectors).union(*(_scalar_reads(s) for t in terms for s in t.scalars))
        case Multiply(_, vector):
            return frozenset({vector.name})
        case Pointwise(_, vectors, scalars, reductions):
            names = frozenset(r.name for _, r in vectors).union(*(_scalar_reads(form) for _, form in scalars))
            return names.union(*(_reads(r.body) for _, r in reductions))
    return frozenset(free_names(body))


def _scalar_reads(form: ScalarForm) -> frozenset[str]:
    names: set[str] = set()
    for _, a in form.arguments:
        if isinstance(a, Reference):
            names.add(a.name)
        else:
            for inner in [f for _, f in a.branches] if isinstance(a, ScalarChoice) else [a.body]:
                names |= _scalar_reads(inner)
    return frozenset(names)
