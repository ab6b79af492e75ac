"""Gaussian expectations: closed forms, or E f(z) g(z') with the law of its Gaussians."""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.theorem import joint_rules
from tensorprog.views import closed
from tensorprog.views.formula import Formulas, shows
from tensorprog.views.layout import deepen
from tensorprog.views.notation import Piece


@shows(ir.PairExpectation)
def _pair(formulas: Formulas, node: ir.PairExpectation) -> Piece:
    form = closed.pair_form(node, formulas.primitives)
    if form is None:
        return _open_pair(formulas, node)
    values = formulas.scalars(node)
    parts = {closed.K: node.k, closed.P: node.p, closed.Q: node.q, closed.MU: node.mu, closed.NU: node.nu}
    pieces = {s: formulas.flat(n) for s, n in parts.items() if n is not None}
    return _filled(formulas, form, pieces, values, (node.k, node.p, node.q))


def _filled(formulas: Formulas, form: closed.Form, pieces: dict[sympy.Symbol, Piece], values, what: object) -> Piece:
    """A closed form with entries put in, or with letters for them where that would be too wide."""
    n = formulas.n
    e = form.expression
    ratio = closed.K / sympy.sqrt(closed.P * closed.Q)
    if form.correlation and e.count(closed.C) == 1:
        e = e.xreplace({closed.C: ratio})
    direct = _put(formulas, e, ratio, {**values, **pieces}, what)
    if n.width(direct.text) <= n.inline:
        return direct
    formulas.letters.undefine("c", what)
    e = form.expression
    used = (e.free_symbols | (ratio.free_symbols if closed.C in e.free_symbols else set())) & pieces.keys()
    letters = {}
    for s in (closed.K, closed.P, closed.Q, closed.MU, closed.NU):
        if s in used and not (s == closed.K and form.correlation):
            letters[s] = Piece(formulas.letters.define(s.name, (s, pieces[s].text), pieces[s].text))
    return _put(formulas, e, ratio, {**values, **pieces, **letters}, what)


def _put(formulas: Formulas, e: sympy.Expr, ratio: sympy.Expr, values, what: object) -> Piece:
    """Values put into a closed form; a correlation in it gets its letter."""
    n = formulas.n
    if closed.C in e.free_symbols:
        letter = formulas.letters.define("c", what, n.number(ratio, values).text)
        values = {**values, closed.C: Piece(letter)}
    return formulas.long(e, values)


def _open_pair(formulas: Formulas, node: ir.PairExpectation) -> Piece:
    """E f(z) g(z') as it stands, with the law of (z, z')."""
    n = formulas.n
    same = node.same == () and node.k == node.p == node.q
    what = (node.k, node.p, node.q, node.mu, node.nu)
    number = formulas.letters.number_of("z", what)
    z, w = formulas.letters.letter("z", number), formulas.letters.letter("z", number, primed=not same)
    values = formulas.scalars(node)
    if same and node.f.xreplace({node.z: node.w}) == node.g:
        body = n.number(node.f**2, {**values, node.z: Piece(z)}).text
    else:
        body = formulas.two(node.f, node.g, {**values, node.z: Piece(z), node.w: Piece(w)})
    k, p, q = (formulas.flat(x).text for x in (node.k, node.p, node.q))
    means = None
    if node.mu is not None or node.nu is not None:
        means = [formulas.flat(m if m is not None else ir.ZERO).text for m in (node.mu, node.nu)]
    if same:
        law = n.gaussian([z], means and means[:1], [[p]])
    else:
        law = n.gaussian([z, w], means, [[p, k], [k, q]])
    formulas.letters.note(law)
    return Piece(n.expectation(deepen(body)))


@shows(ir.SingleExpectation)
def _single(formulas: Formulas, node: ir.SingleExpectation) -> Piece:
    n = formulas.n
    form = closed.mean_form(node)
    values = formulas.scalars(node)
    q = formulas.flat(node.q)
    if form is not None:
        pieces = {closed.P: q} | ({closed.MU: formulas.flat(node.mu)} if node.mu is not None else {})
        return _filled(formulas, form, pieces, values, (node.q, node.mu))
    z = formulas.letters.letter("z", formulas.letters.number_of("z", (node.q, node.mu)))
    means = None if node.mu is None else [formulas.flat(node.mu).text]
    formulas.letters.note(n.gaussian([z], means, [[q.text]]))
    return Piece(n.expectation(n.number(node.f, {**values, node.z: Piece(z)}).text))


@shows(ir.JointExpectation)
def _joint(formulas: Formulas, node: ir.JointExpectation) -> Piece:
    n = formulas.n
    values = formulas.scalars(node)
    number = formulas.letters.number_of("Z", (node.covariance, node.means))
    count = len(node.zs)
    letters = [_variable(formulas, s, number) for s in (*node.zs, *node.ws)]
    names = {s: Piece(x) for s, x in zip((*node.zs, *node.ws), letters, strict=True)}
    body = formulas.two(node.f, node.g, {**values, **names})
    found = []
    for i, j, entry in joint_rules.entries(node):
        if not ir.is_zero(entry):
            # Across the two runs, the left run's variable comes first.
            a, b = (j, i) if i >= count > j else (i, j)
            found.append((letters[a], letters[b], formulas.flat(entry).text))
    shown = [(x, formulas.flat(m).text) for x, m in zip(letters, node.means, strict=True) if m is not None]
    zeros = len(found) < len(node.covariance)
    for line in n.moments(letters, shown, found, zeros):
        formulas.letters.note(line)
    return Piece(n.expectation(deepen(body)))


def _variable(formulas: Formulas, s: sympy.Symbol, number: int) -> str:
    """A Gaussian is called as its vector, numbered where several of a family or of a statement meet."""
    n = formulas.n
    primed = s.name.endswith("'")
    stem, _, k = s.name.rstrip("'").partition("#")
    suffix = int(k) if k else 1
    return n.letter(stem, suffix if number == 1 else 10 * number + suffix, primed)
