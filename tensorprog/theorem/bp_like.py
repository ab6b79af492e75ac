"""Whether a program is BP-like: whether W.T may be taken for a fresh, independent matrix (Tensor Programs II, A.3).

    h := W @ phi(x)                   h does not depend on v
    dx := (W.T @ dh) * D(phi)(x)      dh is odd in v: dh(−v) = −dh(v)

A program is BP-like if there are declared vectors v^1..v^k of mean zero, one at least, such that every vector that some
W.T multiplies is odd in them jointly, and none that a W multiplies depends on them; which of W and W.T is called W is
free, matrix by matrix. Families are taken as a whole: all members of one are among the v's or none is, and W[l] has the
same orientation for all l.

Every family gets a Parity under the change of sign of the v's, as the least fixed point over its assignments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, reduce
from itertools import combinations

import numpy as np
import sympy

from tensorprog.errors import ProgramError, Span
from tensorprog.functions import definition, numeric
from tensorprog.functions.library.step import Sign
from tensorprog.language import syntax
from tensorprog.language.printer import print_expression
from tensorprog.program.build import coordinatewise
from tensorprog.program.ir import Family, Program
from tensorprog.program.scope import CONSTANTS, Scope
from tensorprog.program.substitution import free_names, subexpressions
from tensorprog.program.transposes import declared_weight, matrix_uses
from tensorprog.program.types import Process, Scalar, Vector
from tensorprog.program.typing import is_zero
from tensorprog.theorem.cases import (
    CaseReader,
    Declared,
    Linear,
    Multiply,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
)

MOST_VECTORS = 12
"""Up to that many families of vectors of mean zero all sets are tried; with more, only some."""

MOST_EXPLAINED = 6
"""The same, where the set is sought that fails least."""


@dataclass(frozen=True)
class BpLike:
    """The verdict on a program.

    holds: transposes, if any, behave like fresh matrices by the definition.
    witnesses: the vectors v^1..v^k; empty where none are needed, or none will do.
    orientation: for each matrix the one of "W" and "W.T" that multiplies what does not depend on the witnesses.
    transposes: whether a transpose multiplies a vector in the body.
    reasons: sentences, the first of them the most telling one.
    simple_gia: whether the Simple GIA Check holds: it makes the backward pass of this program BP-like.
    """

    holds: bool
    witnesses: tuple[str, ...]
    orientation: Mapping[str, str]
    transposes: bool
    reasons: tuple[str, ...]
    simple_gia: bool
    simple_gia_reason: str


def analyse(program: Program) -> BpLike:
    """Whether a program is BP-like, by which vectors, and in words why or why not."""
    reading = _Reading(program)
    transposes = any(u.transposed for u in matrix_uses(program))
    gia, gia_reason = _simple_gia(reading)

    def verdict(holds: bool, witnesses: tuple[str, ...], orientation: Mapping[str, str], *reasons: str) -> BpLike:
        return BpLike(holds, witnesses, orientation, transposes, reasons, gia, gia_reason)

    search = _Search(reading)
    both = [w for w in reading.weights if len(search.orientations(w)) == 2]
    if not both:
        orientation = {w: _named(w, search.orientations(w) == {True}) for w in reading.weights}
        return verdict(True, (), orientation, _no_transposes(transposes, orientation))
    zero_mean = reading.vectors(zero_mean=True)
    found = search.witnesses(zero_mean) or search.witnesses(reading.vectors())
    if found is not None:
        with_mean = [v for v in found if v not in zero_mean]
        if with_mean:
            return verdict(False, (), {}, *map(reading.mean_sentence, with_mean))
        orientation, _ = search.orient(found)
        return verdict(True, found, orientation, *search.why(found, orientation, both))
    if not zero_mean:
        vectors = reading.vectors()
        none = "no vector is declared with mean zero, so none can play the part of a gradient at the output"
        return verdict(False, (), {}, none, *map(reading.mean_sentence, vectors))
    return verdict(False, (), {}, *search.why_not(search.most_telling(zero_mean)))


def _no_transposes(transposes: bool, orientation: Mapping[str, str]) -> str:
    if not transposes:
        return "no transpose multiplies a vector, so there is nothing that must be independent of its transpose"
    swapped = tuple(w for w in orientation.values() if w.endswith(".T"))
    if not swapped:
        return "all that a transpose multiplies is zero"
    return f"no matrix multiplies vectors together with its own transpose: {_listed(swapped)} may be called the matrix"


def _named(weight: str, transposed: bool) -> str:
    return weight + ".T" if transposed else weight


# ---------------------------------------------------------------- parities


class Parity(Enum):
    """What becomes of a quantity when the v's change sign."""

    ZERO = "is zero"
    INDEPENDENT = "does not depend on"
    ODD = "is odd in"
    EVEN = "is even in"
    NEITHER = "is neither odd nor even in"


