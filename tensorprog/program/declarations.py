"""What declarations say: features, names, types and laws of what is given and of what is drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from tensorprog.errors import ProgramError, Span, did_you_mean
from tensorprog.index.ranges import Range, extent
from tensorprog.language import syntax
from tensorprog.program.ir import Law
from tensorprog.program.laws import WIDTH, read_law
from tensorprog.program.scope import (
    Scope,
    finite,
    real_symbol,
    size_symbol,
    substituted,
)
from tensorprog.program.types import Data, Matrix, Position, Process, Scalar, Type, Vector


@dataclass
class Declared:
    """What the declarations say, by name."""

    laws: dict[str, Law]
    fixed: set[str]
    roles: dict[str, str]
    outputs: set[str]


def read_features(tree: syntax.ProgramText, scope: Scope) -> None:
    """The sizes d that data give, from `input x : R(d)`."""
    for s in tree.statements:
        if isinstance(s, syntax.Input) and s.type.name == "R":
            if len(s.type.arguments) != 1 or not isinstance(s.type.arguments[0], syntax.Name):
                raise ProgramError("data have one size with a name: R(d)", s.type.span)
            d = s.type.arguments[0].name
            if d in scope.widths:
                raise ProgramError(f"data have a finite size, '{d}' is a width", s.type.arguments[0].span)
            if d in scope.parameters:
                raise ProgramError(f"'{d}' is a parameter; the size of data is read off them", s.type.span)
            if d not in scope.features:
                scope.features.append(d)


def check_names(tree: syntax.ProgramText, scope: Scope) -> None:
    """Every name is declared once; assigned families may have several assignments."""
    for s in tree.statements:
        match s:
            case syntax.Width(name) | syntax.Definition(name):
                _claim(name, s.span, scope)
            case syntax.Input(variables) | syntax.Random(_, _, variables):
                for v in variables:
                    _claim(v.name, v.span, scope)
    for name, span in assigned_names(tree.statements):
        if name in scope.spans:
            raise ProgramError(f"'{name}' is declared on line {scope.spans[name].line} and cannot be assigned", span)
        if name in scope.parameters or name in scope.features or name in ("n", "pi"):
            raise ProgramError(f"'{name}' is taken: it is a {_what(name, scope)}", span)


def assigned_names(statements) -> list[tuple[str, Span]]:
    found = []
    for s in statements:
        if isinstance(s, syntax.Assignment):
            found.append((s.name, s.span))
        elif isinstance(s, syntax.For):
            found += assigned_names(s.body)
    return found


def _what(name: str, scope: Scope) -> str:
    if name in scope.parameters:
        return "parameter"
    return "width" if name == "n" else "constant" if name == "pi" else "size of data"


def _claim(name: str, span: Span, scope: Scope) -> None:
    if name in scope.spans:
        raise ProgramError(f"'{name}' is declared twice, first on line {scope.spans[name].line}", span)
    if name in scope.parameters or name in scope.features or name in ("n", "pi"):
        raise ProgramError(f"'{name}' is taken: it is a {_what(name, scope)}", span)
    scope.spans[name] = span


def read_declarations(statements, scope: Scope) -> Declared:
    declared = Declared({}, set(), {}, set())
    for s in statements:
        match s:
            case syntax.Width(name, value):
                ratio = sympy.simplify(scope.number(value) / WIDTH)
                ratio = ratio.subs({size_symbol(w): r * WIDTH for w, r in scope.widths.items()}, simultaneous=True)
                ratio = sympy.simplify(ratio)
                known = finite(substituted(ratio, scope.values(), value.span), value.span)
                if known.is_nonpositive:
                    raise ProgramError(
                        f"the width {name} is {known} * n: a width is a positive multiple of another", value.span
                    )
                if ratio.free_symbols - {real_symbol(p) for p in scope.parameters} or ratio.is_nonpositive:
                    raise ProgramError(f"a width is a positive multiple of another: width {name} = 2 * n", value.span)
                scope.widths[name] = ratio
            case syntax.Input(variables, type_):
                t = read_type(type_, scope)
                if not isinstance(t, Data | Scalar | Position):
                    raise ProgramError(f"an input is data R(d), a scalar C or index(V), not {t}", type_.span)
                for v in variables:
                    _declare(v, t, "input", scope, declared)
            case syntax.Random(kind, fixed, variables, type_, law):
                t = read_type(type_, scope)
                if kind == "weight" and not isinstance(t, Matrix):
                    raise ProgramError(
                        f"a weight is a matrix A(n, m), not {t}", type_.span, hint="did you mean 'vector'?"
                    )
                if kind == "vector" and not (isinstance(t, Vector) and t.gaussian):
                    hint = "did you mean 'weight'?" if isinstance(t, Matrix) else None
                    raise ProgramError(f"a vector is Gaussian, G(n), not {t}", type_.span, hint=hint)
                if kind == "scalar":
                    if not isinstance(t, Scalar):
                        raise ProgramError(
                            f"a scalar is a C, not {t}", type_.span, hint="leave the type out: scalar c ~ N(0, 1)"
                        )
                    t = Process()
                for v in variables:
                    _declare(v, t, kind, scope, declared)
                    with scope.binding(v.axes):
                        declared.laws[v.name] = read_law(law, t, scope, s.span)
                    if fixed:
                        declared.fixed.add(v.name)
    return declared


def _declare(v: syntax.Variable, t: Type, role: str, scope: Scope, declared: Declared) -> None:
    bindings = []
    with scope.bound([]):
        for b in v.axes:
            binding = scope.range_of(b)
            if binding.reverse:
                raise ProgramError("the range of a declaration counts up", b.span)
            bindings.append(binding)
            scope.indices[b.name] = binding
    ranges = {b.range.name: b.range for b in bindings}
    if len(ranges) < len(bindings):
        raise ProgramError(f"an index of '{v.name}' is named twice", v.span)
    scope.ranges[v.name] = tuple(
        Range(r.name, extent(r.low, ranges, False), extent(r.high, ranges, True)) for r in ranges.values()
    )
    scope.types[v.name] = t
    declared.roles[v.name] = role


def read_type(t: syntax.TypeName, scope: Scope) -> Type:
    """A type as written. Raises ProgramError for unknown types and sizes."""
    counts = {"A": 2, "G": 1, "H": 1, "R": 1, "C": 0, "index": 1}
    if t.name not in counts:
        raise ProgramError(
            f"unknown type '{t.name}'", t.span, hint=did_you_mean(t.name, counts) or "types are A, G, H, C, R and index"
        )
    if len(t.arguments) != counts[t.name]:
        shown = {"A": "A(n, m)", "G": "G(n)", "H": "H(n)", "R": "R(d)", "C": "C", "index": "index(V)"}[t.name]
        raise ProgramError(f"this type is written {shown}", t.span)
    if t.name == "index":
        return Position(scope.known_before_data(t.arguments[0]))
    names = []
    for k, a in enumerate(t.arguments):
        if not isinstance(a, syntax.Name):
            raise ProgramError("a size in a type is a name: n, a width, or the size of data", a.span)
        data_allowed = t.name == "R" or (t.name == "A" and k == 1)
        known = [*scope.widths, *(scope.features if data_allowed else ())]
        if t.name == "R" and a.name in scope.widths:
            raise ProgramError(f"data have a finite size, '{a.name}' is a width", a.span)
        if a.name not in known:
            if a.name in scope.features:
                raise ProgramError(f"'{a.name}' is the size of data: a vector has a width, such as n", a.span)
            raise ProgramError(
                f"unknown width '{a.name}'",
                a.span,
                hint=did_you_mean(a.name, known) or f"declare it: width {a.name} = 2 * n, or an input with R({a.name})",
            )
        names.append(a.name)
    match t.name:
        case "A":
            return Matrix(*names)
        case "R":
            return Data(*names)
        case "C":
            return Scalar()
    return Vector(names[0], t.name == "G")
