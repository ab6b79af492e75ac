"""The Kernel that takes tiles of pairs through all layers in one accelerator kernel."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from tensorprog.backend.fused.launch import Blocks, gram, launch, side_rows
from tensorprog.backend.fused.tables import FusedModule
from tensorprog.backend.fused.writer import build_fused
from tensorprog.backend.kernel import Kernel, Trained, _itemsize, _samples
from tensorprog.backend.memory import Footprint, device_memory
from tensorprog.backend.tiles import Tiling
from tensorprog.recursion import Recursion

MOST_PAIRS = 2**31 - 1  # offsets of entries are 32 bits wide in the kernel


class _NotLowered(Exception):
    """The fused kernel cannot be compiled here."""


class FusedKernel(Kernel):
    """The kernels of a chain of layers, on an accelerator.

    Under a JAX transformation (jit, grad), where derivatives may be asked for, the plain lowering serves.
    blocks: how a tile is cut. strict: what keeps the kernel from being lowered is raised; otherwise it is told in a
    warning, once, and the plain lowering serves. Other options as in `Kernel`.

    interpret: run the kernel without an accelerator, right and slow, for tests (None: where the backend is a CPU).
    Raises NotFused for a recursion that is no chain, ProgramError for a parameter without a value.
    """

    def __init__(
        self,
        recursion: Recursion,
        *,
        blocks: Blocks | None = None,
        strict: bool = False,
        interpret: bool | None = None,
        **options: Any,
    ):
        super().__init__(recursion, **options)
        self.fused: FusedModule = build_fused(recursion)
        self.blocks = blocks or Blocks()
        self.strict = strict
        self.interpret = jax.default_backend() == "cpu" if interpret is None else interpret
        self._works, self._proven = True, False

    @cached_property
    def _tile(self) -> Callable[..., Any]:
        """`tile`, from its source."""
        name = f"<fused kernel of {self.program.name}>"
        source = self.fused.source
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        namespace: dict[str, Any] = {"__name__": f"tensorprog_fused_{self.program.name}"}
        exec(compile(source, name, "exec"), namespace)
        return namespace["tile"]

    @cached_property
    def _block_fused(self):
        return jax.jit(self._evaluate_fused, static_argnames=("symmetric", "names", "wrt"))

    def _evaluate_fused(self, x1, x2, left, right, corner, params, rates, symmetric: bool, names, wrt):
        """One tile of pairs; `corner` is where it begins in either batch. params: None for the program's own."""
        params = self._namespace["PARAMETERS"] if params is None else params
        return self._through_layers(
            self._grams(x1, x2, left, right), x1, x2, left, right, corner, params, symmetric, names, Trained(wrt, rates)
        )

    def _grams(self, x1, x2, left, right):
        """What goes into the kernel of all pairs: arrays (N1, N2)."""
        return [gram(t, (x1, x2), (left, right)) for t in self.fused.grams]

    def _through_layers(self, grams, x1, x2, left, right, corner, params, symmetric: bool, names, trained: Trained):
        """The kernels of a tile from its Grams."""
        height, width = self.blocks.rows, self.blocks.columns
        of_rows = [side_rows(t, x1, left, height) for t in self.fused.sides]
        of_columns = [side_rows(t, x2, right, width) for t in self.fused.sides]
        if symmetric:
            starts = [jnp.asarray(start, jnp.int32) for start in corner]
            tags = [i + jnp.arange(_samples(x), dtype=jnp.int32)[None] for i, x in zip(starts, (x1, x2), strict=True)]
        elif all(x1[name].shape[1:] == x2[name].shape[1:] for name in x1):
            tags = [self._tags(x) for x in (x1, x2)]
        else:  # of different sizes: none are equal
            tags = [jnp.full((1, _samples(x)), number, jnp.int32) for number, x in enumerate((x1, x2))]
        tags = [jnp.pad(t, ((0, 0), (0, -t.shape[1] % m))) for t, m in zip(tags, (height, width), strict=True)]
        return launch(
            self.fused,
            self._tile,
            grams,
            of_rows,
            of_columns,
            (tags[0], tags[1]),
            params,
            Footprint(self.program, {}).sizes_of(x1),
            self.module.trained,
            trained,
            names,
            blocks=self.blocks,
            interpret=self.interpret,
        )

    def _tags(self, x):
        """Integers (words, N) that two samples have in common where they are equal in every input."""
        fingerprints = self._namespace["fingerprints"]
        return jnp.stack([word for array in x.values() for word in fingerprints(array)])

    def _block(self, x1, x2, left, right, corner, symmetric, values, names, trained):
        if not self._works:
            return super()._block(x1, x2, left, right, corner, symmetric, values, names, trained)
        try:
            options = {"symmetric": symmetric, "names": names, "wrt": trained.names}
            found = self._block_fused(x1, x2, left, right, corner, values, trained.rates, **options)
        except Exception as error:  # whatever Pallas, Triton and the driver have to say
            if self.strict or self._proven:
                raise
            self._works = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(
                f"the fused kernel of {self.program.name} cannot be compiled here, the plain one is used: "
                f"{type(error).__name__}: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
            raise _NotLowered from error
        self._proven = True
        return found

    @property
    def _in_one_function(self) -> bool:  # type: ignore[override]
        return not self._works

    # The plain lowering needs tiles of another size, so that all begins again.

    def _tiled(self, *arguments):
        try:
            return super()._tiled(*arguments)
        except _NotLowered:
            return super()._tiled(*arguments)

    def stream(self, *arguments, **options) -> dict[str, bool]:
        try:
            return super().stream(*arguments, **options)
        except _NotLowered:
            return super().stream(*arguments, **options)

    def _tiling(self, x1, x2, names) -> Tiling:
        """Everything in one launch where the Gram and the results fit into the memory."""
        other = x1 if x2 is None else x2
        n1, n2 = _samples(x1), _samples(other)
        tables = n1 * n2 * _itemsize(x1) * (len(self.fused.grams) + len(names))
        if self.tile is None and self._works and n1 * n2 <= MOST_PAIRS and tables <= device_memory() / 2:
            return Tiling(n1, n2, n1, n2, x2 is None)
        return super()._tiling(x1, x2, names)
