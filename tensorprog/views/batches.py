"""Batch normalization: its integral over Laplace variables."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.recursion import Node, Read
from tensorprog.theorem.tangent import primal_key
from tensorprog.views.formula import Formulas, shows
from tensorprog.views.layout import deepen, unmark
from tensorprog.views.notation import PRODUCT, BatchLetters, Piece, slopes_shown, tight
from tensorprog.views.sampled import size


@shows(ir.BatchnormExpectation)
def _batchnorm(formulas: Formulas, node: ir.BatchnormExpectation) -> Piece:
    """The integral over two Laplace variables, or its derivative by the covariances between the batches."""
    n = formulas.n
    i, j = (Affine.symbol(r.name) for r in (node.rows[0], node.columns[0]))
    if node.moved is not None:
        whole = formulas.entry(formulas.table(primal_key(formulas.at_table.key)), formulas.at_target, None)
        if isinstance(node.k, Read):
            by = formulas.flat(node.k).text
        else:
            by = n.element(formulas.letters.letter("k", 1), (i, j))
            formulas.letters.note(n.define(by, formulas.flat(node.k).text))
        body = n.times([n.slope(whole, by), tight(n, formulas.node(node.moved))])
        return n.total((node.rows[0], node.columns[0]), (), Piece(deepen(body), PRODUCT))
    runs = (node.rows, node.columns)
    blocks = [
        (formulas.letters.letter(name, 1), indices, value)
        for name, indices, value in (
            ("p", tuple(Affine.symbol(r.name) for r in node.rows), node.p),
            ("k", (i, j), node.k),
            ("q", tuple(Affine.symbol(r.name) for r in node.columns), node.q),
        )
    ]
    words = _batch_letters(formulas, runs, (node.eps, node.other_eps), [b[0] for b in blocks])
    piece = _integral(formulas, words, blocks)
    z, w = formulas.letters.letter("z", 1), formulas.letters.letter("z", 1, primed=True)
    a, b = slopes_shown(node.phi, Piece(z), n), slopes_shown(node.gamma, Piece(w), n)
    dual = n.expectation(n.times([tight(n, a), tight(n, b)]))
    formulas.letters.note(n.define(words.value, unmark(dual)))
    at, other = node.at, node.other_at
    rows = [[n.element(words.pi, (x, y)) for y in (at, other)] for x in (at, other)]
    formulas.letters.note(unmark(n.gaussian([z, w], None, rows)))
    return piece


@shows(ir.BatchnormMean)
def _batchnorm_mean(formulas: Formulas, node: ir.BatchnormMean) -> Piece:
    n = formulas.n
    block = (formulas.letters.letter("p", 1), tuple(Affine.symbol(r.name) for r in node.rows), node.p)
    words = _batch_letters(formulas, (node.rows,), (node.eps,), [block[0]])
    piece = _integral(formulas, words, [block])
    z = formulas.letters.letter("z", 1)
    formulas.letters.note(n.define(words.value, n.expectation(slopes_shown(node.phi, Piece(z), n).text)))
    formulas.letters.note(unmark(n.gaussian([z], None, [[n.element(words.pi, (node.at, node.at))]])))
    return piece


def _integral(formulas: Formulas, words: BatchLetters, blocks) -> Piece:
    n = formulas.n
    piece, notes = n.laplace(words)
    for note in notes:
        formulas.letters.note(note)
    for letter, indices, value in blocks:
        formulas.letters.note(n.define(n.element(letter, indices), formulas.flat(value).text))
    return piece


def _batch_letters(formulas: Formulas, runs, eps: Sequence[Node], blocks: Sequence[str]) -> BatchLetters:
    n = formulas.n
    sizes = []
    for first, _ in runs:
        count = size(first)
        sizes.append(n.affine(count) if count is not None else f"|{n.member(first.name, (), False)}|")
    return BatchLetters(
        s=tuple(formulas.letters.letter("s", 1, primed=bool(k)) for k in range(len(runs))),
        sizes=tuple(sizes),
        eps=tuple(None if ir.is_zero(e) else formulas.flat(e) for e in eps),
        omega=formulas.letters.letter("Omega", 1),
        centring=formulas.letters.letter("G", 1),
        diagonal=formulas.letters.letter("Delta", 1),
        pi=formulas.letters.letter("Pi", 1),
        value=formulas.letters.letter("V", 1),
        blocks=tuple(blocks),
    )
