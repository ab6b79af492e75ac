"""A recursion as the source of a Python module that needs only jax and numpy.

The module is what runs, in the package and outside of it: `run` evaluates the tables of one input's run, `pair` those
of the cross stream, `kernel` both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources

import sympy

from tensorprog import expectation, functions
from tensorprog import recursion as ir
from tensorprog.backend.labelled import integer
from tensorprog.backend.passes import EXPECTATION, NO_BORDERS, ONE_SIDE, READ_THROUGH, ROLLED, Notes
from tensorprog.backend.rolled import with_layers_rolled
from tensorprog.backend.schedule import schedule
from tensorprog.backend.sparse import with_sparse_tables_read_through
from tensorprog.backend.system import Access, SystemWriter
from tensorprog.backend.trim import trimmed_tables, without_zero_borders
from tensorprog.errors import ProgramError
from tensorprog.expectation.source import HEADER
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range, sizes_read_off
from tensorprog.naming import identifier, plain, settled
from tensorprog.program.ir import Program
from tensorprog.program.laws import sizes_in_laws
from tensorprog.program.sizes import missing
from tensorprog.program.types import Data
from tensorprog.recursion import Key, Recursion, Table
from tensorprog.theorem.cases import substitute_range
from tensorprog.theorem.existence import check_ntk
from tensorprog.theorem.joint_rules import entries, joint_plan, structural_zeros

PREFIX = {
    ir.DATA: "",
    ir.SCALAR: "",
    ir.MEAN: "mean_",
    ir.GRAM: "gram_",
    ir.COVARIANCE: "cov_",
    ir.MOMENT: "mom_",
    ir.OUTPUT: "out_",
}


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


class _Names:
    """How tables, sizes and parameters are called in one function of the module."""

    def __init__(self, recursion: Recursion, primed: bool):
        self.program: Program = recursion.program  # type: ignore[assignment]
        self.recursion = recursion
        self.primed = primed
        self.used_laws: dict[str, ir.LawVariance] = {}
        self.law_arrays: dict[str, tuple[str, ...]] = {}
        self._tables: dict[Key, str] = {}
        self._fixed = set(self.program.integers)
        self.run_dims: dict[Key, tuple[int | str, ...]] = {}
        self.run_fixed: dict[Key, Mapping[int, Affine]] = {}

    def table(self, key: Key) -> str:
        if key not in self._tables:
            families = key.families if len(set(key.families)) > 1 else key.families[:1]
            name = PREFIX[key.kind] + identifier("_".join(families))
            if key.stream == "self" and len(key.families) == 2 and len(families) == 1:
                name += "_full"
            while plain(name) in map(plain, self._tables.values()):
                name += "_"
            self._tables[key] = name
        return self._tables[key]

    def axes(self, key: Key):
        return self.recursion.tables[key].axes

    def range_of(self, axis: ir.Axis, side: str | None) -> Range:
        """The range of an axis of a table, in the sizes of the run that it belongs to."""
        if side != "right":
            return axis.range
        return substitute_range(axis.range, {s: Affine.symbol(s + "'") for s in self.program.open_sizes})

    def size(self, s: str) -> str:
        base = s.rstrip("'")
        if base in self._fixed or base in self.program.features or not self.primed:
            return identifier(base)
        return identifier(base) + ("2" if s.endswith("'") else "1")

    def scalar(self, s: sympy.Symbol, integers: Mapping[str, str]) -> str:
        if s.name in integers:
            return integers[s.name]
        if s.is_positive:
            return self.size(s.name)
        return identifier(s.name)

    def batch_size(self, label: str) -> str:
        return {"n": "N", "n1": "N1", "n2": "N2"}[label]

    def feature(self, key: Key) -> str:
        t = self.program.families[key.families[0]].type
        assert isinstance(t, Data)
        return t.size

    def law(self, node: ir.LawVariance) -> str:
        """The variable of a law: s_W in one copy of the parameters, s_W_12 between two that may differ."""
        name = f"s_{identifier(node.name)}" + ("_12" if node.moves else "")
        while self.used_laws.get(name, node) != node:  # two members of one family, whose laws differ
            name += "_"
        self.used_laws[name] = node
        return name

    def laws(self, node: ir.LawVariances) -> str:
        """The variable of an array of laws, s_W2_and_on."""
        members = tuple(self.law(law) for law in node.laws)
        name = f"{members[0]}_and_on"
        while self.law_arrays.get(name, members) != members:
            name += "_"
        self.law_arrays[name] = members
        return name

    def describe(self, t: Table) -> str:
        axes = ", ".join(str(a.range) for a in t.axes)
        f = t.key.families
        prime = "'" if t.key.stream == "cross" else ""
        u, w = f[0], f[-1] + prime
        what = {
            ir.DATA: f"data {u}",
            ir.SCALAR: f"C {u}",
            ir.MEAN: f"E {u}",
            ir.GRAM: f"<{u}, {w}>/d",
            ir.COVARIANCE: f"Cov({u}, {w})",
            ir.MOMENT: f"E[{u} {w}]",
            ir.OUTPUT: f"E[{u} {w}]",
        }[t.key.kind]
        return f"{what}   {axes}" if axes else what


class _Definitions:
    """Expectation plans, each once, with the source they need at the top of the module."""

    def __init__(self) -> None:
        self.plans: dict[tuple, object] = {}
        self.blocks: list[str] = []
        self.runtime: list[str] = []
        self.notes = Notes()
        self.reach: dict[Key, float] = {}  # of tables of variances, up to where rules that read them are accurate

    def _keep(self, key: tuple, make):
        if key not in self.plans:
            plan = make(f"f{len(self.plans) + 1}")
            self.plans[key] = plan
            self.blocks += [b for b in plan.definitions if b not in self.blocks]
            self.runtime += [r for r in plan.runtime if r not in self.runtime]
            self.notes.add(EXPECTATION, f"{plan.rule}, {plan.accuracy}")
        return self.plans[key]

    def needs(self, *runtime: str) -> None:
        self.runtime += [r for r in runtime if r not in self.runtime]

    def pair(self, node: ir.PairExpectation):
        """The plan, and for each side the symbols that its scalars have there."""
        z, w = sympy.Symbol("z", real=True), sympy.Symbol("w", real=True)
        left, right = _renamed(node.scalars_f), _renamed(node.scalars_g)
        f, g = node.f.xreplace({node.z: z, **left}), node.g.xreplace({node.w: w, **right})
        means = (node.mu is not None, node.nu is not None)
        plan = self._keep(
            ("pair", f, g, means),
            lambda prefix: expectation.plan_pair(f, g, z, w, mean_f=means[0], mean_g=means[1], prefix=prefix),
        )
        self._reach(plan, node.p, node.q)
        return plan, left, right

    def single(self, node: ir.SingleExpectation):
        z = sympy.Symbol("z", real=True)
        names = _renamed(node.scalars)
        f = node.f.xreplace({node.z: z, **names})
        mean = node.mu is not None
        plan = self._keep(("single", f, mean), lambda prefix: expectation.plan_mean(f, z, mean=mean, prefix=prefix))
        self._reach(plan, node.q)
        return plan, names

    def joint(self, node: ir.JointExpectation):
        left, right = _renamed(node.scalars_f), _renamed(node.scalars_g)
        zs = [sympy.Symbol(f"z{k}", real=True) for k in range(len(node.zs))]
        ws = [sympy.Symbol(f"w{k}", real=True) for k in range(len(node.ws))]
        f = node.f.xreplace({**dict(zip(node.zs, zs, strict=True)), **left})
        g = node.g.xreplace({**dict(zip(node.ws, ws, strict=True)), **right})
        named = replace(node, f=f, g=g, zs=tuple(zs), ws=tuple(ws))
        zeros, means = structural_zeros(node), tuple(m is not None for m in node.means)
        key = ("joint", f, g, named.zs, named.ws, means, frozenset(zeros))
        plan = self._keep(key, lambda prefix: joint_plan(named, prefix))
        self._reach(plan, *(entry for i, j, entry in entries(node) if i == j))
        return plan, left, right

    def _reach(
        self, plan: expectation.Plan | expectation.MeanPlan | expectation.JointPlan, *variances: ir.Node
    ) -> None:
        if plan.variance < math.inf:
            for read in (r for node in variances for r in ir.entries(node)):
                self.reach[read.key] = min(plan.variance, self.reach.get(read.key, math.inf))

    def singular(self, node: ir.PairExpectation) -> bool:
        """Whether the expectation or its derivative is singular at correlation 1: where a function has a kink."""
        return not (functions.facts(node.f, node.z).smooth and functions.facts(node.g, node.w).smooth)


def _renamed(scalars) -> dict[sympy.Symbol, sympy.Symbol]:
    """Symbols whose names are identifiers in Python."""
    return {s: sympy.Symbol(f"a{k}", real=True) for k, (s, _) in enumerate(scalars)}


def build_module(recursion: Recursion, header: str = "") -> Module:
    """The module of a recursion. Raises ProgramError where a parameter that it needs has no value."""
    program: Program = recursion.program  # type: ignore[assignment]
    check_open(program)
    definitions = _Definitions()
    trimmed = trimmed_tables(recursion)
    if trimmed:
        definitions.notes.add(NO_BORDERS, [t.key for t in trimmed])
    recursion = without_zero_borders(recursion)
    rolled = with_layers_rolled(recursion)
    if rolled.tables != recursion.tables:
        definitions.notes.add(ROLLED, [k for k, t in rolled.tables.items() if t.axes != recursion.tables[k].axes])
    recursion = rolled
    whole, recursion = recursion, with_sparse_tables_read_through(recursion)
    if len(recursion.tables) < len(whole.tables):
        definitions.notes.add(READ_THROUGH, [key for key in whole.tables if key not in recursion.tables])
    handed = sorted(
        {
            r.key
            for t in recursion.system("cross")
            for c in t.clauses
            for r in _one_run_reads(c.value)
            if recursion.tables[r.key].clauses
        },
        key=lambda k: (k.kind, k.families),
    )
    if handed:
        definitions.notes.add(ONE_SIDE, handed)
    runs, run_names, limits, run_footprint = _run_source(recursion, definitions, handed)
    pairs, pair_footprint, step_footprint = _pair_source(recursion, definitions, handed, run_names)
    obstacle = ntk_obstacle(recursion)
    runtime = "\n\n".join(_runtime_file(n) for n in ("inner_products", "windows", "equality"))
    lines = [f'"""{header.strip() or program.name}\n"""', "", HEADER.rstrip(), ""]
    lines += parameter_lines(program)
    lines.append(f"TRAINED = {program.trained!r}")
    lines.append(f"INPUTS = {tuple(f.name for f in program.inputs)!r}")
    lines.append(f"NTK_OBSTACLE = {obstacle!r}")
    for name, value in program.integers.items():
        lines.append(f"{identifier(name)} = {value}")
    lines += ["", "", expectation.runtime_source(definitions.runtime), "", runtime, ""]
    for block in definitions.blocks:
        lines += ["", block.strip(), ""]
    lines += ["", *runs, "", "", *pairs]
    if recursion.output is not None:
        lines += ["", "", _KERNEL]
    source = "\n".join(lines) + "\n"
    while "\n\n\n\n" in source:
        source = source.replace("\n\n\n\n", "\n\n\n")
    footprint = {"run": run_footprint, "pair": pair_footprint, "step": step_footprint}
    reach = {plain(run_names.table(key)): bound for key, bound in definitions.reach.items() if key in handed}
    return Module(settled(source), limits, program.trained, obstacle, footprint, definitions.notes.lines(), reach)


def ntk_obstacle(recursion: Recursion) -> str | None:
    """Why there is no NTK, or None."""
    try:
        check_ntk(recursion)
    except ProgramError as error:
        return error.message
    return None


def parameter_lines(program: Program) -> list[str]:
    """The real parameters of a module; one without a value, which a call has to give, is no number."""
    values = ((name, 'float("nan")' if v is None else repr(float(v))) for name, v in program.reals.items())
    return [
        "# Real parameters: defaults that `params` overrides.",
        f"PARAMETERS = {{{', '.join(f'{name!r}: {value}' for name, value in values)}}}",
    ]


def check_open(program: Program) -> None:
    """Raises ProgramError where a parameter has no value that neither the data nor a call gives."""
    for p in program.parameters:
        if p.value is None and p.kind not in ("size", "unused", "real"):
            raise missing(program, p)


def _one_run_reads(node: ir.Node):
    """What a node of the cross stream reads of the two runs."""
    return (r for r in ir.entries(node) if r.side is not None)


def _run_source(recursion: Recursion, definitions, handed: Sequence[Key]):
    """`def run(inputs, params)`: the tables of one input's run that `pair` and the limits need."""
    program: Program = recursion.program  # type: ignore[assignment]
    names = _Names(recursion, primed=False)
    external: dict[Key, list[ir.Read]] = {}
    for t in recursion.system("cross"):
        for c in t.clauses:
            for r in _one_run_reads(c.value):
                external.setdefault(r.key, []).append(r)
    tables = recursion.system("self")
    for key in recursion.limits:
        t = recursion.tables[key]
        external.setdefault(key, []).append(ir.Read(key, tuple(Affine.symbol(a.range.name) for a in t.axes)))
    writer = SystemWriter(tables, ("n",), program.integers, names, definitions, external)
    for t in tables:
        if t.clauses or t.key.kind not in (ir.DATA, ir.SCALAR):
            continue
        feature = ("feature",) if t.key.kind == ir.DATA else ()
        writer.access[t.key] = Access(names.table(t.key), ("n", *range(len(t.axes)), *feature))
    writer.write(schedule(tables, program.integers))
    lines = [
        "def run(inputs, params):",
        '    """What one input of the program alone determines, for N inputs at once: variances, means, C\'s."""',
    ]
    lines += _unpack_inputs(program, names, (("inputs", "", ""),)) + _unpack_reals(program)
    lines += _law_lines(names)
    lines += writer.lines
    results = []
    for key in handed:
        access = writer.access[key]
        results.append(_result(names.table(key), access.dims.index("n")))
    limits = {}
    for key in recursion.limits:
        limits[key.families[0]] = plain(names.table(key))
        results.append(_result(names.table(key), writer.access[key].dims.index("n")))
    lines.append(f"    return {{{', '.join(dict.fromkeys(results))}}}")
    names.run_dims = {k: ("n", *(d for d in writer.access[k].dims if d != "n")) for k in handed}
    names.run_fixed = {k: writer.access[k].fixed for k in handed}
    return lines, names, limits, tuple(writer.footprint)


