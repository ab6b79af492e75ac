"""The NTK a second way: backward times forward inner products (Tensor Programs II, section 3).

    for W in A(·, m):  m·multiplier² · Σ over pairs (W @ x in f, W @ x' in f') of (⟨dh, dh'⟩/n) · (⟨x, x'⟩/m)
    for a bias b:      multiplier² · ⟨db, db'⟩/n;      for the readout: ⟨x, x'⟩/n

The inner products are second moments of the program with its backward pass. The other way is one derivative of the
forward recursion along the correlation of two copies of the parameters (tangent.py); that both agree is the strongest
check there is of either.
"""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.program.ir import Family, Program
from tensorprog.program.laws import growth, nngp_scale
from tensorprog.program.scope import size_symbol
from tensorprog.program.types import Data, Process, Vector
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import Case, Linear, Multiply, Reference
from tensorprog.theorem.derive import Deriver
from tensorprog.theorem.recursion import Key, Node, add
from tensorprog.theorem.sides import Context, View
from tensorprog.theorem.transposes import without_transposes


def derive_ntk_by_backward(forward: Program, both: Program) -> ir.Recursion:
    """The recursion whose output is the NTK, from a program and the same program with its backward pass.

    Raises ProgramError where the forward pass multiplies by a transpose: the formula is that of programs without.
    """
    if any(f.transpose_of for f in forward.families.values()):
        raise ProgramError("the second formula is for programs whose forward pass has no transposes", forward.text.span)
    return _Second(forward, without_transposes(both)).run()


