"""What can be said of a program from its text: its language, whether it is BP-like, which limits exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tensorprog.errors import NotDerived, ProgramError
from tensorprog.functions import text
from tensorprog.language import syntax
from tensorprog.program.ir import Family, Parameter, Program
from tensorprog.program.nonlinearities import Nonlinearity, nonlinearities
from tensorprog.program.substitution import free_names, subexpressions
from tensorprog.program.types import Process, Vector
from tensorprog.theorem.bp_like import analyse
from tensorprog.theorem.derive import derive
from tensorprog.theorem.existence import check_nngp, check_ntk

PROCESS = "Gaussian process"
"""The type of an output that is a readout."""
_OPEN = {"size": "read off the data", "unused": "stands nowhere"}
"""What is said of a parameter without a value, by its kind."""


@dataclass(frozen=True)
class Existence:
    """Whether a limit exists; where it does not, `reason` says why, and else it may name what is to be known of it.

    derived: False where the theorem has the limit and no rule here derives it yet.
    sampled: True where no rule gives some expectation in it, which is computed by simulation, with a standard error.
    """

    exists: bool
    reason: str = ""
    derived: bool = True
    sampled: bool = False


@dataclass(frozen=True)
class Variable:
    """An input or output: its name, type, axes (`t = 1..T`)."""

    name: str
    type: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A parameter: its kind (integer, size, real, function, unused) and value as text; None where it is open."""

    name: str
    kind: str
    value: str | None


@dataclass(frozen=True)
class Report:
    """A program as `tpc check` sees it. `str()` is for people; `bp_like` is meant as in Tensor Programs II, A.3."""

    program: str
    language: str
    bp_like: bool
    reasons: tuple[str, ...]
    simple_gia: Existence
    nonlinearities: tuple[Nonlinearity, ...]
    nngp: Existence
    ntk: Existence
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    parameters: tuple[Value, ...]

    def json(self) -> dict[str, Any]:
        """The report as a dict of plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def check(program: Program) -> Report:
    """The report on a program, which is typed already: what is wrong with a text, `build` has said."""
    known = nonlinearities(program)
    verdict = analyse(program)
    nngp, ntk = _limits(program, known, verdict.transposes)
    return Report(
        program=program.name,
        language=f"Netsor{'⊤' if verdict.transposes else ''}{'+' if _uses_moments(program) else ''}",
        bp_like=verdict.holds,
        reasons=verdict.reasons,
        simple_gia=Existence(verdict.simple_gia, verdict.simple_gia_reason),
        nonlinearities=known,
        nngp=nngp,
        ntk=ntk,
        inputs=tuple(_variable(f) for f in program.inputs),
        outputs=tuple(_variable(f) for f in program.outputs),
        parameters=tuple(_parameter(p) for p in program.parameters),
    )


# ---------------------------------------------------------------- language


def _uses_moments(program: Program) -> bool:
    """Whether the body takes a Moment of vectors, one that is not made for an output alone."""
    families = program.families
    written = {s.name for s in _assignments(program.written.statements) if not s.output}
    body = [f for f in families.values() if f.role == "assigned" and (f.name in written or isinstance(f.type, Vector))]
    seen: set[str] = set()
    while body:
        family = body.pop()
        if family.name in seen:
            continue
        seen.add(family.name)
        for clause in family.clauses:
            if any(_is_moment(e, program) for e in subexpressions(clause.value)):
                return True
            body += [families[name] for name in free_names(clause.value) if name in families]
    return False


def _is_moment(e: syntax.Expr, program: Program) -> bool:
    if not (isinstance(e, syntax.Call) and e.function == "Moment"):
        return False
    names = free_names(e)
    return any(isinstance(f.type, Vector) and f.name in names for f in program.families.values())


def _assignments(statements) -> Iterator[syntax.Assignment]:
    for s in statements:
        if isinstance(s, syntax.Assignment):
            yield s
        elif isinstance(s, syntax.For):
            yield from _assignments(s.body)


# ---------------------------------------------------------------- limits


def _limits(program: Program, known: tuple[Nonlinearity, ...], transposed: bool) -> tuple[Existence, Existence]:
    """Of the NNGP (for outputs of type C: of the limits), and of the NTK."""
    try:
        recursion = derive(program)
        check_nngp(recursion)
    except ProgramError as error:
        reason = _sentence(error.located(program.source, program.filename))
        derived = not isinstance(error, NotDerived)
        return Existence(not derived, reason, derived), Existence(not derived, reason, derived)
    steep = [n.name for n in known if n.growth == "exponential"]
    caveat = ""
    if steep:
        caveat = (
            f"{', '.join(steep)} grows exponentially, which the Master Theorem covers without transposes only: "
            "what is computed with them is outside of it"
        )
    sampled = recursion.sampled
    nngp = Existence(True, caveat if transposed else "", sampled=sampled)
    try:
        check_ntk(recursion)
    except ProgramError as error:
        return nngp, Existence(False, _sentence(error))
    return nngp, Existence(True, caveat, sampled=sampled)


def _sentence(error: ProgramError) -> str:
    at = f" ({error.filename}:{error.line}:{error.column})" if error.line else ""
    return f"{error.message}{at}"


# ---------------------------------------------------------------- words


def _variable(f: Family) -> Variable:
    kind = PROCESS if isinstance(f.type, Process) else str(f.type)
    return Variable(f.name, kind, tuple(map(str, f.ranges)))


def _parameter(p: Parameter) -> Value:
    if p.value is None:
        return Value(p.name, p.kind, None)
    return Value(p.name, p.kind, str(p.value) if isinstance(p.value, int | str) else text(p.value))


def _lines(r: Report) -> Iterator[str]:
    yield f"program         {r.program}"
    yield f"language        {r.language}"
    yield f"BP-like         {'yes' if r.bp_like else 'no'}: {'; '.join(r.reasons)}"
    yield from _block("inputs", map(_shown_variable, r.inputs))
    yield from _block("outputs", map(_shown_variable, r.outputs))
    yield from _block("parameters", map(_shown_value, r.parameters))
    yield from _block("nonlinearities", map(_shown_nonlinearity, r.nonlinearities))
    kernel = any(v.type == PROCESS for v in r.outputs)
    for title, limit in (("NNGP" if kernel else "limits", r.nngp), ("NTK", r.ntk)):
        if not limit.derived:
            yield f"{title:15} not derived yet: {limit.reason}"
        elif limit.exists:
            notes = [*(["sampled"] if limit.sampled else []), *([limit.reason] if limit.reason else [])]
            shown = f" ({'; '.join(notes)})" if notes else ""
            yield f"{title:15} exists{shown}"
        else:
            yield f"{title:15} does not exist: {limit.reason}"


def _shown_variable(v: Variable) -> str:
    axes = f"[{', '.join(v.axes)}]" if v.axes else ""
    return f"{v.name}{axes} : {v.type}"


def _shown_value(p: Value) -> str:
    if p.value is not None:
        return f"{p.name} = {p.value}"
    return f"{p.name}: {_OPEN.get(p.kind, 'open')}"


def _shown_nonlinearity(n: Nonlinearity) -> str:
    meaning = f" = {n.expression}" if n.expression != n.name else ""
    return f"{n.name}{meaning}: growth {n.growth}; {n.smoothness}"


def _block(title: str, lines: Iterable[str]) -> Iterator[str]:
    for k, line in enumerate(list(lines) or ["none"]):
        yield f"{title if k == 0 else '':15} {line}"
