"""A program's syntax as the calls of a builder that make it: what the text says, said by hand."""

from __future__ import annotations

from typing import Any

from tensorprog.language import syntax
from tensorprog.language.terms import IndexCondition, Term, call, derivative, guarded, inner, name, over, where
from tensorprog.program.builder import ProgramBuilder


def replayed(tree: syntax.ProgramText) -> ProgramBuilder:
    builder = ProgramBuilder(tree.name, tree.comment)
    for p in tree.parameters:
        builder.parameter(p.name, None if p.default is None else term(p.default))
    _block(builder, tree.statements)
    return builder


def _block(builder: ProgramBuilder, statements: tuple[syntax.Statement, ...]) -> None:
    for s in statements:
        match s:
            case syntax.Width(x, value):
                builder.width(x, term(value))
            case syntax.Input(variables, type_):
                (v,) = variables
                argument = term(type_.arguments[0]) if type_.arguments else None
                builder.input(v.name, argument, ranges(v.axes), positions=argument if type_.name == "index" else None)
            case syntax.Random(kind, fixed, variables, type_, law):
                (v,) = variables
                scale = None if law.multiplier is None else term(law.multiplier)
                if law.divides:
                    scale = 1 / scale
                given = {"mean": term(law.mean), "variance": term(law.variance), "scale": scale, "fixed": fixed}
                getattr(builder, kind)(v.name, *map(term, type_.arguments), axes=ranges(v.axes), **given)
            case syntax.Definition(x, parameters, body):
                builder.define(x, _function(parameters, body))
            case syntax.Assignment(x, indices, value, annotation, output):
                entries = [ranges((i,)) if isinstance(i, syntax.Binder) else term(i) for i in indices]
                type_ = annotation and (annotation.name, *map(term, annotation.arguments))
                if output:
                    builder.output(x, term(value), entries, type_)
                else:
                    builder.assign(x, entries, term(value), type_)
            case syntax.For(binders, body):
                with builder.loop(**ranges(binders)):
                    _block(builder, body)


def _function(parameters: tuple[syntax.Parameter, ...], body: syntax.Expr) -> Any:
    arguments = ", ".join(p.name if p.default is None else f"{p.name}=defaults[{p.name!r}]" for p in parameters)
    defaults = {p.name: term(p.default) for p in parameters if p.default is not None}
    return eval(f"lambda {arguments}: body", {"defaults": defaults, "body": term(body)})


def ranges(binders: tuple[syntax.Binder, ...]) -> dict[str, Any]:
    return {
        b.name: None if b.low is None else tuple(term(e) for e in (b.low, b.high, b.step) if e is not None)
        for b in binders
    }


def term(e: syntax.Expr) -> Any:
    match e:
        case syntax.Number(text):
            return Term(e) if repr(eval(text)) != text else eval(text)
        case syntax.Name(text):
            return name(text)
        case syntax.Index(text, indices):
            return name(text)[tuple(map(term, indices))]
        case syntax.Transpose(operand):
            return term(operand).T
        case syntax.Negate(operand):
            return -Term(operand)
        case syntax.Binary(op, left, right):
            a, b = Term(left), term(right)
            return {
                "+": lambda: a + b,
                "-": lambda: a - b,
                "*": lambda: a * b,
                "/": lambda: a / b,
                "@": lambda: a @ b,
                "**": lambda: a**b,
                "mod": lambda: a % b,
            }[op]()
        case syntax.Conditional(then, condition, otherwise):
            return where(test(condition), term(then), term(otherwise))
        case syntax.Guard(value, otherwise):
            return guarded(term(value), term(otherwise))
        case syntax.Call(function, arguments, keywords):
            return call(function, *map(term, arguments), **{k: term(v) for k, v in keywords})
        case syntax.DerivativeCall(function, by, arguments, keywords):
            return derivative(function, *map(term, arguments), by=by, **{k: term(v) for k, v in keywords})
        case syntax.Reduction(function, binders, body, keywords):
            return over(function, term(body), ranges(binders), **{k: term(v) for k, v in keywords})
        case syntax.Bracket(operands, width):
            return inner(*map(term, operands), width=term(width))
    raise AssertionError(e)


def test(c: syntax.Condition) -> IndexCondition:
    match c:
        case syntax.And(left, right):
            return test(left) & test(right)
        case syntax.Or(left, right):
            return test(left) | test(right)
        case syntax.Not(operand):
            return ~test(operand)
        case syntax.Comparison(op, left, right):
            a, b = Term(left), term(right)
            return {
                "==": lambda: a == b,
                "!=": lambda: a != b,
                "<": lambda: a < b,
                "<=": lambda: a <= b,
                ">": lambda: a > b,
                ">=": lambda: a >= b,
            }[op]()
    raise AssertionError(c)
