"""The Master Theorem as a pass: Program → Recursion (Tensor Programs I, theorem 5.4; III, box 1 without transposes).

    Program     h[t] := LinComb(W_s[t] + U_x[t] + b);  W_s[t] := MatMul(W, s[t-1]);  s[t] := Nonlin(erf(h[t]))
    Recursion   Cov(h, h')[t, t'] := s_W E(s, s')[t-1, t'-1] + s_U <x[t], x'[t']>/d + s_b
                E(s, s')[t, t']   := pair(erf, erf; Cov(h, h')[t, t'], …)

Tables are made as they are asked for, from the output backwards. A table has one axis for two where all that is
ever asked of it lies on a diagonal (theory: which covariances are needed); when a later question asks for more, the
table is widened and the derivation starts again, until nothing changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError
from tensorprog.program.affine import Affine, Range, bound_symbols, map_bound, maximum, minimum
from tensorprog.program.ir import Family, Program
from tensorprog.program.laws import growth, nngp_scale
from tensorprog.program.scope import size_symbol
from tensorprog.program.substitution import binders
from tensorprog.program.types import Data, Matrix, Process, Scalar, Vector
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import (
    Case,
    CaseReader,
    Declared,
    Linear,
    Multiply,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    ScalarReduction,
    Term,
    substitute_range,
)
from tensorprog.theorem.recursion import ONE, ZERO, Condition, Key, Node, add, product
from tensorprog.theorem.support import Support
from tensorprog.theorem.transposes import without_transposes

Pairing = tuple[tuple[int, int, int], ...]  # (left axis, right axis, offset): right index = left index + offset

MAX_GAUSSIANS = 5


def derive(program: Program) -> ir.Recursion:
    """The recursion of all outputs.

    Raises ProgramError where the program has no limit, or one that no rule covers.
    """
    try:
        return Deriver(without_transposes(program)).run()
    except ProgramError as error:
        raise error.located(program.source, program.filename) from None


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


class Deriver:
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
        self.index_names = {b.name for s in program.text.statements for b in binders(s)}

    # ------------------------------------------------------------ driver

    def run(self) -> ir.Recursion:
        outputs = self.program.outputs
        if not outputs:
            raise ProgramError(
                "the program has no output", self.program.text.span, hint="output y := v.T @ x / sqrt(n), say"
            )
        processes = [f for f in outputs if isinstance(f.type, Process)]
        if len(processes) > 1:
            raise ProgramError(
                f"a program has one output that is a readout; '{processes[0].name}' is one already", processes[1].span
            )
        if processes:
            self._check_readouts(processes[0])
        output = Key(ir.OUTPUT, "cross", (processes[0].name,)) if processes else None
        limits = tuple(Key(ir.SCALAR, "self", (f.name,)) for f in outputs if isinstance(f.type, Scalar))
        while True:
            self.changed = False
            self.tables, self.pending = {}, []
            for key in (*((output,) if output else ()), *limits):
                self._ask(key)
            while self.pending:
                key = self.pending.pop()
                if key not in self.tables:
                    self.tables[key] = self._table(key)
            if not self.changed:
                break
        wanted = self._reached([k for k in (output, *limits) if k is not None])
        tables = {k: t for k, t in reversed(self.tables.items()) if k in wanted}
        return ir.Recursion(self.program, tables, output, limits)

    def _reached(self, keys: list[Key]) -> set[Key]:
        """The tables that these need; some were looked at only to find that they are zero."""
        reached: set[Key] = set()
        while keys:
            key = keys.pop()
            if key in reached:
                continue
            reached.add(key)
            for clause in self.tables[key].clauses:
                for node in ir.walk(clause.value):
                    if isinstance(node, ir.Read):
                        keys.append(node.key)
                    if isinstance(node, ir.Gram):
                        keys += [Key(ir.DATA, "self", (name,)) for name in node.names]
        return reached

    def _ask(self, key: Key) -> None:
        if key not in self.tables:
            self.pending.append(key)

    def _table(self, key: Key) -> ir.Table:
        if key.kind in (ir.DATA, ir.SCALAR, ir.MEAN):
            return self._one_run_table(key)
        return self._pair_table(key)

    # ------------------------------------------------------------ readouts

    def _check_readouts(self, output: Family) -> None:
        readouts = {
            t.readout.name for c in self.reader.cases(output.name) for t in c.body.terms if t.readout is not None
        }
        for name in readouts:
            v = self.program.families[name]
            if v.role != "vector":
                raise ProgramError(
                    f"the readout '{name}' is not a declared vector, so the output is no Gaussian process", output.span
                )
            if v.law is not None and v.law.mean != 0:
                raise ProgramError(
                    f"the readout '{name}' has a mean: the output is no Gaussian process by the theorem", v.span
                )
            for f in self.program.families.values():
                if f.role == "assigned" and isinstance(f.type, Vector) and name in self.support.sources[f.name]:
                    raise ProgramError(
                        f"the readout '{name}' is used in '{f.name}' too: "
                        "the output is no Gaussian process by the theorem",
                        output.span,
                        hint=f"declare another vector for '{f.name}'",
                    )

    # ------------------------------------------------------------ means

    def _zero_means(self) -> set[str]:
        """The vectors whose limits have mean zero by their structure."""
        families = self.program.families
        zero = {
            f.name
            for f in families.values()
            if isinstance(f.type, Vector) and (f.role == "assigned" or (f.law is not None and f.law.mean == 0))
        }
        while True:
            wrong = {name for name in zero if families[name].role == "assigned" and not self._keeps_zero(name, zero)}
            if not wrong:
                return zero
            zero -= wrong

    def _keeps_zero(self, name: str, zero: set[str]) -> bool:
        for case in self.reader.cases(name):
            match case.body:
                case Linear(terms):
                    if any(t.vector is None or t.vector.name not in zero for t in terms):
                        return False
                case Pointwise():
                    return False
        return True

    def mean(self, u: Reference, side: str | None, ranges: dict[str, Range]) -> Node:
        """E Z^u."""
        if u.name in self.zero_mean:
            return ZERO
        family = self.program.families[u.name]
        if family.role == "vector":
            assert family.law is not None
            value = growth(family.law.mean * family.law.multiplier, dict(self.program.widths)).limit
            return ir.Constant(self._at(value, family, u.indices))
        key = Key(ir.MEAN, "self", (u.name,))
        self._ask(key)
        return ir.Read(key, u.indices, side)

    def _at(self, value: sympy.Expr, family: Family, indices: tuple[Affine, ...]) -> sympy.Expr:
        """A law's number at a member of the family."""
        return value.xreplace(
            {
                sympy.Symbol(r.name, integer=True): self.reader.number(i)
                for r, i in zip(family.ranges, indices, strict=True)
            }
        )

    # ------------------------------------------------------------ one-run tables

    def _one_run_table(self, key: Key) -> ir.Table:
        (name,) = key.families
        family = self.program.families[name]
        axes = tuple(ir.Axis(r, k, None) for k, r in enumerate(family.ranges))
        if family.role == "input":
            return ir.Table(key, axes, ())
        clauses = []
        for case in self.reader.cases(name):
            ranges = {r.name: r for r in case.binders}
            if key.kind == ir.MEAN:
                value = self._mean_of(case, ranges)
            elif isinstance(case.body, Linear):
                value = self._linear_data(case.body, ranges) if key.kind == ir.DATA else ZERO
            elif key.kind == ir.DATA:
                value = self._data(case.body)
            else:
                value = self._moment(case.body, ranges, case)
            clauses.append(ir.Clause(case.binders, case.target, case.conditions, value))
        return ir.Table(key, axes, tuple(clauses))

    def _mean_of(self, case: Case, ranges: dict[str, Range]) -> Node:
        view = View("self", None, None)
        match case.body:
            case Linear(terms):
                total = []
                for t in terms:
                    ctx = Context(ranges, {r.name: r for r in t.sums}, list(t.conditions))
                    inner = ONE if t.vector is None else self.mean(t.vector, None, ctx.all_ranges())
                    total.append(self._gather(ctx, [self._coefficient(t, None, {}), inner]))
                return add(*total)
            case Multiply():
                return ZERO
            case Pointwise() as f:
                return self._expectation(f, view, ranges, case)
        raise AssertionError(case)

    def _linear_data(self, body: Linear, ranges: dict[str, Range]) -> Node:
        total = []
        for t in body.terms:
            ctx = Context(ranges, {r.name: r for r in t.sums}, list(t.conditions))
            inner = ONE if t.vector is None else self._read_one(t.vector, None)
            total.append(self._gather(ctx, [self._coefficient(t, None, {}), inner]))
        return add(*total)

    def _data(self, body: Pointwise) -> Node:
        arguments = [(s, self._read_one(r, None)) for s, r in body.vectors]
        arguments += [(s, self._scalar(f, None, {})) for s, f in body.scalars]
        return ir.Apply(body.expression, tuple(arguments))

    def _read_one(self, r: Reference, side: str | None) -> Node:
        kind = ir.DATA if isinstance(self.program.families[r.name].type, Data) else ir.SCALAR
        key = Key(kind, "self", (r.name,))
        self._ask(key)
        return ir.Read(key, r.indices, side)

    def _moment(self, body: Pointwise, ranges: dict[str, Range], case: Case) -> Node:
        """A C: (1/n) Σ of a coordinatewise expression, or arithmetic on C's."""
        if not body.vectors:
            forms = dict(body.scalars)
            return self._apply(body.expression, forms, None, {})
        view = View("self", None, None)
        symbols = [s for s, _ in body.vectors]
        references = dict(body.vectors)
        polynomial = body.expression.expand().as_poly(*symbols) if body.expression.is_polynomial(*symbols) else None
        if polynomial is None or polynomial.total_degree() > 2:
            return self._expectation(body, view, ranges, case)
        total = []
        for powers, coefficient in polynomial.terms():
            used = [s for s, k in zip(symbols, powers, strict=True) for _ in range(k)]
            factor = self._apply(coefficient, dict(body.scalars), None, {})
            if not used:
                total.append(factor)
                continue
            if len(used) == 1:
                total.append(product(factor, self.mean(references[used[0]], None, ranges)))
                continue
            ctx = Context(ranges)
            inner = self.second(view, references[used[0]], references[used[1]], False, ctx)
            total.append(self._gather(ctx, [factor, inner]))
        return add(*total)

    # ------------------------------------------------------------ scalars

    def _scalar(self, form: ScalarForm, side: str | None, rename: dict[str, Affine]) -> Node:
        return self._apply(form.expression, {s: ScalarForm(s, ((s, a),)) for s, a in form.arguments}, side, rename)

    def _apply(self, e: sympy.Expr, forms: dict[sympy.Symbol, ScalarForm], side, rename) -> Node:
        used = {s: f for s, f in forms.items() if s in e.free_symbols}
        for s, f in list(used.items()):
            ((_, leaf),) = f.arguments
            if isinstance(leaf, Reference) and self._is_zero_scalar(leaf.name):
                e = self._at_zero(e, s, leaf)
                del used[s]
        e = self._renamed_number(e, rename, side)
        if not used:
            return ir.Constant(e)
        arguments = []
        for s, f in used.items():
            ((_, leaf),) = f.arguments
            arguments.append((s, self._scalar_leaf(leaf, side, rename)))
        if len(arguments) == 1 and e == arguments[0][0]:
            return arguments[0][1]
        return ir.Apply(e, tuple(arguments))

    def _is_zero_scalar(self, name: str) -> bool:
        """Whether a C is zero by the structure of the program: the Moment of independent vectors of mean zero."""
        if name not in self.zero_scalars:
            self.zero_scalars[name] = False  # while it is looked at: a C that depends on itself is not known to be zero
            family = self.program.families[name]
            cases = self.reader.cases(name) if family.role == "assigned" else ()
            self.zero_scalars[name] = bool(cases) and all(
                isinstance(c.body, Linear) or ir.is_zero(self._moment(c.body, {r.name: r for r in c.binders}, c))
                for c in cases
            )
        return self.zero_scalars[name]

    def _at_zero(self, e: sympy.Expr, s: sympy.Symbol, leaf: Reference) -> sympy.Expr:
        """A function of a C at its limit 0. Raises ProgramError where it is not continuous there (theory: Growth)."""
        value = e.subs(s, 0)
        jumps = functions.facts(e, s).jumps if not e.is_polynomial(s) else ()
        if value.has(sympy.zoo, sympy.nan, sympy.oo) or any(sympy.simplify(j) == 0 for j in jumps):
            raise ProgramError(
                f"'{leaf.name}' goes to 0 with the width, and this is not continuous in it there: it has no limit",
                leaf.span,
                hint="a Moment of independent vectors of mean 0 is 0; add a positive number to it before dividing",
            )
        return value

    def _scalar_leaf(self, leaf: ScalarLeaf, side, rename) -> Node:
        if isinstance(leaf, Reference):
            return self._read_one(self._put(leaf, rename, side), side)
        mapping = self._mapping(rename, side)
        if isinstance(leaf, ScalarChoice):
            return add(
                *(
                    ir.Where(
                        tuple(replace(c, expression=c.expression.substitute(mapping)) for c in conditions),
                        self._scalar(form, side, rename),
                        ZERO,
                    )
                    for conditions, form in leaf.branches
                )
            )
        taken = self.index_names | {x for a in rename.values() for x in a.symbols}
        fresh = leaf.range.name + "_"
        while fresh in taken:
            fresh += "_"
        if side == "right":
            fresh += "'"
        r = substitute_range(replace(leaf.range, name=fresh), mapping)
        at = leaf.at.substitute(mapping) if leaf.at is not None else None
        body = self._scalar(leaf.body, side, {**rename, leaf.range.name: Affine.symbol(fresh)})
        if leaf.kind in ("sum", "mean"):
            node: Node = ir.Sum((r,), (), body)
            if leaf.kind == "mean":
                assert isinstance(r.low, Affine) and isinstance(r.high, Affine)
                node = product(ir.Constant(1 / self.reader.number(r.high - r.low + 1)), node)
            return node
        return ir.Reduce(leaf.kind, r, (), body, at)

    def _renamed_number(self, e: sympy.Expr, rename: dict[str, Affine], side: str | None) -> sympy.Expr:
        values = {sympy.Symbol(k, integer=True): self.reader.number(v) for k, v in rename.items()}
        if side == "right":
            values |= {size_symbol(s): size_symbol(s + "'") for s in self.program.open_sizes}
        return e.subs(values, simultaneous=True) if values else e

    def _coefficient(self, t: Term, side: str | None, rename: dict[str, Affine]) -> Node:
        return product(
            ir.Constant(self._renamed_number(t.coefficient, rename, side)),
            *(self._scalar(s, side, rename) for s in t.scalars),
        )

    # ------------------------------------------------------------ the two sides

    def _mapping(self, rename: dict[str, Affine], side: str | None) -> dict[str, Affine]:
        mapping = dict(rename)
        if side == "right":
            mapping |= {s: Affine.symbol(s + "'") for s in self.program.open_sizes}
        return mapping

    def _put(self, r: Reference, rename: dict[str, Affine], side: str | None) -> Reference:
        mapping = self._mapping(rename, side)
        return replace(r, indices=tuple(i.substitute(mapping) for i in r.indices)) if mapping else r

    def _primed(self, case: Case, sizes: bool) -> Case:
        """The case as the second vector of a pair: indices primed, and sizes too between two runs."""
        names = {r.name for r in case.binders}
        if isinstance(case.body, Linear):
            names |= {r.name for t in case.body.terms for r in t.sums}
        mapping = {n: Affine.symbol(n + "'") for n in names}
        if sizes:
            mapping |= {s: Affine.symbol(s + "'") for s in self.program.open_sizes}

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
            tuple(replace(c, expression=c.expression.substitute(mapping)) for c in case.conditions),
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
            case Pointwise(e, vectors, scalars):
                return Pointwise(e.xreplace(values), vectors, tuple((s, scalar(f)) for s, f in scalars))
        return body

    # ------------------------------------------------------------ pair tables

    def _pair_table(self, key: Key) -> ir.Table:
        left, right = key.families if len(key.families) == 2 else key.families * 2
        pairing = self.pairings.get(key, ())
        cross = key.stream == "cross"
        view = View("cross", "left", "right") if cross else View("self", None, None)
        f, g = self.program.families[left], self.program.families[right]
        axes = self._axes(f, g, pairing, cross)
        if key.kind == ir.GRAM:
            return ir.Table(key, axes, (self._gram(key, view, axes),))
        clauses = []
        for c in self.reader.cases(left):
            for d in self.reader.cases(right):
                clause = self._pair_clause(key, view, c, self._primed(d, cross), pairing)
                if clause is not None:
                    clauses.append(clause)
        return ir.Table(key, axes, tuple(clauses))

    def _gram(self, key: Key, view: View, axes: tuple[ir.Axis, ...]) -> ir.Clause:
        """<x, x'>/d over all axes of a table of inner products of data."""
        indices: tuple[dict[int, Affine], dict[int, Affine]] = ({}, {})
        for a in axes:
            here = Affine.symbol(a.range.name)
            if a.left is not None:
                indices[0][a.left] = here
            if a.right is not None:
                indices[1][a.right] = here + a.offset
        for name in key.families:
            self._ask(Key(ir.DATA, "self", (name,)))
        t = self.program.families[key.families[0]].type
        assert isinstance(t, Data)
        left, right = (tuple(x for _, x in sorted(i.items())) for i in indices)
        binders = tuple(a.range for a in axes)
        names = (key.families[0], key.families[-1])
        value = ir.Gram(names, left, right, (view.left, view.right), t.size)
        return ir.Clause(binders, tuple(Affine.symbol(r.name) for r in binders), (), value)

    def _axes(self, f: Family, g: Family, pairing: Pairing, cross: bool) -> tuple[ir.Axis, ...]:
        """Axes of the two families interleaved, a diagonal once."""
        paired = {a: (b, o) for a, b, o in pairing}
        taken = {b for _, b, _ in pairing}
        mapping = {s: Affine.symbol(s + "'") for s in self.program.open_sizes} if cross else {}
        axes: list[ir.Axis] = []
        right = [k for k in range(len(g.ranges)) if k not in taken]

        def primed(k: int) -> ir.Axis:
            r = substitute_range(g.ranges[k], mapping)
            return ir.Axis(replace(r, name=r.name + "'"), None, k)

        for k, r in enumerate(f.ranges):
            if k in paired:
                j, offset = paired[k]
                other = substitute_range(g.ranges[j], mapping)
                low = maximum(r.low, map_bound(other.low, lambda a, o=offset: a - o))
                high = minimum(r.high, map_bound(other.high, lambda a, o=offset: a - o))
                axes.append(ir.Axis(Range(r.name, low, high), k, j, offset))
                continue
            axes.append(ir.Axis(r, k, None))
            if k in right:
                axes.append(primed(k))
                right.remove(k)
        axes += [primed(k) for k in right]
        return tuple(axes)

    def _pair_clause(self, key: Key, view: View, c: Case, d: Case, pairing: Pairing) -> ir.Clause | None:
        ranges = {r.name: r for r in (*c.binders, *d.binders)}
        conditions = [*c.conditions, *d.conditions]
        solved: dict[str, Affine] = {}
        for a, b, offset in pairing:
            e = c.target[a].substitute(solved) + offset
            f = d.target[b].substitute(solved)
            if not self._equate(e, f, ranges, conditions, solved):
                return None
        target = self._target(c.target, d.target, pairing, solved)
        left = self.reader.put(c.body, solved)
        right = self.reader.put(d.body, solved)
        ctx_ranges = dict(ranges)
        kept = self._settle_conditions([self._solve(x, solved) for x in conditions], ctx_ranges)
        if kept is None or self._empty(ctx_ranges):
            return None
        me = Reference(key.families[0], tuple(t.substitute(solved) for t in c.target), c.span)
        other = Reference(key.families[-1], tuple(t.substitute(solved) for t in d.target), d.span)
        extra: list[Condition] = []
        value = self._pair_value(key, view, left, right, me, other, ctx_ranges, extra)
        order = [r.name for r in (*c.binders, *d.binders) if r.name in ranges]
        return ir.Clause(tuple(ranges[n] for n in order), target, (*kept, *extra), value)

    def _target(self, left, right, pairing: Pairing, solved) -> tuple[Affine, ...]:
        """Where a clause writes, in the order of `_axes`."""
        paired = {a for a, _, _ in pairing}
        taken = {b for _, b, _ in pairing}
        rest = [k for k in range(len(right)) if k not in taken]
        result = []
        for k, e in enumerate(left):
            result.append(e.substitute(solved))
            if k not in paired and k in rest:
                result.append(right[k].substitute(solved))
                rest.remove(k)
        return tuple(result + [right[k].substitute(solved) for k in rest])

    def _solve(self, c: Condition, solved) -> Condition:
        return replace(c, expression=c.expression.substitute(solved))

    def _empty(self, ranges: dict[str, Range]) -> bool:
        return any(
            isinstance(r.low, Affine)
            and isinstance(r.high, Affine)
            and self.reader.certain(Condition("ge", r.high - r.low), {}) is False
            and not ((r.high - r.low).symbols & ranges.keys())
            for r in ranges.values()
        )

    def _settle_conditions(self, conditions: list[Condition], ranges) -> list[Condition] | None:
        """The conditions that are not certain; None where one cannot hold."""
        kept = []
        for c in conditions:
            verdict = self.reader.certain(c, ranges)
            if verdict is False:
                return None
            if verdict is None and c not in kept:
                kept.append(c)
        return kept

    def _equate(self, e: Affine, f: Affine, ranges: dict[str, Range], conditions, solved) -> bool:
        """Make two indices equal by solving for an index in `ranges`; False where they cannot be.

        A primed index is solved for first, so that what remains speaks of the first vector's indices.
        """
        difference = e - f
        if difference.is_constant:
            return difference.constant == 0
        divisor = math.gcd(*(k for _, k in difference.terms))
        if all(s in ranges for s, _ in difference.terms) and divisor > 1:
            if difference.constant % divisor:
                return False
            difference = Affine(difference.constant // divisor, tuple((s, k // divisor) for s, k in difference.terms))
        candidates = [s for s, k in difference.terms if s in ranges and abs(k) == 1]
        candidates.sort(key=lambda s: (not s.endswith("'"), s))
        for s in candidates:
            k = difference.coefficient(s)
            value = (difference - Affine.symbol(s) * k) * -k
            self._replace_index(s, value, ranges, conditions, solved)
            return True
        verdict = self.reader.certain(Condition("eq", difference), ranges)
        if verdict is None:
            conditions.append(Condition("eq", difference))
        return verdict is not False

    def _replace_index(self, s: str, value: Affine, ranges, conditions, solved) -> None:
        """Put `value` for the index s, whose range becomes a bound on what stands in `value`."""
        r = ranges.pop(s)
        for name, x in list(ranges.items()):
            ranges[name] = substitute_range(x, {s: value})
        for name in list(solved):
            solved[name] = solved[name].substitute({s: value})
        solved[s] = value
        conditions[:] = [self._solve(c, {s: value}) for c in conditions]
        terms = [(x, k) for x, k in value.terms if x in ranges]
        if len(terms) == 1 and terms[0][1] == 1 and not (_names(r) & ranges.keys()):
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
                conditions.append(Condition("ge", (value - leaf) * sign))

    # ------------------------------------------------------------ the rules

    def _pair_value(self, key, view, left, right, me: Reference, other: Reference, ranges, extra) -> Node:
        centred = key.kind == ir.COVARIANCE
        if key.kind == ir.OUTPUT:
            return self._readouts(view, left, right, ranges, me)
        if isinstance(left, Linear) or isinstance(right, Linear):
            lefts = left.terms if isinstance(left, Linear) else (_whole(me),)
            rights = right.terms if isinstance(right, Linear) else (_whole(other),)
            return add(*(self._bilinear(view, s, t, centred, ranges) for s in lefts for t in rights))
        ctx = Context(ranges)
        if isinstance(left, Multiply) and isinstance(right, Multiply):
            value = self._matmul(view, left, right, ctx)
            extra.extend(ctx.conditions)
            return value
        if isinstance(left, Declared) and isinstance(right, Declared):
            value = self.second(view, me, other, centred, ctx)
            extra.extend(ctx.conditions)
            return value
        if isinstance(left, Declared | Multiply) and isinstance(right, Declared | Multiply):
            return ZERO
        if isinstance(left, Pointwise) and isinstance(right, Pointwise):
            return self._pointwise_pair(view, left, right, ranges, me, other)
        if isinstance(left, Pointwise):
            return self._stein(view, left, other, ranges, me, "left")
        return self._stein(view, right, me, ranges, other, "right")

    def _bilinear(self, view: View, s: Term, t: Term, centred: bool, ranges) -> Node:
        """One term of the first sum against one of the second."""
        if centred and (s.vector is None or t.vector is None):
            return ZERO
        ctx = Context(dict(ranges), {r.name: r for r in (*s.sums, *t.sums)}, [*s.conditions, *t.conditions])
        if s.vector is None and t.vector is None:
            inner = ONE
        elif s.vector is None:
            inner = self.mean(t.vector, view.right, ctx.all_ranges())
        elif t.vector is None:
            inner = self.mean(s.vector, view.left, ctx.all_ranges())
        else:
            inner = self.second(view, s.vector, t.vector, centred, ctx)
        if ir.is_zero(inner):
            return ZERO
        left, right = self._coefficient_plain(s, view.left), self._coefficient_plain(t, view.right)
        return self._gather(ctx, [ir.substitute(left, ctx.solved), ir.substitute(right, ctx.solved), inner])

    def _coefficient_plain(self, t: Term, side: str | None) -> Node:
        """A term's coefficient; its indices and sizes are primed already where they are the second run's."""
        return product(ir.Constant(t.coefficient), *(self._scalar_plain(s, side) for s in t.scalars))

    def _scalar_plain(self, form: ScalarForm, side: str | None) -> Node:
        node = self._scalar(form, "inside", {})
        return _with_side(node, side)

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
        constants = [x for x in factors if isinstance(x, ir.Constant) and not _indices_in(x.value, ctx.sums)]
        rest = [x for x in factors if x not in constants]
        return product(*constants, ir.Sum(tuple(ctx.sums.values()), tuple(conditions), product(*rest)))

    def second(self, view: View, u: Reference, w: Reference, centred: bool, ctx: Context) -> Node:
        """E Z^u Z^w, or their covariance where both are G-vars and `centred`."""
        u, w = self._solved(u, ctx), self._solved(w, ctx)
        f, g = self.program.families[u.name], self.program.families[w.name]
        gaussian = _gaussian(f) and _gaussian(g)
        if self.support.independent(u, w, ctx.all_ranges()):
            if centred:
                return ZERO
            return product(self.mean(u, view.left, ctx.all_ranges()), self.mean(w, view.right, ctx.all_ranges()))
        if not gaussian:
            assert not centred
            return self._read_pair(ir.MOMENT, view, u, w)
        covariance = self._covariance(view, u, w, ctx)
        if centred or u.name in self.zero_mean or w.name in self.zero_mean:
            return covariance
        ranges = ctx.all_ranges()
        means = product(
            self.mean(self._solved(u, ctx), view.left, ranges), self.mean(self._solved(w, ctx), view.right, ranges)
        )
        if ctx.solved or ctx.conditions:
            # The condition u = w of the law concerns the covariance alone.
            return self._read_pair(ir.MOMENT, view, u, w)
        return add(covariance, means)

    def _covariance(self, view: View, u: Reference, w: Reference, ctx: Context) -> Node:
        f, g = self.program.families[u.name], self.program.families[w.name]
        if f.role == "vector" and g.role == "vector":
            if f.name != g.name or not self._same_indices(u.indices, w.indices, ctx):
                return ZERO
            return self._law(f, view, self._solved(u, ctx).indices)
        ranges = ctx.all_ranges()
        a, b = self._inline(u, view.left, ranges), self._inline(w, view.right, ranges)
        if a is not None and b is not None:
            return self._matmul(view, a, b, ctx)
        return self._read_pair(ir.COVARIANCE, view, u, w)

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
        for s, k in difference.terms:
            if s.endswith("'") and s in ctx.ranges and abs(k) == 1:
                value = (difference - Affine.symbol(s) * k) * -k
                if s in value.symbols or any(s in v.symbols for v in ctx.solved.values()):
                    return False
                if self.reader.certain(Condition("eq", difference), ctx.all_ranges()) is False:
                    return False
                condition = Condition("eq", Affine.symbol(s) - value)
                if condition not in ctx.conditions:
                    ctx.conditions.append(condition)
                ctx.solved[s] = value
                return True
        return False

    def _law(self, family: Family, view: View, indices: tuple[Affine, ...]) -> Node:
        assert family.law is not None
        scale, tangent = nngp_scale(family.law, family.type, dict(self.program.widths))
        rate = None if not isinstance(tangent, sympy.Expr) else self._at(tangent, family, indices)
        moves = view.stream == "cross" and not family.fixed
        parameter = family.stands_for or family.name
        return ir.LawVariance(family.name, parameter, self._at(scale, family, indices), rate, moves)

    def _inline(self, u: Reference, side: str | None, ranges: dict[str, Range]) -> Multiply | None:
        """The MatMul that defines u, a vector of that run, where its indices tell which assignment does."""
        if self.program.families[u.name].role != "assigned":
            return None
        found = self._case_at(u, ranges)
        if found is None:
            return None
        case, mapping = found
        if not isinstance(case.body, Multiply) or case.conditions or any(r.name not in mapping for r in case.binders):
            return None
        body = self.reader.put(case.body, self._mapping(mapping, side))
        assert isinstance(body, Multiply)
        return body

    def _matmul(self, view: View, a: Multiply, b: Multiply, ctx: Context) -> Node:
        """s_W E Z^x Z^x' for W @ x and W @ x', zero for different matrices."""
        w, transposed = self.reader.matrix(a.matrix)
        w2, transposed2 = self.reader.matrix(b.matrix)
        if transposed or transposed2:
            raise ProgramError(
                "the limit of a program that multiplies by a transpose is not derived yet", a.matrix.span
            )
        if w.name != w2.name or not self._same_indices(w.indices, w2.indices, ctx):
            return ZERO
        family = self.program.families[w.name]
        guards = [self._solve(c, ctx.solved) for c in (*a.conditions, *b.conditions)]
        ctx.conditions.extend(guards)
        conditions = self._settle_conditions(ctx.conditions, ctx.all_ranges())
        if conditions is None:
            return ZERO
        ctx.conditions[:] = conditions
        law = self._law(family, view, tuple(i.substitute(ctx.solved) for i in w.indices))
        x, y = self._solved(a.vector, ctx), self._solved(b.vector, ctx)
        assert isinstance(family.type, Matrix)
        if isinstance(self.program.families[x.name].type, Data):
            return product(law, self._read_pair(ir.GRAM, view, x, y))
        return product(law, self.second(view, x, y, False, ctx))

    def _solved(self, r: Reference, ctx: Context) -> Reference:
        return replace(r, indices=tuple(i.substitute(ctx.solved) for i in r.indices))

    def _read_pair(self, kind: str, view: View, u: Reference, w: Reference) -> Node:
        """An entry of a table of second moments."""
        if view.stream == "self" and u.name == w.name and u.indices == w.indices:
            # A variance: a table of its own, on the diagonal, which asks for no other entries to be known.
            key = Key(kind, "self", (u.name,))
            self.pairings[key] = tuple((a, a, 0) for a in range(len(u.indices)))
            self._ask(key)
            return ir.Read(key, u.indices, view.left)
        key = Key(kind, view.stream, (u.name, w.name))
        asked = self._pairing(u.indices, w.indices)
        known = self.pairings.get(key)
        if known is None:
            self.pairings[key] = asked
            self.changed = self.changed or key in self.tables
        else:
            common = tuple(p for p in known if p in asked)
            if common != known:
                self.pairings[key] = common
                self.changed = True
        self._ask(key)
        pairing = self.pairings[key]
        indices = self._target(u.indices, w.indices, pairing, {})
        return ir.Read(key, indices, view.left if view.stream == "self" else None)

    def _pairing(self, left: tuple[Affine, ...], right: tuple[Affine, ...]) -> Pairing:
        """Which axes these indices keep on a diagonal: the difference of the two indices is a number."""
        result = []
        taken: set[int] = set()
        for a, e in enumerate(left):
            order = [a, *(k for k in range(len(right)) if k != a)] if a < len(right) else range(len(right))
            for b in order:
                if b in taken:
                    continue
                difference = right[b] - e
                if difference.is_constant:
                    result.append((a, b, difference.constant))
                    taken.add(b)
                    break
        return tuple(result)

    def _readouts(self, view: View, left: Linear, right: Linear, ranges, me: Reference) -> Node:
        """E y y' = Σ lim n·(factor)²·multiplier²·variance · E Z^x Z^x'."""
        total = []
        for s in left.terms:
            for t in right.terms:
                if s.readout is None or t.readout is None or s.vector is None or t.vector is None:
                    raise ProgramError("an output is a readout v.T @ x / sqrt(n)", me.span)
                if s.readout.name != t.readout.name:
                    continue
                ctx = Context(dict(ranges), {r.name: r for r in (*s.sums, *t.sums)}, [*s.conditions, *t.conditions])
                if not self._same_indices(s.readout.indices, t.readout.indices, ctx):
                    continue
                v = self.program.families[s.readout.name]
                inner = self.second(view, s.vector, t.vector, False, ctx)
                assert isinstance(v.type, Vector)
                rate = growth(s.coefficient * t.coefficient * size_symbol(v.type.width), dict(self.program.widths))
                law = self._law(v, view, tuple(i.substitute(ctx.solved) for i in s.readout.indices))
                assert isinstance(law, ir.LawVariance)
                law, rate = self._readout_law(v, law, s.coefficient * t.coefficient, rate)
                if rate.exponent > 0:
                    raise ProgramError(
                        f"the output grows {_root(rate)} with the width: it has no limit",
                        me.span if me.span.line else None,
                        hint=f"divide it by sqrt({v.type.width})",
                    )
                if rate.exponent < 0:
                    raise ProgramError(
                        f"the output vanishes {_root(rate)} with the width", me.span if me.span.line else None
                    )
                left_scalars = [ir.substitute(self._scalar_plain(x, view.left), ctx.solved) for x in s.scalars]
                right_scalars = [ir.substitute(self._scalar_plain(x, view.right), ctx.solved) for x in t.scalars]
                factor = ir.substitute(ir.Constant(rate.limit), ctx.solved)
                total.append(self._gather(ctx, [factor, *left_scalars, *right_scalars, law, inner]))
        return add(*total)

    def _readout_law(self, v: Family, law: ir.LawVariance, factor: sympy.Expr, rate):
        """`v ~ N(0, s / n)` in `v.T @ x`: the width in the law pays for that in the sum."""
        assert v.law is not None and isinstance(v.type, Vector)
        if rate.exponent == 0:
            return law, rate
        widths = dict(self.program.widths)
        second = v.law.multiplier**2 * v.law.variance
        rest = growth(v.law.multiplier**2 * v.law.variance, widths)
        if second == 0:
            return law, rate
        both = growth(factor * size_symbol(v.type.width) * second, widths)
        if both.exponent != 0 or rest.exponent == 0:
            return law, both if rest.exponent != 0 else rate
        tangent = growth(factor * size_symbol(v.type.width) * v.law.multiplier**2, widths)
        moved = ir.LawVariance(
            law.name, law.parameter, both.limit, tangent.limit if tangent.finite else None, law.moves
        )
        return moved, replace(both, limit=sympy.Integer(1))

    # ------------------------------------------------------------ expectations of functions

    def _flatten(self, f: Pointwise, side: str | None, ranges, depth: int = 0) -> Pointwise:
        """f, of that run, with every H-var that it reads written out in G-vars."""
        for symbol, r in f.vectors:
            family = self.program.families[r.name]
            if _gaussian(family):
                continue
            found = self._case_at(r, ranges) if depth <= 20 else None
            if found is None:
                raise ProgramError(
                    f"'{r.name}' is itself a function of vectors before it; "
                    "products of such chains are not derived yet",
                    r.span,
                )
            case, mapping = found
            body = self.reader.put(case.body, self._mapping(mapping, side))
            inner = self._as_pointwise(body, r)
            vectors = dict((v, s) for s, v in f.vectors if s != symbol)
            scalars = dict(f.scalars)
            swap = {}
            taken = {s.name for s in (*vectors.values(), *scalars)}
            for s, v in inner.vectors:
                swap[s] = vectors.setdefault(v, _unused(s, taken))
                taken.add(swap[s].name)
            fresh = {}
            for s, form in inner.scalars:
                swap[s] = _unused(s, taken)
                taken.add(swap[s].name)
                fresh[swap[s]] = form
            expression = f.expression.xreplace({symbol: inner.expression.xreplace(swap)})
            scalars |= fresh
            return self._flatten(
                Pointwise(expression, tuple((s, v) for v, s in vectors.items()), tuple(scalars.items())),
                side,
                ranges,
                depth + 1,
            )
        return f

    def _case_at(self, r: Reference, ranges: dict[str, Range]) -> tuple[Case, dict[str, Affine]] | None:
        """The one case that defines a member of a family, with its indices solved for; None where it depends."""
        chosen = None
        for case in self.reader.cases(r.name):
            own = {x.name: x for x in case.binders}
            mapping: dict[str, Affine] = {}
            conditions = list(case.conditions)
            for t, i in zip(case.target, r.indices, strict=True):
                if len(t.terms) == 1 and t.terms[0][1] == 1 and t.terms[0][0] in own and t.terms[0][0] not in mapping:
                    mapping[t.terms[0][0]] = i - t.constant
                elif t.terms:
                    return None
                else:
                    conditions.append(Condition("eq", i - t))
            for name, value in mapping.items():
                for bound, sign in ((own[name].low, 1), (own[name].high, -1)):
                    if isinstance(bound, Affine):
                        conditions.append(Condition("ge", (value - bound.substitute(mapping)) * sign))
            verdicts = [self.reader.certain(self._solve(c, mapping), ranges) for c in conditions]
            if any(v is False for v in verdicts):
                continue
            if chosen is not None or any(v is None for v in verdicts):
                return None if len(self.reader.cases(r.name)) > 1 else (case, mapping)
            chosen = case, mapping
        return chosen

    def _as_pointwise(self, body, r: Reference) -> Pointwise:
        if isinstance(body, Pointwise):
            return body
        if isinstance(body, Linear) and all(not t.sums and not t.conditions for t in body.terms):
            expression = sympy.Integer(0)
            vectors: dict[Reference, sympy.Symbol] = {}
            scalars: list[tuple[sympy.Symbol, ScalarForm]] = []
            for t in body.terms:
                term = t.coefficient
                for form in t.scalars:
                    for s, leaf in form.arguments:
                        scalars.append((s, ScalarForm(s, ((s, leaf),))))
                    term *= form.expression
                if t.vector is not None:
                    plain = replace(t.vector, span=r.span)
                    symbol = vectors.setdefault(plain, sympy.Symbol(_numbered(plain.name, vectors), real=True))
                    term *= symbol
                expression += term
            return Pointwise(expression, tuple((s, v) for v, s in vectors.items()), tuple(scalars))
        raise ProgramError(f"'{r.name}' sums over an index; functions of such H-vars are not derived yet", r.span)

    def _variance(self, u: Reference, side: str, view: View, ranges) -> Node:
        inner = view.within(side)
        return self.second(inner, u, u, True, Context(dict(ranges)))

    def _mean_or_none(self, u: Reference, side: str | None, ranges) -> Node | None:
        m = self.mean(u, side, ranges)
        return None if ir.is_zero(m) else m

    def _scalars_of(self, f: Pointwise, side: str | None):
        return tuple((s, self._scalar_plain(form, side)) for s, form in f.scalars if s in f.expression.free_symbols)

    def _expectation(self, f: Pointwise, view: View, ranges, case: Case) -> Node:
        """E f(Z^x, …) in one run."""
        f = self._flatten(f, view.left, ranges)
        vectors = [(s, r) for s, r in f.vectors if s in f.expression.free_symbols]
        scalars = self._scalars_of(f, view.left)
        if not vectors:
            return ir.Apply(f.expression, scalars) if scalars else ir.Constant(f.expression)
        if len(vectors) == 1:
            ((z, r),) = vectors
            q = self._variance(r, "left", view, ranges)
            return ir.SingleExpectation(f.expression, z, q, self._mean_or_none(r, view.left, ranges), scalars)
        return self._joint(f.expression, vectors, scalars, sympy.Integer(1), [], (), view, ranges, case.span)

    def _pointwise_pair(self, view: View, f: Pointwise, g: Pointwise, ranges, me: Reference, other: Reference) -> Node:
        """E f(Z) g(Z')."""
        f, g = self._flatten(f, view.left, ranges), self._flatten(g, view.right, ranges)
        lefts = [(s, r) for s, r in f.vectors if s in f.expression.free_symbols]
        rights = [(s, r) for s, r in g.vectors if s in g.expression.free_symbols]
        split = self._split_factor(view, f, g, lefts, rights, ranges, me, other)
        if split is not None:
            return split
        sf, sg = self._scalars_of(f, view.left), self._scalars_of(g, view.right)
        if len(lefts) == 1 and len(rights) == 1:
            (z, u), (w, v) = lefts[0], rights[0]
            if w == z:
                w = sympy.Symbol(z.name + "'", real=True)
                g = replace(g, expression=g.expression.xreplace({z: w}))
            clash = {s: sympy.Symbol(s.name + "'", real=True) for s, _ in sg}
            g = replace(g, expression=g.expression.xreplace(clash))
            sg = tuple((clash[s], n) for s, n in sg)
            ctx = Context(dict(ranges))
            k = self.second(view, u, v, True, ctx)
            k = self._gather(ctx, [k])
            return ir.PairExpectation(
                f.expression,
                g.expression,
                z,
                w,
                k,
                self._variance(u, "left", view, ranges),
                self._variance(v, "right", view, ranges),
                self._mean_or_none(u, view.left, ranges),
                self._mean_or_none(v, view.right, ranges),
                sf,
                sg,
                self._same(u, v),
            )
        return self._joint(f.expression, lefts, sf, g.expression, rights, sg, view, ranges, me.span)

    def _split_factor(self, view: View, f: Pointwise, g: Pointwise, lefts, rights, ranges, me, other) -> Node | None:
        """E z f0 · w g0 = E z w · E f0 g0, for G-vars z, w of mean zero that are independent of all else in f0, g0.

        This is a gradient times a slope, the product that every backward pass consists of.
        """
        if len(lefts) < 2 or len(rights) < 2:
            return None

        for s, z in lefts:
            rest = f.expression / s
            if s in rest.free_symbols or z.name not in self.zero_mean:
                continue
            if not all(self.support.independent(z, x, ranges) for t, x in lefts if t != s):
                continue
            partners = [(t, w) for t, w in rights if not self.support.independent(z, w, ranges)]
            if len(partners) != 1:
                continue
            ((t, w),) = partners
            remaining = g.expression / t
            if t in remaining.free_symbols or w.name not in self.zero_mean:
                continue
            apart = [x for q, x in rights if q != t] + [x for q, x in lefts if q != s]
            if not all(self.support.independent(w, x, ranges) for x in apart):
                continue
            ctx = Context(dict(ranges))
            covariance = self.second(view, z, w, True, ctx)
            if ir.is_zero(covariance):
                return ZERO
            left = replace(f, expression=rest, vectors=tuple(v for v in f.vectors if v[0] != s))
            right = replace(g, expression=remaining, vectors=tuple(v for v in g.vectors if v[0] != t))
            put = {k: v for k, v in ctx.solved.items()}
            inner = self._pointwise_pair(
                view,
                self.reader.put(left, put),
                self.reader.put(right, put),
                ranges,
                self._solved(me, ctx),
                self._solved(other, ctx),
            )
            return self._gather(ctx, [covariance, inner])
        return None

    def _same(self, u: Reference, v: Reference) -> tuple[Condition, ...] | None:
        """The conditions under which two references name one vector, given one input: None for never."""
        if u.name != v.name:
            return None
        conditions = []
        for e, f in zip(u.indices, v.indices, strict=True):
            difference = e - f
            if difference.is_constant and difference.constant:
                return None
            if not difference.is_constant:
                conditions.append(Condition("eq", difference))
        return tuple(conditions)

    def _joint(self, f, lefts, sf, g, rights, sg, view: View, ranges, span) -> Node:
        if len(lefts) + len(rights) > MAX_GAUSSIANS:
            raise ProgramError(
                f"this product depends on {len(lefts) + len(rights)} Gaussians at once; "
                f"quadrature covers {MAX_GAUSSIANS}",
                span,
            )
        both = [(r, "left") for _, r in lefts] + [(r, "right") for _, r in rights]
        covariance = []
        for a, (u, s) in enumerate(both):
            for v, t in both[: a + 1]:
                if s == t:
                    inner, first, second = view.within(s), u, v
                else:
                    inner, first, second = view, v, u
                ctx = Context(dict(ranges))
                value = self.second(inner, first, second, True, ctx)
                covariance.append(self._gather(ctx, [value]))
        means = tuple(self._mean_or_none(r, view.left if s == "left" else view.right, ranges) for r, s in both)
        zs = tuple(s for s, _ in lefts)
        swap = {s: sympy.Symbol(s.name + "'", real=True) for s, _ in (*rights, *sg)}
        ws = tuple(swap[s] for s, _ in rights)
        sg = tuple((swap[s], n) for s, n in sg)
        return ir.JointExpectation(f, g.xreplace(swap), zs, ws, tuple(covariance), means, sf, sg)

    def _stein(self, view: View, f: Pointwise, g: Reference, ranges, me: Reference, side: str) -> Node:
        """E f(Z) Z^g = Σ_i E ∂_i f(Z) · Cov(Z_i, Z^g) + E f(Z) · E Z^g, for a G-var g on the other side."""
        run = view.left if side == "left" else view.right
        f = self._flatten(f, run, ranges)
        inner_view = view.within(side)
        vectors = [(s, r) for s, r in f.vectors if s in f.expression.free_symbols]
        total = []
        placeholder = Case((), (), (), f, me.span)
        for s, r in vectors:
            ctx = Context(dict(ranges))
            first, second = (r, g) if side == "left" else (g, r)
            # Where g's family is an H elsewhere, its case here is a MatMul: its mean is 0, E Z Z^g the covariance.
            centred = _gaussian(self.program.families[g.name])
            covariance = self._gather(ctx, [self.second(view, first, second, centred, ctx)])
            if ir.is_zero(covariance):
                continue
            slope = replace(f, expression=f.expression.diff(s))
            total.append(product(self._expectation(slope, inner_view, ranges, placeholder), covariance))
        mean = self.mean(g, view.right if side == "left" else view.left, ranges)
        if not ir.is_zero(mean) and _gaussian(self.program.families[g.name]):
            total.append(product(self._expectation(f, inner_view, ranges, placeholder), mean))
        return add(*total)


def _numbered(name: str, vectors: dict[Reference, sympy.Symbol]) -> str:
    """The family's name, numbered from its second member on."""
    same = sum(r.name == name for r in vectors)
    return name if not same else f"{name}#{same + 1}"


def _unused(s: sympy.Symbol, taken: set[str]) -> sympy.Symbol:
    """The symbol, or a numbered one where its name is taken."""
    name, stem, k = s.name, s.name.split("#")[0], 1
    while name in taken:
        k += 1
        name = f"{stem}#{k}"
    return s if name == s.name else sympy.Symbol(name, real=True)


def _whole(r: Reference) -> Term:
    return Term(sympy.Integer(1), (), r, None, (), ())


def _gaussian(f: Family) -> bool:
    return isinstance(f.type, Vector) and f.type.gaussian


def _names(r: Range) -> set[str]:
    return set(bound_symbols(r.low) | bound_symbols(r.high))


def _indices_in(e: sympy.Expr, ranges) -> bool:
    return any(sympy.Symbol(n, integer=True) in e.free_symbols for n in ranges)


def _root(rate) -> str:
    return str(replace(rate, exponent=rate.exponent / 2))


def _with_side(node: Node, side: str | None) -> Node:
    """Reads inside set to one run."""

    def change(value):
        if isinstance(value, ir.Read):
            return replace(value, side=side)
        if isinstance(value, tuple):
            return tuple(change(v) for v in value)
        if isinstance(value, Node):
            return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value)})
        return value

    return change(node)
