"""The NTK a second way: backward times forward inner products (Tensor Programs II, section 3).

    for W in A(·, m):  m·multiplier² · Σ over pairs (W @ x in f, W @ x' in f') of (⟨dh, dh'⟩/n) · (⟨x, x'⟩/m)
    for a bias b:      multiplier² · ⟨db, db'⟩/n;      for the readout: ⟨x, x'⟩/n

The inner products are second moments of the program with its backward pass. The other way is one derivative of the
forward recursion along the correlation of two copies of the parameters (theorem/tangent.py); that both agree is the
strongest check there is of either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy

from tensorprog import recursion as ir
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Case, Linear, Multiply, Reference
from tensorprog.program.ir import Family, Program
from tensorprog.program.laws import growth, nngp_scale
from tensorprog.program.scope import size_symbol
from tensorprog.program.types import Data, Process, Vector
from tensorprog.recursion import Key, Node, add
from tensorprog.theorem.derivation import ACROSS, Context, Derivation, derivation
from tensorprog.theorem.derive import recursion
from tensorprog.theorem.entries import at_member, interleaved, read_pair, second
from tensorprog.theorem.indices import gather, same_indices, solved
from tensorprog.theorem.runs import primed, sizes_of
from tensorprog.theorem.scalars import plain
from tensorprog.theorem.tables import pair_axes, table
from tensorprog.theorem.transposes import without_transposes


def derive_ntk_by_backward(forward: Program, both: Program) -> ir.Recursion:
    """The recursion whose output is the NTK, from a program and the same program with its backward pass.

    Raises ProgramError where the forward pass multiplies by a transpose: the formula is that of programs without.
    """
    if any(f.transpose_of for f in forward.families.values()):
        raise ProgramError("the second formula is for programs whose forward pass has no transposes", forward.text.span)

    def make(d: Derivation, key: Key) -> ir.Table:
        return _ntk_table(forward, d, key) if key.kind == ir.OUTPUT else table(d, key)

    return recursion(derivation(without_transposes(both)), make)


def _ntk_table(forward: Program, d: Derivation, key: Key) -> ir.Table:
    family = d.family(key.families[0])
    clauses = []
    for c in d.reader.cases(family.name):
        for e in d.reader.cases(family.name):
            e = primed(d.reader, e, True)
            binders = (*c.binders, *e.binders)
            value = _Pair(forward, d, c, e, {r.name: r for r in binders}).ntk()
            target = interleaved(c.target, e.target, ())
            clauses.append(ir.Clause(binders, target, (*c.conditions, *e.conditions), value))
    return ir.Table(key, pair_axes(d, family, family, (), True), tuple(clauses))


@dataclass(frozen=True)
class _Pair:
    """Two assignments of the output, of two runs."""

    forward: Program
    d: Derivation
    left: Case
    right: Case
    ranges: dict[str, Range]

    def ntk(self) -> Node:
        left, right = self.left.body, self.right.body
        assert isinstance(left, Linear) and isinstance(right, Linear)
        terms = [self._readout_part(left, right)]
        families = list(self.forward.families.values())
        readouts = {t.readout.name for body in (left, right) for t in body.terms if t.readout is not None}
        for f in families:
            if f.role == "vector" and f.name not in readouts and not f.fixed and self._has_gradient(f):
                terms.append(self._vector_part(f))
        matmuls = [(f, case) for f in families for case in self._matmuls(f)]
        for f, a in matmuls:
            for g, b in matmuls:
                if self._weight(a) == self._weight(b):
                    terms.append(self._weight_part(f, a, g, b))
        return add(*terms)

    def _has_gradient(self, f: Family) -> bool:
        return f"d_{f.name}" in self.d.program.families

    def _matmuls(self, f: Family) -> list[Case]:
        if f.role != "assigned" or not isinstance(f.type, Vector) or not self._has_gradient(f):
            return []
        return [case for case in self.d.reader.cases(f.name) if isinstance(case.body, Multiply)]

    def _weight(self, case: Case) -> str:
        assert isinstance(case.body, Multiply)
        return self.d.reader.matrix(case.body.matrix)[0].name

    def _tangent(self, family: Family, indices: tuple[Affine, ...]) -> sympy.Expr:
        assert family.law is not None
        _, tangent = nngp_scale(family.law, family.type, dict(self.d.program.widths))
        if not isinstance(tangent, sympy.Expr):
            raise ProgramError(
                f"the NTK grows with the width: '{family.name}' has the standard parametrization", family.span
            )
        return at_member(self.d, tangent, family, indices)

    def _width(self, f: Family) -> sympy.Expr:
        """Width of a vector over that of the readout."""
        program = self.d.program
        readout = next(
            t.readout.name
            for g in program.outputs
            if isinstance(g.type, Process)
            for case in self.d.reader.cases(g.name)
            for t in case.body.terms
            if t.readout is not None and t.vector is not None
        )
        n = program.families[readout].type
        assert isinstance(f.type, Vector) and isinstance(n, Vector)
        return program.widths[f.type.width] / program.widths[n.width]

    def _readout_part(self, left: Linear, right: Linear) -> Node:
        """For the readout: tangent · ⟨x, x'⟩/n with the output's factors."""
        d, total = self.d, []
        for s in left.terms:
            for t in right.terms:
                assert s.readout and t.readout
                v = d.family(s.readout.name)
                if s.readout.name != t.readout.name or v.fixed:
                    continue
                sums = {r.name: r for r in (*s.sums, *t.sums)}
                ctx = Context(dict(self.ranges), sums, [*s.conditions, *t.conditions])
                if not same_indices(d.reader, s.readout.indices, t.readout.indices, ctx):
                    continue
                inner, factor = ir.ONE, s.coefficient * t.coefficient
                if s.vector is not None and t.vector is not None:
                    assert isinstance(v.type, Vector)
                    inner = second(d, ACROSS, s.vector, t.vector, False, ctx)
                    factor *= size_symbol(v.type.width)
                assert v.law is not None
                rate = growth(factor * v.law.multiplier**2, dict(d.program.widths))
                if not rate.finite:
                    raise ProgramError("the NTK of the readout grows with the width", v.span)
                scalars = [
                    ir.substitute(plain(d, x, side), ctx.solved)
                    for term, side in ((s, "left"), (t, "right"))
                    for x in term.scalars
                ]
                number = ir.substitute(ir.Constant(rate.limit), ctx.solved)
                total.append(gather(d.reader, ctx, number, *scalars, inner))
        return add(*total)

    def _members(
        self, f: Family, case: Case | None, prime: bool
    ) -> tuple[list[Range], tuple[Affine, ...], Multiply | None, list[Condition]]:
        """Fresh summed indices over the members of a family (or of one case): (ranges, target, body, conditions)."""
        suffix = "~'" if prime else "~"
        binders = case.binders if case else f.ranges
        mapping = {r.name: Affine.symbol(r.name + suffix) for r in binders}
        both = {**mapping, **sizes_of(self.d.program, "right" if prime else None)}
        ranges = [replace(r.substitute(both), name=r.name + suffix) for r in binders]
        target = case.target if case else tuple(Affine.symbol(r.name) for r in f.ranges)
        body = self.d.reader.put(case.body, both) if case else None
        conditions = [c.substitute(both) for c in case.conditions] if case else []
        return ranges, tuple(t.substitute(both) for t in target), body, conditions

    def _gradients(self, f: Family, i: tuple[Affine, ...], g: Family, j: tuple[Affine, ...], ctx: Context) -> Node:
        """⟨df, dg⟩/n at two members."""
        u = Reference(f"d_{f.name}", (*self.left.target, *i))
        w = Reference(f"d_{g.name}", (*self.right.target, *j))
        return second(self.d, ACROSS, solved(u, ctx), solved(w, ctx), False, ctx)

    def _vector_part(self, f: Family) -> Node:
        left, i, *_ = self._members(f, None, False)
        right, j, *_ = self._members(f, None, True)
        ctx = Context(dict(self.ranges), {r.name: r for r in (*left, *right)})
        if not same_indices(self.d.reader, i, j, ctx):
            return ir.ZERO
        inner = self._gradients(f, i, f, j, ctx)
        tangent = self._tangent(f, tuple(x.substitute(ctx.solved) for x in i))
        return gather(self.d.reader, ctx, ir.Constant(tangent * self._width(f)), inner)

    def _weight_part(self, f: Family, a: Case, g: Family, b: Case) -> Node:
        d = self.d
        left, i, first, where = self._members(f, a, False)
        right, j, other, where_other = self._members(g, b, True)
        assert isinstance(first, Multiply) and isinstance(other, Multiply)
        conditions = [*where, *where_other, *first.conditions, *other.conditions]
        ctx = Context(dict(self.ranges), {r.name: r for r in (*left, *right)}, conditions)
        w, w_other = d.reader.matrix(first.matrix)[0], d.reader.matrix(other.matrix)[0]
        family = d.family(w.name)
        if family.fixed or not same_indices(d.reader, w.indices, w_other.indices, ctx):
            return ir.ZERO
        tangent = self._tangent(family, tuple(x.substitute(ctx.solved) for x in w.indices))
        backward = self._gradients(f, i, g, j, ctx)
        x, y = solved(first.vector, ctx), solved(other.vector, ctx)
        if isinstance(d.family(x.name).type, Data):
            forward = read_pair(d, ir.GRAM, ACROSS, x, y)
        else:
            forward = second(d, ACROSS, x, y, False, ctx)
        return gather(d.reader, ctx, ir.Constant(tangent * self._width(f)), backward, forward)
