"""A recursion as the source of a Python module that needs only jax and numpy.

The module is what runs, in the package and outside of it: `run` evaluates the tables of one input's run, `pair` those
of the cross stream, `kernel` both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from tensorprog import expectation
from tensorprog.backend.code.printer import lines as printed
from tensorprog.backend.code.tree import Comment, DictOf, Expr, Literal, Statement, call, let, text, tree
from tensorprog.backend.lower.definitions import Definitions
from tensorprog.backend.lower.functions import handed_keys, pair_function, run_function
from tensorprog.backend.passes import NO_BORDERS, ONE_SIDE, READ_THROUGH, ROLLED, Notes
from tensorprog.backend.rolled import with_layers_rolled
from tensorprog.backend.sparse import with_sparse_tables_read_through
from tensorprog.backend.trim import trimmed_tables, without_zero_borders
from tensorprog.errors import ProgramError
from tensorprog.expectation.source import HEADER
from tensorprog.index.ranges import Range
from tensorprog.naming import identifier, plain, settled
from tensorprog.program.ir import Program
from tensorprog.program.sizes import missing
from tensorprog.recursion import Recursion
from tensorprog.theorem.existence import check_ntk


@dataclass(frozen=True)
class Module:
    """Source of a module, and what its callers need to know.

    limits: for each output of type C, the name under which `run` returns it.
    obstacle: why there is no NTK, or None.
    footprint: axes of the arrays that a "run" and a "pair" hold, for estimates of memory; of the latter, those that
        are in use at a "step", the histories of loops left out.
    lowering: the choices that were made, a line for each.
    reach: for tables of variances that `run` returns, up to where the rules that read them are accurate.
    """

    source: str
    limits: Mapping[str, str]
    trained: tuple[str, ...]
    obstacle: str | None
    footprint: Mapping[str, tuple[tuple[Range, ...], ...]]
    lowering: tuple[str, ...] = ()
    reach: Mapping[str, float] = field(default_factory=dict)


def build_module(recursion: Recursion, header: str = "") -> Module:
    """The module of a recursion. Raises ProgramError where a parameter that it needs has no value."""
    program = recursion.program
    check_open(program)
    definitions = Definitions()
    recursion = _prepared(recursion, definitions.notes)
    keys = handed_keys(recursion)
    if keys:
        definitions.notes.add(ONE_SIDE, keys)
    run = run_function(recursion, definitions, keys)
    pair = pair_function(recursion, definitions, run)
    runtime = "\n\n".join(runtime_file(n) for n in ("inner_products", "windows", "equality"))
    lines = [f'"""{header.strip() or program.name}\n"""', "", HEADER.rstrip(), ""]
    lines += printed(
        [
            *parameter_statements(program),
            let("TRAINED", literals(program.trained)),
            let("INPUTS", literals(f.name for f in program.inputs)),
            let("NTK_OBSTACLE", Literal(ntk_obstacle(recursion))),
            *(let(identifier(name), value) for name, value in program.integers.items()),
        ]
    )
    lines += ["", "", expectation.runtime_source(definitions.runtime), "", runtime, ""]
    for block in definitions.blocks:
        lines += ["", block.strip(), ""]
    lines += ["", *printed([run.code])]
    if pair is not None:
        lines += ["", "", *printed([pair.code]), "", "", _KERNEL]
    source = "\n".join(lines) + "\n"
    while "\n\n\n\n" in source:
        source = source.replace("\n\n\n\n", "\n\n\n")
    footprint = {
        "run": run.footprint,
        "pair": () if pair is None else pair.footprint,
        "step": () if pair is None else pair.steps_footprint,
    }
    reach = {plain(run.names.table(key)): bound for key, bound in definitions.reach.items() if key in keys}
    notes = definitions.notes.lines()
    return Module(settled(source), run.limits, program.trained, ntk_obstacle(recursion), footprint, notes, reach)


def _prepared(recursion: Recursion, notes: Notes) -> Recursion:
    """The recursion as it is lowered: without what need not be there, and layers in loops."""
    trimmed = trimmed_tables(recursion)
    if trimmed:
        notes.add(NO_BORDERS, [t.key for t in trimmed])
    recursion = without_zero_borders(recursion)
    rolled = with_layers_rolled(recursion)
    if rolled.tables != recursion.tables:
        notes.add(ROLLED, [k for k, t in rolled.tables.items() if t.axes != recursion.tables[k].axes])
    through = with_sparse_tables_read_through(rolled)
    if len(through.tables) < len(rolled.tables):
        notes.add(READ_THROUGH, [key for key in rolled.tables if key not in through.tables])
    return through


def literals(values: Iterable[str]) -> Expr:
    return tree(tuple(text(v) for v in values))


def ntk_obstacle(recursion: Recursion) -> str | None:
    """Why there is no NTK, or None."""
    try:
        check_ntk(recursion)
    except ProgramError as error:
        return error.message
    return None


def parameter_statements(program: Program) -> list[Statement]:
    """The real parameters of a module; one without a value, which a call has to give, is no number."""
    values = (
        (text(name), call("float", text("nan")) if v is None else tree(float(v))) for name, v in program.reals.items()
    )
    return [
        Comment("Real parameters: defaults that `params` overrides."),
        let("PARAMETERS", DictOf(tuple(values))),
    ]


def check_open(program: Program) -> None:
    """Raises ProgramError where a parameter has no value that neither the data nor a call gives."""
    for p in program.parameters:
        if p.value is None and p.kind not in ("size", "unused", "real"):
            raise missing(program, p)


def runtime_file(name: str) -> str:
    """A module of the runtime, without what it imports."""
    text = resources.files("tensorprog.backend.runtime").joinpath(f"{name}.py").read_text(encoding="utf-8")
    title, _, rest = text.partition('"""\n')
    body = [line for line in rest.splitlines() if not line.startswith(("import ", "from "))]
    return f"# {name}: {title.strip(chr(34))}\n\n" + "\n".join(body).strip("\n") + "\n"


