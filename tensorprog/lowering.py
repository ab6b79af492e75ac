"""Which lowering a recursion takes: by rules, fused on an accelerator, or by simulation where a rule is missing."""

from __future__ import annotations

import contextlib
from typing import Any

import jax

from tensorprog.backend.emit import kernel_module
from tensorprog.backend.fused.chain import NotFused
from tensorprog.backend.fused.kernel import FusedKernel
from tensorprog.backend.kernel import Kernel
from tensorprog.backend.module import build_module
from tensorprog.errors import ProgramError
from tensorprog.program.ir import Program
from tensorprog.program.sizes import missing
from tensorprog.recursion import Recursion
from tensorprog.sampling.kernel import SampledKernel
from tensorprog.sampling.module import build_sampled_module


def compiled(
    recursion: Recursion,
    *,
    tol: float | None = None,
    points: int | None = None,
    replicates: int = 8,
    seed: int = 0,
    backend: str | None = None,
    **options: Any,
) -> Kernel:
    """The kernel of a recursion. tol, points, replicates, seed: of those that are sampled; see `sampling.kernel`.

    backend: "plain", "fused" (see `backend.fused`), or None: fused for chains of layers where JAX computes on a GPU.
    Raises ProgramError where fused is asked for, and the recursion is no such chain.
    """
    if backend == "fused":
        try:
            return FusedKernel(recursion, strict=True, **options)
        except NotFused as reason:
            hint = "the plain backend serves every program"
            raise ProgramError(f"there is no fused kernel: {reason}", hint=hint) from None
    if backend is None and recursion.output is not None and jax.default_backend() == "gpu":
        # A parameter without a value is an error when the kernel is called.
        with contextlib.suppress(NotFused, ProgramError):
            return FusedKernel(recursion, **options)
    if recursion.sampled:
        return SampledKernel(recursion, tol=tol, points=points, replicates=replicates, seed=seed, **options)
    return Kernel(recursion, **options)


def module_source(recursion: Recursion) -> str:
    """What `--emit kernel` writes: a module that imports only jax and numpy.

    Raises ProgramError for open parameters.
    """
    program: Program = recursion.program  # type: ignore[assignment]
    for p in program.parameters:
        if p.kind == "real" and p.value is None:
            raise missing(program, p)
    return kernel_module(recursion, build_sampled_module if recursion.sampled else build_module)
