"""Writes reference.npz: expectations E f(z) g(w) by brute force, in another way than the package computes them.

Smooth functions: the trapezoidal rule on a 1601 × 1601 grid of independent Gaussians. Kinked ones: composite
Gauss-Legendre rules on panels that shrink geometrically towards the kink, and inside towards the kink of g given z.
`check()` compares some of both with mpmath's adaptive quadrature. Run: python tests/expectation/make_reference.py
"""

import pathlib

import mpmath
import numpy as np
import sympy

from tensorprog import functions

FILE = pathlib.Path(__file__).with_name("reference.npz")
X = sympy.Symbol("x", real=True)
# (p, q)
VARIANCES = (
    (1e-6, 1e-6), (1e-3, 1e-3), (1.0, 1.0), (10.0, 10.0), (100.0, 100.0), (1e-6, 1.0), (0.5, 10.0), (3.0, 100.0),
)  # fmt: skip
CORRELATIONS = (-1.0, -0.999999, -0.5, 0.0, 0.3, 0.9, 1 - 1e-10, 1.0)


def function(name, **parameters):
    return functions.lookup(name).symbolic(X, **parameters)


SMOOTH = {
    "erf": sympy.erf(X), "tanh": sympy.tanh(X), "gelu": function("gelu"), "sigmoid": function("sigmoid"),
    "silu": function("silu"), "softplus": function("softplus"), "sin": sympy.sin(X), "cos": sympy.cos(X),
    "gate": (1 + sympy.erf(X)) / 2, "poly": X**3 - 2 * X + 1, "wave": sympy.sin(2 * X + 1) + X,
    "xerf": X * sympy.erf(2 * X) + X**2, "one_minus_cos": 1 - sympy.cos(X), "tanh_square": sympy.tanh(X) ** 2,
}  # fmt: skip
KINKED = {
    "relu": function("relu"), "abs": function("abs"), "leaky_relu": function("leaky_relu"), "elu": function("elu"),
    "elu2": function("elu", alpha=2), "relu_cubed": function("relu") ** 3, "tanh_abs": sympy.tanh(function("abs")),
    "step": function("step"), "sign": function("sign"), "relu_tanh": function("relu") + sympy.tanh(X),
}  # fmt: skip
JUMPS = ("step", "sign")


def smooth_pair(f, g, p, q, c):
    x = np.linspace(-10, 10, 1601)
    weight = (x[1] - x[0]) / np.sqrt(2 * np.pi) * np.exp(-(x**2) / 2)
    w = np.sqrt(q) * (c * x[:, None] + np.sqrt((1 - c) * (1 + c)) * x)
    return weight * f(np.sqrt(p) * x) @ (g(w) @ weight)


def panels(centre, depth, order):
    """Composite Gauss-Legendre nodes and weights on both sides of centre out to +-10, panels halving towards it."""
    t, v = np.polynomial.legendre.leggauss(order)
    edges = np.concatenate([[0.0], 0.75 ** np.arange(depth, -1, -1)])
    s = (edges[:-1, None] + np.diff(edges)[:, None] * (t + 1) / 2).ravel()
    u = (np.diff(edges)[:, None] * v / 2).ravel()
    centre = np.clip(np.asarray(centre, float)[..., None], -10, 10)
    nodes = np.concatenate([centre - (centre + 10) * s, centre + (10 - centre) * s], -1)
    weights = np.concatenate([(centre + 10) * u, (10 - centre) * u], -1)
    return nodes, weights * np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)


def kinked_pair(f, g, p, q, c):
    s = np.sqrt((1 - c) * (1 + c))
    x, weight = panels(0.0, 72, 14)
    centre = np.where(s > 0, -c * x / max(s, 1e-300), np.sign(-c * x) * 10)
    y, inner = panels(centre, 24, 14)
    w = np.sqrt(q) * (c * x[:, None] + s * y)
    return np.sum(weight * f(np.sqrt(p) * x) * np.sum(inner * g(w), -1))


def table(expr, pair):
    f = functions.numeric(expr, [X])
    return np.array([[pair(f, f, p, q, c) for c in CORRELATIONS] for p, q in VARIANCES])


def norms(expr, pair):
    f = functions.numeric(expr, [X])
    return np.array([np.sqrt(pair(f, f, p, p, 1.0) * pair(f, f, q, q, 1.0)) for p, q in VARIANCES])


def by_mpmath(f, p, q, c):
    s = mpmath.sqrt((1 - c) * (1 + c))

    def inner(x):
        cut = max(-9, min(9, -c * x / s))
        return mpmath.quad(lambda y: mpmath.npdf(y) * f(mpmath.sqrt(q) * (c * x + s * y)), [-9, cut, 9])

    return mpmath.quad(lambda x: mpmath.npdf(x) * f(mpmath.sqrt(p) * x) * inner(x), [-9, 0, 9])


def check():
    mpmath.mp.dps = 16
    elu = lambda t: t if t > 0 else mpmath.expm1(t)  # noqa: E731
    for name, pair, f in (("tanh", smooth_pair, mpmath.tanh), ("elu", kinked_pair, elu)):
        g = functions.numeric({**SMOOTH, **KINKED}[name], [X])
        for p, q, c in ((1.0, 1.0, 0.3), (10.0, 0.5, -0.5)):
            print(name, p, q, c, float(abs(by_mpmath(f, p, q, c) - pair(g, g, p, q, c))))


def main():
    found = {}
    for group, pair in ((SMOOTH, smooth_pair), (KINKED, kinked_pair)):
        for name, expr in group.items():
            found[name], found[f"{name}_norm"] = table(expr, pair), norms(expr, pair)
            if name not in JUMPS:
                slope = expr.diff(X)
                found[f"{name}_slope"], found[f"{name}_slope_norm"] = table(slope, pair), norms(slope, pair)
            print(name)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
    check()
