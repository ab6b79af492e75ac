"""The source of a module that computes kernels by simulation; it needs only jax and numpy."""

from __future__ import annotations

from tensorprog.backend.code.printer import lines as printed
from tensorprog.backend.module import Module, check_open, ntk_obstacle, parameter_statements
from tensorprog.expectation.source import HEADER, runtime_source
from tensorprog.naming import settled
from tensorprog.program.ir import Program
from tensorprog.program.types import Data
from tensorprog.recursion import Recursion
from tensorprog.sampling.writer import NetworkWriter

RUNTIME = ("lattice", "reductions", "paths", "kernels")


def build_sampled_module(recursion: Recursion, header: str = "") -> Module:
    """The module of a recursion some of whose expectations are sampled."""
    program = recursion.program
    assert isinstance(program, Program)
    check_open(program)
    writer = NetworkWriter(program)
    network, laws = writer.network(), writer.laws()
    rules, needed = writer.factor_rules()
    obstacle = ntk_obstacle(recursion)
    features = {f.name: f.type.size for f in program.inputs if isinstance(f.type, Data)}
    output = recursion.output.families[0] if recursion.output is not None else None
    lines = [f'"""{header.strip() or program.name}\n"""', "", HEADER.rstrip(), ""]
    lines += printed(parameter_statements(program))
    lines.append(f"TRAINED = {program.trained!r}")
    lines.append(f"INPUTS = {tuple(f.name for f in program.inputs)!r}")
    lines.append(f"FEATURES = {features!r}")
    lines.append(f"OUTPUT = {output!r}")
    lines.append(f"NTK_OBSTACLE = {obstacle!r}")
    lines.append(f"HELD = {bool(writer.factors)}")
    lines += ["", "", runtime_source(needed), "", runtime_source(RUNTIME, "tensorprog.sampling.runtime")]
    lines += [*rules, *writer.definitions, "", "", *laws, "", "", *writer.axis_sizes(), "", "", *network]
    source = "\n".join(lines) + "\n"
    while "\n\n\n\n" in source:
        source = source.replace("\n\n\n\n", "\n\n\n")
    limits = {key.families[0]: key.families[0] for key in recursion.limits}
    return Module(settled(source), limits, program.trained, obstacle, {})
