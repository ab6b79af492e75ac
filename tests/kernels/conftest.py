"""Kernels compiled once a session, and what they are compared with: Gaussian expectations by plain quadrature."""

import functools
import types

import numpy as np
import pytest
from scipy.special import erf, expit

import tensorprog as tp


@functools.cache
def _program(source: str, settings: tuple):
    return (tp.parse if "\n" in source else tp.load)(source, **dict(settings))


@functools.cache
def _kernel(source: str, settings: tuple):
    return _program(source, settings).kernel()


@pytest.fixture(scope="session")
def program():
    """program(name or text, **settings): a Program, the same one for the same arguments."""
    return lambda source, **settings: _program(source, tuple(sorted(settings.items())))


@pytest.fixture(scope="session")
def kernel():
    """kernel(name or text, **settings): its Kernel, the same one for the same arguments."""
    return lambda source, **settings: _kernel(source, tuple(sorted(settings.items())))


# ---------------------------------------------------------------- expectations

LEGENDRE_NODES, LEGENDRE_WEIGHTS = np.polynomial.legendre.leggauss(20)
REACH = 9.5  # e^{-REACH²/2} is 2.5e-20


def panels(breaks: np.ndarray, pieces: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a composite Gauss-Legendre rule that is split at the breaks, (..., number of breaks)."""
    steps = np.linspace(0, 1, pieces + 1)
    low, high = breaks[..., :-1, None], breaks[..., 1:, None]
    edges = low + (high - low) * steps
    half = (edges[..., 1:] - edges[..., :-1])[..., None] / 2
    nodes = edges[..., :-1, None] + half * (1 + LEGENDRE_NODES)
    weights = half * LEGENDRE_WEIGHTS
    flat = (*breaks.shape[:-1], -1)
    return nodes.reshape(flat), np.broadcast_to(weights, nodes.shape).reshape(flat)


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def mean_of(f, p, mu=0.0):
    """E f(z), z of mean mu and variance p; f may have a kink or a jump at 0."""
    if p == 0:
        return float(f(np.asarray(mu, float)))
    root = np.sqrt(p)
    x, weights = panels(np.sort([-REACH, np.clip(-mu / root, -REACH, REACH), REACH]))
    return float(np.sum(weights * density(x) * f(mu + root * x)))


def expectation(f, g, p, q, k, mu=0.0, nu=0.0, pieces=4):
    """E f(z) g(w), (z, w) Gaussian of means mu, nu, variances p, q and covariance k, kinks and jumps at 0 alone.

    Large variances of functions that bend over a length of 1 need more pieces than 4.
    w = nu + k/sqrt(p)·a + s·b with independent normal a and b; each integral is split at what is not smooth in it.
    """
    if p == 0 or q == 0:
        return mean_of(f, p, mu) * mean_of(g, q, nu)
    slope = k / np.sqrt(p)
    spread = np.sqrt(max(q - slope**2, 0.0))
    crossings = [-mu / np.sqrt(p), -nu / slope if slope else 0.0]
    if spread < 1e-7 * np.sqrt(q):  # the same variable, up to its sign
        a, weights = panels(np.sort([-REACH, *np.clip(crossings, -REACH, REACH), REACH]), pieces)
        return float(np.sum(weights * density(a) * f(mu + np.sqrt(p) * a) * g(nu + slope * a)))
    # Around the crossing, what is left of the inner integral varies within spread/slope.
    width = 6 * spread / abs(slope) if slope else 0.0
    around = [*crossings, crossings[1] - width, crossings[1] + width]
    a, outer = panels(np.sort([-REACH, *np.clip(around, -REACH, REACH), REACH]), pieces)
    a, outer = a[outer > 0], outer[outer > 0]
    kink = np.clip(-(nu + slope * a) / spread, -REACH, REACH)
    b, inner = panels(np.stack([np.full_like(a, -REACH), kink, np.full_like(a, REACH)], axis=-1), pieces)
    w = nu + slope * a[:, None] + spread * b
    conditional = np.sum(inner * density(b) * g(w), axis=-1)
    return float(np.sum(outer * density(a) * f(mu + np.sqrt(p) * a) * conditional))


def dual(f, covariance: np.ndarray, means=None, pieces=4) -> np.ndarray:
    """E f(z_i) f(z_j) for all i and j, z of that covariance matrix."""
    size = len(covariance)
    means = np.zeros(size) if means is None else means
    result = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            result[i, j] = result[j, i] = expectation(
                f, f, covariance[i, i], covariance[j, j], covariance[i, j], means[i], means[j], pieces
            )
    return result


# Functions and their derivatives, written with NumPy; kinks at 0 alone.
FUNCTIONS = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.heaviside(x, 0.5)),
    "erf": (erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "sigmoid": (expit, lambda x: expit(x) * expit(-x)),
    "silu": (lambda x: x * expit(x), lambda x: expit(x) * (1 + x * expit(-x))),
    "softplus": (lambda x: np.logaddexp(x, 0), expit),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: np.exp(np.minimum(x, 0))),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    "abs": (np.abs, np.sign),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "gelu": (
        lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        lambda x: (1 + erf(x / np.sqrt(2))) / 2 + x * density(x),
    ),
    "square": (np.square, lambda x: 2 * x),
}  # fmt: skip


@pytest.fixture(scope="session")
def quadrature():
    """expectation, dual and mean_of, and the functions by their names: (f, f')."""
    return types.SimpleNamespace(expectation=expectation, dual=dual, mean_of=mean_of, functions=FUNCTIONS)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def _close(actual, expected, tolerance=1e-9):
    """Agreement relative to the largest entry, as the tolerances of the reference arrays are meant."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), np.finfo(float).tiny)
    assert error <= tolerance, f"relative error {error:.2e}:\n{actual}\nexpected\n{expected}"


@pytest.fixture(scope="session")
def close():
    return _close
