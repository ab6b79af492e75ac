"""Functions of several Gaussians that are piecewise linear on cones, as relu(z + c·relu(u)), in pieces that have closed
forms.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from tensorprog.functions.registry import head

_HEADS = tuple(map(head, ("relu", "step", "abs", "sign")))
_RELU, _STEP, _ABS, _SIGN = _HEADS
_LEAKY = head("leaky_relu")
MOST_PIECES = 16

Form = dict[int, sympy.Expr]
"""A linear form: the coefficient of each variable."""


@dataclass(frozen=True)
class Piece:
    """coefficient · kind(forms[0]) · step(forms[1]); kind is "relu" or "step", and forms may be missing."""

    coefficient: sympy.Expr
    kind: str
    forms: tuple[Form, ...]


def pieces(expr: sympy.Expr, variables: dict[int, sympy.Symbol]) -> list[Piece] | None:
    """The expression as a sum of pieces, or None where it is not one."""
    leaky = expr.replace(
        lambda part: isinstance(part, _LEAKY),
        lambda part: (
            part.args[1] * part.args[0] + (1 - part.args[1]) * _RELU(part.args[0]) if part.args[1].is_number else part
        ),
    )
    try:
        found = _pieces(leaky, [], variables)
    except _NoPieces:
        return None
    merged: dict[tuple, sympy.Expr] = {}
    for piece in found:
        key = piece.kind, tuple(tuple(sorted(form.items())) for form in piece.forms)
        merged[key] = merged.get(key, sympy.Integer(0)) + piece.coefficient
    result = [
        Piece(coefficient, kind, tuple(map(dict, forms)))
        for (kind, forms), coefficient in merged.items()
        if coefficient != 0
    ]
    return result if len(result) <= MOST_PIECES else None


class _NoPieces(Exception):
    """The expression is not piecewise linear, or has too many kinks."""


def _pieces(expr, conditions: list[Form], variables) -> list[Piece]:
    """Those of expr·(step of each condition)."""
    if len(conditions) > 2:
        raise _NoPieces
    total = []
    for term in sympy.Add.make_args(sympy.expand(expr, power_base=False, power_exp=False, log=False)):
        if term == 0:
            continue
        nested = _nested(term, variables)
        if nested is None:
            total += _flat(term, conditions, variables)
            continue
        form = _form(nested, variables)
        if form is None:
            raise _NoPieces
        for sign in (1, -1):
            signed = {i: sign * a for i, a in form.items()}
            total += _pieces(_on_one_side(term, nested, sign), _with(conditions, signed), variables)
    return total


def _nested(term, variables):
    """An argument of a kinked function inside another function, without kinks itself; or of two kinked factors."""
    arguments: dict[sympy.Expr, list[sympy.Expr]] = {}
    for part in sympy.preorder_traversal(term):
        if part.func in _HEADS and part.free_symbols & set(variables.values()):
            inner = part.args[0]
            if not inner.has(*_HEADS):
                arguments.setdefault(inner, []).append(part)
            else:
                deeper = [p for p in sympy.preorder_traversal(inner) if p.func in _HEADS]
                return min((p.args[0] for p in deeper if not p.args[0].has(*_HEADS)), key=str)
    for inner, parts in sorted(arguments.items(), key=lambda item: str(item[0])):
        power = max((f.exp for f in sympy.Mul.make_args(term) if f.is_Pow and f.base in parts), default=1)
        if len(set(parts)) > 1 or power != 1 or -inner in arguments:
            return inner
    return None


def _on_one_side(term, argument, sign):
    """The term where the argument has the sign."""

    def value(part):
        along = sign if part.args[0] == argument else -sign
        inner = part.args[0]
        if isinstance(part, _RELU):
            return inner if along > 0 else sympy.Integer(0)
        if isinstance(part, _ABS):
            return along * inner
        return sympy.Integer(1) if along > 0 else sympy.Integer(-1 if isinstance(part, _SIGN) else 0)

    found = lambda part: part.func in _HEADS and part.args[0] in (argument, -argument)  # noqa: E731
    return term.replace(found, value).replace(
        lambda part: part.func in _HEADS, lambda part: part.func(sympy.expand(part.args[0]))
    )


def _form(expr, variables) -> Form | None:
    """The expression as a linear form without a constant, or None."""
    symbols = list(variables.values())
    if not expr.is_polynomial(*symbols):
        return None
    polynomial = sympy.Poly(expr, *symbols)
    form = {}
    for powers, coefficient in polynomial.terms():
        if sum(powers) != 1:
            return None
        form[list(variables)[powers.index(1)]] = coefficient
    return form or None


def _with(conditions: list[Form], form: Form) -> list[Form]:
    return conditions if form in conditions else [*conditions, form]


def _negative(form: Form) -> Form:
    return {i: -a for i, a in form.items()}


def _flat(term, conditions, variables) -> list[Piece]:
    """A product of numbers, linear forms and functions of linear forms."""
    coefficient, rest = term.as_independent(*variables.values(), as_Add=False)
    choices: list[list[tuple[int, str, Form]]] = []  # for every factor the alternatives (sign, kind, form)
    for factor in sympy.Mul.make_args(rest):
        if factor == 1:
            continue
        kinked = next((h for h in _HEADS if isinstance(factor, h)), None)
        form = _form(factor.args[0] if kinked else factor, variables)
        if form is None:
            raise _NoPieces
        kind = "step" if kinked in (_STEP, _SIGN) else "relu"
        if kinked in (_RELU, _STEP):
            choices.append([(1, kind, form)])
        else:
            # |l| and l are relu(l) +- relu(-l), sign(l) is step(l) - step(-l)
            choices.append([(1, kind, form), (1 if kinked is _ABS else -1, kind, _negative(form))])
    if sum(options[0][1] == "relu" for options in choices) > 1:
        raise _NoPieces
    chosen: list[tuple[int, list[tuple[str, Form]]]] = [(1, [("step", form) for form in conditions])]
    for options in choices:
        chosen = [(sign * s, [*parts, (kind, form)]) for sign, parts in chosen for s, kind, form in options]
    return [piece for sign, parts in chosen if (piece := _piece(sign * coefficient, parts)) is not None]


def _piece(coefficient, parts: list[tuple[str, Form]]) -> Piece | None:
    distinct: dict[tuple, str] = {}
    for kind, form in parts:
        key = tuple(sorted(form.items()))
        if tuple(sorted(_negative(form).items())) in distinct:
            return None  # the two exclude each other
        if distinct.get(key) != "relu":
            distinct[key] = kind
    ordered = sorted(distinct.items(), key=lambda item: item[1] != "relu")
    if len(ordered) > 2:
        raise _NoPieces
    kind = ordered[0][1] if ordered else "step"
    return Piece(coefficient, kind, tuple(dict(key) for key, _ in ordered))
