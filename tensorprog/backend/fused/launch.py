"""The Pallas kernel around `tile`: one block of pairs a program, from the Grams to the kernels of the output.

What it reads and writes for a pair is its Gram and its results; what the runs of single samples determine comes as
vectors, of which a block needs its rows' and its columns'. Whether two samples are equal is told from tags in the same
way, so that no table of all pairs is made for it.

The Grams come from a matrix product before it, and are not computed inside: a product in full single precision takes
2·d operations a pair, for d = 784 several times what the layers take, and the vendor's library is ahead of a product
written here, while writing and reading a Gram (8 bytes a pair) takes less than a tenth of the product's time. Its
memory is used again for the first result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tensorprog.backend.fused.tables import FusedModule, GramTable, SideTable
from tensorprog.backend.kernel import Trained


@dataclass(frozen=True)
class Blocks:
    """How a kernel is cut: pairs in a block, rows × columns, powers of two both; warps that work on one.

    Eight pairs a thread keep the layers' values in registers in single precision; whole rows of 128 are written in
    one piece.
    """

    rows: int = 16
    columns: int = 128
    warps: int = 8

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "warps"):
            number = getattr(self, name)
            if number < 1 or number & (number - 1):
                raise ValueError(f"{name} is a power of two, not {number}")


def gram(table: GramTable, inputs: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]):
    """<x, x'>/d for all pairs, (N1, N2): inputs and runs are those of x1 and of x2."""
    sides = []
    for side in (0, 1):
        array = (inputs if table.are_inputs[side] else runs)[side][table.names[side]]
        array = jnp.moveaxis(array, 1 + table.feature_axes[side], -1)
        sides.append(array[(slice(None), *table.indices[side])])
    return jnp.einsum("ab,cb->ac", *sides, precision="highest") / sides[0].shape[-1]


def side_rows(table: SideTable, inputs: Mapping[str, Any], run: Mapping[str, Any], multiple: int):
    """The entries of one run's table as rows, (entries, N): samples rounded up to a multiple, those added zero."""
    array = (inputs if table.is_input else run)[table.source]
    rows = array.reshape(array.shape[0], -1).T
    return jnp.pad(rows, ((0, 0), (0, -rows.shape[1] % multiple)))


def launch(
    module: FusedModule,
    tile: Callable[..., Any],
    grams: Sequence[Any],
    left: Sequence[Any],
    right: Sequence[Any],
    tags: tuple[Any, Any],
    params: Mapping[str, Any],
    sizes: Mapping[str, int],
    trained: Sequence[str],
    moving: Trained,
    names: Sequence[str],
    *,
    blocks: Blocks,
    interpret: bool,
):
    """The kernels of those names ("nngp", "ntk"), each (N1, N2), in one launch.

    grams: (N1, N2) each; left, right: from `side_rows`, by table of the module; tags: (words, N1) and (words, N2) of
    an integer type, rounded up likewise, which agree for equal samples. trained: all parameters that may move; moving:
    those that do, and their rates, if any. params: numbers by name, floats or traced. interpret: without an
    accelerator, slowly.

    Raises what Pallas raises where it cannot lower the kernel.
    """
    import jax.experimental.pallas as pl
    from jax.experimental.pallas import triton

    n1, n2 = grams[0].shape
    dtype = grams[0].dtype
    height, width = blocks.rows, blocks.columns
    # Numbers known when this is traced become constants of the kernel; others are read from an array.
    parameters = [p for p, value in params.items() if not isinstance(value, float)]
    rates = dict(moving.rates or {})
    several = [*(params[p] for p in parameters), *rates.values()]
    values = jnp.stack([jnp.asarray(v, dtype) for v in several] or [jnp.zeros((), dtype)])
    inputs = [*grams, values, *left, *right, *tags]

    def rows_of(array):
        return pl.BlockSpec((array.shape[0], height), lambda i, j: (0, i))

    def columns_of(array):
        return pl.BlockSpec((array.shape[0], width), lambda i, j: (0, j))

    of_pairs = pl.BlockSpec((height, width), lambda i, j: (i, j))
    specs = [of_pairs] * len(grams)
    specs += [pl.BlockSpec(values.shape, lambda i, j: (0,))]
    specs += [*map(rows_of, left), *map(columns_of, right), rows_of(tags[0]), columns_of(tags[1])]

    def fused_layers(*all_refs):
        refs, results = list(all_refs[: len(inputs)]), all_refs[len(inputs) :]
        i, j = pl.program_id(0), pl.program_id(1)
        row = i * height + lax.broadcasted_iota(jnp.int32, (height, width), 0)
        column = j * width + lax.broadcasted_iota(jnp.int32, (height, width), 1)
        mask = (row < n1) & (column < n2)
        entries = tuple(triton.load(refs.pop(0), mask=mask, other=0.0) for _ in grams)
        numbers = refs.pop(0)
        given = {**params, **{p: numbers[k] for k, p in enumerate(parameters)}}
        at_rates = Trained(moving.names, {p: numbers[k] for k, p in enumerate(rates, len(parameters))})
        sides = [{t.name: partial(_row, refs.pop(0), axis) for t in module.sides} for axis in (0, 1)]
        equal = jnp.ones((height, width), bool)
        of_rows, of_columns = refs
        for word in range(of_rows.shape[0]):
            equal = equal & (_row(of_rows, 0, word) == _row(of_columns, 1, word))

        def cross(move):
            return tile(entries, *sides, equal, given, at_rates.moves(move, trained), sizes)

        zero = jnp.zeros((), dtype)
        if "ntk" in names:
            nngp, ntk = jax.jvp(cross, (zero,), (jnp.ones_like(zero),))
            found = {"nngp": nngp, "ntk": ntk}
        else:
            found = {"nngp": cross(zero)}
        for ref, name in zip(results, names, strict=True):
            triton.store(ref, found[name], mask=mask)

    call = pl.pallas_call(
        fused_layers,
        grid=(pl.cdiv(n1, height), pl.cdiv(n2, width)),
        in_specs=specs,
        out_specs=[of_pairs] * len(names),
        out_shape=[jax.ShapeDtypeStruct((n1, n2), dtype)] * len(names),
        input_output_aliases={0: 0},
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=blocks.warps),
    )
    return tuple(call(*inputs))


def _row(ref, axis: int, number):
    """One row of a table of samples, along the rows (0) or columns (1) of the block."""
    return ref[number][:, None] if axis == 0 else ref[number][None, :]
