"""Names of a program and what they stand for; integer and real expressions in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError, Span, did_you_mean
from tensorprog.index.affine import Affine, Entry, quotient, remainder
from tensorprog.index.bounds import evaluate_bound
from tensorprog.index.ranges import Range
from tensorprog.language import syntax
from tensorprog.program.ir import Function, Parameter
from tensorprog.program.substitution import children
from tensorprog.program.types import Position, Type

CORE = ("MatMul", "LinComb", "Nonlin", "Moment", "Trsp")
REDUCTIONS = ("sum", "mean", "prod", "max", "min")
MAPS = ("softmax", "batchnorm")
CONSTANTS = {"pi": sympy.pi}

_MOST_DIGITS = 18  # of an integer in an index, which is computed with in 64 bits
_LARGEST = sympy.Float("1.7976931348623157e308")
_DIGITS = 323  # a power of numbers with more digits, before or after the point, leaves floating point
_POINTS = 64  # values of an index at which numbers are looked at
_EXPONENT = 1000  # of a power of variables and parameters


def real_symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


def size_symbol(name: str) -> sympy.Symbol:
    """A width, a feature size or an integer parameter, as a positive real in laws and coefficients."""
    return sympy.Symbol(name, positive=True)


@dataclass(frozen=True)
class Binding:
    """A loop index in scope: its range, and whether the loop counts down."""

    range: Range
    reverse: bool = False


@dataclass
class Scope:
    """What every name means while a program is elaborated."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    widths: dict[str, sympy.Expr] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)
    functions: dict[str, Function] = field(default_factory=dict)
    macros: dict[str, syntax.Definition] = field(default_factory=dict)
    ranges: dict[str, tuple[Range, ...]] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    indices: dict[str, Binding] = field(default_factory=dict)

    # -- names

    def known(self) -> list[str]:
        return [*self.parameters, *self.widths, *self.features, *self.ranges, *self.indices, *self.functions]

    def undefined(self, name: str, span: Span, hint: str | None = None) -> ProgramError:
        """The error of a name that nothing declares; `hint` is for one that resembles none that is."""
        if name in CORE or name in REDUCTIONS or name in MAPS or self.is_function(name):
            return ProgramError(f"'{name}' is a function: write {name}(…)", span)
        return ProgramError(f"undefined name '{name}'", span, hint=did_you_mean(name, self.known()) or hint)

    def is_function(self, name: str) -> bool:
        parameter = self.parameters.get(name)
        if parameter is not None:
            return parameter.kind == "function"
        return name in self.functions or name in self.macros or functions.lookup(name) is not None

    def function_name(self, name: str) -> str:
        """The function that a name stands for, a function parameter looked through."""
        seen = set()
        while name in self.parameters and self.parameters[name].kind == "function" and name not in seen:
            seen.add(name)
            value = self.parameters[name].value
            if not isinstance(value, str) or value == name:
                break
            name = value
        return name

    @contextlib.contextmanager
    def bound(self, bindings: list[Binding]) -> Iterator[None]:
        """These indices in scope, hiding outer ones of the same name."""
        before = dict(self.indices)
        for b in bindings:
            self.indices[b.range.name] = b
        try:
            yield
        finally:
            self.indices = before

    @contextlib.contextmanager
    def binding(self, binders: Sequence[syntax.Binder]) -> Iterator[list[Binding]]:
        """The indices of a reduction or of a nest of loops in scope, each range seeing the indices before it."""
        check_distinct(binders)
        before = dict(self.indices)
        found = []
        try:
            for b in binders:
                found.append(self.range_of(b))
                self.indices[b.name] = found[-1]
            yield found
        finally:
            self.indices = before

    def index_ranges(self) -> dict[str, Range]:
        return {name: b.range for name, b in self.indices.items()}

    # -- integers

    def affine(self, e: syntax.Expr) -> Affine:
        """An index or the end of a range: affine in loop indices and integer parameters, quotients rounded down.

        Raises ProgramError for anything else.
        """
        match e:
            case syntax.Number(text):
                if not text.isdigit():
                    raise ProgramError(f"an index or a range needs an integer, not {text}", e.span)
                if len(text.lstrip("0")) > _MOST_DIGITS:
                    raise ProgramError("this index is too large", e.span)
                return Affine(int(text))
            case syntax.Name(name):
                if name in self.indices or name in self.features:
                    return Affine.symbol(name)
                if name in self.parameters:
                    if self.parameters[name].kind not in ("integer", "size"):
                        kind = self.parameters[name].kind
                        raise ProgramError(f"'{name}' is a {kind} parameter, not an integer", e.span)
                    return Affine.symbol(name)
                if name in self.widths:
                    raise ProgramError(f"the width '{name}' goes to infinity: it is no index and no size", e.span)
                if isinstance(self.types.get(name), Position):
                    return self._entry(name, (), e.span)
                if name in self.ranges:
                    raise ProgramError(f"'{name}' is not an integer", e.span)
                raise self.undefined(name, e.span)
            case syntax.Index(name, indices) if isinstance(self.types.get(name), Position):
                return self._entry(name, indices, e.span)
            case syntax.Negate(operand):
                return -self.affine(operand)
            case syntax.Binary("+", left, right):
                return self.affine(left) + self.affine(right)
            case syntax.Binary("-", left, right):
                return self.affine(left) - self.affine(right)
            case syntax.Binary("*", left, right):
                a, b = self.affine(left), self.affine(right)
                for x, y in ((a, b), (b, a)):
                    x = x.substitute(self.integers())
                    if x.is_constant:
                        return y * x.constant
                raise ProgramError("an index must be affine: a product needs a number on one side", e.span)
            case syntax.Binary("/", left, right):
                numerator, divisor = self.affine(left), self._divisor(right).constant
                if numerator.is_constant and numerator.constant % divisor:
                    raise ProgramError(f"an integer is needed here, not {numerator}/{divisor}", e.span)
                return quotient(numerator, divisor)
            case syntax.Binary("mod", left, right):
                around = self.affine(right)
                if around.symbols & self.indices.keys() or around.entries:
                    raise ProgramError(
                        "an index wraps around at a number or a size, not at another index or at data", right.span
                    )
                settled = around.substitute(self.integers())
                if settled.is_constant and settled.constant < 1:
                    raise ProgramError(f"{settled} is no size to wrap around at", right.span)
                return remainder(self.affine(left), around)
            case _:
                raise ProgramError(
                    "an index or the end of a range is affine in loop indices and integer parameters",
                    e.span,
                    hint="an index that wraps around is written x[(p + a) mod P]"
                    if isinstance(e, syntax.Call) and e.function == "mod"
                    else None,
                )

    def _entry(self, name: str, indices: tuple[syntax.Expr, ...], span: Span) -> Affine:
        """An entry of data that hold indices."""
        t = self.types[name]
        assert isinstance(t, Position)
        if len(indices) != len(self.ranges[name]):
            raise ProgramError(f"'{name}' has {len(self.ranges[name])} indices, {given(len(indices))}", span)
        return Affine.symbol(Entry(name, tuple(self.affine(i) for i in indices), t.size))

    def positions(self, node) -> list[syntax.Name | syntax.Index]:
        """The entries of data that hold indices in an integer expression or a condition, the outermost ones."""
        if isinstance(node, syntax.Name | syntax.Index):
            known = isinstance(self.types.get(node.name), Position) and node.name not in self.indices
            return [node] if known else []
        return [p for c in children(node) for p in self.positions(c)]

    def known_before_data(self, e: syntax.Expr) -> Affine:
        """`affine` of what does not depend on data, as the ends of ranges do not."""
        value = self.affine(e)
        if value.entries:
            raise ProgramError(f"{value.entries[0]} is data: a range has ends that are known before", e.span)
        return value

    def _divisor(self, e: syntax.Expr) -> Affine:
        """The number that an index or the end of a range is divided by."""
        value = self.affine(e).substitute(self.integers())
        if not value.is_constant:
            raise ProgramError("an index or a size is divided by a number, as in P/2", e.span)
        if value.constant < 1:
            problem = "division by zero" if value.constant == 0 else "an index is divided by a positive number"
            raise ProgramError(problem, e.span)
        return value

    def values(self) -> dict[sympy.Basic, sympy.Expr]:
        """The parameters whose values are known, by the symbols they are in expressions of numbers."""
        found: dict[sympy.Basic, sympy.Expr] = {}
        for p in self.parameters.values():
            if p.name in self.indices or p.value is None or p.kind == "function":
                continue
            found[real_symbol(p.name) if p.kind == "real" else size_symbol(p.name)] = sympy.sympify(p.value)
        return found

    def integers(self) -> dict[str, int]:
        return {
            p.name: p.value
            for p in self.parameters.values()
            if p.kind in ("integer", "size") and isinstance(p.value, int)
        }

    def range_of(self, binder: syntax.Binder) -> Binding:
        """The range that a binder names; without ends, that of the index already bound."""
        if binder.low is None or binder.high is None:
            if binder.name in self.indices:
                return self.indices[binder.name]
            raise ProgramError(
                f"index '{binder.name}' has no range", binder.span, hint=f"write {binder.name} = 1..T, say"
            )
        low, high = self.known_before_data(binder.low), self.known_before_data(binder.high)
        step = 1 if binder.step is None else self._step(binder)
        if step == -1:
            return Binding(Range(binder.name, high, low), True)
        if step != 1:
            raise ProgramError(
                f"a step of {step} is not supported",
                binder.span,
                hint="count by 1 or by -1 and multiply inside the index, as in x[2*i]",
            )
        return Binding(Range(binder.name, low, high))

    def _step(self, binder: syntax.Binder) -> int:
        assert binder.step is not None
        value = self.affine(binder.step).substitute(self.integers())
        if not value.is_constant or value.constant == 0:
            raise ProgramError("the step of a range is a number other than zero", binder.step.span)
        return value.constant

    # -- reals

    def number(self, e: syntax.Expr) -> sympy.Expr:
        """An expression of numbers, real parameters, integers, widths and sizes, in sympy.

        Raises ProgramError where a variable or an unknown name stands in it.
        """
        match e:
            case syntax.Number(text):
                return literal(text)
            case syntax.Name(name):
                return self.scalar_name(name, e.span)
            case syntax.Negate(operand):
                return -self.number(operand)
            case syntax.Binary(op, left, right) if op != "@":
                return arithmetic(op, self.number(left), self.number(right), e.span)
            case syntax.Call(name, arguments, keywords):
                return self.apply(name, [self.number(a) for a in arguments], self._keywords(keywords), e.span)
            case syntax.Index(name) if name in self.ranges:
                raise ProgramError(f"'{name}' is a variable, where a number is needed", e.span)
            case syntax.Index(name):
                raise self.undefined(name, e.span)
            case _:
                raise ProgramError("a number is needed here", e.span)

    def scalar_name(self, name: str, span: Span) -> sympy.Expr:
        if name in self.indices:
            return size_index(name)
        if name in self.parameters:
            p = self.parameters[name]
            if p.kind == "function":
                raise ProgramError(f"'{name}' is a function: write {name}(…)", span)
            return real_symbol(name) if p.kind == "real" else size_symbol(name)
        if name in self.widths or name in self.features:
            return size_symbol(name)
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in self.ranges:
            raise ProgramError(f"'{name}' is a variable, where a number is needed", span)
        raise self.undefined(name, span)

    def _keywords(self, keywords: tuple[tuple[str, syntax.Expr], ...]) -> dict[str, sympy.Expr]:
        return {k: self.number(v) for k, v in keywords}

    def apply(self, name: str, arguments: list[sympy.Expr], keywords: dict[str, sympy.Expr], span: Span) -> sympy.Expr:
        """A coordinatewise function of sympy expressions.

        Raises ProgramError for an unknown function and for a wrong number or name of arguments.
        """
        return finite(self._apply(name, arguments, keywords, span), span)

    def _apply(self, name: str, arguments: list[sympy.Expr], keywords: dict[str, sympy.Expr], span: Span) -> sympy.Expr:
        if not self.is_function(name):
            raise self.unknown_function(name, span)
        real = self.function_name(name)
        if real in self.functions:
            return apply_definition(self.functions[real], arguments, keywords, span)
        entry = functions.lookup(real)
        if entry is None:
            raise self.unknown_function(real, span)
        low, high = entry.arguments
        defaults = dict(entry.parameters)
        if unknown := [k for k in keywords if k not in defaults]:
            raise ProgramError(f"{name} has no argument '{unknown[0]}'", span, hint=did_you_mean(unknown[0], defaults))
        most = None if high is None else high + len(defaults)
        if len(arguments) < low or (most is not None and len(arguments) > most):
            raise wrong_count(name, low, most, len(arguments), span)
        if high is None:
            return entry.symbolic(*arguments)
        given, extra = arguments[:high], arguments[high:]
        values = dict(zip(defaults, extra, strict=False))
        if twice := [k for k in keywords if k in values]:
            raise ProgramError(f"{name} is given '{twice[0]}' twice", span)
        return entry.symbolic(*given, *({**defaults, **values, **keywords}[k] for k in defaults))

    def derivative(self, function: str | syntax.DerivativeOf, argument: int | None, span: Span) -> Function:
        """D(f) or D[i](f), as a Function of its own."""
        if isinstance(function, syntax.DerivativeOf):
            inner = self.derivative(function.function, function.argument, span)
        else:
            inner = self.as_function(function, span)
        if argument is None:
            if sum(d is None for d in inner.defaults) > 1:
                raise ProgramError(
                    f"{inner.name} has {len(inner.arguments)} arguments: write D[i](…) for one of them", span
                )
            argument = 1
        if not 1 <= argument <= len(inner.arguments):
            raise ProgramError(f"{inner.name} has no argument {argument}", span)
        name = f"D[{argument}]({inner.name})"
        return Function(name, inner.arguments, inner.defaults, inner.body.diff(inner.arguments[argument - 1]))

    def as_function(self, name: str, span: Span) -> Function:
        if not self.is_function(name):
            raise self.unknown_function(name, span)
        real = self.function_name(name)
        if real in self.functions:
            return self.functions[real]
        entry = functions.lookup(real)
        if entry is None:
            raise self.unknown_function(real, span)
        low, _ = entry.arguments
        arguments = [sympy.Symbol(f"_x{i + 1}", real=True) for i in range(low)]
        extra = [sympy.Symbol(f"_{k}", real=True) for k, _ in entry.parameters]
        defaults = [None] * low + [v for _, v in entry.parameters]
        return Function(real, (*arguments, *extra), tuple(defaults), entry.symbolic(*arguments, *extra))

    def unknown_function(self, name: str, span: Span) -> ProgramError:
        names = [*functions.names(), *self.functions, *self.macros, *REDUCTIONS, *MAPS, *CORE, "layernorm"]
        names += [p.name for p in self.parameters.values() if p.kind == "function"]
        parameter = self.parameters.get(name)
        if parameter is not None and parameter.kind == "function":
            return ProgramError(f"the parameter '{name}' has no value", span, hint=f"pass {name}=relu, say")
        if name in self.macros:
            return ProgramError(f"'{name}' is no coordinatewise function", span)
        if name in self.known():
            return ProgramError(f"'{name}' is not a function", span)
        return ProgramError(
            f"unknown function '{name}'",
            span,
            hint=did_you_mean(name, names) or f"declare it: def {name}(x) := …",
        )


