"""What every assignment of a core program reads, and what its derivative sends back.

    for t = 1..T:
        W_s[t] := MatMul(W, s[t-1])        s[t-1] is read; d_W_s[t] sends W.T @ d_W_s[t] back to it
        s[t] := Nonlin(phi(h[t]))          h[t] is read; d_s[t] sends d_s[t] * D(phi)(h[t]) back to it

Indices get names of their own here (`_3`), one for every loop and sum, so that none hides another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import sympy

from tensorprog.errors import ProgramError, Span
from tensorprog.functions import text
from tensorprog.index.affine import Affine
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range
from tensorprog.language import syntax
from tensorprog.program.desugar import bound_expression
from tensorprog.program.ir import Program
from tensorprog.program.numerals import numeral
from tensorprog.program.passes.arithmetic import (
    ONE,
    ZERO,
    add,
    affine_expression,
    divide,
    is_number,
    multiply,
    negate,
    power,
    subtract,
)
from tensorprog.program.passes.derivative import derivative, references
from tensorprog.program.scope import Scope, size_symbol
from tensorprog.program.substitution import rename
from tensorprog.program.types import Constant, Matrix, Process, Scalar, Vector
from tensorprog.program.typing import infer, is_zero, readout_type


@dataclass(frozen=True)
class Read:
    """A vector read by an assignment.

    family, indices: what is read.
    reader: the family that is assigned.
    unknowns: the loops and sums around, outermost first: for each of their values the vector is read once.
    conditions: under which it is read.
    seed: the derivative of what is assigned, `d_s[y, _3]`, or the other factor of a readout, `v`.
    value: what is sent back, an expression of the seed.
    output: the indices of the output, where the reader is one.
    boxed: whether an index of the reader is in range exactly where the unknowns are.
    """

    family: str
    indices: tuple[Affine, ...]
    reader: str
    unknowns: tuple[Range, ...]
    conditions: tuple[syntax.Condition, ...]
    seed: syntax.Expr
    value: syntax.Expr
    output: tuple[Affine, ...]
    boxed: bool
    span: Span


def scope_of(program: Program) -> Scope:
    """What the names of a program mean, for types and indices of expressions in it."""
    return Scope(
        parameters={p.name: p for p in program.parameters},
        widths=dict(program.widths),
        features=list(program.features),
        functions=dict(program.functions),
        ranges={f.name: f.ranges for f in program.families.values()},
        types={f.name: f.type for f in program.families.values()},
    )


@dataclass(frozen=True)
class _Here:
    """The way from an assignment to a place in its value."""

    reader: str
    seed: syntax.Expr
    unknowns: tuple[Range, ...]
    output: tuple[Affine, ...] = ()
    boxed: bool = False
    conditions: tuple[syntax.Condition, ...] = ()
    numerators: tuple[syntax.Expr, ...] = ()
    denominators: tuple[syntax.Expr, ...] = ()
    negative: bool = False
    guarded: bool = False

    def when(self, *conditions: syntax.Condition) -> _Here:
        return replace(self, conditions=(*self.conditions, *conditions))

    def times(self, factor: syntax.Expr) -> _Here:
        return replace(self, numerators=(*self.numerators, factor))

    def over(self, divisor: syntax.Expr) -> _Here:
        return replace(self, denominators=(*self.denominators, divisor))

    def negated(self) -> _Here:
        return replace(self, negative=not self.negative)

    def scaled(self, e: syntax.Expr) -> syntax.Expr:
        for factor in reversed(self.numerators):
            e = multiply(factor, e)
        for divisor in self.denominators:
            e = divide(e, divisor)
        return negate(e) if self.negative else e


@dataclass
class Reads:
    """Collects all reads of vectors by vectors and readouts. `names`: index names made here to those in the text."""

    program: Program
    derivatives: Mapping[str, str]
    outer: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    found: list[Read] = field(default_factory=list)
    scope: Scope = field(init=False)

    def __post_init__(self) -> None:
        self.scope = scope_of(self.program)
        self._statements(self.program.text.statements, {}, ())

    # ------------------------------------------------------------ names

    def _bind(self, b: syntax.Binder, env: dict[str, str]) -> syntax.Binder:
        """A binder under a new name, which `env` then knows."""
        parameters = [p.name for p in self.program.parameters]
        new = underscored(f"_{len(self.names) + 1}", self.program.families, parameters)
        low, high, step = (e if e is None else self._renamed(e, env) for e in (b.low, b.high, b.step))
        bound = syntax.Binder(new, low, high, step, span=b.span)
        self.scope.indices[new] = self.scope.range_of(bound)
        self.names[new] = b.name
        env[b.name] = new
        return bound

    def _renamed(self, e, env: Mapping[str, str]):
        """An expression with every index under its new name."""

        def change(s):
            match s:
                case syntax.Name(name) if name in env:
                    return syntax.Name(env[name], span=s.span)
                case syntax.Reduction(_, binders, body, keywords):
                    inner = dict(env)
                    new = tuple(
                        replace(b, name=env[b.name]) if b.low is None else self._bind(b, inner) for b in binders
                    )
                    named = tuple((k, self._renamed(v, env)) for k, v in keywords)
                    return replace(s, binders=new, body=self._renamed(body, inner), keywords=named)
            return None

        return rename(e, change)

    def _range(self, b: syntax.Binder) -> Range:
        return self.scope.indices[b.name].range

    # ------------------------------------------------------------ statements

    def _statements(self, block, env: Mapping[str, str], unknowns: tuple[Range, ...]) -> None:
        for s in block:
            match s:
                case syntax.For(binders, body):
                    inner = dict(env)
                    ranges = tuple(self._range(self._bind(b, inner)) for b in binders)
                    self._statements(body, inner, (*unknowns, *ranges))
                case syntax.Assignment():
                    self._assignment(s, dict(env), unknowns)

    def _assignment(self, s: syntax.Assignment, env: dict[str, str], unknowns: tuple[Range, ...]) -> None:
        family = self.program.families[s.name]
        if not isinstance(family.type, Vector | Process):
            return
        indices: list[syntax.Expr] = []
        for i in s.indices:
            if isinstance(i, syntax.Binder):
                bound = self._bind(i, env)
                unknowns = (*unknowns, self._range(bound))
                indices.append(syntax.Name(bound.name))
            else:
                indices.append(self._renamed(i, env))
        value = self._renamed(s.value, env)
        target = tuple(self.scope.affine(i) for i in indices)
        if isinstance(family.type, Process):
            self._readout(value, _Here(s.name, ZERO, unknowns, target))
            return
        seed = reference(self.derivatives[s.name], (*map(syntax.Name, self.outer), *indices))
        boxed = len(family.clauses) == 1 and _boxed(target, unknowns)
        self._linear(value, _Here(s.name, seed, unknowns, boxed=boxed))

    # ------------------------------------------------------------ instructions

    def _linear(self, e: syntax.Expr, here: _Here) -> None:
        """What e reads, linear in vectors: the inside of a LinComb, or an instruction."""
        match e:
            case syntax.Call("LinComb", (inner,)):
                self._linear(inner, here)
            case syntax.Call("Nonlin", (inner,)):
                self._nonlinear(inner, here)
            case syntax.Call("MatMul", (matrix, operand)):
                product = syntax.Binary("@", self._transposed(matrix), here.seed)
                self._reference(operand, here, product)
            case syntax.Conditional(then, condition, otherwise):
                self._linear(then, here.when(condition))
                self._linear(otherwise, here.when(syntax.Not(condition)))
            case syntax.Binary("+" | "-" as op, left, right):
                self._linear(left, here)
                self._linear(right, here.negated() if op == "-" else here)
            case syntax.Binary("*", left, right) if self._scalar(left):
                self._linear(right, here.times(left))
            case syntax.Binary("*" | "/" as op, left, right):
                self._linear(left, here.times(right) if op == "*" else here.over(right))
            case syntax.Negate(operand):
                self._linear(operand, here.negated())
            case syntax.Reduction("sum" | "mean", _, body) if not self._scalar(e):
                self._linear(body, self._under(e, here))
            case syntax.Name() | syntax.Index() | syntax.Guard():
                self._reference(e, here, here.seed)

    def _nonlinear(self, e: syntax.Expr, here: _Here) -> None:
        """What a coordinatewise expression reads, in reductions over vectors too."""
        reductions: dict[syntax.Reduction, syntax.Name] = {}

        def hide(x):
            if isinstance(x, syntax.Reduction) and not self._scalar(x):
                return reductions.setdefault(x, syntax.Name(f"?{len(reductions)}", span=x.span))
            return None

        hidden = rename(e, hide)
        shown: dict[syntax.Expr, syntax.Reduction] = {name: r for r, name in reductions.items()}

        def show(x):
            return rename(
                x, lambda s: self._written_out(shown[s]) if isinstance(s, syntax.Name) and s in shown else None
            )

        for r in references(hidden):
            if r not in shown and self._vector(r) is None:
                continue
            for conditions, part in _cases(derivative(hidden, r)):
                there = here.when(*conditions)
                value = multiply(here.seed, show(part))
                if r in shown:
                    self._reduction(shown[r], replace(there, seed=value))
                else:
                    self._reference(r, there, value)

    def _reduction(self, e: syntax.Reduction, here: _Here) -> None:
        """What a reduction over vectors reads. `here.seed` is the derivative of what is assigned by the reduction."""
        if len(e.binders) > 1 and e.function not in ("max", "min"):
            raise ProgramError(f"the derivative of {e.function} over several indices is not supported", e.span)
        binders, body = self._copy(e)
        ranges = tuple(self._range(b) for b in binders)
        inside = replace(here, unknowns=(*here.unknowns, *ranges), boxed=False)
        if e.function == "prod":
            # The product of those before it and of those behind it: what is divided by may be 0.
            at = syntax.Name(binders[0].name)
            parts = self._copy(e, high=subtract(at, ONE)), self._copy(e, low=add(at, ONE))
            around = multiply(*(syntax.Reduction("prod", b, x, (), span=e.span) for b, x in parts))
            self._nonlinear(body, replace(inside, seed=multiply(here.seed, around)))
        elif e.function in ("max", "min"):
            others, other = self._copy(e)
            extreme = syntax.Reduction(e.function, others, other, (), span=e.span)
            gap = subtract(extreme, body) if e.function == "max" else subtract(body, extreme)
            # 1 for the member that it is, 0 for all others: no two are equal, or one would do as well.
            chosen = subtract(ONE, syntax.Call("sign", (gap,)))
            self._nonlinear(body, replace(inside, seed=multiply(here.seed, chosen)))
        elif e.function == "softmax":
            # d a[k] / d e[j] = a[k] ([k = j] - a[j])
            own, there = self._map(e, e.body), self._map(e, body)
            self._nonlinear(e.body, replace(here, seed=multiply(here.seed, own)))
            self._nonlinear(body, replace(inside.negated(), seed=multiply(multiply(here.seed, own), there)))
        elif e.function == "batchnorm":
            # d u[k] / d e[j] = ([k = j] - (1 + u[k] u[j]) / B) / s
            seed = divide(here.seed, self._spread(e))
            self._nonlinear(e.body, replace(here, seed=seed))
            count = _count(replace(e, binders=binders), ranges)
            both = add(ONE, multiply(self._map(e, e.body), self._map(e, body)))
            self._nonlinear(body, replace(inside.negated().over(count), seed=multiply(seed, both)))
        else:
            raise ProgramError(
                f"the derivative of {e.function} over vectors is not supported in a backward pass", e.span
            )

    def _written_out(self, e: syntax.Reduction) -> syntax.Expr:
        """A reduction without indices that are bound outside, which a backward pass may put other indices for."""
        return self._map(e, e.body) if e.function in ("softmax", "batchnorm") else e

    def _map(self, e: syntax.Reduction, body: syntax.Expr) -> syntax.Expr:
        """softmax or batchnorm at the member that has this body: exp(e) / Σ exp(e), (e - m) / s."""
        if e.function == "softmax":
            return divide(syntax.Call("exp", (body,)), self._total("sum", e, "exp"))
        return divide(subtract(body, self._total("mean", e)), self._spread(e))

    def _spread(self, e: syntax.Reduction) -> syntax.Expr:
        """The s of a batchnorm."""
        variance = subtract(self._total("mean", e, "square"), power(self._total("mean", e), syntax.Number("2")))
        return syntax.Call("sqrt", (add(variance, dict(e.keywords).get("eps", ZERO)),))

    def _copy(self, e: syntax.Reduction, low: syntax.Expr | None = None, high: syntax.Expr | None = None):
        """The indices and the body of a reduction under other names, the ranges written out, or with other ends."""
        binders: list[syntax.Binder] = []
        mapping: dict[syntax.Expr, syntax.Expr] = {}
        for b in e.binders:
            r = self._range(b)
            ends = (rename(bound_expression(x, e), lambda s: mapping.get(s)) for x in (r.low, r.high))
            low, high = (new if new is not None else old for new, old in zip((low, high), ends, strict=True))
            bound = self._bind(syntax.Binder(self.names[b.name], low, high, span=b.span), {})
            mapping[syntax.Name(b.name)] = syntax.Name(bound.name)
            binders.append(bound)
            low = high = None
        return tuple(binders), rename(e.body, lambda s: mapping.get(s) if isinstance(s, syntax.Name) else None)

    def _total(self, function: str, e: syntax.Reduction, of: str | None = None) -> syntax.Expr:
        """The sum or the mean over the index of a reduction, of its body or of a function of it."""
        binders, body = self._copy(e)
        return syntax.Reduction(function, binders, syntax.Call(of, (body,)) if of else body, (), span=e.span)

    def _readout(self, e: syntax.Expr, here: _Here) -> None:
        match e:
            case syntax.Binary("@", syntax.Transpose(v), x):
                width = self.program.families[v.name].type
                assert isinstance(width, Vector)
                scaled = self._output_factor(here, width.width, e.span)
                for r, other in ((x, v), (v, x)):
                    if is_zero(other):
                        continue
                    sent: syntax.Expr = other
                    if here.guarded and not isinstance(other, syntax.Guard):
                        sent = syntax.Guard(other, ZERO)
                    self._reference(r, replace(scaled, seed=sent), sent)
            case syntax.Binary("+" | "-" as op, left, right):
                self._readout(left, here)
                self._readout(right, here.negated() if op == "-" else here)
            case syntax.Binary("*" | "/" as op, left, right):
                if isinstance(readout_type(left, self.scope), Process):
                    self._readout(left, here.times(right) if op == "*" else here.over(right))
                else:
                    self._readout(right, here.times(left))
            case syntax.Negate(operand):
                self._readout(operand, here.negated())
            case syntax.Call("LinComb", (inner,)):
                self._readout(inner, here)
            case syntax.Reduction("sum" | "mean", _, body):
                self._readout(body, self._under(e, here))
            case syntax.Conditional(then, condition, otherwise):
                self._readout(then, here.when(condition))
                self._readout(otherwise, here.when(syntax.Not(condition)))
            case syntax.Guard(value):
                self._readout(value, replace(here, guarded=True))

    def _under(self, e: syntax.Reduction, here: _Here) -> _Here:
        """Inside of a sum or a mean."""
        ranges = tuple(self._range(b) for b in e.binders)
        if e.function == "mean":
            here = here.over(_count(e, ranges))
        return replace(here, unknowns=(*here.unknowns, *ranges))

    def _reference(self, e: syntax.Expr, here: _Here, value: syntax.Expr) -> None:
        r = self._vector(e)
        if r is None:
            return
        self.found.append(
            Read(
                family=r.name,
                indices=tuple(self.scope.affine(i) for i in r.indices) if isinstance(r, syntax.Index) else (),
                reader=here.reader,
                unknowns=here.unknowns,
                conditions=here.conditions,
                seed=here.seed,
                value=here.scaled(value),
                output=here.output,
                boxed=here.boxed,
                span=e.span,
            )
        )

    # ------------------------------------------------------------ helpers

    def _scalar(self, e: syntax.Expr) -> bool:
        return isinstance(infer(e, self.scope), Constant | Scalar)

    def _vector(self, e: syntax.Expr) -> syntax.Name | syntax.Index | None:
        """The vector that a reference names, guarded or not; None for data and C's."""
        while isinstance(e, syntax.Guard):
            e = e.value
        if isinstance(e, syntax.Name | syntax.Index) and isinstance(self.scope.types.get(e.name), Vector):
            return e
        return None

    def _transposed(self, matrix: syntax.Expr) -> syntax.Expr:
        """W.T for W, and W for a name of W.T."""
        assert isinstance(matrix, syntax.Name | syntax.Index)
        family = self.program.families[matrix.name]
        assert isinstance(family.type, Matrix)
        if family.transpose_of is not None and len(family.clauses) == 1:
            clause = family.clauses[0]
            symbols = [next(iter(a.symbols)) for a in clause.target if a == Affine.symbol(*a.symbols or "?")]
            if len(set(symbols)) == len(clause.target) and isinstance(clause.value, syntax.Call):
                given = matrix.indices if isinstance(matrix, syntax.Index) else ()
                values = dict(zip(symbols, given, strict=True))
                return rename(
                    clause.value.arguments[0], lambda s: values.get(s.name) if isinstance(s, syntax.Name) else None
                )
        return syntax.Transpose(matrix)

    def _output_factor(self, here: _Here, width: str, span: Span) -> _Here:
        """The factor of a readout times sqrt(n): free of n, or the output has no limit."""
        number = sympy.sqrt(size_symbol(width))
        left: list[tuple[syntax.Expr, int]] = []
        for factors, sign in ((here.numerators, 1), (here.denominators, -1)):
            for factor in factors:
                value = self._number(factor)
                if value is None:
                    left.append((factor, sign))
                else:
                    number *= value**sign
        n = size_symbol("n")
        number = number.subs({size_symbol(w): ratio * n for w, ratio in self.program.widths.items()}, simultaneous=True)
        number = sympy.powsimp(sympy.simplify(number))
        if number.has(n):
            raise ProgramError(
                f"the readout has the factor {text(number)}/sqrt({width}): it has no limit, and no backward pass",
                span,
                hint=f"write v.T @ x / sqrt({width})",
            )
        numerator, denominator = (_parsed(x) for x in sympy.fraction(number))
        numerators = [e for e, sign in left if sign > 0]
        denominators = [e for e, sign in left if sign < 0]
        if not is_number(numerator, 1):
            numerators.insert(0, numerator)
        if not is_number(denominator, 1):
            denominators.append(denominator)
        return replace(here, numerators=tuple(numerators), denominators=tuple(denominators))

    def _number(self, e: syntax.Expr) -> sympy.Expr | None:
        try:
            return self.scope.number(e)
        except ProgramError:  # a C
            return None


