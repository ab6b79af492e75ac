"""Lattices: their generating vectors, and what they integrate."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from tensorprog.sampling.runtime.lattice import (
    LATTICE_SIZES,
    generating_vector,
    normal_points,
    primitive_root,
    uniform_points,
)


@pytest.mark.parametrize("n", LATTICE_SIZES)
def test_sizes_are_primes_with_a_generator(n):
    g = primitive_root(n)
    assert all(n % f for f in range(2, int(n**0.5) + 1))
    assert pow(g, n - 1, n) == 1 and pow(g, (n - 1) // 2, n) == n - 1


def test_generating_vectors_have_no_two_equal_components():
    z = generating_vector(60, 1021)
    assert len(set(z)) == 60 and z.min() >= 1 and z.max() < 1021


def test_every_projection_on_one_axis_is_evenly_spread():
    u = uniform_points(5, 251, 1, 0)[0]
    for row in u:
        counts, _ = np.histogram(row, bins=25, range=(0, 1))
        assert counts.min() >= 9 and counts.max() <= 12


def test_smooth_products_are_integrated_far_better_than_by_random_points():
    u = uniform_points(6, 1021, 8, 3)
    values = np.prod(1 + (u - 0.5) / 2, axis=1).mean(-1)
    assert abs(values.mean() - 1) < 1e-4  # random points: 4e-3
    assert values.std(ddof=1) < 3e-4


def test_normals_have_the_moments_of_normals():
    z = normal_points(4, 4093, 4, 0, jnp.float64)
    np.testing.assert_allclose(jnp.mean(z, -1), 0, atol=2e-3)
    np.testing.assert_allclose(jnp.mean(z**2, -1), 1, atol=1e-2)
    np.testing.assert_allclose(jnp.einsum("rip,rjp->rij", z, z)[:, 0, 1] / 4093, 0, atol=1e-2)


def test_the_seed_sets_the_shifts():
    a, b, c = (uniform_points(3, 251, 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert abs(a - c).max() > 0.1
