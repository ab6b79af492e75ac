"""A function as a linear combination of the functions that closed forms are known for."""

from __future__ import annotations

from dataclasses import dataclass

import sympy
from sympy.simplify.fu import TR8

from tensorprog import functions
from tensorprog.expectation.plan import Side
from tensorprog.functions.registry import head

_ABS, _SIGN = head("abs"), head("sign")


@dataclass(frozen=True)
class Atom:
    """coefficient · z**power · kind(slope·z + offset); kind is one of 1, exp, sin, cos, erf, abs, sign.

    Or, of kind "wave": coefficient · z**power · exp(-square·z² + linear·z) · cos(slope·z + offset), square >= 0.
    """

    coefficient: sympy.Expr
    kind: str
    power: int
    slope: sympy.Expr = sympy.S.One
    offset: sympy.Expr = sympy.S.Zero
    square: sympy.Expr = sympy.S.Zero
    linear: sympy.Expr = sympy.S.Zero


_KINDS = {sympy.exp: "exp", sympy.sin: "sin", sympy.cos: "cos", sympy.erf: "erf", _ABS: "abs", _SIGN: "sign"}


def atoms(side: Side) -> list[Atom] | None:
    """The side's function as a sum of atoms, or None where it is not one (or better computed otherwise)."""
    z = side.variable
    expr = functions.definition(side.expr).replace(_is_exponential, lambda e: sympy.exp(e.exp * sympy.log(e.base)))
    expr = sympy.expand(expr, power_base=False, power_exp=False, log=False)
    if any(_waves_in(term) > 1 for term in sympy.Add.make_args(expr)):
        expr = sympy.expand(TR8(expr), power_base=False, power_exp=False, log=False)
    found: dict[tuple, sympy.Expr] = {}
    for term in sympy.Add.make_args(expr):
        atom = _atom(term, z)
        if atom is None:
            return None
        key = (atom.kind, atom.power, atom.slope, atom.offset, atom.square, atom.linear)
        found[key] = found.get(key, sympy.Integer(0)) + atom.coefficient
    merged = [Atom(coefficient, *key) for key, coefficient in found.items() if coefficient != 0]
    return None if _cancel_at_zero(side, merged) else merged


def _is_exponential(e) -> bool:
    return e.is_Pow and e.base.is_number and e.base.is_positive and bool(e.exp.free_symbols)


def _waves_in(term) -> int:
    """How many sines and cosines a product has."""
    powers = (factor.as_base_exp() for factor in sympy.Mul.make_args(term))
    return sum(int(n) if n.is_Integer else 0 for base, n in powers if isinstance(base, sympy.sin | sympy.cos))


def _atom(term: sympy.Expr, z: sympy.Symbol) -> Atom | None:
    coefficient, rest = term.as_independent(z, as_Add=False)
    power, turns, special, exponent = 0, 0, None, sympy.Integer(0)
    for factor in sympy.Mul.make_args(rest):
        if isinstance(factor, sympy.exp):
            exponent += factor.args[0]
            continue
        base, n = factor.as_base_exp()
        if base == 1:
            continue
        if not n.is_Integer or n < 0:
            return None
        if base == z:
            power += int(n)
            continue
        if base.func not in _KINDS:
            return None
        slope, offset = _affine(base.args[0], z)
        if slope is None:
            return None
        if base.func in (_ABS, _SIGN) and offset == 0:  # |az| = |a|·z·sign(z), sign(az) = sign(a)·sign(z)
            coefficient *= base.func(slope) ** n
            power, turns = power + int(n) * (base.func == _ABS), turns + int(n)
            continue
        if base.func == _SIGN and n % 2:
            n = sympy.Integer(1)
        if special is not None or n != 1:
            return None
        special = (_KINDS[base.func], slope, offset)
    if turns % 2:
        if special is not None:
            return None
        special = ("abs" if power else "sign", sympy.Integer(1), sympy.Integer(0))
        power -= 1 if power else 0
    return _with_exponent(coefficient, power, special, sympy.expand(exponent), z)


def _with_exponent(coefficient, power, special, exponent, z) -> Atom | None:
    """The atom of the factors that `_atom` found, times exp(exponent)."""
    if exponent == 0:
        return Atom(coefficient, "1", power) if special is None else Atom(coefficient, special[0], power, *special[1:])
    if not exponent.is_polynomial(z) or sympy.degree(exponent, z) > 2:
        return None
    square, linear, constant = (exponent.coeff(z, i) for i in (2, 1, 0))
    if square == 0 and special is None:
        return Atom(coefficient, "exp", power, linear, constant)
    if not (square == 0 or square.is_negative):
        return None
    kind, slope, offset = special or ("cos", sympy.Integer(0), sympy.Integer(0))
    if kind not in ("sin", "cos"):
        return None
    coefficient *= sympy.exp(constant)
    return Atom(coefficient, "wave", power, slope, offset - (sympy.pi / 2 if kind == "sin" else 0), -square, linear)


def as_wave(atom: Atom) -> Atom | None:
    """The atom as one of kind "wave", or None."""
    match atom.kind:
        case "wave":
            return atom
        case "1":
            return Atom(atom.coefficient, "wave", atom.power, sympy.S.Zero)
        case "exp":
            coefficient = atom.coefficient * sympy.exp(atom.offset)
            return Atom(coefficient, "wave", atom.power, sympy.S.Zero, sympy.S.Zero, sympy.S.Zero, atom.slope)
        case "sin" | "cos":
            turned = atom.offset - (sympy.pi / 2 if atom.kind == "sin" else 0)
            return Atom(atom.coefficient, "wave", atom.power, atom.slope, turned)
    return None


def _affine(argument, z):
    if not argument.is_polynomial(z) or sympy.degree(argument, z) != 1:
        return None, None
    return sympy.Poly(argument, z).all_coeffs()


def _cancel_at_zero(side: Side, found: list[Atom]) -> bool:
    """Whether the atoms cancel at zero, as in 1 - cos(z): at small variance the difference of closed forms has no
    digits left.
    """
    z, kinds = side.variable, {atom.kind for atom in found}
    # z·sin(z) too: a difference of two cosines, each times z
    waves = [wave for atom in found if atom.power and (wave := as_wave(atom)) is not None and wave.slope != 0]
    if any(sympy.cos(wave.offset) == 0 for wave in waves):
        return True
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
    if atom.kind == "wave":
        special = sympy.exp(-atom.square * z**2 + atom.linear * z) * sympy.cos(atom.slope * z + atom.offset)
    else:
        special_head = next((h for h, kind in _KINDS.items() if kind == atom.kind), None)
        special = special_head(atom.slope * z + atom.offset) if special_head else 1
    return atom.coefficient * z**atom.power * special
