"""The one printer of trees: text that Python reads back as the same tree, with no parentheses but those it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tensorprog.backend.code import tree as t

LAMBDA, CONDITIONAL, OR, AND, NOT, COMPARISON, BAR, AMPERSAND, SUM, PRODUCT, SIGN, POWER, ATOM = range(13)
"""How strongly the parts of an expression hold together, as in Python's grammar."""

_LOGIC = {"or": OR, "and": AND}
_BINARY = {"|": BAR, "&": AMPERSAND, "+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "//": PRODUCT, "%": PRODUCT}


def expression(e: t.Expr) -> str:
    """The text of an expression, in one line."""
    return _text(e)[0]


def lines(statements: Iterable[t.Statement], indent: int = 0) -> list[str]:
    """The lines of statements."""
    return [f"{'    ' * depth}{text}" if text else "" for depth, text in _lines(statements, indent)]


# ---------------------------------------------------------------- expressions


def _text(e: t.Expr) -> tuple[str, int]:
    """The text and how strongly it holds together."""
    match e:
        case t.Array(value):
            return _text(value)
        case t.Name(name):
            return name, ATOM
        case t.Literal(value):
            return "..." if value is ... else repr(value), ATOM
        case t.Attribute(of, name):
            return f"{_operand(of)}.{name}", ATOM
        case t.Call(function, arguments, keywords):
            return f"{_operand(function)}({_arguments(arguments, keywords)})", ATOM
        case t.Index(of, places):
            return f"{_operand(of)}[{_places(places)}]", ATOM
        case t.Slice(start, stop, step):
            end = "" if step is None else f":{_item(step)}"
            return f"{_optional(start)}:{_optional(stop)}{end}", LAMBDA
        case t.Unary("not", operand):
            return f"not {_within(operand, NOT)}", NOT
        case t.Unary(op, operand):
            return f"{op}{_within(operand, SIGN)}", SIGN
        case t.Binary("**", base, exponent):
            return f"{_within(base, ATOM)}**{_within(exponent, SIGN)}", POWER
        case t.Binary(op, left, right):
            level = _BINARY[op]
            return f"{_within(left, level)} {op} {_within(right, level + 1)}", level
        case t.Compare(first, rest):
            chain = "".join(f" {op} {_within(x, COMPARISON + 1)}" for op, x in rest)
            return f"{_within(first, COMPARISON + 1)}{chain}", COMPARISON
        case t.Logic(op, operands):
            level = _LOGIC[op]
            return f" {op} ".join(_within(x, level + 1) for x in operands), level
        case t.Conditional(then, test, otherwise):
            inner = f"{_within(then, CONDITIONAL + 1)} if {_within(test, CONDITIONAL + 1)}"
            return f"{inner} else {_within(otherwise, CONDITIONAL)}", CONDITIONAL
        case t.Lambda(parameters, body):
            return f"lambda{' ' if parameters else ''}{', '.join(parameters)}: {_item(body)}", LAMBDA
        case t.Comprehension():
            return (f"({_comprehension(e)})" if e.lazy else f"[{_comprehension(e)}]"), ATOM
        case t.TupleOf(items):
            return f"({_items(items)}{',' if len(items) == 1 else ''})", ATOM
        case t.ListOf(items):
            return f"[{_items(items)}]", ATOM
        case t.DictOf(pairs):
            return f"{{{', '.join(f'{_item(k)}: {_item(v)}' for k, v in pairs)}}}", ATOM
        case t.Star(of):
            return f"*{_within(of, BAR)}", LAMBDA
    raise AssertionError(e)


def _within(e: t.Expr, level: int) -> str:
    """The text as an operand that has to hold together so strongly."""
    text, own = _text(e)
    return text if own >= level else f"({text})"


def _operand(e: t.Expr) -> str:
    """The text before a bracket or a dot; a number there would be read as one with decimals."""
    text = _within(e, ATOM)
    return f"({text})" if t.is_number(e) and text[0] != "(" else text


def _item(e: t.Expr) -> str:
    return _text(e)[0]


def _items(items: Sequence[t.Expr]) -> str:
    return ", ".join(map(_item, items))


def _optional(e: t.Expr | None) -> str:
    return "" if e is None else _item(e)


def _arguments(arguments: Sequence[t.Expr], keywords: Sequence[tuple[str, t.Expr]]) -> str:
    if len(arguments) == 1 and not keywords and (inner := _lazy(arguments[0])) is not None:
        return _comprehension(inner)  # the brackets of the call are its brackets
    return ", ".join([*map(_item, arguments), *(f"{name}={_item(value)}" for name, value in keywords)])


def _lazy(e: t.Expr) -> t.Comprehension | None:
    if isinstance(e, t.Array):
        return _lazy(e.value)
    return e if isinstance(e, t.Comprehension) and e.lazy else None


def _places(places: Sequence[t.Expr]) -> str:
    if len(places) == 1 and isinstance(places[0], t.Star):
        return f"{_item(places[0])},"
    return _items(places)


def _comprehension(e: t.Comprehension) -> str:
    loops = " ".join(f"for {loop.variable} in {_within(loop.over, OR)}" for loop in e.loops)
    test = "" if e.test is None else f" if {_within(e.test, OR)}"
    return f"{_item(e.body)} {loops}{test}"


# ---------------------------------------------------------------- statements


def _lines(statements: Iterable[t.Statement], depth: int) -> Iterator[tuple[int, str]]:
    for s in statements:
        match s:
            case t.Let(target, value):
                value_text = _bare if isinstance(target, t.TupleOf) else _item
                yield from _value(f"{_target(target)} =", value, value_text(value), depth)
            case t.Do(value):
                yield depth, _item(value)
            case t.Return(value):
                yield from _value("return", value, _bare(value), depth)
            case t.Raise(error):
                yield depth, f"raise {_item(error)}"
            case t.Pass():
                yield depth, "pass"
            case t.Comment(text):
                yield depth, f"# {text}"
            case t.Blank():
                yield depth, ""
            case t.If(test, body):
                yield depth, f"if {_item(test)}:"
                yield from _body(body, depth)
            case t.For(variable, over, body):
                yield depth, f"for {variable} in {_item(over)}:"
                yield from _body(body, depth)
            case t.Def():
                yield from _function(s, depth)
            case _:
                raise AssertionError(s)


def _function(s: t.Def, depth: int) -> Iterator[tuple[int, str]]:
    for d in s.decorators:
        yield depth, f"@{_item(d)}"
    yield depth, f"def {s.name}({', '.join(s.parameters)}):"
    for k, text in enumerate(s.doc):
        yield depth + 1, f"{'' if k else _QUOTES}{text}{_QUOTES if k == len(s.doc) - 1 else ''}"
    yield from _body(s.body, depth)


_QUOTES = '"' * 3


def _body(body: Sequence[t.Statement], depth: int) -> Iterator[tuple[int, str]]:
    if all(isinstance(s, t.Comment | t.Blank) for s in body):
        body = (*body, t.Pass())
    yield from _lines(body, depth + 1)


def _value(before: str, value: t.Expr, text: str, depth: int) -> Iterator[tuple[int, str]]:
    """A value behind what names or returns it."""
    if not isinstance(value, t.TupleOf | t.DictOf) or not value.tall:
        yield depth, f"{before} {text}"
        return
    brackets = "{}" if isinstance(value, t.DictOf) else "()"
    yield depth, f"{before} {brackets[0]}"
    for item in value.items:
        yield depth + 1, f"{_item(item)}," if isinstance(item, t.Expr) else f"{_item(item[0])}: {_item(item[1])},"
    yield depth, brackets[1]


def _bare(e: t.Expr) -> str:
    """A tuple without its parentheses, where it is not so short that these are missed."""
    return _items(e.items) if isinstance(e, t.TupleOf) and len(e.items) > 1 else _item(e)


def _target(e: t.Expr) -> str:
    if isinstance(e, t.TupleOf):
        return f"{_items(e.items)}{',' if len(e.items) == 1 else ''}"
    return _item(e)
