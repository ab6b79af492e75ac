"""The Simple GIA Check (Tensor Programs II): what makes the backward pass of a program BP-like."""

from __future__ import annotations

from tensorprog.errors import Span
from tensorprog.language import syntax
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Process
from tensorprog.theorem.bp_like.reading import Reading, listed


def simple_gia(reading: Reading) -> tuple[bool, str]:
    """The readout is sampled independently, with mean zero, and used nowhere else; no W goes with its W.T."""
    program = reading.program
    if not reading.readouts:
        return False, "no output is a readout v.T @ x / sqrt(n), so no gradient starts from one"
    for v in reading.readouts:
        family = program.families[v]
        if family.role != "vector" or family.law is None:
            return False, f"the readout {v} is computed, not declared as a vector"
        if family.law.mean != 0:
            at = f" on line {family.span.line}" if family.span.line else ""
            return False, f"the readout {v}{at} has mean {family.law.mean}, not zero"
        for f in program.families.values():
            for clause in f.clauses:
                span = _read_in(clause.value, v, isinstance(f.type, Process))
                if span is not None:
                    line = span.line or clause.span.line
                    return False, f"the readout {v} is used elsewhere too{f', on line {line}' if line else ''}"
    names = listed(reading.readouts)
    for weight in reading.weights:
        both = {u.transposed: u.place for u in reversed(reading.uses) if u.weight == weight}
        if len(both) == 2:
            places = f"{both[False]} and {both[True]}"
            return False, f"{names} passes, but the program uses {weight} together with {weight}.T: {places}"
    plural = len(reading.readouts) > 1
    return True, (
        f"{names} {'are' if plural else 'is'} drawn independently, with mean zero, and used nowhere but at the output,"
        " and no matrix goes together with its transpose: the backward pass is BP-like"
    )


def _read_in(e: syntax.Expr, name: str, output: bool) -> Span | None:
    """Where an expression reads a vector; the v in v.T @ x of an output does not count."""
    if isinstance(e, syntax.Name | syntax.Index):
        return e.span if e.name == name else None
    if output and isinstance(e, syntax.Transpose):
        return None
    found = (_read_in(s, name, output) for s in subexpressions(e, deep=False))
    return next((span for span in found if span is not None), None)
