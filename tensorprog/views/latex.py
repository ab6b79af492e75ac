"""The recursion in LaTeX: align* blocks that need amsmath and amssymb alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import sympy
from sympy.printing.latex import LatexPrinter

from tensorprog import recursion as ir
from tensorprog.functions.registry import by_head
from tensorprog.index.affine import Affine, Entry, Quotient, Remainder
from tensorprog.index.bounds import Bound
from tensorprog.index.ranges import Range
from tensorprog.recursion import Recursion, Table
from tensorprog.views import closed
from tensorprog.views.formula import Formulas
from tensorprog.views.layout import broken, mark, unmark
from tensorprog.views.names import GREEK
from tensorprog.views.notation import ATOM, PRODUCT, SUM, BatchLetters, Piece, decays
from tensorprog.views.selection import Selection, select
from tensorprog.views.simulated import functions, random_variables
from tensorprog.views.statements import merge_zeros, sums_in_order

WIDTH = 57
"""Glyphs to a line: about the text width of an article at 11pt."""

HEADS = {
    ir.COVARIANCE: r"\Sigma",
    ir.MOMENT: r"\mathbb{E}",
    "tangent": r"\Theta",
    "nngp": "K",
    "ntk": r"K_{\mathrm{NTK}}",
}


def latex(recursion: Recursion, get: str = "nngp") -> str:
    """The equations as an align* block, and with get = "ntk" a second block of the NTK's; needs amsmath and amssymb.

    Raises ProgramError where there is no NTK, ValueError for another `get`.
    """
    selection = select(recursion, get)
    formulas = Formulas(LatexNotation(), selection)
    return "\n".join(_blocks(formulas)) + "\n"


def latex_document(recursion: Recursion, get: str = "nngp") -> str:
    """A document of its own with a line on the notation and the equations. Raises as `latex`."""
    selection = select(recursion, get)
    formulas = Formulas(LatexNotation(), selection)
    title = {"nngp": "NNGP", "ntk": "NTK"}[get] if recursion.output is not None else "Limits"
    lines = [
        r"\documentclass[11pt]{article}",
        r"\usepackage{amsmath,amssymb}",
        r"\allowdisplaybreaks",
        r"\begin{document}",
        rf"\section*{{{title} of {_escaped(selection.names.program.name)}}}",
        _legend(selection),
        *_blocks(formulas),
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"


def _legend(selection: Selection) -> str:
    notation = LatexNotation()
    inputs = [f.name for f in selection.names.program.inputs]
    parts = [r"$\Sigma(u, v) = \operatorname{Cov}(Z^u, Z^v)$, $\mathbb{E}(u, v) = \mathbb{E}[Z^u Z^v]$."]
    if selection.ntk:
        parts.append(
            r"$\Theta(u, v)$ is their derivative along the correlation of two copies of the trained parameters, "
            "over the variance of these."
        )
    if inputs and selection.recursion.output is not None:
        data, primed = (", ".join("$" + notation.member(x, (), p) + "$" for x in inputs) for p in (False, True))
        parts.append(f"What has a prime belongs to the run on {primed}, what has none to the run on {data}.")
    if selection.mirrored:
        equal = ", ".join(f"${notation.member(x, (), True)} = {notation.member(x, (), False)}$" for x in inputs)
        parts.append(f"Variances follow the same equations with {equal or 'equal runs'}.")
    values = [n for t in (*selection.nngp, *selection.ntk) for c in t.clauses for n in ir.walk(c.value)]
    if any(isinstance(n, ir.BatchnormExpectation | ir.BatchnormMean) for n in values):
        parts.append(
            "Under batch normalization each inverse root is an integral over a Laplace variable, and $V$ is the dual "
            "of the function at the covariance of what is left "
            "(Yang et al., A mean field theory of batch normalization, 2019)."
        )
    if selection.simulation is not None:
        drawn = [notation.random(notation.member(g, (), False)) for g in selection.simulation.gaussians]
        gaussians = ", ".join(f"${z}$" for z in drawn)
        parts.append(
            "What is marked (sampled) has no closed form: it is computed by randomised quasi-Monte Carlo, with a "
            f"standard error, from the joint Gaussian law of {gaussians}."
        )
        if selection.simulation.means:
            means = ", ".join(f"${notation.member(b, (), False)}$" for b in selection.simulation.means)
            parts.append(f"Means in it are those of {means}.")
        if selection.ntk:
            parts.append(
                r"In $\partial Z^u / \partial Z^g$, $Z^u$ is a function of all these Gaussians (Price's theorem)."
            )
    return "\n".join(parts)


def _blocks(formulas: Formulas) -> list[str]:
    """Of the random variables that are sampled, of the NNGP and of the NTK."""
    selection = formulas.selection
    blocks = [_random_block(formulas)] if selection.simulation is not None else []
    return blocks + [_block(formulas, tables) for tables in (selection.nngp, selection.ntk) if tables]


def _random_block(formulas: Formulas) -> str:
    rows = [
        _statement(left, right, _scope(d.case.binders, formulas.conditions(d.case.conditions)), where)
        for left, right, d, where in random_variables(formulas)
    ]
    return _aligned(rows + [[f"& {line}"] for line in functions(formulas)])


def _block(formulas: Formulas, tables: Sequence[Table]) -> str:
    rows: list[list[str]] = []
    for table in tables:
        zeros = [c for c in table.clauses if ir.is_zero(c.value)]
        for clause in table.clauses:
            if clause not in zeros:
                left, right, where = formulas.statement(table, clause)
                rows.append(_statement(left, right, _scope(*formulas.scope(clause)), where))
        if len(zeros) == len(table.clauses) or table.key.kind not in (ir.SCALAR, ir.DATA, ir.MEAN):
            for clause in merge_zeros(zeros):
                left = formulas.entry(table, clause.target, None)
                rows.append(_statement(left, "0", _scope(*formulas.scope(clause)), []))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    lines = [" \\\\\n".join(f"  {line}" for line in row) for row in rows]
    return "\\begin{align*}\n" + " \\\\[4pt]\n".join(lines) + "\n\\end{align*}"


def _scope(ranges: Sequence[Range], conditions: Sequence[str]) -> list[str]:
    return [*map(_range, ranges), *conditions]


def _statement(left: str, right: str, scope: list[str], where: list[str]) -> list[str]:
    """The lines of an equation: they begin at the left, and continue with an indent."""
    short = glyphs(left) <= WIDTH // 2
    if short and glyphs(left + unmark(right)) + 2 <= WIDTH:
        lines = [f"& {left} = {unmark(right)}"]
    else:
        parts = broken(right, WIDTH - 4, glyphs)
        lines = [(r"&\qquad " if depth else r"&\quad ") + part for part, depth in parts]
        first = parts[0][0]
        if short and len(parts) > 1 and glyphs(left + first) + 2 <= WIDTH:
            lines[0] = f"& {left} = {first}"
        else:
            lines[:1] = [f"& {left}", rf"&\quad = {first}"]
    for words, items in ((r"\text{where } ", where), ("", scope)):
        found = _packed([unmark(x) for x in items], words)
        if not words and len(found) == len(lines) == 1 and glyphs(lines[0] + found[0]) <= WIDTH:
            lines[0] += found[0].removeprefix("&")
        else:
            lines += found
    return lines


def _packed(items: Sequence[str], words: str) -> list[str]:
    """Short items on one line."""
    lines: list[str] = []
    for item in items:
        if lines and glyphs(lines[-1] + item) + 3 <= WIDTH:
            lines[-1] += rf", \quad {item}"
        else:
            lines.append(rf"&\qquad {'' if lines else words}{item}")
    return lines


# ---------------------------------------------------------------- words


_COMMAND = re.compile(r"\\([a-zA-Z]+)\*?|\\.")


def glyphs(text: str) -> int:
    """About how many characters wide a formula is set; indices count less, a fraction as its wider part."""
    return round(_width(unmark(text)))


def _width(text: str) -> float:
    total, i = 0.0, 0
    while i < len(text):
        c = text[i]
        if text.startswith((r"\frac", r"\tfrac"), i):
            i += len(r"\frac") if text.startswith(r"\frac", i) else len(r"\tfrac")
            first, i = _group(text, i)
            second, i = _group(text, i)
            total += max(_width(first), _width(second)) + 0.5
        elif text.startswith(_SET, i):
            total += 1.5 if text.startswith(r"\sqrt", i) else 0
            i = text.index("{", i)
        elif text.startswith(r"\sum_", i) or text.startswith(r"\prod_", i) or text.startswith(r"\max_", i):
            under, i = _group(text, text.index("_", i) + 1)
            total += max(2, 0.7 * max(map(_width, re.split(r"\\\\", under))))
        elif match := _SPACING.match(text, i):
            total += {r"\quad": 2, r"\qquad": 4}.get(match.group(), 0)
            i = match.end()
        elif c == "\\":
            match = _COMMAND.match(text, i)
            i = match.end() if match else i + 1
            name = match.group(1) if match else None
            total += 0 if match and not name else len(name) if name in _WORDS else 2 if name == "dots" else 1
        elif c in "_^":
            inner, i = _group(text, i + 1)
            total += 0.65 * _width(inner)
        else:
            total += 0 if c in "{}& \n" else 0.5 if c in "(),'|!" else 2 if c in "+=-" else 1
            i += 1
    return total


_SPACING = re.compile(r"\\(?:begin|end)\{\w+\*?\}|\\left|\\right|\\[bB]ig[lr]|\\qquad|\\quad")
_SET = (r"\operatorname", r"\mathrm", r"\mathit", r"\text", r"\mathbb", r"\mathbf", r"\mathcal", r"\substack", r"\sqrt")
_WORDS = {"arcsin", "arccos", "exp", "log", "sin", "cos", "sinh", "cosh", "tanh", "min", "max", "arctan"}


def _group(text: str, i: int) -> tuple[str, int]:
    """The argument at i, {…} or one character, and where it ends."""
    if i >= len(text) or text[i] != "{":
        match = _COMMAND.match(text, i)
        end = match.end() if match else i + 1
        return text[i:end], end
    depth = 0
    for k in range(i, len(text)):
        depth += (text[k] == "{") - (text[k] == "}")
        if depth == 0:
            return text[i + 1 : k], k + 1
    return text[i + 1 :], len(text)


def _escaped(name: str) -> str:
    return name.replace("_", r"\_")


ACCENTS = ("tilde", "bar", "check", "breve")
"""Over k_, k__, k___ and k____: indices made here, of which one sum may have several."""


def _name(name: str) -> str:
    """A family, parameter or index: Greek as Greek, one letter as it is, h1 as h_1 inside a group, words upright."""
    stem = name.rstrip("'")
    primes = name[len(stem) :]
    match = re.fullmatch(r"([A-Za-z]+)_?(\d*)", stem)
    if stem in GREEK:
        shown = rf"\{stem}"
    elif match and (len(match[1]) == 1 or match[1] in GREEK) and match[2]:
        shown = f"{{{_name(match[1])}_{{{match[2]}}}}}"
    elif len(stem) == 1:
        shown = stem
    elif stem.endswith("_") and len(stem.rstrip("_")) == 1:
        count = len(stem) - 1
        known = count <= len(ACCENTS)
        shown = rf"\{ACCENTS[count - 1]}{{{stem[0]}}}" if known else rf"{{\tilde{{{stem[0]}}}_{{{count}}}}}"
    else:
        shown = rf"\mathrm{{{_escaped(stem)}}}"
    return shown + primes


def _affine(a: Affine) -> str:
    parts = []
    for s, c in sorted(a.terms, key=lambda t: t[1] < 0):
        factor = "" if abs(c) == 1 else str(abs(c))
        parts.append(("-" if c < 0 else "+") + factor + (" " if factor else "") + _symbol(s, bool(factor)))
    if a.constant or not parts:
        parts.append(f"{a.constant:+d}")
    return "".join(parts).removeprefix("+")


def _symbol(s: str, scaled: bool) -> str:
    if isinstance(s, Quotient):
        return rf"\lfloor {_affine(s.numerator)}/{s.divisor} \rfloor"
    if isinstance(s, Remainder):
        left, right = (f"({_affine(a)})" if a.terms and str(a) not in a.symbols else _affine(a) for a in s.operands)
        return rf"({left} \bmod {right})" if scaled else rf"{left} \bmod {right}"
    if isinstance(s, Entry):
        return f"{_name(s.table)}_{{{', '.join(map(_affine, s.indices))}}}" if s.indices else _name(s.table)
    return _name(s)


def _bound(b: Bound) -> str:
    if isinstance(b, Affine):
        return _affine(b)
    return rf"\{b.kind}({', '.join(map(_bound, b.arguments))})"


def _range(r: Range) -> str:
    return rf"{_name(r.name)} = {_bound(r.low)}, \dots, {_bound(r.high)}"


# ---------------------------------------------------------------- the notation


class LatexNotation:
    """See formula.Notation."""

    inline = 42
    widest = WIDTH - 8

    def width(self, text: str) -> int:
        return glyphs(text)

    def number(self, e: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> Piece:
        e = sympy.sympify(e)
        if e in values:
            return values[e]
        # var_w is the square of sigma_w, so that its root has no root sign.
        deviations = {
            s: sympy.Dummy(s.name, positive=True)
            for s in e.free_symbols
            if s not in values and s.name.startswith("var_") and len(s.name) > len("var_")
        }
        e = e.xreplace({s: d**2 for s, d in deviations.items()})
        shown, original = closed.for_print(e)
        known = {d: s for s, d in deviations.items()}
        words = {}
        for d, s in original.items():
            if s in values:
                piece = values[s]
                words[d] = unmark(piece.text) if piece.level == ATOM else rf"\left({unmark(piece.text)}\right)"
            elif s in known:
                words[d] = rf"\sigma_{{{_name(s.name[len('var_') :])}}}"
            else:
                words[d] = _name(s.name)
        return Piece(_plain_parentheses(_Printer(words).doprint(shown)), _level(shown))

    def affine(self, a: Affine) -> str:
        return _affine(a)

    def member(self, name: str, indices: Sequence[Affine], primed: bool) -> str:
        shown = _name(name) + ("'" if primed else "")
        return f"{shown}_{{{', '.join(map(_affine, indices))}}}" if indices else shown

    def pair(self, kind: str, left: str, right: str) -> str:
        return f"{HEADS[kind]}({left}, {right})"

    def mean(self, vector: str) -> str:
        return rf"\mu({vector})"

    def inner(self, left: str, right: str, feature: str) -> str:
        return rf"\tfrac{{1}}{{{_name(feature)}}}\langle {left}, {right} \rangle"

    def parentheses(self, text: str) -> str:
        return f"({text})"

    def times(self, factors: Sequence[str]) -> str:
        return (mark(1) + r" \, ").join(factors)

    def over(self, numerator: str, denominator: Piece) -> str:
        return rf"\frac{{{unmark(numerator)}}}{{{unmark(denominator.text)}}}"

    def total(self, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece:
        inside = body.text if body.level >= PRODUCT else f"({body.text})"
        return Piece(rf"\sum_{{{_under(ranges, conditions)}}} {mark(1)}{inside}", PRODUCT, wide=True)

    def indicator(self, conditions: Sequence[str], negated: bool) -> str:
        shown = rf"\mathbf{{1}}_{{[{', '.join(conditions)}]}}"
        return f"(1 - {shown})" if negated else shown

    def reduction(self, kind: str, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece:
        under = _under(ranges, conditions)
        if kind not in ("max", "min", "prod"):
            return Piece(rf"\operatorname*{{{kind}}}_{{{under}}} ({unmark(body.text)})", PRODUCT)
        inside = unmark(body.text) if body.level >= PRODUCT else f"({unmark(body.text)})"
        return Piece(rf"\{kind}_{{{under}}} {inside}", PRODUCT, wide=True)

    def softmax(self, range_: Range, at: str, body: str) -> Piece:
        total = rf"\sum_{{{_under((range_,), ())}}} \exp\left({body}\right)"
        return Piece(rf"\frac{{\exp\left({at}\right)}}{{{total}}}")

    def bounds(self, low: Sequence[str], middle: str, high: Sequence[str]) -> str:
        parts = [low[0] if len(low) == 1 else rf"\max({', '.join(low)})"] if low else []
        parts.append(middle)
        if high:
            parts.append(high[0] if len(high) == 1 else rf"\min({', '.join(high)})")
        return r" \le ".join(parts)

    def equal(self, left: str, right: str) -> str:
        return f"{left} = {right}"

    def expectation(self, body: str) -> str:
        big = r"\Bigl[", r"\Bigr]"
        left, right = big if r"\frac{\partial" in body else (r"\bigl[", r"\bigr]")
        return rf"\mathbb{{E}}{left}{body}{right}"

    def letter(self, name: str, number: int, primed: bool = False) -> str:
        shown = {"mu": "m", "nu": "m'"}.get(name) or _name(name)
        prime = "'" if primed and not shown.endswith("'") else ""
        return shown + prime + (f"_{{{number}}}" if number > 1 else "")

    def gaussian(self, letters: Sequence[str], means: Sequence[str] | None, covariance) -> str:
        def column(entries, environment):
            return rf"\begin{{{environment}}} " + r" \\ ".join(entries) + rf" \end{{{environment}}}"

        if len(letters) == 1:
            return rf"{letters[0]} \sim \mathcal{{N}}({'0' if means is None else means[0]}, {covariance[0][0]})"
        centre = "0" if means is None else column(means, "pmatrix")
        rows = column([" & ".join(row) for row in covariance], "pmatrix")
        return rf"({', '.join(letters)}) \sim \mathcal{{N}}\left({centre}, {rows}\right)"

    def moments(self, letters, means, entries, zeros) -> list[str]:
        centred = "" if means else "centred "
        parts = [rf"({', '.join(letters)}) \text{{ {centred}Gaussian}}"]
        parts += [rf"\mathbb{{E}}\,{a} = {m}" for a, m in means]
        for a, b, value in entries:
            left = rf"\operatorname{{Var}} {a}" if a == b else rf"\operatorname{{Cov}}({a}, {b})"
            parts.append(f"{left} = {value}")
        return [*parts, r"\text{other covariances } 0"] if zeros else parts

    def define(self, left: str, right: str) -> str:
        return f"{left} = {right}"

    def element(self, letter: str, indices: Sequence[Affine]) -> str:
        return f"{letter}_{{{', '.join(map(_affine, indices))}}}"

    def random(self, vector: str) -> str:
        return f"Z^{{{vector}}}"

    def slope(self, of: str, by: str) -> str:
        return rf"\frac{{\partial {of}}}{{\partial {by}}}"

    def sampled(self, body: str) -> Piece:
        return Piece(rf"{body} \quad\text{{(sampled)}}", PRODUCT, wide=True)

    def over_gaussians(self, letters: Sequence[str], body: str) -> Piece:
        return Piece(rf"\sum_{{{', '.join(letters)}}} {mark(1)}{body}", PRODUCT, wide=True)

    def members(self, letter: str, families: Sequence[str]) -> str:
        return rf"{letter} \text{{ over all members of }} {', '.join(families)}"

    def call(self, name: str, argument: str) -> str:
        head = _name(name) if name in GREEK else rf"\operatorname{{{_escaped(name)}}}"
        return f"{head}({argument})"

    def laplace(self, letters: BatchLetters) -> tuple[Piece, list[str]]:
        s, om, pi, di, centring = letters.s, letters.omega, letters.pi, letters.diagonal, letters.centring
        decay = [rf"{e.text if e.level == ATOM else f'({e.text})'} {b} {x}" for e, b, x in decays(letters)]
        falling = rf" \, e^{{-({' + '.join(decay)})}}" if decay else ""
        limits = r"_{0}^{\infty}"
        if len(s) == 1:
            determinant = rf"\det(I + 2 {s[0]} {om})"
            front = rf"\sqrt{{\frac{{{letters.sizes[0]}}}{{\pi}}}} \int{limits} {mark(1)}"
            fraction = rf"\frac{{{letters.value}}}{{\sqrt{{{s[0]} \, {determinant}}}}}"
            integral = rf"{front}{fraction}{falling} \, d{s[0]}"
            notes = [rf"{pi} = {om} (I + 2 {s[0]} {om})^{{-1}}"]
            block = letters.blocks[0]
            size = letters.sizes[0]
            notes.append(rf"{om} = {centring} {block} {centring}")
            notes.append(rf"{centring} = I - \tfrac{{1}}{{{size}}} \mathbf{{1}} \mathbf{{1}}^{{\top}}")
            return Piece(integral, PRODUCT, wide=True), notes
        root = rf"\sqrt{{{di}}}"
        inner = rf"I + 2 {root} \, {om} {root}"
        front = rf"\frac{{\sqrt{{{' '.join(letters.sizes)}}}}}{{\pi}} \int{limits} \!\! \int{limits} {mark(1)}"
        fraction = rf"\frac{{{letters.value}}}{{\sqrt{{{s[0]} {s[1]} \det({inner})}}}}"
        p, k, q = letters.blocks
        block = rf"\begin{{pmatrix}} {p} & {k} \\ {k}^{{\top}} & {q} \end{{pmatrix}}"
        notes = [
            rf"{pi} = {om} - 2 {om} {root} ({inner})^{{-1}} {root} \, {om}",
            rf"{di} = {s[0]} I \oplus {s[1]} I",
            rf"{om} = {centring} {block} {centring}",
            rf"{centring} = " + r" \oplus ".join(map(_centring, letters.sizes)),
        ]
        return Piece(rf"{front}{fraction}{falling} \, d{s[0]} \, d{s[1]}", PRODUCT, wide=True), notes


def _centring(size: str) -> str:
    return rf"(I - \tfrac{{1}}{{{size}}} \mathbf{{1}} \mathbf{{1}}^{{\top}})"


def _under(ranges: Sequence[Range], conditions: Sequence[str]) -> str:
    """What stands under a sum, a line each where there are several."""
    lines = [rf"{_name(r.name)}={_bound(r.low)}..{_bound(r.high)}" for r in ranges] + list(conditions)
    return lines[0] if len(lines) == 1 else r"\substack{" + r" \\ ".join(lines) + "}"


def _level(e: sympy.Expr) -> int:
    if e.is_Add:
        return SUM
    return PRODUCT if e.is_Mul or (e.is_number and e.is_negative) else ATOM


_LOW = re.compile(r"\\left\(((?:(?!\\left|\\right|\\frac|\\sqrt|\\sum|\\begin).)*)\\right\)")


def _plain_parentheses(text: str) -> str:
    """relu(h) without the space that \\left( brings, where nothing high is inside."""
    while (changed := _LOW.sub(r"(\1)", text)) != text:
        text = changed
    return text


class _Printer(LatexPrinter):
    """Numbers first in sums; words for symbols."""

    def __init__(self, words: Mapping[sympy.Symbol, str]):
        super().__init__({"inv_trig_style": "full"})
        self._words = words

    def _print_Dummy(self, e, style="plain"):
        return self._words.get(e, _name(e.name))

    _print_Symbol = _print_Dummy

    def _print_Mul(self, e):
        # 2/π·arcsin(…), and not all of the arcsine over a bar.
        top, bottom = sympy.fraction(e, exact=True)
        numbers, rest = top.as_independent(*top.free_symbols, as_Add=False)
        if bottom.is_number and bottom != 1 and rest.has(sympy.Function, sympy.Add):
            sign, numbers = ("- ", -numbers) if numbers.could_extract_minus_sign() else ("", numbers)
            shown = self._print(rest)
            if rest.is_Add:
                shown = rf"\left({shown}\right)"
            return rf"{sign}\frac{{{self._print(numbers)}}}{{{self._print(bottom)}}} {shown}"
        return super()._print_Mul(e)

    def _print_Pow(self, e):
        # A prime, or the h of Z^h, and a power on one letter would be a double superscript.
        base, exponent = e.args
        if base.is_Symbol and set("'^") & set(self._print(base)) and exponent.is_Integer and exponent > 0:
            return rf"{{{self._print(base)}}}^{{{exponent}}}"
        return super()._print_Pow(e)

    def _as_ordered_terms(self, e, order=None):
        return sums_in_order(super()._as_ordered_terms(e, order))

    def _print_Function(self, e, exp=None):
        function = by_head(e.func)
        if function is None or not function.latex:
            return super()._print_Function(e, exp)
        arguments = [self._print(a) for a in e.args]
        body = function.latex.format(*arguments, all=", ".join(arguments))
        return body if exp is None else rf"\left({body}\right)^{{{exp}}}"
