"""From the grammar's reductions to the syntax tree: one method to a rule of `grammar/netsor.lark`.

Lark calls the methods while it parses, so no tree of Lark's own is walked and nothing here recurses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from lark import Token, Transformer

from tensorprog.errors import ProgramError, Span
from tensorprog.language.laws import gaussian_instead
from tensorprog.language.layout import token_span
from tensorprog.language.syntax import (
    And,
    Assignment,
    Binary,
    Binder,
    Bracket,
    Call,
    Comparison,
    Condition,
    Conditional,
    Definition,
    DerivativeCall,
    DerivativeOf,
    Expr,
    For,
    Guard,
    Index,
    Input,
    Law,
    Name,
    Negate,
    Not,
    Number,
    Or,
    Parameter,
    ProgramText,
    Random,
    Reduction,
    Transpose,
    TypeName,
    Variable,
    Width,
)

MAX_DEPTH = 200  # of a tree: later passes recurse over it, a few frames a level
MAX_DIGITS = 100  # of a literal


@dataclass(frozen=True, slots=True)
class Piece:
    """What a rule gave: its value, its place, and the depth of its tree.

    The place includes parentheses round the value; the value's own span leaves them out.
    """

    value: Any
    span: Span
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument between the parentheses of a call; `keyword` is its name, where it has one."""

    keyword: Token | None
    piece: Piece
    guarded: bool = False


Child = Token | Piece


