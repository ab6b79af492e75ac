"""Writes joint_reference.npz: E f(z, u) f(w, t) for (z, w) independent of (u, t), in another way than the package.

Functions of z + psi(u)/2 with kinks: composite Gauss-Legendre rules over u and over t given u, on panels that shrink
towards every kink and towards the line where the inner expectation changes fast, which is itself an integral over the
correlation (Plackett 1954). Smooth functions: trapezoidal rules in all four directions.
Run: python tests/expectation/make_joint_reference.py
"""

import pathlib

import numpy as np
from scipy.special import ndtr

FILE = pathlib.Path(__file__).with_name("joint_reference.npz")
# variances of z and u, of w and t
VARIANCES = ((0.1, 0.1, 0.1, 0.1), (1.0, 1.0, 1.0, 1.0), (5.0, 1.0, 0.1, 5.0))
# correlations of (z, w) and of (u, t)
CORRELATIONS = (-1.0, -0.5, 0.0, 0.9, 1 - 1e-8, 1.0)
SMOOTH_CORRELATIONS = (-1.0, 0.0, 1 - 1e-8, 1.0)
C = 0.5


def relu(x):
    return np.maximum(x, 0)


def step(x):
    return np.heaviside(x, 0.5)


def graded(left, right, depth=14, order=8, ratio=0.35):
    """Nodes and weights on (left, right), panels shrinking towards both ends; arrays in the first axes."""
    x, v = np.polynomial.legendre.leggauss(order)
    edges = np.concatenate([[0.0], 0.5 * ratio ** np.arange(depth, -1, -1)])
    s = (edges[:-1, None] + np.diff(edges)[:, None] * (x + 1) / 2).ravel()
    weight = (np.diff(edges)[:, None] * v / 2).ravel()
    s, weight = np.concatenate([s, 1 - s[::-1]]), np.concatenate([weight, weight[::-1]])
    width = (right - left)[..., None]
    return left[..., None] + width * s, width * weight


def between(cuts, **options):
    """Nodes and weights on (-9, 9) with the density of N(0, 1), graded towards all cuts (on the last axis)."""
    cuts = np.sort(np.clip(np.concatenate([cuts, np.full((*cuts.shape[:-1], 1), -9.0),
                                           np.full((*cuts.shape[:-1], 1), 9.0)], -1), -9, 9), -1)  # fmt: skip
    parts = [graded(cuts[..., i], cuts[..., i + 1], **options) for i in range(cuts.shape[-1] - 1)]
    x = np.concatenate([a for a, _ in parts], -1)
    return x, np.concatenate([b for _, b in parts], -1) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def inner(kind, p, q, rho, m, n):
    """E A(z + m) A(w + n) by the integral over the correlation s = sin(angle)."""
    h, k = m / np.sqrt(p), n / np.sqrt(q)
    end = np.arcsin(rho)
    angles, weights = graded(np.zeros(1), np.full(1, abs(end)), depth=8, order=6)
    total = 0.0
    for a, weight in zip(np.sign(end) * angles[0], np.sign(end) * weights[0], strict=True):
        spread = max(np.cos(a) ** 2, 1e-300)
        # h² + k² - 2·h·k·sin(a) without cancellation
        sine = np.sin(a)
        square = (h - k) ** 2 + 2 * h * k * (1 - sine) if sine > 0 else (h + k) ** 2 - 2 * h * k * (1 + sine)
        value = np.exp(-square / (2 * spread)) / (2 * np.pi)
        total = total + weight * value * (np.sin(end) - sine if kind == "relu" else 1.0)
    if kind == "step":
        return ndtr(h) * ndtr(k) + total
    first, second = (v * ndtr(v) + density(v) for v in (h, k))
    return np.sqrt(p * q) * (first * second + rho * ndtr(h) * ndtr(k) + total)


def kinked(kind, psi, inverse, weight, variances, inner_c, outer_c):
    p, p2, q, q2 = variances
    s = np.sqrt((1 - outer_c) * (1 + outer_c))
    x, x_weight = between(np.zeros(1), depth=22, order=10, ratio=0.5)
    u = np.sqrt(p2) * x
    if s == 0:
        t, both = outer_c * np.sqrt(q2) * x, x_weight
    else:
        # t where the inner arguments meet, for correlations near 1 and near -1
        sign = np.sign(inner_c) if inner_c else 1.0
        meet = inverse(sign * psi(u) * np.sqrt(q / p))
        places = np.stack([np.zeros_like(u), meet], -1) / np.sqrt(q2)
        y, y_weight = between((places - outer_c * x[:, None]) / s, depth=13, order=12, ratio=0.5)
        t = np.sqrt(q2) * (outer_c * x[:, None] + s * y)
        both, u = x_weight[:, None] * y_weight, u[:, None]
    return np.sum(both * weight(u) * weight(t) * inner(kind, p, q, inner_c, C * psi(u), C * psi(t)))


def smooth(f, variances, inner_c, outer_c, count=97):
    p, p2, q, q2 = variances
    x = np.linspace(-8.1, 8.1, count)
    v = (x[1] - x[0]) * density(x)

    def other(c):
        return c * x[:, None] + np.sqrt((1 - c) * (1 + c)) * x  # (first direction, second direction)

    left = f(np.sqrt(p) * x[:, None], np.sqrt(p2) * x) * v[:, None] * v
    w, t = np.sqrt(q) * other(inner_c), np.sqrt(q2) * other(outer_c)
    total = 0.0
    for i in range(count):
        right = f(w[i][:, None, None], t[None]) * v[:, None, None] * v
        total += np.sum(left[i] * np.sum(right, axis=(0, 2)))
    return total


def finite(inverse):
    def safe(x):
        with np.errstate(all="ignore"):
            return np.nan_to_num(inverse(x), nan=1e3, posinf=1e3, neginf=-1e3)

    return safe


ONE = np.ones_like
RELU = (relu, lambda y: np.where(y > 0, y, -1e3))
TANH = (np.tanh, finite(np.arctanh))
KINKED = {
    "relu_relu": ("relu", *RELU, ONE), "step_relu": ("step", *RELU, ONE), "step_relu_step": ("step", *RELU, step),
    "relu_tanh": ("relu", *TANH, ONE),
}  # fmt: skip
SMOOTH = {
    "tanh_tanh": lambda z, u: np.tanh(z + C * np.tanh(u)),
    "gate": lambda z, u: np.tanh(u + C * z) / (1 + np.exp(-z)),
}


def table(function, correlations=CORRELATIONS):
    return np.array([[[function(v, a, b) for b in correlations] for a in correlations] for v in VARIANCES])


def main():
    found = {}
    for name, arguments in KINKED.items():
        found[name] = table(lambda v, a, b, arguments=arguments: kinked(*arguments, v, a, b))
        print(name, flush=True)
    for name, f in SMOOTH.items():
        found[name] = table(lambda v, a, b, f=f: smooth(f, v, a, b), SMOOTH_CORRELATIONS)
        print(name, flush=True)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
