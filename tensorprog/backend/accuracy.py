"""How accurate a kernel is: estimates of its error, and words for entries that overflow."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog import finiteness
from tensorprog.backend.kernel import Arrays, Kernel
from tensorprog.backend.module import build_module
from tensorprog.recursion import Recursion

COARSER = 0.85
"""The resolution of the rules that an estimate compares with."""
ROUNDINGS, LEFT_OUT = 16, 2e-11
"""A kernel's error, as a part of an entry, counts at least so many roundings, and what series may leave out."""


class Coarser(Kernel):
    """The same kernel with every rule of quadrature cut more coarsely: how far it is off bounds the error of the rules
    that are used.
    """

    @cached_property
    def module(self):
        module = build_module(self.recursion)
        return replace(module, source=module.source.replace("RESOLUTION = 1.0", f"RESOLUTION = {COARSER}", 1))


def all_finite(kernels: Sequence[Any]) -> bool | None:
    """Whether all entries are finite; None where they are not known yet, under a transformation."""
    if any(isinstance(k, jax.core.Tracer) for k in kernels):
        return None
    # What lies on an accelerator is looked at there.
    return all(bool(jnp.isfinite(k).all()) if _far(k) else finiteness.all_finite(np.asarray(k)) for k in kernels)


def _far(k: Any) -> bool:
    """Whether an array lies elsewhere than in the memory that NumPy reads."""
    return isinstance(k, jax.Array) and any(d.platform != "cpu" for d in k.devices())


class Accuracy:
    """Estimates for the kernels of one recursion, compiled once."""

    def __init__(self, recursion: Recursion, tile: int | None = None):
        self._recursion, self._tile = recursion, tile

    @cached_property
    def _coarser(self) -> Kernel:
        return Coarser(self._recursion, tile=self._tile, dtype=np.float64)

    @cached_property
    def _double(self) -> Kernel:
        return Kernel(self._recursion, tile=self._tile, dtype=np.float64)

    def errors(self, results: Sequence[Any], x1: Arrays, x2: Arrays | None, names: tuple[str, ...], *more) -> list:
        """The estimated absolute error of each entry of the kernels, which were computed from x1 and x2.

        In float64 the distance to the same with coarser rules, in float32 that to float64, and in either what rounding,
        and series that end, make of the entry.
        """
        least = ROUNDINGS * float(jnp.finfo(results[0].dtype).eps)
        other = self._coarser if results[0].dtype == jnp.float64 else self._double
        if "series_pair" in other.module.source:
            least = max(least, LEFT_OUT)
        found = self._in_double(other, x1, x2, names, *more)
        errors = []
        for value, reference in zip(results, found, strict=True):
            size = np.abs(np.asarray(value, np.float64))
            errors.append(jnp.asarray(np.abs(np.asarray(value, np.float64) - reference) + least * size, value.dtype))
        return errors

    def warn_beyond(self, results: Sequence[Any], x1: Arrays, x2: Arrays | None, names: tuple[str, ...], *more) -> None:
        """A RuntimeWarning where variances go beyond the reach of a rule and the kernels are off by more than that of
        rules within their reach: by how much, by the estimate.
        """
        with jax.enable_x64(True):
            variance = max(self._double.excess(_wide(x), *more) for x in (x1, x2) if x is not None)
        if variance <= 1:
            return
        for name, value, error in zip(names, results, self.errors(results, x1, x2, names, *more), strict=True):
            size = float(np.abs(value).max())
            relative = float(np.abs(error).max()) / size if size else 0.0
            if relative > (1e-6 if value.dtype == jnp.float64 else 1e-4):
                cause = (
                    "a function has kinks at places that are not known"
                    if np.isinf(variance)
                    else f"variances are {variance:.2g} times what a rule for functions of several Gaussians covers"
                )
                text = (
                    f"{name} may be off by {relative:.1g} of its largest entry: {cause}; return_error=True tells more"
                )
                warnings.warn(text, RuntimeWarning, stacklevel=3)

    def _in_double(self, kernel: Kernel, x1: Arrays, x2: Arrays | None, names: tuple[str, ...], *more) -> list:
        with jax.enable_x64(True):
            return [np.asarray(k) for k in kernel(_wide(x1), None if x2 is None else _wide(x2), names, *more)]

    def warn(self, results: Sequence[Any], x1: Arrays, x2: Arrays | None, names: tuple[str, ...], *more) -> None:
        """A RuntimeWarning for entries that are not finite: where the first is, and whether float64 would do."""
        for name, value in zip(names, results, strict=True):
            if np.isfinite(value).all():
                continue
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(np.asarray(value)))[0])
            text = f"{name} has entries that are not finite, the first at {list(where)}"
            if value.dtype == jnp.float32:
                i, j = where[:2]
                pair = [{n: a[m : m + 1] for n, a in x.items()} for x, m in ((x1, i), (x1 if x2 is None else x2, j))]
                alone = x2 is None and i == j
                entry = self._in_double(self._double, pair[0], None if alone else pair[1], (name,), *more)[0]
                size = float(np.abs(entry[(0, 0, *where[2:])]))
                if np.isfinite(size):
                    text += f': float32 overflows on the way to {size:.3g}, float64 does not, kernel(dtype="float64")'
                else:
                    text += ": it overflows in float32 and in float64"
            warnings.warn(text, RuntimeWarning, stacklevel=3)


def _wide(x: Arrays) -> dict[str, np.ndarray]:
    """The arrays in float64; those of integers, which are indices, stay as they are."""
    return {n: a if np.issubdtype(a.dtype, np.integer) else np.asarray(a, np.float64) for n, a in x.items()}