ZERO, INDEPENDENT, ODD, EVEN, NEITHER = Parity

# Of what is not known yet, while the fixed point is sought: None.
Maybe = Parity | None


def join(a: Parity, b: Parity) -> Parity:
    """What holds of both, as of a sum."""
    if a == b or b == ZERO:
        return a
    if a == ZERO:
        return b
    return EVEN if {a, b} == {INDEPENDENT, EVEN} else NEITHER


def times(a: Parity, b: Parity) -> Parity:
    """The parity of a product."""
    if ZERO in (a, b):
        return ZERO
    if NEITHER in (a, b):
        return NEITHER
    if ODD in (a, b):
        return EVEN if a == b else ODD
    return INDEPENDENT if a == b == INDEPENDENT else EVEN


def _join(a: Maybe, b: Maybe) -> Maybe:
    return b if a is None else a if b is None else join(a, b)


def parity(expression: sympy.Expr, arguments: Mapping[sympy.Symbol, Parity]) -> Maybe:
    """The parity of a function of quantities whose parities are known; other symbols are constants.

    Only what can be proved counts as odd or even. None where the function has no value at arguments that are zero.
    """
    return _parity(expression, frozenset(arguments.items()))


@lru_cache(maxsize=4096)
def _parity(expression: sympy.Expr, arguments: frozenset[tuple[sympy.Symbol, Parity]]) -> Maybe:
    expression = expression.xreplace({s: sympy.Integer(0) for s, p in arguments if p == ZERO})
    if expression.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    if expression == 0:
        return ZERO
    present = {s: p for s, p in arguments if s in expression.free_symbols}
    kinds = set(present.values())
    if kinds <= {INDEPENDENT}:
        return ZERO if _vanishes(expression) else INDEPENDENT
    if NEITHER in kinds:
        return NEITHER
    if ODD not in kinds:
        return EVEN
    flipped = expression.xreplace({s: -s for s, p in present.items() if p == ODD})
    odd, even = (_vanishes(flipped + expression), _vanishes(flipped - expression))
    if odd and even:
        return ZERO
    return ODD if odd else EVEN if even else NEITHER


def _vanishes(e: sympy.Expr) -> bool:
    """Whether an expression can be shown to be zero."""
    if e == 0:
        return True
    e = _signs_out(definition(e))
    if e == 0:
        return True
    if not e.free_symbols or not _zero_at_samples(e):
        return False
    return sympy.expand(e) == 0 or sympy.simplify(e) == 0


def _signs_out(e: sympy.Expr) -> sympy.Expr:
    """sign(−x) as −sign(x); the other functions of known parity do that by themselves."""
    return e.replace(
        lambda part: isinstance(part, Sign) and part.args[0].could_extract_minus_sign(),
        lambda part: -Sign(-part.args[0]),
    )


