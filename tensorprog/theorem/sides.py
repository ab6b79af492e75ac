"""What every rule of the derivation stands on: two runs, their indices, and equations between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import sympy

from tensorprog.index.affine import Affine
from tensorprog.index.bounds import bound_symbols, map_bound, maximum, minimum
from tensorprog.index.conditions import Condition, boxed, within
from tensorprog.index.ranges import Range, behind
from tensorprog.index.solving import integral, reaching, with_value
from tensorprog.program.ir import Family, Program
from tensorprog.program.scope import size_symbol
from tensorprog.program.substitution import binders
from tensorprog.program.types import Vector
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import (
    Case,
    CaseReader,
    Linear,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    ScalarReduction,
    substitute_range,
)
from tensorprog.theorem.recursion import ZERO, Key, Node, product
from tensorprog.theorem.support import Support

Pairing = tuple[tuple[int, int, int], ...]  # (left axis, right axis, offset): right index = left index + offset


@dataclass(frozen=True)
class View:
    """From where tables are looked at: the stream of the pair at hand, and whose runs its two sides are.

    Inside a run: ("self", None, None). In the cross stream: ("cross", "left", "right"), and its variances are
    read through ("self", "left", "left") and ("self", "right", "right").
    """

    stream: str
    left: str | None
    right: str | None

    def within(self, side: str) -> View:
        run = self.left if side == "left" else self.right
        return View("self", run, run)


@dataclass
class Context:
    """What gathers around a product: the sums and conditions it stands under, and the ranges of all its indices."""

    ranges: dict[str, Range]
    sums: dict[str, Range] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    solved: dict[str, Affine] = field(default_factory=dict)

    def all_ranges(self) -> dict[str, Range]:
        return {**self.ranges, **self.sums}


class Sides:
    """State of a derivation, and the index calculus of pairs of assignments."""

    def __init__(self, program: Program):
        self.program = program
        self.reader = CaseReader(program)
        self.support = Support(self.reader)
        self.pairings: dict[Key, Pairing] = {}
        self.tables: dict[Key, ir.Table] = {}
        self.pending: list[Key] = []
        self.changed = False
        self.zero_mean = self._zero_means()
        self.zero_scalars: dict[str, bool] = {}
        self.split_cases: dict[str, tuple[Case, ...]] = {}
        self.given: tuple[Condition, ...] = ()  # what holds where the assignment in hand defines something
        self.index_names = {b.name for s in program.text.statements for b in binders(s)}

    def _ask(self, key: Key) -> None:
        if key not in self.tables:
            self.pending.append(key)

    def _at(self, value: sympy.Expr, family: Family, indices: tuple[Affine, ...]) -> sympy.Expr:
        """A law's number at a member of the family."""
        return value.xreplace(
            {
                sympy.Symbol(r.name, integer=True): self.reader.number(i)
                for r, i in zip(family.ranges, indices, strict=True)
            }
        )

    def _mapping(self, rename: dict[str, Affine], side: str | None) -> dict[str, Affine]:
        mapping = dict(rename)
        if side == "right":
            mapping |= {s: Affine.symbol(s + "'") for s in self.program.of_runs}
        return mapping

    def _put(self, r: Reference, rename: dict[str, Affine], side: str | None) -> Reference:
        mapping = self._mapping(rename, side)
        return replace(r, indices=tuple(i.substitute(mapping) for i in r.indices)) if mapping else r

    def _solved(self, r: Reference, ctx: Context) -> Reference:
        return replace(r, indices=tuple(i.substitute(ctx.solved) for i in r.indices))

    def _primed(self, case: Case, sizes: bool) -> Case:
        """The case as the second vector of a pair: indices primed, and sizes too between two runs."""
        names = {r.name for r in case.binders}
        if isinstance(case.body, Linear):
            names |= {r.name for t in case.body.terms for r in t.sums}
        mapping = {n: Affine.symbol(n + "'") for n in names}
        if sizes:
            mapping |= {s: Affine.symbol(s + "'") for s in self.program.of_runs}

        def change_range(r: Range) -> Range:
            r = substitute_range(r, mapping)
            return replace(r, name=r.name + "'")

        body = case.body
        if isinstance(body, Linear):
            terms = tuple(replace(t, sums=tuple(replace(r, name=r.name + "'") for r in t.sums)) for t in body.terms)
            body = Linear(terms)
        body = self.reader.put(body, mapping)
        if sizes:
            body = self._prime_numbers(body)
        return Case(
            tuple(change_range(r) for r in case.binders),
            tuple(t.substitute(mapping) for t in case.target),
            tuple(c.substitute(mapping) for c in case.conditions),
            body,
            case.span,
        )

    def _prime_numbers(self, body):
        values = {size_symbol(s): size_symbol(s + "'") for s in self.program.open_sizes}

        def scalar(f: ScalarForm) -> ScalarForm:
            return ScalarForm(f.expression.xreplace(values), tuple((s, leaf(a)) for s, a in f.arguments))

        def leaf(a: ScalarLeaf) -> ScalarLeaf:
            if isinstance(a, ScalarReduction):
                return replace(a, body=scalar(a.body))
            if isinstance(a, ScalarChoice):
                return ScalarChoice(tuple((c, scalar(f)) for c, f in a.branches))
            return a

        def pointwise(f: Pointwise) -> Pointwise:
            reductions = tuple(
                (s, replace(r, body=pointwise(r.body), eps=r.eps and scalar(r.eps))) for s, r in f.reductions
            )
            scalars = tuple((s, scalar(a)) for s, a in f.scalars)
            return Pointwise(f.expression.xreplace(values), f.vectors, scalars, reductions)

        match body:
            case Linear(terms):
                return Linear(
                    tuple(
                        replace(
                            t,
                            coefficient=t.coefficient.xreplace(values),
                            scalars=tuple(scalar(s) for s in t.scalars),
                        )
                        for t in terms
                    )
                )
            case Pointwise() as f:
                return pointwise(f)
        return body

    def _renamed_number(self, e: sympy.Expr, rename: dict[str, Affine], side: str | None) -> sympy.Expr:
        values = {sympy.Symbol(k, integer=True): self.reader.number(v) for k, v in rename.items()}
        if side == "right":
            values |= {size_symbol(s): size_symbol(s + "'") for s in self.program.open_sizes}
        return e.subs(values, simultaneous=True) if values else e

    @contextmanager
    def _where(self, conditions: Iterable[Condition]) -> Iterator[None]:
        """While an assignment is looked at, of a case under these conditions."""
        before, self.given = self.given, tuple(conditions)
        try:
            yield
        finally:
            self.given = before

    def _solve(self, c: Condition, solved) -> Condition:
        return c.substitute(solved)

    def _empty(self, ranges: dict[str, Range]) -> bool:
        return any(
            isinstance(r.low, Affine)
            and isinstance(r.high, Affine)
            and self.reader.certain(Condition(">=", r.high - r.low), {}) is False
            and not ((r.high - r.low).symbols & ranges.keys())
            for r in ranges.values()
        )

    def _settle_conditions(self, conditions: list[Condition], ranges) -> list[Condition] | None:
        """The conditions that are not certain; None where one cannot hold."""
        return self.reader.left(conditions, ranges)

    def _equate(self, e: Affine, f: Affine, ranges: dict[str, Range], conditions, solved) -> bool:
        """Make two indices equal by solving for an index in `ranges`; False where they cannot be.

        A primed index is solved for first, so that what remains speaks of the first vector's indices.
        """
        difference = e - f
        if difference.is_constant:
            return difference.constant == 0
        if not difference.divided and all(s in ranges for s, _ in difference.terms):
            reduced = integral(difference)
            if reduced is None:
                return False
            difference = reduced
        candidates = [s for s, _ in difference.terms if s in ranges and difference.solved(s) is not None]
        candidates.sort(key=lambda s: (not s.endswith("'"), s))
        for s in candidates:
            value = difference.solved(s)
            assert value is not None
            self._replace_index(s, value, ranges, conditions, solved)
            return True
        verdict = self.reader.certain(Condition("==", difference), ranges)
        if verdict is None:
            conditions.append(Condition("==", difference))
        return verdict is not False

    def _replace_index(self, s: str, value: Affine, ranges, conditions, solved) -> None:
        """Put `value` for the index s, whose range becomes a bound on what stands in `value`."""
        r = ranges[s]
        for name, x in list(ranges.items()):
            if s in _names(x):
                if name in behind(value.symbols, ranges):
                    # Its range would speak of the index itself: i ≤ P - s with i + j for s.
                    ranges[name], more = boxed(x, ranges)
                    conditions += more
                ranges[name] = substitute_range(ranges[name], {s: value})
        del ranges[s]
        solved.update(with_value(solved, s, value))
        conditions[:] = [self._solve(c, {s: value}) for c in conditions]
        terms = [(x, k) for x, k in value.terms if x in ranges]
        if len(terms) == 1 and terms[0][1] == 1 and not ((_names(r) | value.divided) & ranges.keys()):
            # value = i + rest: the range of s moves over to i.
            (name, _), rest = terms[0], value - Affine.symbol(terms[0][0])
            own = ranges[name]
            low = maximum(own.low, map_bound(r.low, lambda a: a - rest))
            high = minimum(own.high, map_bound(r.high, lambda a: a - rest))
            ranges[name] = Range(name, low, high)
            return
        for bound, sign in ((r.low, 1), (r.high, -1)):
            leaves = [bound] if isinstance(bound, Affine) else list(bound.arguments)
            for leaf in leaves:
                assert isinstance(leaf, Affine)
                conditions.append(Condition(">=", (value - leaf) * sign))

    def _same_indices(self, e: tuple[Affine, ...], f: tuple[Affine, ...], ctx: Context) -> bool:
        """Set two members of a random family equal: solve for summed indices, and keep conditions on the others."""
        for x, y in zip(e, f, strict=True):
            x, y = x.substitute(ctx.solved), y.substitute(ctx.solved)
            if self._solve_binder(x, y, ctx):
                continue
            if not self._equate(x, y, ctx.sums, ctx.conditions, ctx.solved):
                return False
        conditions = self._settle_conditions(ctx.conditions, ctx.all_ranges())
        if conditions is None:
            return False
        ctx.conditions[:] = conditions
        return True

    def _solve_binder(self, x: Affine, y: Affine, ctx: Context) -> bool:
        """Where two indices are equal only on a diagonal of the clause's own indices, say so and put one for the other.

        What stands under that condition then asks for entries on the diagonal alone.
        """
        difference = x - y
        if difference.symbols & ctx.sums.keys():
            return False
        for s, _ in difference.terms:
            if s.endswith("'") and s in ctx.ranges and (value := difference.solved(s)) is not None:
                if any(s in v.symbols for v in ctx.solved.values()):
                    return False
                if self.reader.certain(Condition("==", difference), ctx.all_ranges()) is False:
                    return False
                condition = Condition("==", Affine.symbol(s) - value)
                if condition not in ctx.conditions:
                    ctx.conditions.append(condition)
                ctx.solved[s] = value
                return True
        return False

    def _gather(self, ctx: Context, factors: list[Node]) -> Node:
        """The product under the sums and conditions that are left of a context."""
        conditions = self._settle_conditions(ctx.conditions, ctx.all_ranges())
        if conditions is None:
            return ZERO
        body = product(*factors)
        if ir.is_zero(body):
            return ZERO
        if not ctx.sums:
            return ir.Where(tuple(conditions), body, ZERO) if conditions else body
        constants = [x for x in factors if isinstance(x, ir.Constant) and not indices_in(x.value, ctx.sums)]
        rest = [x for x in factors if x not in constants]
        inside = tuple(c for c in conditions if c.expression.symbols & ctx.sums.keys())
        outside = tuple(c for c in conditions if c not in inside)
        value = product(*constants, ir.Sum(tuple(ctx.sums.values()), inside, product(*rest)))
        return ir.Where(outside, value, ZERO) if outside else value

    def _case_at(
        self, r: Reference, side: str | None, ranges: dict[str, Range]
    ) -> tuple[Case, dict[str, Affine]] | None:
        """The one case that defines a member of a family, with its indices solved for; None where it depends."""
        chosen = None
        sizes = self._mapping({}, side)
        for case in self.reader.cases(r.name):
            member = self._defines(r.indices, case, sizes)
            if member is None:
                return None
            mapping, conditions = member
            verdicts = [self.reader.certain(c, ranges, self.given) for c in conditions]
            if any(v is False for v in verdicts):
                continue
            if chosen is not None or any(v is None for v in verdicts):
                return None if len(self.reader.cases(r.name)) > 1 else (case, mapping)
            chosen = case, mapping
        return chosen

    def _defines(
        self, indices: tuple[Affine, ...], case: Case, sizes: dict[str, Affine]
    ) -> tuple[dict[str, Affine], list[Condition]] | None:
        """The values of a case's indices at which it defines a member, and the conditions that it does.

        sizes: what stands for the sizes of the run. None where an axis has several of the case's indices.
        """
        own = {x.name: x for x in case.binders}
        mapping: dict[str, Affine] = {}
        conditions: list[Condition] = []
        for t, i in zip(case.target, indices, strict=True):
            loops = t.symbols & own.keys()
            if not loops:
                conditions.append(Condition("==", i - t.substitute(sizes)))
                continue
            (name, *more) = loops
            factor = t.coefficient(name)
            if more or name in mapping or name in t.divided or factor < 1:
                return None
            mapping[name], one = reaching(t.substitute(sizes), name, i)
            conditions += one
        for name, value in mapping.items():
            conditions += within(value, substitute_range(own[name], {**sizes, **mapping}))
        conditions += [self._solve(c, {**sizes, **mapping}) for c in case.conditions]
        return mapping, conditions


def gaussian(f: Family) -> bool:
    return isinstance(f.type, Vector) and f.type.gaussian


def _names(r: Range) -> set[str]:
    return set(bound_symbols(r.low) | bound_symbols(r.high))


def indices_in(e: sympy.Expr, ranges) -> bool:
    return any(sympy.Symbol(n, integer=True) in e.free_symbols for n in ranges)
