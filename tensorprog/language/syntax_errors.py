"""What a syntax error says: what was found, what was expected, and the mend where one is evident."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lark import Token

from tensorprog.errors import ProgramError, Span, did_you_mean
from tensorprog.language.layout import CLOSING, OPENING, token_span

KEYWORDS = (
    "program", "input", "weight", "vector", "fixed", "width", "def", "for", "by", "output",
    "if", "else", "and", "or", "not",
)  # fmt: skip
STATEMENT_KEYWORDS = ("input", "weight", "vector", "scalar", "fixed", "width", "def", "for", "output")

_EXPRESSION = {"NAME", "NUMBER", "LPAR", "MINUS", "LESSTHAN"}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "MOD"}
_MORE_OPERATORS = {*_OPERATORS, "AT", "POWER", "TRANSPOSE", "LPAR", "LSQB", "IF"}
_COMPARISONS = {"EQ", "NE", "LE", "GE", "LESSTHAN", "MORETHAN"}
# In the order of naming. Groups that stand for many tokens come first.
_WORDS = {
    "statement": "a statement",
    "expression": "an expression",
    "operator": "an operator",
    "comparison": "a comparison",
    "PROGRAM": "'program'",
    "NAME": "a name",
    "NUMBER": "a number",
    "NOT": "'not'",
    "FIXED": "'fixed'",
    "WEIGHT": "'weight'",
    "VECTOR": "'vector'",
    "SCALAR": "'scalar'",
    "MOD": "'mod'",
    "COLONEQ": "':='",
    "EQUAL": "'='",
    "TILDE": "'~' and the law",
    "DOTDOT": "'..'",
    "BY": "'by'",
    "IF": "'if'",
    "ELSE": "'else'",
    "AND": "'and'",
    "OR": "'or'",
    "LSQB": "'['",
    "LPAR": "'('",
    "COMMA": "','",
    "COLON": "':'",
    "RSQB": "']'",
    "RPAR": "')'",
    "MORETHAN": "'>'",
    "STAR": "'*'",
    "SLASH": "'/'",
    "INDENT": "an indented block",
    "NL": "the end of the line",
}


@dataclass(frozen=True)
class Situation:
    """A token that does not fit: what came before it, and the kinds of token that would have fitted."""

    token: Token
    before: Sequence[Token]
    accepts: frozenset[str]

    @property
    def previous(self) -> Token | None:
        return self.before[-1] if self.before else None

    @property
    def line(self) -> list[Token]:
        """The tokens since the last line end, the unfitting one left out."""
        start = len(self.before)
        while start and self.before[start - 1].type not in ("NL", "INDENT", "DEDENT"):
            start -= 1
        return list(self.before[start:])

    @property
    def at_start(self) -> bool:
        """Where a statement could begin."""
        return "FOR" in self.accepts


@dataclass(frozen=True)
class Finding:
    """What to say; without a message, the usual "expected …, found …" is said."""

    message: str | None = None
    hint: str | None = None
    span: Span | None = None


def unexpected_token(token: Token, before: Sequence[Token], accepts: frozenset[str]) -> ProgramError:
    """The error for a token that does not fit.

    before: the tokens of the text up to it, INDENT, DEDENT and NL among them.
    accepts: the kinds of token that would have fitted.
    """
    situation = Situation(token, before, accepts)
    for look in _LOOKS:
        finding = look(situation)
        if finding is not None:
            break
    else:
        finding = Finding()
    message = finding.message or f"expected {_expected(situation)}{_after(situation)}, found {_found(token)}"
    return ProgramError(message, finding.span or _place(situation), hint=finding.hint)


def unexpected_character(text: str, position: int, line: int, column: int) -> ProgramError:
    """The error for a character that begins no token; `position` counts from 0."""
    character = text[position]
    span = Span(line, column, line, column + 1)
    before = text[position - 1] if position else ""
    after = text[position + 1 : position + 2]
    if character == "." and before.isdigit() and before.isascii() and not after.isdigit():
        whole = _digits_before(text, position)
        span = Span(line, column - len(whole), line, column + 1)
        return ProgramError(f"a number cannot end with '.': '{whole}.'", span, hint=f"write {whole} or {whole}.0")
    if character == "." and before != "." and after.isdigit():
        digits = _digits_after(text, position)
        span = Span(line, column, line, column + 1 + len(digits))
        return ProgramError(f"a number cannot begin with '.': '.{digits}'", span, hint=f"write 0.{digits}")
    if character == ".":
        return ProgramError("unexpected '.'", span, hint="a range is written 1..T, a transpose W.T")
    hint = _CHARACTER_HINTS.get(character)
    if character.isprintable():
        shown = f"{character!r}"
    else:
        shown = f"U+{ord(character):04X} (not printable)"
    if hint is None and character.isalpha():
        hint = "names are made of the letters a-z and A-Z, digits and '_'"
    if hint is None and character.isspace():
        hint = "separate words with plain spaces"
    return ProgramError(f"unexpected character {shown}", span, hint=hint)


_CHARACTER_HINTS = {
    "#": "a comment begins with '//'",
    "^": "a power is written with '**'",
    "&": "write 'and'",
    "|": "write 'or'; an absolute value is abs(x)",
    "!": "write 'not', or '!=' for unequal",
    "%": "there is no '%' operator; a comment begins with '//'",
    ";": "write each statement on a line of its own",
    "{": "a block is marked by ':' and indentation",
    "}": "a block is marked by ':' and indentation",
    "'": "a transpose is written W.T; names have no primes",
    '"': "there are no strings; a comment begins with '//'",
    "\\": "newlines are free inside ( ) and [ ]",
    "$": "a parameter stands in the header and is read by its name",
    "?": "a condition is written e if i == 1 else f",
    "\r": "lines end with a newline, or with a carriage return and a newline",
    "×": "write '*'",
    "·": "write '*'",
    "⊙": "write '*'",
    "−": "write '-'",
    "–": "write '-'",
    "≔": "write ':='",
    "←": "write ':='",
    "⟨": "write <x, y> / n",
    "⟩": "write <x, y> / n",
    "…": "a range is written 1..T",
    "∼": "write '~'",
    "≤": "write '<='",
    "≥": "write '>='",
    "≠": "write '!='",
    "⊤": "a transpose is written W.T",
    "π": "write pi",
    "√": "write sqrt(x)",
}


# ---------------------------------------------------------------- looks at a situation, the most telling first


def _missing_header(s: Situation) -> Finding | None:
    if s.before:
        return None
    example = "begin with a header such as 'program mlp(depth = 3)'"
    if s.token.type == "$END":
        return Finding("the text holds no program", example, Span(1, 1, 1, 1))
    near = did_you_mean(str(s.token), ["program"]) if s.token.type == "NAME" else None
    return Finding(f"expected the header 'program name(…)', found {_found(s.token)}", near or example)


def _unclosed_bracket(s: Situation) -> Finding | None:
    opened: list[Token] = []
    for token in s.before:
        if token.type in OPENING:
            opened.append(token)
        elif token.type in CLOSING and opened:
            opened.pop()
    if not opened or s.previous is None or (s.token.line or 0) <= (s.previous.line or 0):
        return None
    first = next(token for token in s.before if token.line == opened[-1].line and token.type not in ("NL", "DEDENT"))
    start = first.end_column if first.type == "INDENT" else first.column
    if (s.token.column or 0) > (start or 0):
        return None  # it looks like a continued line
    closing = "')'" if opened[-1].type == "LPAR" else "']'"
    return Finding(
        f"{str(opened[-1])!r} is not closed before line {s.token.line}",
        f"a {closing} is missing",
        token_span(opened[-1]),
    )


def _indentation(s: Situation) -> Finding | None:
    if s.accepts == {"INDENT"}:
        loop = next(token for token in reversed(s.before) if token.type == "FOR")
        return Finding(
            f"expected an indented block under the 'for' of line {loop.line}",
            "indent the statements of the loop by four spaces",
            token_span(loop) if s.token.type in ("$END", "DEDENT") else token_span(s.token),
        )
    if s.token.type == "INDENT":
        span = Span(s.token.line or 0, s.token.end_column or 1, s.token.line or 0, (s.token.end_column or 1) + 1)
        hint = "only the block under a 'for' is indented; newlines are free inside ( ) and [ ]"
        return Finding("unexpected indentation", hint, span)
    return None


def _second_header(s: Situation) -> Finding | None:
    if s.at_start and s.token.type == "PROGRAM":
        return Finding("a text holds one program, and a second header stands here")
    if s.at_start and s.token.type in ("IF", "ELSE"):
        return Finding("there is no 'if' statement", "conditions stand in expressions: x := e if i == 1 else f")
    return None


def _keyword_as_name(s: Situation) -> Finding | None:
    if _is_keyword(s.token) and "NAME" in s.accepts:
        if s.accepts >= _EXPRESSION and s.token.type in ("IF", "ELSE", "AND", "OR", "NOT", "BY", "FOR"):
            return None  # rather an operand is missing
        return _keyword(s.token)
    previous = s.previous
    if previous is None or len(s.line) != 1 or s.token.type not in ("COLONEQ", "LSQB"):
        return None
    return _keyword(previous) if _is_keyword(previous) else None


def _is_keyword(token: Token) -> bool:
    return token.type == str(token).upper() and str(token) in KEYWORDS


def _keyword(token: Token) -> Finding:
    return Finding(
        f"{str(token)!r} is a keyword of the language and cannot be a name",
        f"choose another name, for example {token!s}_1",
        token_span(token),
    )


def _misspelt_keyword(s: Situation) -> Finding | None:
    line = s.line
    if (
        len(line) == 1
        and line[0].type == "NAME"
        and "COLONEQ" in s.accepts
        and s.token.type in ("NAME", "WEIGHT", "VECTOR")
    ):
        name = str(line[0])
        near = did_you_mean(name.lower(), STATEMENT_KEYWORDS)
        return Finding(
            f"unknown statement {name!r}",
            near or f"a statement begins with one of {', '.join(STATEMENT_KEYWORDS)}, or is 'name := expression'",
            token_span(line[0]),
        )
    if s.token.type == "NAME" and not s.at_start:
        wanted = [word for word in KEYWORDS if word.upper() in s.accepts]
        near = did_you_mean(str(s.token), wanted)
        return Finding(hint=near) if near else None
    return None


def _assignment_sign(s: Situation) -> Finding | None:
    first = s.line[0].type if s.line else ""
    if s.token.type == "EQUAL" and "COLONEQ" in s.accepts:
        return Finding(hint="an assignment is written with ':='")
    if s.token.type == "COLONEQ" and "EQUAL" in s.accepts:
        words = {"WIDTH": "a width is declared with '=': width m = 2 * n", "FOR": "a range is written i = 1..T"}
        return Finding(hint=words.get(first, "here stands '=', and ':=' only between an assignment's two sides"))
    if s.token.type == "EQUAL" and "EQ" in s.accepts:
        return Finding(hint="an equality is written with '=='")
    if s.token.type == "COLON" and "COLONEQ" in s.accepts:
        return Finding(hint="declare with 'input', 'weight' or 'vector' in front, or assign with ':='")
    return None


def _header(s: Situation) -> Finding | None:
    first = s.line[0].type if s.line else ""
    if first == "PROGRAM" and s.token.type == "COLON":
        return Finding(hint="the header ends without ':', and the statements below it are not indented")
    if first == "DEF" and s.accepts == {"LPAR"}:
        return Finding(hint="a definition names its arguments: def f(x) := …; a value needs no 'def'")
    return None


def _loop(s: Situation) -> Finding | None:
    if not s.line or s.line[0].type != "FOR":
        return None
    if "COLON" in s.accepts and s.token.type == "NL":
        return Finding("expected ':' at the end of the 'for' line", "write for t = 1..T:")
    if "COLON" in s.accepts and s.token.type in ("NAME", "OUTPUT", "FOR"):
        return Finding(hint="':' stands between the ranges and the block: for t = 1..T:")
    if "EQUAL" in s.accepts or s.token.type == "COLON":
        return Finding(hint="a loop is written for t = 1..T: and its block indented below")
    return None


def _bracket(s: Situation) -> Finding | None:
    if s.accepts == {"SLASH"}:
        return Finding(
            f"expected '/ n' after '>', found {_found(s.token)}: / n belongs to the bracket",
            "a Moment is written <x, y> / n or <x> / n",
        )
    return None


def _comparison(s: Situation) -> Finding | None:
    if s.token.type in {*_COMPARISONS, "AND", "OR", "NOT"} and {*_OPERATORS, "NUMBER"} & s.accepts:
        return Finding(hint="comparisons, 'and', 'or' and 'not' stand only in conditions: e if i == 1 else f")
    if {"ELSE", "AND"} <= s.accepts and s.token.type in ("NL", "RPAR", "COMMA", "COLON"):
        return Finding(hint="a conditional has both branches: e if i == 1 else f")
    if s.accepts >= _COMPARISONS and s.token.type in ("ELSE", "AND", "OR", "RPAR"):
        return Finding(
            f"expected a comparison in the condition, found {_found(s.token)}",
            "a condition compares integers: i == 1, not i < j",
        )
    return None


def _law(s: Situation) -> Finding | None:
    kinds = [token.type for token in s.line]
    if "TILDE" in kinds and not {"NL"} & s.accepts:
        after = kinds[kinds.index("TILDE") + 1 :]
        if len(after) <= 1 and s.token.type != "NL":
            return Finding(
                f"expected a law N(mean, variance) after '~', found {_found(s.token)}",
                "a factor stands behind the law: N(0, 1) * 2",
            )
    if s.token.type == "TILDE" and kinds[:1] == ["INPUT"]:
        return Finding(hint="an input has no law; what is drawn from N is a 'weight' or a 'vector'")
    if kinds[:1] and kinds[0] in ("INPUT", "WEIGHT", "VECTOR", "FIXED") and "COLON" in s.accepts and len(kinds) > 1:
        return Finding(hint="a declaration names a type: input x : R(d), weight W : A(n, n) ~ N(0, 1)")
    if "TILDE" in s.accepts and s.token.type == "NL":
        return Finding(hint="give its law: ~ N(0, 1) * sqrt(s / n)")
    return None


def _operand_or_operator(s: Situation) -> Finding | None:
    previous = s.previous
    if previous is None:
        return None
    if previous.type == "NUMBER" and s.token.type in ("NAME", "LPAR") and "STAR" in s.accepts:
        return Finding(hint=f"a product is written {previous} * {s.token if s.token.type == 'NAME' else '(…)'}")
    if s.token.type == "DOTDOT" and "STAR" in s.accepts:
        return Finding(hint="a range has an index in front: i = 1..T")
    if s.token.type == "NL" and s.accepts >= _EXPRESSION:
        return Finding(hint="to go on in the next line, put the expression into ( )")
    if s.token.type == "RSQB" and "EQUAL" in s.accepts and "STAR" not in s.accepts:
        return Finding(hint=f"a family is declared with its range: {previous} = 1..T")
    if s.token.type in ("NAME", "NUMBER") and "STAR" in s.accepts and previous.type in ("NAME", "RPAR", "RSQB"):
        return Finding(hint="a product is written with '*', a matrix times a vector with '@'")
    return None


_LOOKS: tuple[Callable[[Situation], Finding | None], ...] = (
    _missing_header,
    _unclosed_bracket,
    _indentation,
    _second_header,
    _keyword_as_name,
    _misspelt_keyword,
    _header,
    _assignment_sign,
    _loop,
    _bracket,
    _comparison,
    _law,
    _operand_or_operator,
)


# ---------------------------------------------------------------- words


def _expected(s: Situation) -> str:
    left = set(s.accepts)
    words: set[str] = set()
    if s.at_start:
        words, left = {"statement"}, set()
    elif left >= _EXPRESSION:
        words.add("expression")
        left -= _EXPRESSION
    elif left >= _OPERATORS:
        words.add("operator")
        left -= _MORE_OPERATORS
        left -= {"EQUAL"} if "COMMA" in left else set()
        if left >= _COMPARISONS:
            words.add("comparison")
            left -= _COMPARISONS | {"RPAR"}
    names = [_WORDS[kind] for kind in _WORDS if kind in words | left]
    if not names:
        return "the end of the text"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _after(s: Situation) -> str:
    if s.previous is None or s.previous.type in ("NL", "INDENT", "DEDENT"):
        return ""
    return f" after {_short(s.previous)!r}"


def _short(token: Token) -> str:
    text = str(token)
    return text if len(text) <= 40 else text[:37] + "..."


def _found(token: Token) -> str:
    if token.type == "NL":
        return "the end of the line"
    if token.type in ("$END", "DEDENT"):
        return "the end of the text" if token.type == "$END" else "the end of the block"
    if _is_keyword(token):
        return f"the keyword {str(token)!r}"
    return repr(_short(token))


def _place(s: Situation) -> Span:
    if s.token.type == "$END" and s.previous is not None:
        return token_span(s.previous)
    return _visible(s.token)


def _visible(token: Token) -> Span:
    """The token's place; one column for a token without width."""
    span = token_span(token)
    if token.type in ("NL", "DEDENT"):
        return Span(span.line, span.column, span.line, span.column + 1)
    return span


def _digits_before(text: str, position: int) -> str:
    start = position
    while start and text[start - 1].isdigit():
        start -= 1
    return text[start:position]


def _digits_after(text: str, position: int) -> str:
    end = position + 1
    while end < len(text) and text[end].isdigit():
        end += 1
    return text[position + 1 : end]