_KERNEL = '''\
def as_inputs(x):
    """A dict of floating-point arrays, from such a dict or from the array of the only input."""
    x = x if isinstance(x, dict) else {INPUTS[0]: x}
    arrays = {name: jnp.asarray(x[name]) for name in INPUTS}
    dtype = jnp.result_type(*arrays.values(), jnp.float32)
    return {name: a.astype(dtype) for name, a in arrays.items()}


def kernel(x1, x2=None, get=("nngp", "ntk"), params=None, wrt=TRAINED, rates=None):
    """Kernels between the samples of x1 and x2 (of x1 with itself where x2 is None).

    x1 has shape (N1, *axes of the input, d), without d for a scalar input; several inputs go in a dict. The result
    has shape (N1, N2, *axes of the output for x1, *axes of the output for x2): one array for get="nngp" or "ntk", a
    tuple of arrays for a tuple. `params` overrides real parameters, `wrt` names the parameters that are trained,
    `rates` gives learning rates other than 1 for some of them.
    """
    names = (get,) if isinstance(get, str) else tuple(get)
    if "ntk" in names and NTK_OBSTACLE:
        raise ValueError(NTK_OBSTACLE)
    values = {**PARAMETERS, **(params or {})}
    x1 = as_inputs(x1)
    left = run(x1, values)
    if x2 is None:
        x2, right, same = x1, left, jnp.eye(x1[INPUTS[0]].shape[0], dtype=bool)
    else:
        x2 = as_inputs(x2)
        right, same = run(x2, values), same_inputs(x1, x2)

    def cross(move):
        moves = {p: move * jnp.asarray((rates or {}).get(p, 1.0), move.dtype) if p in wrt else 0.0 for p in TRAINED}
        return pair(x1, x2, left, right, same, values, moves)

    zero = jnp.zeros((), x1[INPUTS[0]].dtype)
    if "ntk" in names:
        nngp, ntk = jax.jvp(cross, (zero,), (jnp.ones_like(zero),))
    else:
        nngp, ntk = cross(zero), None
    results = tuple({"nngp": nngp, "ntk": ntk}[name] for name in names)
    return results[0] if isinstance(get, str) else results
'''
