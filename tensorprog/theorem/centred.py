"""Vectors whose limits have mean zero by the structure of the program."""

from __future__ import annotations

import sympy

from tensorprog.program.instructions import Linear, Pointwise, Reference, Term
from tensorprog.program.types import Scalar, Vector
from tensorprog.theorem.cases import CaseReader


def centred_vectors(reader: CaseReader) -> frozenset[str]:
    """The families of vectors whose limits have mean zero."""
    families = reader.program.families
    zero = {
        f.name
        for f in families.values()
        if isinstance(f.type, Vector) and (f.role == "assigned" or (f.law is not None and f.law.mean == 0))
    }
    while True:
        wrong = {name for name in zero if families[name].role == "assigned" and not _keeps_zero(reader, name, zero)}
        if not wrong:
            return frozenset(zero)
        zero -= wrong


def _keeps_zero(reader: CaseReader, name: str, zero: set[str]) -> bool:
    for case in reader.cases(name):
        match case.body:
            case Linear(terms):
                if not all(_centred_term(reader, t, zero) for t in terms):
                    return False
            case Pointwise():
                return False
    return True


def _centred_term(reader: CaseReader, t: Term, zero: set[str]) -> bool:
    """Whether a term has mean zero where the vectors `zero` have; -m/r has where m is the Moment of one of them."""
    if t.vector is not None:
        return t.vector.name in zero
    for form in t.scalars:
        leaves = [(s, leaf) for s, leaf in form.arguments if isinstance(leaf, Reference)]
        gone = {s: 0 for s, leaf in leaves if _is_mean(reader, leaf.name, zero)}
        if gone and form.expression.subs(gone) == 0:
            return True
    return False


def _is_mean(reader: CaseReader, name: str, zero: set[str]) -> bool:
    """Whether a C is a linear combination of Moments of the vectors `zero`."""
    family = reader.program.families[name]
    if family.role != "assigned" or not isinstance(family.type, Scalar):
        return False
    for case in reader.cases(name):
        f = case.body
        if not isinstance(f, Pointwise) or f.reductions or not f.vectors:
            return False
        symbols = [s for s, _ in f.vectors]
        if any(r.name not in zero for _, r in f.vectors) or not f.expression.is_polynomial(*symbols):
            return False
        if any(sum(powers) != 1 for powers in sympy.Poly(f.expression, *symbols).monoms()):
            return False
    return True
