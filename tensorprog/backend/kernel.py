"""The Kernel: a recursion compiled for JAX, evaluated in tiles of pairs of samples."""

from __future__ import annotations

import linecache
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog.backend.memory import Footprint, available_memory
from tensorprog.backend.module import Module, build_module
from tensorprog.errors import did_you_mean
from tensorprog.program.ir import Program
from tensorprog.theorem.recursion import Recursion

Arrays = Mapping[str, Any]
Progress = Callable[[int, int], None]

KINDS = ("nngp", "ntk")
TILE_BYTES = 256 * 2**20


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

    @cached_property
    def module(self) -> Module:
        """The generated module: what runs here and what `--emit kernel` writes."""
        return build_module(self.recursion)

    @property
    def program(self) -> Program:
        return self.recursion.program  # type: ignore[return-value]

    @cached_property
    def _namespace(self) -> dict[str, Any]:
        name = f"<kernel of {self.program.name}>"
        source = self.module.source
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        namespace: dict[str, Any] = {"__name__": f"tensorprog_kernel_{self.program.name}"}
        exec(compile(source, name, "exec"), namespace)
        return namespace

    @cached_property
    def _run(self):
        return jax.jit(self._namespace["run"])

    @cached_property
    def _pair(self):
        return jax.jit(self._evaluate, static_argnames=("names", "wrt"))

    def _evaluate(self, x1, x2, left, right, same, params, names: tuple[str, ...], wrt: tuple[str, ...]):
        """The kernels of that name for one tile; one pass for both."""

        def cross(move):
            moves = {p: move if p in wrt else 0.0 for p in self.module.trained}
            return self._namespace["pair"](x1, x2, left, right, same, params, moves)

        dtype = next(iter(x1.values())).dtype if x1 else jnp.asarray(0.0).dtype
        zero = jnp.zeros((), dtype)
        if "ntk" in names:
            nngp, ntk = jax.jvp(cross, (zero,), (jnp.ones_like(zero),))
            return tuple({"nngp": nngp, "ntk": ntk}[n] for n in names)
        return tuple(cross(zero) for _ in names)

    # ------------------------------------------------------------ calls

    def __call__(
        self,
        x1: Arrays,
        x2: Arrays | None = None,
        get: str | Sequence[str] = KINDS,
        params: Mapping[str, Any] | None = None,
        wrt: str | Sequence[str] | None = None,
    ):
        """Kernels between the samples of x1 and of x2 (of x1 with itself where x2 is None).

        x1, x2: dicts of arrays (N, *axes, d) by input, all of one floating dtype. get: "nngp", "ntk" or a tuple of
        these. params: values of real parameters, which may be traced. wrt: the parameters that count as trained.
        Returns an array (N1, N2, *output axes of x1, *output axes of x2), or a named tuple of such.
        Raises ValueError for an unknown kernel or parameter, and for an NTK that does not exist.
        """
        names = (get,) if isinstance(get, str) else tuple(get)
        self._check_names(names)
        trained = self._trained(wrt)
        values = self._values(params)
        x1 = self._cast(x1)
        x2 = None if x2 is None else self._cast(x2)
        leaves = jax.tree.leaves((x1, x2, values))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            results = self._at_once(x1, x2, values, names, trained)
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

    def _trained(self, wrt: str | Sequence[str] | None) -> tuple[str, ...]:
        if wrt is None:
            return self.module.trained
        chosen = (wrt,) if isinstance(wrt, str) else tuple(wrt)
        for name in chosen:
            if name not in self.module.trained:
                near = did_you_mean(name, self.module.trained)
                known = near or f"trained are {', '.join(self.module.trained)}"
                raise ValueError(f"wrt: {name!r} is no trained parameter of {self.program.name}; {known}")
        return chosen

    def _values(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        values = dict(self._namespace["PARAMETERS"])
        for name, value in (params or {}).items():
            if name not in self.program.reals:
                near = did_you_mean(name, self.program.reals)
                raise ValueError(
                    f"params: {self.program.name} has no real parameter {name!r}"
                    + (f"; {near}" if near else "; integers and functions are set when the program is loaded")
                )
            if jnp.shape(value) != ():
                raise ValueError(f"params: {name!r} is a number, not an array of shape {jnp.shape(value)}")
            values[name] = value
        return values

    def _cast(self, x: Arrays) -> dict[str, Any]:
        arrays = {f.name: x[f.name] for f in self.program.inputs}
        dtype = self.dtype
        if dtype is None:
            dtype = np.result_type(*(np.dtype(a.dtype) for a in arrays.values()), np.float32)
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        return {name: jnp.asarray(a, dtype) for name, a in arrays.items()}

    # ------------------------------------------------------------ evaluation

    def _at_once(self, x1, x2, values, names, trained):
        left = self._run(x1, values)
        if x2 is None:
            same = jnp.eye(_samples(x1), dtype=bool)
            return self._pair(x1, x1, left, left, same, values, names=names, wrt=trained)
        right = self._run(x2, values)
        same = self._namespace["same_inputs"](x1, x2)
        return self._pair(x1, x2, left, right, same, values, names=names, wrt=trained)

    def _tiled(self, x1, x2, values, names, trained):
        symmetric = x2 is None
        other = x1 if symmetric else x2
        n1, n2 = _samples(x1), _samples(other)
        run_size, pair_size, out_size = self._sizes(x1, other)
        copies = 2 if "ntk" in names else 1
        itemsize = next(iter(x1.values())).dtype.itemsize if x1 else 8
        total = n1 * n2 * out_size * itemsize * len(names)
        memory = available_memory()
        if total > memory:
            raise ValueError(
                f"the result of {n1} × {n2} samples takes {_bytes(total)}, more than the {_bytes(memory)} of memory"
            )
        if pair_size * itemsize * copies > memory or run_size * itemsize > memory:
            raise ValueError(
                f"one pair of these inputs takes {_bytes(max(pair_size * copies, run_size) * itemsize)} of tables, "
                f"more than the {_bytes(memory)} of memory"
            )
        tile = self.tile or max(1, int((TILE_BYTES / (pair_size * itemsize * copies)) ** 0.5))
        t1, t2 = min(tile, n1), min(tile if self.tile or n1 >= tile else tile * tile // n1, n2)
        left = self._runs(x1, values, run_size, itemsize)
        right = left if symmetric else self._runs(other, values, run_size, itemsize)
        if t1 == n1 and t2 == n2:
            same = jnp.eye(n1, dtype=bool) if symmetric else self._same(x1, other)
            result = self._pair(x1, other, left, right, same, values, names=names, wrt=trained)
            self._report(1, 1)
            return result
        if symmetric:
            t1 = t2 = min(t1, t2)
        rows, columns = _starts(n1, t1), _starts(n2, t2)
        work = [(i, j) for i in rows for j in columns if not symmetric or j >= i]
        same = None if symmetric else self._same
        results: list[np.ndarray] | None = None
        for done, (i, j) in enumerate(work):
            a, b = _cut(x1, i, t1), _cut(other, j, t2)
            if same is None:
                equal = jnp.arange(i, i + t1)[:, None] == jnp.arange(j, j + t2)[None, :]
            else:
                equal = same(a, b)
            blocks = self._pair(a, b, _cut(left, i, t1), _cut(right, j, t2), equal, values, names=names, wrt=trained)
            if results is None:
                results = [np.empty((n1, n2, *k.shape[2:]), k.dtype) for k in blocks]
            for whole, block in zip(results, blocks, strict=True):
                block = np.asarray(block)
                whole[i : i + t1, j : j + t2] = block
                if symmetric:
                    whole[j : j + t2, i : i + t1] = _mirrored(block)
            self._report(done + 1, len(work))
        assert results is not None
        return tuple(jnp.asarray(r) for r in results)

    @cached_property
    def _same(self):
        return jax.jit(self._namespace["same_inputs"])

    def _runs(self, x, values, run_size: int, itemsize: int):
        """`run` on all samples, in pieces that bound its memory."""
        n = _samples(x)
        piece = max(1, min(n, int(TILE_BYTES / (run_size * itemsize))))
        if piece == n:
            return self._run(x, values)
        parts = [self._run(_cut(x, i, min(piece, n - i)), values) for i in range(0, n, piece)]
        return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)

    def _sizes(self, x1, x2) -> tuple[int, int, int]:
        """Entries of tables for one sample's run, for one pair, and of the kernel of one pair."""
        footprint = Footprint(self.program, self.module.footprint)
        first, second = footprint.sizes_of(x1), footprint.sizes_of(x2)
        run = max(footprint.entries("run", first, {}), footprint.entries("run", second, {}))
        output = self.recursion.tables[self.recursion.output]  # type: ignore[index]
        out = footprint.count([a.range for a in output.axes], first, second)
        return max(run, 1), max(footprint.entries("pair", first, second), 1), max(out, 1)

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


def _samples(x: Arrays) -> int:
    return next(iter(x.values())).shape[0] if x else 1


def _starts(n: int, tile: int) -> list[int]:
    """Where tiles of equal size begin; the last may overlap the one before, so that one compilation serves all."""
    return [min(i, n - tile) for i in range(0, n, tile)]


def _cut(tree, start: int, size: int):
    return jax.tree.map(lambda a: a[start : start + size], tree)


def _mirrored(block: np.ndarray) -> np.ndarray:
    """K(x2, x1) from K(x1, x2): samples and output axes change places."""
    axes = (block.ndim - 2) // 2
    left, right = range(2, 2 + axes), range(2 + axes, 2 + 2 * axes)
    return block.transpose((1, 0, *right, *left))


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