class Builder(Transformer[Token, Piece]):
    """Builds a ProgramText: a method takes its rule's tokens and pieces and gives a Piece.

    ProgramError: what the grammar lets through and the language does not, and trees that are too deep.
    """

    def start(self, children: list[Child]) -> Piece:
        header, *statements = _pieces(children)
        name, parameters = header.value
        return _group(children, ProgramText(name, parameters, _values(statements), span=_span(children)))

    def header(self, children: list[Child]) -> Piece:
        parameters = children[2].value if isinstance(children[2], Piece) else ()
        return _group(children[:-1], (str(children[1]), parameters))

    def parameters(self, children: list[Child]) -> Piece:
        return _group(children, _values(_pieces(children)))

    def parameter(self, children: list[Child]) -> Piece:
        default = _expr(children[2]) if len(children) == 3 else None
        return _piece(children, Parameter(str(children[0]), default, _span(children)))

    # ------------------------------------------------------------ statements

    def line(self, children: list[Child]) -> Piece:
        return _only_piece(children[0])

    def loop(self, children: list[Child]) -> Piece:
        binders, *body = _pieces(children)
        span = _join(_place(children[0]), body[-1].span)
        return _piece(children, For(binders.value, _values(body), span), span)

    def width(self, children: list[Child]) -> Piece:
        return _piece(children, Width(str(children[1]), _expr(children[3]), _span(children)))

    def input(self, children: list[Child]) -> Piece:
        variables, type_name = _pieces(children)
        return _piece(children, Input(variables.value, type_name.value, _span(children)))

    def random(self, children: list[Child]) -> Piece:
        fixed = _is(children[0], "FIXED")
        kind = str(children[1 if fixed else 0])
        variables, *typed, law = _pieces(children)
        type_name = typed[0].value if typed else TypeName("C", span=variables.span)
        return _piece(children, Random(kind, fixed, variables.value, type_name, law.value, _span(children)))

    def definition(self, children: list[Child]) -> Piece:
        parameters, body = _pieces(children)
        return _piece(children, Definition(str(children[1]), parameters.value, _expr(body), _span(children)))

    def assignment(self, children: list[Child]) -> Piece:
        output = _is(children[0], "OUTPUT")
        target, value, *annotation = _pieces(children)
        name, indices = target.value
        type_name = annotation[0].value if annotation else None
        return _piece(children, Assignment(name, indices, _expr(value), type_name, output, _span(children)))

    def target(self, children: list[Child]) -> Piece:
        indices = _only_piece(children[2]).value if len(children) > 1 else ()
        return _group(children, (str(children[0]), indices))

    def variables(self, children: list[Child]) -> Piece:
        return _group(children, _values(_pieces(children)))

    def variable(self, children: list[Child]) -> Piece:
        axes = _only_piece(children[2]).value if len(children) > 1 else ()
        return _piece(children, Variable(str(children[0]), axes, _span(children)))

    def type(self, children: list[Child]) -> Piece:
        arguments = _only_piece(children[2]).value if len(children) > 1 else ()
        return _piece(children, TypeName(str(children[0]), arguments, _span(children)))

    def type_arguments(self, children: list[Child]) -> Piece:
        return _group(children, _exprs(_pieces(children)))

    def law(self, children: list[Child]) -> Piece:
        name, _, arguments, _, *factors = children
        law_span = _join(_place(name), _place(children[3]))
        entries: list[Argument] = _only_piece(arguments).value
        if str(name) != "N":
            instead = gaussian_instead(str(name), [_expr(entry.piece) for entry in entries])
            raise ProgramError(
                f"{str(name)!r} is no law; what stands behind '~' begins with N(mean, variance)",
                _place(name),
                hint=instead or ("a factor stands behind the law: N(0, 1) * sqrt(s)" if factors else None),
            )
        if len(entries) != 2 or any(entry.keyword is not None or entry.guarded for entry in entries):
            raise ProgramError("a law is N(mean, variance), with two numbers", law_span, hint="write N(0, 1)")
        mean, variance = (_expr(entry.piece) for entry in entries)
        operators = [str(factor) for factor in factors[::2]]
        multiplier, divides = _multiplier(operators, [_only_piece(factor) for factor in factors[1::2]])
        return _piece(children, Law(mean, variance, multiplier, divides, _span(children)))

    def ranges(self, children: list[Child]) -> Piece:
        return _group(children, _values(_pieces(children)))

    def range(self, children: list[Child]) -> Piece:
        low, high, *step = _exprs(_pieces(children))
        return _piece(children, Binder(str(children[0]), low, high, step[0] if step else None, _span(children)))

    # ------------------------------------------------------------ expressions

    def conditional(self, children: list[Child]) -> Piece:
        then, condition, otherwise = _pieces(children)
        value = Conditional(_expr(then), condition.value, _expr(otherwise), _span(children))
        return _piece(children, value)

    def binary(self, children: list[Child]) -> Piece:
        left, operator, right = children
        return _piece(children, Binary(str(operator), _expr(left), _expr(right), _span(children)))

    def negate(self, children: list[Child]) -> Piece:
        return _piece(children, Negate(_expr(children[1]), _span(children)))

    def transpose(self, children: list[Child]) -> Piece:
        operand = _expr(children[0])
        if not isinstance(operand, Name | Index):
            raise ProgramError(
                "'.T' stands behind the name of a matrix or of a readout",
                _place(children[1]),
                hint="the transpose of a product A @ B is B.T @ A.T" if isinstance(operand, Binary) else None,
            )
        return _piece(children, Transpose(operand, _span(children)))

    def number(self, children: list[Child]) -> Piece:
        text, span = str(children[0]), _span(children)
        if len(text) > MAX_DIGITS:
            raise ProgramError(f"a number of more than {MAX_DIGITS} characters", span)
        # Exact arithmetic on 1e999999999 or its inverse would fill the memory.
        exponent = text.lower().partition("e")[2]
        if math.isinf(float(text)) or (exponent and abs(int(exponent)) > 400):
            raise ProgramError(f"the number {text} is beyond what floating point holds", span)
        return _piece(children, Number(text, span))

    def name(self, children: list[Child]) -> Piece:
        return _piece(children, Name(str(children[0]), _span(children)))

    def index(self, children: list[Child]) -> Piece:
        entries = _only_piece(children[2]).value
        for entry in entries:
            if isinstance(entry, Binder):
                raise ProgramError(
                    f"a range cannot stand in the index of {str(children[0])!r} here",
                    entry.span,
                    hint=f"ranges bind in sum[{entry.name} = …](…) and the like, and on the left of ':='",
                )
        return _piece(children, Index(str(children[0]), entries, _span(children)))

    def entries(self, children: list[Child]) -> Piece:
        values = (p.value if isinstance(p.value, Binder) else _expr(p) for p in _pieces(children))
        return _group(children, tuple(values))

    def parentheses(self, children: list[Child]) -> Piece:
        inner = _only_piece(children[1])
        return Piece(inner.value, _span(children), inner.depth)

    def guard(self, children: list[Child]) -> Piece:
        value, otherwise = _exprs(_pieces(children))
        return _piece(children, Guard(value, otherwise, _span(children)))

    def bracket(self, children: list[Child]) -> Piece:
        *operands, width = _exprs(_pieces(children))
        return _piece(children, Bracket(tuple(operands), width, _span(children)))

    # ------------------------------------------------------------ applications

    def actual(self, children: list[Child]) -> Piece:
        arguments = _only_piece(children[1]).value if len(children) == 3 else []
        return _group(children, arguments)

    def arguments(self, children: list[Child]) -> Piece:
        arguments: list[Argument] = [piece.value for piece in _pieces(children)]
        names: set[str] = set()
        for argument in arguments:
            if argument.keyword is None and names:
                raise ProgramError("an argument without a name follows one with a name", argument.piece.span)
            if argument.keyword is not None and str(argument.keyword) in names:
                raise ProgramError(
                    f"the argument {str(argument.keyword)!r} is given twice", token_span(argument.keyword)
                )
            if argument.keyword is not None:
                names.add(str(argument.keyword))
        guarded = next((argument for argument in arguments if argument.guarded), None)
        if guarded is not None and sum(argument.keyword is None for argument in arguments) > 1:
            raise ProgramError(
                "it is not clear how far this 'else' reaches",
                guarded.piece.span,
                hint="put the value and its 'else' into parentheses of their own: f((x[i] else 0), y)",
            )
        return _group(children, arguments)

    def positional(self, children: list[Child]) -> Piece:
        return _group(children, Argument(None, _only_piece(children[0])))

    def guarded(self, children: list[Child]) -> Piece:
        value, otherwise = _exprs(_pieces(children))
        piece = _piece(children, Guard(value, otherwise, _span(children)))
        return _group([piece], Argument(None, piece, guarded=True))

    def keyword(self, children: list[Child]) -> Piece:
        assert isinstance(children[0], Token)
        return _group(children, Argument(children[0], _only_piece(children[2])))

    def call(self, children: list[Child]) -> Piece:
        function, actual = str(children[0]), _only_piece(children[1])
        if function == "D" and (derivative := _nested_derivative(actual.value)):
            # `D(D[1](f))`: it stands for itself until it is applied or differentiated again.
            return _piece(children, DerivativeOf(derivative, None, _span(children)))
        arguments, keywords = _split(actual.value)
        return _piece(children, Call(function, arguments, keywords, _span(children)))

    def reduction(self, children: list[Child]) -> Piece:
        function, entries, actual = str(children[0]), _only_piece(children[2]).value, _only_piece(children[4])
        if function == "D" and len(entries) == 1 and isinstance(entries[0], Number):
            place = entries[0].text
            if not place.isdigit() or int(place) < 1:
                raise ProgramError("the arguments of a function count from 1", entries[0].span, hint="write D[1](f)")
            return _piece(children, DerivativeOf(_differentiated(actual), int(place), _span(children)))
        for entry in entries:
            if not isinstance(entry, Name | Binder):
                raise ProgramError(
                    f"{function!r} with an index cannot be called; in {function}[…](…) there stand ranges",
                    entry.span,
                    hint="a reduction is written sum[i = 1..T](…); or is an operator such as '*' missing before '('?",
                )
        binders = tuple(e if isinstance(e, Binder) else Binder(e.name, span=e.span) for e in entries)
        arguments, keywords = _split(actual.value)
        if len(arguments) != 1:
            raise ProgramError(
                f"{function}[…](…) takes one expression in its parentheses, and {len(arguments)} are given", actual.span
            )
        return _piece(children, Reduction(function, binders, arguments[0], keywords, _span(children)))

    def derivative(self, children: list[Child]) -> Piece:
        function, actual = (_only_piece(child) for child in children)
        applied = function.value
        if isinstance(applied, Call) and applied.function == "D":
            applied = _as_derivative(applied)
        if not isinstance(applied, DerivativeOf):
            raise ProgramError(
                "the value of a call cannot be called",
                actual.span,
                hint="only D(f)(x) has two pairs of parentheses; or is an operator such as '*' missing?",
            )
        arguments, keywords = _split(actual.value)
        value = DerivativeCall(applied.function, applied.argument, arguments, keywords, _span(children))
        return _piece(children, value)

    # ------------------------------------------------------------ conditions

    def disjunction(self, children: list[Child]) -> Piece:
        left, right = _pieces(children)
        return _piece(children, Or(left.value, right.value, _span(children)))

    def conjunction(self, children: list[Child]) -> Piece:
        left, right = _pieces(children)
        return _piece(children, And(left.value, right.value, _span(children)))

    def negation(self, children: list[Child]) -> Piece:
        return _piece(children, Not(_only_piece(children[1]).value, _span(children)))

    def comparison(self, children: list[Child]) -> Piece:
        """`a < b <= c` is `a < b and b <= c`."""
        links = [
            Comparison(str(operator), _expr(left), _expr(right), _join(_place(left), _place(right)))
            for left, operator, right in zip(children[::2], children[1::2], children[2::2], strict=False)
        ]
        chain: Condition = links[0]
        for link in links[1:]:
            chain = And(chain, link, _join(chain.span, link.span))
        depth = len(links) + max(piece.depth for piece in _pieces(children))
        return _deep(Piece(chain, _span(children), depth))