class _Second(Deriver):
    def __init__(self, forward: Program, both: Program):
        super().__init__(both)
        self.forward = forward

    def _check_readouts(self, output: Family) -> None:
        """The readout also starts the backward pass."""

    def _pair_table(self, key: Key) -> ir.Table:
        if key.kind != ir.OUTPUT:
            return super()._pair_table(key)
        family = self.program.families[key.families[0]]
        axes = self._axes(family, family, (), True)
        clauses = []
        for c in self.reader.cases(family.name):
            for d in self.reader.cases(family.name):
                d = self._primed(d, True)
                ranges = {r.name: r for r in (*c.binders, *d.binders)}
                clauses.append(
                    ir.Clause(
                        (*c.binders, *d.binders),
                        self._target(c.target, d.target, (), {}),
                        (*c.conditions, *d.conditions),
                        self._ntk(c, d, ranges),
                    )
                )
        return ir.Table(key, axes, tuple(clauses))

    def _ntk(self, c: Case, d: Case, ranges) -> Node:
        view = View("cross", "left", "right")
        assert isinstance(c.body, Linear) and isinstance(d.body, Linear)
        terms = [self._readout_part(c.body, d.body, view, ranges)]
        families = list(self.forward.families.values())
        readouts = {t.readout.name for body in (c.body, d.body) for t in body.terms if t.readout is not None}
        for f in families:
            if f.role == "vector" and f.name not in readouts and not f.fixed and f"d_{f.name}" in self.program.families:
                terms.append(self._vector_part(f, c, d, view, ranges))
        matmuls = [(f, case) for f in families for case in self._matmuls(f)]
        for f, a in matmuls:
            for g, b in matmuls:
                if self._weight(a) == self._weight(b):
                    terms.append(self._weight_part(f, a, g, b, c, d, view, ranges))
        return add(*terms)

    def _matmuls(self, f: Family) -> list[Case]:
        if f.role != "assigned" or not isinstance(f.type, Vector) or f"d_{f.name}" not in self.program.families:
            return []
        return [case for case in self.reader.cases(f.name) if isinstance(case.body, Multiply)]

    def _weight(self, case: Case) -> str:
        assert isinstance(case.body, Multiply)
        return self.reader.matrix(case.body.matrix)[0].name

    def _tangent(self, family: Family, indices) -> sympy.Expr:
        assert family.law is not None
        _, tangent = nngp_scale(family.law, family.type, dict(self.program.widths))
        if not isinstance(tangent, sympy.Expr):
            raise ProgramError(
                f"the NTK grows with the width: '{family.name}' has the standard parametrization", family.span
            )
        return self._at(tangent, family, indices)

    def _width(self, f: Family) -> sympy.Expr:
        """Width of a vector over that of the readout."""
        readout = next(
            t.readout.name
            for g in self.program.outputs
            if isinstance(g.type, Process)
            for case in self.reader.cases(g.name)
            for t in case.body.terms
            if t.readout is not None and t.vector is not None
        )
        n = self.program.families[readout].type
        assert isinstance(f.type, Vector) and isinstance(n, Vector)
        return self.program.widths[f.type.width] / self.program.widths[n.width]

    def _readout_part(self, left: Linear, right: Linear, view: View, ranges) -> Node:
        """For the readout: tangent · ⟨x, x'⟩/n with the output's factors."""
        total = []
        for s in left.terms:
            for t in right.terms:
                assert s.readout and t.readout
                v = self.program.families[s.readout.name]
                if s.readout.name != t.readout.name or v.fixed:
                    continue
                ctx = Context(dict(ranges), {r.name: r for r in (*s.sums, *t.sums)}, [*s.conditions, *t.conditions])
                if not self._same_indices(s.readout.indices, t.readout.indices, ctx):
                    continue
                inner, factor = ir.ONE, s.coefficient * t.coefficient
                if s.vector is not None and t.vector is not None:
                    assert isinstance(v.type, Vector)
                    inner = self.second(view, s.vector, t.vector, False, ctx)
                    factor *= size_symbol(v.type.width)
                rate = growth(factor * v.law.multiplier**2, dict(self.program.widths))  # type: ignore[union-attr]
                if not rate.finite:
                    raise ProgramError("the NTK of the readout grows with the width", v.span)
                scalars = [
                    ir.substitute(self._scalar_plain(x, side), ctx.solved)
                    for term, side in ((s, view.left), (t, view.right))
                    for x in term.scalars
                ]
                number = ir.substitute(ir.Constant(rate.limit), ctx.solved)
                total.append(self._gather(ctx, [number, *scalars, inner]))
        return add(*total)

    def _members(self, f: Family, case: Case | None, prime: bool):
        """Fresh summed indices over the members of a family (or of one case): (ranges, target, body, conditions)."""
        suffix = "~'" if prime else "~"
        binders = case.binders if case else f.ranges
        mapping = {r.name: Affine.symbol(r.name + suffix) for r in binders}
        sizes = {s: Affine.symbol(s + "'") for s in self.program.of_runs} if prime else {}
        both = {**mapping, **sizes}
        from tensorprog.theorem.cases import substitute_range

        ranges = [replace(substitute_range(r, both), name=r.name + suffix) for r in binders]
        target = case.target if case else tuple(Affine.symbol(r.name) for r in f.ranges)
        body = self.reader.put(case.body, both) if case else None
        conditions = [c.substitute(both) for c in case.conditions] if case else []
        return ranges, tuple(t.substitute(both) for t in target), body, conditions

    def _gradient(self, name: str, output: tuple[Affine, ...], member: tuple[Affine, ...]) -> Reference:
        return Reference(f"d_{name}", (*output, *member))

    def _vector_part(self, f: Family, c: Case, d: Case, view: View, ranges) -> Node:
        left, i, *_ = self._members(f, None, False)
        right, j, *_ = self._members(f, None, True)
        ctx = Context(dict(ranges), {r.name: r for r in (*left, *right)})
        if not self._same_indices(i, j, ctx):
            return ir.ZERO
        u, w = self._gradient(f.name, c.target, i), self._gradient(f.name, d.target, j)
        inner = self.second(view, self._solved(u, ctx), self._solved(w, ctx), False, ctx)
        tangent = self._tangent(f, tuple(x.substitute(ctx.solved) for x in i))
        return self._gather(ctx, [ir.Constant(tangent * self._width(f)), inner])

    def _weight_part(self, f: Family, a: Case, g: Family, b: Case, c: Case, d: Case, view: View, ranges) -> Node:
        left, i, first, where = self._members(f, a, False)
        right, j, second, where2 = self._members(g, b, True)
        assert isinstance(first, Multiply) and isinstance(second, Multiply)
        conditions = [*where, *where2, *first.conditions, *second.conditions]
        ctx = Context(dict(ranges), {r.name: r for r in (*left, *right)}, conditions)
        w, w2 = self.reader.matrix(first.matrix)[0], self.reader.matrix(second.matrix)[0]
        family = self.program.families[w.name]
        if family.fixed or not self._same_indices(w.indices, w2.indices, ctx):
            return ir.ZERO
        tangent = self._tangent(family, tuple(x.substitute(ctx.solved) for x in w.indices))
        u, v = self._gradient(f.name, c.target, i), self._gradient(g.name, d.target, j)
        backward = self.second(view, self._solved(u, ctx), self._solved(v, ctx), False, ctx)
        x, y = self._solved(first.vector, ctx), self._solved(second.vector, ctx)
        if isinstance(self.program.families[x.name].type, Data):
            forward = self._read_pair(ir.GRAM, view, x, y)
        else:
            forward = self.second(view, x, y, False, ctx)
        return self._gather(ctx, [ir.Constant(tangent * self._width(f)), backward, forward])
