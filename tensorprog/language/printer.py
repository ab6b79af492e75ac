"""From a syntax tree back to text, with as few parentheses as its meaning allows.

`parse_text(print_program(tree)) == tree` for every tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

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
    Statement,
    Transpose,
    TypeName,
    Variable,
    Width,
)

INDENT = "    "
ALIGNED_UP_TO = 80  # a longer left side does not push the annotations of its neighbours to the right

# How tightly an expression holds together; an operand below the level that its place asks for gets parentheses.
_LOOSE, _SUM, _PRODUCT, _UNARY, _MATMUL, _POWER, _ATOM = range(7)
_LEVELS = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "mod": _PRODUCT, "@": _MATMUL, "**": _POWER}
_LEFT = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "mod": _PRODUCT, "@": _POWER, "**": _ATOM}
_RIGHT = {"+": _PRODUCT, "-": _PRODUCT, "*": _UNARY, "/": _UNARY, "mod": _UNARY, "@": _UNARY}


def print_program(program: ProgramText) -> str:
    """The program as text that ends with a newline; the comment above its header is printed too."""
    lines = [f"// {line}".rstrip() for line in program.comment.split("\n")] if program.comment else []
    parameters = f"({_parameters(program.parameters)})" if program.parameters else ""
    lines.append(f"program {program.name}{parameters}")
    for _, group in groupby(program.statements, key=_paragraph):
        lines += ["", *_block(tuple(group), "")]
    return "\n".join(lines) + "\n"


def print_statement(statement: Statement, indent: int = 0) -> str:
    """One statement, with the block of a `for`, indented by `indent` spaces; without a newline at its end."""
    return "\n".join(_block((statement,), " " * indent))


def print_expression(expression: Expr) -> str:
    """One expression on one line."""
    return _expression(expression, _LOOSE, False)


def print_index(expression: Expr) -> str:
    """An index as it stands in brackets, without spaces: `2*i+a`."""
    return _expression(expression, _LOOSE, True)


# ---------------------------------------------------------------- statements


def _paragraph(statement: Statement) -> str:
    """Statements of one kind stand together, with a blank line before the next kind."""
    if isinstance(statement, Definition):
        return "definitions"
    if isinstance(statement, Width | Input | Random):
        return "declarations"
    if isinstance(statement, Assignment) and statement.output:
        return "outputs"
    return "body"


def _block(statements: Sequence[Statement], margin: str) -> list[str]:
    """The lines of a block; the laws or annotations of neighbouring lines stand below each other."""
    lines: list[str] = []
    for nested, group in groupby(statements, key=lambda statement: isinstance(statement, For)):
        if nested:
            for loop in group:
                assert isinstance(loop, For)
                lines.append(f"{margin}for {_binders(loop.binders)}:")
                lines += _block(loop.body, margin + INDENT)
        else:
            lines += [margin + line for line in _aligned([_halves(statement) for statement in group])]
    return lines


def _aligned(halves: Sequence[tuple[str, str]]) -> list[str]:
    lefts = [len(left) for left, right in halves if right]
    if len(lefts) < 2:
        return [f"{left} {right}".rstrip() for left, right in halves]
    column = max((length for length in lefts if length <= ALIGNED_UP_TO), default=0)
    return [f"{left:{column}}  {right}".rstrip() for left, right in halves]


def _halves(statement: Statement) -> tuple[str, str]:
    """A statement's text, and what is aligned behind it: a law or an annotation."""
    match statement:
        case Width():
            return f"width {statement.name} = {print_expression(statement.value)}", ""
        case Input():
            return f"input  {_variables(statement.variables)} : {_type(statement.type)}", ""
        case Random():
            word = f"fixed {statement.kind}" if statement.fixed else statement.kind
            type_ = "" if statement.kind == "scalar" else f" : {_type(statement.type)}"
            return f"{word} {_variables(statement.variables)}{type_}", f"~ {_law(statement.law)}"
        case Definition():
            parameters = _parameters(statement.parameters)
            return f"def {statement.name}({parameters}) := {print_expression(statement.body)}", ""
        case Assignment():
            target = statement.name + (f"[{_entries(statement.indices)}]" if statement.indices else "")
            left = f"{'output ' if statement.output else ''}{target} := {print_expression(statement.value)}"
            return left, f": {_type(statement.annotation)}" if statement.annotation else ""
    raise TypeError(f"not a statement: {statement!r}")


def _parameters(parameters: Sequence[Parameter]) -> str:
    return ", ".join(p.name if p.default is None else f"{p.name} = {print_expression(p.default)}" for p in parameters)


def _variables(variables: Sequence[Variable]) -> str:
    return ", ".join(v.name + (f"[{_binders(v.axes)}]" if v.axes else "") for v in variables)


def _type(type_name: TypeName) -> str:
    return type_name.name + (f"({_list(type_name.arguments)})" if type_name.arguments else "")


def _law(law: Law) -> str:
    text = f"N({print_expression(law.mean)}, {print_expression(law.variance)})"
    if law.multiplier is None:
        return text
    if law.divides:
        return f"{text} / {_expression(law.multiplier, _UNARY, False)}"
    return f"{text} * {_expression(law.multiplier, _PRODUCT, False)}"


def _binders(binders: Sequence[Binder]) -> str:
    return ", ".join(_binder(binder) for binder in binders)


