"""Finite networks against the limit: how far their kernels are from it, by width and seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.arguments import Argument, read_argument
from tensorprog.finite.empirical import KERNELS, empirical_kernels
from tensorprog.finite.network import FiniteNetwork, frozen
from tensorprog.program import ir
from tensorprog.program.types import Process
from tensorprog.settings import kernel_names, shown, whole

if TYPE_CHECKING:
    from tensorprog.api import Program

WIDTHS = (64, 128, 256, 512)
SEEDS = 10
QUANTILES = (0.25, 0.5, 0.75)
_MOST_REPLICATES = 16
_SMALL = 1 << 27  # derivatives of one network, outputs times parameters, that may be computed again for free


@dataclass(frozen=True, eq=False)
class Verification:
    """What `verify` found.

    deviations: by kernel or output of type C, ‖finite − limit‖ / ‖limit‖ (Frobenius), an array (widths, seeds).
    networks: how many networks of each width there were, small ones more than seeds. means: their mean deviations, an
    array (widths,); the slopes are fitted to these.
    limits: the theory. finite: the mean over the networks of the largest width, of the same shape.
    limit_errors: relative standard errors of limits that are estimates themselves.

    `str()` gives the table that `tpc verify` prints.
    """

    program: str
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    deviations: Mapping[str, NDArray[np.float64]]
    networks: tuple[int, ...]
    means: Mapping[str, NDArray[np.float64]]
    limits: Mapping[str, NDArray[Any]]
    finite: Mapping[str, NDArray[Any]]
    limit_errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def quantiles(self) -> dict[str, NDArray[np.float64]]:
        """Lower quartile, median and upper quartile of the deviations over seeds: arrays (widths, 3)."""
        return {name: np.quantile(d, QUANTILES, axis=1).T for name, d in self.deviations.items()}

    @property
    def slopes(self) -> dict[str, float | None]:
        """Exponents of the width in the mean deviations, fitted to logarithms; about -1/2 where theory is right.

        None where there is one width, or a mean that has no logarithm.
        """
        return {name: self._slope(means) for name, means in self.means.items()}

    def _slope(self, means: NDArray[np.float64]) -> float | None:
        if len(self.widths) < 2 or not (np.isfinite(means) & (means > 0)).all():
            return None
        return float(np.polyfit(np.log(self.widths), np.log(means), 1)[0])

    def json(self) -> dict[str, Any]:
        """The numbers as plain JSON values, without the kernels themselves."""
        return {
            "program": self.program,
            "widths": list(self.widths),
            "seeds": list(self.seeds),
            "deviations": {
                name: [[float(x) if np.isfinite(x) else None for x in row] for row in d]
                for name, d in self.deviations.items()
            },
            "networks": list(self.networks),
            "means": {name: [float(x) if np.isfinite(x) else None for x in m] for name, m in self.means.items()},
            "slopes": self.slopes,
            "limit_errors": dict(self.limit_errors),
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the deviations by width with the line of slope -1/2 into a PNG, PDF or SVG file.

        Raises ValueError for another suffix, OSError where the file cannot be written.
        """
        from tensorprog.finite.picture import plot_deviations

        plot_deviations(self, path)

    def __str__(self) -> str:
        many = f"median [quartiles] of {len(self.seeds)} seeds" if len(self.seeds) > 1 else "one seed"
        lines = [f"{self.program}: |finite - limit| / |limit|, {many}"]
        quantiles = self.quantiles
        cells = {
            name: [f"{middle:.4f} [{low:.4f}, {high:.4f}]" for low, middle, high in rows]
            for name, rows in quantiles.items()
        }
        sizes = {name: max(len(name), *map(len, column)) for name, column in cells.items()}
        lines.append("  ".join([" width", *(name.ljust(size) for name, size in sizes.items())]).rstrip())
        for k, width in enumerate(self.widths):
            lines.append(
                "  ".join([f"{width:6d}", *(cells[name][k].ljust(size) for name, size in sizes.items())]).rstrip()
            )
        if len(self.widths) > 1 and max(self.networks) > len(self.seeds):
            lines.append(f"slopes of the mean deviations of {', '.join(map(str, self.networks))} networks")
        for name, error in self.limit_errors.items():
            lines.append(f"the limit of {name} is an estimate itself: its relative standard error is {error:.2g}")
        for name, slope in self.slopes.items():
            lines.append(f"slope {name}: {'none' if slope is None else format(slope, '.2f')}")
        return "\n".join(lines)


