"""Values of loops through a matrix and its transpose, and of gates, against NumPy recursions of the limit at one input.

With one input both runs of a kernel are one: every vector is its values on a Gauss-Hermite grid, with its slopes in the
Gaussians that it is made of. `Side.multiply` is Tensor Programs III, box 1: a new Gaussian, and a term for each product
by the transpose that the vector came from. The NTK is Σ_p dK/dρ_p by Price's theorem, along the same slopes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.special import erf, expit

import tensorprog as tp

X = np.array([[1.0, 0.5, -0.3]])
Q = float(X[0] @ X[0]) / 3


MOST_NODES = 100  # of Gauss and Hermite


@dataclass
class Vector:
    """Values at the points of its side, and slopes in that side's Gaussians by number."""

    side: Side
    values: np.ndarray
    slopes: dict[int, np.ndarray]

    def map(self, f, slope) -> Vector:
        return Vector(self.side, f(self.values), {i: slope(self.values) * s for i, s in self.slopes.items()})

    def __add__(self, other: Vector) -> Vector:
        both = self.slopes.keys() | other.slopes.keys()
        slopes = {i: self.slopes.get(i, 0) + other.slopes.get(i, 0) for i in both}
        return Vector(self.side, self.values + other.values, slopes)

    def __rmul__(self, c: float) -> Vector:
        return Vector(self.side, c * self.values, {i: c * s for i, s in self.slopes.items()})


@dataclass
class Side:
    """Vectors of one width: what W.T gives, or what W gives; `ways` is how many Gaussians there may be."""

    ways: int
    points: int
    scale: float = 1.0  # of products that come here: m·Var W, or n·Var W
    covariance: np.ndarray = field(init=False)
    tangent: np.ndarray = field(init=False)
    made: dict[int, Vector] = field(default_factory=dict)  # by the number of its Gaussian, what was multiplied
    other: Side | None = None

    def __post_init__(self):
        if self.points > MOST_NODES:
            z = np.linspace(-8, 8, self.points)  # equal steps: right for functions with kinks, whose places differ
            w = np.exp(-(z**2) / 2)
        else:
            z, w = np.polynomial.hermite_e.hermegauss(self.points)
        grid = np.meshgrid(*[z] * self.ways, indexing="ij")
        self.grid = [g.ravel() for g in grid]
        self.weights = np.prod([g.ravel() for g in np.meshgrid(*[w / w.sum()] * self.ways, indexing="ij")], axis=0)
        self.covariance, self.tangent = np.zeros((0, 0)), np.zeros((0, 0))

    def mean(self, values: np.ndarray) -> float:
        return float(self.weights @ values)

    def second(self, x: Vector, y: Vector) -> tuple[float, float]:
        """E x y, and its tangent by Price's theorem."""
        moved = sum(self.mean(s * t) * self.tangent[i, j] for i, s in x.slopes.items() for j, t in y.slopes.items())
        return self.mean(x.values * y.values), moved

    def gaussian(self, row: list[float], tangents: list[float]) -> Vector:
        """A new Gaussian, with its covariances with the earlier ones and with itself at the end."""
        k = len(row)
        for name, new in (("covariance", row), ("tangent", tangents)):
            grown = np.zeros((k, k))
            grown[: k - 1, : k - 1] = getattr(self, name)
            grown[-1], grown[:, -1] = new, new
            setattr(self, name, grown)
        root = np.linalg.cholesky(self.covariance)[-1]
        return Vector(
            self, sum(r * g for r, g in zip(root, self.grid, strict=False)), {k - 1: np.ones_like(self.weights)}
        )

    def multiply(self, x: Vector) -> Vector:
        """The matrix that leads here, times a vector of the other side."""
        there, k = x.side, len(self.covariance)
        row, tangents = [], []
        for i in range(k):
            value, moved = there.second(x, self.made[i]) if i in self.made else (0.0, None)
            row.append(self.scale * value)
            tangents.append(0.0 if moved is None else self.scale * (value + moved))
        value, moved = there.second(x, x)
        made = self.gaussian([*row, self.scale * value], [*tangents, self.scale * (value + moved)])
        self.made[k] = x
        for i, y in there.made.items():
            if i in x.slopes:
                made = made + (self.scale * there.mean(x.slopes[i])) * y
        return made


def sides(ways, points, scales=(1.0, 1.0)):
    """The side of U @ x, which has its Gaussian first, and the side of W @ …"""
    here, there = Side(ways[0], points[0], scales[0]), Side(ways[1], points[1], scales[1])
    return here, there, here.gaussian([Q], [Q])


def output(x: Vector) -> tuple[float, float]:
    value, moved = x.side.second(x, x)
    return value, value + moved


def tanh(x):
    return x.map(np.tanh, lambda v: 1 - np.tanh(v) ** 2)


def relu(x):
    return x.map(lambda v: np.maximum(v, 0), lambda v: (v > 0) * 1.0)


def arctan(x):
    return x.map(np.arctan, lambda v: 1 / (1 + v * v))


