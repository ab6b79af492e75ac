"""Cases over indices, in expressions and by assignment: each branch holds where its condition says, and only there."""

import numpy as np
import pytest

import tensorprog as tp

CIRCULAR = """program circular(P)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight L[a = -1..1] : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
for p = 1..P:
    z[p] := erf(U @ x[p])
for i = 1..P:
    g[i] := {filter}
output y[p = 1..P] := v.T @ erf(g[p]) / sqrt(n)
"""


def erf_dual(k, p, q):
    return 2 / np.pi * np.arcsin(2 * k / np.sqrt((1 + 2 * p) * (1 + 2 * q)))


def second_moments(k):
    """E erf(z_i) erf(z_j) of Gaussians with covariance k."""
    p = np.diagonal(k)
    return erf_dual(k, p[:, None], p)


def circular_by_hand(x, offsets):
    """The NNGP of CIRCULAR for one run, by NumPy: Σ_a S[i+a, j+a] with indices that wrap around."""
    s = second_moments(x @ x.T / x.shape[-1])
    return second_moments(sum(np.roll(s, (-a, -a), (0, 1)) for a in offsets))


def test_cases_over_two_indices(head, orthonormal):
    program = head("""for p = 1..P:
    s[p, a = 0..1] := h[p+a] if p + a <= P else h[p+a-P]
output y[p = 1..P] := v.T @ s[p, 0] / sqrt(n)
""")
    nngp, ntk = program.kernel()(orthonormal(2))
    np.testing.assert_allclose(nngp[0, 0], np.eye(2), atol=1e-15)
    np.testing.assert_allclose(ntk[0, 0], 2 * np.eye(2), atol=1e-15)


def test_a_causal_mask_by_cases(head, orthonormal):
    """softmax(1, 0) = (0.7311, 0.2689) weighs the second token; the first sees itself alone."""
    program = head("""for p = 1..P:
    s[p, j = 1..P] := <h[p], h[j]> / n if j <= p else -1000
    a[p, j = 1..P] := softmax[j](s[p, j])
output y[p = 1..P] := v.T @ sum[j = 1..P](a[p, j] * u[j]) / sqrt(n)
""")
    a = 1 / (1 + np.exp(1))
    wanted = [[1, a], [a, a**2 + (1 - a) ** 2]]
    np.testing.assert_allclose(program.kernel()(orthonormal(2), None, "nngp")[0, 0], wanted, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(
    ("offsets", "written"),
    [
        ((-1, 0, 1), "sum[a = -1..1](L[a] @ (z[i+a] else (z[i+a-P] else z[i+a+P])))"),
        (
            (-1, 0, 1),
            "sum[a = -1..1](L[a] @ (z[i+a] if i+a >= 1 and i+a <= P else (z[i+a-P] if i+a > P else z[i+a+P])))",
        ),
        ((0, 1), "sum[a = 0..1](L[a] @ (z[i+a] else z[i+a-P]))"),
        ((0, 1), "sum[a = 0..1](L[a] @ z[i+a] if i+a <= P else L[a] @ z[i+a-P])"),
    ],
)
def test_circular_filters_of_vectors(size, offsets, written):
    x = np.random.default_rng(size).normal(size=(1, size, 3))
    found = tp.parse(CIRCULAR.format(filter=written)).kernel()(x, None, "nngp")[0, 0]
    np.testing.assert_allclose(found, circular_by_hand(x[0], offsets), atol=1e-14)
