"""The two functions of a module: `run`, of what one input alone determines, and `pair`, of the cross stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tensorprog import recursion as ir
from tensorprog.backend.code.tree import (
    Def,
    DictOf,
    Expr,
    If,
    Name,
    Raise,
    Return,
    Statement,
    TupleOf,
    call,
    compare,
    index,
    let,
    text,
)
from tensorprog.backend.lower import arguments
from tensorprog.backend.lower.arguments import Run, input_key
from tensorprog.backend.lower.definitions import Definitions
from tensorprog.backend.lower.layout import Access
from tensorprog.backend.lower.names import Names
from tensorprog.backend.lower.statements import system_statements
from tensorprog.backend.lower.system import System
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.naming import plain
from tensorprog.program.laws import sizes_in_laws
from tensorprog.program.types import Data
from tensorprog.recursion import Key, Recursion

Footprint = tuple[tuple[Range, ...], ...]


@dataclass(frozen=True)
class RunFunction:
    """handed: the tables that it hands to `pair`, as they lie in what it returns, samples first.

    limits: for each output of type C, the name under which it is returned.
    """

    code: Def
    names: Names
    handed: Mapping[Key, Access]
    limits: Mapping[str, str]
    footprint: Footprint


@dataclass(frozen=True)
class PairFunction:
    code: Def
    footprint: Footprint
    steps_footprint: Footprint


def one_run_reads(node: ir.Node) -> Iterator[ir.Read]:
    """What a node of the cross stream reads of the two runs."""
    return (r for r in ir.entries(node) if r.side is not None)


def handed_keys(recursion: Recursion) -> list[Key]:
    """The tables that the cross stream reads of the two runs, but for the inputs."""
    found = {
        r.key
        for t in recursion.system("cross")
        for c in t.clauses
        for r in one_run_reads(c.value)
        if recursion.tables[r.key].clauses
    }
    return sorted(found, key=lambda k: (k.kind, k.families))


def run_function(recursion: Recursion, definitions: Definitions, handed: Sequence[Key]) -> RunFunction:
    """`def run(inputs, params)`: the tables of one input's run that `pair` and the limits need."""
    program, names = recursion.program, Names(recursion, primed=False)
    external: dict[Key, list[ir.Read]] = {}
    for t in recursion.system("cross"):
        for c in t.clauses:
            for r in one_run_reads(c.value):
                external.setdefault(r.key, []).append(r)
    tables = recursion.system("self")
    for key in recursion.limits:
        external.setdefault(key, []).append(_whole(recursion, key))
    system = System(tables, ("n",), names, definitions, external)
    for t in tables:
        if not t.clauses and t.key.kind in (ir.DATA, ir.SCALAR):
            feature = ("feature",) if t.key.kind == ir.DATA else ()
            system.access[t.key] = Access(system.variable(t.key), ("n", *range(len(t.axes)), *feature))
    body = system_statements(system)
    head = [*arguments.inputs(program, names, [Run("inputs")]), *arguments.reals(program), *arguments.laws(names)]
    results: dict[str, Expr] = {}
    for key in (*handed, *recursion.limits):
        results[plain(names.table(key))] = _samples_first(system.variable(key), system.access[key].dims.index("n"))
    code = Def(
        "run",
        ("inputs", "params"),
        (*head, *body, Return(DictOf(tuple((text(name), value) for name, value in results.items())))),
        ("What one input of the program alone determines, for N inputs at once: variances, means, C's.",),
    )
    return RunFunction(
        code,
        names,
        {key: _handed(system.access[key]) for key in handed},
        {key.families[0]: plain(names.table(key)) for key in recursion.limits},
        tuple(system.footprint),
    )


def _whole(recursion: Recursion, key: Key) -> ir.Read:
    """All of a table."""
    return ir.Read(key, tuple(Affine.symbol(a.range.name) for a in recursion.tables[key].axes))


def _samples_first(table: Expr, position: int) -> Expr:
    return table if position == 0 else call("jnp.moveaxis", table, position, 0)


def _handed(access: Access) -> Access:
    return Access(access.value, ("n", *(d for d in access.dims if d != "n")), access.fixed)


def pair_function(recursion: Recursion, definitions: Definitions, run: RunFunction) -> PairFunction | None:
    """`def pair(...)`: the cross stream, and the kernel of the output. None where there is no output."""
    if recursion.output is None:
        return None
    program, names = recursion.program, Names(recursion, primed=True)
    external = {recursion.output: [_whole(recursion, recursion.output)]}
    system = System(recursion.system("cross"), ("n1", "n2"), names, definitions, external)
    head = arguments.inputs(program, names, [Run("x1", "_left"), Run("x2", "_right", "'")])
    for f in program.inputs:
        key, feature = input_key(f), ("feature",) if isinstance(f.type, Data) else ()
        for side in ("left", "right"):
            dims = ("n", *range(len(f.ranges)), *feature)
            system.access[key, side] = Access(Name(f"{names.table(key)}_{side}"), dims)
    for key, access in run.handed.items():
        name, sides = run.names.table(key), ("left", "right")
        for side in sides:
            system.access[key, side] = Access(Name(f"{name}_{side}"), access.dims, access.fixed)
        variables = TupleOf(tuple(Name(f"{name}_{side}") for side in sides))
        head.append(let(variables, TupleOf(tuple(index(side, text(plain(name))) for side in sides))))
    for size, family in sizes_in_laws(program).items():
        message = f"x1 and x2 differ in {size}, on which the law of {family} depends"
        differ = compare(names.size(size), "!=", names.size(size + "'"))
        head.append(If(differ, (Raise(call("ValueError", text(message))),)))
    body = system_statements(system)
    code = Def(
        "pair",
        ("x1", "x2", "left", "right", "same", "params", "move"),
        (
            *head,
            *arguments.reals(program),
            *arguments.laws(names),
            *body,
            *_kernel(recursion, recursion.output, system),
        ),
        (
            "The cross stream: second moments between the runs `left` on x1 and `right` on x2, and the kernel.",
            "",
            "same[i, j] tells that inputs i and j are equal; move[p] is ε for the trained parameter p:",
            "the derivative at 0 is its part of the NTK.",
        ),
    )
    return PairFunction(code, tuple(system.footprint), tuple(system.steps_footprint))


def _kernel(recursion: Recursion, output: Key, system: System) -> list[Statement]:
    """The output's table with the axes of x1 before those of x2."""
    axes, variable = recursion.tables[output].axes, system.variable(output)
    order: list[str | int] = ["n1", "n2"]
    order += [k for k, a in enumerate(axes) if a.left is not None]
    order += [k for k, a in enumerate(axes) if a.left is None]
    permutation = tuple(system.access[output].dims.index(d) for d in order)
    statements: list[Statement] = []
    if permutation != tuple(range(len(order))):
        statements.append(let(variable, call("jnp.transpose", variable, permutation)))
    return [*statements, Return(variable)]