# ---------------------------------------------------------------- pieces and places


def _join(first: Span, last: Span) -> Span:
    return Span(first.line, first.column, last.end_line, last.end_column)


def _place(child: Child) -> Span:
    return child.span if isinstance(child, Piece) else token_span(child)


def _span(children: Sequence[Child]) -> Span:
    return _join(_place(children[0]), _place(children[-1]))


def _pieces(children: Sequence[Child]) -> list[Piece]:
    return [child for child in children if isinstance(child, Piece)]


def _values(pieces: Sequence[Piece]) -> tuple[Any, ...]:
    return tuple(piece.value for piece in pieces)


def _only_piece(child: Child) -> Piece:
    assert isinstance(child, Piece), child
    return child


def _is(child: Child, kind: str) -> bool:
    return isinstance(child, Token) and child.type == kind


def _piece(children: Sequence[Child], value: Any, span: Span | None = None) -> Piece:
    depth = 1 + max((child.depth for child in _pieces(children)), default=0)
    return _deep(Piece(value, span or _span(children), depth))


def _group(children: Sequence[Child], value: Any) -> Piece:
    """A piece that is no node of the tree, and so no level of it."""
    return Piece(value, _span(children), max((child.depth for child in _pieces(children)), default=0))


def _deep(piece: Piece) -> Piece:
    """The piece itself; ProgramError where its tree is too deep for the passes that recurse over it."""
    if piece.depth > MAX_DEPTH:
        raise ProgramError(
            f"nested too deeply: more than {MAX_DEPTH} levels of operations",
            piece.span,
            hint="give a part of it a name of its own, or write sum[i = …](…)",
        )
    return piece