def _zero_at_samples(e: sympy.Expr) -> bool:
    symbols = sorted(e.free_symbols, key=str)
    generator = np.random.default_rng(0)
    low = np.array([0.2 if s.is_positive else -2.0 for s in symbols])[:, None]
    points = generator.uniform(low, 2.0, (len(symbols), 16))
    try:
        values = np.abs(np.asarray(numeric(e, symbols)(*points), complex))
    except (TypeError, ValueError, NameError, NotImplementedError, AttributeError):
        return True  # cannot be evaluated: left to algebra
    return not (values[np.isfinite(values)] > 1e-6).any()


# ---------------------------------------------------------------- the program


Body = Linear | Multiply | Pointwise | syntax.Expr
"""What a case assigns; the core expression itself where a case has no form in cases.py (batchnorm over vectors)."""


@dataclass(frozen=True)
class _Use:
    """`matrix @ operand` in the program, as its text has it."""

    weight: str
    transposed: bool
    operand: str | syntax.Expr
    product: str
    vector: str
    line: int

    @property
    def place(self) -> str:
        return self.product + (f" on line {self.line}" if self.line else "")


class _Reading:
    """A program as bodies of families and uses of matrices."""

    def __init__(self, program: Program):
        self.program = program
        self.reader = CaseReader(program)
        self.scope = Scope(
            parameters={p.name: p for p in program.parameters},
            widths=dict(program.widths),
            features=list(program.features),
            functions=dict(program.functions),
            ranges={f.name: f.ranges for f in program.families.values()},
            types={f.name: f.type for f in program.families.values()},
        )
        self.bodies: dict[str, tuple[Body, ...]] = {}
        self.uses: list[_Use] = []
        for f in program.families.values():
            if f.role in ("assigned", "output") and isinstance(f.type, Vector | Scalar):
                self.bodies[f.name] = tuple(self._bodies(f))
        self.uses.sort(key=lambda u: u.line)
        self.weights = tuple(w for w in program.families if any(u.weight == w for u in self.uses))
        self.readouts = tuple(self._readouts())

    def _bodies(self, f: Family) -> Iterator[Body]:
        try:
            cases = self.reader.cases(f.name)
        except ProgramError:
            for clause in f.clauses:
                yield clause.value
                self._uses_in(clause.value, clause.span)
            return
        for case in cases:
            if isinstance(case.body, Declared):
                continue
            yield case.body
            if isinstance(case.body, Multiply):
                weight, transposed = self.reader.matrix(case.body.matrix)
                matrix, vector = case.body.matrix, case.body.vector
                self._use(weight.name, transposed, vector.name, matrix, vector, case.span)

    def _uses_in(self, e: syntax.Expr, span: Span) -> None:
        for s in subexpressions(e):
            if isinstance(s, syntax.Call) and s.function == "MatMul" and not is_zero(s.arguments[1]):
                matrix, operand = s.arguments
                assert isinstance(matrix, syntax.Name | syntax.Index)
                weight, transposed = declared_weight(self.program, matrix.name)
                self._use(weight, transposed, operand, matrix, operand, span)

    def _use(self, weight: str, transposed: bool, operand: str | syntax.Expr, matrix, vector, span: Span) -> None:
        left, right = (self.written(x) for x in (matrix, vector))
        product = f"{left} @ {f'({right})' if self._bracketed(vector.span) else right}"
        line = matrix.span.line or vector.span.line or span.line
        self.uses.append(_Use(weight, transposed, operand, product, right, line))

    # -- words

    def written(self, x: Reference | syntax.Expr) -> str:
        """An expression as the program's text has it."""
        text = " ".join(self._between(x.span).split())
        if text:
            return text
        if isinstance(x, Reference):
            return f"{x.name}[{', '.join(map(str, x.indices))}]" if x.indices else x.name
        return print_expression(x)

    def _between(self, span: Span) -> str:
        lines = self.program.source.split("\n")
        if not 1 <= span.line <= span.end_line <= len(lines):
            return ""
        part = lines[span.line - 1 : span.end_line]
        part[-1] = part[-1][: span.end_column - 1]
        part[0] = part[0][span.column - 1 :]
        return "\n".join(part)

    def _bracketed(self, span: Span) -> bool:
        lines = self.program.source.split("\n")
        if not 1 <= span.line <= span.end_line <= len(lines):
            return False
        before = lines[span.line - 1][: span.column - 1].rstrip()
        after = lines[span.end_line - 1][span.end_column - 1 :].lstrip()
        return before.endswith("(") and after.startswith(")")

    def mean_sentence(self, name: str) -> str:
        f = self.program.families[name]
        assert f.law is not None
        at = f" on line {f.span.line}" if f.span.line else ""
        return f"{name}{at} has mean {f.law.mean}: what is odd in {name} averages out only if that is zero"

    # -- vectors and matrices

    def vectors(self, zero_mean: bool = False) -> tuple[str, ...]:
        """The declared vectors, or those of mean zero; readouts come first."""
        names = [
            f.name
            for f in self.program.families.values()
            if f.role == "vector" and f.law is not None and (f.law.mean == 0 or not zero_mean)
        ]
        return tuple(sorted(names, key=lambda name: name not in self.readouts))

    def _readouts(self) -> Iterator[str]:
        """The v's of v.T @ x in the output."""
        for f in self.program.outputs:
            if isinstance(f.type, Process):
                parts = [s for c in f.clauses for s in subexpressions(c.value)]
                yield from dict.fromkeys(s.operand.name for s in parts if isinstance(s, syntax.Transpose))


