"""A program as Python source, member by member in the order of its text, for the paths of runtime/paths.py.

    for t = 1..T:                                       for t in range(1, T + 1):
        W_s[t] := MatMul(W, s[t-1])                         W_s[t] = path.product('W', (), s[t - 1])
        h[t] := LinComb(W_s[t] + U_x[t] + b)                h[t] = path.combine([(1, W_s[t]), (1, U_x[t]), (1, b)])
        s[t] := Nonlin(erf(h[t]))                           s[t] = path.apply(fn_s, (h[t],))

with `def fn_s(z1): return jax.lax.erf(z1)` before it. Loops are Python's: the source runs while JAX traces, or call by
call.
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from tensorprog.backend.code.tree import (
    Comprehension,
    Conditional,
    Def,
    DictOf,
    Expr,
    For,
    ListOf,
    Literal,
    Name,
    Return,
    Star,
    Statement,
    TupleOf,
    call,
    every,
    index,
    let,
    multiplied,
    text,
)
from tensorprog.errors import ProgramError
from tensorprog.index.ranges import Range
from tensorprog.language import syntax
from tensorprog.naming import identifier
from tensorprog.program.instructions import Linear, Multiply, Pointwise, Reference, Term
from tensorprog.program.ir import Clause, Family, Program
from tensorprog.program.laws import growth
from tensorprog.program.types import Data, Matrix, Process, Scalar
from tensorprog.sampling.expressions import Expressions
from tensorprog.sampling.holding import Holding
from tensorprog.sampling.laws import sizes
from tensorprog.sampling.members import COMBINE, Members
from tensorprog.theorem.cases import CaseReader

ZERO_VECTOR = Name("ZERO_VECTOR")


class NetworkWriter:
    """Writes `network` of a program that has no transposes left, and the functions that it calls."""

    def __init__(self, program: Program):
        self.program = program
        self.reader = CaseReader(program)
        self.members = Members(program)
        self.expressions = Expressions(self.members, Holding(self.reader))
        self.clauses: dict[tuple[int, ...], list[tuple[Family, Clause]]] = {}
        for f in program.families.values():
            for c in f.clauses:
                self.clauses.setdefault(c.position, []).append((f, c))
        self.readouts = [
            t
            for f in program.outputs
            if isinstance(f.type, Process)
            for c in self.reader.cases(f.name)
            if isinstance(c.body, Linear)
            for t in c.body.terms
        ]

    def network(self) -> Def:
        p, name = self.program, self.members.name
        readouts = {t.readout.name for t in self.readouts if t.readout is not None}
        head: list[Statement] = [let(name(f.name), index("inputs", text(f.name))) for f in p.inputs]
        head += sizes(self.members)
        head += [let(name(r), index("params", text(r))) for r in p.reals]
        for f in p.families.values():
            if f.role in ("assigned", "output") and f.transpose_of is None and f.ranges:
                head.append(let(name(f.name), DictOf(())))
        for f in p.families.values():
            if f.role == "vector" and not isinstance(f.type, Matrix) and not f.ranges and f.name not in readouts:
                head.append(let(name(f.name), call("path.vector", text(f.name), ())))
        results = DictOf(tuple((text(f.name), call("members", name(f.name))) for f in p.outputs))
        return Def(
            "network",
            ("path", "inputs", "params"),
            (*head, *self._block(p.text.statements, ()), Return(results)),
            (f"The program {p.name}, member by member; see `members` for what it returns of each output.",),
        )

    # ------------------------------------------------------------ loops and assignments

    def _block(self, statements: Sequence[syntax.Statement], position: tuple[int, ...]) -> list[Statement]:
        found: list[Statement] = []
        for k, s in enumerate(statements):
            here = (*position, k)
            if isinstance(s, syntax.For):
                clause = next(
                    (c for pos, known in self.clauses.items() if pos[: len(here)] == here for _, c in known), None
                )
                if clause is not None:
                    found += self._loops([b.name for b in s.binders], clause, self._block(s.body, here))
            elif isinstance(s, syntax.Assignment):
                for family, clause in self.clauses.get(here, ()):
                    if family.transpose_of is None:
                        found += self._assignment(family, clause, s)
        return found

    def _loops(self, names: Sequence[str], clause: Clause, body: list[Statement]) -> list[Statement]:
        """A body in loops of Python over indices of a clause, the first outermost."""
        loops = {r.name: (r, back) for r, back in zip(clause.loops, clause.reverse, strict=True)}
        for name in reversed(names):
            r, reverse = loops[name]
            body = [For(identifier(r.name), self.members.over(r, reverse), tuple(body))]
        return body

    def _assignment(self, family: Family, clause: Clause, s: syntax.Assignment) -> list[Statement]:
        ranges: list[Range] = list(clause.loops)
        branches = []
        for value, alternatives in self.reader._branches(clause.value, ranges):
            with self.reader._bound(ranges):
                body = self.reader._body(family, value, ranges, {})
            branches.append((self._instruction(family, body), alternatives))
        result = branches[-1][0]
        for branch, alternatives in reversed(branches[:-1]):
            result = Conditional(branch, every("or", [self.members.holds(a) for a in alternatives]), result)
        target = self.members.member(family.name, clause.target)
        bound = [i.name for i in s.indices if isinstance(i, syntax.Binder)]
        return self._loops(bound, clause, [let(target, result)])

    # ------------------------------------------------------------ instructions

    def _instruction(self, family: Family, body: Linear | Multiply | Pointwise) -> Expr:
        match body:
            case Multiply():
                return self._product(body)
            case Linear(terms):
                return self._sum(family, terms)
            case Pointwise():
                return self._function(family, body)
        raise AssertionError(body)

    def _product(self, body: Multiply) -> Expr:
        members = self.members
        declared, transposed = self.reader.matrix(body.matrix)
        if transposed:
            raise ProgramError("a transpose is left in what is sampled", body.matrix.span)
        kind = "data_product" if isinstance(self.program.families[body.vector.name].type, Data) else "product"

        def multiply(m: Reference, x: Reference) -> Expr:
            return call(f"path.{kind}", text(m.name), members.indices(m.indices), members.read_member(x))

        product = members.for_data([declared, body.vector], COMBINE, multiply)
        if any(c.expression.entries for c in body.conditions):
            return call(COMBINE, [(members.one_where(body.conditions), product)])
        return Conditional(product, members.holds(body.conditions), ZERO_VECTOR) if body.conditions else product

    def _sum(self, family: Family, terms: Sequence[Term]) -> Expr:
        data = isinstance(family.type, Data)
        if not terms and not data:
            return Literal(0.0) if isinstance(family.type, Scalar) else ZERO_VECTOR
        listed = ListOf(tuple(map(self._term, terms)))
        return call("data_sum", listed, self._zero_data(family)) if data else call(COMBINE, listed)

    def _function(self, family: Family, body: Pointwise) -> Expr:
        scalar = isinstance(family.type, Scalar)
        if scalar and not body.references:
            return self.expressions.scalar_expression(body.expression, dict(body.scalars))
        f = self.expressions.applied(family.name, body)
        if isinstance(family.type, Data):
            return call(f.function, *f.vectors, *(call("spread", s) for s in f.scalars))
        held = None if scalar else self.expressions.held_terms(family.name, body)
        end = [f.scalars] if f.scalars or held is not None else []
        verb = "path.moment" if scalar else "path.apply"
        return call(verb, f.function, f.vectors, *end, *([] if held is None else [held]))

    def _zero_data(self, family: Family) -> Expr:
        """Features that are zero, as many as the family has."""
        assert isinstance(family.type, Data)
        size, name = family.type.size, self.members.name
        source = next(f for f in self.program.inputs if isinstance(f.type, Data) and f.type.size == size)
        return call("jnp.zeros", (1, 1, 1, name(size)), f"{name(source.name).name}.dtype")

    def _term(self, t: Term) -> Expr:
        """(coefficient, vector), or several of them."""
        members = self.members
        coefficient, vector = self._vector(t)
        factors = [] if coefficient == 1 and t.scalars else [members.number(coefficient)]
        factors += [self.expressions.scalar(s) for s in t.scalars]
        on_data = [c for c in t.conditions if c.expression.entries]
        if on_data:
            factors.append(members.one_where(on_data))
        conditions = [c for c in t.conditions if c not in on_data]
        pair = TupleOf((multiplied(factors), vector))
        if not t.sums and not conditions:
            return pair
        if not t.sums:
            return Star(Conditional(ListOf((pair,)), members.holds(conditions), ListOf(())))
        test = members.holds(conditions) if conditions else None
        return Star(Comprehension(pair, tuple(map(members.each, t.sums)), test, lazy=True))

    def _vector(self, t: Term) -> tuple[sympy.Expr, Expr]:
        """The coefficient of a term in the limit, and its vector; of a readout the product with it."""
        members = self.members
        if t.readout is None:
            return t.coefficient, Literal(None) if t.vector is None else members.read(t.vector)
        inner = call(COMBINE, [(1.0, None)]) if t.vector is None else members.read(t.vector)
        product = call("path.product", text(t.readout.name), members.indices(t.readout.indices), inner)
        return growth(t.coefficient, dict(self.program.widths)).limit, product
