"""Limits of programs with a matrix and its transpose: random matrix theory, closed forms and simulation."""

from math import comb

import numpy as np
import pytest
from scipy.special import erf

import tensorprog as tp


def limits(text, **parameters):
    return {k: np.asarray(v) for k, v in tp.parse(text, **parameters).limits().items()}


NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)
NODES, WEIGHTS = 5 * (NODES + 1), 5 * WEIGHTS * np.exp(-((5 * (NODES + 1)) ** 2) / 2) / np.sqrt(2 * np.pi)


def mean(f, variance):
    """E f(z) of mean zero and that variance, by quadrature that is split at zero."""
    root = np.sqrt(variance)
    return np.sum(WEIGHTS * (f(root * NODES) + f(-root * NODES)))


FUNCTIONS = {
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
}

# ---------------------------------------------------------------- spectra


def test_semicircle():
    moments = np.asarray(tp.load("semicircle", K=6).limits()["m"])
    np.testing.assert_allclose(moments, [1, 2, 5, 14, 42, 132], rtol=1e-9)


@pytest.mark.parametrize("ratio", ["1/2", "2", "3"])
def test_marchenko_pastur(ratio):
    """The k-th moment is Σ_r N(k, r)·c^r, with Narayana numbers N and c the rows over the columns."""
    top = 6
    text = f"""program marchenko_pastur(K = {top})
width m = {ratio} * n
weight W : A(n, m)  ~ N(0, 1) / sqrt(m)
vector x0 : G(m)    ~ N(0, 1)
x[0] := x0
for k = 1..K:
    x[k] := W.T @ W @ x[k-1]
output q[k = 1..K] := <x0, x[k]> / m
"""
    c = 1 / eval(ratio)
    narayana = [sum(comb(k, r) * comb(k, r - 1) // k * c**r for r in range(1, k + 1)) for k in range(1, top + 1)]
    np.testing.assert_allclose(limits(text)["q"], narayana, rtol=1e-9)


# ---------------------------------------------------------------- one correction

ONE = """program one
width m = 2 * n
weight W : A(m, n)  ~ N(0, 1.7) / sqrt(n)
vector x : G(n)     ~ N(0, 0.6)
h := W @ x
s := {f}(h)
y := W.T @ s
output a := <x, y> / n
output b := <y, y> / n
"""


@pytest.mark.parametrize("f", FUNCTIONS)
def test_a_nonlinearity_between(f):
    """y = Ẑ + c·x with c = s_{W.T}·E φ', and s_{W.T} = 1.7·m/n."""
    phi, slope = FUNCTIONS[f]
    c = 3.4 * mean(slope, 1.02)
    found = limits(ONE.format(f=f))
    np.testing.assert_allclose(found["a"], 0.6 * c, rtol=1e-8)
    np.testing.assert_allclose(found["b"], 3.4 * mean(lambda z: phi(z) ** 2, 1.02) + 0.6 * c**2, rtol=1e-8)


def test_a_jump_between():
    """sign has no derivative to average; E sign(z)·z / E z² is sqrt(2/π)/sqrt(E z²)."""
    c = 3.4 * np.sqrt(2 / np.pi / 1.02)
    found = limits(ONE.format(f="sign"))
    np.testing.assert_allclose(found["a"], 0.6 * c, rtol=1e-8)
    np.testing.assert_allclose(found["b"], 3.4 + 0.6 * c**2, rtol=1e-8)


def test_a_jump_written_inside_a_product():
    c = 3.4 * np.sqrt(2 / np.pi / 1.02)
    text = ONE.format(f="sign").replace("h := W @ x\ns := sign(h)\ny := W.T @ s", "y := W.T @ sign(W @ x)")
    np.testing.assert_allclose(limits(text)["a"], 0.6 * c, rtol=1e-8)


# ---------------------------------------------------------------- a correction on both sides

BOTH = """program both
width m = 1/2 * n
weight W : A(m, n)  ~ N(0, 1.5) / sqrt(n)
vector x : G(n)     ~ N(0, 1)
h := W @ x
z := erf(h)
g := W.T @ z
r := W @ tanh(g)
output a := <z, r> / m
output b := <r, r> / m
output c := <h, r> / m
output d := <x, g> / n
"""


def test_corrections_of_both():
    """g = ĝ + c1·x and r = r̂ + c2·z: against the rule by quadrature."""
    erf_, slope = FUNCTIONS["erf"]
    there, back = 1.5, 0.75
    c1 = back * mean(slope, there)
    variance = back * mean(lambda z: erf_(z) ** 2, there) + c1**2
    c2 = there * mean(FUNCTIONS["tanh"][1], variance)
    hat = there * mean(lambda z: np.tanh(z) ** 2, variance)  # E r̂²
    with_h = there * c1 * mean(FUNCTIONS["tanh"][1], variance)  # E r̂ h, by Stein: E tanh(g) x = c1·E tanh'(g)
    z2, zh, with_z = mean(lambda z: erf_(z) ** 2, there), mean(lambda z: erf_(z) * z, there), 0.0
    with_z = with_h * mean(slope, there)
    found = limits(BOTH)
    np.testing.assert_allclose(found["d"], c1, rtol=1e-8)
    np.testing.assert_allclose(found["a"], with_z + c2 * z2, rtol=1e-8)
    np.testing.assert_allclose(found["b"], hat + 2 * c2 * with_z + c2**2 * z2, rtol=1e-8)
    np.testing.assert_allclose(found["c"], with_h + c2 * zh, rtol=1e-8)


def test_corrections_of_both_against_simulation():
    rng = np.random.default_rng(0)
    n, draws = 1600, []
    m = n // 2
    for _ in range(12):
        W, x = rng.normal(size=(m, n)) * np.sqrt(1.5 / n), rng.normal(size=n)
        h = W @ x
        z = erf(h)
        g = W.T @ z
        r = W @ np.tanh(g)
        draws.append([z @ r / m, r @ r / m, h @ r / m, x @ g / n])
    draws = np.array(draws)
    found = limits(BOTH)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - [found[k] for k in "abcd"]) < 4 * error + 2 / n).all()
