"""From nodes to formulas, for any notation: what text and LaTeX share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.types import Data
from tensorprog.recursion import Clause, Key, Node, Read, Table
from tensorprog.theorem.tangent import is_tangent, primal_key
from tensorprog.views.layout import mark, unmark
from tensorprog.views.letters import Letters
from tensorprog.views.names import families, index_pair
from tensorprog.views.notation import ATOM, PRODUCT, SUM, Notation, Piece, inside, tight
from tensorprog.views.sampled import table_of
from tensorprog.views.selection import Selection
from tensorprog.views.statements import sums_in_order

_SHOWN: dict[type, Callable[[Formulas, Any], Piece]] = {}


def shows(kind: type) -> Callable:
    """Register a function (Formulas, node) -> Piece for the nodes of a kind."""

    def add(function: Callable[[Formulas, Any], Piece]):
        _SHOWN[kind] = function
        return function

    return add


class Formulas:
    """The formulas of a selection in one notation.

    at_table, at_target: the table and the entry whose statement is written.
    """

    def __init__(self, notation: Notation, selection: Selection):
        self.n, self.selection = notation, selection
        self.program = selection.names.program
        self.letters = Letters(notation, selection)
        self.primitives = dict(selection.tangents.primitives) if selection.tangents else {}
        self.sizes = {s for p in self.program.parameters for s in (p.name, p.name + "'")}
        self.at_table: Table
        self.at_target: tuple[Affine, ...]

    def statement(self, table: Table, clause: Clause) -> tuple[str, str, list[str]]:
        """Left side, right side with its marks, and what the letters in it stand for."""
        self.letters.reset()
        self.at_table, self.at_target = table, clause.target
        right = self.node(clause.value)
        return self.entry(table, clause.target, None), right.text, self.letters.where

    def scope(self, clause: Clause) -> tuple[list[Range], list[str]]:
        """The ranges of a clause and its conditions."""
        return list(clause.binders), self.conditions(clause.conditions)

    def entry(self, table: Table, indices: tuple[Affine, ...], side: str | None) -> str:
        """An entry of a table, as Σ(h[t], h'[t'])."""
        key = primal_key(table.key)
        left, right = index_pair(table, indices)
        f, g = families(table)
        if key.kind in (ir.SCALAR, ir.DATA):
            return self.n.member(f, left, side == "right")
        if key.kind == ir.MEAN:
            return self.n.mean(self.vector(f, left, side == "right"))
        primed = (False, True) if key.stream == "cross" else (side == "right",) * 2
        kind = "tangent" if is_tangent(table.key) else key.kind
        if key.kind == ir.OUTPUT:
            kind = "ntk" if is_tangent(table.key) else "nngp"
        a, b = self.vector(f, left, primed[0]), self.vector(g, right, primed[1])
        if key.kind == ir.GRAM:
            data = self.program.families[f].type
            assert isinstance(data, Data)
            return self.n.inner(a, b, data.size)
        return self.n.pair(kind, a, b)

    def vector(self, name: str, indices: tuple[Affine, ...], primed: bool) -> str:
        """A vector: its name, or a function of vectors where it is a temporary that holds one."""
        found = self.selection.names.function_of(name, indices)
        if found is None:
            return self.n.member(name, indices, primed)
        expression, vectors = found
        values = {s: Piece(self.vector(r.name, r.indices, primed)) for s, r in vectors}
        return self.n.number(expression, values).text

    def node(self, node: Node) -> Piece:
        """The formula of a node; what is registered for it, where other files show its kind."""
        match node:
            case ir.Constant(value):
                return self.n.number(value, {})
            case ir.LawVariance(scale=scale):
                return self.n.number(scale, {})
            case Read(key, indices, side):
                level = PRODUCT if key.kind == ir.GRAM else ATOM  # it has a factor 1/d
                return Piece(self.entry(self.table(key), indices, side), level)
            case ir.Gram(names, left, right, sides, feature):
                primed = (sides[0] == "right", sides[1] == "right")
                x, y = (self.n.member(*z) for z in zip(names, (left, right), primed, strict=True))
                return Piece(self.n.inner(x, y, feature), PRODUCT)
            case ir.Add(terms):
                return self.add([self.node(t) for t in terms])
            case ir.Product(factors):
                return self._product(factors)
            case ir.Sum(ranges, conditions, body):
                inner = self.node(body)
                return self.n.total(ranges, self.conditions(conditions), inside(inner))
            case ir.Where(conditions, then, otherwise):
                return self._cases(self.conditions(conditions), then, otherwise)
            case ir.Apply(expression, arguments):
                return self.n.number(expression, {s: self.flat(a) for s, a in arguments})
            case ir.Reduce(kind, range_, conditions, body, at):
                return self._reduce(kind, range_, conditions, body, at)
        return _SHOWN[type(node)](self, node)

    def table(self, key: Key) -> Table:
        """The table of that name, those of what is sampled too."""
        return table_of(key, self.selection.tables, self.program)

    def flat(self, node: Node) -> Piece:
        """A formula to be put into another by the printer of expressions, which breaks no lines."""
        piece = self.node(node)
        return Piece(unmark(piece.text), piece.level, piece.wide)

    def add(self, pieces: Sequence[Piece]) -> Piece:
        """The sum, with places to break between its terms."""
        text = ""
        for p in pieces:
            if not text:
                text = p.text
            elif p.text.startswith("-"):
                text += mark() + " - " + p.text[1:].lstrip()
            else:
                text += mark() + " + " + p.text
        return Piece(text, SUM if len(pieces) > 1 else pieces[0].level, pieces[-1].wide)

    def _product(self, factors: Sequence[Node]) -> Piece:
        """Numbers stand in front; functions of scalars gather in one fraction with what stands over it."""
        number = sympy.Integer(1)
        denominator = sympy.Integer(1)
        values: dict[sympy.Symbol, Piece] = {}
        pieces: list[Piece] = []
        for factor in factors:
            match factor:
                case ir.Constant(value) | ir.LawVariance(scale=value):
                    number *= value
                case ir.Apply(expression, arguments):
                    swap = {s: sympy.Dummy(s.name, positive=True) for s, _ in arguments}
                    values |= {swap[s]: self.flat(a) for s, a in arguments}
                    top, bottom = sympy.fraction(expression.xreplace(swap), exact=True)
                    if top.could_extract_minus_sign():
                        top, number = -top, -number
                    denominator *= bottom
                    if top != 1:
                        pieces.append(self.n.number(top, values))
                case _:
                    pieces.append(self.node(factor))
        sign, number = ("-", -number) if number.could_extract_minus_sign() else ("", number)
        wide = bool(pieces) and pieces[-1].wide
        if denominator != 1:
            below = self.n.number(denominator, values)
            body = self.n.times([tight(self.n, p, i == len(pieces) - 1) for i, p in enumerate(pieces)])
            if self.n.width(unmark(below.text)) > self.n.widest:
                bottoms = [self.n.number(x, values) for x in sympy.Mul.make_args(denominator)]
                pieces += [Piece(self.n.over("1", x)) for x in bottoms]
            elif wide or not pieces or self.n.width(unmark(body)) > self.n.inline // 2:
                pieces.insert(0, Piece(self.n.over("1", below), ATOM))
            else:
                pieces = [Piece(self.n.over(body, below), PRODUCT)]
        if number != 1 or not pieces:
            pieces.insert(0, self.n.number(number, {}))
        if len(pieces) == 1 and not sign:
            return pieces[0]
        body = self.n.times([tight(self.n, p, i == len(pieces) - 1) for i, p in enumerate(pieces)])
        return Piece(sign + body, PRODUCT, wide)

    def _cases(self, conditions: list[str], then: Node, otherwise: Node) -> Piece:
        pieces = []
        for value, negated in ((then, False), (otherwise, True)):
            if not ir.is_zero(value):
                pieces.append(self.masked(conditions, negated, self.node(value)))
        return self.add(pieces) if pieces else self.node(ir.ZERO)

    def masked(self, conditions: Sequence[str], negated: bool, piece: Piece) -> Piece:
        """An indicator times a piece; the indicator alone where that is 1."""
        shown = self.n.indicator(conditions, negated)
        if piece.text == self.node(ir.ONE).text:
            return Piece(shown)
        return Piece(self.n.times([shown, tight(self.n, piece)]), PRODUCT, piece.wide)

    def _reduce(self, kind: str, range_: Range, conditions, body: Node, at: Affine | None) -> Piece:
        if kind == "softmax":
            assert at is not None
            above = self.flat(ir.substitute(body, {range_.name: at}))
            return self.n.softmax(range_, above.text, self.flat(body).text)
        return self.n.reduction(kind, (range_,), self.conditions(conditions), inside(self.node(body)))

    def conditions(self, conditions: Sequence[Condition]) -> list[str]:
        """Conditions on indices, lower and upper bounds of one expression together: 1 ≤ i+a ≤ H."""
        low: dict[Affine, list[Affine]] = {}
        high: dict[Affine, list[Affine]] = {}
        result = []
        for c in conditions:
            indices = {s: k for s, k in c.expression.terms if not Affine.symbol(s).symbols <= self.sizes}
            if c.op == "==" or not indices:
                positive = {s: k for s, k in c.expression.terms if k > 0}
                left = Affine.build(0, positive)
                op = self.n.equal if c.op == "==" else lambda a, b: self.n.bounds([b], a, [])
                result.append(op(self.n.affine(left), self.n.affine(left - c.expression)))
                continue
            form = Affine.build(0, indices)
            positives = sum(k > 0 for k in indices.values())
            if 2 * positives >= len(indices):
                low.setdefault(form, []).append(form - c.expression)
            else:
                high.setdefault(-form, []).append(c.expression - form)
                low.setdefault(-form, [])
        for form in low:
            result.append(
                self.n.bounds(
                    [self.n.affine(a) for a in low[form]],
                    self.n.affine(form),
                    [self.n.affine(a) for a in high.get(form, [])],
                )
            )
        return result

    def scalars(self, node: Node) -> dict[sympy.Symbol, Piece]:
        pairs = [*getattr(node, "scalars_f", ()), *getattr(node, "scalars_g", ()), *getattr(node, "scalars", ())]
        return {s: self.flat(n) for s, n in pairs}

    def long(self, e: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> Piece:
        """An expression, with places to break it where it is wide."""
        whole = self.n.number(e, values)
        if self.n.width(whole.text) <= self.n.inline:
            return whole
        if e.is_Add:
            return self.add([self.long(t, values) for t in sums_in_order(e.as_ordered_terms())])
        sums = [x for x in e.args if x.is_Add] if e.is_Mul else []
        if not sums:
            return whole
        rest = sympy.Mul(*(x for x in e.args if not x.is_Add))
        pieces = [self.long(x, values) for x in (rest, *sums) if x != 1]
        return Piece(self.n.times([tight(self.n, p) for p in pieces]), PRODUCT)

    def two(self, f: sympy.Expr, g: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> str:
        """f·g, each as it stands, with one sign in front."""
        sign = ""
        pieces = []
        for e in (f, g):
            if not e.is_Add and e.could_extract_minus_sign():
                e, sign = -e, "" if sign else "-"
            if e != 1:
                pieces.append(self.n.number(e, values))
        if len(pieces) < 2 and not sign:
            return pieces[0].text if pieces else "1"
        return sign + self.n.times([tight(self.n, p) for p in pieces])
