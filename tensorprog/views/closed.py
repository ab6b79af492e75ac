"""Closed forms of the recursion's expectations, in the shape in which they read best."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import sympy

from tensorprog import recursion as ir
from tensorprog.expectation import MeanPlan, Plan, plan_mean, plan_pair
from tensorprog.functions.decimals import rounded

GENERAL = "Gaussian integral"
"""The rule whose formulas are long, where another knows a shorter one."""
K, P, Q = sympy.Dummy("k", real=True), sympy.Dummy("p", positive=True), sympy.Dummy("q", positive=True)
MU, NU = sympy.Dummy("mu", real=True), sympy.Dummy("nu", real=True)
C = sympy.Dummy("c", real=True)

MOST_OPERATIONS = 60
"""A derivative that is longer tells less than E f'(z) g'(w) does."""

Primitives = dict[tuple[sympy.Expr, sympy.Expr], tuple[sympy.Expr, sympy.Expr]]


@dataclass(frozen=True)
class Form:
    """`expression` in K, P, Q, MU, NU and the functions' scalars; in C = K/sqrt(P Q) and not K if `correlation`."""

    expression: sympy.Expr
    correlation: bool


def pair_plan(node: ir.PairExpectation) -> Plan:
    """How the expectation is computed."""
    return plan_pair(node.f, node.g, node.z, node.w, mean_f=node.mu is not None, mean_g=node.nu is not None)


def mean_plan(node: ir.SingleExpectation) -> MeanPlan:
    return plan_mean(node.f, node.z, mean=node.mu is not None)


def pair_form(node: ir.PairExpectation, primitives: Primitives) -> Form | None:
    """The closed form of E f(z) g(w), or None where there is none.

    Where the pair's own rule has none, or a long one, but (f, g) are the derivatives of a pair that has one, it is the
    derivative of that in the covariance (Price's theorem).
    """
    before = primitives.get((node.f, node.g))
    same = node.same == () and node.k == node.p == node.q
    means = node.mu is not None, node.nu is not None
    return _pair_form(node.f, node.g, node.z, node.w, means, before, same)


@cache
def _pair_form(f, g, z, w, means, before, same) -> Form | None:
    mu, nu = (MU if means[0] else 0), (NU if means[1] else 0)

    own = plan_pair(f, g, z, w, mean_f=means[0], mean_g=means[1])
    whole = None if before is None else plan_pair(before[0], before[1], z, w, mean_f=means[0], mean_g=means[1])
    # erf' is a Gaussian, but the papers have its expectation as the derivative of the arcsine kernel

    def form(k):
        found = None if own.rule == GENERAL else own.symbolic(k, P, Q, mu, nu)
        if found is None and whole is not None:
            primitive = whole.symbolic(K, P, Q, mu, nu)
            found = None if primitive is None else _tidy(primitive.diff(K)).xreplace({K: k})
            if found is not None and sympy.count_ops(found) > MOST_OPERATIONS:
                found = None
        if found is None and not (own.rule == GENERAL and any(means)):  # with means they fill more than a line
            found = own.symbolic(k, P, Q, mu, nu)
        return found

    plain = form(K)
    if plain is None:
        return None
    if same:
        # One variable of one run: correlation 1, where a derivative in k need not exist.
        one = sympy.simplify(form(sympy.sqrt(P) * sympy.sqrt(Q)).xreplace({Q: P, NU: MU}))
        return None if one.has(sympy.nan, sympy.zoo, sympy.oo) else Form(one, False)
    if plain.has(sympy.acos, sympy.asin) and K / (sympy.sqrt(P) * sympy.sqrt(Q)) in _ratios(plain):
        return Form(_shortest(_tidy(form(C * sympy.sqrt(P) * sympy.sqrt(Q)))), True)
    return Form(_shortest(_tidy(plain)), False)


def _shortest(e: sympy.Expr) -> sympy.Expr:
    """The expression with common factors out where that makes it shorter."""
    return min((e, sympy.factor_terms(e), sympy.collect_const(sympy.factor_terms(e))), key=sympy.count_ops)


def _ratios(e: sympy.Expr) -> set[sympy.Expr]:
    return {part.args[0] for part in sympy.preorder_traversal(e) if isinstance(part, sympy.asin | sympy.acos)}


@cache
def _mean_form(f, z, mean) -> sympy.Expr | None:
    found = plan_mean(f, z, mean=mean).symbolic(P, MU if mean else 0)
    return None if found is None else _tidy(found)


def mean_form(node: ir.SingleExpectation) -> Form | None:
    """The closed form of E f(z) in P and MU, or None."""
    found = _mean_form(node.f, node.z, node.mu is not None)
    return None if found is None else Form(found, False)


def _tidy(e: sympy.Expr) -> sympy.Expr:
    """Roots of fractions over one denominator, which then cancels: sqrt(1 - k²/pq)·sqrt(pq) becomes sqrt(pq - k²)."""

    def over_one(part):
        base = sympy.together(part.base)
        return sympy.expand_power_base(sympy.Pow(base, part.exp), force=True)

    def is_root(part):
        return part.is_Pow and part.exp.is_Rational and part.exp.q == 2 and part.base.is_Add

    return e.replace(is_root, over_one)


def _order(s: sympy.Symbol) -> tuple:
    return s.name, getattr(s, "dummy_index", 0), str(s.assumptions0)


def for_print(e: sympy.Expr) -> tuple[sympy.Expr, dict[sympy.Symbol, sympy.Symbol]]:
    """sqrt(p)·sqrt(q) as one root, and which symbol of the result stands for which: they are without assumptions,
    so that the root stays one. Fractions of large integers are floats."""
    swap = {s: sympy.Dummy(s.name) for s in sorted(e.free_symbols, key=_order)}

    def merge(part):
        bases: dict[sympy.Expr, list[sympy.Expr]] = {}
        rest = []
        for factor in part.args:
            if factor.is_Pow and abs(factor.exp) == sympy.Rational(1, 2) and not factor.base.is_number:
                bases.setdefault(factor.exp, []).append(factor.base)
            else:
                rest.append(factor)
        roots = [sympy.Pow(sympy.Mul(*b), exponent) for exponent, b in bases.items()]
        return sympy.Mul(*rest, *roots)

    e = rounded(e).xreplace(swap).replace(lambda part: part.is_Mul, merge)
    return e, {dummy: s for s, dummy in swap.items()}
