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

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tensorprog import expectation
from tensorprog import recursion as ir
from tensorprog.backend.code.printer import lines as printed
from tensorprog.backend.code.tree import (
    Blank,
    Def,
    Expr,
    Let,
    Name,
    Return,
    Statement,
    TupleOf,
    call,
    index,
    let,
    names,
    text,
)
from tensorprog.backend.fused.chain import Chain, NotFused
from tensorprog.backend.fused.place import LOOP, Place, Uneven
from tensorprog.backend.fused.tables import FusedModule, GramTable, SideTable
from tensorprog.backend.lower import arguments
from tensorprog.backend.lower.definitions import Definitions
from tensorprog.backend.lower.functions import handed_keys, run_function
from tensorprog.backend.lower.indices import as_number
from tensorprog.backend.lower.names import Names
from tensorprog.backend.module import check_open, runtime_file
from tensorprog.backend.schedule import Loop, Whole, schedule
from tensorprog.backend.trim import without_zero_borders
from tensorprog.expectation.source import HEADER
from tensorprog.index.affine import Affine
from tensorprog.index.fresh import numbered
from tensorprog.naming import identifier, settled
from tensorprog.recursion import Key, Recursion

LEAST_STEPS = 4
"""Layers that are alike, from which on they become a loop."""
NOTHING = call("jnp.zeros", "same.shape", "dtype")


@dataclass
class Rolled:
    """A loop that is being written: its first and last step, its statements so far, and where this step's and earlier
    steps' entries are."""

    loop: Loop
    first: int
    last: int
    body: list[Let]
    current: dict[Key, Expr]
    earlier: Mapping[tuple[Key, int], Name]
    sides: dict[Expr, Name]


def build_fused(recursion: Recursion) -> FusedModule:
    """The fused module of a recursion. Raises NotFused, with the reason, where it has none, and ProgramError where a
    parameter that it needs has no value."""
    program = recursion.program
    check_open(program)
    recursion = without_zero_borders(recursion)
    chain = Chain(recursion, program.integers)
    unrolled: list[Loop] = []
    while True:
        writer = Writer(recursion, chain, unrolled)
        try:
            return writer.module()
        except Uneven as uneven:
            unrolled.append(uneven.loop)


