"""The backward pass of a program, as a program.

    s[0] := 0
    for t = 1..T:
        h[t] := W @ s[t-1] + U @ x[t] + b
        s[t] := phi(h[t])
    output y := v.T @ s[T] / sqrt(n)

is followed by (sums in core form left out here)

    for t = T..1 by -1:
        d_s[t] := v if t == T else W.T @ d_h[t+1]
        d_h[t] := d_s[t] * D(phi)(h[t])
    d_b := sum[t = 1..T](d_h[t])
    d_v := s[T]

where d_h is sqrt(n) times the derivative of the output by h, n the width of the readout. The assignments of the core
form are gone through backwards, and so are all loops: then whatever reads a vector has its derivative already, and one
assignment collects what the vector receives from all that read it.
"""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Certain, Condition, complementary, judging
from tensorprog.index.fresh import numbered
from tensorprog.index.ranges import Range
from tensorprog.language import syntax
from tensorprog.language.placed import placed
from tensorprog.program import ir
from tensorprog.program.build import build_tree, rebuilt
from tensorprog.program.desugar import bound_expression, type_name
from tensorprog.program.laws import growth
from tensorprog.program.passes.arithmetic import ZERO, add, divide, multiply
from tensorprog.program.passes.conditions import as_syntax
from tensorprog.program.passes.reads import Read, Reads, scope_of
from tensorprog.program.passes.solving import Place, Solver, Term, is_case, joined
from tensorprog.program.scope import Binding, Scope
from tensorprog.program.substitution import children, rename, subexpressions
from tensorprog.program.types import Process, Vector
from tensorprog.program.typing import is_zero


def backward(program: ir.Program) -> ir.Program:
    """The program followed by its backward pass: for each vector h that the readout reaches there is d_h.

    d_h is sqrt(n)·∂output/∂h, with n the width of the readout and with C's as constants; the indices of an output
    family come first, `d_s[o, t]` for output `y[o = 1..T]`, under other names where the program uses theirs already.

    Raises ProgramError where no output is a readout, and for what has no derivative as a program.
    """
    try:
        text, tree = placed(_Backward(_with_plain_readouts(program)).run())
    except ProgramError as error:
        raise error.located(program.source, program.filename) from None
    return build_tree(tree, {}, text, f"backward pass of {program.filename}")


def _with_plain_readouts(program: ir.Program) -> ir.Program:
    """The program with `v ~ N(0, s)` in v.T @ x / sqrt(n) for every `v ~ N(0, s) / sqrt(n)` in v.T @ x.

    It is the same network with the same parameters; the backward pass starts at v, a vector of size O(1).
    """
    tree = program.text
    outputs = {f.name for f in program.outputs if isinstance(f.type, Process)}
    read = {
        e.left.operand.name
        for f in program.outputs
        for c in f.clauses
        for e in subexpressions(c.value)
        if isinstance(e, syntax.Binary) and isinstance(e.left, syntax.Transpose)
    }
    roots: dict[str, syntax.Expr] = {}
    for name in read:
        v = program.families[name]
        if v.law is not None and isinstance(v.type, Vector):
            if growth(v.law.multiplier, dict(program.widths)).exponent == -sympy.Rational(1, 2):
                roots[name] = syntax.Call("sqrt", (syntax.Name(v.type.width),))
    if not roots:
        return program

    def readout(e):
        if isinstance(e, syntax.Binary) and isinstance(e.left, syntax.Transpose) and e.left.operand.name in roots:
            return divide(e, roots[e.left.operand.name])
        return None

    statements: list[syntax.Statement] = []
    for s in tree.statements:
        if isinstance(s, syntax.Random) and any(v.name in roots for v in s.variables):
            for x in s.variables:
                law = s.law
                if x.name in roots and law.multiplier is not None:
                    moved = divide if law.divides else multiply
                    law = replace(law, multiplier=moved(law.multiplier, roots[x.name]))
                statements.append(replace(s, variables=(x,), law=law))
        else:
            statements.append(_in_outputs(s, outputs, readout))
    return rebuilt(program, replace(tree, statements=tuple(statements)))


def _in_outputs(s: syntax.Statement, outputs: set[str], change) -> syntax.Statement:
    """A statement with expressions replaced in what it assigns to outputs."""
    match s:
        case syntax.For(_, body):
            return replace(s, body=tuple(_in_outputs(x, outputs, change) for x in body))
        case syntax.Assignment(name, _, value) if name in outputs:
            return replace(s, value=rename(value, change))
    return s


