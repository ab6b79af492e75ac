"""The rules of the Master Theorem for Σ: laws, MatMul, LinComb (Tensor Programs I, section 5)."""

from __future__ import annotations

import sympy

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import bound_symbols
from tensorprog.index.ranges import Range
from tensorprog.program.ir import Family
from tensorprog.program.laws import nngp_scale
from tensorprog.program.types import Data, Matrix
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import (
    Multiply,
    Reference,
    Term,
)
from tensorprog.theorem.recursion import ONE, ZERO, Key, Node, add, product
from tensorprog.theorem.scalars import Scalars
from tensorprog.theorem.sides import Context, Pairing, View, gaussian


class Rules(Scalars):
    """Second moments of pairs of vectors."""

    def second(self, view: View, u: Reference, w: Reference, centred: bool, ctx: Context) -> Node:
        """E Z^u Z^w, or their covariance where both are G-vars and `centred`."""
        u, w = self._solved(u, ctx), self._solved(w, ctx)
        f, g = self.program.families[u.name], self.program.families[w.name]
        both = gaussian(f) and gaussian(g)
        if self.support.independent(u, w, ctx.all_ranges()):
            if centred:
                return ZERO
            return product(self.mean(u, view.left, ctx.all_ranges()), self.mean(w, view.right, ctx.all_ranges()))
        if not both:
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
        found = self._case_at(u, side, ranges)
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

    def _read_pair(self, kind: str, view: View, u: Reference, w: Reference) -> Node:
        """An entry of a table of second moments."""
        if view.stream == "self" and u.name == w.name and u.indices == w.indices:
            # A variance: a table of its own, on the diagonal, which asks for no other entries to be known.
            key = Key(kind, "self", (u.name,))
            self.pairings[key] = tuple((a, a, 0) for a in range(len(u.indices)))
            self._ask(key)
            return ir.Read(key, u.indices, view.left)
        key = Key(kind, view.stream, (u.name, w.name))
        asked = tuple(p for p in self._pairing(u.indices, w.indices) if self._shares_low(u.name, p[0]))
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

    def _shares_low(self, name: str, axis: int) -> bool:
        """Whether two runs have the same first index along an axis, so that a diagonal of both begins at it."""
        low = self.program.families[name].ranges[axis].low
        return not bound_symbols(low) & set(self.program.open_sizes)

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

    def _variance(self, u: Reference, side: str, view: View, ranges) -> Node:
        inner = view.within(side)
        return self.second(inner, u, u, True, Context(dict(ranges)))

    def _mean_or_none(self, u: Reference, side: str | None, ranges) -> Node | None:
        m = self.mean(u, side, ranges)
        return None if ir.is_zero(m) else m
