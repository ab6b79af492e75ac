"""Products of many dependent Gaussians, which need no sampling: Isserlis' sum over all pairings."""

import numpy as np
import pytest

import tensorprog as tp

PRODUCT = """\
program product(m)

input  x : R(d)
weight S : A(n, d)             ~ N(0, 1) * sqrt(1 / d)
weight U[a = 1..m] : A(n, d)   ~ N(0, 1) * sqrt(1 / d)
vector v : G(n)                ~ N(0, 1)

for a = 1..m:
    h[a] := U[a] @ x + S @ x
y := {product}

output o := v.T @ y / sqrt(n)
"""


def moment(covariance):
    """E z_1 ⋯ z_k of centred Gaussians: the sum over pairings of products of covariances, (k, k)."""
    if not len(covariance):
        return 1.0
    rest = range(1, len(covariance))
    return sum(covariance[0, j] * moment(covariance[np.ix_(*[[i for i in rest if i != j]] * 2)]) for j in rest)


@pytest.mark.parametrize("factors", [3, 4])
def test_products_of_gaussians_that_share_a_matrix(factors, tmp_path):
    path = tmp_path / "product.netsor"
    path.write_text(PRODUCT.format(product=" * ".join(f"h[{a}]" for a in range(1, factors + 1))))
    program = tp.load(path, m=factors)
    assert not program.sampled
    x = np.random.default_rng(0).normal(size=(3, 4))
    found = program.kernel()(x)
    gram = x @ x.T / 4
    within = np.eye(factors) + 1  # each h has a matrix of its own, and one that all share
    for i in range(3):
        for j in range(3):
            pair = gram[np.ix_([i, j], [i, j])]
            wanted = moment(np.kron(pair, within))
            np.testing.assert_allclose(found.nngp[i, j], wanted, rtol=1e-11)
            # Each law moves by itself: Θ is K and the sum over laws of the derivative by its variance, homogeneous.
            np.testing.assert_allclose(found.ntk[i, j], wanted + _moved(pair, within), rtol=1e-11)


def _moved(pair, within, step=1e-3):
    """The derivative of E y y' as the covariances between both runs grow in proportion."""

    def at(t):
        cross = np.array([[0, 1], [1, 0]]) * pair * t + np.diag(np.diag(pair))
        return moment(np.kron(cross, within))

    # A polynomial of degree 4 and less in t: these differences are exact up to rounding.
    return (8 * (at(1 + step) - at(1 - step)) - (at(1 + 2 * step) - at(1 - 2 * step))) / (12 * step)
