"""Whether a program is BP-like: whether transposes may be taken for fresh independent matrices (TP II, definition A.3).

    dh[L] := v * D(phi)(h[L])             BP-like by {v}: every vector that a W.T multiplies is odd in v, and none that
    dh[l] := (W[l+1].T @ dh[l+1]) * …     a W multiplies depends on it
    z := W @ e;  r := W.T @ phi(z)        not BP-like: phi(z) is odd in no input vector

There must be a set S of declared vectors of mean zero such that for every weight the vectors that multiply one of W
and W.T are odd in S, and those that multiply the other do not depend on S. Families are judged as a whole: every member
of a family lies in S or none does, and W[l] is oriented alike for all l. A C is a constant in the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import sympy

from tensorprog.errors import ProgramError
from tensorprog.language import syntax
from tensorprog.program.ir import Program
from tensorprog.program.scope import Scope
from tensorprog.program.substitution import free_names
from tensorprog.program.transposes import Use, matrix_uses
from tensorprog.program.types import Vector
from tensorprog.program.typing import is_zero

# What is certain of a vector, as a function of the vectors in S, all of them negated at once.
FREE = "free"  # does not depend on them
ODD = "odd"
EVEN = "even"
Parity = frozenset[str]

ZERO: Parity = frozenset({FREE, ODD, EVEN})
INDEPENDENT: Parity = frozenset({FREE, EVEN})
UNKNOWN: Parity = frozenset()

MOST_TRIED = 2000  # sets S


@dataclass(frozen=True)
class Verdict:
    """Whether a program is BP-like, by which vectors, and in words why (not)."""

    bp_like: bool
    by: tuple[str, ...]
    reasons: tuple[str, ...]


def bp_like(program: Program) -> Verdict:
    """The verdict on a program; a program without transposes is BP-like."""
    uses = tuple(matrix_uses(program))
    if not any(u.transposed for u in uses):
        return Verdict(True, (), ("no transpose multiplies a vector",))
    best: tuple[int, str] | None = None
    for chosen in _candidates(program):
        parities = _Parities(program, frozenset(chosen)).of_families()
        failed = _failures(program, uses, parities)
        if not failed:
            return Verdict(True, chosen, (_by(chosen),))
        if best is None or len(failed) < best[0]:
            best = len(failed), failed[0]
    if best is None:
        return Verdict(False, (), ("no declared vector has mean zero, so none can play the gradient's part",))
    return Verdict(False, (), (best[1],))


def _candidates(program: Program) -> Iterator[tuple[str, ...]]:
    """Sets of vectors of mean zero, small ones first; what the readouts read comes before the others."""
    names = [f.name for f in program.families.values() if f.role == "vector" and f.law is not None and f.law.mean == 0]
    names.sort(key=lambda name: not any(name in free_names(c.value) for f in program.outputs for c in f.clauses))
    tried = 0
    for size in range(1, len(names) + 1):
        for chosen in combinations(names, size):
            tried += 1
            if tried > MOST_TRIED:
                yield tuple(names)
                return
            yield chosen


def _by(chosen: tuple[str, ...]) -> str:
    names = ", ".join(chosen)
    return f"what transposes multiply is odd in {names}, what the matrices themselves multiply does not depend on it"


def _failures(program: Program, uses: Iterable[Use], parities: dict[str, Parity]) -> list[str]:
    """A sentence for each weight that neither orientation suits."""
    by_weight: dict[str, tuple[list[Use], list[Use]]] = {}
    for u in uses:
        by_weight.setdefault(u.weight, ([], []))[u.transposed].append(u)
    judge = _Parities(program, frozenset(), parities)
    failed = []
    for weight, (plain, transposed) in by_weight.items():
        orientations = ((plain, transposed), (transposed, plain))
        if any(
            all(FREE in judge.of_use(u) for u in forward) and all(ODD in judge.of_use(u) for u in backward)
            for forward, backward in orientations
        ):
            continue
        both = "both W and W.T multiply vectors, and neither side is that of a gradient".replace("W", weight)
        line = f" (line {transposed[0].clause.span.line})" if transposed and transposed[0].clause.span.line else ""
        failed.append(f"{both}: an independent copy in place of {weight}.T would change the limit{line}")
    return failed


class _Parities:
    """The parity in S of every vector family, as the greatest fixed point."""

    def __init__(self, program: Program, chosen: frozenset[str], known: dict[str, Parity] | None = None):
        self.program = program
        self.scope = Scope(
            parameters={p.name: p for p in program.parameters},
            widths=dict(program.widths),
            features=list(program.features),
            functions=dict(program.functions),
            ranges={f.name: f.ranges for f in program.families.values()},
            types={f.name: f.type for f in program.families.values()},
        )
        self.parities: dict[str, Parity] = known or {}
        if known is None:
            for f in program.families.values():
                if isinstance(f.type, Vector):
                    own = frozenset({ODD}) if f.name in chosen else INDEPENDENT
                    self.parities[f.name] = ZERO if f.role == "assigned" else own

    def of_families(self) -> dict[str, Parity]:
        assigned = [f for f in self.program.families.values() if f.role == "assigned" and isinstance(f.type, Vector)]
        changed = True
        while changed:
            changed = False
            for f in assigned:
                new = self.parities[f.name].intersection(*(self.of(c.value) for c in f.clauses))
                if new != self.parities[f.name]:
                    self.parities[f.name] = new
                    changed = True
        return self.parities

    def of_use(self, use: Use) -> Parity:
        return self.of(use.operand)

    def of(self, e: syntax.Expr) -> Parity:
        """The parity of an expression of vectors; data, C's and numbers are independent of S."""
        if is_zero(e):
            return ZERO
        match e:
            case syntax.Name(name) | syntax.Index(name):
                return self.parities.get(name, INDEPENDENT)
            case syntax.Number() | syntax.Bracket():
                return INDEPENDENT
            case syntax.Negate(operand):
                return self.of(operand)
            case syntax.Conditional(then, _, otherwise) | syntax.Guard(then, otherwise):
                return self.of(then) & self.of(otherwise)
            case syntax.Binary("+" | "-", left, right):
                return self.of(left) & self.of(right)
            case syntax.Binary("*" | "/", left, right):
                return _product(self.of(left), self.of(right))
            case syntax.Binary("**", base, exponent):
                return self._power(self.of(base), exponent)
            case syntax.Call("MatMul", (_, operand)):
                return self.of(operand)
            case syntax.Call("LinComb" | "Nonlin", (operand,)):
                return self.of(operand)
            case syntax.Call("Moment"):
                return INDEPENDENT
            case syntax.Call(name, arguments, keywords):
                return self._applied(e, arguments, [v for _, v in keywords], name)
            case syntax.DerivativeCall(_, _, arguments, keywords):
                return self._applied(e, arguments, [v for _, v in keywords], None)
            case syntax.Reduction(kind, _, body):
                inner = self.of(body)
                # A batchnorm is odd: it divides by a spread that does not see the sign.
                linear = kind in ("sum", "mean", "batchnorm")
                return inner if linear else inner - {ODD}
        return UNKNOWN

    def _power(self, base: Parity, exponent: syntax.Expr) -> Parity:
        if FREE in base or EVEN in base:
            return base
        if ODD in base and isinstance(exponent, syntax.Number) and exponent.text.isdigit():
            return frozenset({ODD if int(exponent.text) % 2 else EVEN})
        return UNKNOWN

    def _applied(self, e, arguments, keywords, name: str | None) -> Parity:
        """f(…): even in what is even; for odd arguments f itself is looked at."""
        inner = [self.of(a) for a in (*arguments, *keywords)]
        for certain in (FREE, EVEN):
            if all(certain in p for p in inner):
                return INDEPENDENT if certain == FREE else frozenset({EVEN})
        if any(not p & {ODD, EVEN} for p in inner) or any(EVEN not in p for p in inner[len(arguments) :]):
            return UNKNOWN
        symbols = [sympy.Symbol(f"x{k}", real=True) for k in range(len(arguments))]
        try:
            if name is not None:
                f = self.scope.apply(name, list(symbols), {}, e.span)
            else:
                function = self.scope.derivative(e.function, e.argument, e.span)
                f = function.body.xreplace(dict(zip(function.arguments, symbols, strict=False)))
        except ProgramError:
            return UNKNOWN
        flipped = f.xreplace({s: -s for s, p in zip(symbols, inner, strict=False) if EVEN not in p})
        if sympy.expand(flipped + f) == 0:
            return frozenset({ODD})
        return frozenset({EVEN}) if sympy.expand(flipped - f) == 0 else UNKNOWN


def _product(a: Parity, b: Parity) -> Parity:
    if ZERO in (a, b):
        return ZERO
    result = set()
    if FREE in a and FREE in b:
        result.add(FREE)
    if (EVEN in a and EVEN in b) or (ODD in a and ODD in b):
        result.add(EVEN)
    if (ODD in a and EVEN in b) or (EVEN in a and ODD in b):
        result.add(ODD)
    return frozenset(result)
