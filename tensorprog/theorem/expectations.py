"""Second moments of coordinatewise functions: Gaussian expectations, and Stein's lemma against a G-var."""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog.errors import NotDerived, ProgramError
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.types import Data, Scalar
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import (
    Case,
    Linear,
    Pointwise,
    Reference,
    ScalarForm,
)
from tensorprog.theorem.joint_rules import has_rule
from tensorprog.theorem.recursion import ZERO, Node, add, product
from tensorprog.theorem.rules import Rules
from tensorprog.theorem.sides import Context, View, gaussian

MAX_GAUSSIANS = 5
MAX_DEGREE = 10  # of a polynomial of more: 945 pairings
MAX_SPLITS = 3


class Ambiguous(NotDerived):
    """Which assignment defines a vector inside a function depends on its indices, or such vectors have no end."""

    def __init__(self, reference: Reference):
        super().__init__(
            f"'{reference.name}' is itself a function of vectors before it; "
            "products of such chains are not derived yet",
            reference.span,
        )
        self.reference = reference


class Expectations(Rules):
    """E f(Z) g(Z') and its relatives, as nodes of the recursion."""

    def _flatten(self, f: Pointwise, side: str | None, ranges, depth: int = 0) -> Pointwise:
        """f, of that run, with every H-var that it reads written out in G-vars, and C's that are zero put in."""
        f = self._without_zeros(f)
        if f.reductions:
            raise NotDerived(f"the limit of {f.reductions[0][1].kind}[…] over vectors has no closed form here")
        for symbol, r in f.vectors:
            family = self.program.families[r.name]
            if gaussian(family):
                continue
            found = self._case_at(r, side, ranges) if depth <= 20 else None
            if found is None:
                raise Ambiguous(r)
            case, mapping = found
            body = self.reader.put(case.body, self._mapping(mapping, side))
            inner = self._as_pointwise(body, r)
            if inner.reductions:
                raise NotDerived(f"'{r.name}' reduces over an index: functions of it have no closed form here", r.span)
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

    def _without_zeros(self, f: Pointwise) -> Pointwise:
        """f with 0 for the C's that are zero by structure: layernorm(h) of a centred h is a function of h alone."""
        expression = f.expression
        for s, form in f.scalars:
            leaf = form.arguments[0][1] if form.expression == s and len(form.arguments) == 1 else None
            if s in expression.free_symbols and isinstance(leaf, Reference):
                if isinstance(self.program.families[leaf.name].type, Scalar) and self._is_zero_scalar(leaf.name):
                    expression = self._at_zero(expression, s, leaf)
        return replace(f, expression=expression) if expression != f.expression else f

    def cases(self, name: str) -> tuple[Case, ...]:
        """A family's cases, split further until each function in them is one of known vectors: t = 1, and t ≥ 2."""
        if isinstance(self.program.families[name].type, Data):
            return self.reader.cases(name)
        if name not in self.split_cases:
            self.split_cases[name] = tuple(c for case in self.reader.cases(name) for c in self._split(case, 0))
        return self.split_cases[name]

    def _split(self, case: Case, depth: int) -> list[Case]:
        if not isinstance(case.body, Pointwise):
            return [case]
        try:
            with self._where(case.conditions):
                self._flatten(case.body, None, {r.name: r for r in case.binders})
        except Ambiguous as error:
            if depth >= MAX_SPLITS:
                return [case]
            r = error.reference
            parts = []
            for other in self.reader.cases(r.name):
                conditions = self._meets(r, other)
                if conditions is None:
                    return [case]
                refined = self.reader.refine(case.binders, case.target, [[*case.conditions, *conditions]])
                for binders, target, rest, mapping in refined:
                    part = Case(binders, target, rest, self.reader.put(case.body, mapping), case.span)
                    parts += self._split(part, depth + 1)
            return parts
        except ProgramError:
            pass
        return [case]

    def _meets(self, r: Reference, case: Case) -> list[Condition] | None:
        """The conditions that a member of a family is the one that this case defines; None where they are involved."""
        found = self._defines(r.indices, case, {})
        return None if found is None else found[1]

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
        raise NotDerived(f"'{r.name}' sums over an index: functions of such H-vars have no closed form here", r.span)

    def _scalars_of(self, f: Pointwise, side: str | None):
        return tuple((s, self._scalar_plain(form, side)) for s, form in f.scalars if s in f.expression.free_symbols)

    def _numbers_in(self, f: Pointwise, side: str | None) -> Pointwise:
        """The function with the C's put in that are numbers, such as the mean 0 of a G: closed forms are told so."""
        known = {s: node.value for s, node in self._scalars_of(f, side) if isinstance(node, ir.Constant)}
        expression = f.expression.xreplace(known)
        if not known or expression.has(sympy.zoo, sympy.nan, sympy.oo):
            return f
        return replace(f, expression=expression)

    def _moment(self, body: Pointwise, ranges: dict[str, Range], case: Case) -> Node:
        """A C: (1/n) Σ of a coordinatewise expression, or arithmetic on C's."""
        if not body.vectors and not body.reductions:
            forms = dict(body.scalars)
            return self._apply(body.expression, forms, None, {})
        view = View("self", None, None)
        if body.reductions:
            return self._expectation(body, view, ranges, case)
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

    def _expectation(self, f: Pointwise, view: View, ranges, case: Case) -> Node:
        """E f(Z^x, …) in one run."""
        f = self._numbers_in(self._flatten(f, view.left, ranges), view.left)
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
        f = self._numbers_in(self._flatten(f, view.left, ranges), view.left)
        g = self._numbers_in(self._flatten(g, view.right, ranges), view.right)
        lefts = [(s, r) for s, r in f.vectors if s in f.expression.free_symbols]
        rights = [(s, r) for s, r in g.vectors if s in g.expression.free_symbols]
        if self._drawn(lefts, rights) > MAX_GAUSSIANS:
            terms, others = _terms(f.expression), _terms(g.expression)
            if len(terms) * len(others) > 1:
                return add(
                    *(
                        self._pointwise_pair(
                            view, replace(f, expression=a), replace(g, expression=b), ranges, me, other
                        )
                        for a in terms
                        for b in others
                    )
                )
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
                conditions.append(Condition("==", difference))
        return tuple(conditions)

    def _joint(self, f, lefts, sf, g, rights, sg, view: View, ranges, span) -> Node:
        if self._drawn(lefts, rights) > MAX_GAUSSIANS and not _few_pairings(f, lefts, g, rights):
            raise NotDerived(
                f"products of {len(lefts) + len(rights)} Gaussians at once are not derived yet: "
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
        node = ir.JointExpectation(f, g.xreplace(swap), zs, ws, tuple(covariance), means, sf, sg)
        if not has_rule(node):
            raise NotDerived("no rule is accurate for this expectation", span)
        return node

    def _drawn(self, *sides) -> int:
        """How many of these vectors are random: N(1, 0) is a constant, though its gradient has a part in the NTK."""
        return sum(not self._is_constant(r.name) for vectors in sides for _, r in vectors)

    def _is_constant(self, name: str) -> bool:
        law = self.program.families[name].law
        return law is not None and law.variance * law.multiplier == 0

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
            centred = gaussian(self.program.families[g.name])
            covariance = self._gather(ctx, [self.second(view, first, second, centred, ctx)])
            if ir.is_zero(covariance):
                continue
            slope = replace(f, expression=f.expression.diff(s))
            total.append(product(self._expectation(slope, inner_view, ranges, placeholder), covariance))
        mean = self.mean(g, view.right if side == "left" else view.left, ranges)
        if not ir.is_zero(mean) and gaussian(self.program.families[g.name]):
            total.append(product(self._expectation(f, inner_view, ranges, placeholder), mean))
        return add(*total)


def _terms(e: sympy.Expr) -> tuple[sympy.Expr, ...]:
    """The addends of an expression."""
    return sympy.Add.make_args(e.expand(power_base=False, power_exp=False, log=False))


def _few_pairings(f: sympy.Expr, lefts, g: sympy.Expr, rights) -> bool:
    """Whether f·g is a polynomial in its Gaussians, of a degree at which Isserlis' sum over pairings is short."""
    degree = 0
    for e, vectors in ((f, lefts), (g, rights)):
        symbols = [s for s, _ in vectors]
        if not e.is_polynomial(*symbols):
            return False
        degree += sympy.Poly(e, *symbols).total_degree() if symbols else 0
    return degree <= MAX_DEGREE


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
