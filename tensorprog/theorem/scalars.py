"""Means and C's: what one run has of scalars."""

from __future__ import annotations

from dataclasses import fields, replace

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.program.laws import growth
from tensorprog.program.types import Data, Scalar, Vector
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.cases import (
    Linear,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    Term,
    substitute_range,
)
from tensorprog.theorem.recursion import ZERO, Key, Node, add, product
from tensorprog.theorem.sides import Sides


class Scalars(Sides):
    """Means of vectors, and functions of C's, as nodes of the recursion."""

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
                    if not all(self._centred_term(t, zero) for t in terms):
                        return False
                case Pointwise():
                    return False
        return True

    def _centred_term(self, t: Term, zero: set[str]) -> bool:
        """Whether a term has mean zero where the vectors `zero` have; -m/r has where m is the Moment of one of them."""
        if t.vector is not None:
            return t.vector.name in zero
        for form in t.scalars:
            leaves = [(s, leaf) for s, leaf in form.arguments if isinstance(leaf, Reference)]
            gone = {s: 0 for s, leaf in leaves if self._is_mean(leaf.name, zero)}
            if gone and form.expression.subs(gone) == 0:
                return True
        return False

    def _is_mean(self, name: str, zero: set[str]) -> bool:
        """Whether a C is a linear combination of Moments of the vectors `zero`."""
        family = self.program.families[name]
        if family.role != "assigned" or not isinstance(family.type, Scalar):
            return False
        for case in self.reader.cases(name):
            f = case.body
            if not isinstance(f, Pointwise) or f.reductions or not f.vectors:
                return False
            symbols = [s for s, _ in f.vectors]
            if any(r.name not in zero for _, r in f.vectors) or not f.expression.is_polynomial(*symbols):
                return False
            if any(sum(powers) != 1 for powers in sympy.Poly(f.expression, *symbols).monoms()):
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

    def _read_one(self, r: Reference, side: str | None) -> Node:
        kind = ir.DATA if isinstance(self.program.families[r.name].type, Data) else ir.SCALAR
        key = Key(kind, "self", (r.name,))
        self._ask(key)
        return ir.Read(key, r.indices, side)

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
                "this Moment goes to 0 as the width grows, and what is computed from it is not continuous there: "
                "there is no limit",
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
                        tuple(c.substitute(mapping) for c in conditions),
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

    def _coefficient(self, t: Term, side: str | None, rename: dict[str, Affine]) -> Node:
        return product(
            ir.Constant(self._renamed_number(t.coefficient, rename, side)),
            *(self._scalar(s, side, rename) for s in t.scalars),
        )

    def _coefficient_plain(self, t: Term, side: str | None) -> Node:
        """A term's coefficient; its indices and sizes are primed already where they are the second run's."""
        return product(ir.Constant(t.coefficient), *(self._scalar_plain(s, side) for s in t.scalars))

    def _scalar_plain(self, form: ScalarForm, side: str | None) -> Node:
        node = self._scalar(form, "inside", {})
        return with_side(node, side)


def with_side(node: Node, side: str | None) -> Node:
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