class Writer:
    """Writes a tile, entry by entry as they are asked for; loops but for those in `unrolled` as loops."""

    def __init__(self, recursion: Recursion, chain: Chain, unrolled: Sequence[Loop]):
        self.program = recursion.program
        self.recursion = recursion
        self.chain = chain
        self.names = Names(recursion, primed=True)
        self.definitions = Definitions()
        self.statements: list[Statement] = []
        self.rolled: Rolled | None = None
        self.values: dict[tuple[Key, tuple[int, ...]], Expr] = {}
        self.sides: dict[Expr, Name] = {}
        self.side_tables: dict[str, SideTable] = {}
        self.grams: list[GramTable] = []
        self.under_way: set[tuple[Key, tuple[int, ...]]] = set()
        self.taken: set[str] = set()
        self.index = self.fresh("l").name  # of the loop that is being written
        self.loops: dict[Key, Loop] = {}
        self.done: set[int] = set()
        for item in schedule(recursion.system("cross"), self.program.integers):
            if isinstance(item, Loop) and item not in unrolled and self._can_roll(item):
                self.loops.update(dict.fromkeys(item.keys, item))
        # What `run` hands over, and under which names: those of the plain module, which is written in the same way.
        self.run = run_function(recursion, Definitions(), handed_keys(recursion))

    def module(self) -> FusedModule:
        result = self.entry(self.chain.output, ())
        if not self.grams:
            raise NotFused("there is no Gram of inputs")
        broadcast = call("jnp.broadcast_to", as_number(Name("value")), "same.shape")
        code = Def(
            "tile",
            ("grams", "left", "right", "same", "params", "move", "sizes"),
            (
                let("dtype", "grams[0].dtype"),
                *(let(identifier(f), index("sizes", text(f))) for f in self.program.features),
                *arguments.reals(self.program),
                *arguments.laws(self.names),
                Blank(),
                Def("full", ("value",), (Return(broadcast),)),
                Blank(),
                *self.statements,
                Return(call("full", result)),
            ),
            ("The kernel of a tile of pairs of samples: the cross stream, entry by entry of the tile.",),
        )
        lines = [f'"""The cross stream of {self.program.name}, a tile of pairs at a time."""', "", HEADER.rstrip(), ""]
        lines += printed(let(identifier(name), value) for name, value in self.program.integers.items())
        lines += ["", "", expectation.runtime_source(self.definitions.runtime), "", runtime_file("windows"), "", ""]
        return FusedModule(
            settled("\n".join([*lines, *printed([code])]) + "\n"),
            tuple(self.grams),
            tuple(self.side_tables.values()),
            tuple(self.program.features),
        )

    # ------------------------------------------------------------ statements and names

    def fresh(self, stem: str) -> Name:
        return Name(self.taking(numbered(stem, self.taken)))

    def taking(self, name: str) -> str:
        self.taken.add(name)
        return name

    def named(self, stem: str, value: Expr) -> Name:
        """A value under a name, in the loop that is being written or before it."""
        variable = self.fresh(stem)
        (self.statements if self.rolled is None else self.rolled.body).append(Let(variable, value))
        return variable

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """Before the loop that is being written."""
        rolled, self.rolled = self.rolled, None
        try:
            yield
        finally:
            self.rolled = rolled

    def read_once(self, value: Expr, stem: str, moving: bool) -> Expr:
        """A value that is read under a name, once; moving: it differs from step to step."""
        if moving and self.rolled is not None:
            if value not in self.rolled.sides:
                self.rolled.sides[value] = self.named(stem, value)
            return self.rolled.sides[value]
        if value not in self.sides:
            with self._outside():
                self.sides[value] = self.named(stem, value)
        return self.sides[value]

    # ------------------------------------------------------------ entries

    def entry(self, key: Key, index: tuple[int, ...]) -> Expr:
        """The variable of an entry, written before it is first used, outside of loops."""
        if (key, index) in self.values:
            return self.values[key, index]
        loop = self.loops.get(key)
        if self.rolled is not None and loop is self.rolled.loop and index[0] >= self.rolled.first:
            raise Uneven(self.rolled.loop)
        with self._outside():
            if loop is not None:
                first, last = self._steps(loop)
                if first <= index[0] <= last:
                    if id(loop) in self.done:
                        raise Uneven(loop)  # a step that the loop has forgotten
                    self._roll(loop, first, last)
            if (key, index) not in self.values:
                self.values[key, index] = self._written(key, index)
        return self.values[key, index]

    def _written(self, key: Key, index: tuple[int, ...]) -> Expr:
        if (key, index) in self.under_way:
            raise NotFused("an entry depends on itself")
        self.under_way.add((key, index))
        step = self.chain.step(key, index)
        stem = "_".join([self.names.table(key), *(str(i).replace("-", "m") for i in index)])
        if step is None or ir.is_zero(step.clause.value):
            return self.named(stem, NOTHING)
        value = Place(self, step.indices).lower(step.clause.value)
        return value if isinstance(value, Name) else self.named(stem, value)

    # ------------------------------------------------------------ loops

    def steps_around(self) -> range:
        """The steps of the loop that is being written."""
        assert self.rolled is not None
        return range(self.rolled.first, self.rolled.last + 1)

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
            # Of what no step reads, only the last value is of interest.
            inits.append(_full(self.entry(key, (first - lag,))) if lag <= (loop.lags[key] or 0) else NOTHING)
        before = {
            (key, lag): self.fresh(f"{self.names.table(key)}_before{'' if lag == 1 else lag}") for key, lag in carried
        }
        step = self.fresh("step")
        rolled = self.rolled = Rolled(loop, first, last, [], {}, before, {})
        for item in loop.body:
            assert isinstance(item, Whole)
            rolled.current[item.key] = self._rolled_entry(item.key, first)
        self.rolled = None
        results = [rolled.current[k] if lag == 1 else before[k, lag - 1] for k, lag in carried]
        body: list[Statement] = [let(TupleOf(tuple(before.values())), "carry")]
        if any("position" in names(s.value) for s in rolled.body):
            body.append(let("position", as_number(Name(self.index))))
        body += [*rolled.body, Return(TupleOf(tuple(map(_full, results))))]
        after = [self.fresh(self.names.table(key)) for key, _ in carried]
        ends = [
            call("np.int32", i) for i in (first, last + 1)
        ]  # 32 bits, also where JAX has wider integers switched on
        result = call("lax.fori_loop", *ends, step, TupleOf(tuple(inits)))
        self.statements += [
            Def(step.name, (self.index, "carry"), tuple(body)),
            Blank(),
            let(TupleOf(tuple(after)), result),
        ]
        for (key, lag), variable in zip(carried, after, strict=True):
            self.values[key, (last - lag + 1,)] = variable

    def _rolled_entry(self, key: Key, first: int) -> Name:
        step, stem = self.chain.step(key, (first,)), f"{self.names.table(key)}_here"
        if step is None or ir.is_zero(step.clause.value):
            return self.named(stem, NOTHING)
        moving = {s: value - first + Affine.symbol(LOOP) for s, value in step.indices.items()}
        return self.named(stem, Place(self, moving).lower(step.clause.value))


def _full(value: Expr) -> Expr:
    return call("full", value)
