"""A family's assignments as cases: what the theorem sees of an instruction, one form to a case.

Conditions on indices become ranges and index conditions, and each case holds one instruction (program/instructions.py).

`h[l] := W1 @ x if l == 1 else W[l] @ z[l-1]` over l = 1..L is two cases: l = 1, and l = 2..L.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sympy

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import at_most, map_bound, maximum, minimum, shift, substituted
from tensorprog.index.conditions import Condition, certain, contradict, implies, within, without_implied
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range, behind, extent
from tensorprog.index.solving import with_value
from tensorprog.language import syntax
from tensorprog.program.instructions import (
    Case,
    Declared,
    Instruction,
    Linear,
    Multiply,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    ScalarReduction,
    Term,
    VectorReduction,
)
from tensorprog.program.ir import Family, Function, Program
from tensorprog.program.putting import put, put_conditions, put_reference, put_term
from tensorprog.program.scope import MAPS, Binding, Scope, apply_definition, arithmetic
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Constant, Data, Matrix, Scalar, Vector
from tensorprog.program.typing import is_zero, leaves, readout_type
from tensorprog.recursion import affine_number
from tensorprog.theorem.targets import solved_case


@dataclass
class CaseReader:
    """Reads the cases of a program's families; results are kept."""

    program: Program

    def __post_init__(self) -> None:
        p = self.program
        self.known = p.integers
        self._cases: dict[str, tuple[Case, ...]] = {}
        self._certain: dict[object, bool | None] = {}
        self._scope = Scope(
            parameters={x.name: x for x in p.parameters},
            widths=dict(p.widths),
            features=list(p.features),
            functions=dict(p.functions),
            ranges={f.name: f.ranges for f in p.families.values()},
            types={f.name: f.type for f in p.families.values()},
        )

    # -- what is certain

    def settle(self, bound):
        """A bound with the known integer parameters put in."""
        return substituted(bound, self.known)

    def certain(self, c: Condition, ranges: dict[str, Range], given: Sequence[Condition] = ()) -> bool | None:
        """Whether a condition always holds (True), never holds (False), or depends (None).

        given: conditions that hold in any case.
        """
        judge = partial(self.certain, ranges=ranges)
        if any(implies(g, c, judge) for g in given):
            return True
        if any(contradict(g, c, judge) for g in given):
            return False
        key = c, tuple((name, ranges[name]) for name in sorted(behind(c.expression.symbols, ranges)))
        if key not in self._certain:
            self._certain[key] = certain(c, ranges, self.settle)
        return self._certain[key]

    def left(
        self, conditions: Sequence[Condition], ranges: dict[str, Range], given: Sequence[Condition] = ()
    ) -> list[Condition] | None:
        """The conditions that ask for something, in their order; None where they cannot hold together."""
        asked = []
        for c in dict.fromkeys(conditions):
            verdict = self.certain(c, ranges, given)
            if verdict is False:
                return None
            if verdict is None:
                asked.append(c)
        needed = without_implied(asked, partial(self.certain, ranges=ranges))
        return None if needed is None else [c for c in asked if c in needed]

    def is_size(self, symbol: str) -> bool:
        name = symbol.rstrip("'")
        return name in self._scope.parameters or name in self._scope.features

    def number(self, a: Affine) -> sympy.Expr:
        return affine_number(a, self.is_size)

    # -- families

    def cases(self, name: str) -> tuple[Case, ...]:
        if name not in self._cases:
            family = self.program.families[name]
            result: list[Case] = []
            if family.role == "vector":
                here = tuple(Affine.symbol(r.name) for r in family.ranges)
                result.append(Case(family.ranges, here, (), Declared(), family.span))
            for clause in family.clauses:
                scope_ranges = list(clause.loops)
                for value, conditions in self._branches(clause.value, scope_ranges):
                    for binders, target, rest, mapping in self.refine(clause.loops, clause.target, conditions):
                        with self._bound([*clause.loops]):
                            body = self._body(family, value, list(clause.loops), mapping)
                        case = self._pruned(Case(binders, target, rest, body, clause.span))
                        result.append(solved_case(case, family, self.settle, self.put))
            self._cases[name] = tuple(self._merged(result))
        return self._cases[name]

    def _pruned(self, case: Case) -> Case:
        """The case without terms whose conditions never hold in it, and without conditions that always do."""
        if not isinstance(case.body, Linear) or not any(t.conditions for t in case.body.terms):
            return case
        terms = []
        for t in case.body.terms:
            ranges = {r.name: r for r in (*case.binders, *t.sums)}
            left = self.left(t.conditions, ranges, case.conditions)
            if left is not None:
                terms.append(replace(t, conditions=tuple(left)))
        return replace(case, body=Linear(tuple(terms)))

    def _merged(self, cases: list[Case]) -> list[Case]:
        """Neighbouring cases that say the same as one: phi_h[1] and phi_h[l], l = 2..depth."""
        for a in cases:
            for b in cases:
                union = self._union(a, b) if a is not b else None
                if union is not None:
                    rest = [c for c in cases if c is not a and c is not b]
                    return self._merged([union, *rest])
        return cases

    def _union(self, a: Case, b: Case) -> Case | None:
        if len(b.binders) != len(a.binders) + 1 or a.conditions != b.conditions:
            return None
        for k, (e, f) in enumerate(zip(a.target, b.target, strict=True)):
            loop = next((r for r in b.binders if f == Affine.symbol(r.name)), None)
            if loop is None or e == f or not e.substitute(self.known).is_constant:
                continue
            if any(loop.name in t.symbols for j, t in enumerate(b.target) if j != k):
                continue
            at = {loop.name: e}
            if self.put(b.body, at) != a.body or tuple(r for r in b.binders if r is not loop) != a.binders:
                return None
            if tuple(t.substitute(at) for t in b.target) != a.target:
                return None
            for low, high in ((e, loop.high), (loop.low, e)):
                edge = loop.low if low is e else loop.high
                gap = map_bound_difference(edge, e)
                if gap is not None and gap.substitute(self.known) == Affine(1 if low is e else -1):
                    binders = tuple(Range(r.name, low, high) if r is loop else r for r in b.binders)
                    return replace(b, binders=binders)
        return None

    def _bound(self, ranges: list[Range]):
        return self._scope.bound([Binding(r) for r in ranges])

    def _branches(
        self, e: syntax.Expr, ranges, outer: list[list[Condition]] | None = None
    ) -> list[tuple[syntax.Expr, list[list[Condition]]]]:
        """The branches of a conditional instruction, each with its condition in disjunctive form.

        What cannot be, by the conditions around, is left out on the way: the conditions of nine cases that exclude one
        another have more combinations than anything could look at.
        """
        outer = [[]] if outer is None else outer
        if not isinstance(e, syntax.Conditional):
            return [(e, outer)]
        with self._bound(list(ranges)):
            yes, no = self.disjunction(e.condition), self.disjunction(syntax.Not(e.condition))
        boxes = {r.name: r for r in ranges}
        result = []
        for branch, alternatives in ((e.then, yes), (e.otherwise, no)):
            together = (self.left([*a, *b], boxes) for a in outer for b in alternatives)
            result += self._branches(branch, ranges, [c for c in together if c is not None])
        return result

    def disjunction(self, c: syntax.Condition, negated: bool = False) -> list[list[Condition]]:
        """A condition as alternatives of conditions that hold together; alternatives exclude each other."""
        match c:
            case syntax.Not(operand):
                return self.disjunction(operand, not negated)
            case syntax.And(left, right) | syntax.Or(left, right):
                if isinstance(c, syntax.And) != negated:
                    return [a + b for a in self.disjunction(left, negated) for b in self.disjunction(right, negated)]
                # Exclusive alternatives: left, or right without left.
                rights = self.disjunction(right, negated)
                lefts = self.disjunction(left, negated)
                without = self.disjunction(left, not negated)
                return lefts + [a + b for a in without for b in rights]
            case syntax.Comparison(op, left, right):
                a, b = self._scope.affine(left), self._scope.affine(right)
                if negated:
                    op = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}[op]
                match op:
                    case "==":
                        return [[Condition("==", a - b)]]
                    case "!=":
                        return [[Condition(">=", a - b - 1)], [Condition(">=", b - a - 1)]]
                    case "<":
                        return [[Condition(">=", b - a - 1)]]
                    case "<=":
                        return [[Condition(">=", b - a)]]
                    case ">":
                        return [[Condition(">=", a - b - 1)]]
                    case ">=":
                        return [[Condition(">=", a - b)]]
        raise AssertionError(c)

    def refine(self, loops, target, alternatives):
        """Conditions on single indices become their ranges."""
        for conditions in alternatives:
            ranges = {r.name: r for r in loops}
            mapping: dict[str, Affine] = {}
            rest: list[Condition] = []
            for c in conditions:
                c = c.substitute(mapping)
                here = [s for s in c.expression.symbols if s in ranges]
                if len(here) == 1 and c.expression.solved(here[0]) is not None:
                    name = here[0]
                    sign = c.expression.coefficient(name)
                    # sign·i + rest ≥ 0 or = 0
                    value = (c.expression - Affine.symbol(name) * sign) * -sign
                    r = ranges[name]
                    if c.op == "==":
                        rest += within(value, r)
                        mapping = with_value(mapping, name, value)
                        del ranges[name]
                        ranges = {k: x.substitute({name: value}) for k, x in ranges.items()}
                    elif sign > 0:
                        ranges[name] = Range(name, maximum(r.low, value), r.high)
                    else:
                        ranges[name] = Range(name, r.low, minimum(r.high, value))
                else:
                    rest.append(c)
            kept = self.left(put_conditions(rest, mapping), ranges)
            possible = kept is not None
            for r in ranges.values():
                low = self.settle(extent(r.low, ranges, False))
                high = self.settle(extent(r.high, ranges, True))
                if at_most(shift(high, 1), low):
                    possible = False
            if possible and kept is not None:
                binders = tuple(ranges[r.name] for r in loops if r.name in ranges)
                yield binders, tuple(t.substitute(mapping) for t in target), tuple(kept), mapping

    # -- bodies

    def _body(self, family: Family, e: syntax.Expr, loops: list[Range], mapping: dict[str, Affine]):
        if isinstance(e, syntax.Call) and e.function == "MatMul":
            matrix, operand = e.arguments
            vector, guards = self._operand(operand)
            if vector is None:
                return Linear(())
            return Multiply(
                put_reference(self._reference(matrix), mapping),
                put_reference(vector, mapping),
                put_conditions(guards, mapping),
            )
        if is_zero(e):
            return Linear(())
        if family.role == "output" and not isinstance(family.type, Scalar):
            return Linear(tuple(put_term(t, mapping, self.number) for t in self._terms(e, [r.name for r in loops])))
        assert isinstance(e, syntax.Call), e
        (inner,) = e.arguments
        if e.function == "LinComb" and not isinstance(family.type, Scalar):
            return Linear(tuple(put_term(t, mapping, self.number) for t in self._terms(inner, [r.name for r in loops])))
        body = self._pointwise(inner, isinstance(family.type, Scalar))
        return self.put(body, mapping)

    def _operand(self, e: syntax.Expr) -> tuple[Reference | None, tuple[Condition, ...]]:
        if is_zero(e):
            return None, ()
        if isinstance(e, syntax.Guard):
            vector, inner = self._operand(e.value)
            if vector is None:
                return None, ()
            return vector, inner + self.in_range(vector)
        return self._reference(e), ()

    def in_range(self, r: Reference) -> tuple[Condition, ...]:
        """The conditions that a reference's indices lie in the ranges of its family."""
        result = []
        for i, axis in zip(r.indices, self.program.families[r.name].ranges, strict=True):
            low, high = (b if isinstance(b, Affine) else self.settle(b) for b in (axis.low, axis.high))
            for difference in (map_bound_difference(i, low), map_bound_difference(high, i)):
                if difference is None:
                    raise ProgramError("the range of this variable is too involved for `else`", r.span)
                result.append(Condition(">=", difference))
            for entry in i.entries:
                result += self.in_range(Reference(entry.table, entry.indices, r.span))
        return tuple(result)

    def _reference(self, e: syntax.Expr) -> Reference:
        if isinstance(e, syntax.Index):
            return Reference(e.name, tuple(self._scope.affine(i) for i in e.indices), e.span)
        assert isinstance(e, syntax.Name), e
        return Reference(e.name, (), e.span)

    def put(self, body: Instruction, mapping: Mapping[str, Affine]) -> Any:
        """A body with indices replaced."""
        return put(body, mapping, self.number)

    # -- linear combinations

    def _terms(self, e: syntax.Expr, taken: list[str]) -> list[Term]:
        """The terms of the inside of a LinComb or of an output."""
        match e:
            case syntax.Binary("+", a, b):
                return self._terms(a, taken) + self._terms(b, taken)
            case syntax.Binary("-", a, b):
                return self._terms(a, taken) + [_scaled(t, sympy.Integer(-1)) for t in self._terms(b, taken)]
            case syntax.Negate(a):
                return [_scaled(t, sympy.Integer(-1)) for t in self._terms(a, taken)]
            case syntax.Binary("*", a, b):
                for x, y in ((a, b), (b, a)):
                    if self._is_scalar(x):
                        return [self._times(t, x, False) for t in self._terms(y, taken)]
            case syntax.Binary("/", a, b):
                return [self._times(t, b, True) for t in self._terms(a, taken)]
            case syntax.Binary("@", syntax.Transpose(v), x):
                vector, conditions = self._operand(x)
                if vector is None:
                    return []
                return [Term(sympy.Integer(1), (), vector, self._reference(v), (), conditions)]
            case syntax.Guard(value, _):
                if isinstance(value, syntax.Binary):  # a guarded readout
                    (term,) = self._terms(value, taken)
                    assert term.vector is not None and term.readout is not None
                    conditions = term.conditions + self.in_range(term.vector) + self.in_range(term.readout)
                    return [replace(term, conditions=conditions)]
                vector, conditions = self._operand(e)
                return [self._one(vector, conditions)] if vector else []
            case syntax.Conditional(a, c, b):
                result = []
                for branch, condition in ((a, c), (b, syntax.Not(c))):
                    for conjunction in self.disjunction(condition):
                        for t in self._terms(branch, taken):
                            result.append(replace(t, conditions=(*conjunction, *t.conditions)))
                return result
            case syntax.Reduction(kind, binders, body) if kind in ("sum", "mean") and not self._is_scalar(e):
                return self._reduced(kind, binders, body, taken)
        if is_zero(e):
            return []
        if self._is_scalar(e):
            return [self._times(Term(sympy.Integer(1), (), None, None, (), ()), e, False)]
        vector, conditions = self._operand(e)
        assert vector is not None
        return [self._one(vector, conditions)]

    def _one(self, r: Reference, conditions: tuple[Condition, ...]) -> Term:
        """A vector, or a random scalar: a readout of the number 1."""
        scalar = self.program.families[r.name].role == "scalar"
        return Term(sympy.Integer(1), (), None if scalar else r, r if scalar else None, (), conditions)

    def _reduced(self, kind: str, binders, body, taken: list[str]) -> list[Term]:
        ranges: list[Range] = []
        names: dict[str, str] = {}
        outer = list(taken)
        before = dict(self._scope.indices)
        for b in binders:
            r = self._scope.range_of(b).range
            self._scope.indices[b.name] = Binding(r)
            r = Range(
                r.name, map_bound(r.low, lambda a: _renamed(a, names)), map_bound(r.high, lambda a: _renamed(a, names))
            )
            name = underscored(r.name, outer)
            names[r.name] = name
            outer.append(name)
            ranges.append(replace(r, name=name))
        terms = self._terms(body, outer)
        self._scope.indices = before
        mapping = {old: Affine.symbol(new) for old, new in names.items() if old != new}
        factor = sympy.Integer(1)
        if kind == "mean":
            for r in ranges:
                if not isinstance(r.low, Affine) or not isinstance(r.high, Affine):
                    raise ProgramError("the range of this mean is too involved", body.span)
                factor /= self.number(r.high - r.low + 1)
        return [
            replace(t, sums=(*ranges, *t.sums), coefficient=t.coefficient * factor)
            for t in (put_term(t, mapping, self.number) for t in terms)
        ]

    def _is_scalar(self, e: syntax.Expr) -> bool:
        if any(isinstance(s, syntax.Binary) and s.op == "@" for s in subexpressions(e)):
            return False
        if any(isinstance(s, syntax.Name) and s.name in self.program.widths for s in leaves(e)):
            return True
        return isinstance(readout_type(e, self._scope), Constant | Scalar)

    def _times(self, t: Term, e: syntax.Expr, divide: bool) -> Term:
        form = self.scalar(e)
        value = 1 / form.expression if divide else form.expression
        if not form.arguments:
            return _scaled(t, value)
        return replace(t, scalars=(*t.scalars, ScalarForm(value, form.arguments)))

    # -- scalars and coordinatewise functions

    def scalar(self, e: syntax.Expr) -> ScalarForm:
        arguments: dict[object, tuple[sympy.Symbol, ScalarLeaf]] = {}
        expression = self._expression(e, lambda leaf: self._scalar_leaf(leaf, arguments))
        return ScalarForm(expression, tuple(arguments.values()))

    def _scalar_leaf(self, e: syntax.Expr, arguments) -> sympy.Symbol | None:
        match e:
            case syntax.Name(name) | syntax.Index(name) if name in self.program.families:
                if name in self._scope.indices:
                    return None
                return self._symbol(arguments, self._reference(e), name)
            case syntax.Reduction(kind, binders, body):
                if kind not in ("sum", "mean", "prod", "max", "min", "softmax"):
                    raise ProgramError(f"{kind} of C's is not supported", e.span)
                *first, last = binders
                if first:
                    body = replace(e, binders=(last,))
                    e = replace(e, binders=tuple(first), body=body)
                    if len(e.binders) > 1:
                        raise ProgramError(f"write nested {kind}[…] with one index each", e.span)
                    (last,) = e.binders
                binding = self._scope.range_of(last)
                with self._scope.bound([binding]):
                    inner = self.scalar(body)
                at = Affine.symbol(last.name) if kind == "softmax" else None
                return self._symbol(arguments, ScalarReduction(kind, binding.range, inner, at), kind)
            case syntax.Guard(value, otherwise) if is_zero(otherwise) and isinstance(value, syntax.Name | syntax.Index):
                inside = self.in_range(self._reference(value))
                return self._symbol(arguments, ScalarChoice(((inside, self.scalar(value)),)), value.name)
            case syntax.Guard():
                raise ProgramError(
                    "this `else` inside arithmetic on C's is not supported: assign the value first", e.span
                )
            case syntax.Conditional(then, condition, otherwise):
                branches = [
                    (tuple(conjunction), self.scalar(branch))
                    for branch, c in ((then, condition), (otherwise, syntax.Not(condition)))
                    for conjunction in self.disjunction(c)
                    if not is_zero(branch)
                ]
                return self._symbol(arguments, ScalarChoice(tuple(branches)), "choice")
        return None

    def _symbol(self, arguments, leaf, stem: str) -> sympy.Symbol:
        """The symbol that stands for a leaf: its name, numbered from the second member of a family on."""
        if leaf not in arguments:
            same = sum(s.name == stem or s.name.startswith(stem + "#") for s, _ in arguments.values())
            arguments[leaf] = (sympy.Symbol(stem if not same else f"{stem}#{same + 1}", real=True), leaf)
        return arguments[leaf][0]

    def _pointwise(self, e: syntax.Expr, scalar: bool) -> Pointwise:
        vectors: dict[Reference, tuple[sympy.Symbol, Reference]] = {}
        scalars: dict[object, tuple[sympy.Symbol, ScalarLeaf]] = {}
        reductions: dict[VectorReduction, tuple[sympy.Symbol, VectorReduction]] = {}

        def leaf(x: syntax.Expr):
            match x:
                case syntax.Name(name) | syntax.Index(name) if name in self.program.families:
                    if name in self._scope.indices:
                        return None
                    if isinstance(self.program.families[name].type, Vector | Data):
                        return self._symbol(vectors, self._reference(x), name)
                case syntax.Reduction(kind) if not self._is_scalar(x):
                    return self._symbol(reductions, self._reduction(x, scalar), kind)
            return self._scalar_leaf(x, scalars)

        expression = self._expression(e, leaf)
        forms = tuple((s, ScalarForm(s, ((s, r),))) for s, r in scalars.values())
        return Pointwise(expression, tuple(vectors.values()), forms, tuple(reductions.values()))

    def _reduction(self, e: syntax.Reduction, scalar: bool) -> VectorReduction:
        with self._scope.bound([]):
            bindings = []
            for b in e.binders:
                binding = self._scope.range_of(b)
                self._scope.indices[b.name] = binding
                bindings.append(binding)
            inner = self._pointwise(e.body, scalar)
        at = tuple(Affine.symbol(b.name) for b in e.binders) if e.function in MAPS else ()
        eps = next((self.scalar(v) for k, v in e.keywords if k == "eps"), None)
        return VectorReduction(e.function, tuple(b.range for b in bindings), inner, at, eps)

    def _expression(self, e: syntax.Expr, leaf: Callable[[syntax.Expr], sympy.Symbol | None]) -> sympy.Expr:
        symbol = leaf(e)
        if symbol is not None:
            return symbol
        match e:
            case syntax.Negate(operand):
                return -self._expression(operand, leaf)
            case syntax.Binary(op, a, b) if op != "@":
                return arithmetic(op, self._expression(a, leaf), self._expression(b, leaf), e.span)
            case syntax.Call(name, arguments, keywords):
                values = [self._expression(a, leaf) for a in arguments]
                named = {k: self._expression(v, leaf) for k, v in keywords}
                return self._scope.apply(name, values, named, e.span)
            case syntax.DerivativeCall(function, argument, arguments, keywords):
                derived: Function = self._scope.derivative(function, argument, e.span)
                values = [self._expression(a, leaf) for a in arguments]
                return apply_definition(derived, values, {k: self._expression(v, leaf) for k, v in keywords}, e.span)
        return self._scope.number(e)

    # -- matrices

    def matrix(self, r: Reference) -> tuple[Reference, bool]:
        """The declared weight that a matrix names, and whether transposed."""
        family = self.program.families[r.name]
        transposed = False
        while family.transpose_of is not None:
            value = family.clauses[0].value
            assert isinstance(value, syntax.Call)
            mapping = {}
            target = family.clauses[0].target
            for t, i in zip(target, r.indices, strict=True):
                if len(t.terms) == 1 and t.terms[0][1] == 1:
                    mapping[t.terms[0][0]] = i - t.constant
            with self._bound(list(family.clauses[0].loops)):
                inner = self._reference(value.arguments[0])
            r = put_reference(inner, mapping)
            transposed = not transposed
            family = self.program.families[r.name]
        assert isinstance(family.type, Matrix)
        return r, transposed


def map_bound_difference(a, b) -> Affine | None:
    """a − b where both are affine."""
    return a - b if isinstance(a, Affine) and isinstance(b, Affine) else None


def _renamed(a: Affine, names: dict[str, str]) -> Affine:
    return a.substitute({k: Affine.symbol(v) for k, v in names.items()})


def _scaled(t: Term, factor: sympy.Expr) -> Term:
    return replace(t, coefficient=t.coefficient * factor)
