"""Kernels by simulation: means over randomly shifted lattices, with the standard error of their spread."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog.backend.kernel import KINDS, Arrays, Kernel, Trained, _bytes, _cut, _result_type, _samples
from tensorprog.backend.memory import Footprint, available_memory
from tensorprog.backend.module import Module
from tensorprog.backend.tiles import Tiling
from tensorprog.recursion import Recursion
from tensorprog.sampling.module import build_sampled_module
from tensorprog.sampling.runtime.lattice import LATTICE_SIZES

POINTS = 1021
REPLICATES = 8
TILE_BYTES = 256 * 2**20  # what the paths of one tile of pairs may take


class SampledKernel(Kernel):
    """The kernels of a program some of whose expectations no rule gives.

    points: of a lattice, one of LATTICE_SIZES; replicates: independent shifts of it, at least 2; seed: of the shifts,
    the same seed giving the same number. tol: standard error that is asked for, as a part of the largest entry; more
    points are taken until it is reached. Other options as in `Kernel`.
    """

    def __init__(
        self,
        recursion: Recursion,
        *,
        points: int | None = None,
        replicates: int = REPLICATES,
        seed: int = 0,
        tol: float | None = None,
        **options,
    ):
        super().__init__(recursion, **options)
        self.points, self.replicates, self.seed, self.tol = points or POINTS, replicates, seed, tol

    # One module for all kernels of a recursion: another seed or tolerance compiles nothing again.

    @cached_property
    def module(self) -> Module:
        return self._kept("_sampled_module", lambda: build_sampled_module(self.recursion))

    @cached_property
    def _namespace(self) -> dict[str, Any]:
        return self._kept("_sampled_namespace", self._executed)

    def _kept(self, name: str, make):
        kept = self.recursion.__dict__
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def __call__(
        self,
        x1: Arrays,
        x2: Arrays | None = None,
        get: str | Sequence[str] = KINDS,
        params: Mapping[str, Any] | None = None,
        wrt: str | Sequence[str] | None = None,
        rates: Mapping[str, Any] | None = None,
        *,
        return_stderr: bool = False,
        tol: float | None = None,
    ):
        """As `Kernel.__call__`; with return_stderr a named tuple in which the standard errors, `nngp_stderr` and the
        like, follow the kernels. tol: as in the constructor."""
        names = (get,) if isinstance(get, str) else tuple(get)
        self._check_names(names)
        values = self._values(params)
        x1 = self._cast(x1)
        x2 = None if x2 is None else self._cast(x2)
        trained = self._trained(wrt, rates, x1)
        leaves = jax.tree.leaves((x1, x2, values, trained.rates))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            found = self._whole(x1, x2, values, names, trained, self.points)
        else:
            found = self._to_tolerance(x1, x2, values, names, trained, self.tol if tol is None else tol)
        if return_stderr:
            labels = (*names, *(f"{n}_stderr" for n in names))
            return _result_type(labels)(*(found[n][0] for n in names), *(found[n][1] for n in names))
        return found[get][0] if isinstance(get, str) else _result_type(names)(*(found[n][0] for n in names))

    def stream(
        self, create, x1, x2=None, get=KINDS, params=None, wrt=None, rates=None, *, errors: bool = False
    ) -> dict[str, bool]:
        """As `Kernel.stream`; with `errors` the standard errors too, as `nngp_stderr` and the like."""
        names = tuple(get)
        result = self(x1, x2, names, params, wrt, rates, return_stderr=True)
        finite = {}
        for name, value in result._asdict().items():
            if name in names or errors:
                value = np.asarray(value)
                create(name, value.shape, value.dtype)[:] = value
                finite[name] = bool(np.isfinite(value).all())
        return finite

    def limits(self, x1: Arrays | None = None, params: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """The limits of the outputs of type C: arrays (N, *axes), without N where the program has no input."""
        return {name: value for name, (value, _) in self.limits_with_errors(x1, params).items()}

    def limits_with_errors(self, x1: Arrays | None = None, params: Mapping[str, Any] | None = None):
        """The limits, each with its standard error."""
        if not x1:
            with jax.enable_x64(True):
                found = self._limits({}, self._values(params))
                return {name: (value[0], error[0]) for name, (value, error) in found.items()}
        return self._limits(self._cast(x1), self._values(params))

    # ------------------------------------------------------------ evaluation

    def _limits(self, x, values) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        points = self._namespace["limit_points"](x, self.points, self.replicates, self.seed, self._dtype_of(x))
        tables = self._namespace["sampled_limits"](x, values, points)
        footprint = Footprint(self.program, {})
        sizes = footprint.sizes_of(x)
        results = {}
        for key in self.recursion.limits:
            (name,) = key.families
            table = np.asarray(tables[name])
            shape = tuple(footprint.count([a.range], sizes, {}) for a in self.recursion.tables[key].axes)
            table = table.reshape(*table.shape[:2], *shape)
            results[name] = table.mean(1), table.std(1, ddof=1) / table.shape[1] ** 0.5
        return results

    def _pair_points(self, x1, x2, ntk: bool, points: int):
        make = self._namespace["pair_points"]
        return make(x1, x2, ntk, points, self.replicates, self.seed, self._dtype_of(x1))

    def _to_tolerance(self, x1, x2, values, names, trained, tol):
        sizes = [n for n in LATTICE_SIZES if n >= self.points] or [self.points]
        while True:
            points = sizes.pop(0)
            found = self._tiled_means(x1, x2, values, names, trained, points)
            if tol is None:
                return found
            excess = max(float(jnp.max(e) / jnp.maximum(jnp.max(jnp.abs(k)), 1e-300)) for k, e in found.values()) / tol
            if excess <= 1:
                return found
            if not sizes:
                warnings.warn(
                    f"the standard error is {excess:.1f} times tol={tol:g} with {self.replicates} × {points} points, "
                    "the most there are",
                    stacklevel=4,
                )
                return found
            # An error falls at least like the root of the number of points, and no faster than it.
            while len(sizes) > 1 and (sizes[0] / points) * 2 < excess:
                sizes.pop(0)

    @cached_property
    def _compiled_pair(self):
        # One program: where it is differentiated, hundreds of small ones would be compiled otherwise.
        return jax.jit(self._namespace["sampled_pair"], static_argnums=5)

    @staticmethod
    def _rates(trained: Trained) -> dict[str, Any]:
        return {**dict.fromkeys(trained.names, 1.0), **(trained.rates or {})}

    def _whole(self, x1, x2, values, names, trained, points: int):
        """All pairs at once, as they are traced."""
        other = x1 if x2 is None else x2
        normals = self._pair_points(x1, other, "ntk" in names, points)
        both = self._compiled_pair(x1, other, values, normals, self._rates(trained), "ntk" in names)
        shape = self._shape(x1, other)
        found = {}
        for name, table in zip(KINDS, both, strict=True):
            if name in names:
                table = table.reshape(*table.shape[:3], *shape)
                if x2 is None:
                    table = (table + _mirrored_replicates(table)) / 2
                found[name] = self._namespace["mean_and_error"](table, 2)
        return found

    def _tiled_means(self, x1, x2, values, names, trained, points: int):
        symmetric = x2 is None
        other = x1 if symmetric else x2
        n1, n2 = _samples(x1), _samples(other)
        shape = self._shape(x1, other)
        itemsize = next(iter(x1.values())).dtype.itemsize if x1 else 8
        pair = self._pair_bytes(x1, other, points, "ntk" in names, itemsize)
        out = n1 * n2 * int(np.prod(shape)) * itemsize * len(names) * 2
        memory = available_memory()
        if max(out, pair) > memory:
            raise ValueError(
                f"the kernel takes {_bytes(max(out, pair))}, more than the {_bytes(memory)} of memory"
                + ("" if out > memory else f": one pair of these inputs with {points} points is too large")
            )
        at_once = max(1, int(TILE_BYTES / pair))
        replicates = min(self.replicates, at_once)
        side = self.tile or max(1, int((at_once / replicates) ** 0.5))
        tiles = Tiling(n1, n2, min(side, n1), min(side, n2), symmetric)
        blocks = [slice(r, min(r + replicates, self.replicates)) for r in range(0, self.replicates, replicates)]
        normals = self._pair_points(x1, other, "ntk" in names, points)
        rates, dtype = self._rates(trained), self._dtype_of(x1)
        found = {n: tuple(np.empty((n1, n2, *shape), dtype) for _ in range(2)) for n in names}
        for done, (i, j) in enumerate(tiles.corners):
            a, b = _cut(x1, i, tiles.rows), _cut(other, j, tiles.columns)
            parts = [
                self._namespace["sampled_pair"](a, b, values, _cut_replicates(normals, block), rates, "ntk" in names)
                for block in blocks
            ]
            for k, name in enumerate(KINDS):
                if name not in names:
                    continue
                table = np.concatenate([np.asarray(p[k]) for p in parts], axis=2)
                table = table.reshape(*table.shape[:3], *shape)
                if symmetric and i == j:
                    table = (table + _mirrored_replicates(table)) / 2
                value, error = table.mean(2), table.std(2, ddof=1) / table.shape[2] ** 0.5
                for whole, piece in zip(found[name], (value, error), strict=True):
                    tiles.place(whole, piece, i, j)
            self._report(done + 1, len(tiles.corners))
        return {name: (jnp.asarray(k), jnp.asarray(e)) for name, (k, e) in found.items()}

    def _shape(self, x1, x2) -> tuple[int, ...]:
        """The output's axes of x1's run, then those of x2's."""
        footprint = Footprint(self.program, {})
        first, second = footprint.sizes_of(x1), footprint.sizes_of(x2)
        axes = self.recursion.tables[self.recursion.output].axes  # type: ignore[index]
        left = [footprint.count([a.range], first, second) for a in axes if a.left is not None]
        return (*left, *(footprint.count([a.range], first, second) for a in axes if a.left is None))

    def _pair_bytes(self, x1, x2, points: int, ntk: bool, itemsize: int) -> int:
        """What one replicate of one pair takes: features, samples and slopes of both runs."""
        shapes = [self._namespace["shapes_of"](x) for x in (x1, x2)]
        held = plain = 0
        layout = self._namespace["layout_of"](*shapes) if self._namespace["HELD"] else None
        if layout is not None:
            held = 2 * sum(layout.floats(run) for run in (0, 1))
        for own in shapes if ntk or not held else ():
            survey = self._namespace["survey_of"](own)
            drawn = len(survey.drawn)
            features = sum(size is None for g in survey.drawn for size in g.values())
            slopes = 1 + (min(drawn, 3 * survey.widest) if ntk else 0)
            plain += (2 * features + drawn + survey.functions) * slopes
        return max(held, plain, 1) * points * itemsize


def _cut_replicates(normals, block: slice):
    return jax.tree.map(lambda a: a[block], normals)


def _mirrored_replicates(table):
    """K(x2, x1) by replicate from K(x1, x2) by replicate: samples and output axes change places."""
    axes = (table.ndim - 3) // 2
    left, right = range(3, 3 + axes), range(3 + axes, 3 + 2 * axes)
    return table.transpose((1, 0, 2, *right, *left))
