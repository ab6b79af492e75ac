"""What is sampled: the equations of the random variables, and expectations of these."""

from __future__ import annotations

from dataclasses import replace

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.program.instructions import Linear, Pointwise, Reference, VectorReduction
from tensorprog.program.types import Data, Scalar
from tensorprog.theorem.tangent import tangent_key
from tensorprog.views.formula import Formulas, shows
from tensorprog.views.layout import deepen, unmark
from tensorprog.views.notation import PRODUCT, Piece, inside, tight
from tensorprog.views.sampled import Definition, own_index, scalar_node


def random_variables(formulas: Formulas) -> list[tuple[str, str, Definition, list[str]]]:
    """The equations of the random variables that are sampled, as `statement` gives those of tables."""
    n = formulas.n
    found = []
    for d in formulas.selection.simulation.definitions if formulas.selection.simulation else ():
        formulas.letters.reset()
        left = n.member(d.name, d.case.target, False)
        right = _random_body(formulas, d.case.body)
        if d.moment:
            right = Piece(n.expectation(deepen(right.text)))
        found.append((left if _is_scalar(formulas, d.name) else n.random(left), right.text, d, formulas.letters.where))
    return found


def functions(formulas: Formulas) -> list[str]:
    """The functions of the program in the equations of random variables: gate(x) = 1/2 + erf(x)/2."""
    n = formulas.n
    found = []
    for f in formulas.selection.simulation.functions if formulas.selection.simulation else ():
        arguments = {a: Piece(n.letter(a.name.removeprefix("_"), 1)) for a in f.arguments}
        left = n.call(f.name, ", ".join(p.text for p in arguments.values()))
        found.append(n.define(left, n.number(f.body, arguments).text))
    return found


def _is_scalar(formulas: Formulas, name: str) -> bool:
    return isinstance(formulas.program.families[name].type, Scalar)


def _random(formulas: Formulas, r: Reference, primed: bool = False) -> str:
    """Z^u of a vector; what is no vector by its name."""
    n = formulas.n
    shown = n.member(r.name, r.indices, primed)
    return shown if isinstance(formulas.program.families[r.name].type, Data) else n.random(shown)


def _random_body(formulas: Formulas, body) -> Piece:
    n = formulas.n
    program = formulas.program
    if isinstance(body, Pointwise):
        values = {s: Piece(_random(formulas, r)) for s, r in body.vectors}
        values |= {s: formulas.flat(scalar_node(f, program)) for s, f in body.scalars}
        values |= {s: _reduction_of(formulas, r) for s, r in body.reductions}
        return formulas.long(body.expression, values)
    assert isinstance(body, Linear), body
    pieces = []
    for t in body.terms:
        factor = ir.product(ir.Constant(t.coefficient), *(scalar_node(f, program) for f in t.scalars))
        piece = formulas.node(factor)
        if t.vector is not None:
            z = Piece(_random(formulas, t.vector))
            text = n.times([tight(n, piece, False), z.text])
            piece = z if factor == ir.ONE else Piece(text, PRODUCT)
        conditions = formulas.conditions(t.conditions)
        if t.sums:
            piece = n.total(t.sums, conditions, inside(piece))
        elif conditions:
            piece = replace(formulas.masked(conditions, False, piece), wide=False)
        pieces.append(piece)
    return formulas.add(pieces) if pieces else formulas.node(ir.ZERO)


def _reduction_of(formulas: Formulas, r: VectorReduction) -> Piece:
    """max[a = 0..1](Z^z[p+a]); one that is read at an index has it behind, unless it is that of its range."""
    n = formulas.n
    inner = _random_body(formulas, r.body)
    body = Piece(unmark(inner.text), inner.level)
    if r.kind == "sum":
        return _without_marks(n.total(r.ranges, (), body))
    if r.eps is not None:
        eps = formulas.flat(scalar_node(r.eps, formulas.program))
        body = Piece(f"{body.text}, {n.define(n.letter('epsilon', 1), eps.text)}")
    found = _without_marks(n.reduction(r.kind, r.ranges, (), body))
    return found if not r.at or own_index(r) else Piece(n.element(found.text, r.at))


@shows(ir.Sampled)
def _sampled(formulas: Formulas, node: ir.Sampled) -> Piece:
    n = formulas.n
    (name, indices), right = node.left, node.right
    if _is_scalar(formulas, name):
        return n.sampled(n.expectation(deepen(_random_body(formulas, _body_of(formulas, name, indices)).text)))
    u = _random(formulas, Reference(name, indices))
    if right is None:
        return n.sampled(n.expectation(u))
    v = _random(formulas, Reference(*right), formulas.at_table.key.stream == "cross")
    if not node.moved:
        return n.sampled(n.expectation(n.times([u, v])))
    assert formulas.selection.tangents is not None
    moving = [k.families for k in node.tables if tangent_key(k) in formulas.selection.tangents.tables]
    letters = [formulas.letters.letter("g", 1), formulas.letters.letter("g", 1, primed=True)]
    for side, letter in enumerate(letters):
        families = dict.fromkeys(n.member(k[-side], (), side == 1) for k in moving)
        formulas.letters.note(n.members(letter, list(families)))
    slopes = [n.slope(z, n.random(g)) for z, g in zip((u, v), letters, strict=True)]
    law = n.pair("tangent", *letters)
    return n.sampled(n.over_gaussians(letters, n.times([n.expectation(n.times(slopes)), law])).text)


def _body_of(formulas: Formulas, name: str, indices: tuple[Affine, ...]):
    cases = formulas.selection.names.reader.cases(name)
    return next(c.body for c in cases if c.target == indices)


def _without_marks(piece: Piece) -> Piece:
    return Piece(unmark(piece.text), piece.level, piece.wide)
