"""From the text of a program to the Program: declarations, types, core form.

program p(depth = 2)                    Program(
input x : R(d)                            families = {x: input R(d), W: weight, …,
weight W : A(n, d) ~ N(0, 1) / sqrt(d)                W_x: assigned, by MatMul(W, x), …},
y := relu(W @ x)                          text = the core form)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError, Span, did_you_mean
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import maximum, minimum
from tensorprog.index.fresh import distinct
from tensorprog.index.ranges import Range, extent
from tensorprog.index.rows import COMPARE
from tensorprog.language import syntax
from tensorprog.language.parser import parse_text
from tensorprog.program.desugar import Desugarer
from tensorprog.program.ir import Clause, Family, Function, Law, Program
from tensorprog.program.laws import WIDTH, read_law
from tensorprog.program.macros import expand_macros
from tensorprog.program.numerals import setting_numeral
from tensorprog.program.order import check_order
from tensorprog.program.parameters import Setting, bind_parameters
from tensorprog.program.scope import (
    CORE,
    Scope,
    apply_definition,
    arithmetic,
    at_point,
    check_distinct,
    finite,
    points,
    real_symbol,
    size_symbol,
    substituted,
)
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Constant, Data, Matrix, Position, Process, Scalar, Type, Vector
from tensorprog.program.typing import infer, is_zero, join, readout_type
from tensorprog.program.wrapping import with_remainders

# Where no data are at hand, index structure is checked at these sizes for 1st, 2nd, … open size; a program that is
# wrong at the small ones may need larger data (it reads x[10], say), so it is given another chance.
SAMPLE_SIZES = ((6, 5, 7, 4), (40, 37, 41, 35))


def build(text: str, settings: Mapping[str, Setting] | None = None, filename: str = "<program>") -> Program:
    """Parse, type and desugar a program.

    Raises ProgramError, located in the text, for whatever is wrong with it.
    """
    return build_tree(parse_text(text, filename), dict(settings or {}), text, filename)


def build_tree(tree: syntax.ProgramText, settings: Mapping[str, Setting], text: str, filename: str) -> Program:
    """`build` from the syntax tree on; `text` is what errors show."""
    return _build(tree, dict(settings), text, filename, tree)


def rebuilt(program: Program, tree: syntax.ProgramText) -> Program:
    """The program with another tree, which a pass made of its own; errors still point at what was written."""
    return _build(tree, {}, program.source, program.filename, program.written)


def _build(
    tree: syntax.ProgramText, settings: dict[str, Setting], text: str, filename: str, written: syntax.ProgramText
) -> Program:
    try:
        return _typed(tree, settings, text, filename, written)
    except ProgramError as error:
        raise error.located(text, filename) from None
    except RecursionError:
        raise ProgramError("the program is nested too deeply", tree.span).located(text, filename) from None


@dataclass
class _Declared:
    """What the declarations say, by name."""

    laws: dict[str, Law]
    fixed: set[str]
    roles: dict[str, str]
    outputs: set[str]


def _typed(
    tree: syntax.ProgramText, settings: dict[str, Setting], source: str, filename: str, written: syntax.ProgramText
) -> Program:
    scope = Scope(widths={"n": sympy.Integer(1)})
    bind_parameters(tree, settings, scope)
    _features(tree, scope)
    _check_names(tree, scope)
    statements = _definitions(tree.statements, scope)
    declared = _declarations(statements, scope)
    _hulls(statements, scope, declared)
    statements = with_remainders(statements, scope)
    _infer_types(statements, scope, declared)
    _Numbers(scope).check(statements)
    _check_order(statements, scope, declared)
    core = Desugarer(scope).run(statements)
    text = replace(tree, statements=core, parameters=_set_defaults(tree.parameters, scope, settings))
    families = _families(core, scope, declared)
    return Program(
        name=tree.name,
        parameters=tuple(scope.parameters.values()),
        widths=dict(scope.widths),
        features=tuple(scope.features),
        functions=dict(scope.functions),
        families=families,
        text=text,
        source=source,
        filename=filename,
        written=written,
    )


def _check_order(statements, scope: Scope, declared: _Declared) -> None:
    """Check the index structure: at the sizes that are known, or at samples of those that are open."""
    open_ones = [p.name for p in scope.parameters.values() if p.kind in ("integer", "size") and p.value is None]
    first: ProgramError | None = None
    for sample in (*SAMPLE_SIZES, *_small_sizes(scope, declared)) if open_ones else SAMPLE_SIZES[:1]:
        sizes = {name: sample[k % len(sample)] for k, name in enumerate(open_ones)}
        try:
            check_order(statements, scope, scope.integers() | sizes)
            return
        except ProgramError as error:
            first = first or error
    assert first is not None
    raise first


def _small_sizes(scope: Scope, declared: _Declared) -> list[tuple[int, ...]]:
    """A sample no larger than any family 1..V of fixed length, positions say: data may have as few members.

    Families of one member, and those that do not begin at 1, as the taps of a filter, do not count members of data.
    """
    known = scope.integers()
    lengths = [
        r.high.evaluate(known)
        for name in declared.laws
        for r in scope.ranges.get(name, ())
        if isinstance(r.high, Affine) and r.high.symbols <= known.keys() and r.low == Affine(1)
    ]
    smallest = min((length for length in lengths if length > 1), default=0)
    return [(smallest,)] if smallest else []


# ---------------------------------------------------------------- declarations


def _features(tree: syntax.ProgramText, scope: Scope) -> None:
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


def _check_names(tree: syntax.ProgramText, scope: Scope) -> None:
    """Every name is declared once; assigned families may have several assignments."""
    for s in tree.statements:
        match s:
            case syntax.Width(name) | syntax.Definition(name):
                _claim(name, s.span, scope)
            case syntax.Input(variables) | syntax.Random(_, _, variables):
                for v in variables:
                    _claim(v.name, v.span, scope)
    for name, span in _assigned(tree.statements):
        if name in scope.spans:
            raise ProgramError(f"'{name}' is declared on line {scope.spans[name].line} and cannot be assigned", span)
        if name in scope.parameters or name in scope.features or name in ("n", "pi"):
            raise ProgramError(f"'{name}' is taken: it is a {_what(name, scope)}", span)


def _assigned(statements) -> list[tuple[str, Span]]:
    found = []
    for s in statements:
        if isinstance(s, syntax.Assignment):
            found.append((s.name, s.span))
        elif isinstance(s, syntax.For):
            found += _assigned(s.body)
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


def _definitions(statements, scope: Scope):
    """Coordinatewise `def`s become functions of the scope; the others are written out where they are called."""
    kept = []
    variables = set(scope.spans) | {name for name, _ in _assigned(statements)}
    later = {s.name: s for s in statements if isinstance(s, syntax.Definition)}
    for s in statements:
        if not isinstance(s, syntax.Definition):
            kept.append(s)
            continue
        names = [p.name for p in s.parameters]
        if len(set(names)) < len(names):
            raise ProgramError(f"an argument of '{s.name}' is named twice", s.span)
        if _is_coordinatewise(s.body, set(names), variables, scope):
            _check_calls(s, later, scope)
            scope.functions[s.name] = _function(s, scope)
            kept.append(s)
        else:
            scope.macros[s.name] = s
        del later[s.name]
    called = {p.name: scope.function_name(p.name) for p in scope.parameters.values() if p.kind == "function"}
    passed = {name: scope.macros[real] for name, real in called.items() if real in scope.macros}
    return expand_macros(tuple(kept), {**scope.macros, **passed})


def _check_calls(s: syntax.Definition, later: Mapping[str, syntax.Definition], scope: Scope) -> None:
    """Raises ProgramError where a coordinatewise `def` calls itself or one that follows.

    The name of a built-in function means that function until the `def` of that name is complete.
    """
    for e in subexpressions(s.body):
        if not isinstance(e, syntax.Call | syntax.DerivativeCall) or not isinstance(e.function, str):
            continue
        name = scope.function_name(e.function)
        if name not in later or functions.lookup(name) is not None:
            continue
        through = "" if name == e.function else f", by way of the parameter '{e.function}'"
        if name == s.name:
            raise ProgramError(f"'{name}' calls itself{through}", e.span)
        raise ProgramError(
            f"'{s.name}' calls '{name}'{through}, which is defined later, on line {later[name].span.line}",
            e.span,
            hint=f"put the def of '{name}' first",
        )


def _is_coordinatewise(e: syntax.Expr, arguments: set[str], variables: set[str], scope: Scope) -> bool:
    match e:
        case syntax.Name(name):
            return name in arguments or name not in variables
        case syntax.Number():
            return True
        case syntax.Negate(operand):
            return _is_coordinatewise(operand, arguments, variables, scope)
        case syntax.Binary(op, a, b):
            return op != "@" and all(_is_coordinatewise(x, arguments, variables, scope) for x in (a, b))
        case syntax.Call(name, args, keywords):
            inner = [*args, *(v for _, v in keywords)]
            plain = scope.function_name(name) not in scope.macros and name != "layernorm"
            return plain and all(_is_coordinatewise(x, arguments, variables, scope) for x in inner)
        case syntax.DerivativeCall(_, _, args, keywords):
            return all(_is_coordinatewise(x, arguments, variables, scope) for x in [*args, *(v for _, v in keywords)])
    return False


def _function(s: syntax.Definition, scope: Scope) -> Function:
    arguments = {p.name: sympy.Symbol(f"_{p.name}", real=True) for p in s.parameters}
    body = coordinatewise(s.body, scope, {syntax.Name(p.name): arguments[p.name] for p in s.parameters})
    defaults = tuple(None if p.default is None else scope.number(p.default) for p in s.parameters)
    return Function(s.name, tuple(arguments.values()), defaults, body)


def coordinatewise(e: syntax.Expr, scope: Scope, leaves: Mapping[syntax.Expr, sympy.Expr]) -> sympy.Expr:
    """A coordinatewise expression in sympy, `leaves` giving the symbols of its vectors and C's.

    Raises ProgramError for what is no function of these.
    """
    if e in leaves:
        return leaves[e]
    match e:
        case syntax.Number() | syntax.Name():
            return scope.number(e)
        case syntax.Negate(operand):
            return -coordinatewise(operand, scope, leaves)
        case syntax.Binary(op, a, b) if op != "@":
            return arithmetic(op, coordinatewise(a, scope, leaves), coordinatewise(b, scope, leaves), e.span)
        case syntax.Call(name, arguments, keywords):
            values = [coordinatewise(a, scope, leaves) for a in arguments]
            return scope.apply(name, values, {k: coordinatewise(v, scope, leaves) for k, v in keywords}, e.span)
        case syntax.DerivativeCall(function, argument, arguments, keywords):
            values = [coordinatewise(a, scope, leaves) for a in arguments]
            derived = scope.derivative(function, argument, e.span)
            named = {k: coordinatewise(v, scope, leaves) for k, v in keywords}
            return apply_definition(derived, values, named, e.span)
    raise ProgramError("this is no coordinatewise function", e.span)


def _declarations(statements, scope: Scope) -> _Declared:
    declared = _Declared({}, set(), {}, set())
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
                t = _read_type(type_, scope)
                if not isinstance(t, Data | Scalar | Position):
                    raise ProgramError(f"an input is data R(d), a scalar C or index(V), not {t}", type_.span)
                for v in variables:
                    _declare(v, t, "input", scope, declared)
            case syntax.Random(kind, fixed, variables, type_, law):
                t = _read_type(type_, scope)
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


def _declare(v: syntax.Variable, t: Type, role: str, scope: Scope, declared: _Declared) -> None:
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


def _read_type(t: syntax.TypeName, scope: Scope) -> Type:
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


# ---------------------------------------------------------------- assigned families


def _hulls(statements, scope: Scope, declared: _Declared) -> None:
    """The ranges of all assigned families: the hull of the indices on the left-hand sides."""
    found: dict[str, list[tuple[Range, ...]]] = {}
    spans: dict[str, Span] = {}

    def visit(block) -> None:
        for s in block:
            match s:
                case syntax.For(binders, body):
                    with scope.binding(binders):
                        visit(body)
                case syntax.Assignment(name, indices):
                    check_distinct([i for i in indices if isinstance(i, syntax.Binder)])
                    with scope.bound([]):
                        axes: list[Range] = []
                        for i in indices:
                            if isinstance(i, syntax.Binder):
                                binding = scope.range_of(i)
                                scope.indices[i.name] = binding
                                e, axis = Affine.symbol(i.name), i.name
                            else:
                                e = scope.affine(i)
                                if e.entries:
                                    raise ProgramError(
                                        f"{e.entries[0]} is data: what is assigned has indices that are known before",
                                        i.span,
                                        hint="assign every member, and read the one at the data's index",
                                    )
                                if e.divided & scope.indices.keys():
                                    raise ProgramError(
                                        f"an index on the left of ':=' is no quotient and no remainder of "
                                        f"{' and '.join(sorted(e.divided & scope.indices.keys()))}",
                                        i.span,
                                        hint="assign over the index itself, and divide or wrap around where it is read",
                                    )
                                loops = [x for x, _ in e.terms if x in scope.indices]
                                axis = loops[0] if len(loops) == 1 else f"i{len(axes) + 1}"
                            inside = scope.index_ranges()
                            axes.append(Range(axis, extent(e, inside, False), extent(e, inside, True)))
                    before = found.setdefault(name, [])
                    if before and len(before[0]) != len(axes):
                        raise ProgramError(
                            f"'{name}' has {len(before[0])} indices on line {spans[name].line} and {len(axes)} here",
                            s.span,
                        )
                    spans.setdefault(name, s.span)
                    before.append(tuple(axes))
                    role = "output" if s.output else "assigned"
                    if declared.roles.setdefault(name, role) != role:
                        raise ProgramError(f"'{name}' is an output and a variable", s.span)

    visit(statements)
    for name, clauses in found.items():
        ranges = []
        for axis in zip(*clauses, strict=True):
            names = [r.name for r in axis]
            label = next((x for x in names if not (x[0] == "i" and x[1:].isdigit())), names[0])
            ranges.append(Range(label, minimum(*(r.low for r in axis)), maximum(*(r.high for r in axis))))
        scope.ranges[name] = tuple(_distinct(ranges))
        scope.spans.setdefault(name, spans[name])


def _distinct(ranges: list[Range]) -> list[Range]:
    return [replace(r, name=name) for r, name in zip(ranges, distinct(r.name for r in ranges), strict=True)]


def _infer_types(statements, scope: Scope, declared: _Declared) -> None:
    """Types of all assigned families, to the fixed point: a G-var is one until an assignment says otherwise."""

    def visit(block, last: bool) -> None:
        for s in block:
            match s:
                case syntax.For(binders, body):
                    with scope.binding(binders):
                        visit(body, last)
                case syntax.Assignment():
                    with scope.bound([]):
                        for i in s.indices:
                            if isinstance(i, syntax.Binder):
                                scope.indices[i.name] = scope.range_of(i)
                            else:
                                scope.affine(i)
                        _type_assignment(s, last)

    zeros: set[str] = set()

    def _type_assignment(s: syntax.Assignment, last: bool) -> None:
        if is_zero(s.value):
            zeros.add(s.name)
        t = readout_type(s.value, scope) if s.output else infer(s.value, scope)
        if s.output and isinstance(t, Constant):
            t = Scalar()
        if isinstance(t, Process) and not s.output:
            raise ProgramError(
                "a random scalar stands in an output alone",
                s.value.span,
                hint="a bias within the network is a vector: declare vector b : G(n)",
            )
        old = scope.types.get(s.name)
        annotated = None if s.annotation is None else _read_type(s.annotation, scope)
        if isinstance(old, Matrix) or isinstance(t, Matrix):
            new: Type | None = t if old is None else old
            if t is not None and old is not None and t != old:
                raise ProgramError(f"'{s.name}' is {old} elsewhere and {t} here", s.span)
        else:
            new = _merge(old, t, annotated, s, scope)
        if new is not None:
            scope.types[s.name] = new
        if last:
            _check_annotation(s, scope.types[s.name], t, annotated, scope)
            if s.output and not isinstance(scope.types[s.name], Process | Scalar):
                raise ProgramError(
                    f"an output is a readout v.T @ x / sqrt(n) or a C, not {scope.types[s.name]}", s.value.span
                )

    for _ in range(20):
        before = dict(scope.types)
        visit(statements, False)
        if scope.types == before:
            break
    for name, role in declared.roles.items():
        if role in ("assigned", "output") and scope.types.get(name) is None and name in zeros:
            scope.types[name] = Scalar()
        if role in ("assigned", "output") and scope.types.get(name) is None:
            raise ProgramError(
                f"'{name}' has no type: it is defined by itself alone", scope.spans[name], hint="annotate it: G(n), say"
            )
        if isinstance(scope.types.get(name), Constant):
            scope.types[name] = Scalar()
    visit(statements, True)


def _merge(
    old: Type | None, new: Type | None, annotated: Type | None, s: syntax.Assignment, scope: Scope
) -> Type | None:
    if isinstance(new, Constant) and is_zero(s.value):
        new = None  # takes the type of its context
    if isinstance(new, Constant) and isinstance(old, Vector):
        new = Vector(old.width, False)
    if isinstance(new, Constant) and annotated is not None and not isinstance(annotated, Data):
        new = annotated
    if new is None and annotated is not None and old is None:
        new = annotated
    if isinstance(old, Scalar) and isinstance(new, Vector):
        raise ProgramError(f"'{s.name}' is C elsewhere and {new} here", s.span)
    return join(old, new, s.span)


def _check_annotation(
    s: syntax.Assignment, family: Type, here: Type | None, annotated: Type | None, scope: Scope
) -> None:
    if annotated is None:
        return
    fits = annotated == family or isinstance(here, Constant)
    if isinstance(annotated, Vector) and isinstance(family, Vector):
        fits = annotated.width == family.width and (not annotated.gaussian or family.gaussian)
    if isinstance(family, Process):
        raise ProgramError("an output that is a readout has no vector type: leave the annotation out", s.span)
    if fits:
        return
    assert s.annotation is not None
    hint = None
    if isinstance(annotated, Vector) and isinstance(family, Vector) and annotated.width == family.width:
        hint = "a coordinatewise function or an added number makes an H; W @ x makes it Gaussian again"
    raise ProgramError(f"'{s.name}' is {family}, not {annotated}", s.annotation.span, hint=hint)


def _set_defaults(parameters, scope: Scope, settings: Mapping[str, Setting]):
    """The header with the settings as defaults, so that the printed program computes the same."""
    result = []
    for p in parameters:
        value = scope.parameters[p.name].value
        if p.name in settings and value is not None:
            p = replace(p, default=syntax.Name(value) if isinstance(value, str) else setting_numeral(value))
        if isinstance(value, str) and scope.function_name(p.name) in scope.macros:
            continue  # written out wherever it was called
        result.append(p)
    return tuple(result)


# ---------------------------------------------------------------- numbers and conditions


class _Numbers:
    """The numbers in assignments are finite, conditions compare integers, functions get the arguments they take.

    Numbers are looked at with the parameters that are known and at every index, except in the branches of conditions
    that are still open and within `( … else … )`: what is not computed may be anything.
    """

    def __init__(self, scope: Scope):
        self.scope = scope

    def check(self, statements, live: bool = True) -> None:
        for s in statements:
            match s:
                case syntax.For(binders, body):
                    inner = live and not self._hides(binders)
                    with self.scope.binding(binders):
                        self.check(body, inner)
                case syntax.Assignment(_, indices, value):
                    bound = tuple(i for i in indices if isinstance(i, syntax.Binder))
                    inner = live and not self._hides(bound)
                    with self.scope.binding(bound):
                        self._value(value, inner)

    def _hides(self, binders) -> bool:
        return any(b.low is not None and b.name in self.scope.indices for b in binders)

    def _value(self, e: syntax.Expr, live: bool) -> sympy.Expr:
        """The expression in sympy, a Dummy for what is no number."""
        leaf = sympy.Dummy(real=True)
        match e:
            case syntax.Name(name):
                indexed = name in self.scope.ranges and name not in self.scope.indices
                return leaf if indexed else self.scope.number(e)
            case syntax.Number():
                return self.scope.number(e)
            case syntax.Negate(operand):
                return -self._value(operand, live)
            case syntax.Binary("@", _, right):
                self._value(right, live)
            case syntax.Binary(op, left, right):
                a, b = self._value(left, live), self._value(right, live)
                if op == "/" and live and not b.has(sympy.Dummy):
                    for point, value in self._at(b, right.span):
                        if value == 0:
                            raise ProgramError(f"division by zero{at_point(point)}", e.span)
                return self._checked(arithmetic(op, a, b, e.span), e.span, live)
            case syntax.Call(name, arguments, keywords):
                values = [self._value(a, live) for a in arguments]
                named = {k: self._value(v, live) for k, v in keywords}
                if name not in CORE and name != "layernorm":
                    return self._checked(self.scope.apply(name, values, named, e.span), e.span, live)
            case syntax.DerivativeCall(function, argument, arguments, keywords):
                values = [self._value(a, live) for a in arguments]
                named = {k: self._value(v, live) for k, v in keywords}
                derived = self.scope.derivative(function, argument, e.span)
                return self._checked(apply_definition(derived, values, named, e.span), e.span, live)
            case syntax.Conditional(then, condition, otherwise):
                holds = self._holds(condition)
                if holds is not None:
                    return self._value(then if holds else otherwise, live)
                self._value(then, False)
                self._value(otherwise, False)
            case syntax.Guard(inside, otherwise):
                self._value(inside, False)
                self._value(otherwise, False)
            case syntax.Reduction(_, binders, body, keywords):
                for _, v in keywords:
                    self._value(v, live)
                inner = live and not self._hides(binders)
                with self.scope.binding(binders):
                    self._value(body, inner)
            case syntax.Bracket(operands):
                for o in operands:
                    self._value(o, live)
        return leaf

    def _checked(self, value: sympy.Expr, span: Span, live: bool) -> sympy.Expr:
        if live and (value.free_symbols & self.scope.values().keys() or not value.has(sympy.Dummy)):
            for point, known in self._at(value, span):
                try:
                    finite(known, span)
                except ProgramError as error:
                    raise ProgramError(f"{error.message}{at_point(point)}", span) from None
        return sympy.Dummy(real=True) if value.has(sympy.Dummy) else value

    def _at(self, value: sympy.Expr, span: Span):
        values = self.scope.values()
        for point in points(self.scope, value.free_symbols):
            yield point, substituted(value, {**values, **point}, span)

    def _holds(self, c: syntax.Condition) -> bool | None:
        """Whether a condition holds; None where that depends on indices or on sizes that are open."""
        match c:
            case syntax.Not(operand):
                holds = self._holds(operand)
                return None if holds is None else not holds
            case syntax.And(left, right) | syntax.Or(left, right):
                both = (self._holds(left), self._holds(right))
                deciding = isinstance(c, syntax.Or)
                return deciding if deciding in both else None if None in both else not deciding
            case syntax.Comparison(op, left, right):
                difference = (self._integer(left) - self._integer(right)).substitute(self.scope.integers())
                if not difference.is_constant:
                    return None
                return COMPARE[op](difference.constant, 0)
        raise AssertionError(c)

    def _integer(self, e: syntax.Expr) -> Affine:
        try:
            return self.scope.affine(e)
        except ProgramError as error:
            for s in subexpressions(e):
                if isinstance(s, syntax.Name | syntax.Index) and s.name in self.scope.types:
                    t = self.scope.types[s.name]
                    what = "a C" if isinstance(t, Scalar) else str(t)
                    raise ProgramError(f"conditions compare integers; '{s.name}' is {what}", s.span) from None
            if "affine" in error.message or "integer" in error.message:
                raise ProgramError("conditions compare integers", error.span) from None
            raise


# ---------------------------------------------------------------- families of the core form


def _families(core, scope: Scope, declared: _Declared) -> dict[str, Family]:
    families: dict[str, Family] = {}
    for s in core:
        if isinstance(s, syntax.Input | syntax.Random):
            for v in s.variables:
                families[v.name] = Family(
                    v.name,
                    declared.roles[v.name],
                    scope.types[v.name],
                    scope.ranges[v.name],
                    law=declared.laws.get(v.name),
                    fixed=v.name in declared.fixed,
                    span=v.span,
                )
    for name, clause, output in _clauses(core, scope):
        family = families.get(name)
        if family is None:
            role = "output" if output else "assigned"
            family = Family(name, role, scope.types[name], scope.ranges[name], span=clause.span)
        if isinstance(clause.value, syntax.Call) and clause.value.function == "Trsp":
            source = clause.value.arguments[0]
            assert isinstance(source, syntax.Name | syntax.Index)
            family = replace(family, transpose_of=source.name)
        families[name] = replace(family, clauses=(*family.clauses, clause))
    return families


def _clauses(statements, scope: Scope, loops=(), position=()):
    for k, s in enumerate(statements):
        match s:
            case syntax.For(binders, body):
                with scope.bound([]):
                    inner = list(loops)
                    for b in binders:
                        binding = scope.range_of(b)
                        scope.indices[b.name] = binding
                        inner = [x for x in inner if x.range.name != b.name] + [binding]
                    yield from _clauses(body, scope, tuple(inner), (*position, k))
            case syntax.Assignment(name, indices, value):
                with scope.bound([]):
                    inner = list(loops)
                    target = []
                    for i in indices:
                        if isinstance(i, syntax.Binder):
                            binding = scope.range_of(i)
                            scope.indices[i.name] = binding
                            inner = [x for x in inner if x.range.name != i.name] + [binding]
                            target.append(Affine.symbol(i.name))
                        else:
                            target.append(scope.affine(i))
                    clause = Clause(
                        tuple(b.range for b in inner),
                        tuple(b.reverse for b in inner),
                        tuple(target),
                        value,
                        (*position, k),
                        s.span,
                    )
                yield name, clause, s.output