def verify(
    program: Program,
    x1: Any = None,
    widths: Sequence[int] = WIDTHS,
    seeds: int | Sequence[int] = SEEDS,
    get: str | Sequence[str] = KERNELS,
    *,
    dtype: Any = np.float32,
    replicates: int | None = None,
    tol: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compares networks of these widths with the limit, on (x1, x1).

    x1: data as for a kernel; None where the program has no inputs. seeds: how many networks of every width, or their
    seeds. get: "nngp", "ntk" or both; where all outputs are C's it plays no part, and their values are compared.
    dtype: in which the networks are computed. replicates: how many networks a seed draws; the first stands in the
    table, and all of them go into the slope (None: up to 16 where they are small). tol: of limits that are sampled, the
    standard error to reach, as a part of the largest entry. progress: called with (done, total), a count over widths
    and seeds.

    The NNGP of one network is its mean over the readouts given all that comes before, E f(x) f(x') = s·<x, x'>/n, which
    leaves much less noise than products of outputs do. Its NTK is by the parameters as they are drawn from N.

    Raises ProgramError where a limit does not exist, ValueError where an argument does not fit, or where a network does
    not fit the memory.
    """
    if not isinstance(getattr(program, "ir", None), ir.Program):
        raise ValueError(f"a program is verified, from load or parse, not {shown(program)}")
    widths = _widths(widths)
    chosen = _seeds(seeds)
    names = _kernels(get)
    if replicates is not None and (whole(replicates) or 0) < 1:
        raise ValueError(f"replicates is a number of networks, at least 1, not {shown(replicates)}")
    readout = any(isinstance(f.type, Process) for f in program.ir.outputs)
    argument = read_argument(program.ir, x1)
    limits: dict[str, NDArray[Any]] = {}
    errors: dict[str, float] = {}
    if readout:
        _limit_kernels(program, x1, names, tol, limits, errors)
    scalars = [f.name for f in program.ir.outputs if not isinstance(f.type, Process)]
    if scalars:
        found = program.limits(x1)
        limits |= {name: np.asarray(found[name]) for name in scalars}
    data = _as(argument, dtype)
    deviations = {name: np.zeros((len(widths), len(chosen))) for name in limits}
    means = {name: np.zeros(len(widths)) for name in limits}
    networks: list[int] = []
    finite: dict[str, NDArray[Any]] = {}
    for w, width in enumerate(widths):
        network = FiniteNetwork(program.ir, width, dtype)
        each = replicates or _affordable(network, argument)
        networks.append(each * len(chosen))
        finite = {name: np.zeros(limit.shape) for name, limit in limits.items()}
        for k, seed in enumerate(chosen):
            for r in range(each):
                params = network.draw((seed, r) if r else seed, data)
                values = _values(network, params, data, names if readout else (), scalars)
                for name, limit in limits.items():
                    deviation = _deviation(values[name], limit)
                    means[name][w] += deviation / networks[-1]
                    finite[name] += values[name] / networks[-1]
                    if r == 0:
                        deviations[name][w, k] = deviation
            if progress is not None:
                progress(w * len(chosen) + k + 1, len(widths) * len(chosen))
    return Verification(program.name, widths, chosen, deviations, tuple(networks), means, limits, finite, errors)


def _values(network: FiniteNetwork, params, data, kernels: tuple[str, ...], scalars: list[str]) -> dict[str, Any]:
    """The kernels of one network, and its outputs of type C, in double precision."""
    values: dict[str, Any] = {}
    if kernels:
        values |= empirical_kernels(network, params, data, kernels)
    if scalars:
        outputs = network.apply(params, data)
        values |= {name: outputs[name] for name in scalars}
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def _affordable(network: FiniteNetwork, argument: Argument) -> int:
    """How many networks of a seed cost little."""
    at = network.at(frozen(argument.sizes), frozen(argument.features))
    rows = argument.count
    if network.readout is not None:
        rows *= at.plan.families.count(network.readout.name)
    work = rows * sum(d.count for d in at.draws.values())
    return max(1, min(_MOST_REPLICATES, _SMALL // max(work, 1)))


def _limit_kernels(
    program: Program, x1: Any, names: tuple[str, ...], tol: float | None, limits: dict, errors: dict
) -> None:
    result = program.kernel(tol=tol)(x1, None, names, return_stderr=True)
    for name in names:
        limits[name] = np.asarray(getattr(result, name), np.float64)
        error = _norm(getattr(result, f"{name}_stderr"))
        if error > 0:  # the limit is sampled
            errors[name] = error / (_norm(limits[name]) or 1.0)


def _deviation(value: NDArray[np.float64], limit: NDArray[Any]) -> float:
    return _norm(value - limit) / (_norm(limit) or 1.0)


def _norm(array: NDArray[Any]) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64).reshape(-1)))


def _as(argument: Argument, dtype: Any) -> dict[str, Any] | None:
    return {name: np.asarray(a, dtype) for name, a in argument.arrays.items()} or None


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    one = whole(widths)
    given = (one,) if one is not None else _listed(widths)
    if not given or any(w is None or w < 1 for w in given):
        raise ValueError(f"widths are integers of at least 1, not {shown(widths)}")
    return tuple(sorted({w for w in given if w is not None}))


def _listed(values: Any) -> tuple[int | None, ...]:
    """The integers of a list or an array, None in place of what is no integer."""
    listed = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    return tuple(map(whole, values)) if listed or getattr(values, "ndim", 0) == 1 else ()


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    count = whole(seeds)
    given = tuple(range(count)) if count is not None else _listed(seeds)
    if not given or any(s is None or s < 0 for s in given):
        raise ValueError(f"seeds is their number, at least 1, or a list of integers, not {shown(seeds)}")
    return tuple(s for s in given if s is not None)


def _kernels(get: str | Sequence[str]) -> tuple[str, ...]:
    return kernel_names(get)
