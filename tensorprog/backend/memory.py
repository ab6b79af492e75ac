"""How much memory tables take, and how much there is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from tensorprog.index.bounds import evaluate_bound
from tensorprog.index.ranges import Range, sizes_read_off
from tensorprog.program.ir import Program
from tensorprog.program.types import Data


def available_memory() -> int:
    """Memory of this machine, or of the container that this process is in, in bytes."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        physical = 8 * 2**30
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            physical = min(physical, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return physical


def device_memory() -> int:
    """Memory of the device that JAX computes on, in bytes."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return available_memory()
    return (device.memory_stats() or {}).get("bytes_limit") or available_memory()


class Footprint:
    """Counts the entries of a module's arrays for data of given shapes."""

    def __init__(self, program: Program, axes: Mapping[str, Sequence[Sequence[Range]]]):
        self.program = program
        self.axes = axes

    def sizes_of(self, inputs: Mapping[str, Any]) -> dict[str, int]:
        """Every size that the shapes of the inputs give, and the known integer parameters."""
        sizes = dict(self.program.integers)
        axes: list[tuple[int, Range]] = []
        for f in self.program.inputs:
            shape = inputs[f.name].shape
            axes += [(shape[k + 1], r) for k, r in enumerate(f.ranges)]
            if isinstance(f.type, Data):
                sizes[f.type.size] = shape[-1]
        for size in sizes_read_off(axes, self.program.integers):
            sizes.setdefault(size.name, (size.axis - size.rest.evaluate(sizes)) // size.factor)
        return sizes

    def count(self, ranges: Sequence[Range], first: Mapping[str, int], second: Mapping[str, int]) -> int:
        """Members of a product of ranges; primed sizes are the second run's."""
        values = {**first, **{s + "'": v for s, v in second.items()}}
        total = 1
        for r in ranges:
            total *= max(0, evaluate_bound(r.high, values) - evaluate_bound(r.low, values) + 1)
        return total

    def entries(self, part: str, first: Mapping[str, int], second: Mapping[str, int]) -> int:
        """Entries of all arrays of `run` for one sample, or of `pair` for one pair."""
        return sum(self.count(ranges, first, second) for ranges in self.axes[part])

    def largest(self, part: str, first: Mapping[str, int], second: Mapping[str, int]) -> int:
        """Entries of the largest of these arrays."""
        return max((self.count(ranges, first, second) for ranges in self.axes[part]), default=0)
