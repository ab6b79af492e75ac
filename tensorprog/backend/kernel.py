"""The Kernel: a recursion compiled for JAX, evaluated in tiles of pairs of samples."""

from __future__ import annotations

import linecache
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog.backend.memory import Footprint, available_memory, device_memory
from tensorprog.backend.module import Module, build_module
from tensorprog.backend.tiles import Tiling, pieces, tiling
from tensorprog.program.ir import Program
from tensorprog.recursion import Recursion
from tensorprog.settings import given, learning_rates, real_parameters, trained_parameters

Arrays = Mapping[str, Any]
Progress = Callable[[int, int], None]

KINDS = ("nngp", "ntk")
TILE_BYTES = 256 * 2**20
TOGETHER_BYTES = 2**20


class Sizes(NamedTuple):
    """Entries of tables: of one sample's run, of one pair, of its largest table in use at a time, of its kernel."""

    run: int
    pair: int
    largest: int
    output: int


class Plan(NamedTuple):
    """How data of certain shapes are worked through. together: in one call of one compiled function."""

    tiles: Tiling
    together: bool


class Trained(NamedTuple):
    """The parameters that count as trained, by name, and their learning rates, of which None stands for 1 each."""

    names: tuple[str, ...]
    rates: dict[str, Any] | None

    def moves(self, move, every: Sequence[str]) -> dict[str, Any]:
        """How far each parameter moves where those at the rate 1 move by `move`."""
        rates = self.rates or {}
        return {p: (move * rates[p] if p in rates else move) if p in self.names else 0.0 for p in every}


@lru_cache
def _result_type(names: tuple[str, ...]):
    return namedtuple("Kernels", names)


