"""Kernels and limits of the bundled programs at small sizes, in float64, as numbers that a file holds."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np

from tensorprog.index.bounds import bound_symbols, evaluate_bound
from tensorprog.program.types import Data, Position

from .texts import program

FILE = Path(__file__).parent / "values.json"
OPEN_SIZES = {"H": 8, "W": 9}
OPEN_SIZE, FEATURES = 4, 5
"""The lengths that the data have along an open axis, by its name."""


def data(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """x1 of two samples, and x2 of two others and the first of x1."""
    rng, first, second = np.random.default_rng(0), {}, {}
    for f in program(name).ir.inputs:
        ends = [
            evaluate_bound(b, {s: OPEN_SIZES.get(s, OPEN_SIZE) for s in bound_symbols(b)})
            for r in f.ranges
            for b in (r.low, r.high)
        ]
        shape = [high - low + 1 for low, high in zip(ends[::2], ends[1::2], strict=True)]
        if isinstance(f.type, Position):
            highest = f.type.size.substitute(program(name).ir.integers).constant
            draw = partial(rng.integers, 1, highest, endpoint=True, size=(2, *shape))
        else:
            draw = partial(rng.normal, size=(2, *shape, *([FEATURES] if isinstance(f.type, Data) else [])))
        first[f.name] = draw()
        second[f.name] = np.concatenate([draw(), first[f.name][:1]])
    return first, second


def values(name: str) -> dict[str, np.ndarray]:
    """Arrays by name: the kernels of x1 with x2, the NTK of x1 with itself, standard errors; or limits."""
    loaded = program(name)
    x1, x2 = data(name)
    with jax.enable_x64(True):
        if loaded.recursion.output is None:
            found = loaded.limits(x1 or None, return_stderr=True)
            return {key: np.asarray(value) for key, value in found.items()}
        get = ("nngp", "ntk") if loaded.ntk_error is None else ("nngp",)
        kernel = loaded.kernel(points=251, replicates=4)
        pair = kernel(x1, x2, get, return_stderr=True)._asdict()
        alone = kernel(x1, None, get[-1])
    return {**{key: np.asarray(value) for key, value in pair.items()}, f"{get[-1]} of x1": np.asarray(alone)}


def stored() -> dict[str, dict[str, np.ndarray]]:
    table = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return {
        name: {key: np.reshape(v["values"], v["shape"]) for key, v in arrays.items()} for name, arrays in table.items()
    }


def kept(was: dict[str, np.ndarray] | None, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is stored where only the last digits differ, which hang on the machine, and else what was found."""
    if was is None or list(was) != list(found) or any(was[k].shape != v.shape for k, v in found.items()):
        return found
    return {k: was[k] if np.abs(was[k] - v).max() <= 1e-13 * np.abs(v).max() else v for k, v in found.items()}


def store(table: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes a line to an array, so that changes can be read."""
    lines = []
    for name, arrays in sorted(table.items()):
        rows = [
            f"  {json.dumps(key)}: {json.dumps({'shape': list(v.shape), 'values': v.ravel().tolist()})}"
            for key, v in arrays.items()
        ]
        lines.append(f"{json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
