"""From the text of a program to its syntax tree."""

from __future__ import annotations

from functools import cache

from lark import Lark, Token, UnexpectedCharacters, UnexpectedToken

from tensorprog.errors import ProgramError, Span
from tensorprog.language.builder import Builder
from tensorprog.language.layout import Layout
from tensorprog.language.syntax import Expr, ProgramText
from tensorprog.language.syntax_errors import unexpected_character, unexpected_token
from tensorprog.resources import grammar_text

MAX_LENGTH = 10_000_000  # characters


def parse_text(text: str, filename: str = "<program>") -> ProgramText:
    """The syntax tree of a program's text; names and types are not looked at.

    `filename` is what an error names. ProgramError, with its place in `text`, for every text that is not a program.
    """
    source = text.removeprefix("\ufeff")
    try:
        program = _parse(source)
    except ProgramError as error:
        raise error.located(source, filename) from None
    return ProgramText(program.name, program.parameters, program.statements, _comment_above(source), program.span)


def parse_expression(text: str) -> Expr | None:
    """The syntax of an expression, `1/3` or `sqrt(n)`; None where the text is none. Raises ProgramError likewise."""
    parameters = parse_text(f"program p(a = {text.strip()})\n").parameters
    return parameters[0].default if len(parameters) == 1 else None


@cache
def _parser() -> Lark:
    return Lark(
        grammar_text(),
        parser="lalr",
        lexer="basic",
        postlex=Layout(),
        transformer=Builder(),
        keep_all_tokens=True,
    )


def _parse(source: str) -> ProgramText:
    if len(source) > MAX_LENGTH:
        raise ProgramError(f"a text of {len(source)} characters: programs have at most {MAX_LENGTH}", Span(1, 1, 1, 1))
    text = source + "\n"  # so that the last statement has its line end
    state = _parser().parse_interactive(text)
    seen: list[Token] = []
    try:
        for token in state.iter_parse():
            seen.append(token)
        seen.append(Token("$END", "", line=1, column=1))
        return state.feed_eof(seen[-2] if len(seen) > 1 else None).value
    except UnexpectedCharacters as error:
        raise unexpected_character(text, error.pos_in_stream or 0, error.line, error.column) from None
    except UnexpectedToken:
        raise unexpected_token(seen[-1], seen[:-1], _accepted_after(seen[:-1])) from None


def _accepted_after(tokens: list[Token]) -> frozenset[str]:
    """The kinds of token that may follow. The parser is run anew: at the error it has already reduced for a token that
    does not fit, and so knows less."""
    state = _parser().parse_interactive("")
    for token in tokens:
        state.feed_token(token)
    return frozenset(state.accepts())


def _comment_above(source: str) -> str:
    """The comment lines above the header, without their slashes and one blank behind these."""
    lines = []
    for line in source.split("\n"):
        stripped = line.strip()
        if stripped and not stripped.startswith("//"):
            break
        if stripped:
            lines.append(stripped.removeprefix("//").removeprefix(" "))
    return "\n".join(lines)
