"""Whether arrays are finite, also where their sums are not."""

import numpy as np
import pytest

from tensorprog.finiteness import all_finite


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_finite_entries_whose_sum_overflows(dtype):
    assert all_finite(np.full((4, 5), np.finfo(dtype).max, dtype))
    assert all_finite(-np.full(3, np.finfo(dtype).max, dtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_entry_that_is_not(bad, place):
    values = np.linspace(-1, 1, 20)
    values[place] = bad
    assert not all_finite(values.reshape(4, 5))


def test_infinities_that_cancel_in_the_sum():
    assert not all_finite(np.array([np.inf, 1.0, -np.inf]))
    big = np.finfo(np.float64).max
    assert not all_finite(np.array([big, big, -np.inf]))


def test_integers_and_nothing_at_all():
    assert all_finite(np.array([2**62, 2**62, 2**62]))
    assert all_finite(np.empty((0, 3)))
