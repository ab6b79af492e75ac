"""From nodes to formulas, for any notation: what text and LaTeX share.

A formula is a string with the places where a long line may be broken marked in it, outer places with lower marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import sympy

from tensorprog import recursion as ir
from tensorprog.functions import lookup
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.types import Data, Scalar
from tensorprog.recursion import Clause, Key, Node, Read, Table
from tensorprog.theorem import joint_rules
from tensorprog.theorem.cases import Linear, Pointwise, Reference, VectorReduction
from tensorprog.theorem.tangent import is_tangent, primal_key, tangent_key
from tensorprog.views import closed
from tensorprog.views.names import families, index_pair
from tensorprog.views.sampled import Definition, own_index, scalar_node, size, table_of
from tensorprog.views.selection import Selection
from tensorprog.views.statements import sums_in_order

SUM, PRODUCT, ATOM = range(3)

_FIRST, _LAST = 0xE000, 0xE008  # marks of places to break, by depth


INSTEAD = {
    "c": "rho", "k": "kappa", "p": "sigma", "q": "tau", "z": "zeta", "mu": "mu", "nu": "nu",
    "g": "gamma", "s": "lambda", "G": "Gamma", "V": "Upsilon", "Omega": "Psi", "Pi": "Phi", "Delta": "Lambda",
}  # fmt: skip
"""Letters for a program that has the usual ones for its own things."""


@dataclass(frozen=True)
class Piece:
    """A formula and how tightly it holds together: SUM, PRODUCT or ATOM.

    One with a sum sign is `wide`: a factor behind it would read as a part of its body.
    """

    text: str
    level: int = ATOM
    wide: bool = False


class Notation(Protocol):
    """The words of a notation: text or LaTeX."""

    inline: int
    """Entries are put into a closed form up to this width; beyond it they get letters."""
    widest: int
    """A denominator beyond this width is taken apart into factors."""

    def width(self, text: str) -> int: ...
    def number(self, e: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> Piece: ...
    def affine(self, a: Affine) -> str: ...
    def member(self, name: str, indices: Sequence[Affine], primed: bool) -> str: ...
    def pair(self, kind: str, left: str, right: str) -> str: ...
    def mean(self, vector: str) -> str: ...
    def inner(self, left: str, right: str, feature: str) -> str: ...
    def parentheses(self, text: str) -> str: ...
    def times(self, factors: Sequence[str]) -> str: ...
    def over(self, numerator: str, denominator: Piece) -> str: ...
    def total(self, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece: ...
    def indicator(self, conditions: Sequence[str], negated: bool) -> str: ...
    def reduction(self, kind: str, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece: ...
    def softmax(self, range_: Range, at: str, body: str) -> Piece: ...
    def bounds(self, low: Sequence[str], middle: str, high: Sequence[str]) -> str: ...
    def equal(self, left: str, right: str) -> str: ...
    def expectation(self, body: str) -> str: ...
    def letter(self, name: str, number: int, primed: bool = False) -> str: ...
    def gaussian(
        self, letters: Sequence[str], means: Sequence[str] | None, covariance: Sequence[Sequence[str]]
    ) -> str: ...
    def moments(
        self,
        letters: Sequence[str],
        means: Sequence[tuple[str, str]],
        entries: Sequence[tuple[str, str, str]],
        zeros: bool,
    ) -> list[str]: ...
    def define(self, left: str, right: str) -> str: ...
    def element(self, letter: str, indices: Sequence[Affine]) -> str: ...
    def random(self, vector: str) -> str: ...
    def slope(self, of: str, by: str) -> str: ...
    def sampled(self, body: str) -> Piece: ...
    def over_gaussians(self, letters: Sequence[str], body: str) -> Piece: ...
    def members(self, letter: str, families: Sequence[str]) -> str: ...
    def call(self, name: str, argument: str) -> str: ...
    def laplace(self, letters: BatchLetters) -> tuple[Piece, list[str]]: ...


@dataclass(frozen=True)
class BatchLetters:
    """What stands in the integral of a batch normalization: an entry for each of its one or two batches.

    s: the Laplace variables; sizes: of the batches; eps: None where it is 0; blocks: the covariances, the cross one in
    the middle.
    """

    s: tuple[str, ...]
    sizes: tuple[str, ...]
    eps: tuple[Piece | None, ...]
    omega: str
    centring: str
    diagonal: str
    pi: str
    value: str
    blocks: tuple[str, ...]


def mark(depth: int = 0) -> str:
    """A place where a line may be broken."""
    return chr(min(_FIRST + depth, _LAST))


def deepen(text: str) -> str:
    """The formula as a part of another: its places to break move in."""
    return "".join(chr(min(ord(c) + 1, _LAST)) if _FIRST <= ord(c) <= _LAST else c for c in text)


def unmark(text: str) -> str:
    return "".join(c for c in text if not _FIRST <= ord(c) <= _LAST)


def broken(text: str, width: int, measure: Callable[[str], int]) -> list[tuple[str, int]]:
    """The formula in lines of at most `width`, with the depth of each, broken at the outermost places that do."""

    def split(part: str, depth: int) -> list[tuple[str, int]]:
        if measure(unmark(part)) <= width - 4 * (depth > 0) or depth > _LAST - _FIRST:
            return [(part, 0)]
        lines: list[str] = []
        for segment in part.split(mark(depth)):
            if lines and measure(unmark(lines[-1] + segment)) <= width:
                lines[-1] += segment
            else:
                lines.append(segment)
        found = []
        for line in lines:
            first, *rest = split(line, depth + 1)
            found += [first, *((x, 1) for x, _ in rest)]
        return found

    return [(unmark(x).strip(), min(depth, 1)) for x, depth in split(text, 0)]


def _names_in(selection: Selection) -> set[str]:
    """Families, indices and parameters in the equations of a selection."""
    names = {p.name for p in selection.names.program.parameters}
    if selection.simulation is not None:
        names.update((*selection.simulation.families, *selection.simulation.gaussians))
    for table in (*selection.nngp, *selection.ntk):
        names.update(table.key.families)
        names.update(r.name for c in table.clauses for r in c.binders)
        for clause in table.clauses:
            for node in ir.walk(clause.value):
                match node:
                    case Read(key):
                        names.update(key.families)
                    case ir.Sum(ranges):
                        names.update(r.name for r in ranges)
    return names


class Formulas:
    """The formulas of a selection in one notation.

    What an expectation's letters stand for gathers in `where` until `statement` returns it.
    """

    def __init__(self, notation: Notation, selection: Selection):
        self.n, self.selection = notation, selection
        self.primitives = dict(selection.tangents.primitives) if selection.tangents else {}
        self.sizes = {s for p in selection.names.program.parameters for s in (p.name, p.name + "'")}
        self.taken = _names_in(selection)
        self._table: Table
        self._target: tuple[Affine, ...]
        self._reset()

    def _reset(self) -> None:
        self.where: list[str] = []
        self._letters: dict[tuple[str, object], int] = {}

    # ------------------------------------------------------------ statements

    def statement(self, table: Table, clause: Clause) -> tuple[str, str, list[str]]:
        """Left side, right side with its marks, and what the letters in it stand for."""
        self._reset()
        self._table, self._target = table, clause.target
        right = self.node(clause.value)
        return self.entry(table, clause.target, None), right.text, self.where

    def random_variables(self) -> list[tuple[str, str, Definition, list[str]]]:
        """The equations of the random variables that are sampled, as `statement` gives those of tables."""
        found = []
        for d in self.selection.simulation.definitions if self.selection.simulation else ():
            self._reset()
            left = self.n.member(d.name, d.case.target, False)
            right = self._random_body(d.case.body)
            if d.moment:
                right = Piece(self.n.expectation(deepen(right.text)))
            found.append((left if self._is_scalar(d.name) else self.n.random(left), right.text, d, self.where))
        return found

    def functions(self) -> list[str]:
        """The functions of the program in the equations of random variables: gate(x) = 1/2 + erf(x)/2."""
        found = []
        for f in self.selection.simulation.functions if self.selection.simulation else ():
            arguments = {a: Piece(self.n.letter(a.name.removeprefix("_"), 1)) for a in f.arguments}
            left = self.n.call(f.name, ", ".join(p.text for p in arguments.values()))
            found.append(self.n.define(left, self.n.number(f.body, arguments).text))
        return found

    def scope(self, clause: Clause) -> tuple[list[Range], list[str]]:
        """The ranges of a clause and its conditions."""
        return list(clause.binders), self.conditions(clause.conditions)

    # ------------------------------------------------------------ entries

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
            data = self.selection.names.program.families[f].type
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

    # ------------------------------------------------------------ nodes

    def node(self, node: Node) -> Piece:
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
                return self._add([self.node(t) for t in terms])
            case ir.Product(factors):
                return self._product(factors)
            case ir.Sum(ranges, conditions, body):
                inner = self.node(body)
                return self.n.total(ranges, self.conditions(conditions), self._inside(inner))
            case ir.Where(conditions, then, otherwise):
                return self._cases(self.conditions(conditions), then, otherwise)
            case ir.Apply(expression, arguments):
                return self.n.number(expression, {s: self._flat(a) for s, a in arguments})
            case ir.Reduce(kind, range_, conditions, body, at):
                return self._reduce(kind, range_, conditions, body, at)
            case ir.PairExpectation():
                return self._pair(node)
            case ir.SingleExpectation():
                return self._single(node)
            case ir.JointExpectation():
                return self._joint(node)
            case ir.Sampled():
                return self._sampled(node)
            case ir.BatchnormExpectation():
                return self._batchnorm(node)
            case ir.BatchnormMean():
                return self._batchnorm_mean(node)
        raise AssertionError(node)

    def table(self, key: Key) -> Table:
        return table_of(key, self.selection.tables, self.selection.names.program)

    def _flat(self, node: Node) -> Piece:
        """A formula to be put into another by the printer of expressions, which breaks no lines."""
        piece = self.node(node)
        return Piece(unmark(piece.text), piece.level, piece.wide)

    def _inside(self, piece: Piece) -> Piece:
        return Piece(deepen(piece.text), piece.level, piece.wide)

    def _tight(self, piece: Piece, last: bool = True) -> str:
        """A factor; in parentheses where it must be."""
        if piece.level == SUM or (piece.wide and not last):
            return self.n.parentheses(deepen(piece.text))
        return deepen(piece.text)

    def _add(self, pieces: Sequence[Piece]) -> Piece:
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
                    values |= {swap[s]: self._flat(a) for s, a in arguments}
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
            body = self.n.times([self._tight(p, i == len(pieces) - 1) for i, p in enumerate(pieces)])
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
        body = self.n.times([self._tight(p, i == len(pieces) - 1) for i, p in enumerate(pieces)])
        return Piece(sign + body, PRODUCT, wide)

    def _cases(self, conditions: list[str], then: Node, otherwise: Node) -> Piece:
        pieces = []
        for value, negated in ((then, False), (otherwise, True)):
            if not ir.is_zero(value):
                pieces.append(self._masked(conditions, negated, self.node(value)))
        return self._add(pieces) if pieces else self.node(ir.ZERO)

    def _masked(self, conditions: Sequence[str], negated: bool, piece: Piece) -> Piece:
        """An indicator times a piece; the indicator alone where that is 1."""
        shown = self.n.indicator(conditions, negated)
        if piece.text == self.node(ir.ONE).text:
            return Piece(shown)
        return Piece(self.n.times([shown, self._tight(piece)]), PRODUCT, piece.wide)

    def _reduce(self, kind: str, range_: Range, conditions, body: Node, at: Affine | None) -> Piece:
        if kind == "softmax":
            assert at is not None
            above = self._flat(ir.substitute(body, {range_.name: at}))
            return self.n.softmax(range_, above.text, self._flat(body).text)
        return self.n.reduction(kind, (range_,), self.conditions(conditions), self._inside(self.node(body)))

    # ------------------------------------------------------------ conditions

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

    # ------------------------------------------------------------ expectations

    def _letter(self, name: str, number: int, primed: bool = False) -> str:
        """A letter that the equations do not use for something else."""
        together = {"p", "q"} if name in ("p", "q") else {name}
        return self.n.letter(INSTEAD[name] if together & self.taken else name, number, primed)

    def _number_of(self, kind: str, what: object) -> int:
        """Which of its kind in this statement: letters of the second get a 2."""
        if (kind, what) not in self._letters:
            self._letters[kind, what] = 1 + sum(1 for k, _ in self._letters if k == kind)
        return self._letters[kind, what]

    def _scalars(self, node) -> dict[sympy.Symbol, Piece]:
        pairs = [*getattr(node, "scalars_f", ()), *getattr(node, "scalars_g", ()), *getattr(node, "scalars", ())]
        return {s: self._flat(n) for s, n in pairs}

    def _pair(self, node: ir.PairExpectation) -> Piece:
        form = closed.pair_form(node, self.primitives)
        if form is None:
            return self._open_pair(node)
        values = self._scalars(node)
        parts = {closed.K: node.k, closed.P: node.p, closed.Q: node.q, closed.MU: node.mu, closed.NU: node.nu}
        pieces = {s: self._flat(n) for s, n in parts.items() if n is not None}
        return self._filled(form, pieces, values, (node.k, node.p, node.q))

    def _filled(self, form: closed.Form, pieces: dict[sympy.Symbol, Piece], values, what: object) -> Piece:
        """A closed form with entries put in, or with letters for them where that would be too wide."""
        e = form.expression
        ratio = closed.K / sympy.sqrt(closed.P * closed.Q)
        if form.correlation and e.count(closed.C) == 1:
            e = e.xreplace({closed.C: ratio})
        direct = self._put(e, ratio, {**values, **pieces}, what)
        if self.n.width(direct.text) <= self.n.inline:
            return direct
        self._undefine("c", what)
        e = form.expression
        used = (e.free_symbols | (ratio.free_symbols if closed.C in e.free_symbols else set())) & pieces.keys()
        letters = {}
        for s in (closed.K, closed.P, closed.Q, closed.MU, closed.NU):
            if s in used and not (s == closed.K and form.correlation):
                letters[s] = Piece(self._define(s.name, (s, pieces[s].text), pieces[s].text))
        return self._put(e, ratio, {**values, **pieces, **letters}, what)

    def _put(self, e: sympy.Expr, ratio: sympy.Expr, values, what: object) -> Piece:
        """Values put into a closed form; a correlation in it gets its letter."""
        if closed.C in e.free_symbols:
            letter = self._define("c", what, self.n.number(ratio, values).text)
            values = {**values, closed.C: Piece(letter)}
        return self._long(e, values)

    def _long(self, e: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> Piece:
        """An expression, with places to break it where it is wide."""
        whole = self.n.number(e, values)
        if self.n.width(whole.text) <= self.n.inline:
            return whole
        if e.is_Add:
            return self._add([self._long(t, values) for t in sums_in_order(e.as_ordered_terms())])
        sums = [x for x in e.args if x.is_Add] if e.is_Mul else []
        if not sums:
            return whole
        rest = sympy.Mul(*(x for x in e.args if not x.is_Add))
        pieces = [self._long(x, values) for x in (rest, *sums) if x != 1]
        return Piece(self.n.times([self._tight(p) for p in pieces]), PRODUCT)

    def _define(self, name: str, what: object, value: str) -> str:
        letter = self._letter(name, self._number_of(name, what))
        line = self.n.define(letter, unmark(value))
        if line not in self.where:
            self.where.append(line)
        return letter

    def _undefine(self, name: str, what: object) -> None:
        if (name, what) in self._letters:
            letter = self._letter(name, self._letters.pop((name, what)))
            self.where = [w for w in self.where if not w.startswith(self.n.define(letter, ""))]

    def _open_pair(self, node: ir.PairExpectation) -> Piece:
        """E f(z) g(z') as it stands, with the law of (z, z')."""
        same = node.same == () and node.k == node.p == node.q
        what = (node.k, node.p, node.q, node.mu, node.nu)
        number = self._number_of("z", what)
        z, w = self._letter("z", number), self._letter("z", number, primed=not same)
        values = self._scalars(node)
        if same and node.f.xreplace({node.z: node.w}) == node.g:
            body = self.n.number(node.f**2, {**values, node.z: Piece(z)}).text
        else:
            body = self._two(node.f, node.g, {**values, node.z: Piece(z), node.w: Piece(w)})
        k, p, q = (self._flat(x).text for x in (node.k, node.p, node.q))
        means = None
        if node.mu is not None or node.nu is not None:
            means = [self._flat(m if m is not None else ir.ZERO).text for m in (node.mu, node.nu)]
        if same:
            law = self.n.gaussian([z], means and means[:1], [[p]])
        else:
            law = self.n.gaussian([z, w], means, [[p, k], [k, q]])
        self._note(law)
        return Piece(self.n.expectation(deepen(body)))

    def _two(self, f: sympy.Expr, g: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> str:
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
        return sign + self.n.times([self._tight(p) for p in pieces])

    def _note(self, line: str) -> None:
        if line not in self.where:
            self.where.append(line)

    def _single(self, node: ir.SingleExpectation) -> Piece:
        form = closed.mean_form(node)
        values = self._scalars(node)
        q = self._flat(node.q)
        if form is not None:
            pieces = {closed.P: q} | ({closed.MU: self._flat(node.mu)} if node.mu is not None else {})
            return self._filled(form, pieces, values, (node.q, node.mu))
        z = self._letter("z", self._number_of("z", (node.q, node.mu)))
        means = None if node.mu is None else [self._flat(node.mu).text]
        self._note(self.n.gaussian([z], means, [[q.text]]))
        return Piece(self.n.expectation(self.n.number(node.f, {**values, node.z: Piece(z)}).text))

    def _joint(self, node: ir.JointExpectation) -> Piece:
        values = self._scalars(node)
        number = self._number_of("Z", (node.covariance, node.means))
        count = len(node.zs)
        letters = [self._variable(s, number) for s in (*node.zs, *node.ws)]
        names = {s: Piece(x) for s, x in zip((*node.zs, *node.ws), letters, strict=True)}
        body = self._two(node.f, node.g, {**values, **names})
        found = []
        for i, j, entry in joint_rules.entries(node):
            if not ir.is_zero(entry):
                # Across the two runs, the left run's variable comes first.
                a, b = (j, i) if i >= count > j else (i, j)
                found.append((letters[a], letters[b], self._flat(entry).text))
        shown = [(x, self._flat(m).text) for x, m in zip(letters, node.means, strict=True) if m is not None]
        zeros = len(found) < len(node.covariance)
        for line in self.n.moments(letters, shown, found, zeros):
            self._note(line)
        return Piece(self.n.expectation(deepen(body)))

    def _variable(self, s: sympy.Symbol, number: int) -> str:
        """A Gaussian is called as its vector, numbered where several of a family or of a statement meet."""
        primed = s.name.endswith("'")
        stem, _, k = s.name.rstrip("'").partition("#")
        suffix = int(k) if k else 1
        return self.n.letter(stem, suffix if number == 1 else 10 * number + suffix, primed)

    # ------------------------------------------------------------ what is sampled

    def _is_scalar(self, name: str) -> bool:
        return isinstance(self.selection.names.program.families[name].type, Scalar)

    def _random(self, r: Reference, primed: bool = False) -> str:
        """Z^u of a vector; what is no vector by its name."""
        shown = self.n.member(r.name, r.indices, primed)
        return shown if isinstance(self.selection.names.program.families[r.name].type, Data) else self.n.random(shown)

    def _random_body(self, body) -> Piece:
        program = self.selection.names.program
        if isinstance(body, Pointwise):
            values = {s: Piece(self._random(r)) for s, r in body.vectors}
            values |= {s: self._flat(scalar_node(f, program)) for s, f in body.scalars}
            values |= {s: self._reduction_of(r) for s, r in body.reductions}
            return self._long(body.expression, values)
        assert isinstance(body, Linear), body
        pieces = []
        for t in body.terms:
            factor = ir.product(ir.Constant(t.coefficient), *(scalar_node(f, program) for f in t.scalars))
            piece = self.node(factor)
            if t.vector is not None:
                z = Piece(self._random(t.vector))
                text = self.n.times([self._tight(piece, False), z.text])
                piece = z if factor == ir.ONE else Piece(text, PRODUCT)
            conditions = self.conditions(t.conditions)
            if t.sums:
                piece = self.n.total(t.sums, conditions, self._inside(piece))
            elif conditions:
                piece = replace(self._masked(conditions, False, piece), wide=False)
            pieces.append(piece)
        return self._add(pieces) if pieces else self.node(ir.ZERO)

    def _reduction_of(self, r: VectorReduction) -> Piece:
        """max[a = 0..1](Z^z[p+a]); one that is read at an index has it behind, unless it is that of its range."""
        inner = self._random_body(r.body)
        body = Piece(unmark(inner.text), inner.level)
        if r.kind == "sum":
            return self._without_marks(self.n.total(r.ranges, (), body))
        if r.eps is not None:
            eps = self._flat(scalar_node(r.eps, self.selection.names.program))
            body = Piece(f"{body.text}, {self.n.define(self.n.letter('epsilon', 1), eps.text)}")
        found = self._without_marks(self.n.reduction(r.kind, r.ranges, (), body))
        return found if not r.at or own_index(r) else Piece(self.n.element(found.text, r.at))

    def _without_marks(self, piece: Piece) -> Piece:
        return Piece(unmark(piece.text), piece.level, piece.wide)

    def _sampled(self, node: ir.Sampled) -> Piece:
        (name, indices), right = node.left, node.right
        if self._is_scalar(name):
            return self.n.sampled(self.n.expectation(deepen(self._random_body(self._body_of(name, indices)).text)))
        u = self._random(Reference(name, indices))
        if right is None:
            return self.n.sampled(self.n.expectation(u))
        v = self._random(Reference(*right), self._table.key.stream == "cross")
        if not node.moved:
            return self.n.sampled(self.n.expectation(self.n.times([u, v])))
        assert self.selection.tangents is not None
        moving = [k.families for k in node.tables if tangent_key(k) in self.selection.tangents.tables]
        letters = [self._letter("g", 1), self._letter("g", 1, primed=True)]
        for side, letter in enumerate(letters):
            families = dict.fromkeys(self.n.member(k[-side], (), side == 1) for k in moving)
            self._note(self.n.members(letter, list(families)))
        slopes = [self.n.slope(z, self.n.random(g)) for z, g in zip((u, v), letters, strict=True)]
        law = self.n.pair("tangent", *letters)
        return self.n.sampled(
            self.n.over_gaussians(letters, self.n.times([self.n.expectation(self.n.times(slopes)), law])).text
        )

    def _body_of(self, name: str, indices: tuple[Affine, ...]):
        cases = self.selection.names.reader.cases(name)
        return next(c.body for c in cases if c.target == indices)

    # ------------------------------------------------------------ batch normalization

    def _batchnorm(self, node: ir.BatchnormExpectation) -> Piece:
        """The integral over two Laplace variables, or its derivative by the covariances between the batches."""
        i, j = (Affine.symbol(r.name) for r in (node.rows[0], node.columns[0]))
        if node.moved is not None:
            whole = self.entry(self.table(primal_key(self._table.key)), self._target, None)
            if isinstance(node.k, Read):
                by = self._flat(node.k).text
            else:
                by = self.n.element(self._letter("k", 1), (i, j))
                self._note(self.n.define(by, self._flat(node.k).text))
            body = self.n.times([self.n.slope(whole, by), self._tight(self.node(node.moved))])
            return self.n.total((node.rows[0], node.columns[0]), (), Piece(deepen(body), PRODUCT))
        runs = (node.rows, node.columns)
        blocks = [
            (self._letter(name, 1), indices, value)
            for name, indices, value in (
                ("p", tuple(Affine.symbol(r.name) for r in node.rows), node.p),
                ("k", (i, j), node.k),
                ("q", tuple(Affine.symbol(r.name) for r in node.columns), node.q),
            )
        ]
        words = self._batch_letters(runs, (node.eps, node.other_eps), [b[0] for b in blocks])
        piece = self._integral(words, blocks)
        z, w = self._letter("z", 1), self._letter("z", 1, primed=True)
        a, b = slopes_shown(node.phi, Piece(z), self.n), slopes_shown(node.gamma, Piece(w), self.n)
        dual = self.n.expectation(self.n.times([self._tight(a), self._tight(b)]))
        self._note(self.n.define(words.value, unmark(dual)))
        at, other = node.at, node.other_at
        rows = [[self.n.element(words.pi, (x, y)) for y in (at, other)] for x in (at, other)]
        self._note(unmark(self.n.gaussian([z, w], None, rows)))
        return piece

    def _batchnorm_mean(self, node: ir.BatchnormMean) -> Piece:
        block = (self._letter("p", 1), tuple(Affine.symbol(r.name) for r in node.rows), node.p)
        words = self._batch_letters((node.rows,), (node.eps,), [block[0]])
        piece = self._integral(words, [block])
        z = self._letter("z", 1)
        self._note(self.n.define(words.value, self.n.expectation(slopes_shown(node.phi, Piece(z), self.n).text)))
        self._note(unmark(self.n.gaussian([z], None, [[self.n.element(words.pi, (node.at, node.at))]])))
        return piece

    def _integral(self, words: BatchLetters, blocks) -> Piece:
        piece, notes = self.n.laplace(words)
        for note in notes:
            self._note(note)
        for letter, indices, value in blocks:
            self._note(self.n.define(self.n.element(letter, indices), self._flat(value).text))
        return piece

    def _batch_letters(self, runs, eps: Sequence[Node], blocks: Sequence[str]) -> BatchLetters:
        sizes = []
        for first, _ in runs:
            count = size(first)
            sizes.append(self.n.affine(count) if count is not None else f"|{self.n.member(first.name, (), False)}|")
        return BatchLetters(
            s=tuple(self._letter("s", 1, primed=bool(k)) for k in range(len(runs))),
            sizes=tuple(sizes),
            eps=tuple(None if ir.is_zero(e) else self._flat(e) for e in eps),
            omega=self._letter("Omega", 1),
            centring=self._letter("G", 1),
            diagonal=self._letter("Delta", 1),
            pi=self._letter("Pi", 1),
            value=self._letter("V", 1),
            blocks=tuple(blocks),
        )


def decays(letters: BatchLetters) -> list[tuple[Piece, str, str]]:
    """(ε, size, Laplace variable) of the batches that have an ε."""
    every = zip(letters.eps, letters.sizes, letters.s, strict=True)
    return [(e, b, s) for e, b, s in every if e is not None]


def slopes_shown(slopes: tuple[sympy.Expr, sympy.Expr], z: Piece, notation: Notation) -> Piece:
    """α z + β |z|, with its name where it is relu."""
    x = sympy.Symbol("x", real=True)
    alpha, beta = slopes
    half = sympy.Rational(1, 2)
    relu = lookup("relu")
    assert relu is not None
    shown = relu.symbolic(x) if (alpha, beta) == (half, half) else alpha * x + beta * sympy.Abs(x)
    return notation.number(shown, {x: z})