def _result(name: str, position: int) -> str:
    """An entry of what `run` returns: a table with the samples first."""
    value = name if position == 0 else f"jnp.moveaxis({name}, {position}, 0)"
    return f"{plain(name)!r}: {value}"


def _unpack_inputs(program: Program, names: _Names, runs) -> list[str]:
    """Inputs as variables, and the sizes that they give; `runs` are (dict of inputs, suffix, prime) of each run."""
    lines = []
    sizes: dict[str, str] = {}
    batches = ("N",) if len(runs) == 1 else ("N1", "N2")
    first: list[str] = []
    for source, suffix, prime in runs:
        axes: list[tuple[tuple[str, int], Range]] = []
        for f in program.inputs:
            key = Key(ir.DATA if isinstance(f.type, Data) else ir.SCALAR, "self", (f.name,))
            variable = names.table(key) + suffix
            lines.append(f"    {variable} = {source}[{f.name!r}]")
            if f is program.inputs[0]:
                first.append(variable)
            axes += [((variable, k), r) for k, r in enumerate(f.ranges)]
            if isinstance(f.type, Data):
                sizes.setdefault(names.size(f.type.size), f"{variable}.shape[-1]")
        for size in sizes_read_off(axes, program.integers):
            variable, k = size.axis
            text = f"{variable}.shape[{k + 1}]"
            if size.rest != Affine(0):
                text += f" - ({integer(size.rest, lambda s, p=prime: names.size(s + p))})"
            if size.factor != 1:
                text = f"({text}) // {size.factor}"
            sizes.setdefault(names.size(size.name + prime), text)
    if first:
        lines.append(f"    {', '.join(batches)}, dtype = {', '.join(f'{v}.shape[0]' for v in first)}, {first[0]}.dtype")
    elif len(runs) == 1:
        lines.append("    N, dtype = 1, jnp.asarray(0.0).dtype")
    else:
        lines.append("    N1, N2, dtype = *same.shape, jnp.asarray(0.0).dtype")
    return lines + [f"    {name} = {shape}" for name, shape in sizes.items()]