def size_index(name: str) -> sympy.Symbol:
    """A loop index standing as a number in a coefficient."""
    return sympy.Symbol(name, integer=True)


def literal(text: str) -> sympy.Expr:
    """A number as written, exactly."""
    return sympy.Rational(text)


def arithmetic(op: str, left: sympy.Expr, right: sympy.Expr, span: Span) -> sympy.Expr:
    """`left op right`. Raises ProgramError where that is no finite real number, or too large for floating point."""
    match op:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            result = left * right
        case "**":
            result = _power(left, right, span)
        case "mod":
            raise not_a_number(span)
        case _:
            if right == 0:
                raise ProgramError("division by zero", span)
            result = left / right
    return finite(result, span)


def not_a_number(span: Span) -> ProgramError:
    """The error that `mod` is outside of indices."""
    return ProgramError("'mod' stands in indices, ranges and conditions, between integers", span)


def _power(base: sympy.Expr, exponent: sympy.Expr, span: Span) -> sympy.Expr:
    """`base ** exponent`, refused before it is computed where it would be too large to write down."""
    if exponent.is_number and exponent.is_real and base not in (0, 1, -1):
        size = abs(float(exponent))
        if base.is_number and base.is_real and base.is_nonzero:
            size *= abs(float(sympy.log(abs(base), 10).evalf(6)))
        if size > (_DIGITS if base.is_number else _EXPONENT):
            raise ProgramError("this power is beyond what floating point holds", span)
    if base == 0 and exponent.is_negative:
        raise ProgramError("division by zero", span)
    return base**exponent


