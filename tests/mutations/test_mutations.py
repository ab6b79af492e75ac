"""Texts of programs with mistakes: diagnostics and no other exception. More of them: python -m tests.mutations."""

import pytest

from .demands import SECONDS, look_at
from .mutate import mutant


def is_told(seeds) -> set[str]:
    """The outcomes; AssertionError for an exception, or a check that takes too long."""
    kinds = set()
    for seed in seeds:
        name, text = mutant(seed)
        found = look_at(text, derive=seed % 20 == 0)
        if found.error is not None and found.kind == "exception":
            raise AssertionError(f"mutant {seed} of {name}:\n{text}") from found.error
        assert found.seconds < 2 * SECONDS, f"mutant {seed} of {name} took {found.seconds:.1f} s"
        kinds.add(found.kind)
    return kinds


def test_changed_texts():
    assert is_told(range(150)) == {"right", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("start", range(150, 2150, 200))
def test_many_changed_texts(start):
    assert is_told(range(start, start + 200)) == {"right", "refused"}


LARGE = """program large(P = 3)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
h[p = 1..P] := U @ x[p]
for p = 1..P:
    g[p] := sum[j = {}](h[j])
output y := mean[p = 1..P](v.T @ g[p]) / sqrt(n)
"""


@pytest.mark.parametrize(
    "bounds", ["999999999999999999999999..p", "p..999999999999999999999999", "-99999999999999999999..p"]
)
def test_large_bounds_beside_indices(bounds):
    assert look_at(LARGE.format(bounds)).kind == "refused"