# ---------------------------------------------------------------- the fixed point


class _Parities:
    """The parity of every family when the vectors in `chosen` change sign."""

    def __init__(self, reading: _Reading, chosen: frozenset[str]):
        self.reading = reading
        self.known: dict[str, Maybe] = dict.fromkeys(reading.bodies)
        self.known.update(dict.fromkeys(chosen, ODD))
        changed = True
        while changed:
            changed = False
            for name, bodies in reading.bodies.items():
                new = reduce(_join, map(self._of_body, bodies), self.known[name])
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
                    total = _join(total, ZERO if t.coefficient == 0 else _product(factors, maybe_absent))
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
                result = _join(result, self._of_scalar(form))
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
                return _join(self._of_expression(a), self._of_expression(b))
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


# ---------------------------------------------------------------- the vectors v^1..v^k


class _Search:
    """Looks for v^1..v^k; parities are kept."""

    def __init__(self, reading: _Reading):
        self.reading = reading
        self._parities: dict[frozenset[str], _Parities] = {}
        nothing = self._of(())
        self.uses = [u for u in reading.uses if nothing.of(u.operand) != ZERO]
        reach = _reach(reading)
        self.reach = {u: _reach_of(u.operand, reach) for u in self.uses}

    def _of(self, chosen: tuple[str, ...]) -> _Parities:
        key = frozenset(chosen)
        if key not in self._parities:
            self._parities[key] = _Parities(self.reading, key)
        return self._parities[key]

    def witnesses(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """The smallest set among these that will do; where they are many, one that will do."""
        reached = frozenset().union(*self.reach.values())
        names = tuple(name for name in names if name in reached)
        if len(names) <= MOST_VECTORS:
            return next((c for c in _subsets(names) if self._serves(c)), None)
        for pool in self._untouched(names):
            tried = _subsets(pool) if len(pool) <= MOST_VECTORS else [*((name,) for name in pool), pool]
            found = next((c for c in tried if self._serves(c)), None)
            if found is not None:
                return found
        return self._grown(names)

    def _untouched(self, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The vectors that no operand of a plain matrix depends on; then the same for the transposes."""
        for transposed in (False, True):
            touched = frozenset().union(*(self.reach[u] for u in self.uses if u.transposed == transposed))
            yield tuple(name for name in names if name not in touched)

    def _grown(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """A set that will do, found by adding the vector that mends most, one at a time."""
        chosen: tuple[str, ...] = ()
        least = len(self.uses) + 1
        while len(chosen) < len(names):
            larger = [tuple(n for n in names if n in chosen or n == name) for name in names if name not in chosen]
            best = min(larger, key=self._broken)
            if self._broken(best) >= least:
                return None
            chosen, least = best, self._broken(best)
            if not least:
                return chosen
        return None

    def _serves(self, chosen: tuple[str, ...]) -> bool:
        return self._reaches(frozenset(chosen)) and not self._broken(chosen)

    def _reaches(self, chosen: frozenset[str]) -> bool:
        """Whether on one side of each matrix all operands depend on the chosen ones, and on the other none does."""
        for weight in self.reading.weights:
            sides: tuple[set[bool], set[bool]] = (set(), set())
            for u in self.uses:
                if u.weight == weight:
                    sides[u.transposed].add(bool(self.reach[u] & chosen))
            plain, transposed = sides
            if len(plain) == 2 or len(transposed) == 2 or plain & transposed:
                return False
        return True

    def _broken(self, chosen: tuple[str, ...]) -> int:
        return len(self.orient(chosen)[1])

    def orient(self, chosen: tuple[str, ...]) -> tuple[dict[str, str], list[_Use]]:
        """For each matrix the orientation that breaks fewer uses, and the uses that are broken all the same."""
        parities = self._of(chosen)
        orientation: dict[str, str] = {}
        broken: list[_Use] = []
        for weight in self.reading.weights:
            uses = [u for u in self.uses if u.weight == weight]
            wrong: dict[bool, list[_Use]] = {
                forward: [
                    u for u in uses if parities.of(u.operand) != (INDEPENDENT if u.transposed == forward else ODD)
                ]
                for forward in (False, True)
            }
            forward = len(wrong[True]) < len(wrong[False])
            orientation[weight] = _named(weight, forward)
            broken += wrong[forward]
        return orientation, broken

    def most_telling(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The set to explain a failure with."""
        reached = frozenset().union(*self.reach.values())
        readouts = tuple((name,) for name in names if name in self.reading.readouts and name in reached)
        if readouts:
            return min(readouts, key=self._broken)
        if len(names) <= MOST_EXPLAINED:
            return min(_subsets(names), key=self._broken)
        return min((*((name,) for name in names), names), key=self._broken)

    def orientations(self, weight: str) -> set[bool]:
        """Whether the matrix multiplies vectors that are not zero, and whether its transpose does."""
        return {u.transposed for u in self.uses if u.weight == weight}

    # -- words

    def why(self, chosen: tuple[str, ...], orientation: Mapping[str, str], weights: list[str]) -> Iterator[str]:
        """A sentence for each matrix that multiplies together with its transpose."""
        names = _listed(chosen)
        for weight in weights:
            uses = [u for u in self.uses if u.weight == weight]
            forward = orientation[weight].endswith(".T")
            parts = []
            for transposed, holds in ((not forward, ODD), (forward, INDEPENDENT)):
                u = next(u for u in uses if u.transposed == transposed)
                parts.append(f"{u.place}: {u.vector} {holds.value} {names}")
            yield "; ".join(parts)

    def why_not(self, chosen: tuple[str, ...]) -> Iterator[str]:
        """A sentence for each use that breaks the definition, and what the use would have to be."""
        names = _listed(chosen)
        orientation, broken = self.orient(chosen)
        said: set[str] = set()
        for u in broken:
            found = self._of(chosen).of(u.operand)
            if orientation[u.weight] == _named(u.weight, u.transposed):
                depends = f"{u.vector} depends on {names}"
                sentence = (
                    f"{u.place}: {'the matrix multiplies ' + u.vector + ' itself' if u.operand in chosen else depends}"
                )
            else:
                instead = f"{found.value} {names}" if found == INDEPENDENT else found.value.removesuffix(" in")
                sentence = f"{u.place}: {u.vector} is not odd in {names}: it {instead}"
            if sentence not in said:
                said.add(sentence)
                yield sentence
        both = tuple(dict.fromkeys(u.weight for u in broken))
        yield (
            f"an independent matrix in place of {_listed(tuple(w + '.T' for w in both))} may change the limit: one of a"
            " matrix and its transpose has to multiply only what is odd in vectors of mean zero, the other only what"
            " does not depend on them"
        )


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All sets of names but the empty one, small ones first."""
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


def _reach(reading: _Reading) -> dict[str, frozenset[str]]:
    """The declared vectors that every family depends on."""
    reach = {v: frozenset({v}) for v in reading.vectors()}
    reads = {name: frozenset().union(*map(_reads, bodies)) for name, bodies in reading.bodies.items()}
    changed = True
    while changed:
        changed = False
        for name, others in reads.items():
            new = frozenset().union(*(reach.get(o, frozenset()) for o in others))
            if new != reach.get(name, frozenset()):
                reach[name] = new
                changed = True
    return reach


def _reach_of(operand: str | syntax.Expr, reach: Mapping[str, frozenset[str]]) -> frozenset[str]:
    names = {operand} if isinstance(operand, str) else free_names(operand)
    return frozenset().union(*(reach.get(name, frozenset()) for name in names))


def _reads(body: Body) -> frozenset[str]:
    """The families that an assignment reads."""
    match body:
        case Linear(terms):
            vectors = {t.vector.name for t in terms if t.vector is not None}
            return frozenset(vectors).union(*(_scalar_reads(s) for t in terms for s in t.scalars))
        case Multiply(_, vector):
            return frozenset({vector.name})
        case Pointwise(_, vectors, scalars, reductions):
            names = frozenset(r.name for _, r in vectors).union(*(_scalar_reads(form) for _, form in scalars))
            return names.union(*(_reads(r.body) for _, r in reductions))
    return frozenset(free_names(body))


def _scalar_reads(form: ScalarForm) -> frozenset[str]:
    names: set[str] = set()
    for _, a in form.arguments:
        if isinstance(a, Reference):
            names.add(a.name)
        else:
            for inner in [f for _, f in a.branches] if isinstance(a, ScalarChoice) else [a.body]:
                names |= _scalar_reads(inner)
    return frozenset(names)


# ---------------------------------------------------------------- the Simple GIA Check


def _simple_gia(reading: _Reading) -> tuple[bool, str]:
    """The readout is sampled independently, with mean zero, and used nowhere else; no W goes with its W.T."""
    program = reading.program
    if not reading.readouts:
        return False, "no output is a readout v.T @ x / sqrt(n), so no gradient starts from one"
    for v in reading.readouts:
        family = program.families[v]
        if family.role != "vector" or family.law is None:
            return False, f"the readout {v} is computed, not declared as a vector"
        if family.law.mean != 0:
            at = f" on line {family.span.line}" if family.span.line else ""
            return False, f"the readout {v}{at} has mean {family.law.mean}, not zero"
        for f in program.families.values():
            for clause in f.clauses:
                span = _read_in(clause.value, v, isinstance(f.type, Process))
                if span is not None:
                    line = span.line or clause.span.line
                    return False, f"the readout {v} is used elsewhere too{f', on line {line}' if line else ''}"
    names = _listed(reading.readouts)
    for weight in reading.weights:
        both = {u.transposed: u.place for u in reversed(reading.uses) if u.weight == weight}
        if len(both) == 2:
            places = f"{both[False]} and {both[True]}"
            return False, f"{names} passes, but the program uses {weight} together with {weight}.T: {places}"
    plural = len(reading.readouts) > 1
    return True, (
        f"{names} {'are' if plural else 'is'} drawn independently, with mean zero, and used nowhere but at the output,"
        " and no matrix goes together with its transpose: the backward pass is BP-like"
    )


def _read_in(e: syntax.Expr, name: str, output: bool) -> Span | None:
    """Where an expression reads a vector; the v in v.T @ x of an output does not count."""
    if isinstance(e, syntax.Name | syntax.Index):
        return e.span if e.name == name else None
    if output and isinstance(e, syntax.Transpose):
        return None
    found = (_read_in(s, name, output) for s in subexpressions(e, deep=False))
    return next((span for span in found if span is not None), None)
