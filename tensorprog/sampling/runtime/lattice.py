"""Randomly shifted rank-1 lattices: quasi-Monte Carlo points whose means carry a standard error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Primes, so that the search for a lattice is a convolution; about four times as many points from one to the next.
LATTICE_SIZES = (251, 1021, 4093, 16381, 65521, 262139)


def primitive_root(n):
    """A generator of the multiplicative group of the integers modulo the prime n."""
    factors, rest, f = set(), n - 1, 2
    while f * f <= rest:
        while rest % f == 0:
            factors.add(f)
            rest //= f
        f += 1
    factors |= {rest} - {1}
    return next(g for g in range(2, n) if all(pow(g, (n - 1) // p, n) != 1 for p in factors))


@functools.lru_cache(maxsize=32)
def generating_vector(dimensions, n):
    """Integers z_1, z_2, … for the lattice of points frac(k z / n), n prime.

    Component by component (Sloan & Reztsov), each candidate at once through a Fourier transform (Nuyens & Cools): the
    worst-case error in the Korobov space of smoothness 2 with equal weights 1 / dimensions.
    """
    g = primitive_root(n)
    powers = np.empty(n - 1, np.int64)
    powers[0] = 1
    for a in range(1, n - 1):
        powers[a] = powers[a - 1] * g % n
    x = powers / n
    omega = 2 * np.pi**2 * (x * x - x + 1 / 6)
    spectrum = np.fft.rfft(omega)
    product = np.ones(n - 1)
    chosen = np.empty(dimensions, np.int64)
    for j in range(dimensions):
        errors = np.fft.irfft(np.conj(np.fft.rfft(product)) * spectrum, n - 1)
        b = int(np.argmin(errors)) if j else 0
        chosen[j] = powers[b]
        product *= 1 + np.roll(omega, -b) / dimensions
        product /= product.max()
    return chosen


@functools.lru_cache(maxsize=8)
def uniform_points(dimensions, n, replicates, seed):
    """Points in the unit cube, (replicates, dimensions, n): one lattice, shifted at random for each replicate.

    The tent map makes integrands periodic, which is what a lattice integrates well.
    """
    z = generating_vector(dimensions, n)
    shifts = np.random.default_rng(seed).random((replicates, dimensions, 1))
    u = (np.arange(n) * z[:, None] % n / n + shifts) % 1.0
    return 1 - np.abs(2 * u - 1)


def normal_points(dimensions, n, replicates, seed, dtype):
    """Standard normal points, (replicates, dimensions, n)."""
    edge = 1e-16 if dtype == jnp.float64 else 3e-8
    u = jnp.asarray(np.clip(uniform_points(max(dimensions, 1), n, replicates, seed), edge, 1 - edge), dtype)
    return jax.scipy.special.ndtri(u)
