"""Functions of vectors and of C's in sampled source: each defined once, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy

from tensorprog.backend.code.reading import formula
from tensorprog.backend.code.tree import (
    Binary,
    Blank,
    Conditional,
    Def,
    Expr,
    Literal,
    Name,
    Return,
    Statement,
    TupleOf,
    call,
    index,
    let,
    listing,
    multiplied,
    text,
    tree,
)
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.fresh import numbered
from tensorprog.naming import identifier
from tensorprog.program.instructions import Pointwise, Reference, ScalarChoice, ScalarForm, ScalarLeaf, VectorReduction
from tensorprog.sampling.holding import Holding
from tensorprog.sampling.members import Members

HELD_VARIABLE = sympy.Symbol("z", real=True)


@dataclass(frozen=True)
class Applied:
    """A function that is defined, and what it is called with."""

    function: Name
    vectors: tuple[Expr, ...]
    scalars: tuple[Expr, ...]


class Expressions:
    """definitions: functions, and sums over held factors, in the order of their use.

    factors: held factors, functions of z, by their names.
    """

    def __init__(self, members: Members, holding: Holding):
        self.members = members
        self.holding = holding
        self.definitions: list[Statement] = []
        self.factors: dict[str, sympy.Expr] = {}
        self._functions: set[str] = set()

    # ------------------------------------------------------------ functions of vectors

    def applied(self, stem: str, f: Pointwise) -> Applied:
        """Defines the function of vectors and scalars."""
        function = self._fresh(stem)
        names: dict[sympy.Symbol, Expr] = {}
        vectors: list[Expr] = []
        arguments: list[str] = []
        scalars: list[Expr] = []
        steps: list[Statement] = []
        used = f.expression.free_symbols

        def scalar(value: Expr) -> Name:
            scalars.append(value)
            return Name(f"a{len(scalars)}")

        for s, r in f.vectors:
            if s in used:
                vectors.append(self.members.read(r))
                arguments.append(f"z{len(vectors)}")
                names[s] = Name(arguments[-1])
        for s, reduction in f.reductions:
            if s in used:
                vectors.append(self._stack(stem, reduction))
                arguments.append(f"stack{len(vectors)}")
                names[s] = Name(f"u{len(vectors)}")
                extra = [scalar(self._place(reduction))] if reduction.at else []
                extra += [scalar(self.scalar(reduction.eps))] if reduction.eps is not None else []
                steps.append(let(names[s], call(f"reduce_{reduction.kind}", arguments[-1], *extra)))
        for s, form in f.scalars:
            if s in used:
                names[s] = scalar(self.scalar(form))
        for s in sorted(used - names.keys(), key=str):
            names[s] = scalar(self.members.name(s.name))
        arguments += [f"a{k + 1}" for k in range(len(scalars))]
        self._define(function, arguments, steps, formula(f.expression, names))
        return Applied(function, tuple(vectors), tuple(scalars))

    def _fresh(self, stem: str) -> Name:
        """fn_h, fn_h_2, …; families are called h_2 as well."""
        function = numbered(f"fn_{identifier(stem)}", self._functions)
        self._functions.add(function)
        return Name(function)

    def _define(self, function: Name, arguments: Sequence[str], steps: Sequence[Statement], value: Expr) -> None:
        self._add(Def(function.name, tuple(arguments), (*steps, Return(value))))

    def _add(self, definition: Statement) -> None:
        self.definitions += [Blank(), Blank(), definition]

    def _stack(self, stem: str, reduction: VectorReduction) -> Expr:
        body = reduction.body
        if len(body.vectors) == 1 and body.expression == body.vectors[0][0]:
            inner = self.members.read(body.vectors[0][1])
        else:
            f = self.applied(stem, body)
            inner = call("path.apply", f.function, f.vectors, *([f.scalars] if f.scalars else []))
        return call("Stack", listing(inner, *map(self.members.each, reduction.ranges)))

    def _place(self, reduction: VectorReduction) -> Expr:
        """The position of `at` in the list over the ranges."""
        total: Expr | None = None
        for r, at in zip(reduction.ranges, reduction.at, strict=True):
            if not isinstance(r.low, Affine) or not isinstance(r.high, Affine):
                raise ProgramError(f"the range of {r.name} in {reduction.kind}[…] is too involved to be sampled")
            own = self.members.integer(at - r.low)
            if total is not None:
                own = Binary("+", Binary("*", total, self.members.integer(r.high - r.low + 1)), own)
            total = own
        assert total is not None
        return total

    # ------------------------------------------------------------ sums over held factors

    def held_terms(self, stem: str, f: Pointwise) -> Name | None:
        """Defines the coefficients and factors of a function as a sum over held factors; the name of that sum."""
        terms = self.holding.terms(f)
        if terms is None:
            return None
        order = [s for s, _ in f.vectors if s in f.expression.free_symbols]
        order += [s for s, _ in f.reductions if s in f.expression.free_symbols]
        rows = []
        for t in terms:
            coefficient = Literal(None) if t.coefficient == 1 else self._coefficient(stem, f, t.coefficient)
            used = tuple(k for k, s in enumerate(order) if s in t.coefficient.free_symbols)
            held = None if t.held is None else order.index(t.held)
            factors = tuple((text(self._factor(stem, e, s)), order.index(s)) for e, s in t.factors)
            rows.append(tree((coefficient, used, held, factors)))
        name = Name(f"TERMS_{len(self._functions)}")
        self._add(let(name, TupleOf(tuple(rows), tall=True)))
        return name

    def _coefficient(self, stem: str, f: Pointwise, e: sympy.Expr) -> Name:
        """A function of those vectors that stand in it, and of all scalars of the whole."""
        used = f.expression.free_symbols
        scalars = [s for s, _ in f.scalars if s in used]
        own = {s for s, _ in f.vectors} | {s for s, _ in f.reductions}
        scalars += sorted(used - own - set(scalars), key=str)
        function = self._fresh(stem)
        arguments = [f"z{k + 1}" for k, _ in enumerate(s for s, _ in f.vectors if s in e.free_symbols)]
        names: dict[sympy.Symbol, Expr] = dict(
            zip((s for s, _ in f.vectors if s in e.free_symbols), map(Name, arguments), strict=True)
        )
        places = _reduction_places(f)
        steps: list[Statement] = []
        for s, reduction in f.reductions:
            if s in e.free_symbols:
                arguments.append(f"stack{len(arguments) + 1}")
                names[s] = Name(f"u{len(arguments)}")
                steps.append(let(names[s], call(f"reduce_{reduction.kind}", arguments[-1], *places[s])))
        shift = sum(map(len, places.values()))
        names |= {s: Name(f"a{shift + k + 1}") for k, s in enumerate(scalars)}
        arguments += [f"a{k + 1}" for k in range(shift + len(scalars))]
        self._define(function, arguments, steps, formula(e, names))
        return function

    def _factor(self, stem: str, e: sympy.Expr, s: sympy.Symbol) -> str:
        """The name of a held factor."""
        e = e.xreplace({s: HELD_VARIABLE})
        for name, known in self.factors.items():
            if known == e:
                return name
        name = f"{stem}_{len(self.factors) + 1}"
        self.factors[name] = e
        return name

    # ------------------------------------------------------------ functions of C's

    def scalar(self, form: ScalarForm) -> Expr:
        return self.scalar_expression(form.expression, {s: ScalarForm(s, ((s, a),)) for s, a in form.arguments})

    def scalar_expression(self, e: sympy.Expr, forms: Mapping[sympy.Symbol, ScalarForm]) -> Expr:
        names: dict[sympy.Symbol, Expr] = {}
        for s in e.free_symbols:
            if s in forms:
                ((inner, leaf),) = forms[s].arguments
                names[s] = self._leaf(leaf) if forms[s].expression == inner else self.scalar(forms[s])
            else:
                names[s] = self.members.name(s.name)
        return formula(e, names)

    def _leaf(self, leaf: ScalarLeaf) -> Expr:
        if isinstance(leaf, Reference):
            return self.members.read(leaf)
        if isinstance(leaf, ScalarChoice):
            parts = [Conditional(self.scalar(f), self.members.holds(c), Literal(0.0)) for c, f in leaf.branches]
            return multiplied(parts, "+") if parts else Literal(0.0)
        values = listing(self.scalar(leaf.body), self.members.each(leaf.range))
        if leaf.kind == "sum":
            return call("sum", values)
        at: list[Expr] = []
        if leaf.at is not None:
            assert isinstance(leaf.range.low, Affine)
            at = [self.members.integer(leaf.at - leaf.range.low)]
        reduced = call(f"reduce_{leaf.kind}", call("stack_scalars", values), *at)
        return index(reduced, Literal(...), 0)


def _reduction_places(f: Pointwise) -> dict[sympy.Symbol, list[str]]:
    """The scalar arguments of each reduction, in the order of `applied`."""
    places: dict[sympy.Symbol, list[str]] = {}
    count = 0
    for s, reduction in f.reductions:
        if s in f.expression.free_symbols:
            own = bool(reduction.at) + (reduction.eps is not None)
            places[s] = [f"a{count + k + 1}" for k in range(own)]
            count += own
    return places
