"""Functions of H-vars written out in G-vars, and the cases of a family split until that can be done."""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog import recursion as ir
from tensorprog.errors import NotDerived, ProgramError
from tensorprog.index.conditions import Condition
from tensorprog.index.fresh import numbered
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Case, Linear, Pointwise, Reference, ScalarForm
from tensorprog.program.types import Data, Scalar
from tensorprog.recursion import Node
from tensorprog.theorem.derivation import Body, Derivation
from tensorprog.theorem.members import case_at, defined_by
from tensorprog.theorem.runs import sizes_of
from tensorprog.theorem.scalars import at_zero, is_zero_scalar, plain

MAX_SPLITS = 3
MAX_DEPTH = 20

Arguments = list[tuple[sympy.Symbol, Reference]]


class Ambiguous(NotDerived):
    """Which assignment defines a vector inside a function depends on its indices, or such vectors have no end."""

    def __init__(self, reference: Reference):
        super().__init__(
            f"'{reference.name}' is itself a function of vectors before it; "
            "products of such chains are not derived yet",
            reference.span,
        )
        self.reference = reference


def flat(d: Derivation, f: Pointwise, side: str | None, ranges: dict[str, Range]) -> Pointwise:
    """f, of that run, in G-vars, and with the C's put in that are numbers: closed forms are told so.

    Raises NotDerived where an H-var in it reduces over an index, or is a function of others without end.
    """
    f = written_out(d, f, side, ranges)
    known = {s: node.value for s, node in scalars_of(d, f, side) if isinstance(node, ir.Constant)}
    expression = f.expression.xreplace(known)
    if not known or expression.has(sympy.zoo, sympy.nan, sympy.oo):
        return f
    return replace(f, expression=expression)


def of_gaussians(d: Derivation, f: Body) -> bool:
    """Whether a body is a function of G-vars and C's alone."""
    return isinstance(f, Pointwise) and not f.reductions and all(d.gaussian(r.name) for _, r in f.vectors)


def arguments_of(f: Pointwise) -> Arguments:
    """The vectors that the function depends on."""
    return [(s, r) for s, r in f.vectors if s in f.expression.free_symbols]


def scalars_of(d: Derivation, f: Pointwise, side: str | None) -> tuple[tuple[sympy.Symbol, Node], ...]:
    """The C's that the function depends on, of that run."""
    return tuple((s, plain(d, form, side)) for s, form in f.scalars if s in f.expression.free_symbols)


def written_out(d: Derivation, f: Pointwise, side: str | None, ranges: dict[str, Range], depth: int = 0) -> Pointwise:
    """f, of that run, in G-vars, with 0 for C's that are zero. Raises NotDerived as `flat` does."""
    f = _without_zeros(d, f)
    if f.reductions:
        raise NotDerived(f"the limit of {f.reductions[0][1].kind}[…] over vectors has no closed form here")
    for symbol, r in f.vectors:
        if d.gaussian(r.name):
            continue
        found = case_at(d, r, side, ranges) if depth <= MAX_DEPTH else None
        if found is None:
            raise Ambiguous(r)
        case, mapping = found
        inner = _as_pointwise(d.reader.put(case.body, {**mapping, **sizes_of(d.program, side)}), r)
        return written_out(d, _composed(f, symbol, inner), side, ranges, depth + 1)
    return f


def _composed(f: Pointwise, symbol: sympy.Symbol, inner: Pointwise) -> Pointwise:
    """f with a function in place of one of its arguments."""
    vectors = dict((v, s) for s, v in f.vectors if s != symbol)
    scalars = dict(f.scalars)
    swap = {}
    taken = {s.name for s in (*vectors.values(), *scalars)}
    for s, v in inner.vectors:
        swap[s] = vectors.setdefault(v, _unused(s, taken))
        taken.add(swap[s].name)
    fresh = {}
    for s, form in inner.scalars:
        swap[s] = _unused(s, taken)
        taken.add(swap[s].name)
        fresh[swap[s]] = form
    expression = f.expression.xreplace({symbol: inner.expression.xreplace(swap)})
    return Pointwise(expression, tuple((s, v) for v, s in vectors.items()), tuple((scalars | fresh).items()))


