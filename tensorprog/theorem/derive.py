"""The Master Theorem as a pass: Program → Recursion (Tensor Programs I, theorem 5.4; III, box 1 without transposes).

    Program     h[t] := LinComb(W_s[t] + U_x[t] + b);  W_s[t] := MatMul(W, s[t-1]);  s[t] := Nonlin(erf(h[t]))
    Recursion   Cov(h, h')[t, t'] := s_W E(s, s')[t-1, t'-1] + s_U <x[t], x'[t']>/d + s_b
                E(s, s')[t, t']   := pair(erf, erf; Cov(h, h')[t, t'], …)

Tables are made as they are asked for, from the output backwards. A table has one axis for two where all that is
ever asked of it lies on a diagonal (theory: which covariances are needed); when a later question asks for more, the
table is widened and the derivation starts again, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tensorprog import recursion as ir
from tensorprog.errors import ProgramError
from tensorprog.program.instructions import Linear
from tensorprog.program.ir import Family, Program
from tensorprog.program.laws import growth
from tensorprog.program.types import Position, Process, Scalar, Vector
from tensorprog.recursion import Key
from tensorprog.theorem.derivation import Derivation, derivation
from tensorprog.theorem.products import with_products_apart
from tensorprog.theorem.tables import table
from tensorprog.theorem.transposes import without_transposes


def derive(program: Program) -> ir.Recursion:
    """The recursion of all outputs.

    Raises ProgramError where the program has no limit, or one that no rule covers.
    """
    try:
        d = derivation(without_transposes(with_products_apart(program)))
        processes = _processes(d.program)
        _check_vectors(d)
        for process in processes:
            _check_readouts(d, process)
        return recursion(d)
    except ProgramError as error:
        raise error.located(program.source, program.filename) from None


def recursion(d: Derivation, make: Callable[[Derivation, Key], ir.Table] = table) -> ir.Recursion:
    """The tables that the outputs need, each made by `make`, again and again until none is asked for more."""
    program = d.program
    processes = _processes(program)
    output = Key(ir.OUTPUT, "cross", (processes[0].name,)) if processes else None
    limits = tuple(Key(ir.SCALAR, "self", (f.name,)) for f in program.outputs if isinstance(f.type, Scalar))
    positions = [Key(ir.SCALAR, "self", (f.name,)) for f in program.inputs if isinstance(f.type, Position)]
    wanted = [k for k in (output, *limits, *positions) if k is not None]
    tables = d.tables
    while True:
        tables.again()
        for key in wanted:
            tables.ask(key)
        while tables.pending:
            key = tables.pending.pop()
            if key not in tables.made:
                tables.made[key] = make(d, key)
        if not tables.changed:
            break
    reached = _reached(tables.made, wanted)
    return ir.Recursion(program, {k: t for k, t in reversed(tables.made.items()) if k in reached}, output, limits)


def _processes(program: Program) -> list[Family]:
    """The output that is a Gaussian process, if there is one. Raises ProgramError where there are several."""
    outputs = program.outputs
    if not outputs:
        raise ProgramError("the program has no output", program.text.span, hint="output y := v.T @ x / sqrt(n), say")
    processes = [f for f in outputs if isinstance(f.type, Process)]
    if len(processes) > 1:
        raise ProgramError(
            f"a program has one output that is a readout; '{processes[0].name}' is one already", processes[1].span
        )
    return processes


def _reached(tables: Mapping[Key, ir.Table], keys: Iterable[Key]) -> set[Key]:
    """The tables that these need; some were looked at only to find that they are zero."""
    reached: set[Key] = set()
    pending = list(keys)
    while pending:
        key = pending.pop()
        if key in reached:
            continue
        reached.add(key)
        for clause in tables[key].clauses:
            pending += [r.key for r in ir.entries(clause.value)]
            pending += [k for node in ir.walk(clause.value) if isinstance(node, ir.Sampled) for k in node.tables]
    return reached


def _check_vectors(d: Derivation) -> None:
    """Vectors of the body are O(1); a readout may carry its 1/n itself."""
    families = d.program.families.values()
    for f in families:
        if f.role != "vector" or f.law is None:
            continue
        read = any(f.name in d.support.sources.get(g.name, ()) for g in families if g is not f)
        second = f.law.multiplier**2 * f.law.variance
        if read and second != 0 and growth(second, dict(d.program.widths)).exponent < 0:
            raise ProgramError(
                f"the variance of '{f.name}' vanishes as the width grows: a vector's law is O(1)",
                f.span,
                hint="only a readout may have N(0, s / n), in an output v.T @ x",
            )


def _check_readouts(d: Derivation, output: Family) -> None:
    """A readout is a vector drawn with mean zero, and used nowhere else."""
    bodies = [c.body for c in d.reader.cases(output.name)]
    terms = [t for body in bodies if isinstance(body, Linear) for t in body.terms]
    for name in {t.readout.name for t in terms if t.readout is not None}:
        v = d.family(name)
        if v.role == "scalar":
            continue
        if v.role != "vector":
            raise ProgramError(
                f"the readout '{name}' is not a declared vector, so the output is no Gaussian process", output.span
            )
        if v.law is not None and v.law.mean != 0:
            raise ProgramError(
                f"the readout '{name}' has a mean: the output is no Gaussian process by the theorem", v.span
            )
        for f in d.program.families.values():
            if f.role == "assigned" and isinstance(f.type, Vector) and name in d.support.sources[f.name]:
                raise ProgramError(
                    f"the readout '{name}' is used in '{f.name}' too: the output is no Gaussian process by the theorem",
                    output.span,
                    hint=f"declare another vector for '{f.name}'",
                )
