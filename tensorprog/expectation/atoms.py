"""A function as a linear combination of the functions that closed forms are known for."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from tensorprog import functions
from tensorprog.expectation.plan import Side
from tensorprog.functions.registry import head

_ABS, _SIGN = head("abs"), head("sign")


@dataclass(frozen=True)
class Atom:
    """coefficient · z**power · kind(slope·z + offset); kind is one of 1, exp, sin, cos, erf, abs, sign."""

    coefficient: sympy.Expr
    kind: str
    power: int
    slope: sympy.Expr = sympy.S.One
    offset: sympy.Expr = sympy.S.Zero


_KINDS = {sympy.exp: "exp", sympy.sin: "sin", sympy.cos: "cos", sympy.erf: "erf", _ABS: "abs", _SIGN: "sign"}


def atoms(side: Side) -> list[Atom] | None:
    """The side's function as a sum of atoms, or None where it is not one (or better computed otherwise)."""
    z = side.variable
    expr = sympy.expand(functions.definition(side.expr), power_base=False, power_exp=False, log=False)
    found = []
    for term in sympy.Add.make_args(expr):
        atom = _atom(term, z)
        if atom is None:
            return None
        found.append(atom)
    return None if _cancel_at_zero(side, found) else found


def _atom(term: sympy.Expr, z: sympy.Symbol) -> Atom | None:
    coefficient, rest = term.as_independent(z, as_Add=False)
    power, special = 0, None
    for factor in sympy.Mul.make_args(rest):
        base, exponent = (factor.base, factor.exp) if isinstance(factor, sympy.Pow) else (factor, sympy.Integer(1))
        if base == 1:
            continue
        if not exponent.is_Integer or exponent < 0:
            return None
        if base == z:
            power += int(exponent)
            continue
        if base.func not in _KINDS:
            return None
        slope, offset = _affine(base.args[0], z)
        if slope is None:
            return None
        if base.func in (_ABS, _SIGN):
            # |u|**m and sign(u)**m are u**m or 1 for even m
            if exponent % 2 == 0 and offset == 0:
                coefficient *= slope**exponent if base.func == _ABS else 1
                power += int(exponent) if base.func == _ABS else 0
                continue
            if exponent != 1 and not (base.func == _SIGN and exponent % 2):
                return None
            if offset == 0:  # |az| = |a||z|
                coefficient *= base.func(slope)
                slope = sympy.Integer(1)
        elif exponent != 1:
            return None
        if special is not None:
            return None
        special = (_KINDS[base.func], slope, offset)
    if special is None:
        return Atom(coefficient, "1", power)
    kind, slope, offset = special
    if kind == "sign" and offset == 0 and power % 2 == 1:  # z·sign(z) = |z|
        kind, power = "abs", power - 1
    return Atom(coefficient, kind, power, slope, offset)


def _affine(argument, z):
    if not argument.is_polynomial(z) or sympy.degree(argument, z) != 1:
        return None, None
    return sympy.Poly(argument, z).all_coeffs()


def _cancel_at_zero(side: Side, found: list[Atom]) -> bool:
    """Whether the atoms cancel at zero, as in 1 - cos(z): at small variance the difference of closed forms has no
    digits left.
    """
    z, kinds = side.variable, {atom.kind for atom in found}
    if side.scalars or kinds & {"exp", "abs", "sign"} or len(found) < 2:
        return False
    for order in (0, 1):
        whole = functions.definition(side.expr).diff(z, order).subs(z, 0)
        if whole.equals(0) and any(_value(atom, z).diff(z, order).subs(z, 0) != 0 for atom in found):
            return True
        if not whole.equals(0):
            return False
    return False


def _value(atom: Atom, z) -> sympy.Expr:
    special_head = next((h for h, kind in _KINDS.items() if kind == atom.kind), None)
    special = special_head(atom.slope * z + atom.offset) if special_head else 1
    return atom.coefficient * z**atom.power * special