def finite(value: sympy.Expr, span: Span) -> sympy.Expr:
    """The value itself. Raises ProgramError where it is not finite, not real, or too large for floating point."""
    if value.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I) or (
        value.is_number and not value.is_Rational and value.is_real is False
    ):
        raise ProgramError("this has no finite real value", span)
    if value.is_number and value.is_real and abs(value if value.is_Rational else value.evalf(15)) > _LARGEST:
        raise ProgramError("this number is beyond what floating point holds", span)
    return functions.real(value)


def substituted(e: sympy.Expr, values: Mapping[sympy.Basic, sympy.Expr], span: Span) -> sympy.Expr:
    """The expression with symbols replaced, its powers checked. Raises ProgramError as `arithmetic` does."""
    if not values or not (e.free_symbols & values.keys()):
        return e
    if e in values:
        return values[e]
    arguments = [substituted(a, values, span) if isinstance(a, sympy.Expr) else a.xreplace(values) for a in e.args]
    if isinstance(e, sympy.Pow):
        return _power(arguments[0], arguments[1], span)
    return e.func(*arguments)


def given(count: int) -> str:
    return "none is given" if count == 0 else "1 is given" if count == 1 else f"{count} are given"


def wrong_count(name: str, least: int, most: int | None, count: int, span: Span) -> ProgramError:
    """The error of a call with too few or too many arguments; `most` is None where there is no limit."""
    takes = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
    plural = "" if least == most == 1 else "s"
    return ProgramError(f"{name} takes {takes} argument{plural}, {given(count)}", span)


