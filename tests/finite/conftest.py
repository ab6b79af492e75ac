"""What the tests of finite networks share: seeded data, and agreement relative to the largest entry."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def _close(actual, expected, tolerance):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), np.finfo(float).tiny)
    assert error <= tolerance, f"relative error {error:.2e}:\n{actual}\nexpected\n{expected}"


@pytest.fixture(scope="session")
def close():
    return _close
