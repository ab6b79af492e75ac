"""Programs whose kernels are sampled, compiled once for the tests that share them."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog as tp


@pytest.fixture(scope="session")
def tokens() -> np.ndarray:
    """Two short sequences, (2, 3, 4)."""
    return np.random.default_rng(0).normal(size=(2, 3, 4))


@pytest.fixture(scope="session")
def gru():
    """The GRU, few points to a lattice."""
    return tp.load("gru", var_b=0.5).kernel(points=251)
