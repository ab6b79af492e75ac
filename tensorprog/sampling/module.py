"""The source of a module that computes kernels by simulation; it needs only jax and numpy."""

from __future__ import annotations

from tensorprog.backend.code.printer import lines as printed
from tensorprog.backend.code.tree import Blank, DictOf, Literal, let, text
from tensorprog.backend.module import Module, check_open, literals, ntk_obstacle, parameter_statements
from tensorprog.expectation.source import HEADER, runtime_source
from tensorprog.naming import settled
from tensorprog.program.ir import Program
from tensorprog.program.types import Data
from tensorprog.recursion import Recursion
from tensorprog.sampling.factors import factor_rules
from tensorprog.sampling.laws import axis_sizes, laws_of
from tensorprog.sampling.writer import NetworkWriter

RUNTIME = ("lattice", "reductions", "paths", "kernels")


def build_sampled_module(recursion: Recursion, header: str = "") -> Module:
    """The module of a recursion some of whose expectations are sampled."""
    program = recursion.program
    assert isinstance(program, Program)
    check_open(program)
    writer = NetworkWriter(program)
    network, laws = writer.network(), laws_of(writer.members, writer.readouts)
    factors = writer.expressions.factors
    rules = factor_rules(factors, program)
    obstacle = ntk_obstacle(recursion)
    features = {f.name: f.type.size for f in program.inputs if isinstance(f.type, Data)}
    output = recursion.output.families[0] if recursion.output is not None else None
    lines = [f'"""{header.strip() or program.name}\n"""', "", HEADER.rstrip(), ""]
    lines += printed(
        [
            *parameter_statements(program),
            let("TRAINED", literals(program.trained)),
            let("INPUTS", literals(f.name for f in program.inputs)),
            let("FEATURES", DictOf(tuple((text(name), text(size)) for name, size in features.items()))),
            let("OUTPUT", Literal(output)),
            let("NTK_OBSTACLE", Literal(obstacle)),
            let("HELD", bool(factors)),
        ]
    )
    lines += ["", "", runtime_source(rules.runtime), "", runtime_source(RUNTIME, "tensorprog.sampling.runtime")]
    lines += [line for d in rules.definitions for line in ("", "", d.strip())]
    gap = Blank(), Blank()
    functions = [laws, *gap, axis_sizes(writer.members), *gap, network]
    lines += printed([*gap, *rules.statements, *writer.expressions.definitions, *gap, *functions])
    source = "\n".join(lines) + "\n"
    while "\n\n\n\n" in source:
        source = source.replace("\n\n\n\n", "\n\n\n")
    limits = {key.families[0]: key.families[0] for key in recursion.limits}
    return Module(settled(source), limits, program.trained, obstacle, {})