class _Backward:
    def __init__(self, program: ir.Program):
        self.program = program
        outputs = [f for f in program.outputs if isinstance(f.type, Process)]
        if not outputs:
            raise ProgramError(
                "no output is a readout v.T @ x / sqrt(n): there is nothing to go back from",
                program.outputs[0].span if program.outputs else None,
            )
        if len(outputs) > 1:
            raise ProgramError("a backward pass goes back from one output, this is another readout", outputs[1].span)
        self.output = outputs[0]
        self.taken = _names(program)
        self.indices = _index_names(program.text)
        self.derivatives = self._derivative_names()
        self.outer = self._output_indices()
        outer = tuple(r.name for r in self.outer)
        reads = Reads(program, self.derivatives, outer)
        self.reads = self._reached(reads.found)
        small = {name: value for name, value in program.integers.items() if value < 1}
        scope = reads.scope
        self.solver = Solver(scope, small, reads.names, frozenset(self.taken | set(outer)))
        self.small = small

    # ------------------------------------------------------------ names

    def _derivative_names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for f in self.program.families.values():
            if isinstance(f.type, Vector):
                names[f.name] = numbered(f"d_{f.name}", self.taken | self.indices)
                self.taken.add(names[f.name])
        return names

    def _output_indices(self) -> tuple[Range, ...]:
        """The indices of the output, under names that nothing else has."""
        result = []
        used = self.taken | self.indices
        own = {r.name for r in self.output.ranges}
        inside = _index_names(self.program.text, besides=self.output.name)
        for r in self.output.ranges:
            # A name that only the output has is kept.
            name = r.name if r.name not in (self.taken | inside) else numbered(f"{r.name}_out", used | own)
            used.add(name)
            result.append(Range(name, r.low, r.high))
        return tuple(result)

    # ------------------------------------------------------------ what the output reaches

    def _reached(self, found: list[Read]) -> dict[str, list[Read]]:
        by_reader: dict[str, list[Read]] = {}
        for r in found:
            by_reader.setdefault(r.reader, []).append(r)
        reached: dict[str, None] = {}
        pending = [self.output.name]
        while pending:
            for r in by_reader.get(pending.pop(), ()):
                if r.family not in reached:
                    reached[r.family] = None
                    pending.append(r.family)
        result: dict[str, list[Read]] = {name: [] for name in reached}
        for r in found:
            if r.reader == self.output.name or r.reader in reached:
                result[r.family].append(r)
        for reads in result.values():
            reads.sort(key=lambda r: r.reader != self.output.name)  # what the output sends comes first
        return result

    # ------------------------------------------------------------ statements

    def run(self) -> syntax.ProgramText:
        """The syntax tree of the program with its backward pass."""
        tree = self.program.text
        back = self._block(tree.statements, {}, ())
        for s in reversed(tree.statements):
            if isinstance(s, syntax.Random) and s.kind == "vector":
                for v in reversed(s.variables):
                    if v.name in self.reads:
                        back.append(self._assignment(v.name, v.axes, ZERO, {}, ()))
        note = f"With its backward pass: d_h is sqrt(n) times the derivative of {self.output.name} by h."
        comment = f"{tree.comment}\n{note}" if tree.comment else note
        return replace(tree, statements=(*tree.statements, *back), comment=comment)

    def _block(self, block, ends: dict[str, Range], order: tuple[str, ...]) -> list[syntax.Statement]:
        result: list[syntax.Statement] = []
        for s in reversed(block):
            match s:
                case syntax.For(binders, body):
                    inner, names = _bind(binders, ends, order, self.program)
                    statements = self._block(body, inner, names)
                    if statements:
                        result.append(syntax.For(tuple(_reversed(b) for b in binders), tuple(statements)))
                case syntax.Assignment(name, indices, value) if name in self.reads and not _is_nothing(value):
                    result.append(self._assignment(name, indices, value, ends, order))
        return result

    def _assignment(self, name: str, indices, value: syntax.Expr, ends, order) -> syntax.Assignment:
        """`d_u[o, i] := …` for an assignment `u[i] := …`."""
        binders = [i for i in indices if isinstance(i, syntax.Binder)]
        inner, names = _bind(binders, ends, order, self.program)
        scope = _scope(self.program, inner)
        target = tuple(Affine.symbol(i.name) if isinstance(i, syntax.Binder) else scope.affine(i) for i in indices)
        outer = tuple(r.name for r in self.outer)
        visible = tuple(n for n in names if "~" not in n)
        place = Place(target, (*self.outer, *(inner[n] for n in names)), outer, (*reversed(visible), *outer))
        terms = [t for r in self.reads[name] if (t := self.solver.term(r, place)) is not None]
        family = self.program.families[name]
        assert isinstance(family.type, Vector)
        again = any(isinstance(s, syntax.Name | syntax.Index) and s.name == name for s in subexpressions(value))
        at = syntax.Name(self.output.name, span=self.output.span)
        head: list[syntax.Expr | syntax.Binder] = [
            syntax.Binder(r.name, bound_expression(r.low, at), bound_expression(r.high, at)) for r in self.outer
        ]
        head += [_reversed(i) if again and isinstance(i, syntax.Binder) else i for i in indices]
        total = self._total(terms, judging(place.ranges, self.small), place)
        annotation = None
        if is_zero(total):
            annotation = type_name(Vector(family.type.width, False))
        return syntax.Assignment(self.derivatives[name], tuple(head), total, annotation)

    def _total(self, terms: list[Term], judge: Certain, place: Place) -> syntax.Expr:
        """The sum of what a vector receives."""
        terms = _merged(terms)
        if len(terms) == 2 and all(len(t.conditions) == 1 for t in terms):
            (a, b), (first,), (second,) = terms, terms[0].conditions, terms[1].conditions
            if isinstance(first, Condition) and isinstance(second, Condition) and complementary(first, second, judge):
                for condition, special, general in ((first, a, b), (second, b, a)):
                    if is_case(condition, special.value, general.value):
                        return general.value  # d_h[1] if l == 1 else d_h[l]
                return syntax.Conditional(a.value, as_syntax(first, place.visible), b.value)
        total: syntax.Expr = ZERO
        for t in terms:
            total = add(total, _conditional(t, place))
        return total