def check_distinct(binders: Iterable[syntax.Binder]) -> None:
    """Raises ProgramError where an index is bound twice at once."""
    seen: set[str] = set()
    for b in binders:
        if b.name in seen:
            raise ProgramError(f"the index '{b.name}' is named twice", b.span)
        seen.add(b.name)


def apply_definition(
    f: Function, arguments: list[sympy.Expr], keywords: dict[str, sympy.Expr], span: Span
) -> sympy.Expr:
    names = [a.name.removeprefix("_") for a in f.arguments]
    least = sum(d is None for d in f.defaults)
    if len(arguments) > len(f.arguments):
        raise wrong_count(f.name, least, len(names), len(arguments), span)
    values = dict(zip(names, arguments, strict=False))
    for k, v in keywords.items():
        if k not in names:
            raise ProgramError(f"{f.name} has no argument '{k}'", span, hint=did_you_mean(k, names))
        if k in values:
            raise ProgramError(f"{f.name} is given '{k}' twice", span)
        values[k] = v
    for name, default in zip(names, f.defaults, strict=True):
        if name not in values:
            if default is None:
                raise wrong_count(f.name, least, len(names), len(arguments), span)
            values[name] = default
    return finite(substituted(f.body, dict(zip(f.arguments, (values[n] for n in names), strict=True)), span), span)


