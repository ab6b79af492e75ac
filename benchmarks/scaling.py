"""How the time of a kernel grows with its size, beside a plain NumPy recursion.

Every row is one shape of data on one program. Its first call compiles; `compile` is that call less a later one. The
later calls and those of NumPy take turns, and the fastest of each counts, so that what else runs on the machine falls
on both. An entry is one number of the last layer's table: N² of a perceptron, (N·T)² of a recurrent network, and
(N·pixels)² of a convolutional one with pooling. The exponent of a group is fitted to its two largest sizes; the
expected one is that of the entries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from numpy.typing import NDArray

import tensorprog as tp

Array = NDArray[np.float64]


def numpy_mlp(x: Array, depth: int) -> Array:
    """The NNGP kernel (N, N) of `mlp` (relu, var_w = 2) on x, (N, d), by the arc-cosine recursion."""
    k = 2 * x @ x.T / x.shape[1]
    for layer in range(depth):
        root = np.sqrt(np.diagonal(k))
        scale = np.outer(root, root)
        c = np.clip(k / scale, -1, 1)
        moment = scale * (c * (np.pi - np.arccos(c)) + np.sqrt(1 - c * c)) / (2 * np.pi)
        k = 2 * moment if layer < depth - 1 else moment
    return k


def numpy_rnn(x: Array) -> Array:
    """The NNGP kernel (N, N) of `rnn_avgpool` (erf, unit variances) on x, (N, T, d), a pair of tokens at a time."""
    samples, length, features = x.shape
    variance = np.zeros((samples, length))
    state = np.zeros(samples)
    for t in range(length):
        variance[:, t] = state + np.einsum("nd,nd->n", x[:, t], x[:, t]) / features
        state = 2 / np.pi * np.arcsin(2 * variance[:, t] / (1 + 2 * variance[:, t]))
    root = np.sqrt(1 + 2 * variance)
    total = np.zeros((samples, samples))
    before = [np.zeros((samples, samples))] * (length + 1)
    for t in range(length):
        row = [np.zeros((samples, samples))]
        for u in range(length):
            h = before[u] + x[:, t] @ x[:, u].T / features
            row.append(2 / np.pi * np.arcsin(2 * h / np.outer(root[:, t], root[:, u])))
        before = row
        total += sum(row)
    return total / length**2


@dataclass(frozen=True)
class Case:
    """One row: a program with its parameters on data of one shape, and the NumPy recursion that it is set against."""

    program: str
    shape: tuple[int, ...]
    entries: int
    parameters: dict[str, int]
    plain: Callable[[Array], Array] | None = None


@dataclass(frozen=True)
class Group:
    """Rows in which one size grows; time goes with its power `expected` where the tables are large."""

    size: str
    expected: int
    sizes: tuple[int, ...]
    case: Callable[[int], Case]


def mlp(samples: int, depth: int) -> Case:
    return Case("mlp", (samples, 64), samples**2, {"depth": depth}, lambda x: numpy_mlp(x, depth))


def rnn(samples: int, length: int) -> Case:
    return Case("rnn_avgpool", (samples, length, 8), (samples * length) ** 2, {}, numpy_rnn)


def cnn_flat(samples: int, side: int) -> Case:
    return Case("cnn_flat", (samples, side, side, 3), (samples * side) ** 2, {"depth": 5})


def cnn_pool(samples: int, side: int, depth: int) -> Case:
    return Case("cnn_pool", (samples, side, side, 3), (samples * side * side) ** 2, {"depth": depth})


GROUPS = (
    Group("N", 2, (300, 1000, 2000, 4000), lambda n: mlp(n, 3)),
    Group("depth", 1, (4, 16, 64), lambda depth: mlp(2000, depth)),
    Group("N", 2, (10, 30, 100, 300), lambda n: rnn(n, 16)),
    Group("T", 2, (8, 32, 128, 256), lambda length: rnn(20, length)),
    Group("side", 2, (8, 16, 32, 64), lambda side: cnn_flat(16, side)),
    Group("side", 4, (4, 8, 16, 32), lambda side: cnn_pool(2, side, 3)),
    Group("depth", 1, (3, 10, 21), lambda depth: cnn_pool(2, 16, depth)),
)


def timed(call: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure(case: Case, repeats: int) -> tuple[str, dict[str, float]]:
    """A row of the table, and its times. Raises AssertionError where the kernel and NumPy disagree."""
    x = np.random.default_rng(0).normal(size=case.shape)
    kernel = tp.load(case.program, **case.parameters).kernel()

    def nngp() -> Array:
        return np.asarray(kernel(x, None, "nngp"))

    def both() -> list[Array]:
        return [np.asarray(k) for k in kernel(x)]

    first, found = timed(nngp)
    first_both, _ = timed(both)
    plain = case.plain
    if plain is not None:
        np.testing.assert_allclose(found, plain(x), rtol=1e-9)
    times: dict[str, list[float]] = {"nngp": [], "both": [], "plain": []}
    for _ in range(repeats):
        times["nngp"].append(timed(nngp)[0])
        times["both"].append(timed(both)[0])
        if plain is not None:
            times["plain"].append(timed(lambda: plain(x))[0])
    best = {name: min(values) for name, values in times.items() if values}
    size = "×".join(map(str, case.shape)) + "".join(f", {name} {value}" for name, value in case.parameters.items())

    def per_entry(name: str) -> str:
        return f"{1e9 * best[name] / case.entries:.2f}" if name in best else ""

    ratio = f"{best['plain'] / best['nngp']:.1f}" if "plain" in best else ""
    cells = [
        case.program,
        size,
        f"{max(first - best['nngp'], 0):.2f}",
        f"{max(first_both - best['both'], 0):.2f}",
        f"{1e3 * best['nngp']:.1f}",
        per_entry("nngp"),
        per_entry("both"),
        per_entry("plain"),
        ratio,
    ]
    return "| " + " | ".join(cells) + " |", best


HEAD = """\
| program | data | compile NNGP, s | compile NNGP + NTK, s | NNGP, ms | NNGP, ns/entry | NNGP + NTK, ns/entry | \
NumPy NNGP, ns/entry | NumPy : NNGP |
|---|---|--:|--:|--:|--:|--:|--:|--:|"""


def show(quick: bool, repeats: int = 7) -> None:
    jax.config.update("jax_enable_x64", True)
    print(HEAD)
    exponents = []
    for group in GROUPS:
        sizes = group.sizes[: 2 if quick else None]
        times = []
        for size in sizes:
            row, best = measure(group.case(size), 2 if quick else repeats)
            times.append(best)
            print(row, flush=True)
        (small, large), (before, after) = sizes[-2:], times[-2:]
        fitted = {name: np.log(after[name] / before[name]) / np.log(large / small) for name in ("nngp", "both")}
        name = group.case(large).program
        exponents.append(
            f"| {name} | {group.size} from {small} to {large} | {group.expected} | {fitted['nngp']:.2f} "
            f"| {fitted['both']:.2f} |"
        )
    print("\n| program | grows | expected exponent | fitted, NNGP | fitted, NNGP + NTK |\n|---|---|--:|--:|--:|")
    print("\n".join(exponents))