def _unpack_reals(program: Program) -> list[str]:
    return [f"    {identifier(r)} = jnp.asarray(params[{r!r}], dtype)" for r in program.reals]


def _law_lines(names: _Names) -> list[str]:
    lines = []
    for name, law in names.used_laws.items():
        scale = functions.jax_code(law.scale, {s: names.scalar(s, {}) for s in law.scale.free_symbols})
        if law.moves and law.tangent is not None:
            tangent = functions.jax_code(law.tangent, {s: names.scalar(s, {}) for s in law.tangent.free_symbols})
            factor = f" * {tangent}" if law.tangent.is_Symbol or law.tangent.is_Integer else f" * ({tangent})"
            scale += f" + move[{law.parameter!r}]" + ("" if law.tangent == 1 else factor)
        if not law.scale.free_symbols and " + move" not in scale:
            scale = f"jnp.asarray({scale}, dtype)"  # an array, so that what is differentiated is a float
        lines.append(f"    {name} = {scale}")
    for name, members in names.law_arrays.items():
        lines.append(f"    {name} = jnp.stack([{', '.join(members)}])")
    return lines


def _pair_source(recursion: Recursion, definitions, handed: Sequence[Key], run_names: _Names):
    """`def pair(...)`: the cross stream, and the kernel of the output."""
    program: Program = recursion.program  # type: ignore[assignment]
    if recursion.output is None:
        return [], (), ()
    names = _Names(recursion, primed=True)
    tables = recursion.system("cross")
    output = recursion.tables[recursion.output]
    everything = ir.Read(output.key, tuple(Affine.symbol(a.range.name) for a in output.axes))
    writer = SystemWriter(tables, ("n1", "n2"), program.integers, names, definitions, {recursion.output: [everything]})
    runs = (("x1", "_left", ""), ("x2", "_right", "'"))
    unpack = _unpack_inputs(program, names, runs)
    for f in program.inputs:
        key = Key(ir.DATA if isinstance(f.type, Data) else ir.SCALAR, "self", (f.name,))
        feature = ("feature",) if isinstance(f.type, Data) else ()
        for side in ("left", "right"):
            access = Access(f"{names.table(key)}_{side}", ("n", *range(len(f.ranges)), *feature))
            writer.access[key, side] = access
    for key in handed:
        name = run_names.table(key)
        dims = run_names.run_dims[key]
        for side in ("left", "right"):
            writer.access[key, side] = Access(f"{name}_{side}", dims, run_names.run_fixed[key])
        unpack.append(f"    {name}_left, {name}_right = left[{plain(name)!r}], right[{plain(name)!r}]")
    for size, family in sizes_in_laws(program).items():
        unpack.append(f"    if {names.size(size)} != {names.size(size + chr(39))}:")
        unpack.append(f"        raise ValueError('x1 and x2 differ in {size}, on which the law of {family} depends')")
    writer.write(schedule(tables, program.integers))
    lines = [
        "def pair(x1, x2, left, right, same, params, move):",
        '    """The cross stream: second moments between the runs `left` on x1 and `right` on x2, and the kernel.',
        "",
        "    same[i, j] tells that inputs i and j are equal; move[p] is ε for the trained parameter p:",
        '    the derivative at 0 is its part of the NTK."""',
        *unpack,
        *_unpack_reals(program),
        *_law_lines(names),
        *writer.lines,
    ]
    access = writer.access[recursion.output]
    order: list[str | int] = ["n1", "n2"]
    order += [k for k, a in enumerate(output.axes) if a.left is not None]
    order += [k for k, a in enumerate(output.axes) if a.left is None]
    permutation = tuple(access.dims.index(d) for d in order)
    name = names.table(recursion.output)
    if permutation != tuple(range(len(order))):
        lines.append(f"    {name} = jnp.transpose({name}, {permutation})")
    lines.append(f"    return {name}")
    return lines, tuple(writer.footprint), tuple(writer.steps_footprint)


def _runtime_file(name: str) -> str:
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
