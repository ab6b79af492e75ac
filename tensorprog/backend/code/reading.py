"""Trees of source that other rooms write as text: functions of arrays, and calls of the rules of expectations.

    holes = Holes()
    text = functions.jax_code(z**2 + 1, {z: holes(array)})       "_1_**2 + 1"
    holes.filled(text)                                           Binary("+", Binary("**", array, …), …)

What is put in are trees, so that nobody asks of text whether it needs parentheses, or whether it is a number.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

import sympy

from tensorprog import functions
from tensorprog.backend.code import tree as t

_ARITHMETIC: Mapping[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|",
}  # fmt: skip
_COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


class Holes:
    """Names that stand for trees where source is written as text; equal trees have one name."""

    def __init__(self) -> None:
        self.trees: dict[str, t.Expr] = {}

    def __call__(self, e: t.Expr) -> str:
        for name, known in self.trees.items():
            if known == e:
                return name
        name = f"_{len(self.trees) + 1}_"
        self.trees[name] = e
        return name

    def filled(self, text: str) -> t.Expr:
        """The tree of a text with the trees in place of their names."""
        return parsed(text, self.trees)


def formula(expression: sympy.Expr, values: Mapping[sympy.Symbol, t.Expr]) -> t.Expr:
    """The tree of an expression in symbols, each of which stands for a tree; see `functions.jax_code`."""
    holes = Holes()
    text = functions.jax_code(expression, {symbol: holes(value) for symbol, value in values.items()})
    return holes.filled(text)


def parsed(text: str, values: Mapping[str, t.Expr] | None = None) -> t.Expr:
    """The tree of an expression in Python, with trees in place of the names in `values`."""
    return _read(ast.parse(text, mode="eval").body, values or {})


def _read(e: ast.expr, values: Mapping[str, t.Expr]) -> t.Expr:
    def read(x: ast.expr) -> t.Expr:
        return _read(x, values)

    def several(items: list[ast.expr]) -> tuple[t.Expr, ...]:
        return tuple(map(read, items))

    def optional(x: ast.expr | None) -> t.Expr | None:
        return None if x is None else read(x)

    match e:
        case ast.Name(name):
            return values.get(name, t.Name(name))
        case ast.Constant(value) if isinstance(value, bool | int | float | str) or value is None:
            return t.Literal(value)
        case ast.Attribute(of, name):
            owner = read(of)
            return t.Name(f"{owner.name}.{name}") if isinstance(owner, t.Name) else t.Attribute(owner, name)
        case ast.Call(function, arguments, keywords):
            named = tuple((k.arg or "", read(k.value)) for k in keywords)
            return t.Call(read(function), several(arguments), named)
        case ast.Subscript(of, ast.Tuple(places)):
            return t.Index(read(of), several(places))
        case ast.Subscript(of, place):
            return t.Index(read(of), (read(place),))
        case ast.Slice(start, stop, step):
            return t.Slice(optional(start), optional(stop), optional(step))
        case ast.UnaryOp(ast.USub(), operand):
            return t.Unary("-", read(operand))
        case ast.UnaryOp(ast.Not(), operand):
            return t.Unary("not", read(operand))
        case ast.BinOp(left, op, right):
            return t.Binary(_ARITHMETIC[type(op)], read(left), read(right))
        case ast.Compare(first, ops, others):
            return t.Compare(
                read(first), tuple((_COMPARISONS[type(op)], read(x)) for op, x in zip(ops, others, strict=True))
            )
        case ast.BoolOp(op, operands):
            return t.Logic("and" if isinstance(op, ast.And) else "or", several(operands))
        case ast.IfExp(test, then, otherwise):
            return t.Conditional(read(then), read(test), read(otherwise))
        case ast.Lambda(arguments, body):
            return t.Lambda(tuple(a.arg for a in arguments.args), read(body))
        case ast.ListComp(body, loops) | ast.GeneratorExp(body, loops):
            each = tuple(t.Each(loop.target.id, read(loop.iter)) for loop in loops if isinstance(loop.target, ast.Name))
            tests = [read(x) for loop in loops for x in loop.ifs]
            only = t.every("and", tests) if tests else None
            return t.Comprehension(read(body), each, only, lazy=isinstance(e, ast.GeneratorExp))
        case ast.Tuple(items):
            return t.TupleOf(several(items))
        case ast.List(items):
            return t.ListOf(several(items))
        case ast.Dict(keys, entries) if all(k is not None for k in keys):
            pairs = zip(keys, entries, strict=True)
            return t.DictOf(tuple((read(k), read(v)) for k, v in pairs if k is not None))
        case ast.Starred(of):
            return t.Star(read(of))
    raise ValueError(f"no tree is known for {ast.unparse(e)}")
