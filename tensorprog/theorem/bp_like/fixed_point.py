"""The parity of every family under the change of sign of some vectors: a least fixed point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

import sympy

from tensorprog.errors import ProgramError
from tensorprog.language import syntax
from tensorprog.program.definitions import coordinatewise
from tensorprog.program.instructions import Linear, Multiply, Pointwise, Reference, ScalarChoice, ScalarForm, ScalarLeaf
from tensorprog.program.scope import CONSTANTS
from tensorprog.program.substitution import subexpressions
from tensorprog.program.typing import is_zero
from tensorprog.theorem.bp_like.parity import (
    EVEN,
    INDEPENDENT,
    NEITHER,
    ODD,
    ZERO,
    Maybe,
    Parity,
    joined,
    parity,
    times,
)
from tensorprog.theorem.bp_like.reading import Body, Reading


class Parities:
    """The parity of every family when the vectors in `chosen` change sign."""

    def __init__(self, reading: Reading, chosen: frozenset[str]):
        self.reading = reading
        self.known: dict[str, Maybe] = dict.fromkeys(reading.bodies)
        self.known.update(dict.fromkeys(chosen, ODD))
        changed = True
        while changed:
            changed = False
            for name, bodies in reading.bodies.items():
                new = reduce(joined, map(self._of_body, bodies), self.known[name])
                if new != self.known[name]:
                    self.known[name] = new
                    changed = True

    def of(self, operand: str | syntax.Expr) -> Parity:
        """The parity of what a matrix multiplies."""
        found = self._of_family(operand) if isinstance(operand, str) else self._of_expression(operand)
        return NEITHER if found is None else found

    def _of_family(self, name: str) -> Maybe:
        return self.known.get(name, INDEPENDENT)  # data and other vectors

    def _of_body(self, body: Body) -> Maybe:
        match body:
            case Linear(terms):
                total: Maybe = None if terms else ZERO
                for t in terms:
                    factors = [self._of_scalar(s) for s in t.scalars]
                    factors.append(INDEPENDENT if t.vector is None else self._of_family(t.vector.name))
                    maybe_absent = bool(t.sums or t.conditions)
                    total = joined(total, ZERO if t.coefficient == 0 else _product(factors, maybe_absent))
                return total
            case Multiply(_, vector, conditions):
                return _product([self._of_family(vector.name)], bool(conditions))
            case Pointwise(expression, vectors, scalars, reductions):
                found = {s: self._of_family(r.name) for s, r in vectors}
                found |= {s: self._of_scalar(form) for s, form in scalars}
                found |= {s: _reduced(r.kind, self._of_body(r.body)) for s, r in reductions}
                return _of_function(expression, found)
        return self._of_expression(body)

    def _of_scalar(self, form: ScalarForm) -> Maybe:
        return _of_function(form.expression, {s: self._of_argument(a) for s, a in form.arguments})

    def _of_argument(self, a: ScalarLeaf) -> Maybe:
        if isinstance(a, Reference):
            return self._of_family(a.name)
        if isinstance(a, ScalarChoice):
            result: Maybe = ZERO  # where no branch is taken
            for _, form in a.branches:
                result = joined(result, self._of_scalar(form))
            return result
        return _reduced(a.kind, self._of_scalar(a.body))

    def _of_expression(self, e: syntax.Expr) -> Maybe:
        """Of an expression in core form."""
        if is_zero(e):
            return ZERO
        match e:
            case syntax.Call("MatMul", (_, operand)):
                return self._of_expression(operand)
            case syntax.Call("LinComb" | "Nonlin" | "Moment", (operand,)):
                return self._of_expression(operand)
            case syntax.Name(name) | syntax.Index(name):
                return self._of_family(name)
            case syntax.Conditional(a, _, b) | syntax.Guard(a, b):
                return joined(self._of_expression(a), self._of_expression(b))
            case syntax.Reduction(kind, _, body):
                return _reduced(kind, self._of_expression(body))
        leaves = {x: sympy.Symbol(f"x{k}", real=True) for k, x in enumerate(dict.fromkeys(self._leaves(e)))}
        found = {s: self._of_expression(x) for x, s in leaves.items()}
        try:
            return _of_function(coordinatewise(e, self.reading.scope, leaves), found)
        except ProgramError:
            return INDEPENDENT if set(found.values()) <= {INDEPENDENT} else NEITHER

    def _leaves(self, e: syntax.Expr) -> Iterator[syntax.Expr]:
        match e:
            case syntax.Name(name):
                scope = self.reading.scope
                if name not in (*scope.parameters, *scope.widths, *scope.features, *CONSTANTS):
                    yield e  # a variable, or an index, which is a constant
            case syntax.Index() | syntax.Reduction() | syntax.Conditional() | syntax.Guard():
                yield e
            case _:
                for s in subexpressions(e, deep=False):
                    yield from self._leaves(s)


def _of_function(expression: sympy.Expr, arguments: Mapping[sympy.Symbol, Maybe]) -> Maybe:
    known = {s: p for s, p in arguments.items() if p is not None}
    return parity(expression, known) if len(known) == len(arguments) else None


def _product(factors: list[Maybe], maybe_absent: bool) -> Maybe:
    """Of a product, which is no term at all at some indices where `maybe_absent`."""
    result = INDEPENDENT
    for p in factors:
        if p is None:
            return ZERO if maybe_absent else None
        result = times(result, p)
    return result


def _reduced(kind: str, inner: Maybe) -> Maybe:
    """Of sum[…], prod[…], batchnorm[…] and the like, from the parity of what they run over."""
    if kind == "sum":
        return ZERO if inner is None else inner  # a sum over nothing is 0
    if kind in ("mean", "batchnorm"):  # batchnorm divides by a spread, which does not see the sign
        return inner
    if kind == "prod" and inner is None:
        return INDEPENDENT
    if inner is None or inner in (INDEPENDENT, EVEN):
        return inner
    return INDEPENDENT if inner == ZERO else NEITHER