def points(scope: Scope, symbols: set[sympy.Basic]) -> Iterator[dict[sympy.Basic, sympy.Expr]]:
    """The indices in scope among these symbols, at their values, as far as the ranges are known.

    None where the loops around are empty or not known. At most _POINTS values of an index are gone through; where
    the end of a range is a size still open, its first value stands for all, as data have one entry at least.
    """
    known = scope.integers()
    bindings = [b.range for b in scope.indices.values()]
    relevant = [size_index(r.name) in symbols for r in bindings]
    budget = [_POINTS**2]

    def ends(r: Range, at: dict[str, int]) -> range:
        try:
            low = evaluate_bound(r.low, at)
        except KeyError:
            return range(0)
        try:
            high = evaluate_bound(r.high, at)
        except KeyError:
            one = {p.name: 1 for p in scope.parameters.values() if p.kind in ("integer", "size")}
            try:
                high = min(low, evaluate_bound(r.high, {**one, **at}))
            except KeyError:
                return range(0)
        return range(low, min(high, low + _POINTS) + 1)

    def visit(k: int, at: dict[str, int]) -> Iterator[dict[str, int]]:
        if k == len(bindings):
            yield at
            return
        for v in ends(bindings[k], at):
            budget[0] -= 1
            if budget[0] < 0:
                return
            for point in visit(k + 1, {**at, bindings[k].name: v}):
                yield point
                if not any(relevant[k + 1 :]):
                    break
            else:
                continue
            if not any(relevant[k:]):
                return

    seen = set()
    for at in visit(0, known):
        point = tuple(at[r.name] for r, used in zip(bindings, relevant, strict=True) if used)
        if point not in seen:
            seen.add(point)
            names = (size_index(r.name) for r, used in zip(bindings, relevant, strict=True) if used)
            yield {s: sympy.Integer(v) for s, v in zip(names, point, strict=True)}


def at_point(point: Mapping[sympy.Basic, sympy.Expr]) -> str:
    return f" at {', '.join(f'{s} = {v}' for s, v in point.items())}" if point else ""
