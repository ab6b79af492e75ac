# ruff: noqa: SIM905
"""Programs with mistakes: the texts of programs, changed here and there."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOKEN = re.compile(r"\s+|//[^\n]*|[A-Za-z_]\w*|\d+(?:\.\d+)?|\.\.|:=|\*\*|[=!<>]=|.")
NUMBERS = ("0", "-1", "1", "2", "3", "1000000000", "999999999999999999999999", "1e30", "0.5", "1e-300", "7", "64")
OTHERS = """
    W.T h[0] sum mean max softmax layernorm batchnorm D( .T @ ** ~ N(0, 1) sqrt( / * + - ( ) [ ] , : :=
    = .. if else for in and or not == < <= > by -1 mod scalar index(V) fixed width vector weight input
    output program def n d pi T 1..T <x,x>/n relu step exp log C G(n) R(d) A(n,n) 1 0 n+1
""".split()
CHARACTERS = "\t\n $§é\"'\\;{}#%&|^!?`\x00 .,:=[]()<>*/+-_0aZ"


@cache
def originals() -> tuple[tuple[str, str], ...]:
    """(name, text) of the bundled programs and of those beside the tests."""
    paths = sorted([*ROOT.glob("programs/*.netsor"), *ROOT.glob("tests/**/programs/*.netsor")])
    return tuple((p.stem, p.read_text()) for p in paths)


def mutant(seed: int) -> tuple[str, str]:
    """(name of the original, text): one to four changes, the same for the same seed."""
    rng = random.Random(f"mutant {seed}")
    name, text = rng.choice(originals())
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        text = rng.choice(CHANGES)(text, rng)
    return name, text


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(text) or ["\n"]


def _places(tokens: list[str]) -> list[int]:
    return [k for k, t in enumerate(tokens) if t.strip() and not t.startswith("//")] or [0]


def _delete(text, rng):
    tokens = _tokens(text)
    k = rng.choice(_places(tokens))
    return "".join(tokens[:k] + tokens[k + rng.choice((1, 1, 2, 3)) :])


def _double(text, rng):
    tokens = _tokens(text)
    k = rng.choice(_places(tokens))
    return "".join(tokens[:k] + tokens[k : k + 1] * 2 + tokens[k + 1 :])


def _swap(text, rng):
    tokens = _tokens(text)
    a, b = rng.choice(_places(tokens)), rng.choice(_places(tokens))
    tokens[a], tokens[b] = tokens[b], tokens[a]
    return "".join(tokens)


def _replace(text, rng):
    """A token by another of the text, or by one of the language."""
    tokens = _tokens(text)
    places = _places(tokens)
    tokens[rng.choice(places)] = rng.choice((tokens[rng.choice(places)], rng.choice(OTHERS)))
    return "".join(tokens)


def _insert(text, rng):
    tokens = _tokens(text)
    tokens.insert(rng.choice(_places(tokens)), f" {rng.choice(OTHERS)} ")
    return "".join(tokens)


def _number(text, rng):
    tokens = _tokens(text)
    places = [k for k, t in enumerate(tokens) if t[:1].isdigit()]
    if places:
        tokens[rng.choice(places)] = rng.choice(NUMBERS)
    return "".join(tokens)


def _name(text, rng):
    """A name by another name of the text."""
    tokens = _tokens(text)
    places = [k for k, t in enumerate(tokens) if t[:1].isalpha()]
    if places:
        tokens[rng.choice(places)] = tokens[rng.choice(places)]
    return "".join(tokens)


def _rename(text, rng):
    """A name everywhere, to another one that may be taken."""
    names = sorted(set(re.findall(r"[A-Za-z_]\w*", text))) or ["n"]
    old, new = rng.choice(names), rng.choice([*names, "n", "d", "x1", "pi", "sum", "jnp", "P1"])
    return re.sub(rf"\b{old}\b", new, text)


def _character(text, rng):
    k = rng.randrange(len(text) + 1)
    return text[:k] + rng.choice(CHARACTERS) + text[k + rng.choice((0, 1)) :]


def _lines(text, rng):
    """A line dropped, doubled, moved or indented otherwise."""
    lines = text.split("\n")
    k = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[k]
        case 1:
            lines.insert(k, lines[k])
        case 2:
            line = lines.pop(k)
            lines.insert(rng.randrange(len(lines) + 1), line)
        case 3:
            lines[k] = " " * rng.choice((1, 2, 4, 8)) + lines[k]
        case 4:
            lines[k] = lines[k].lstrip()
    return "\n".join(lines)


def _cut(text, rng):
    return text[: rng.randrange(len(text) + 1)]


CHANGES = (
    _delete,
    _double,
    _swap,
    _replace,
    _replace,
    _insert,
    _number,
    _number,
    _name,
    _name,
    _rename,
    _character,
    _lines,
    _lines,
    _cut,
)