def _expr(child: Child) -> Expr:
    value = _only_piece(child).value
    if isinstance(value, DerivativeOf):
        raise ProgramError(
            "a derivative must be applied to arguments", value.span, hint="write D[1](f)(x, y) or D(f)(x)"
        )
    return value


def _exprs(children: Sequence[Child]) -> tuple[Expr, ...]:
    return tuple(_expr(child) for child in children)


# ---------------------------------------------------------------- arguments, derivatives, laws


def _split(arguments: list[Argument]) -> tuple[tuple[Expr, ...], tuple[tuple[str, Expr], ...]]:
    positional = tuple(_expr(a.piece) for a in arguments if a.keyword is None)
    keywords = tuple((str(a.keyword), _expr(a.piece)) for a in arguments if a.keyword is not None)
    return positional, keywords


def _nested_derivative(arguments: list[Argument]) -> DerivativeOf | None:
    """The argument of `D(…)` where it is `D[i](f)` already."""
    if len(arguments) == 1 and arguments[0].keyword is None:
        value = arguments[0].piece.value
        return value if isinstance(value, DerivativeOf) else None
    return None


def _differentiated(actual: Piece) -> str | DerivativeOf:
    """The function in the parentheses of `D(…)` or `D[i](…)`."""
    arguments: list[Argument] = actual.value
    if len(arguments) == 1 and arguments[0].keyword is None:
        value = arguments[0].piece.value
        if isinstance(value, Name):
            return value.name
        if isinstance(value, DerivativeOf):
            return value
        if isinstance(value, Call) and value.function == "D":
            return _as_derivative(value)
    raise ProgramError("D takes the name of one function", actual.span, hint="write D(f)(x) or D[1](f)(x, y)")


def _as_derivative(call: Call) -> DerivativeOf:
    """`D(D(f))`, read as a call, as a derivative."""
    spans = [call.span]
    inner: Expr = call
    while isinstance(inner, Call) and inner.function == "D" and len(inner.arguments) == 1 and not inner.keywords:
        spans.append(inner.span)
        inner = inner.arguments[0]
    if not isinstance(inner, Name):
        raise ProgramError("D takes the name of one function", call.span, hint="write D(f)(x) or D[1](f)(x, y)")
    function: str | DerivativeOf = inner.name
    for span in reversed(spans[1:]):
        function = DerivativeOf(function, None, span)
    assert isinstance(function, DerivativeOf)
    return function


def _multiplier(operators: list[str], factors: list[Piece]) -> tuple[Expr | None, bool]:
    """The factors behind a law as (multiplier, divides); their product is that of the text, read from the left.

    `* a / b` is the multiplier a / b, `/ a / b` divides by a * b, and `/ a * b` is the multiplier b / a.
    """
    if not factors:
        return None, False
    if "*" not in operators:
        return _expr(reduce(lambda left, right: _product("*", left, right), factors)), True
    first = operators.index("*")
    product = factors[first]
    for i, (operator, factor) in enumerate(zip(operators, factors, strict=True)):
        if i != first:
            product = _product(operator, product, factor)
    return _expr(product), False


def _product(operator: str, left: Piece, right: Piece) -> Piece:
    turned = (right.span.line, right.span.column) < (left.span.line, left.span.column)  # by `/ a * b`
    span = _join(right.span, left.span) if turned else _join(left.span, right.span)
    value = Binary(operator, _expr(left), _expr(right), span)
    return _deep(Piece(value, span, 1 + max(left.depth, right.depth)))
