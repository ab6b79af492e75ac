"""Cases over indices, in expressions and by assignment: each branch holds where its condition says, and only there."""

import math

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


# ---------------------------------------------------------------- left-hand indices

SIZED = """program sized(P)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W, V : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
for p = 1..P:
    z[p] := erf(U @ x[p])
"""

SAME = {
    "a parse triangle": (
        3,
        """for i = 1..P:
    c[i, i] := z[i]
for s = 1..P-1, i = 1..P-s:
    c[i, i+s] := erf(W @ c[i, i+s-1] + V @ c[i+1, i+s])
output y := v.T @ c[1, P] / sqrt(n)
""",
        """a := erf(W @ z[1] + V @ z[2])
b := erf(W @ z[2] + V @ z[3])
output y := v.T @ erf(W @ a + V @ b) / sqrt(n)
""",
    ),
    "a parse triangle by sums, of one token": (
        1,
        """for i = 1..P:
    c[i, i] := z[i]
for s = 1..P-1, i = 1..P-s:
    c[i, i+s] := erf(W @ sum[k = i..i+s-1](c[i, k]) + V @ sum[k = i..i+s-1](c[k+1, i+s]))
output y := v.T @ c[1, P] / sqrt(n)
""",
        "output y := v.T @ z[1] / sqrt(n)\n",
    ),
    "odd ones from their even neighbours": (
        2,
        """for p = 1..P:
    h[2*p] := U @ x[p]
for p = P-1..1 by -1:
    h[2*p+1] := W @ erf(h[2*p]) + V @ erf(h[2*p+2])
output y := sum[p = 2..2*P](v.T @ erf(h[p])) / sqrt(n)
""",
        "output y := (v.T @ (z[1] + z[2]) + v.T @ erf(W @ z[1] + V @ z[2])) / sqrt(n)\n",
    ),
    "counted down": (
        3,
        """for p = 1..P:
    r[P-p] := z[p]
for p = 0..P-1:
    g[p] := erf(W @ r[p] + (V @ r[p+1] else 0))
output y := (v.T @ g[0] + 2 * v.T @ g[P-1]) / sqrt(n)
""",
        "output y := (v.T @ erf(W @ z[3] + V @ z[2]) + 2 * v.T @ erf(W @ z[1])) / sqrt(n)\n",
    ),
    "two indices on one axis": (
        3,
        """for p = 1..P, a = 0..1:
    r[2*p+a] := W @ z[p] if a == 0 else V @ z[p]
output y := sum[p = 3..5](v.T @ erf(r[p] + r[p-1])) / sqrt(n)
""",
        """a := erf(V @ z[1] + W @ z[1])
b := erf(W @ z[2] + V @ z[1])
c := erf(V @ z[2] + W @ z[2])
output y := v.T @ (a + b + c) / sqrt(n)
""",
    ),
    "two assignments that share a triangle": (
        3,
        """for i = 1..P:
    k[i, 0] := z[i]
    for j = 1..i:
        k[i, j] := erf(W @ k[i, j-1])
    for j = i+1..P:
        k[i, j] := erf(V @ k[i, j-1])
output y := sum[i = 1..P](v.T @ k[i, P]) / sqrt(n)
""",
        """a := erf(V @ erf(V @ erf(W @ z[1])))
b := erf(V @ erf(W @ erf(W @ z[2])))
c := erf(W @ erf(W @ erf(W @ z[3])))
output y := v.T @ (a + b + c) / sqrt(n)
""",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_left_hand_indices_as_written_out(name):
    size, short, long = SAME[name]
    x = np.random.default_rng(0).normal(size=(2, size, 3))
    for found, wanted in zip(*(tp.parse(SIZED + s).kernel()(x) for s in (short, long)), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-14)


def test_the_branch_not_taken_is_never_looked_up(text):
    """A mean over nothing stands in it, which divides by 0."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    open_ended = tp.parse(text("T1")).kernel()
    one = open_ended(x[:, :1])
    k = x[:, 0] @ x[:, 0].T / 4
    p = np.diagonal(k)
    c = np.clip(k / np.sqrt(np.outer(p, p)), -1, 1)
    wanted = np.sqrt(np.outer(p, p)) / (2 * np.pi) * (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c)
    np.testing.assert_allclose(one.nngp, wanted, atol=1e-12)
    np.testing.assert_allclose(open_ended(x[:, :2]).nngp, tp.parse(text("T1"), T=1).kernel()(x[:, :1]).nngp, atol=1e-12)


# ---------------------------------------------------------------- choices inside of functions and sums


def test_attention_with_relative_positions():
    """o[i] = Σ_j a[i, j] (e[j] + r[i-j]): what is summed is read at an index that i, i' and j determine."""
    program = tp.parse("""program relative(T)
input x[i = 0..T] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector r[k = 0..T] : G(n) ~ N(0, 1)
vector v : G(n) ~ N(0, 1)
for i = 0..T:
    e[i] := U @ x[i]
for i = 0..T:
    o[i] := sum[j = 0..i](softmax[j](<e[i] + r[i-j], e[j] + r[i-j]> / n) * (e[j] + r[i-j]))
output y[i = 0..T] := v.T @ o[i] / sqrt(n)
""")
    x = np.random.default_rng(0).normal(size=(1, 4, 3))
    k = x[0] @ x[0].T / 3
    a = np.tril(np.exp(k))
    a /= a.sum(1, keepdims=True)
    wanted = a @ k @ a.T
    for i in range(4):
        for j in range(4):
            wanted[i, j] += sum(a[i, i - s] * a[j, j - s] for s in range(min(i, j) + 1))
    np.testing.assert_allclose(program.kernel()(x, None, "nngp")[0, 0], wanted, atol=1e-12)


def test_softmax_of_what_is_the_same_for_all(head, orthonormal):
    program = head("output y := sum[p = 1..P](softmax[p](<h[p], u[1]> / n) * v.T @ h[p]) / sqrt(n)\n")
    np.testing.assert_allclose(program.kernel()(orthonormal(3), None, "nngp"), [[1 / 3]], atol=1e-15)


def test_vectors_by_cases_inside_of_functions(head, orthonormal):
    """A filter of vectors: E[k[a]² h[p+a]²] = 1 for each tap inside; and a number where a vector is out of range."""
    taps = head("""vector k[a = -1..1] : G(n) ~ N(0, 1)
for p = 1..P:
    e[p] := sum[a = -1..1](k[a] * (h[p+a] else 0))
output y[p = 1..P] := v.T @ e[p] / sqrt(n)
""")
    found = taps.kernel()(orthonormal(3))
    np.testing.assert_allclose(found.nngp[0, 0], np.diag([2, 3, 2]), atol=1e-14)
    np.testing.assert_allclose(found.ntk[0, 0], 3 * found.nngp[0, 0], atol=1e-14)
    number = head("""for p = 1..P:
    e[p] := sin((h[p-1] else P) - (2 if p == P else h[p]))
output y[p = 1..P] := v.T @ e[p] / sqrt(n)
""")
    # sin of 3 - h1, h1 - h2, h2 - 2
    means, by = np.array([3, 0, -2]), np.array([[-1, 0, 0], [1, -1, 0], [0, 1, 0]])
    k = by @ by.T
    p = np.diagonal(k)
    even, odd = (np.exp(-(p[:, None] + p) / 2 + s * k) / 2 for s in (1, -1))
    wanted = even * np.cos(means[:, None] - means) - odd * np.cos(means[:, None] + means)
    np.testing.assert_allclose(number.kernel()(orthonormal(3), None, "nngp")[0, 0], wanted, atol=1e-10)


@pytest.mark.parametrize(
    "statement",
    [
        "k[999999999999999999999999, j = 1..P] := 0",
        "k[j = 1..P] := h[j] if j < 99999999999999999999 else 0",
        "k[j = 1..P] := h[j - 9999999999999999999 + 9999999999999999999]",
    ],
)
def test_integers_that_no_index_has(head, statement):
    with pytest.raises(tp.ProgramError, match="this index is too large") as error:
        head(f"{statement}\noutput y := v.T @ h[1] / sqrt(n)\n")
    assert error.value.line == 8


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(
    ("written", "chosen"),
    [
        ("L[0] @ ((z[i+1] else z[i-2]) else z[i])", lambda i, p: i + 1 if i < p else i - 2 if i > 2 else i),
        ("L[0] @ ((z[i+1] if i < P else z[1]) else z[i-1])", lambda i, p: i + 1 if i < p else 1),
    ],
)
def test_choices_inside_of_else(size, written, chosen):
    """What follows `else` is for what neither an inner `else` nor an inner `if` finds in range."""
    x = np.random.default_rng(size).normal(size=(1, size, 3))
    s = second_moments(x[0] @ x[0].T / 3)
    at = [chosen(i, size) - 1 for i in range(1, size + 1)]
    found = tp.parse(CIRCULAR.format(filter=written)).kernel()(x, None, "nngp")[0, 0]
    np.testing.assert_allclose(found, second_moments(s[np.ix_(at, at)]), atol=1e-14)


# ---------------------------------------------------------------- longer programs, by NumPy


def erf_moments(k):
    """E erf(z_i) erf(z_j) and E erf'(z_i) erf'(z_j) of Gaussians with covariance k."""
    both = np.outer(*[1 + 2 * np.diagonal(k)] * 2)
    return second_moments(k), 4 / np.pi / np.sqrt(both - 4 * k**2)


def test_indices_that_run_through_zero(text):
    """h[2t], h[2t+1] from t = -T on, a family of weights below zero, and a readout for each t."""
    x = np.random.default_rng(0).normal(size=(5, 3))
    padded = np.concatenate([0 * x[:1], x, 0 * x[:1]])
    even = sum(padded[a : a + 5] @ padded[a : a + 5].T for a in range(3)) / 9
    value, slope = erf_moments(even)
    # odd members between neighbours; those read are of t = -1, 0, 1
    odd, moved = (m[:-1, :-1] + m[1:, 1:] for m in (value, value + slope * even))
    nngp = ntk = 0
    for i in (1, 2, 3):
        k, t = odd[i, i] + even[i + 1, i + 1], moved[i, i] + even[i + 1, i + 1]
        last, factor = erf_moments(np.array([[k]]))
        nngp, ntk = nngp + last[0, 0], ntk + last[0, 0] + factor[0, 0] * t
    found = tp.parse(text("indices")).kernel()(x[None])
    np.testing.assert_allclose([found.nngp[0, 0], found.ntk[0, 0]], [nngp, ntk], rtol=1e-10)


def test_conditions_on_two_loops(text):
    """conds, layer by layer: what h[l, t] is at l = 1, 2, 3, 4, 5 and t = 1, 2, 3."""
    x = np.random.default_rng(0).normal(size=(3, 3))
    first = x @ x.T / 3
    value, slope = erf_moments(first)
    k, t = value, value + slope * first
    value, slope = erf_moments(k)
    alone, rest = np.diag([1, 0, 0]), np.diag([0, 1, 1])
    k, t = alone * value + rest @ k @ rest, alone * (value + slope * t) + rest @ t @ rest
    value, slope = erf_moments(k)
    before = np.eye(3, k=-1)
    k, t = value + before @ k @ before.T, value + slope * t + before @ t @ before.T
    value, slope = erf_moments(k)
    k, t = value, value + slope * t
    # erf(h[5, 1]) + h[5, 2] + erf(h[5, 3])
    value, slope = erf_moments(k)
    mean = 2 / np.sqrt(np.pi * (1 + 2 * np.diagonal(k)))  # E erf'
    value[1], value[:, 1] = k[1] * mean, k[:, 1] * mean
    slope[1], slope[:, 1] = mean, mean
    value[1, 1], slope[1, 1] = k[1, 1], 1
    found = tp.parse(text("conds")).kernel()(x[None])
    np.testing.assert_allclose(found.nngp[0, 0], value.sum(), rtol=1e-10)
    np.testing.assert_allclose(found.ntk[0, 0], (value + slope * t).sum(), rtol=1e-10)


def test_a_size_that_is_set_beside_one_that_is_open():
    """What is read up to P = 3 is in range where the data have T = 4 entries, and has a place where they have 2."""
    program = tp.parse("""program beside(T, P = 3)
input x[t = 1..T] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
for t = 1..T:
    h[t] := U @ x[t]
output y[p = 1..P-1] := v.T @ erf(h[p] + h[P] + h[T]) / sqrt(n)
""")
    x = np.random.default_rng(0).normal(size=(1, 4, 3))
    read = x[0, :2] + x[0, 2] + x[0, 3]
    np.testing.assert_allclose(
        program.kernel()(x, None, "nngp")[0, 0], second_moments(read @ read.T / 3), rtol=1e-12, atol=1e-14
    )
    with pytest.raises(tp.ProgramError, match=r"h\[3\] is out of range: h has t = 1..2"):
        program.kernel()(x[:, :2], None, "nngp")


def test_a_number_where_a_product_is_out_of_range():
    """s[1] = erf(T) coordinate by coordinate, and s[t] = erf(W @ s[t-1]): variances alone, the same for all inputs."""
    program = tp.parse("""program number(T)
input x[t = 1..T] : R(d)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
for t = 1..T:
    s[t] := erf((W @ s[t-1] else T))
output y := v.T @ s[T] / sqrt(n)
""")
    value, slope = erf_moments(np.array([[math.erf(3) ** 2]]))
    moved = value + slope * math.erf(3) ** 2
    last, slope = erf_moments(value)
    found = program.kernel()(np.ones((1, 3, 1)))
    np.testing.assert_allclose(found.nngp, last, rtol=1e-10)
    np.testing.assert_allclose(found.ntk, last + slope * moved, rtol=1e-10)


def test_more_members_than_the_data_have(orthonormal):
    """A family of fixed length, positions say, is read at as many indices as the data have."""
    program = tp.parse("""program positions(P, Q = 3)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector e[k = 1..Q] : G(n) ~ N(0, 1)
vector v : G(n) ~ N(0, 1)
output y[p = 1..P] := v.T @ (e[p] + U @ x[p]) / sqrt(n)
""")
    kernel = program.kernel()
    np.testing.assert_allclose(kernel(orthonormal(3), None, "nngp")[0, 0], 2 * np.eye(3), atol=1e-14)
    with pytest.raises(tp.ProgramError, match=r"e\[4\] is out of range: e has k = 1\.\.3"):
        kernel(orthonormal(4))


def test_a_layer_normalization_of_a_vector_that_is_zero_out_of_range():
    """The guarded vector is a family of its own: the row before by hand is the same program."""
    program = (
        "program norm(P)\ninput x[p = 1..P] : R(d)\nweight U : A(n, d) ~ N(0, 1) / sqrt(d)\n"
        "weight V : A(n, n) ~ N(0, 1) / sqrt(n)\nvector v : G(n) ~ N(0, 1)\nh[p = 1..P] := V @ tanh(U @ x[p])\n{}"
        "output y[p = 1..P] := v.T @ g[p] / sqrt(n)\n"
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    one = tp.parse(program.format("g[p = 1..P] := silu(layernorm((h[p+1] else 0), 0.01))\n")).kernel()(x)
    variance = "(<h[p+1], h[p+1]>/n - (<h[p+1]>/n)**2 + 0.01)"
    by_hand = f"g[p = 1..P-1] := silu((h[p+1] - <h[p+1]>/n) / sqrt({variance}))\ng[P] := 0\n"
    two = tp.parse(program.format(by_hand)).kernel()(x)
    assert np.isfinite(one.nngp).all() and np.abs(one.nngp[:, :, 0, 0]).min() > 1e-3
    for name in ("nngp", "ntk"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-7, atol=1e-9)