def _without_zeros(d: Derivation, f: Pointwise) -> Pointwise:
    """f with 0 for the C's that are zero by structure: layernorm(h) of a centred h is a function of h alone."""
    expression = f.expression
    for s, form in f.scalars:
        leaf = form.arguments[0][1] if form.expression == s and len(form.arguments) == 1 else None
        if s in expression.free_symbols and isinstance(leaf, Reference):
            if isinstance(d.family(leaf.name).type, Scalar) and is_zero_scalar(d, leaf.name):
                expression = at_zero(expression, s, leaf)
    return replace(f, expression=expression) if expression != f.expression else f


def _as_pointwise(body: Body, r: Reference) -> Pointwise:
    """What defines an H-var, as a function of vectors."""
    if isinstance(body, Pointwise):
        if body.reductions:
            raise NotDerived(f"'{r.name}' reduces over an index: functions of it have no closed form here", r.span)
        return body
    if isinstance(body, Linear) and all(not t.sums and not t.conditions for t in body.terms):
        expression = sympy.Integer(0)
        vectors: dict[Reference, sympy.Symbol] = {}
        scalars: list[tuple[sympy.Symbol, ScalarForm]] = []
        for t in body.terms:
            term = t.coefficient
            for form in t.scalars:
                for s, leaf in form.arguments:
                    scalars.append((s, ScalarForm(s, ((s, leaf),))))
                term *= form.expression
            if t.vector is not None:
                plain_reference = replace(t.vector, span=r.span)
                name = _numbered(plain_reference.name, vectors)
                term *= vectors.setdefault(plain_reference, sympy.Symbol(name, real=True))
            expression += term
        return Pointwise(expression, tuple((s, v) for v, s in vectors.items()), tuple(scalars))
    raise NotDerived(f"'{r.name}' sums over an index: functions of such H-vars have no closed form here", r.span)


def _numbered(name: str, vectors: dict[Reference, sympy.Symbol]) -> str:
    """The family's name, numbered from its second member on."""
    same = sum(r.name == name for r in vectors)
    return name if not same else f"{name}#{same + 1}"


def _unused(s: sympy.Symbol, taken: set[str]) -> sympy.Symbol:
    """The symbol, or a numbered one where its name is taken."""
    if s.name not in taken:
        return s
    return sympy.Symbol(numbered(s.name.split("#")[0], taken, {s.name.split("#")[0]}, separator="#"), real=True)


# ---------------------------------------------------------------- cases


def split_cases(d: Derivation, name: str) -> tuple[Case, ...]:
    """A family's cases, split further until each function in them is one of known vectors: t = 1, and t ≥ 2."""
    if isinstance(d.family(name).type, Data):
        return d.reader.cases(name)
    if name not in d.split_cases:
        d.split_cases[name] = tuple(c for case in d.reader.cases(name) for c in _split(d, case, 0))
    return d.split_cases[name]


def _split(d: Derivation, case: Case, depth: int) -> list[Case]:
    if not isinstance(case.body, Pointwise):
        return [case]
    try:
        written_out(d.where(case.conditions), case.body, None, {r.name: r for r in case.binders})
    except Ambiguous as error:
        return _split_at(d, case, error.reference, depth) if depth < MAX_SPLITS else [case]
    except ProgramError:
        pass
    return [case]


def _split_at(d: Derivation, case: Case, r: Reference, depth: int) -> list[Case]:
    """The case by which assignment defines a vector that it reads; itself where conditions do not tell."""
    parts: list[Case] = []
    for other in d.reader.cases(r.name):
        conditions = _meets(r, other)
        if conditions is None:
            return [case]
        refined = d.reader.refine(case.binders, case.target, [[*case.conditions, *conditions]])
        for binders, target, rest, mapping in refined:
            part = Case(binders, target, rest, d.reader.put(case.body, mapping), case.span)
            parts += _split(d, part, depth + 1)
    return parts


def _meets(r: Reference, case: Case) -> list[Condition] | None:
    """The conditions that a member of a family is the one that this case defines; None where they are involved."""
    found = defined_by(r.indices, case, {})
    return None if found is None else found[1]
