"""Which lowering a recursion takes: by rules alone, or by simulation where some expectation has none."""

from __future__ import annotations

from typing import Any

from tensorprog.backend.emit import kernel_module
from tensorprog.backend.kernel import Kernel
from tensorprog.backend.module import build_module
from tensorprog.sampling.kernel import SampledKernel
from tensorprog.sampling.module import build_sampled_module
from tensorprog.theorem.recursion import Recursion


def compiled(
    recursion: Recursion,
    *,
    tol: float | None = None,
    points: int | None = None,
    replicates: int = 8,
    seed: int = 0,
    **options: Any,
) -> Kernel:
    """The kernel of a recursion. The named options concern those that are sampled; see `sampling.kernel`."""
    if recursion.sampled:
        return SampledKernel(recursion, tol=tol, points=points, replicates=replicates, seed=seed, **options)
    return Kernel(recursion, **options)


def module_source(recursion: Recursion) -> str:
    """What `--emit kernel` writes: a module that imports only jax and numpy. Raises ProgramError for open parameters."""
    return kernel_module(recursion, build_sampled_module if recursion.sampled else build_module)
