"""What had no way to be said: sizes and indices by division, indices that wrap around."""

import numpy as np
import pytest

import tensorprog as tp

RNG = np.random.default_rng(5)

CIRCULAR = """program circular(P, Q)
input x[p = 1..P, q = 1..Q] : R(d)
weight A0[a = -1..1, b = -1..1] : A(n, d) ~ N(0, 1) / sqrt(9 * d)
weight A1[a = -1..1, b = -1..1] : A(n, n) ~ N(0, 2) / sqrt(9 * n)
vector v : G(n) ~ N(0, 1)
for p = 1..P, q = 1..Q:
    h[p, q] := sum[a = -1..1, b = -1..1](A0[a, b] @ x[(p+a) mod P, (q+b) mod Q])
for p = 1..P, q = 1..Q:
    g[p, q] := sum[a = -1..1, b = -1..1](A1[a, b] @ relu(h[(p+a) mod P, (q+b) mod Q]))
output y := mean[p = 1..P, q = 1..Q](v.T @ relu(g[p, q])) / sqrt(n)
"""

DIVISION = """program division(P)
input x[p = 1..P] : R(d)
weight A0 : A(n, d) ~ N(0, 1) / sqrt(d)
weight A1[a = 0..1], A2[a = 0..1] : A(n, n) ~ N(0, 1) / sqrt(2*n)
vector v : G(n) ~ N(0, 1)
for p = 1..P:
    h[p] := relu(A0 @ x[p])
for p = 1..P/2:
    g[p] := relu(sum[a = 0..1](A1[a] @ h[2*p+a-1]))
for p = 1..2*(P/2):
    u[p] := relu(sum[a = 0..1](A2[a] @ (g[(p+a+1)/2] else 0)))
output y := mean[p = 1..2*(P/2)](v.T @ u[p]) / sqrt(n)
"""


def relu_moments(k):
    """E relu(z) relu(w) and E relu'(z) relu'(w) for every pair of rows of a covariance."""
    scale = np.sqrt(np.outer(np.diag(k), np.diag(k)))
    angle = np.arccos(np.clip(k / scale, -1, 1))
    return scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


def by_matrices(x, y, layers, ends):
    """NNGP and NTK of relu after each of `layers` and a mean, all positions of both runs in one covariance.

    layers: (variance, tangent, matrices of x's run, of y's run), each matrix what one member of a filter reads.
    """
    both = np.concatenate([x, y])
    k = both @ both.T / both.shape[1]
    tangent = np.zeros_like(k)
    for variance, rate, first, second in layers:
        shifts = [
            np.block([[a, np.zeros((len(a), b.shape[1]))], [np.zeros((len(b), a.shape[1])), b]])
            for a, b in zip(first, second, strict=True)
        ]
        tangent = sum(s @ (variance * tangent + rate * k) @ s.T for s in shifts)
        k = sum(variance * s @ k @ s.T for s in shifts)
        k, slope = relu_moments(k)
        tangent = slope * tangent
    cut = ends[0]
    return k[:cut, cut:].mean(), (k + tangent)[:cut, cut:].mean()


def circular_shifts(p, q):
    def shift(size, a):
        return np.eye(size)[(np.arange(size) + a) % size]

    return [np.kron(shift(p, a), shift(q, b)) for a in (-1, 0, 1) for b in (-1, 0, 1)]


def test_indices_that_wrap_around_are_circular_filters():
    program = tp.parse(CIRCULAR)
    x, y = RNG.normal(size=(2, 4, 5, 3)), RNG.normal(size=(1, 3, 6, 3))
    kernel = program.kernel()
    found = kernel(x, y)
    shifts = circular_shifts(4, 5), circular_shifts(3, 6)
    layers = [(1 / 9, 1 / 9, *shifts), (2 / 9, 1 / 9, *shifts)]
    for i in range(2):
        right = by_matrices(x[i].reshape(20, 3), y[0].reshape(18, 3), layers, (20,))
        np.testing.assert_allclose((found.nngp[i, 0], found.ntk[i, 0]), right, rtol=1e-12)
    assert "mod P" in program.core()
    assert tp.parse(program.core()).core() == program.core()
    assert "d_h[p, q]" in program.backward().core()
    assert "p_2" not in program.backward().core()  # solved for, not searched for


