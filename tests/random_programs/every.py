"""All that is demanded of a random program, one after another."""

from __future__ import annotations

from . import demands
from .generator import Sample


def demand_all(sample: Sample, tier: int, sampled: bool = True) -> str:
    """What came of it, in a few words; raises Failure or Refused.

    sampled: whether what is sampled, which takes ten times as long, is computed too."""
    program = demands.reads_well(sample.text, thorough=sample.seed % 4 == 0)
    if tier < 2:
        return "passed"
    if program.sampled and not sampled:
        return "passed, sampled numbers left out"
    data = sample.data()
    demands.has_networks(sample.text, data)
    numbers = demands.kernels(program, data)
    demands.agrees_with_networks(sample.text, data, numbers)
    if tier < 3:
        return "passed"
    demands.same_from_core(program, data, numbers)
    return "passed, with the NTK two ways" if demands.two_ways(program, data, numbers) else "passed"
