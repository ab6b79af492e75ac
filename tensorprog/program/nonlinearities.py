"""The coordinatewise functions of a program: how each grows, and how smooth it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sympy

from tensorprog.errors import ProgramError
from tensorprog.functions import Facts, facts, text
from tensorprog.language import syntax
from tensorprog.program.ir import Program
from tensorprog.program.scope import Scope
from tensorprog.program.substitution import free_names, subexpressions
from tensorprog.program.types import Vector

_ARGUMENTS = ("x", "y", "z", "w")


@dataclass(frozen=True)
class Nonlinearity:
    """A function as the program calls it, and in terms of known ones (`gate(x)`, `erf(x)/2 + 1/2`).

    growth: "bounded", "polynomial", "exponential" or "beyond" (faster than exp(O(|x|))).
    smoothness: "smooth", "kink at 0" (continuous, a derivative jumps), "jump at 0", …
    """

    name: str
    expression: str
    growth: str
    smoothness: str


def nonlinearities(program: Program) -> tuple[Nonlinearity, ...]:
    """Every function that the program applies to vectors, once, in the order of the text."""
    scope = Scope(
        parameters={p.name: p for p in program.parameters},
        widths=dict(program.widths),
        features=list(program.features),
        functions=dict(program.functions),
        ranges={f.name: f.ranges for f in program.families.values()},
        types={f.name: f.type for f in program.families.values()},
    )
    vectors = {f.name for f in program.families.values() if isinstance(f.type, Vector)}
    found: dict[tuple[str, str], Nonlinearity] = {}
    for family in program.families.values():
        for clause in family.clauses:
            for e in subexpressions(clause.value):
                for n in _of(e, scope, vectors):
                    found.setdefault((n.name, n.expression), n)
    return tuple(found.values())


def _of(e: syntax.Expr, scope: Scope, vectors: set[str]) -> Iterator[Nonlinearity]:
    match e:
        case syntax.Call("MatMul" | "LinComb" | "Nonlin" | "Moment" | "Trsp"):
            return
        case syntax.Call(name, arguments, keywords):
            symbols, live = _symbols(arguments, vectors)
            if live:
                shown = f"{name}({', '.join(map(str, symbols))})"
                try:
                    named = {k: scope.number(v) for k, v in keywords}
                    yield _described(shown, scope.apply(name, list(symbols), named, e.span), live)
                except ProgramError:  # a keyword that is a C, say
                    yield Nonlinearity(shown, shown, "unknown", "unknown")
        case syntax.DerivativeCall(function, argument, arguments):
            symbols, live = _symbols(arguments, vectors)
            if live:
                derived = scope.derivative(function, argument, e.span)
                body = derived.body.xreplace(dict(zip(derived.arguments, symbols, strict=False)))
                body = body.xreplace(
                    {s: v for s, v in zip(derived.arguments, derived.defaults, strict=True) if v is not None}
                )
                yield _described(f"{derived.name}({', '.join(map(str, symbols))})", body, live)
        case syntax.Binary("*", left, right) if free_names(left) & vectors and free_names(right) & vectors:
            x, y = _named(2)
            yield _described("x * y", x * y, [x, y])
        case syntax.Binary("/", left, right) if free_names(right) & vectors:
            (x,) = _named(1)
            yield _described("1 / x", 1 / x, [x])
        case syntax.Binary("**", left, right) if free_names(left) & vectors:
            (x,) = _named(1)
            try:
                yield _described(f"x ** {text(scope.number(right))}", x ** scope.number(right), [x])
            except ProgramError:
                yield Nonlinearity("x ** y", "x ** y", "unknown", "unknown")
        case syntax.Reduction("batchnorm" as kind, binders, body, keywords) if free_names(body) & vectors:
            smoothness = "smooth" if keywords else "smooth, except where all of the batch is equal"
            yield Nonlinearity(f"{kind}[{binders[0].name}](x)", f"{kind}[{binders[0].name}](x)", "bounded", smoothness)


def _named(count: int) -> list[sympy.Symbol]:
    return [sympy.Symbol(_ARGUMENTS[k] if count <= len(_ARGUMENTS) else f"x{k + 1}", real=True) for k in range(count)]


def _symbols(arguments, vectors: set[str]) -> tuple[list[sympy.Symbol], list[sympy.Symbol]]:
    """A symbol for each argument, and those that stand for vectors."""
    symbols = _named(len(arguments))
    return symbols, [s for s, a in zip(symbols, arguments, strict=True) if free_names(a) & vectors]


def _described(name: str, e: sympy.Expr, live: list[sympy.Symbol]) -> Nonlinearity:
    known = [facts(e, s) for s in live]
    order = ("bounded", "polynomial", "exponential", "beyond")
    growth = max((f.growth for f in known), key=order.index)
    worst = min(known, key=lambda f: f.continuity)
    return Nonlinearity(name, text(e), growth, _smoothness(worst))


def _smoothness(f: Facts) -> str:
    if f.smooth:
        return "smooth"
    if not f.located:
        return "kinks where its parameters put them"
    places = ", ".join(text(place) for place in (f.jumps or f.kinks))
    if f.jumps:
        return f"jump at {places}"
    if f.continuity == 0:
        return f"kink at {places}"
    times = {1: "once", 2: "twice"}.get(f.continuity, f"{f.continuity} times")
    return f"{times} continuously differentiable, not more at {places}"