def test_sizes_and_indices_by_division():
    program = tp.parse(DIVISION)
    x, y = RNG.normal(size=(1, 5, 3)), RNG.normal(size=(1, 8, 3))
    found = program.kernel()(x, y)

    def matrices(size):
        half = size // 2
        down = [np.eye(size)[a : 2 * half : 2] for a in (0, 1)]
        up = []
        for a in (0, 1):
            rows = np.zeros((2 * half, half))
            for p in range(1, 2 * half + 1):
                if 1 <= (p + a + 1) // 2 <= half:
                    rows[p - 1, (p + a + 1) // 2 - 1] = 1
            up.append(rows)
        return [np.eye(size)], down, up

    first, second = matrices(5), matrices(8)
    layers = [(1, 1, first[0], second[0]), (0.5, 0.5, first[1], second[1]), (0.5, 0.5, first[2], second[2])]
    right = by_matrices(x[0], y[0], layers, (4,))
    np.testing.assert_allclose((found.nngp[0, 0], found.ntk[0, 0]), right, rtol=1e-12)
    assert "1..P/2" in program.core()
    assert tp.parse(program.core()).core() == program.core()
    assert r"\lfloor P/2 \rfloor" in program.derive("ntk").latex()
    assert "p = 1..P/2" in str(program.derive("nngp"))
    # A mean over 2*(P/2) terms is divided by their number, not by P.
    assert "v / sum[p" in program.backward().core()


def test_sizes_are_solved_from_multiples(text):
    program = tp.parse(text("unet1d"))
    x = RNG.normal(size=(2, 8, 2))
    np.testing.assert_array_equal(program.kernel()(x).ntk, tp.parse(text("unet1d"), P=4).kernel()(x).ntk)
    with pytest.raises(ValueError, match=r"length 2\*P, and no integer P makes it 7"):
        program.kernel()(x[:, :7])


@pytest.mark.parametrize(
    ("statement", "place", "says"),
    [
        ("g[p/2+1] := h[p]", "9:7", "no quotient and no remainder of p"),
        ("g[p mod P] := h[p]", "9:7", "no quotient and no remainder of p"),
        ("g[p] := h[p/0]", "9:17", "division by zero"),
        ("g[p] := h[P/p]", "9:17", "divided by a number"),
        ("g[p] := h[p mod p]", "9:21", "not at another index"),
        ("g[p] := h[p mod 0]", "9:21", "no size to wrap around at"),
        ("g[p] := (p mod 2) * h[p]", "9:14", "stands in indices"),
        ("g[p] := h[mod(p, P)]", "9:15", "affine"),
        ("g[p] := h[p/2]", "9:13", r"h\[0\] is out of range"),
    ],
)
def test_what_division_cannot_be(head, statement, place, says):
    with pytest.raises(tp.ProgramError, match=says) as found:
        head(f"for p = 1..P:\n    {statement}\noutput y := v.T @ g[1] / sqrt(n)\n")
    assert f"{found.value.line}:{found.value.column}" == place


def test_mod_is_a_name_elsewhere(head, orthonormal):
    program = head(
        "for mod = 1..P:\n    g[mod] := h[(mod+1) mod P] - u[mod mod P]\noutput y[p = 1..P] := v.T @ g[p] / sqrt(n)\n"
    )
    assert "h[mod mod P+1] - u[(mod-1) mod P+1]" in program.core()
    for size in (2, 3):
        np.testing.assert_allclose(program.kernel()(orthonormal(size)).nngp[0, 0], 2 * np.eye(size), atol=1e-12)