def reference(name: str, indices: tuple[syntax.Expr, ...]) -> syntax.Name | syntax.Index:
    return syntax.Index(name, indices) if indices else syntax.Name(name)


def _boxed(target: tuple[Affine, ...], unknowns: tuple[Range, ...]) -> bool:
    """Whether a family with these indices has a range that is the product of those of the unknowns."""
    symbols = {r.name for r in unknowns}
    plain = [a for a in target if not a.is_constant]
    ends = [end for r in unknowns for end in (r.low, r.high)]
    return sorted(map(str, plain)) == sorted(symbols) and all(
        isinstance(end, Affine) and not end.symbols & symbols for end in ends
    )


def _cases(e: syntax.Expr) -> Iterator[tuple[tuple[syntax.Condition, ...], syntax.Expr]]:
    """A derivative without the conditionals outside, and without those cases that are zero."""
    if isinstance(e, syntax.Conditional):
        for condition, branch in ((e.condition, e.then), (syntax.Not(e.condition), e.otherwise)):
            for inner, part in _cases(branch):
                yield (condition, *inner), part
    elif not is_number(e, 0):
        yield (), e


def _count(e: syntax.Reduction, ranges: tuple[Range, ...]) -> syntax.Expr:
    """How many terms a mean has."""
    symbols = {r.name for r in ranges}
    lengths = []
    for r in ranges:
        assert isinstance(r.low, Affine) and isinstance(r.high, Affine)
        lengths.append(r.high - r.low + 1)
    if any(a.symbols & symbols or a.divided for a in lengths):  # as a number, P/2 is not rounded
        return syntax.Reduction("sum", e.binders, ONE)
    count: syntax.Expr = ONE
    for a in lengths:
        count = multiply(count, affine_expression(a))
    return count


def _parsed(number: sympy.Expr) -> syntax.Expr:
    """A number as syntax, without places: `sqrt(H * W)`."""
    square = sympy.expand(number**2)
    if any(e.is_Rational and not e.is_Integer for e in number.as_powers_dict().values()) and square.is_polynomial():
        return syntax.Call("sqrt", (_parsed(square),))
    return numeral(number)
