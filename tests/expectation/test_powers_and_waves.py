"""Closed forms of powers of relu, and of polynomials times Gaussians, exponentials and waves: against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from tensorprog import functions
from tensorprog.expectation import plan_pair

X, Y = sympy.Symbol("x", real=True), sympy.Symbol("y", real=True)
RELU, ABS, SIGN, STEP, PDF = (
    functions.lookup(name).symbolic(X) for name in ("relu", "abs", "sign", "step", "normal_pdf")
)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(300)


def panel(low, high):
    """Nodes and weights between low and high, with the density of N(0, 1)."""
    x = (low + high)[..., None] / 2 + (high - low)[..., None] / 2 * NODES
    return x, (high - low)[..., None] / 2 * WEIGHTS * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def quadrature(f, k, p, q, mu=0.0, nu=0.0):
    """E f(z) f(w), both cut at zero."""
    c = k / np.sqrt(p * q)
    s = np.sqrt(max(0.0, 1 - c * c))
    f = functions.numeric(f, [X])
    total = 0.0
    cut = np.clip(-mu / np.sqrt(p), -10, 10)
    for a, b in ((-10.0, cut), (cut, 10.0)):
        x, weight = panel(np.asarray(a), np.asarray(b))
        mean = nu + np.sqrt(q) * c * x
        inner = f(mean) if s == 0 else 0.0
        if s:
            middle = np.clip(-mean / (np.sqrt(q) * s), -10, 10)
            for low, high in ((np.full_like(middle, -10.0), middle), (middle, np.full_like(middle, 10.0))):
                y, v = panel(low, high)
                inner = inner + np.sum(v * f(mean[:, None] + np.sqrt(q) * s * y), axis=-1)
        total += np.sum(weight * f(mu + np.sqrt(p) * x) * inner)
    return total


FUNCTIONS = {
    "arc-cosine kernel": [
        RELU**2, RELU**3, RELU**5, ABS**3, SIGN * X**2 + X, RELU**2 - RELU + X**3, 2 * RELU * STEP,
    ],
    "Gaussian integral": [
        sympy.exp(-(X**2)), X * sympy.exp(-(X**2) / 2), sympy.exp(-((X - 1) ** 2)),
        sympy.exp(-(X**2)) * sympy.cos(3 * X),
        sympy.exp(-(X**2) / 2) * sympy.sin(2 * X + 1), sympy.exp(X / 3) * sympy.cos(X),
        1 + sympy.exp(-(X**2)) - X * sympy.exp(-2 * X**2), PDF,
    ],
    "trigonometric": [X**2 * sympy.cos(X), sympy.cos(X) ** 2, X + sympy.sin(X) * sympy.cos(2 * X)],
    "exponential": [X**2 * sympy.exp(X / 2), sympy.Integer(2) ** X],
}  # fmt: skip
ALL = [(rule, f) for rule, some in FUNCTIONS.items() for f in some]


@pytest.mark.parametrize(("rule", "f"), ALL, ids=[str(f) for _, f in ALL])
def test_value_slopes_and_formula(rule, f, make):
    plan = plan_pair(f, f.xreplace({X: Y}), X, Y)
    assert plan.rule == rule
    value = jax.jit(jax.value_and_grad(make.pair(f), (0, 1, 2)))
    for point in ((0.3, 1.0, 0.7), (-0.9, 0.8, 2.0), (1.0, 1.0, 1.0), (-1.0, 1.0, 1.0)):
        assert float(value(*point)[0]) == pytest.approx(quadrature(f, *point), rel=1e-9, abs=1e-11)
    point, step = (0.3, 1.0, 0.7), 1e-5
    moved = [[value(*np.add(point, s * step * e))[0] for s in (1, -1)] for e in np.eye(3)]
    np.testing.assert_allclose(value(*point)[1], [(a - b) / (2 * step) for a, b in moved], rtol=1e-6, atol=1e-8)
    formula = plan.symbolic(sympy.Rational(3, 10), 1, sympy.Rational(7, 10))
    assert float(formula) == pytest.approx(float(value(*point)[0]), rel=1e-10)


@pytest.mark.parametrize(
    "f", [FUNCTIONS["Gaussian integral"][4], X * sympy.exp(-((X - 1) ** 2)), X**2 * sympy.exp(X / 2)]
)
def test_means(f, make):
    value = jax.jit(make.pair(f, means=True))
    for point in ((0.3, 1.0, 1.0, 0.3, -0.5), (0.9, 1.0, 2.0, -1.0, 0.4)):
        assert float(value(*point)) == pytest.approx(quadrature(f, *point), rel=1e-9)


@pytest.mark.parametrize("f", [RELU**2, RELU**3, FUNCTIONS["Gaussian integral"][0], FUNCTIONS["Gaussian integral"][3]])
def test_any_variance_in_single_precision(f, make):
    both = jax.jit(lambda k, p, q: jax.jvp(lambda x: make.pair(f)(x, p, q), (k,), (jnp.ones_like(k),)))
    for variance in (1e-12, 1e-4, 1.0, 1e4, 1e8):
        for c in (1.0, 0.5, -1.0):
            point = (c * variance, variance, variance)
            exact, single = (both(*(jnp.asarray(v, t) for v in point)) for t in (jnp.float64, jnp.float32))
            np.testing.assert_allclose(single, exact, rtol=1e-5)
            assert single[0].dtype == jnp.float32


def test_gaussians_at_large_variance(make):
    value = jax.jit(make.pair(sympy.exp(-(X**2))))
    for variance in (1e-12, 1.0, 1e4, 1e8):
        right = 1 / np.sqrt(1 + 4 * variance)  # at correlation 1
        assert float(value(variance, variance, variance)) == pytest.approx(right, rel=1e-12)
