"""Source of `tile`: a tile of pairs of samples through all layers, written from the recursion.

    def tile(grams, left, right, same, params, move, sizes):
        …
        mom_phi_h_1 = relu_dual(equal_where(cov_h_1, cov_h_left_1, same), cov_h_left_1, cov_h_right_1)
        def step_1(l, carry):
            …
        mom_phi_h, = lax.fori_loop(2, 9, step_1, (full(mom_phi_h_1),))
        return full(s_v_12 * mom_phi_h)

All values are elementwise in the pair: arrays (rows, columns) of the tile, (rows, 1) for what the left run alone
determines, (1, columns) for the right run, and numbers. Entries are written out as they are asked for; layers that are
alike become a loop, which keeps the kernel short and its values in the same registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy

from tensorprog import expectation, functions
from tensorprog import recursion as ir
from tensorprog.backend.fused.chain import Chain, NotFused
from tensorprog.backend.labelled import Code, combined, integer
from tensorprog.backend.module import (
    _Definitions,
    _law_lines,
    _Names,
    _one_run_reads,
    _run_source,
    _runtime_file,
    _unpack_reals,
    check_open,
)
from tensorprog.backend.schedule import Loop, Whole, schedule
from tensorprog.backend.trim import without_zero_borders
from tensorprog.expectation.source import HEADER
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.naming import identifier, plain, settled
from tensorprog.program.ir import Program
from tensorprog.recursion import Key, Recursion

ELEMENTWISE = frozenset(("arccosine", "arcsine", "errorfunction", "shapes", "trigonometric"))
"""Runtime modules of expectations that are arithmetic, entry by entry, of what Triton knows too."""
LEAST_STEPS = 4
"""Layers that are alike, from which on they become a loop."""
MOST_TERMS = 256

_LOOP = "·"  # the symbol of a loop's index; no program has it


@dataclass(frozen=True)
class SideTable:
    """A table of one run as the kernel has it: rows of numbers, one for each of its entries and sample.

    source: its name in what `run` returns, or that of an input; dims: sizes of its axes, the samples left out.
    """

    name: str
    source: str
    is_input: bool
    dims: tuple[int, ...]


@dataclass(frozen=True)
class GramTable:
    """<x, x'>/d of two vectors of data for all pairs: which arrays (by name in `run`'s result, or as inputs), at which
    indices, with the features along which axis."""

    names: tuple[str, str]
    are_inputs: tuple[bool, bool]
    indices: tuple[tuple[int, ...], tuple[int, ...]]
    feature_axes: tuple[int, int]


@dataclass(frozen=True)
class FusedModule:
    """Source that defines `tile`, and what it is called with.

    Its arguments: `grams`, a tuple of (rows, columns) arrays, one of `grams` each; `left` and `right`, dicts of
    functions from the number of an entry to its values, (rows, 1) and (1, columns), by the names of `sides`; `same`,
    boolean (rows, columns); `params`, `move` as those of `pair`; `sizes`, integers by the names of `features`. Gives
    the kernel, (rows, columns).
    """

    source: str
    grams: tuple[GramTable, ...]
    sides: tuple[SideTable, ...]
    features: tuple[str, ...]


class _Uneven(Exception):
    """A loop whose steps are not alike, or of which more is read than its last steps."""

    def __init__(self, loop: Loop):
        self.loop = loop


@dataclass
class _Rolled:
    """A loop that is being written: its first and last step, and where this step's and earlier steps' entries are."""

    loop: Loop
    first: int
    last: int
    current: dict[Key, str]
    earlier: Mapping[tuple[Key, int], str]
    sides: dict[str, str]


def build_fused(recursion: Recursion) -> FusedModule:
    """The fused module of a recursion. Raises NotFused, with the reason, where it has none, and ProgramError where a
    parameter that it needs has no value."""
    program: Program = recursion.program  # type: ignore[assignment]
    check_open(program)
    recursion = without_zero_borders(recursion)
    chain = Chain(recursion, program.integers)
    unrolled: list[Loop] = []
    while True:
        writer = _Writer(recursion, chain, unrolled)
        try:
            return writer.module()
        except _Uneven as uneven:
            unrolled.append(uneven.loop)


class _Writer:
    def __init__(self, recursion: Recursion, chain: Chain, unrolled: Sequence[Loop]):
        self.program: Program = recursion.program  # type: ignore[assignment]
        self.recursion = recursion
        self.chain = chain
        self.names = _Names(recursion, primed=True)
        self.definitions = _Definitions()
        self.lines: list[str] = []
        self.body: list[str] | None = None  # of the loop that is being written
        self.rolled: _Rolled | None = None
        self.values: dict[tuple[Key, tuple[int, ...]], str] = {}
        self.sides: dict[str, str] = {}
        self.side_tables: dict[str, SideTable] = {}
        self.grams: list[GramTable] = []
        self.under_way: set[tuple[Key, tuple[int, ...]]] = set()
        self.taken: set[str] = set()
        self.index = self.fresh("l")  # of the loop that is being written, as source
        tables = recursion.system("cross")
        self.loops: dict[Key, Loop] = {}
        self.done: set[int] = set()
        for item in schedule(tables, self.program.integers):
            if isinstance(item, Loop) and item not in unrolled and self._can_roll(item):
                self.loops.update(dict.fromkeys(item.keys, item))
        # What `run` hands over, and under which names: those of the plain module, which is written in the same way.
        handed = {
            r.key for t in tables for c in t.clauses for r in _one_run_reads(c.value) if recursion.tables[r.key].clauses
        }
        self.handed = sorted(handed, key=lambda k: (k.kind, k.families))
        _, self.run_names, _, _ = _run_source(recursion, _Definitions(), self.handed)

    def module(self) -> FusedModule:
        result = self.entry(self.chain.output, ())
        lines = [
            "def tile(grams, left, right, same, params, move, sizes):",
            '    """The kernel of a tile of pairs of samples: the cross stream, entry by entry of the tile."""',
            "    dtype = grams[0].dtype",
            *(f"    {identifier(f)} = sizes[{f!r}]" for f in self.program.features),
            *_unpack_reals(self.program),
            *_law_lines(self.names),
            "",
            "    def full(value):",
            "        return jnp.broadcast_to(jnp.asarray(value, dtype), same.shape)",
            "",
            *self.lines,
            f"    return full({result})",
        ]
        if not self.grams:
            raise NotFused("there is no Gram of inputs")
        blocks = [f'"""The cross stream of {self.program.name}, a tile of pairs at a time."""', "", HEADER.rstrip(), ""]
        blocks += [f"{identifier(name)} = {value}" for name, value in self.program.integers.items()]
        blocks += ["", "", expectation.runtime_source(self.definitions.runtime), "", _runtime_file("windows"), "", ""]
        return FusedModule(
            settled("\n".join([*blocks, *lines]) + "\n"),
            tuple(self.grams),
            tuple(self.side_tables.values()),
            tuple(self.program.features),
        )

    # ------------------------------------------------------------ lines and names

    def line(self, text: str) -> None:
        lines, indent = (self.lines, "    ") if self.body is None else (self.body, "        ")
        lines.append(indent + text if text else "")

    def fresh(self, stem: str) -> str:
        name, count = stem, 1
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name

    # ------------------------------------------------------------ entries

    def entry(self, key: Key, index: tuple[int, ...]) -> str:
        """The variable of an entry, written before it is first used, outside of loops."""
        if (key, index) in self.values:
            return self.values[key, index]
        loop = self.loops.get(key)
        if self.rolled is not None and loop is self.rolled.loop and index[0] >= self.rolled.first:
            raise _Uneven(self.rolled.loop)
        inside, body = self.rolled, self.body
        self.rolled, self.body = None, None
        try:
            if loop is not None and id(loop) not in self.done:
                first, last = self._steps(loop)
                if first <= index[0] <= last:
                    self._roll(loop, first, last)
            elif loop is not None:
                first, last = self._steps(loop)
                if first <= index[0] <= last:
                    raise _Uneven(loop)  # a step that the loop has forgotten
            if (key, index) not in self.values:
                self.values[key, index] = self._written(key, index)
            return self.values[key, index]
        finally:
            self.rolled, self.body = inside, body

    def _written(self, key: Key, index: tuple[int, ...]) -> str:
        if (key, index) in self.under_way:
            raise NotFused("an entry depends on itself")
        self.under_way.add((key, index))
        step = self.chain.step(key, index)
        stem = "_".join([self.names.table(key), *(str(i).replace("-", "m") for i in index)])
        if step is None or ir.is_zero(step.clause.value):
            name = self.fresh(stem)
            self.line(f"{name} = jnp.zeros(same.shape, dtype)")
            return name
        code = self.node(step.clause.value, step.indices)
        if code.text.isidentifier():
            return code.text
        name = self.fresh(stem)
        self.line(f"{name} = {code.text}")
        return name

    # ------------------------------------------------------------ loops

    def _can_roll(self, loop: Loop) -> bool:
        if loop.step != 1 or any(lag is None for lag in loop.lags.values()):
            return False
        if any(not isinstance(item, Whole) or len(self.chain.tables[item.key].axes) != 1 for item in loop.body):
            return False
        first, last = self._steps(loop)
        return last - first + 1 >= LEAST_STEPS

    def _steps(self, loop: Loop) -> tuple[int, int]:
        """The longest run of steps in which every table has the same clause; its first and last."""
        low = min(self.chain.ranges[k][0][0] for k in loop.keys)
        high = max(self.chain.ranges[k][0][1] for k in loop.keys)
        best, start, before = (0, -1), low, None
        for i in range(low, high + 1):
            steps = [self.chain.step(k, (i,)) for k in loop.keys]
            now = [None if s is None else id(s.clause) for s in steps]
            if now != before:
                start, before = i, now
            # A clause for one step alone has no index to follow.
            if all(s is None or s.indices for s in steps) and i - start > best[1] - best[0]:
                best = (start, i)
        return best

    def _roll(self, loop: Loop, first: int, last: int) -> None:
        """Equal steps as a loop that carries what later steps, and what follows the loop, read."""
        self.done.add(id(loop))
        outside = {
            r.key
            for t in self.chain.tables.values()
            if t.key not in loop.axes
            for c in t.clauses
            for r in ir.reads(c.value)
        }
        lags = {k: max(loop.lags[k] or 0, int(k in outside)) for k in loop.keys}
        carried = [(k, lag) for k in loop.keys for lag in range(1, lags[k] + 1)]
        inits = []
        for key, lag in carried:
            if lag > (loop.lags[key] or 0):
                inits.append("jnp.zeros(same.shape, dtype)")  # only its last value is of interest
            else:
                inits.append(f"full({self.entry(key, (first - lag,))})")
        before = {
            (key, lag): self.fresh(f"{self.names.table(key)}_before" + ("" if lag == 1 else str(lag)))
            for key, lag in carried
        }
        name, index = self.fresh("step"), self.index
        self.rolled = _Rolled(loop, first, last, {}, before, {})
        self.body = []
        for item in loop.body:
            assert isinstance(item, Whole)
            self.rolled.current[item.key] = self._rolled_entry(item.key, loop, first)
        current, body = self.rolled.current, self.body
        self.rolled, self.body = None, None
        results = [current[k] if lag == 1 else before[k, lag - 1] for k, lag in carried]
        self.line(f"def {name}({index}, carry):")
        self.line(f"    {', '.join(before.values())}, = carry")
        if any("position" in text for text in body):
            self.line(f"    position = jnp.asarray({index}, dtype)")
        self.lines += body
        self.line(f"    return ({', '.join(f'full({r})' for r in results)},)")
        self.line("")
        after = [self.fresh(self.names.table(key)) for key, _ in carried]
        ends = f"np.int32({first}), np.int32({last + 1})"  # 32 bits, also where JAX has wider integers switched on
        self.line(f"{', '.join(after)}, = lax.fori_loop({ends}, {name}, ({', '.join(inits)},))")
        for (key, lag), variable in zip(carried, after, strict=True):
            self.values[key, (last - lag + 1,)] = variable

    def _rolled_entry(self, key: Key, loop: Loop, first: int) -> str:
        step = self.chain.step(key, (first,))
        if step is None or ir.is_zero(step.clause.value):
            name = self.fresh(f"{self.names.table(key)}_here")
            self.line(f"{name} = jnp.zeros(same.shape, dtype)")
            return name
        moving = {s: value - first + Affine.symbol(_LOOP) for s, value in step.indices.items()}
        code = self.node(step.clause.value, moving)
        name = self.fresh(f"{self.names.table(key)}_here")
        self.line(f"{name} = {code.text}")
        return name

    def _everywhere(self, e: Affine) -> list[int]:
        """The values of an index expression over the steps of the loop around it."""
        if e.is_constant:
            return [e.constant]
        assert self.rolled is not None
        return [e.evaluate({_LOOP: i}) for i in range(self.rolled.first, self.rolled.last + 1)]

    def _settled(self, e: Affine, indices: Mapping[str, Affine]) -> Affine:
        """An index expression as an integer, or in the index of the loop around it."""
        e = e.substitute(indices).substitute(self.chain.known)
        if e.symbols - {_LOOP}:
            raise NotFused(f"the index {e} depends on what the data give")
        return e

    def _integers(self, indices: Mapping[str, Affine]) -> list[dict[str, int]]:
        """The indices as integers, at every step of the loop around them."""
        if all(e.is_constant for e in indices.values()):
            return [{s: e.constant for s, e in indices.items()}]
        assert self.rolled is not None
        return [
            {s: e.evaluate({_LOOP: i}) for s, e in indices.items()}
            for i in range(self.rolled.first, self.rolled.last + 1)
        ]

    def _hold(self, conditions: Sequence[Condition], indices: Mapping[str, Affine]) -> bool:
        verdicts = {self.chain.hold(conditions, values) for values in self._integers(indices)}
        if len(verdicts) > 1:
            assert self.rolled is not None
            raise _Uneven(self.rolled.loop)
        return verdicts.pop()

    # ------------------------------------------------------------ nodes

    def node(self, node: ir.Node, indices: Mapping[str, Affine]) -> Code:
        match node:
            case ir.Constant(value):
                return self.number(value, indices)
            case ir.LawVariance():
                return self.law(node, indices)
            case ir.Read():
                return self.read(node, indices)
            case ir.Gram():
                return self.gram(node, indices)
            case ir.Add(terms):
                return combined("+", [self.node(t, indices) for t in terms], ())
            case ir.Product(factors):
                return combined("*", [self.node(f, indices) for f in factors], ())
            case ir.Sum():
                return self.sum(node, indices)
            case ir.Where():
                return self.node(node.then if self._hold(node.conditions, indices) else node.otherwise, indices)
            case ir.Apply():
                return self.apply(node, indices)
            case ir.PairExpectation():
                return self.pair(node, indices)
        raise NotFused(f"{type(node).__name__} is no arithmetic of a single pair")

    def number(self, value: sympy.Expr, indices: Mapping[str, Affine]) -> Code:
        names = {s: self.symbol(s, indices) for s in value.free_symbols}
        return Code(functions.jax_code(value, names), atomic=value.is_Symbol or (value.is_Integer and value >= 0))

    def symbol(self, s: sympy.Symbol, indices: Mapping[str, Affine]) -> str:
        if s.name in indices:
            e = indices[s.name]
            return str(e.constant) if e.is_constant else integer(e, {_LOOP: "position"}.__getitem__)
        known = (*self.program.reals, *self.program.integers, *self.program.features)
        if s.name not in known:
            raise NotFused(f"{s.name} is given by the data")
        return self.names.scalar(s, {})

    def law(self, node: ir.LawVariance, indices: Mapping[str, Affine]) -> Code:
        for s in (*node.scale.free_symbols, *(node.tangent.free_symbols if node.tangent is not None else ())):
            self.symbol(s, indices)
        if not any(s.name in indices for s in node.scale.free_symbols):
            name = self.names.law(node)
            self.taken.add(name)
            return Code(name)
        scale = self.number(node.scale, indices)
        if not node.moves or node.tangent is None:
            return scale
        tangent = self.number(node.tangent, indices)
        return combined("+", [scale, Code(f"move[{node.parameter!r}] * {tangent.wrapped()}", atomic=False)], ())

    def sum(self, node: ir.Sum, indices: Mapping[str, Affine]) -> Code:
        kinds = [[tuple(m.values()) for m in self.chain.members(node.ranges, i)] for i in self._integers(indices)]
        if any(k != kinds[0] for k in kinds):
            assert self.rolled is not None
            raise _Uneven(self.rolled.loop)
        if len(kinds[0]) > MOST_TERMS:
            raise NotFused(f"a sum of {len(kinds[0])} terms")
        terms = []
        for values in kinds[0]:
            inner = {**indices, **{r.name: Affine(v) for r, v in zip(node.ranges, values, strict=True)}}
            if self._hold(node.conditions, inner):
                terms.append(self.node(node.body, inner))
        return combined("+", terms, ()) if terms else Code("0.0")

    def apply(self, node: ir.Apply, indices: Mapping[str, Affine]) -> Code:
        names = {s: self.node(a, indices).wrapped() for s, a in node.arguments}
        for s in node.expression.free_symbols - names.keys():
            names[s] = self.number(s, indices).wrapped()
        return Code(functions.jax_code(node.expression, names), atomic=False)

    def read(self, node: ir.Read, indices: Mapping[str, Affine]) -> Code:
        places = tuple(self._settled(e, indices) for e in node.indices)
        if node.side is not None:
            return self.side(node.key, places, node.side)
        if all(e.is_constant for e in places):
            return Code(self.entry(node.key, tuple(e.constant for e in places)))
        assert self.rolled is not None
        if node.key not in self.rolled.loop.axes or len(places) != 1:
            raise _Uneven(self.rolled.loop)
        distance = Affine.symbol(_LOOP) - places[0]
        if not distance.is_constant:
            raise _Uneven(self.rolled.loop)
        lag = distance.constant
        found = self.rolled.current.get(node.key) if lag == 0 else self.rolled.earlier.get((node.key, lag))
        if found is None:
            raise _Uneven(self.rolled.loop)
        return Code(found)

    def side(self, key: Key, places: Sequence[Affine], side: str) -> Code:
        """An entry of one run's table, read once where it is used."""
        is_input = key not in self.run_names.run_dims
        dims = ("n", *range(len(places))) if is_input else self.run_names.run_dims[key]
        if "feature" in dims:
            raise NotFused(f"the vector {key.families[0]} is read as a number")
        ends = {d: self.chain.ends(self.recursion.tables[key].axes[d].range) for d in dims if isinstance(d, int)}
        row, sizes = Affine(0), []
        for d in dims:
            if not isinstance(d, int):
                continue
            low, high = ends[d]
            inside = {low <= i <= high for i in self._everywhere(places[d])}
            if len(inside) > 1:
                assert self.rolled is not None
                raise _Uneven(self.rolled.loop)
            if False in inside:
                return Code("0.0")
            row = row * (high - low + 1) + (places[d] - low)
            sizes.append(high - low + 1)
        name = (self.names if is_input else self.run_names).table(key)
        label = plain(name)
        table = SideTable(label, key.families[0] if is_input else label, is_input, tuple(sizes))
        self.side_tables.setdefault(label, table)
        here = integer(row, {_LOOP: self.index}.__getitem__)
        text = f"{side}[{label!r}]({here})"
        moving = not row.is_constant
        cache = self.rolled.sides if moving and self.rolled is not None else self.sides
        if text not in cache:
            cache[text] = self.fresh(f"{name}_{side}" + ("" if moving else f"_{row.constant}"))
            inside_loop, body = self.rolled, self.body
            if not moving:
                self.rolled, self.body = None, None
            self.line(f"{cache[text]} = {text}")
            self.rolled, self.body = inside_loop, body
        return Code(cache[text])

    def gram(self, node: ir.Gram, indices: Mapping[str, Affine]) -> Code:
        names, inputs, places, features = [], [], [], []
        for name, where in zip(node.names, (node.left, node.right), strict=True):
            settled = [self._settled(e, indices) for e in where]
            if not all(e.is_constant for e in settled):
                assert self.rolled is not None
                raise _Uneven(self.rolled.loop)
            key = Key(ir.DATA, "self", (name,))
            is_input = key not in self.run_names.run_dims
            dims = (*range(len(settled)), "feature") if is_input else self.run_names.run_dims[key][1:]
            at = []
            for d in dims:
                if isinstance(d, int):
                    low, high = self.chain.ends(self.recursion.tables[key].axes[d].range)
                    if not low <= settled[d].constant <= high:
                        return Code("0.0")
                    at.append(settled[d].constant - low)
            names.append(name if is_input else plain(self.run_names.table(key)))
            inputs.append(is_input)
            places.append(tuple(at))
            features.append(dims.index("feature"))
        table = GramTable(
            (names[0], names[1]), (inputs[0], inputs[1]), (places[0], places[1]), (features[0], features[1])
        )
        if table not in self.grams:
            self.grams.append(table)
        return Code(f"grams[{self.grams.index(table)}]")

    # ------------------------------------------------------------ expectations

    def pair(self, node: ir.PairExpectation, indices: Mapping[str, Affine]) -> Code:
        plan, left, right = self.definitions.pair(node)
        if plan.definitions or not set(plan.runtime) <= ELEMENTWISE:
            raise NotFused(f"the expectation of {node.f} and {node.g} is no closed form ({plan.rule})")
        k, p, q = (self.node(x, indices) for x in (node.k, node.p, node.q))
        mu, nu = (None if x is None else self.node(x, indices).wrapped() for x in (node.mu, node.nu))
        if self.definitions.singular(node) and node.same is not None and self._hold(node.same, indices):
            k = Code(f"equal_where({k.text}, {p.text}, same)")
        text = plan.call(
            k.wrapped(),
            p.wrapped(),
            q.wrapped(),
            mu,
            nu,
            self._scalars(node.scalars_f, left, node.f, node.z, indices),
            self._scalars(node.scalars_g, right, node.g, node.w, indices),
        )
        return Code(text, atomic=False)

    def _scalars(self, scalars, names, expression: sympy.Expr, variable: sympy.Symbol, indices):
        result = {names[s]: self.node(n, indices).wrapped() for s, n in scalars}
        for s in expression.free_symbols:
            if s not in names and s != variable:
                result[s] = self.number(s, indices).wrapped()
        return result
