"""The Master Theorem as a pass: Program → Recursion (Tensor Programs I, theorem 5.4; III, box 1 without transposes).

    Program     h[t] := LinComb(W_s[t] + U_x[t] + b);  W_s[t] := MatMul(W, s[t-1]);  s[t] := Nonlin(erf(h[t]))
    Recursion   Cov(h, h')[t, t'] := s_W E(s, s')[t-1, t'-1] + s_U <x[t], x'[t']>/d + s_b
                E(s, s')[t, t']   := pair(erf, erf; Cov(h, h')[t, t'], …)

Tables are made as they are asked for, from the output backwards. A table has one axis for two where all that is
ever asked of it lies on a diagonal (theory: which covariances are needed); when a later question asks for more, the
table is widened and the derivation starts again, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import sympy

from tensorprog.errors import NotDerived, ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import map_bound, maximum, minimum
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.ir import Family, Program
from tensorprog.program.laws import WIDTH, growth, part_trained
from tensorprog.program.scope import size_symbol
from tensorprog.program.types import Data, Position, Process, Scalar, Vector
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import (
    Case,
    Declared,
    Linear,
    Multiply,
    Pointwise,
    Reference,
    Term,
    substitute_range,
)
from tensorprog.theorem.products import with_products_apart
from tensorprog.theorem.recursion import ONE, ZERO, Key, Node, add
from tensorprog.theorem.sampled import Sampling
from tensorprog.theorem.sides import Context, Pairing, View
from tensorprog.theorem.transposes import without_transposes


def derive(program: Program) -> ir.Recursion:
    """The recursion of all outputs.

    Raises ProgramError where the program has no limit, or one that no rule covers.
    """
    try:
        return Deriver(without_transposes(with_products_apart(program))).run()
    except ProgramError as error:
        raise error.located(program.source, program.filename) from None


class Deriver(Sampling):
    """Makes the tables of a recursion as they are asked for."""

    def run(self) -> ir.Recursion:
        outputs = self.program.outputs
        if not outputs:
            raise ProgramError(
                "the program has no output", self.program.text.span, hint="output y := v.T @ x / sqrt(n), say"
            )
        self._check_vectors()
        processes = [f for f in outputs if isinstance(f.type, Process)]
        if len(processes) > 1:
            raise ProgramError(
                f"a program has one output that is a readout; '{processes[0].name}' is one already", processes[1].span
            )
        if processes:
            self._check_readouts(processes[0])
        output = Key(ir.OUTPUT, "cross", (processes[0].name,)) if processes else None
        limits = tuple(Key(ir.SCALAR, "self", (f.name,)) for f in outputs if isinstance(f.type, Scalar))
        positions = [Key(ir.SCALAR, "self", (f.name,)) for f in self.program.inputs if isinstance(f.type, Position)]
        while True:
            self.changed = False
            self.tables, self.pending = {}, []
            for key in (*((output,) if output else ()), *limits, *positions):
                self._ask(key)
            while self.pending:
                key = self.pending.pop()
                if key not in self.tables:
                    self.tables[key] = self._table(key)
            if not self.changed:
                break
        wanted = self._reached([k for k in (output, *limits, *positions) if k is not None])
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
                keys += [r.key for r in ir.entries(clause.value)]
                keys += [k for node in ir.walk(clause.value) if isinstance(node, ir.Sampled) for k in node.tables]
        return reached

    def _table(self, key: Key) -> ir.Table:
        if key.kind in (ir.DATA, ir.SCALAR, ir.MEAN):
            return self._one_run_table(key)
        return self._pair_table(key)

    def _check_vectors(self) -> None:
        """Vectors of the body are O(1); a readout may carry its 1/n itself."""
        for f in self.program.families.values():
            if f.role != "vector" or f.law is None:
                continue
            read = any(
                f.name in self.support.sources.get(g.name, ()) for g in self.program.families.values() if g is not f
            )
            second = f.law.multiplier**2 * f.law.variance
            if read and second != 0 and growth(second, dict(self.program.widths)).exponent < 0:
                raise ProgramError(
                    f"the variance of '{f.name}' vanishes as the width grows: a vector's law is O(1)",
                    f.span,
                    hint="only a readout may have N(0, s / n), in an output v.T @ x",
                )

    def _check_readouts(self, output: Family) -> None:
        readouts = {
            t.readout.name for c in self.reader.cases(output.name) for t in c.body.terms if t.readout is not None
        }
        for name in readouts:
            v = self.program.families[name]
            if v.role == "scalar":
                continue
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

    def _one_run_table(self, key: Key) -> ir.Table:
        (name,) = key.families
        family = self.program.families[name]
        axes = tuple(ir.Axis(r, k, None) for k, r in enumerate(family.ranges))
        if family.role == "input":
            return ir.Table(key, axes, ())
        clauses = self._one_run_clauses(key, self.cases(name))
        if _some_sampled(clauses):
            clauses = self._one_run_clauses(key, self.reader.cases(name))
        return ir.Table(key, axes, tuple(clauses))

    def _one_run_clauses(self, key: Key, cases: Sequence[Case]) -> list[ir.Clause]:
        clauses = []
        for case in cases:
            with self._where(case.conditions):
                value = self._one_run_value(key, case)
            clauses.append(ir.Clause(case.binders, case.target, case.conditions, value))
        return clauses

    def _one_run_value(self, key: Key, case: Case) -> Node:
        ranges = {r.name: r for r in case.binders}
        if key.kind == ir.DATA:
            return self._linear_data(case.body, ranges) if isinstance(case.body, Linear) else self._data(case.body)
        if key.kind == ir.SCALAR and isinstance(case.body, Linear):
            return ZERO
        try:
            return self._mean_of(case, ranges) if key.kind == ir.MEAN else self._moment(case.body, ranges, case)
        except NotDerived:
            me = Reference(key.families[0], case.target, case.span)
            return self._sampled(View("self", None, None), me, None, case.body, None)

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

    def _pair_table(self, key: Key) -> ir.Table:
        left, right = key.families if len(key.families) == 2 else key.families * 2
        pairing = self.pairings.get(key, ())
        cross = key.stream == "cross"
        view = View("cross", "left", "right") if cross else View("self", None, None)
        f, g = self.program.families[left], self.program.families[right]
        axes = self._axes(f, g, pairing, cross)
        if key.kind == ir.GRAM:
            return ir.Table(key, axes, (self._gram(key, view, axes),))

        def derived(cases: Callable[[str], tuple[Case, ...]]) -> list[ir.Clause]:
            found = []
            for c in cases(left):
                for d in cases(right):
                    clause = self._pair_clause(key, view, c, self._primed(d, cross), pairing)
                    if clause is not None:
                        found.append(clause)
            return found

        clauses = derived(self.cases)
        if _some_sampled(clauses):
            # One expectation for all t: what is split off, as t = 1 and t = 2, would be sampled like the rest.
            clauses = derived(self.reader.cases)
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
        try:
            with self._where(kept):
                value = self._pair_value(key, view, left, right, me, other, ctx_ranges, extra)
        except NotDerived:
            if key.kind not in (ir.MOMENT, ir.COVARIANCE):
                raise
            extra = []
            value = self._sampled(view, me, other, left, right)
        order = [r.name for r in (*c.binders, *d.binders) if r.name in ranges]
        return ir.Clause(tuple(ranges[n] for n in order), target, (*kept, *extra), value)

    def _pair_value(self, key, view, left, right, me: Reference, other: Reference, ranges, extra) -> Node:
        centred = key.kind == ir.COVARIANCE
        if key.kind == ir.OUTPUT:
            return self._readouts(view, left, right, ranges, me)
        if isinstance(left, Linear) or isinstance(right, Linear):
            lefts = left.terms if isinstance(left, Linear) else (whole(me),)
            rights = right.terms if isinstance(right, Linear) else (whole(other),)
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

    def _readouts(self, view: View, left: Linear, right: Linear, ranges, me: Reference) -> Node:
        """E y y' = Σ lim n·(factor)²·multiplier²·variance · E Z^x Z^x'."""
        total = []
        for s in left.terms:
            for t in right.terms:
                if s.readout is None or t.readout is None:
                    raise ProgramError("an output is a readout v.T @ x / sqrt(n)", me.span)
                if s.readout.name != t.readout.name:
                    continue
                ctx = Context(dict(ranges), {r.name: r for r in (*s.sums, *t.sums)}, [*s.conditions, *t.conditions])
                if not self._same_indices(s.readout.indices, t.readout.indices, ctx):
                    continue
                v = self.program.families[s.readout.name]
                if s.vector is None or t.vector is None:  # a random scalar
                    inner, coordinates = ONE, sympy.Integer(1)
                else:
                    inner, coordinates = self.second(view, s.vector, t.vector, False, ctx), _width(v)
                indices = tuple(i.substitute(ctx.solved) for i in s.readout.indices)
                law, exponent = self._readout_law(v, view, indices)
                factor = s.coefficient * t.coefficient * coordinates
                rate = growth(factor * WIDTH**exponent, dict(self.program.widths))
                if not rate.finite:
                    several = len({x.readout.name for x in left.terms if x.readout is not None}) > 1
                    raise self._no_output(v, rate, exponent, s.vector is not None, several, me)
                left_scalars = [ir.substitute(self._scalar_plain(x, view.left), ctx.solved) for x in s.scalars]
                right_scalars = [ir.substitute(self._scalar_plain(x, view.right), ctx.solved) for x in t.scalars]
                factor = ir.substitute(ir.Constant(rate.limit), ctx.solved)
                total.append(self._gather(ctx, [factor, *left_scalars, *right_scalars, law, inner]))
        return add(*total)

    def _readout_law(self, v: Family, view: View, indices: tuple[Affine, ...]) -> tuple[Node, sympy.Expr]:
        """The law of a readout without a power of n, and its exponent: `v ~ N(0, s / n)` is N(0, s), and -1."""
        law = self._law(v, view, indices)
        assert v.law is not None and isinstance(law, ir.LawVariance)
        widths = dict(self.program.widths)
        # Where the variance is 0 at any width, what is trained tells.
        second = v.law.multiplier**2 * (v.law.variance if v.law.variance != 0 else 1)
        exponent = growth(second, widths).exponent
        if exponent == 0:
            return law, exponent
        scale = growth(v.law.multiplier**2 * v.law.variance / WIDTH**exponent, widths).limit
        tangent = part_trained(growth(v.law.multiplier**2 / WIDTH**exponent, widths))
        rate = self._at(tangent, v, indices) if isinstance(tangent, sympy.Expr) else None
        return replace(law, scale=self._at(scale, v, indices), tangent=rate), exponent

    def _no_output(self, v: Family, rate, exponent: sympy.Expr, vector: bool, several: bool, me: Reference):
        """The error for an output, or its part by one readout, that has no limit or none but zero."""
        what = f"the output's part by '{v.name}'" if several else "the output"
        verb = f"grows {_root(rate)}" if rate.grows else f"vanishes {_root(rate)}"
        hint = None
        if vector and exponent == 0:
            hint = f"divide it by sqrt({_width(v)})"
        elif vector:
            hint = (
                f"the law of '{v.name}' goes {_root(replace(rate, exponent=exponent))} itself: "
                f"draw it from N(0, s), and divide the output by sqrt({_width(v)})"
            )
        elif several:
            hint = "leave it out, or let it be O(1)"
        end = ": it has no limit" if rate.grows else ""
        return ProgramError(f"{what} {verb} with the width{end}", me.span if me.span.line else None, hint=hint)


def _width(v: Family) -> sympy.Expr:
    """How many coordinates a readout sums over."""
    assert isinstance(v.type, Vector)
    return size_symbol(v.type.width)


def whole(r: Reference) -> Term:
    return Term(sympy.Integer(1), (), r, None, (), ())


def _some_sampled(clauses: Sequence[ir.Clause]) -> bool:
    return any(isinstance(n, ir.Sampled) for c in clauses for n in ir.walk(c.value))


def _root(rate) -> str:
    return str(replace(rate, exponent=rate.exponent / 2))
