"""The parameters of a finite network: their shapes, their laws at given widths, and draws from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import sympy

from tensorprog.errors import ProgramError
from tensorprog.finite.families import Families
from tensorprog.program.ir import Family, Program
from tensorprog.program.types import Matrix, Process, Vector


@dataclass(frozen=True)
class Draw:
    """A declared family of weights, vectors or random scalars at known widths.

    shape: (*axes, rows, columns) of a weight, (*axes, width) of a vector, (*axes) of a scalar.
    mean, variance, multiplier: of the members, arrays (*axes) in which axes that do not matter have length 1.
    """

    name: str
    shape: tuple[int, ...]
    axes: int
    mean: np.ndarray
    variance: np.ndarray
    multiplier: np.ndarray
    fixed: bool

    @property
    def count(self) -> int:
        """Entries of the array."""
        return int(np.prod(self.shape, dtype=np.int64))

    def sample(self, normal: Any) -> Any:
        """Members drawn from N(mean, variance), given draws from N(0, 1) in an array of `shape`, of NumPy or JAX."""
        drawn = self._spread(self.mean, normal.dtype) + self.deviation(normal.dtype) * normal
        return drawn.reshape(self.shape)  # one number is an array too

    def scaled(self, value: Any) -> Any:
        """Members times their multiplier, as they stand in the program."""
        return value * self._spread(self.multiplier, value.dtype)

    def deviation(self, dtype: Any) -> np.ndarray:
        """Standard deviations in the law, to be multiplied with an array of `shape`."""
        return self._spread(np.sqrt(self.variance), dtype)

    def _spread(self, values: np.ndarray, dtype: Any) -> np.ndarray:
        return values.reshape((*values.shape, *(1,) * (len(self.shape) - self.axes))).astype(dtype)


def finite_widths(program: Program, width: int) -> dict[str, int]:
    """Every width of a program where n is `width`: its ratio times n, rounded. Raises ValueError where one is 0."""
    reals = {sympy.Symbol(name, real=True): value for name, value in program.reals.items()}
    result = {}
    for name, ratio in program.widths.items():
        result[name] = int(np.floor(float(ratio.subs(reals)) * width + 0.5))
        if result[name] < 1:
            raise ValueError(f"width: at n = {width} the width {name} would be {result[name]}")
    return result


def draws(program: Program, families: Families, numbers: Mapping[str, float]) -> dict[str, Draw]:
    """The weights and vectors by name. `numbers`: real parameters, widths and sizes.

    Raises ProgramError where a law is not one at these widths, ValueError where a family's range is empty or so.
    """
    return {
        f.name: _draw(program, f, families, numbers)
        for f in program.families.values()
        if f.role in ("weight", "vector", "scalar")
    }


def _draw(program: Program, f: Family, families: Families, numbers: Mapping[str, float]) -> Draw:
    assert f.law is not None
    axes = families.shape(f.name)
    if isinstance(f.type, Matrix):
        dims: tuple[int, ...] = (int(numbers[f.type.rows]), int(numbers[f.type.columns]))
    elif isinstance(f.type, Process):
        dims = ()
    else:
        assert isinstance(f.type, Vector)
        dims = (int(numbers[f.type.width]),)
    mean, variance, multiplier = (
        _over_members(program, f, e, axes, families, numbers) for e in (f.law.mean, f.law.variance, f.law.multiplier)
    )
    if (variance < 0).any():
        raise ProgramError(f"the variance of '{f.name}' is negative at this width", f.span).located(
            program.source, program.filename
        )
    return Draw(f.name, (*axes, *dims), len(axes), mean, variance, multiplier, f.fixed)


def _over_members(
    program: Program, f: Family, e: sympy.Expr, axes: tuple[int, ...], families: Families, numbers: Mapping[str, float]
) -> np.ndarray:
    """An expression of a law at every member, along the axes on whose index it depends."""
    names = [r.name for r in f.ranges]
    free = {s.name for s in e.free_symbols}
    spans = [range(size) if name in free else range(1) for name, size in zip(names, axes, strict=True)]
    lows = families.lows(f.name)
    result = np.empty([len(span) for span in spans])
    for place in product(*spans):
        at = {**numbers, **{name: low + k for name, low, k in zip(names, lows, place, strict=True)}}
        try:
            result[place] = float(e.subs({s: at[s.name] for s in e.free_symbols}))
        except (TypeError, ValueError):
            result[place] = np.nan
    if not np.isfinite(result).all():
        raise ProgramError(f"the law of '{f.name}' has no finite value at this width", f.span).located(
            program.source, program.filename
        )
    return result