def erf_of(x, c=1.0):
    return x.map(lambda v: erf(c * v), lambda v: c * 2 / np.sqrt(np.pi) * np.exp(-((c * v) ** 2)))


def narrow(f, points):
    here, there, h = sides((3, 2), (60, points), (0.5, 1.0))
    for _ in range(2):
        h = here.multiply(f(there.multiply(h)))
    return output(h)


NARROW = """program narrow(K = 2, phi = tanh)
input x : R(d)
width m = n / 2
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(m, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[0] := U @ x
for k = 1..K:
    h[k] := W.T @ phi(W @ h[k-1])
output y := v.T @ h[K] / sqrt(n)
"""


def hopfield():
    here, there, h = sides((3, 2), (60, 300), (3.0, 1.0))
    for _ in range(2):
        h = erf_of(here.multiply(relu(there.multiply(h))), 1 / 3)
    return output(h)


def eqprop():
    here, there, u = sides((3, 3), (40, 40))
    b = there.multiply(tanh(u))
    for _ in range(2):
        b = there.multiply(tanh(u + here.multiply(tanh(b))))
    return output(tanh(b))


def last_product():
    """erf(a4) tanh(a4) + 2 b of the Gaussian a4 = W.T @ tanh(m), and b of mean 1/3 and variance 1/2."""
    here, there, u = sides((2, 1), (60, 60))
    m = here.multiply(arctan(there.multiply(arctan(u))))
    value, moved = here.second(tanh(m), tanh(m))
    last = Side(1, 60)
    a4 = last.gaussian([value], [value + moved])
    e, t = erf_of(a4), tanh(a4)
    a5 = Vector(last, e.values * t.values, {0: e.slopes[0] * t.values + e.values * t.slopes[0]})
    value, moved = last.second(a5, a5)
    nngp = value + 2 * 2 / 3 * last.mean(a5.values) + 4 * (1 / 9 + 1 / 2)
    return nngp, nngp + moved + 4


KINDS = {
    "hopfield_relu": (hopfield, None),
    "eqprop": (eqprop, None),
    "sampled_einsum": (last_product, None),
    "narrow by tanh": (lambda: narrow(tanh, 60), {"phi": "tanh"}),
    "narrow by relu": (lambda: narrow(relu, 300), {"phi": "relu"}),
}
QUICK = "narrow by tanh"  # the others compile for as long


@pytest.mark.parametrize("kind", [k if k == QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_both_kernels_against_a_recursion_of_the_limit(kind, text):
    recursion, settings = KINDS[kind]
    program = tp.parse(text(kind)) if settings is None else tp.parse(NARROW, **settings)
    found = program.kernel()(X)
    np.testing.assert_allclose(np.ravel(found), recursion(), rtol=5e-3)


# ---------------------------------------------------------------- gates


PAIR = np.array([[1.0, 0.5, -0.3], [0.9, -0.2, 1.2]])


def highway(layers=3):
    """Gate, candidate and what comes from below are independent: t phi(w) + (1 - t) h, exactly, by its factors."""
    z, w = np.polynomial.hermite_e.hermegauss(60)
    z, w = z[:, None], np.outer(w, w) / w.sum() ** 2

    def expectation(f, g, k, p, q):
        """E f(a) g(b) of a pair of mean -1."""
        b = k / np.sqrt(p) * z + np.sqrt(max(q - k * k / p, 0)) * z.T
        return np.sum(w * f(np.sqrt(p) * z - 1) * g(b - 1))

    def both(k, f, g):
        p = np.diag(k)
        return np.array([[expectation(f, g, k[i, j], p[i], p[j]) for j in (0, 1)] for i in (0, 1)])

    k = PAIR @ PAIR.T / 3
    moved, mean = k, np.zeros(2)
    for _ in range(layers):
        p = np.diag(k)
        root = np.sqrt(np.outer(p, p))
        angle = np.arccos(np.clip(k / root, -1, 1))
        dual, slopes = (root * np.sin(angle) + (np.pi - angle) * k) / 2 / np.pi, (np.pi - angle) / 2 / np.pi
        gates, from_gates = k + 1 / 10, k + moved + 1
        t = both(gates, expit, expit)
        one = np.diag(both(gates, expit, np.ones_like))
        dt = both(gates, lambda v: expit(v) * expit(-v), lambda v: expit(v) * expit(-v)) * from_gates
        up = np.sqrt(p / 2 / np.pi)
        rest = 1 - one[:, None] - one + t  # E (1 - t) (1 - t')
        crossed = np.outer(up, mean) * (one[:, None] - t) + np.outer(mean, up) * (one - t)
        moved = dt * (dual + k - np.outer(up, mean) - np.outer(mean, up)) + t * slopes * (k + moved) + rest * moved
        k, mean = t * dual + rest * k + crossed, one * up + (1 - one) * mean
    return k, k + moved


@pytest.mark.slow
def test_a_highway_of_gates_against_its_factors(text):
    found = tp.parse(text("highway")).kernel(points=16381)(PAIR)
    np.testing.assert_allclose(found, highway(), rtol=2e-3)
