"""Families that are assigned: their ranges, their types, and their clauses in the core form."""

from __future__ import annotations

from dataclasses import replace

from tensorprog.errors import ProgramError, Span
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import maximum, minimum
from tensorprog.index.fresh import distinct
from tensorprog.index.ranges import Range, extent
from tensorprog.language import syntax
from tensorprog.program.declarations import Declared, read_type
from tensorprog.program.ir import Clause, Family
from tensorprog.program.scope import (
    Scope,
    check_distinct,
)
from tensorprog.program.types import Constant, Data, Matrix, Process, Scalar, Type, Vector
from tensorprog.program.typing import infer, is_zero, join, readout_type


def read_ranges(statements, scope: Scope, declared: Declared) -> None:
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


def infer_types(statements, scope: Scope, declared: Declared) -> None:
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
        annotated = None if s.annotation is None else read_type(s.annotation, scope)
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


def families_of(core, scope: Scope, declared: Declared) -> dict[str, Family]:
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
