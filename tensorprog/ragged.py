"""Kernels between samples whose axes differ in length: sequences of different lengths in one call.

    k([x_a, x_b])      x_a of shape (7, d), x_b of shape (9, d)

Samples of equal shape are evaluated together. An output without axes gives an array (N1, N2); one with axes gives
blocks [i][j] of shape (*output axes of sample i, *output axes of sample j), which `numpy.block` puts together where the
output has one axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tensorprog.settings import shown

Sample = Mapping[str, Any]


def is_ragged(x: Any) -> bool:
    """Whether an argument is a list of samples whose shapes differ, or a dict of such lists."""
    columns = list(x.values()) if isinstance(x, Mapping) else [x]
    return any(isinstance(c, list | tuple) and len({np.shape(s) for s in _shaped(c)}) > 1 for c in columns)


def _shaped(column: Sequence[Any]) -> list[Any]:
    """The samples that have a shape; what has none is left for the checks of data to refuse."""
    found = []
    for s in column:
        if hasattr(s, "shape"):
            found.append(s)
            continue
        try:
            found.append(np.asarray(s, dtype=np.float64))
        except (TypeError, ValueError):
            return []
    return found


def evaluate(call: Callable[[Any, Any], Any], inputs: Sequence[str], x1: Any, x2: Any):
    """The kernels of all pairs, from `call` on batches of equal shape; x2 None stands for x1.

    call: (dict of arrays, dict or None) → an array, or a named tuple of arrays (N1, N2, *axes, *axes').
    Raises ValueError where the lists of several inputs differ in length.
    """
    first = _samples(x1, inputs, "x1")
    second = first if x2 is None else _samples(x2, inputs, "x2")
    rows = _groups(first)
    columns = rows if x2 is None else _groups(second)
    parts: dict[tuple[int, int], Any] = {}
    for a, one in enumerate(rows):
        for b, two in enumerate(columns):
            if x2 is None and b < a:
                continue
            if x2 is None and a == b:
                parts[a, b] = call(_batch(first, one), None)
            else:
                parts[a, b] = call(_batch(first, one), _batch(second, two))
    sample = next(iter(parts.values()))
    if not isinstance(sample, tuple):
        return _assembled(parts, rows, columns, x2 is None)
    return type(sample)(
        *(_assembled({k: p[n] for k, p in parts.items()}, rows, columns, x2 is None) for n in range(len(sample)))
    )


def _samples(x: Any, inputs: Sequence[str], which: str) -> list[Sample]:
    columns = dict(x) if isinstance(x, Mapping) else {inputs[0]: x}
    for name in inputs:
        if name not in columns:
            raise ValueError(f"{which}: the data for '{name}' are missing")
    columns = {name: _column(c, name, which) for name, c in columns.items()}
    counts = {name: len(c) for name, c in columns.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' has {n}" for name, n in counts.items())
        raise ValueError(f"{which}: the inputs differ in the number of samples: {listed}")
    return [{name: c[n] for name, c in columns.items()} for n in range(next(iter(counts.values())))]


def _column(values: Any, name: str, which: str) -> list[Any]:
    """The samples of one input, each an array. Raises ValueError for what is no list of such."""
    if not isinstance(values, list | tuple) and getattr(values, "ndim", 0) < 1:
        raise ValueError(f"{which}: '{name}' is a list of samples, or an array of such, not {shown(values)}")
    if len(values) == 0:
        raise ValueError(f"{which}: '{name}' has no samples")
    samples = []
    for k, sample in enumerate(np.asarray(values) if isinstance(values, np.ndarray) else values):
        if not hasattr(sample, "dtype"):
            try:
                sample = np.asarray(sample, dtype=np.float64)
            except (TypeError, ValueError):
                raise ValueError(f"{which}: sample {k} of '{name}' is not an array of numbers") from None
        elif isinstance(sample, np.ndarray | np.generic) and sample.dtype.kind not in "biufV":
            raise ValueError(f"{which}: sample {k} of '{name}' holds values of type {sample.dtype}, not numbers")
        samples.append(sample)
    return samples


def _groups(samples: Sequence[Sample]) -> list[list[int]]:
    """Numbers of samples, those of equal shape together."""
    found: dict[tuple, list[int]] = {}
    for n, s in enumerate(samples):
        found.setdefault(tuple((name, np.shape(a)) for name, a in s.items()), []).append(n)
    return list(found.values())


def _batch(samples: Sequence[Sample], numbers: Sequence[int]) -> dict[str, Any]:
    import jax.numpy as jnp

    arrays = [samples[n] for n in numbers]
    stack = np.stack if all(isinstance(a, np.ndarray) for s in arrays for a in s.values()) else jnp.stack
    return {name: stack([s[name] for s in arrays]) for name in arrays[0]}


def _assembled(parts, rows, columns, symmetric: bool):
    n1, n2 = sum(map(len, rows)), sum(map(len, columns))
    blocks: list[list[Any]] = [[None] * n2 for _ in range(n1)]
    for (a, b), part in parts.items():
        axes = (part.ndim - 2) // 2
        for i, n in enumerate(rows[a]):
            for j, m in enumerate(columns[b]):
                blocks[n][m] = part[i, j]
                if symmetric and a != b:
                    blocks[m][n] = part[i, j].transpose((*range(axes, 2 * axes), *range(axes)))
    if next(iter(parts.values())).ndim == 2:
        import jax.numpy as jnp

        return jnp.stack([jnp.stack(row) for row in blocks])
    return blocks