class Kernel:
    """The kernels of a program's output as a function of data.

    tile: samples a side in one tile of pairs; chosen from the tables' sizes where it is None.
    dtype: of the computation; that of the inputs where it is None.
    progress: called with (tiles done, tiles in all).
    """

    def __init__(
        self,
        recursion: Recursion,
        *,
        tile: int | None = None,
        dtype: Any = None,
        progress: Progress | None = None,
    ):
        if tile is not None and (not isinstance(tile, int) or tile < 1):
            raise ValueError(f"tile is a positive number of samples, not {tile!r}")
        self.recursion = recursion
        self.tile = tile
        self.dtype = dtype
        self.progress = progress
        self._known_sizes: dict[tuple, Sizes] = {}
        self._known_plans: dict[tuple, Plan] = {}

    @cached_property
    def module(self) -> Module:
        """The generated module: what runs here and what `--emit kernel` writes."""
        return build_module(self.recursion)

    @property
    def program(self) -> Program:
        return self.recursion.program  # type: ignore[return-value]

    @cached_property
    def _namespace(self) -> dict[str, Any]:
        return self._executed()

    def _executed(self) -> dict[str, Any]:
        """What the generated module defines."""
        name = f"<kernel of {self.program.name}>"
        source = self.module.source
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        namespace: dict[str, Any] = {"__name__": f"tensorprog_kernel_{self.program.name}"}
        exec(compile(source, name, "exec"), namespace)
        return namespace

    @cached_property
    def _run(self):
        run = self._namespace["run"]
        return jax.jit(lambda x, params: run(x, self._constants if params is None else params))

    @property
    def _constants(self) -> dict[str, float]:
        """The program's own parameters: constants of what is compiled where a call gives no others."""
        return self._namespace["PARAMETERS"]

    @cached_property
    def _pair(self):
        return jax.jit(self._evaluate, static_argnames=("names", "wrt"))

    def _evaluate(self, x1, x2, left, right, same, params, rates, names: tuple[str, ...], wrt: tuple[str, ...]):
        """The kernels of that name for one tile; one pass for both."""
        params = self._constants if params is None else params

        def cross(move):
            moves = Trained(wrt, rates).moves(move, self.module.trained)
            return self._namespace["pair"](x1, x2, left, right, same, params, moves)

        zero = jnp.zeros((), self._dtype_of(x1))
        if "ntk" in names:
            nngp, ntk = jax.jvp(cross, (zero,), (jnp.ones_like(zero),))
            return tuple({"nngp": nngp, "ntk": ntk}[n] for n in names)
        return tuple(cross(zero) for _ in names)

    @cached_property
    def _together(self):
        return jax.jit(self._both_runs, static_argnames=("names", "wrt"))

    def _both_runs(self, x1, x2, params, rates, names: tuple[str, ...], wrt: tuple[str, ...]):
        """As `_evaluate`, from the data alone; x2 None stands for x1."""
        if x2 is None:
            left = right = self._run(x1, params)
            same = jnp.eye(_samples(x1), dtype=bool)
        else:
            left, right = self._run(x1, params), self._run(x2, params)
            same = self._same(x1, x2)
        return self._pair(x1, x1 if x2 is None else x2, left, right, same, params, rates, names=names, wrt=wrt)

    # ------------------------------------------------------------ calls

    def __call__(
        self,
        x1: Arrays,
        x2: Arrays | None = None,
        get: str | Sequence[str] = KINDS,
        params: Mapping[str, Any] | None = None,
        wrt: str | Sequence[str] | None = None,
        rates: Mapping[str, Any] | None = None,
    ):
        """Kernels between the samples of x1 and of x2 (of x1 with itself where x2 is None).

        x1, x2: dicts of arrays (N, *axes, d) by input, all of one floating dtype. get: "nngp", "ntk" or a tuple of
        these. params: values of real parameters, which may be traced. wrt: the parameters that count as trained;
        rates: their learning rates in the NTK, which may be traced too, 1 where none is given.
        Returns an array (N1, N2, *output axes of x1, *output axes of x2), or a named tuple of such.
        Raises ValueError for an unknown kernel or parameter, and for an NTK that does not exist.
        """
        names = (get,) if isinstance(get, str) else tuple(get)
        self._check_names(names)
        values = self._values(params) if given(params) else None
        x1 = self._of_one_dtype(x1)
        x2 = None if x2 is None else self._of_one_dtype(x2)
        trained = self._trained(wrt, rates, x1)
        leaves = (d.values() for d in (x1, x2, values, trained.rates) if d)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in chain.from_iterable(leaves)):
            results = self._both_runs(x1, x2, values, trained.rates, names, trained.names)
        else:
            results = self._tiled(x1, x2, values, names, trained)
        return results[0] if isinstance(get, str) else _result_type(names)(*results)

    def limits(self, x1: Arrays | None = None, params: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """The limits of the outputs of type C: arrays (N, *axes), without N where the program has no input."""
        if not x1:
            # Numbers that depend on no data have no dtype to follow: they come in double precision.
            with jax.enable_x64(True):
                tables = self._run({}, self._values(params))
                return {name: np.asarray(tables[table][0]) for name, table in self.module.limits.items()}
        tables = self._run(self._cast(x1), self._values(params))
        return {name: np.asarray(tables[table]) for name, table in self.module.limits.items()}

    def limits_with_errors(self, x1: Arrays | None = None, params: Mapping[str, Any] | None = None):
        """The limits, each with its standard error, which is zero here: name → (array, array)."""
        return {name: (value, np.zeros_like(value)) for name, value in self.limits(x1, params).items()}

    def excess(self, x: Arrays, params: Mapping[str, Any] | None = None, *_) -> float:
        """The largest variance in the runs on x, as a multiple of what the rules that read it cover; inf where a rule
        is coarse at any variance."""
        tables = self._run(self._cast(x), self._values(params))
        reach = self.module.reach.items()
        return max((float(jnp.max(tables[name])) / bound if bound else np.inf for name, bound in reach), default=0.0)

    def _check_names(self, names: Sequence[str]) -> None:
        for n in names:
            if n not in KINDS:
                raise ValueError(f"there is no kernel {n!r}: get is 'nngp', 'ntk' or a tuple of them")
        if not names:
            raise ValueError("get names no kernel: it is 'nngp', 'ntk' or a tuple of them")
        if self.recursion.output is None:
            raise ValueError(f"{self.program.name} has no readout, so no kernel: ask for its limits")
        if "ntk" in names and self.module.obstacle:
            raise ValueError(self.module.obstacle)

    def _trained(self, wrt: str | Sequence[str] | None, rates: Mapping[str, Any] | None, x1: Arrays) -> Trained:
        """What is trained, with rates in the dtype of the data; what stands still is left out where that is known."""
        if wrt is None and not given(rates):
            return Trained(self.program.trained, None)
        names, chosen = trained_parameters(self.program, wrt), learning_rates(self.program, rates)
        still = {p for p, rate in chosen.items() if not isinstance(rate, jax.core.Tracer) and float(rate) == 0}
        names = tuple(p for p in names if p not in still)
        dtype = self._dtype_of(x1)
        return Trained(names, {p: jnp.asarray(r, dtype) for p, r in chosen.items() if p in names} or None)

    @staticmethod
    def _dtype_of(x: Arrays):
        return next(iter(x.values())).dtype if x else jnp.asarray(0.0).dtype

    def _values(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**self._constants, **(real_parameters(self.program, params) or {})}

    def _cast(self, x: Arrays) -> dict[str, Any]:
        return _on_device(self._of_one_dtype(x))

    def _of_one_dtype(self, x: Arrays) -> dict[str, Any]:
        """The inputs in order. NumPy arrays of that dtype stay such: a compiled function takes them as they are."""
        arrays = {f.name: x[f.name] for f in self.program.inputs}
        dtype = self.dtype
        if dtype is None:
            dtype = np.result_type(*(np.dtype(a.dtype) for a in arrays.values()), np.float32)
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        return {
            name: a if type(a) is np.ndarray and a.dtype == dtype else jnp.asarray(a, dtype)
            for name, a in arrays.items()
        }

    # ------------------------------------------------------------ evaluation

    _in_one_function = True
    """Whether a small kernel is evaluated by one function, run and pair together."""

    def _plan(self, x1, x2, names: tuple[str, ...]) -> Plan:
        """How such data are worked through, decided once for data of the same shapes.

        Raises ValueError where the result or one pair does not fit into the memory.
        """
        shapes = tuple(tuple(a.shape for a in x.values()) for x in (x1, x2) if x is not None)
        key = shapes, _itemsize(x1), names, self.tile, self._in_one_function
        if key not in self._known_plans:
            other = x1 if x2 is None else x2
            n1, n2 = _samples(x1), _samples(other)
            tiles = self._tiling(x1, x2, names)
            sizes = self._sizes(x1, other)
            total = n1 * n2 * sizes.output * _itemsize(x1) * len(names)
            memory = available_memory()
            if total > memory:
                raise ValueError(
                    f"the result of {n1} × {n2} samples takes {_bytes(total)}, more than the {_bytes(memory)} of memory"
                )
            runs = (n1 if x2 is None else n1 + n2) * sizes.run * _itemsize(x1)
            small = runs <= TOGETHER_BYTES and self._in_one_function
            self._known_plans[key] = Plan(tiles, tiles.whole and small)
        return self._known_plans[key]

    def _tiled(self, x1, x2, values, names, trained):
        tiles, together = self._plan(x1, x2, names)
        if together:
            blocks = self._together(x1, x2, values, trained.rates, names=names, wrt=trained.names)
            self._report(1, 1)
            return blocks
        n1, n2 = tiles.n1, tiles.n2
        x1 = _on_device(x1)
        x2 = None if x2 is None else _on_device(x2)
        if tiles.whole:
            ((_, _, blocks),) = self._blocks(x1, x2, values, names, trained, tiles)
            return blocks
        results: list[np.ndarray] = []
        for i, j, blocks in self._blocks(x1, x2, values, names, trained, tiles):
            if not results:
                results = [np.empty((n1, n2, *k.shape[2:]), k.dtype) for k in blocks]
            for whole, block in zip(results, blocks, strict=True):
                tiles.place(whole, np.asarray(block), i, j)
        return tuple(jnp.asarray(r) for r in results)

    def stream(
        self,
        create: Callable[[str, tuple[int, ...], np.dtype], Any],
        x1: Arrays,
        x2: Arrays | None = None,
        get: Sequence[str] = KINDS,
        params: Mapping[str, Any] | None = None,
        wrt: str | Sequence[str] | None = None,
        rates: Mapping[str, Any] | None = None,
    ) -> dict[str, bool]:
        """Kernels as in a call, each tile put into the array that `create(name, shape, dtype)` gave for its kernel.

        Such an array may be mapped from a file: no more than a few tiles are in memory at a time. Returns for each
        kernel whether all entries are finite. Raises ValueError as a call does, except that the result may exceed the
        memory.
        """
        names = tuple(get)
        self._check_names(names)
        values = self._values(params) if given(params) else None
        x1 = self._cast(x1)
        x2 = None if x2 is None else self._cast(x2)
        trained = self._trained(wrt, rates, x1)
        tiles = self._tiling(x1, x2, names)
        results: list[Any] = []
        finite = dict.fromkeys(names, True)
        for i, j, blocks in self._blocks(x1, x2, values, names, trained, tiles):
            if not results:
                results = [
                    create(name, (tiles.n1, tiles.n2, *k.shape[2:]), np.dtype(k.dtype))
                    for name, k in zip(names, blocks, strict=True)
                ]
            for name, whole, block in zip(names, results, blocks, strict=True):
                block = np.asarray(block)
                finite[name] = finite[name] and bool(np.isfinite(block).all())
                tiles.place(whole, block, i, j)
        return finite

    def _tiling(self, x1, x2, names) -> Tiling:
        """How the pairs are cut. Raises ValueError where one pair does not fit into the memory."""
        other = x1 if x2 is None else x2
        sizes = self._sizes(x1, other)
        itemsize = _itemsize(x1)
        copies = 2 if "ntk" in names else 1
        memory = device_memory()
        if sizes.pair * itemsize * copies > memory or sizes.run * itemsize > memory:
            raise ValueError(
                f"one pair of these inputs takes {_bytes(max(sizes.pair * copies, sizes.run) * itemsize)} of tables, "
                f"more than the {_bytes(memory)} of memory"
            )
        return tiling(
            _samples(x1),
            _samples(other),
            x2 is None,
            tile=self.tile,
            table=sizes.largest * itemsize,
            tables=sizes.pair * itemsize * copies,
            cpu=jax.default_backend() == "cpu",
            memory=memory,
        )

    def _blocks(self, x1, x2, values, names, trained, tiles: Tiling):
        """(start in x1, start in x2, kernels) of one tile after another; the next is under way when one is given."""
        symmetric = x2 is None
        other = x1 if symmetric else x2
        run_size = self._sizes(x1, other).run
        held = (tiles.n1 + (0 if symmetric else tiles.n2)) * run_size * _itemsize(x1)
        first: Callable[[int, int], Any]
        second: Callable[[int, int], Any]
        if held > device_memory() / 8:
            # What the inputs determine one by one would take too much: it is computed again for every tile.
            first, second = (lambda i, size, x=x: self._runs(_cut(x, i, size), values, run_size) for x in (x1, other))
        else:
            left = self._runs(x1, values, run_size)
            right = left if symmetric else self._runs(other, values, run_size)
            first, second = (lambda i, size, run=run: _cut(run, i, size) for run in (left, right))
        under_way: tuple[int, int, Any] | None = None
        done, total = 0, len(tiles.corners)
        row, a, of_a = -1, None, None
        for i, j in tiles.corners:
            if i != row:
                row, a, of_a = i, _cut(x1, i, tiles.rows), first(i, tiles.rows)
            b, of_b = _cut(other, j, tiles.columns), second(j, tiles.columns)
            blocks = self._block(a, b, of_a, of_b, (i, j), symmetric, values, names, trained)
            if under_way is not None:
                yield under_way
                done += 1
                self._report(done, total)
            under_way = (i, j, blocks)
        if under_way is not None:
            yield under_way
            self._report(total, total)

    def _block(self, x1, x2, left, right, corner: tuple[int, int], symmetric: bool, values, names, trained):
        """The kernels of one tile of pairs, which begins at `corner` in either batch, or in the one where symmetric."""
        if symmetric:
            rows, columns = (i + jnp.arange(_samples(x)) for i, x in zip(corner, (x1, x2), strict=True))
            same = rows[:, None] == columns[None, :]
        else:
            same = self._same(x1, x2)
        return self._pair(x1, x2, left, right, same, values, trained.rates, names=names, wrt=trained.names)

    @cached_property
    def _same(self):
        return jax.jit(self._namespace["same_inputs"])

    def _runs(self, x, values, run_size: int):
        """`run` on all samples, in pieces that bound its memory."""
        n = _samples(x)
        size = max(1, min(n, int(TILE_BYTES / (run_size * _itemsize(x)))))
        if size == n:
            return self._run(x, values)
        parts = [self._run(_cut(x, i, number), values) for i, number in pieces(n, size)]
        return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)

    def _sizes(self, x1, x2) -> Sizes:
        """How large the tables of such data are, counted once for data of the same shapes."""
        shapes = tuple(tuple(a.shape[1:] for a in x.values()) for x in (x1, x2))
        if shapes not in self._known_sizes:
            self._known_sizes[shapes] = self._counted(x1, x2)
        return self._known_sizes[shapes]

    def _counted(self, x1, x2) -> Sizes:
        footprint = Footprint(self.program, self.module.footprint)
        first, second = footprint.sizes_of(x1), footprint.sizes_of(x2)
        output = self.recursion.tables[self.recursion.output]  # type: ignore[index]
        return Sizes(
            run=max(footprint.entries("run", first, {}), footprint.entries("run", second, {}), 1),
            pair=max(footprint.entries("pair", first, second), 1),
            largest=max(footprint.largest("step", first, second), 1),
            output=max(footprint.count([a.range for a in output.axes], first, second), 1),
        )

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


def _samples(x: Arrays) -> int:
    return next(iter(x.values())).shape[0] if x else 1


def _itemsize(x: Arrays) -> int:
    return next(iter(x.values())).dtype.itemsize if x else 8


def _on_device(x: Arrays) -> dict[str, Any]:
    return {name: jnp.asarray(a) for name, a in x.items()}


def _cut(tree, start: int, size: int):
    return jax.tree.map(lambda a: a[start : start + size], tree)


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