def _binder(binder: Binder) -> str:
    if binder.low is None or binder.high is None:
        return binder.name
    text = f"{binder.name} = {_expression(binder.low, _SUM, True)}..{_expression(binder.high, _SUM, True)}"
    return text if binder.step is None else f"{text} by {_expression(binder.step, _SUM, True)}"


def _entries(entries: Sequence[Expr | Binder]) -> str:
    return ", ".join(_binder(e) if isinstance(e, Binder) else _expression(e, _LOOSE, True) for e in entries)


# ---------------------------------------------------------------- expressions


def _level(expression: Expr) -> int:
    match expression:
        case Conditional():
            return _LOOSE
        case Binary():
            return _LEVELS[expression.op]
        case Negate():
            return _UNARY
        case Bracket():
            return _PRODUCT  # `<x> / n` reads like a quotient, though the grammar takes it for an atom
    return _ATOM


def _expression(expression: Expr, level: int, tight: bool) -> str:
    """The text, in parentheses where the expression is looser than `level`; `tight` has no blanks round operators."""
    text = _bare(expression, tight)
    return text if _level(expression) >= level else f"({text})"


def _bare(expression: Expr, tight: bool) -> str:
    match expression:
        case Number():
            return expression.text
        case Name():
            return expression.name
        case Index():
            return f"{expression.name}[{_entries(expression.indices)}]"
        case Transpose():
            return f"{_bare(expression.operand, tight)}.T"
        case Negate():
            return f"-{_expression(expression.operand, _negated(expression.operand), tight)}"
        case Binary():
            return _binary(expression, tight)
        case Conditional():
            then = _expression(expression.then, _SUM, False)
            otherwise = _expression(expression.otherwise, _LOOSE, False)
            return f"{then} if {_condition(expression.condition, 0)} else {otherwise}"
        case Guard():
            return f"({_guard(expression)})"
        case Call():
            return f"{expression.function}({_arguments(expression.arguments, expression.keywords)})"
        case DerivativeCall():
            arguments = _arguments(expression.arguments, expression.keywords)
            return f"{_derivative(expression.function, expression.argument)}({arguments})"
        case Reduction():
            arguments = _arguments((expression.body,), expression.keywords)
            return f"{expression.function}[{_binders(expression.binders)}]({arguments})"
        case Bracket():
            operands = ", ".join(_expression(operand, _SUM, False) for operand in expression.operands)
            slash = "/" if tight else " / "
            width = _expression(expression.width, _ATOM, tight)
            # A '.T' without parentheses would be the transpose of the whole bracket.
            return f"<{operands}>{slash}{f'({width})' if isinstance(expression.width, Transpose) else width}"
    raise TypeError(f"not an expression: {expression!r}")


def _negated(operand: Expr) -> int:
    return _PRODUCT if isinstance(operand, Bracket) else _UNARY


def _binary(expression: Binary, tight: bool) -> str:
    op = expression.op
    left = _expression(expression.left, _LEFT[op], tight)
    if op == "**":
        right = _exponent(expression.right, tight)
    elif op == "*" and isinstance(expression.right, Bracket):
        right = _bare(expression.right, tight)  # c * <x> / n is the same number read either way
    else:
        right = _expression(expression.right, _RIGHT[op], tight)
    return f"{left}{op}{right}" if tight and op not in ("@", "mod") else f"{left} {op} {right}"


def _exponent(expression: Expr, tight: bool) -> str:
    """An exponent may begin with a minus, which takes a power and nothing looser."""
    if isinstance(expression, Negate):
        return f"-{_exponent(expression.operand, tight)}"
    return _expression(expression, _POWER, tight)


def _guard(guard: Guard) -> str:
    return f"{print_expression(guard.value)} else {print_expression(guard.otherwise)}"


def _arguments(arguments: Sequence[Expr], keywords: Sequence[tuple[str, Expr]]) -> str:
    if len(arguments) == 1 and isinstance(arguments[0], Guard):
        positional = [_guard(arguments[0])]
    else:
        positional = [print_expression(argument) for argument in arguments]
    return ", ".join([*positional, *(f"{name} = {print_expression(value)}" for name, value in keywords)])


def _list(expressions: Sequence[Expr]) -> str:
    return ", ".join(print_expression(expression) for expression in expressions)


def _derivative(function: str | DerivativeOf, argument: int | None) -> str:
    place = "" if argument is None else f"[{argument}]"
    inner = function if isinstance(function, str) else _derivative(function.function, function.argument)
    return f"D{place}({inner})"


def _condition(condition: Condition, level: int) -> str:
    """Levels: 0 `or`, 1 `and`, 2 `not` and comparisons."""
    match condition:
        case Or():
            own, text = 0, f"{_condition(condition.left, 0)} or {_condition(condition.right, 1)}"
        case And():
            own, text = 1, f"{_condition(condition.left, 1)} and {_condition(condition.right, 2)}"
        case Not():
            own, text = 2, f"not {_condition(condition.operand, 2)}"
        case Comparison():
            left, right = (_expression(side, _SUM, False) for side in (condition.left, condition.right))
            own, text = 2, f"{left} {condition.op} {right}"
        case _:
            raise TypeError(f"not a condition: {condition!r}")
    return text if own >= level else f"({text})"
