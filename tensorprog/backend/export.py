"""A kernel in JAX's own formats: the jaxpr, and a portable StableHLO artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from tensorprog.arguments import bind_shapes
from tensorprog.backend.kernel import Kernel
from tensorprog.program.sizes import check_sizes

Shapes = Mapping[str, tuple[int, ...]]


def _function(kernel: Kernel, get: str | Sequence[str]):
    def function(x1, x2):
        result = kernel(x1, x2, get)
        return result if isinstance(get, str) else tuple(result)

    return function


def _check(kernel: Kernel, shapes: Shapes) -> None:
    """Raises ValueError for a shape that is missing, unknown, of the wrong length, or of sizes that do not fit, and
    ProgramError where the program does not hold together at them."""
    from tensorprog.program.types import Data

    inputs = {f.name: f for f in kernel.program.inputs}
    for name in shapes:
        if name not in inputs:
            raise ValueError(f"{kernel.program.name} has no input '{name}': its inputs are {', '.join(inputs)}")
    for name, f in inputs.items():
        wanted = len(f.ranges) + isinstance(f.type, Data)
        if name not in shapes:
            raise ValueError(f"the shape of input '{name}' is needed: {wanted} sizes, the number of samples left out")
        if len(shapes[name]) != wanted:
            raise ValueError(f"input '{name}' has {wanted} sizes after that of the samples, not {len(shapes[name])}")
    sizes, _ = bind_shapes(kernel.program, shapes, "shape")
    check_sizes(kernel.program, sizes)


def jaxpr(kernel: Kernel, shapes: Shapes, get: str | Sequence[str] = ("nngp", "ntk"), samples: int = 2) -> str:
    """The jaxpr of the kernel between two batches of `samples` inputs; shapes: input → (*axes, d), without N."""
    _check(kernel, shapes)
    dtype = kernel.dtype or jnp.asarray(0.0).dtype
    x = {name: jax.ShapeDtypeStruct((samples, *shape), dtype) for name, shape in shapes.items()}
    return str(jax.make_jaxpr(_function(kernel, get))(x, x))


def stablehlo(kernel: Kernel, shapes: Shapes, get: str | Sequence[str] = ("nngp", "ntk")) -> bytes:
    """A serialized artifact of (x1, x2) → kernels for any numbers of samples N1 and N2.

    `jax.export.deserialize(...).call(x1, x2)` runs it; x1 and x2 are dicts of arrays by input.
    """
    _check(kernel, shapes)
    dtype: Any = kernel.dtype or jnp.asarray(0.0).dtype
    n1, n2 = jax.export.symbolic_shape("N1, N2")
    x1 = {name: jax.ShapeDtypeStruct((n1, *shape), dtype) for name, shape in shapes.items()}
    x2 = {name: jax.ShapeDtypeStruct((n2, *shape), dtype) for name, shape in shapes.items()}
    exported = jax.export.export(jax.jit(_function(kernel, get)))(x1, x2)
    return bytes(exported.serialize())
