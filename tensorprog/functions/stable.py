"""Formulas that overflow, or lose all digits, where their values do not: in terms of sigmoid and softplus.

log(1 + exp(x)) → softplus(x)        log(sigmoid(x)) → -softplus(-x)
(exp(x) - exp(-x))/(exp(x) + exp(-x)) → sigmoid(2·x) - sigmoid(-2·x)
relu(x)**0.75 → step(x)·abs(x)**0.75, whose derivative is no 0·inf for x < 0
"""

from __future__ import annotations

from functools import cache

import sympy

from tensorprog.functions.registry import lookup


@cache
def stable(expr: sympy.Expr) -> sympy.Expr:
    """The same function, by what can be evaluated wherever it is finite."""
    if not expr.args:
        return expr
    if expr.has(sympy.exp):
        expr = _quotients(expr)
    parts = [stable(a) for a in expr.args]
    expr = expr if parts == list(expr.args) else expr.func(*parts)
    if isinstance(expr, sympy.log):
        return _logarithm(expr.args[0])
    return _power(expr) if expr.is_Pow else expr


def _quotients(expr):
    """Terms coefficient·exp(w)/(c·exp(u) + d·exp(v))**n as products of powers of sigmoid(u - v + log(c/d)) and of
    sigmoid(v - u + log(d/c)), where w lies between n·u and n·v.
    """
    bases: dict[sympy.Expr, sympy.Symbol] = {}

    def swap(part):
        return bases.setdefault(part.base, sympy.Dummy("base", positive=True)) ** part.exp

    rest = _outside(expr, swap)
    if not bases:
        return expr
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(rest, power_base=False, power_exp=False, log=False, func=False)):
        found = term.free_symbols & set(bases.values())
        if not found:
            total += term
            continue
        (symbol, *more) = found
        outer, power = term.as_independent(symbol, as_Add=False)
        n = -power.as_base_exp()[1]
        written = (
            None if more else _sigmoids(*_exponential(outer), _two(next(b for b in bases if bases[b] == symbol)), n)
        )
        if written is None:
            return expr
        total += written
    return total


def _outside(expr, swap):
    """The expression with denominators that are sums of two exponentials swapped, but those inside functions."""
    if expr.is_Pow and expr.exp.is_Integer and expr.exp < 0 and _two(expr.base):
        return swap(expr)
    if isinstance(expr, sympy.Add | sympy.Mul) or (expr.is_Pow and expr.exp.is_Integer and expr.exp > 0):
        return expr.func(*(_outside(a, swap) for a in expr.args))
    return expr


def _sigmoids(coefficient, w, terms, n):
    (c, u), (d, v) = terms
    gap = sympy.expand(u - v)
    share = sympy.simplify(sympy.expand(w - n * v) / gap)
    if not (n.is_Integer and share.is_number and 0 <= share <= n):
        return None
    at = gap + sympy.log(c / d)
    left, right = _head("sigmoid")(at), _head("sigmoid")(-at)
    return coefficient * left**share * right ** (n - share) / (c**share * d ** (n - share))


def _two(expr) -> list[tuple[sympy.Expr, sympy.Expr]] | None:
    """(c, u), (d, v) for c·exp(u) + d·exp(v) with positive numbers c and d, and u - v no number."""
    if not expr.is_Add or len(expr.args) != 2 or not expr.has(sympy.exp):
        return None
    terms = [_exponential(t) for t in expr.args]
    if not all(c.is_number and c.is_positive for c, _ in terms) or (terms[0][1] - terms[1][1]).is_number:
        return None
    return terms


def _exponential(term) -> tuple[sympy.Expr, sympy.Expr]:
    """(c, u) with the term = c·exp(u)."""
    coefficient, exponent = [], sympy.Integer(0)
    for factor in sympy.Mul.make_args(term):
        if isinstance(factor, sympy.exp):
            exponent += factor.args[0]
        else:
            coefficient.append(factor)
    return sympy.Mul(*coefficient), exponent


def _head(name):
    found = lookup(name)
    assert found is not None
    return found.symbolic


def _logarithm(argument):
    number, rest = argument.as_independent(*argument.free_symbols, as_Add=False)
    if number != 1 and number.is_positive:
        return sympy.log(number) + _logarithm(rest)
    if type(rest).__name__ == "Sigmoid":
        return -_head("softplus")(-rest.args[0])
    if isinstance(rest, sympy.exp):
        return rest.args[0]
    terms = _two(rest)
    if terms is None:
        return sympy.log(argument)
    (c, u), (d, v) = sorted(terms, key=lambda t: t[1] != 0)
    return u + sympy.log(c) + _head("softplus")(sympy.expand(v - u) + sympy.log(d / c))


def _power(expr):
    if expr.is_Pow and type(expr.base).__name__ == "Relu" and expr.exp.is_Rational and not expr.exp.is_Integer:
        u = expr.base.args[0]
        return _head("step")(u) * _head("abs")(u) ** expr.exp
    return expr