def _merged(terms: list[Term]) -> list[Term]:
    """Terms under the same conditions put together."""
    result: list[Term] = []
    for t in terms:
        k = next((k for k, other in enumerate(result) if other.conditions == t.conditions), None)
        if k is None or not t.conditions:
            result.append(t)
        else:
            result[k] = Term(add(result[k].value, t.value), t.conditions)
    return result


def _conditional(t: Term, place: Place) -> syntax.Expr:
    if not t.conditions:
        return t.value
    written = [as_syntax(c, place.visible) if isinstance(c, Condition) else c for c in t.conditions]
    return syntax.Conditional(t.value, joined(written), ZERO)


# ---------------------------------------------------------------- loops


def _bind(binders, ends: dict[str, Range], order: tuple[str, ...], program: ir.Program):
    """Ranges by index and the order of the indices, with some more; a hidden index gets a `~` to its name."""
    ends, names = dict(ends), list(order)
    for b in binders:
        r = _scope(program, ends).range_of(b).range
        if b.name in ends:
            hidden = f"{b.name}~{len(names)}"
            ends = {(hidden if n == b.name else n): _renamed(old, b.name, hidden) for n, old in ends.items()}
            names = [hidden if n == b.name else n for n in names]
            r = replace(_renamed(r, b.name, hidden), name=b.name)
        ends[b.name] = r
        names.append(b.name)
    return ends, tuple(names)


def _renamed(r: Range, old: str, new: str) -> Range:
    """The range with an index renamed, in its ends too."""
    return replace(r.substitute({old: Affine.symbol(new)}), name=new if r.name == old else r.name)


def _scope(program: ir.Program, ends: dict[str, Range]) -> Scope:
    scope = scope_of(program)
    scope.indices = {name: Binding(r) for name, r in ends.items()}
    return scope


def _reversed(b: syntax.Binder) -> syntax.Binder:
    down = syntax.Negate(syntax.Number("1"))
    if b.step is None or not isinstance(b.step, syntax.Negate):
        return syntax.Binder(b.name, b.high, b.low, down)
    return syntax.Binder(b.name, b.high, b.low)


def _is_nothing(value: syntax.Expr) -> bool:
    """Whether an assignment is of zeros."""
    if isinstance(value, syntax.Call) and value.function == "LinComb":
        return is_zero(value.arguments[0])
    return is_zero(value)


# ---------------------------------------------------------------- names


def _names(program: ir.Program) -> set[str]:
    functions = {s.name for s in program.text.statements if isinstance(s, syntax.Definition)}
    parameters = {p.name for p in program.parameters}
    return {*program.families, *program.widths, *program.features, *functions, *parameters, "pi"}


def _index_names(node, besides: str | None = None) -> set[str]:
    """The names of all indices in a tree, those of declarations and of one family's assignments left out."""
    names: set[str] = set()
    for c in children(node):
        match c:
            case syntax.Assignment(name) if name == besides:
                continue
            case syntax.Binder(name):
                names.add(name)
        names |= _index_names(c, besides)
    return names
