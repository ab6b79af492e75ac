"""The program written again by its plan, statement by statement."""

from __future__ import annotations

from dataclasses import replace

from tensorprog.language import syntax
from tensorprog.program.build import rebuilt
from tensorprog.program.desugar import bound_expression, type_name
from tensorprog.program.ir import Program
from tensorprog.program.passes.arithmetic import ZERO
from tensorprog.program.substitution import rename
from tensorprog.program.transposes import declared_weight, matrix_uses
from tensorprog.program.types import Matrix
from tensorprog.theorem.bp_like import analyse
from tensorprog.theorem.transposes.corrections import as_reference, corrected
from tensorprog.theorem.transposes.derivatives import derivative
from tensorprog.theorem.transposes.plan import Plan, planned
from tensorprog.theorem.transposes.trees import is_vector


def without_transposes(program: Program) -> Program:
    """The program with a fresh independent matrix for every transpose, and the corrections that this takes.

    The program itself where nothing multiplies by a transpose. Raises ProgramError where a derivative does not exist.
    """
    uses = tuple(matrix_uses(program))
    if not any(u.transposed for u in uses):
        return program
    return _rewritten(planned(program, uses, corrected=not analyse(program).holds))


def _rewritten(plan: Plan) -> Program:
    text = plan.program.text
    statements: list[syntax.Statement] = []
    for s in text.statements:
        statements += _declaration(plan, s)
    body = _block(plan, text.statements, ())
    tree = replace(text, statements=(*statements, *body))
    result = rebuilt(plan.program, tree)
    families = dict(result.families)
    for weight, fresh in plan.fresh.items():
        families[fresh] = replace(families[fresh], stands_for=weight)
    return replace(result, families=families)


def _declaration(plan: Plan, s: syntax.Statement) -> list[syntax.Statement]:
    if isinstance(s, syntax.Assignment | syntax.For):
        return []
    result: list[syntax.Statement] = [s]
    if isinstance(s, syntax.Random):
        for v in s.variables:
            if v.name in plan.fresh:
                t = plan.program.families[v.name].type
                assert isinstance(t, Matrix)
                type_ = type_name(Matrix(t.columns, t.rows))
                assert type_ is not None
                result.append(replace(s, variables=(replace(v, name=plan.fresh[v.name]),), type=type_))
    return result


def _block(plan: Plan, statements, position: tuple[int, ...]) -> list[syntax.Statement]:
    result: list[syntax.Statement] = []
    for k, s in enumerate(statements):
        at = (*position, k)
        if isinstance(s, syntax.For):
            with plan.scope.bound([]):
                for b in s.binders:
                    plan.scope.indices[b.name] = plan.scope.range_of(b)
                inner = _block(plan, s.body, at)
            if inner:
                result.append(replace(s, body=tuple(inner)))
        elif isinstance(s, syntax.Assignment):
            with plan.scope.bound([]):
                for i in s.indices:
                    if isinstance(i, syntax.Binder):
                        plan.scope.indices[i.name] = plan.scope.range_of(i)
                result += _assignment(plan, at, s)
    return result


def _assignment(plan: Plan, position: tuple[int, ...], s: syntax.Assignment) -> list[syntax.Statement]:
    if isinstance(plan.program.families[s.name].type, Matrix):
        return []  # an alias of a transpose: its uses name the fresh matrix
    result: list[syntax.Statement] = []
    s = replace(s, value=_matrices(plan, s.value))
    if s.name in plan.hats:
        hat = replace(s, name=plan.hats[s.name], value=_hat(plan, s.value))
        coefficients: list[syntax.Assignment] = []
        value = corrected(plan, position, s.value, s, coefficients)
        result += [replace(hat, annotation=None), *coefficients]
        s = replace(s, value=value, annotation=None)
    elif not isinstance(plan.program.families[s.name].type, Matrix):
        s = replace(s, annotation=None if is_vector(plan.program, s.name) else s.annotation)
    result.append(s)
    if not s.output:
        for (y, g), name in plan.derivatives.items():
            if y == s.name:
                result.append(derivative(plan, s, g, name))
    return result


def _matrices(plan: Plan, e: syntax.Expr) -> syntax.Expr:
    """MatMuls by transposes name the fresh matrices."""

    def change(x):
        if isinstance(x, syntax.Call) and x.function == "MatMul":
            matrix, operand = x.arguments
            assert isinstance(matrix, syntax.Name | syntax.Index)
            weight, transposed = declared_weight(plan.program, matrix.name)
            if plan.program.families[matrix.name].transpose_of is None:
                return None
            declared, _ = plan.reader.matrix(as_reference(plan, matrix))
            indices = tuple(bound_expression(i, matrix) for i in declared.indices)
            name = plan.fresh[weight] if transposed else weight
            new = syntax.Index(name, indices, span=matrix.span) if indices else syntax.Name(name, span=matrix.span)
            return replace(x, arguments=(new, operand))
        return None

    return rename(e, change)


def _hat(plan: Plan, e: syntax.Expr) -> syntax.Expr:
    """The Gaussian part alone: MatMuls, zero on other branches."""
    match e:
        case syntax.Conditional(a, _, b):
            return replace(e, then=_hat(plan, a), otherwise=_hat(plan, b))
        case syntax.Call("MatMul"):
            return e
    return ZERO
