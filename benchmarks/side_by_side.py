"""This package against neural-tangents: the same networks on the same data, call by call in turns.

Each library runs in a process of its own. Both get NumPy arrays and give NumPy arrays, both compute NNGP and NTK in
one call, in float32. The calls take turns, and a ratio is that of the medians; the first call of each compiles, and
counts in CPU time, which does not depend on what else a machine does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from environment import NoEnvironment, python_with_neural_tangents

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """A network in both libraries: a bundled program, or `text` where it is given, and its name in `networks.py`."""

    title: str
    program: str
    shape: tuple[int, ...]
    samples: int
    repeats: int
    parameters: Mapping[str, int] = field(default_factory=dict)
    text: str = ""
    wanted: float = 1.0


CASES = (
    Case("4 × (Dense, ReLU), 784 features", "mlp", (784,), 2000, 9, {"depth": 4}, wanted=1.8),
    Case("21 × (Conv 3×3, ReLU), Flatten, 32×32×3", "cnn_flat", (32, 32, 3), 32, 9, {"depth": 21}, wanted=4.0),
    Case("21 × (Conv 3×3, ReLU), GlobalAvgPool, 32×32×3", "cnn_pool", (32, 32, 3), 2, 3, {"depth": 21}, wanted=20.0),
)
HEAD = """\
| work, float32, NNGP + NTK | pairs | neural-tangents, ms | tensorprog, ms | ratio | of CPU time | wanted | \
compile neural-tangents, s | compile tensorprog, s | largest difference, NNGP | NTK |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


class Side:
    """A library in its process."""

    def __init__(self, python: str, library: str):
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=HERE.parent,
        )

    def ask(self, **command) -> dict[str, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            assert self.process.stderr is not None
            raise RuntimeError(f"the process of a library ended: {self.process.stderr.read()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def rows(cases: Sequence[Case], quick: bool = False, only: tuple[str, ...] = ()) -> Iterator[str]:
    """The table, line by line. Raises NoEnvironment where neural-tangents cannot be had."""
    other = str(python_with_neural_tangents())
    yield HEAD
    for case in cases:
        if only and case.program not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            yield _row(case, other, Path(folder), quick)


def _row(case: Case, other: str, folder: Path, quick: bool) -> str:
    samples = max(1, case.samples // 2) if quick else case.samples
    repeats = 3 if quick else case.repeats
    generator = np.random.default_rng(0)
    for name in ("x1", "x2"):
        np.save(folder / f"{name}.npy", generator.normal(size=(samples, *case.shape)).astype(np.float32))
    network = {"program": case.program, "parameters": dict(case.parameters), "text": case.text}
    sides = {"neural_tangents": Side(other, "neural_tangents"), "tensorprog": Side(sys.executable, "tensorprog")}
    try:
        first, times, found = {}, {name: [] for name in sides}, {}
        for name, side in sides.items():
            data = {"x1": str(folder / "x1.npy"), "x2": str(folder / "x2.npy")}
            results = folder / f"{name}.npz"
            first[name] = side.ask(case=network, results=str(results), **data)["cpu"]
            found[name] = dict(np.load(results))
        for _ in range(repeats):
            for name, side in sides.items():
                times[name].append(side.ask(call=True))
    finally:
        for side in sides.values():
            side.close()
    median = {name: float(np.median([t["seconds"] for t in found])) for name, found in times.items()}
    busy = {name: float(np.median([t["cpu"] for t in found])) for name, found in times.items()}
    apart = {
        k: float(np.max(np.abs(found["tensorprog"][k] / found["neural_tangents"][k] - 1))) for k in ("nngp", "ntk")
    }
    cells = [
        case.title,
        f"{samples} × {samples}",
        f"{1e3 * median['neural_tangents']:.1f}",
        f"{1e3 * median['tensorprog']:.1f}",
        f"**{median['neural_tangents'] / median['tensorprog']:.1f}**",
        f"{busy['neural_tangents'] / busy['tensorprog']:.1f}",
        f"{case.wanted:g}",
        f"{max(first['neural_tangents'] - busy['neural_tangents'], 0):.1f}",
        f"{max(first['tensorprog'] - busy['tensorprog'], 0):.1f}",
        f"{apart['nngp']:.0e}",
        f"{apart['ntk']:.0e}",
    ]
    return "| " + " | ".join(cells) + " |"


def show(quick: bool, only: tuple[str, ...] = ()) -> None:
    show_cases(CASES, quick, only)


def show_cases(cases: Sequence[Case], quick: bool, only: tuple[str, ...] = ()) -> None:
    try:
        for row in rows(cases, quick, only):
            print(row, flush=True)
    except NoEnvironment as error:
        print(f"Not measured against neural-tangents: {error}", flush=True)
