"""Functions of several Gaussians: E f(z_1, …) g(w_1, …), where quadrature or a sum over pairings covers it."""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.errors import NotDerived
from tensorprog.program.instructions import Pointwise
from tensorprog.recursion import Node
from tensorprog.theorem.derivation import Derivation
from tensorprog.theorem.entries import covariance, mean_or_none
from tensorprog.theorem.flattening import Arguments, arguments_of, of_gaussians, scalars_of
from tensorprog.theorem.joint_rules import has_rule
from tensorprog.theorem.moments import Pair, Single, first_moment, second_moment

MAX_GAUSSIANS = 5
MAX_DEGREE = 10  # of a polynomial of more: 945 pairings


@second_moment(rank=70)
def joint_expectation(d: Derivation, pair: Pair) -> Node | None:
    """E f g. Raises NotDerived where no rule is accurate for so many Gaussians."""
    if not isinstance(pair.f, Pointwise) or not isinstance(pair.g, Pointwise):
        return None
    if not of_gaussians(d, pair.f) or not of_gaussians(d, pair.g):
        return None
    return _joint(d, pair, pair.f, pair.g)


@first_moment(rank=70)
def joint_mean(d: Derivation, single: Single) -> Node | None:
    """E f. Raises NotDerived where no rule is accurate for so many Gaussians."""
    if not isinstance(single.f, Pointwise) or not of_gaussians(d, single.f):
        return None
    return _joint(d, single, single.f, Pointwise(sympy.Integer(1), (), ()))


def drawn(d: Derivation, *sides: Arguments) -> int:
    """How many of these vectors are random: N(1, 0) is a constant, though its gradient has a part in the NTK."""
    return sum(not _is_constant(d, r.name) for vectors in sides for _, r in vectors)


def _is_constant(d: Derivation, name: str) -> bool:
    law = d.family(name).law
    return law is not None and law.variance * law.multiplier == 0


def _joint(d: Derivation, asked: Pair | Single, f: Pointwise, g: Pointwise) -> Node:
    view, span, ranges = asked.view, asked.u.span, asked.context.all_ranges()
    lefts, rights = arguments_of(f), arguments_of(g)
    if drawn(d, lefts, rights) > MAX_GAUSSIANS and not _few_pairings(f.expression, lefts, g.expression, rights):
        raise NotDerived(
            f"products of {len(lefts) + len(rights)} Gaussians at once are not derived yet: "
            f"quadrature covers {MAX_GAUSSIANS}",
            span,
        )
    scalars_f, scalars_g = scalars_of(d, f, view.left), scalars_of(d, g, view.right)
    both = [(r, "left") for _, r in lefts] + [(r, "right") for _, r in rights]
    entries = []
    for a, (u, s) in enumerate(both):
        for v, t in both[: a + 1]:
            inner, first, second = (view.within(s), u, v) if s == t else (view, v, u)
            entries.append(covariance(d, inner, first, second, ranges))
    means = tuple(mean_or_none(d, r, view.run(s)) for r, s in both)
    swap = {s: sympy.Symbol(s.name + "'", real=True) for s, _ in (*rights, *scalars_g)}
    node = ir.JointExpectation(
        f.expression,
        g.expression.xreplace(swap),
        tuple(s for s, _ in lefts),
        tuple(swap[s] for s, _ in rights),
        tuple(entries),
        means,
        scalars_f,
        tuple((swap[s], n) for s, n in scalars_g),
    )
    if not has_rule(node):
        raise NotDerived("no rule is accurate for this expectation", span)
    return node


def _few_pairings(f: sympy.Expr, lefts: Arguments, g: sympy.Expr, rights: Arguments) -> bool:
    """Whether f·g is a polynomial in its Gaussians, of a degree at which Isserlis' sum over pairings is short."""
    degree = 0
    for e, vectors in ((f, lefts), (g, rights)):
        symbols = [s for s, _ in vectors]
        if not e.is_polynomial(*symbols):
            return False
        degree += sympy.Poly(e, *symbols).total_degree() if symbols else 0
    return degree <= MAX_DEGREE
