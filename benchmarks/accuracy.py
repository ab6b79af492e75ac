"""Kernels in float32 against the same in float64, entry by entry, and both against panels at any variance."""

from __future__ import annotations

import importlib.util
import pathlib

import jax
import numpy as np

import tensorprog as tp

CASES = (
    ("mlp", {"depth": 4}, (100, 784)),
    ("mlp", {"depth": 21}, (100, 784)),
    ("cnn_flat", {"depth": 21}, (8, 32, 32, 3)),
    ("cnn_pool", {"depth": 21}, (1, 32, 32, 3)),
)


def deviations(program: str, parameters: dict[str, int], shape: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """By kernel: the largest relative deviation between two batches, and of a batch with itself."""
    x1, x2 = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    loaded = tp.load(program, **parameters)
    single, double = (loaded.kernel(dtype=t) for t in (np.float32, np.float64))
    found: dict[str, list[float]] = {"nngp": [], "ntk": []}
    for other in (x2, None):
        for name, low, high in zip(found, single(x1, other), double(x1, other), strict=True):
            found[name].append(float(np.max(np.abs(np.asarray(low) / np.asarray(high) - 1))))
    return {name: (cross, own) for name, (cross, own) in found.items()}


def show(quick: bool) -> None:
    jax.config.update("jax_enable_x64", True)
    print("| program | data | NNGP, x1 and x2 | NNGP, x2 = x1 | NTK, x1 and x2 | NTK, x2 = x1 |")
    print("|---|---|--:|--:|--:|--:|")
    for program, parameters, shape in CASES[: 2 if quick else None]:
        found = deviations(program, parameters, shape)
        numbers = " | ".join(f"{x:.1e}" for name in ("nngp", "ntk") for x in found[name])
        size = "×".join(map(str, shape)) + f", depth {parameters['depth']}"
        print(f"| {program} | {size} | {numbers} |", flush=True)


def _panels():
    """The brute force of the tests: Gauss-Legendre panels that double in length away from every bend."""
    path = pathlib.Path(__file__).parents[1] / "tests" / "expectation" / "panels.py"
    spec = importlib.util.spec_from_file_location("panels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def show_variances(quick: bool) -> None:
    """Largest relative errors over all correlations, by function and variance: NNGP, NTK, gradient in the input."""
    jax.config.update("jax_enable_x64", True)
    panels = _panels()
    columns = [*(f"{v:.0e}" if v not in (1, 10, 100) else f"{v:.0f}" for v in panels.VARIANCES), "unequal"]
    for dtype in (np.float64, np.float32):
        print(f"\n{dtype.__name__}\n\n| function | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for function in list(panels.FUNCTIONS)[: 2 if quick else None]:
            kernel = tp.parse(panels.PROGRAM.format(function=function)).kernel()
            print(row(function, panels.errors(function, kernel, dtype).max(axis=1), len(panels.VARIANCES)), flush=True)


def row(function: str, errors: np.ndarray, equal: int) -> str:
    """A line of the table: errors (pairs of variances, 3), of which the first `equal` are of equal variances."""
    cells = [*errors[:equal], errors[equal:].max(axis=0)]
    return f"| `{function}` | {' | '.join(' '.join(f'{x:.0e}' for x in cell) for cell in cells)} |"
