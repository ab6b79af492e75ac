"""Products by matrices that stand among other things in a family, as families of their own.

    Before:  h[0] := MatMul(U, x)                  After:  U_x := MatMul(U, x)
             h[k] := Nonlin(h[k-1] * phi(g[k]))            h[0] := LinComb(U_x)
                                                           h[k] := Nonlin(h[k-1] * phi(g[k]))

h is no family of Gaussians, but h[0] is one. A function that reads h then is one of the G-vars U_x and g: their law is
in tables, they are drawn by simulation, and what depends on them can be told from their names. Likewise where one
family multiplies by a matrix and by another one or by a transpose, of which each has corrections of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tensorprog.index.fresh import numbered
from tensorprog.language import syntax
from tensorprog.program.build import rebuilt
from tensorprog.program.ir import Family, Program
from tensorprog.program.passes.arithmetic import ZERO
from tensorprog.program.substitution import binders, free_names, subexpressions
from tensorprog.program.transposes import Use, declared_weight, matrix_uses
from tensorprog.program.types import Vector
from tensorprog.program.typing import is_zero
from tensorprog.theorem.bp_like import analyse

_NOTHING = syntax.Call("LinComb", (ZERO,))


def with_products_apart(program: Program) -> Program:
    """The program in which what a function reads is a family of Gaussians, or has no product in it.

    Families that multiply by a matrix whose transpose is used multiply by that alone. The program itself where that
    is so already.
    """
    uses = list(matrix_uses(program))
    both = {u.weight for u in uses if u.transposed}
    corrected = bool(both) and not analyse(program).holds
    wanted = _by_several(uses, both) | _mixed(program, uses, both, corrected)
    if not wanted:
        return program
    tree = replace(program.text, statements=tuple(_Apart(program, wanted).block(program.text.statements, {})))
    return rebuilt(program, tree)


def _by_several(uses: list[Use], both: set[str]) -> set[str]:
    """Families that multiply by several matrices, one of them used both ways."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for u in uses:
        found.setdefault(u.family.name, set()).add((u.weight, u.transposed))
    return {name for name, sides in found.items() if len(sides) > 1 and any(w in both for w, _ in sides)}


def _mixed(program: Program, uses: list[Use], both: set[str], corrected: bool) -> set[str]:
    """Families of products and of other things that are no Gaussians, and are read coordinate by coordinate.

    What a matrix that is used both ways multiplies is read so by the corrections of its transpose, and corrections
    make what looks like a Gaussian none.
    """
    mixed = {f.name for f in program.families.values() if _is_mixed(f, corrected)}
    read: set[str] = set()
    for e in (u.operand for u in uses if corrected and u.weight in both):
        read |= _names(e)
    for f in program.families.values():
        if f.role == "assigned" and mixed:
            for leaf in _leaves(f):
                if isinstance(leaf, syntax.Call) and leaf.function in ("LinComb", "Nonlin", "Moment"):
                    read |= _names(leaf)
    return mixed & read


def _names(e: syntax.Expr) -> set[str]:
    return {x.name for x in subexpressions(e) if isinstance(x, syntax.Name | syntax.Index)}


def _is_mixed(f: Family, corrected: bool) -> bool:
    if f.role != "assigned" or not isinstance(f.type, Vector) or (f.type.gaussian and not corrected):
        return False
    kinds = {_is_product(leaf) for leaf in _leaves(f) if not is_zero(leaf)}
    return kinds == {True, False}


def _leaves(f: Family) -> Iterator[syntax.Expr]:
    """The instructions of a family, those of each branch."""
    for clause in f.clauses:
        yield from _branches(clause.value)


def _branches(e: syntax.Expr) -> Iterator[syntax.Expr]:
    if isinstance(e, syntax.Conditional):
        yield from _branches(e.then)
        yield from _branches(e.otherwise)
    else:
        yield e


def _is_product(e) -> bool:
    return isinstance(e, syntax.Call) and e.function == "MatMul"


class _Apart:
    def __init__(self, program: Program, wanted: set[str]):
        self.program, self.wanted = program, wanted
        self.taken = {b.name for s in program.text.statements for b in binders(s)} | set(program.functions)
        self.taken |= {*program.families, *program.widths, *program.features, *(p.name for p in program.parameters)}

    def block(self, statements, loops: dict[str, syntax.Binder]) -> list[syntax.Statement]:
        result: list[syntax.Statement] = []
        for s in statements:
            match s:
                case syntax.For(own, body):
                    inner = self.block(body, {**loops, **{b.name: b for b in own}})
                    result.append(replace(s, body=tuple(inner)))
                case syntax.Assignment(name) if name in self.wanted:
                    before: list[syntax.Statement] = []
                    value = self._value(s.value, s, loops, before, lambda e: e)
                    result += [*before, replace(s, value=value)]
                case _:
                    result.append(s)
        return result

    def _value(self, e, s: syntax.Assignment, loops, before: list[syntax.Statement], around) -> syntax.Expr:
        """e with its products read from families of their own; `around` puts one into the branches where it holds."""
        if isinstance(e, syntax.Conditional):

            def then(x):
                return around(replace(e, then=x, otherwise=_NOTHING))

            def otherwise(x):
                return around(replace(e, then=_NOTHING, otherwise=x))

            return replace(
                e,
                then=self._value(e.then, s, loops, before, then),
                otherwise=self._value(e.otherwise, s, loops, before, otherwise),
            )
        if not _is_product(e) or is_zero(e.arguments[1]):
            return e
        value = around(e)
        own = {i.name: i for i in s.indices if isinstance(i, syntax.Binder)}
        used = free_names(value)
        kept: list[syntax.Name | syntax.Binder] = []
        for name in reversed([*(n for n in loops if n not in own), *own]):
            if name in used:
                kept.insert(0, own.get(name, syntax.Name(name, span=e.span)))
                used |= free_names(own[name]) if name in own else set()
        here = tuple(syntax.Name(i.name, span=e.span) for i in kept)
        matrix, operand = e.arguments
        while isinstance(operand, syntax.Guard):
            operand = operand.value
        weight, transposed = declared_weight(self.program, matrix.name)
        name = self._new(f"{weight}{'_T' * transposed}_{operand.name}")
        before.append(syntax.Assignment(name, tuple(kept), value, span=s.span))
        read = syntax.Index(name, here, span=e.span) if here else syntax.Name(name, span=e.span)
        return syntax.Call("LinComb", (read,), span=e.span)

    def _new(self, stem: str) -> str:
        name = numbered(stem, self.taken)
        self.taken.add(name)
        return name
