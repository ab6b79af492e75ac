"""The recursion as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from tensorprog import recursion as ir
from tensorprog.functions.registry import by_head
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.language.printer import print_statement
from tensorprog.language.syntax import Definition, Input, Random, Width
from tensorprog.recursion import Recursion, Table
from tensorprog.views import closed
from tensorprog.views.formula import Formulas
from tensorprog.views.layout import broken, deepen, mark, unmark
from tensorprog.views.notation import ATOM, PRODUCT, SUM, BatchLetters, Piece, decays
from tensorprog.views.selection import Selection, select
from tensorprog.views.simulated import random_variables
from tensorprog.views.statements import merge_zeros, sums_in_order

WIDTH = 118
MOST_ALIGNED = 30  # longer left sides do not push the equality signs to the right
HEADS = {ir.COVARIANCE: "Σ", ir.MOMENT: "E", "tangent": "Θ", "nngp": "K", "ntk": "K_NTK"}
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def text(recursion: Recursion, get: str = "nngp") -> str:
    """The equations of the NNGP, and with get = "ntk" those of the NTK after them, closed forms filled in.

    Raises ProgramError where there is no NTK, ValueError for another `get`.
    """
    selection = select(recursion, get)
    formulas = Formulas(TextNotation(), selection)
    blocks = [_header(selection, get), _random_block(formulas)]
    if get == "ntk":
        blocks += ["NNGP", _block(formulas, selection.nngp), "NTK", _block(formulas, selection.ntk)]
    else:
        blocks.append(_block(formulas, selection.nngp))
    return "\n\n".join(b for b in blocks if b) + "\n"


# ---------------------------------------------------------------- the page


def _header(selection: Selection, get: str) -> str:
    program = selection.names.program
    kernel = selection.recursion.output is not None
    title = {"nngp": "NNGP", "ntk": "NTK"}[get] if kernel else "Limits"
    lines = [f"{title} of {program.name} (Master Theorem)", ""]
    rows = []
    values = [f"{p.name} = {p.value}" if p.value is not None else p.name for p in program.parameters]
    if values:
        rows.append(("parameters", ", ".join(values)))
    for s in program.text.statements:
        if isinstance(s, Definition | Input | Random | Width):
            kind, _, rest = print_statement(s).partition(" ")
            if kind == "fixed":
                second, _, rest = rest.partition(" ")
                kind += " " + second
            rows.append((kind, rest.strip()))
    for name in _shown_temporaries(selection):
        for target, value in selection.names.definition(name):
            rows.append(("where", f"{target} = {value}"))
    pad = max((len(kind) for kind, _ in rows), default=0)
    previous = None
    for kind, value in rows:
        lines.append(f"    {'' if kind == previous else kind:<{pad}}  {value}")
        previous = kind
    lines += ["", *_legend(selection)]
    return "\n".join(lines)


def _shown_temporaries(selection: Selection) -> list[str]:
    """Vectors of the compiler that have an equation under their own name."""
    simulated = selection.simulation.families if selection.simulation is not None else ()
    shown: dict[str, None] = {}
    for table in (*selection.nngp, *selection.ntk):
        for name in table.key.families:
            indices = tuple(Affine.symbol(r.name) for r in selection.names.program.families[name].ranges)
            if name in simulated:
                continue  # Z^name has an equation
            if selection.names.is_temporary(name) and selection.names.function_of(name, indices) is None:
                shown[name] = None
    return sorted(shown, key=lambda name: selection.names.order[name])


def _legend(selection: Selection) -> list[str]:
    kinds = {t.key.kind for t in selection.tables.values()}
    printed = {(t.key.kind, t.key.stream) for t in (*selection.nngp, *selection.ntk)}
    lines = []
    meanings = []
    if ir.COVARIANCE in kinds:
        meanings.append("Σ(u, v) = Cov(Z^u, Z^v)")
    if ir.MOMENT in kinds:
        meanings.append("E(u, v) = E[Z^u Z^v]")
    if (ir.MEAN, "self") in printed:
        meanings.append("μ(u) = E[Z^u]")
    if selection.ntk:
        meanings.append("Θ(u, v) their tangent")
    if meanings:
        lines.append(", ".join(meanings) + ".")
    if selection.ntk:
        lines.append("Tangents: along the correlation of two copies of the trained parameters, over their variance.")
    inputs = [f.name for f in selection.names.program.inputs]
    if selection.recursion.output is not None and inputs:
        primed = ", ".join(f"{x}'" for x in inputs)
        lines.append(f"Without a prime: the run on {', '.join(inputs)}; with a prime: the run on {primed}.")
    if selection.mirrored:
        equal = ", ".join(f"{x}' = {x}" for x in inputs) or "equal runs"
        lines.append(f"Variances follow the same equations with {equal}.")
    values = [(c, n) for t in (*selection.nngp, *selection.ntk) for c in t.clauses for n in ir.walk(c.value)]
    if any(isinstance(n, ir.Where) for _, n in values):
        lines.append("1[…] is 1 where the conditions hold, else 0.")
    if any(c.conditions for c, _ in values) or not all(t.clauses for t in selection.tables.values() if _defined(t)):
        lines.append("An entry that no line gives is 0.")
    lines += _integral_legend(values)
    lines += _sampled_legend(selection)
    return [line for line in lines if line]


def _integral_legend(values: Sequence[tuple[ir.Clause, ir.Node]]) -> list[str]:
    nodes = [n for _, n in values if isinstance(n, ir.BatchnormExpectation | ir.BatchnormMean)]
    if not nodes:
        return []
    lines = [
        "Batch normalization: each 1/sqrt is an integral over a Laplace variable, and V is the dual of the function",
        "at the covariance Π of what is left (Yang et al., A mean field theory of batch normalization, 2019).",
    ]
    if any(isinstance(n, ir.BatchnormExpectation) and n.moved is not None for n in nodes):
        lines.append("∂E/∂Σ is the derivative of that integral by one covariance between the batches.")
    return lines


def _sampled_legend(selection: Selection) -> list[str]:
    if selection.simulation is None:
        return []
    gaussians = ", ".join(f"Z^{g}" for g in selection.simulation.gaussians)
    lines = [
        "(sampled): no closed form; computed by randomised quasi-Monte Carlo, with a standard error,",
        f"from the joint Gaussian law of {gaussians}.",
    ]
    if selection.simulation.means:
        lines.append(f"Means in it are those of {', '.join(selection.simulation.means)}.")
    if selection.ntk:
        lines.append("∂Z^u/∂Z^g: Z^u as a function of all these Gaussians (Price's theorem).")
    return lines


def _defined(table: Table) -> bool:
    """Whether equations define a table, and not the data."""
    return table.key.kind in (ir.COVARIANCE, ir.MOMENT)


def _block(formulas: Formulas, tables: Sequence[Table]) -> str:
    """Statements with their equality signs under each other, and their ranges at the right."""
    rows: list[tuple[str, str, str, list[str]]] = []
    for table in tables:
        zeros = []
        for clause in table.clauses:
            if ir.is_zero(clause.value):
                zeros.append(clause)
                continue
            left, right, where = formulas.statement(table, clause)
            rows.append((left, right, _scope(*formulas.scope(clause)), where))
        if len(zeros) == len(table.clauses) or table.key.kind not in (ir.SCALAR, ir.DATA, ir.MEAN):
            rows += _zeros(formulas, table, zeros)
    return _laid(rows)


def _random_block(formulas: Formulas) -> str:
    """The equations of the random variables that are sampled."""
    rows = []
    for left, right, d, where in random_variables(formulas):
        rows.append((left, right, _scope(d.case.binders, formulas.conditions(d.case.conditions)), where))
    return _laid(rows)


def _laid(rows: Sequence[tuple[str, str, str, list[str]]]) -> str:
    """Rows of (left side, right side, ranges, where)."""
    pad = max((len(left) for left, *_ in rows if len(left) <= MOST_ALIGNED), default=0)
    laid = [(_lines(left, right, pad), scope, where) for left, right, scope, where in rows]
    column = max((len(x[-1]) for x, scope, _ in laid if scope and len(x[-1]) <= 76), default=MOST_ALIGNED) + 4
    result = []
    for lines, scope, where in laid:
        if scope and max(column, len(lines[-1]) + 4) + len(scope) <= WIDTH:
            lines[-1] = f"{lines[-1]:<{column - 4}}    {scope}"
        elif scope:
            lines.append(f"{' ' * column}{scope}" if column + len(scope) <= WIDTH else f"{scope:>{WIDTH}}")
        result += lines
        hang = " " * (pad + 7)
        for k, line in enumerate(_packed(where, WIDTH - pad - 13)):
            for i, (part, _) in enumerate(broken(line, WIDTH - pad - 17, len)):
                result.append(hang + ("where " if k == i == 0 else "      " if i == 0 else " " * 10) + part)
    return "\n".join(result)


def _zeros(formulas: Formulas, table: Table, clauses) -> list[tuple[str, str, str, list[str]]]:
    """Entries that are zero, with equal scopes on one line."""
    by_scope: dict[str, list[str]] = {}
    for clause in merge_zeros(clauses):
        by_scope.setdefault(_scope(*formulas.scope(clause)), []).append(formulas.entry(table, clause.target, None))
    return [(" = ".join(left), "0", scope, []) for scope, left in by_scope.items()]


def _scope(ranges: Sequence[Range], conditions: Sequence[str]) -> str:
    return ", ".join([*map(str, ranges), *conditions])


def _packed(where: Sequence[str], width: int) -> list[str]:
    """Several short definitions on one line."""
    lines: list[str] = []
    for w in where:
        if lines and len(lines[-1]) + len(w) + 2 <= width:
            lines[-1] += ", " + w
        else:
            lines.append(w)
    return lines


def _lines(left: str, right: str, pad: int) -> list[str]:
    if len(left) > pad:
        if len(left) + len(unmark(right)) + 7 <= WIDTH:
            return [f"    {left} = {unmark(right)}"]
        first, *rest = _hung(right, WIDTH - 10)
        return [f"    {left}", f"        = {first}", *(" " * 10 + x for x in rest)]
    first, *rest = _hung(right, WIDTH - pad - 7)
    return [f"    {left:<{pad}} = {first}", *(" " * (pad + 7) + x for x in rest)]


def _hung(right: str, width: int) -> list[str]:
    return [" " * (4 * depth) + line for line, depth in broken(right, width, len)]


# ---------------------------------------------------------------- the notation


_LETTERS = {
    "mu": "m", "nu": "m'", "rho": "ρ", "kappa": "κ", "sigma": "σ", "tau": "τ", "zeta": "ζ", "gamma": "γ", "lambda": "λ",
    "epsilon": "ε", "Gamma": "Γ", "Upsilon": "Υ", "Omega": "Ω", "Psi": "Ψ", "Pi": "Π", "Phi": "Φ", "Delta": "Δ",
    "Lambda": "Λ",
}  # fmt: skip


class TextNotation:
    """See formula.Notation."""

    inline = 96
    widest = 96

    def width(self, text: str) -> int:
        return len(text)

    def number(self, e: sympy.Expr, values: Mapping[sympy.Symbol, Piece]) -> Piece:
        e = sympy.sympify(e)
        if e in values:
            return values[e]
        shown, original = closed.for_print(e)
        words = {d: values[s].text if s in values else s.name for d, s in original.items()}
        loose = {d for d, s in original.items() if s in values and values[s].level < ATOM}
        return Piece(_Printer(words, loose).doprint(shown), _level(shown))

    def affine(self, a: Affine) -> str:
        return str(a)

    def member(self, name: str, indices: Sequence[Affine], primed: bool) -> str:
        shown = f"[{', '.join(map(str, indices))}]" if indices else ""
        return name + ("'" if primed else "") + shown

    def pair(self, kind: str, left: str, right: str) -> str:
        return f"{HEADS[kind]}({left}, {right})"

    def mean(self, vector: str) -> str:
        return f"μ({vector})"

    def inner(self, left: str, right: str, feature: str) -> str:
        return f"⟨{left}, {right}⟩/{feature}"

    def parentheses(self, text: str) -> str:
        return f"({text})"

    def times(self, factors: Sequence[str]) -> str:
        return (mark(1) + " · ").join(factors)

    def over(self, numerator: str, denominator: Piece) -> str:
        below = denominator.text if denominator.level == ATOM else f"({denominator.text})"
        return f"{numerator}{mark(2)}/{below}"

    def total(self, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece:
        return Piece(f"sum[{_under(ranges, conditions)}]({mark(1)}{body.text})")

    def indicator(self, conditions: Sequence[str], negated: bool) -> str:
        shown = f"1[{', '.join(conditions)}]"
        return f"(1 - {shown})" if negated else shown

    def reduction(self, kind: str, ranges: Sequence[Range], conditions: Sequence[str], body: Piece) -> Piece:
        return Piece(f"{kind}[{_under(ranges, conditions)}]({body.text})")

    def softmax(self, range_: Range, at: str, body: str) -> Piece:
        return Piece(f"exp({at})/sum[{range_}](exp({body}))", PRODUCT)

    def bounds(self, low: Sequence[str], middle: str, high: Sequence[str]) -> str:
        parts = [low[0] if len(low) == 1 else f"max({', '.join(low)})"] if low else []
        parts.append(middle)
        if high:
            parts.append(high[0] if len(high) == 1 else f"min({', '.join(high)})")
        return " ≤ ".join(parts)

    def equal(self, left: str, right: str) -> str:
        return f"{left} = {right}"

    def expectation(self, body: str) -> str:
        return f"E[{body}]"

    def letter(self, name: str, number: int, primed: bool = False) -> str:
        shown = _LETTERS.get(name, name)
        return shown + (str(number).translate(_SUBSCRIPTS) if number > 1 else "") + ("'" if primed else "")

    def gaussian(self, letters: Sequence[str], means: Sequence[str] | None, covariance) -> str:
        centre = "0" if means is None else means[0] if len(means) == 1 else f"({', '.join(means)})"
        if len(letters) == 1:
            return f"{letters[0]} ~ N({centre},{mark()} {covariance[0][0]})"
        rows = f",{mark(1)} ".join(f"[{row[0]},{mark(2)} {row[1]}]" for row in covariance)
        return f"({', '.join(letters)}) ~ N({centre},{mark()} [{rows}])"

    def moments(self, letters, means, entries, zeros) -> list[str]:
        parts = [f"({', '.join(letters)}) {'' if means else 'centred '}Gaussian"]
        parts += [f"E {a} = {m}" for a, m in means]
        parts += [f"Var {a} = {value}" if a == b else f"Cov({a}, {b}) = {value}" for a, b, value in entries]
        return [*parts, "other covariances 0"] if zeros else parts

    def define(self, left: str, right: str) -> str:
        return f"{left} = {right}"

    def element(self, letter: str, indices: Sequence[Affine]) -> str:
        return self.member(letter, indices, False)

    def random(self, vector: str) -> str:
        return f"Z^{vector}"

    def slope(self, of: str, by: str) -> str:
        return f"∂{of}/∂{by}"

    def sampled(self, body: str) -> Piece:
        return Piece(f"{body}  (sampled)", PRODUCT, True)

    def over_gaussians(self, letters: Sequence[str], body: str) -> Piece:
        return Piece(f"sum[{', '.join(letters)}]({mark(1)}{deepen(body)})")

    def members(self, letter: str, families: Sequence[str]) -> str:
        return f"{letter} over all members of {', '.join(families)}"

    def call(self, name: str, argument: str) -> str:
        return f"{name}({argument})"

    def laplace(self, letters: BatchLetters) -> tuple[Piece, list[str]]:
        s, om, pi, di = letters.s, letters.omega, letters.pi, letters.diagonal
        decay = [f"{e.text if e.level == ATOM else f'({e.text})'} {b} {x}" for e, b, x in decays(letters)]
        fall = ""
        if decay:
            fall = f" exp(-({' + '.join(decay)}))" if len(decay) > 1 else f" exp(-{decay[0]})"
        if len(s) == 1:
            integral = f"sqrt({letters.sizes[0]}/π) ·{mark(1)} ∫ d{s[0]} {s[0]}^(-1/2){fall}"
            integral += f" det(I + 2 {s[0]} {om})^(-1/2){mark(1)} {letters.value}"
            resolvent = f"{pi} = {om} (I + 2 {s[0]} {om})⁻¹"
            block = letters.blocks[0]
            notes = [f"{s[0]} from 0 to ∞"]
        else:
            integral = f"sqrt({' '.join(letters.sizes)})/π ·{mark(1)} ∫∫ d{s[0]} d{s[1]} ({s[0]} {s[1]})^(-1/2){fall}"
            integral += f" det(I + 2 √{di} {om} √{di})^(-1/2){mark(1)} {letters.value}"
            resolvent = f"{pi} = {om} - 2 {om} √{di} (I + 2 √{di} {om} √{di})⁻¹ √{di} {om}"
            p, k, q = letters.blocks
            block = f"[[{p}, {k}], [{k}ᵀ, {q}]]"
            notes = [f"{s[0]}, {s[1]} from 0 to ∞", f"{di} = {s[0]} I on the first batch and {s[1]} I on the second"]
        notes += [resolvent, f"{om} = {letters.centring} {block} {letters.centring}"]
        notes.append(f"{letters.centring} = I - 1 1ᵀ/size on {'each' if len(s) > 1 else 'the'} batch")
        return Piece(integral, PRODUCT, True), notes


def _under(ranges: Sequence[Range], conditions: Sequence[str]) -> str:
    shown = ", ".join(map(str, ranges))
    return f"{shown}; {', '.join(conditions)}" if conditions else shown


def _level(e: sympy.Expr) -> int:
    if e.is_Add:
        return SUM
    fraction = e.is_Rational and not e.is_Integer
    return PRODUCT if e.is_Mul or fraction or (e.is_number and (e.is_negative or not e.is_Atom)) else ATOM


class _Printer(StrPrinter):
    """Numbers first in sums, and products as in papers: 2/π · asin(…), sqrt(p q)/(2 π) · (…)."""

    def __init__(self, words: Mapping[sympy.Symbol, str], loose: set[sympy.Symbol]):
        super().__init__()
        self._words, self._loose = words, loose

    def _print_Dummy(self, e):
        word = self._words.get(e, e.name)
        return f"({word})" if e in self._loose else word

    _print_Symbol = _print_Dummy

    def _print_Pi(self, e):
        return "π"

    def _print_Exp1(self, e):
        return "e"

    def _print_Float(self, e):
        value = float(e)
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)

    def _as_ordered_terms(self, e, order=None):
        return sums_in_order(super()._as_ordered_terms(e, order))

    def _print_Mul(self, e):
        sign, e = ("-", -e) if e.could_extract_minus_sign() else ("", e)
        top, bottom = sympy.fraction(e, exact=True)
        numbers: list[sympy.Expr] = []
        symbols: list[sympy.Expr] = []
        sums: list[sympy.Expr] = []
        for factor in sympy.Mul.make_args(top):
            group = numbers if factor.is_number else symbols if _simple(factor) else sums
            group.append(factor)
        inner = [self.parenthesize(f, PRECEDENCE["Mul"]) for f in symbols]
        heads = [self.parenthesize(f, PRECEDENCE["Mul"]) for f in numbers if f != 1]
        behind = [self.parenthesize(f, PRECEDENCE["Mul"]) for f in sums]
        below = self._below(bottom)
        if not bottom.is_number or not (inner or behind):
            front = " ".join(heads + inner) or ("1" if below or not behind else "")
        elif heads:
            front = " ".join(heads)
            behind = inner + behind
        elif inner:
            front = " ".join(inner)
        else:
            front = "1" if below else ""
        if below:
            front = f"{front}/{below}"
        if not behind:
            return sign + front
        if below and not heads and not inner and len(behind) == 1:
            return f"{sign}{behind[0]}/{below}"
        rest = " ".join(behind)
        return sign + (f"{front} · {rest}" if front and below else f"{front} {rest}" if front else rest)

    def _below(self, bottom) -> str:
        if bottom == 1:
            return ""
        factors = sympy.Mul.make_args(bottom)
        shown = self._print(bottom)
        return f"({shown})" if len(factors) > 1 or bottom.is_Add else shown

    def _print_Pow(self, e, rational=False):
        base, exponent = e.args
        if exponent == sympy.Rational(1, 2):
            return f"sqrt({self._print(base)})"
        if exponent.is_number and exponent.is_negative:
            return f"1/{self._below(sympy.Pow(base, -exponent))}"
        if exponent.is_Integer:
            shown = self.parenthesize(base, PRECEDENCE["Pow"])
            return shown + str(exponent).translate(_SUPERSCRIPTS)
        return "**".join(self.parenthesize(part, PRECEDENCE["Pow"]) for part in (base, exponent))

    def _print_Rational(self, e):
        return f"{e.p}/{e.q}"

    def _print_exp(self, e):
        return f"exp({self._print(e.args[0])})"

    def _print_Abs(self, e):
        return f"abs({self._print(e.args[0])})"

    def _print_Function(self, e):
        function = by_head(e.func)
        if function is None:
            return f"{e.func.__name__}({', '.join(self._print(a) for a in e.args)})"
        count = len(e.args) - len(function.parameters)
        shown = [self._print(a) for a in e.args[:count]]
        for (keyword, default), value in zip(function.parameters, e.args[count:], strict=True):
            if value != default:
                shown.append(f"{keyword} = {self._print(value)}")
        return f"{function.name}({', '.join(shown)})"


for _head in ("erf", "tanh", "sin", "cos", "log", "atan"):
    setattr(_Printer, f"_print_{_head}", _Printer._print_Function)


def _simple(e: sympy.Expr) -> bool:
    """A factor that may stand over a fraction bar: a symbol, a power or a root."""
    return e.is_Symbol or (e.is_Pow and (e.base.is_Symbol or e.exp == sympy.Rational(1, 2)))
