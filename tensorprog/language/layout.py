"""Lines, blocks and words that are names elsewhere: from the lexer's tokens to those of the grammar.

A newline inside ( ) or [ ] is no token. Outside of them, an NL token ends a statement and carries the indentation of
the next one; comment lines and blank lines belong to the NL before them and so never open or close a block. INDENT and
DEDENT stand around the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lark import Token

from tensorprog.errors import ProgramError, Span

MAX_NESTING = 100  # of brackets and of blocks: more is never meant, and later passes recurse over the tree
OPENING = {"LPAR": "RPAR", "LSQB": "RSQB"}
CLOSING = {"RPAR": "LPAR", "RSQB": "LSQB"}
OPERANDS = frozenset(("NAME", "NUMBER", "RPAR", "RSQB", "TRANSPOSE"))  # what an operand ends with


def token_span(token: Token) -> Span:
    """The place of a token in its text."""
    return Span(token.line or 0, token.column or 0, token.end_line or 0, token.end_column or 0)


class Layout:
    """Lark's post-lexer; without state of its own, so that one parser may serve several texts."""

    always_accept = ("NL",)

    def process(self, stream: Iterable[Token]) -> Iterator[Token]:
        """The tokens with NL, INDENT and DEDENT placed.

        ProgramError: tabs in the indentation, a line that fits no open block, brackets that do not match or are
        nested too deeply.
        """
        brackets: list[Token] = []
        indents = [0]
        newline: Token | None = None  # the NL before the next token, where one is due
        started = False
        before = ""
        tokens = _Ahead(stream)
        for token in tokens:
            if token.type == "NL":
                if not brackets:
                    newline = token
                    if started:
                        yield Token.new_borrow_pos("NL", "\n", token)
                continue
            if not started or newline is not None:
                before = "NL"
                yield from _change_block(token, newline, indents, started)
            started, newline = True, None
            _match_brackets(token, brackets)
            if token.type == "NAME" and token == "mod" and before in OPERANDS:
                token = Token.new_borrow_pos("MOD", "mod", token)
            elif token.type == "NAME" and token == "scalar" and before in ("NL", "FIXED"):
                if tokens.next_type() == "NAME":
                    token = Token.new_borrow_pos("SCALAR", "scalar", token)
            before = token.type
            yield token
        if brackets:
            raise ProgramError(
                f"{str(brackets[-1])!r} is never closed", token_span(brackets[-1]), hint=_missing(brackets[-1])
            )
        for _ in indents[1:]:
            yield Token("DEDENT", "") if newline is None else Token.new_borrow_pos("DEDENT", "", newline)


class _Ahead:
    """Tokens, of which the next can be looked at."""

    def __init__(self, stream: Iterable[Token]):
        self.stream = iter(stream)
        self.waiting: list[Token] = []

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        return self.waiting.pop() if self.waiting else next(self.stream)

    def next_type(self) -> str:
        self.waiting += [token for token in [next(self.stream, None)] if token is not None]
        return self.waiting[-1].type if self.waiting else ""


def _change_block(token: Token, newline: Token | None, indents: list[int], started: bool) -> Iterator[Token]:
    """INDENT or DEDENTs before the first token of a line; `indents` is brought up to date."""
    column = token.column or 1
    blanks = newline.value.rpartition("\n")[2] if newline is not None else ""
    if "\t" in blanks:
        at = blanks.index("\t") + 1
        raise ProgramError(
            "a tab in the indentation",
            Span(token.line or 0, at, token.line or 0, at + 1),
            hint="indent with spaces",
        )
    width = column - 1
    if not started:
        if width:
            raise ProgramError(
                "unexpected indentation of the first line", token_span(token), hint="the header begins in column 1"
            )
        return
    if width > indents[-1]:
        if len(indents) > MAX_NESTING:
            raise ProgramError(f"blocks nested deeper than {MAX_NESTING}", token_span(token))
        indents.append(width)
        yield Token("INDENT", blanks, line=token.line, column=1, end_line=token.line, end_column=column)
    known = ", ".join(str(i) for i in indents)
    while width < indents[-1]:
        indents.pop()
        if width > indents[-1]:
            raise ProgramError(
                f"the line is indented by {width} spaces, which fits none of the blocks around it",
                token_span(token),
                hint=f"the open blocks are indented by {known}",
            )
        yield Token("DEDENT", "", line=token.line, column=column, end_line=token.line, end_column=column)


def _match_brackets(token: Token, brackets: list[Token]) -> None:
    if token.type in OPENING:
        if len(brackets) >= MAX_NESTING:
            raise ProgramError(
                f"brackets nested deeper than {MAX_NESTING}",
                token_span(token),
                hint="give a part of the expression a name of its own",
            )
        brackets.append(token)
    elif token.type in CLOSING:
        if not brackets:
            raise ProgramError(f"{str(token)!r} closes nothing", token_span(token))
        opener = brackets.pop()
        if OPENING[opener.type] != token.type:
            raise ProgramError(
                f"{str(token)!r} does not match the {str(opener)!r} of line {opener.line}, column {opener.column}",
                token_span(token),
                hint=_missing(opener),
            )


def _missing(opener: Token) -> str:
    return "a ')' is missing" if opener.type == "LPAR" else "a ']' is missing"
