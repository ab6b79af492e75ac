"""From the text of a program to the Program: declarations, types, core form.

program p(depth = 2)                    Program(
input x : R(d)                            families = {x: input R(d), W: weight, …,
weight W : A(n, d) ~ N(0, 1) / sqrt(d)                W_x: assigned, by MatMul(W, x), …},
y := relu(W @ x)                          text = the core form)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.language import syntax
from tensorprog.language.parser import parse_text
from tensorprog.program.assigned import families_of, infer_types, read_ranges
from tensorprog.program.declarations import Declared, check_names, read_declarations, read_features
from tensorprog.program.definitions import read_definitions
from tensorprog.program.desugar import Desugarer
from tensorprog.program.ir import Program
from tensorprog.program.numbers import Numbers
from tensorprog.program.numerals import setting_numeral
from tensorprog.program.order import check_order
from tensorprog.program.parameters import Setting, bind_parameters
from tensorprog.program.scope import (
    Scope,
)
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


def _typed(
    tree: syntax.ProgramText, settings: dict[str, Setting], source: str, filename: str, written: syntax.ProgramText
) -> Program:
    scope = Scope(widths={"n": sympy.Integer(1)})
    bind_parameters(tree, settings, scope)
    read_features(tree, scope)
    check_names(tree, scope)
    statements = read_definitions(tree.statements, scope)
    declared = read_declarations(statements, scope)
    read_ranges(statements, scope, declared)
    statements = with_remainders(statements, scope)
    infer_types(statements, scope, declared)
    Numbers(scope).check(statements)
    _check_order(statements, scope, declared)
    core = Desugarer(scope).run(statements)
    text = replace(tree, statements=core, parameters=_set_defaults(tree.parameters, scope, settings))
    families = families_of(core, scope, declared)
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


def _check_order(statements, scope: Scope, declared: Declared) -> None:
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


def _small_sizes(scope: Scope, declared: Declared) -> list[tuple[int, ...]]:
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
