"""What had no way to be said: division, indices that wrap around, a bias of the output, data as indices."""

import jax
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.backend.module import build_module
from tests.ntk.by_backward import derive_ntk_by_backward

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


def test_down_and_up_again_with_a_skip(text):
    """The unet by matrices: taps at stride 2 go down, each entry twice goes up, and h is added by its own weight."""
    x = RNG.normal(size=(1, 6, 2))
    taps = [np.eye(6, k=a) for a in (-1, 0, 1)]
    down = [m[1::2] for m in taps]
    up = np.kron(np.eye(3), np.ones((2, 1)))
    filtered = lambda k, by: 2 / 3 * sum(m @ k @ m.T for m in by)  # noqa: E731
    first = filtered(x[0] @ x[0].T / 2, taps)
    h, slope = relu_moments(first)
    moved_h = slope * first
    low, slope = relu_moments(filtered(h, down))
    moved_low = slope * filtered(h + moved_h, down)
    nngp, slope = relu_moments(filtered(up @ low @ up.T, taps) + h)
    moved = slope * (filtered(up @ (low + moved_low) @ up.T, taps) + h + moved_h)
    found = tp.parse(text("unet1d")).kernel()(x)
    np.testing.assert_allclose(found.nngp[0, 0], nngp.mean(), rtol=1e-10)
    np.testing.assert_allclose(found.ntk[0, 0], (nngp + moved).mean(), rtol=1e-10)


def test_sizes_are_read_off_both_ends_of_an_axis():
    program = tp.parse(
        "program ends(P)\ninput x[p = -P..P] : R(d)\nweight W : A(n, d) ~ N(0, 1) / sqrt(d)\n"
        "vector v : G(n) ~ N(0, 1)\nfor p = -P..P:\n    h[p] := relu(W @ x[p])\n"
        "output y := v.T @ (h[0] + h[P] * 2) / sqrt(n)\n"
    )
    x, y = RNG.normal(size=(1, 3, 2)), RNG.normal(size=(1, 5, 2))
    both = np.concatenate([x[0, 1:], y[0, [2, 4]]])
    right, _ = relu_moments(both @ both.T / 2)
    weights = np.array([1, 2])
    np.testing.assert_allclose(program.kernel()(x, y, "nngp")[0, 0], weights @ right[:2, 2:] @ weights, rtol=1e-5)
    with pytest.raises(ValueError, match="no integer P makes it 4"):
        program.kernel()(y[:, :4])


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


BIASED = """program biased(P)
input x[p = 1..P] : R(d)
weight W : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
scalar c[p = 1..P] ~ N(0, 2) * 3
scalar scalar, other ~ N(0, 1)
fixed scalar e ~ N(0, 0.5)
output y[p = 1..P] := v.T @ relu(W @ x[p]) / sqrt(n) + c[p] - scalar + 2 * e
"""


def test_a_bias_of_the_output():
    program, plain = tp.parse(BIASED), tp.parse(BIASED.replace(" + c[p] - scalar + 2 * e", ""))
    x = RNG.normal(size=(2, 3, 2))
    found, without = program.kernel()(x), plain.kernel()(x)
    np.testing.assert_allclose(found.nngp - without.nngp, np.broadcast_to(18 * np.eye(3) + 3, (2, 2, 3, 3)))
    np.testing.assert_allclose(found.ntk - without.ntk, np.broadcast_to(9 * np.eye(3) + 1, (2, 2, 3, 3)))
    slower = program.kernel()(x, x, "ntk", wrt=["W", "v"])
    np.testing.assert_allclose(slower, without.ntk)
    assert "1[p' = p] · 18" in str(program.derive("nngp"))
    assert "mathbb{1}" in program.derive("nngp").latex() or "18" in program.derive("nngp").latex()
    assert tp.parse(program.core()).core() == program.core()
    assert "+ c[p] - scalar + 2 * e" in program.backward().core()


def test_a_bias_of_the_output_in_finite_networks():
    program = tp.parse(BIASED)
    x = RNG.normal(size=(2, 3, 2))
    init, apply = program.network(width=16)
    params = init(jax.random.key(0), x)
    assert params["c"].shape == (3,)
    assert params["scalar"].shape == ()
    moved = {**params, "c": params["c"] + 1, "scalar": params["scalar"] + 0.5}
    np.testing.assert_allclose(apply(moved, x) - apply(params, x), np.full((2, 3), 2.5), rtol=1e-5)
    report = tp.verify(program, x, widths=[256], seeds=4)
    assert max(report.deviations["nngp"].max(), report.deviations["ntk"].max()) < 0.2


@pytest.mark.slow
def test_a_bias_of_the_output_where_the_kernel_is_sampled():
    body = """program sampled()
input x : R(d)
weight W : A(n, d) ~ N(0, 1) / sqrt(d)
weight M : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
scalar c ~ N(0, 3)
h := M @ relu(W @ x)
g := M @ tanh(h)
output y := v.T @ (g * softplus(g + h * sin(g))) / sqrt(n)"""
    x = RNG.normal(size=(2, 3))
    program, plain = tp.parse(f"{body} + c\n"), tp.parse(f"{body}\n")
    found, without = program.kernel(tol=0.1)(x), plain.kernel(tol=0.1)(x)
    np.testing.assert_allclose(found.nngp - without.nngp, np.full((2, 2), 3), rtol=1e-5)
    np.testing.assert_allclose(found.ntk - without.ntk, np.ones((2, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    ("statement", "says", "hint"),
    [
        ("output y := v.T @ h[1] / sqrt(n) + u[1]", "not to G", "declare scalar u ~ N"),
        ("output y := v.T @ h[1] / sqrt(n) + 1", "not to a number", "predictions"),
        ("output y := v.T @ (h[1] + c) / sqrt(n)", "not to G", "vector b"),
        ("output y := v.T @ h[1] / sqrt(n) + o", "undefined name 'o'", "declare scalar o ~ N"),
        ("output y := (b - sum[p = 1..P](v.T @ h[p])) / sqrt(n)", "undefined name 'b'", "declare scalar b ~ N"),
        ("output y := mean[p = 1..P](v.T @ h[p] + b[p]) / sqrt(n)", "undefined name 'b'", "declare scalar b ~ N"),
        ("output y := v.T @ h[1] / sqrt(n) + hh[1]", "undefined name 'hh'", "did you mean 'h'"),
        ("output y := v.T @ h[1] / sqrt(n) + relu", "'relu' is a function", None),
        ("output y := tanh(c)", "outputs", None),
        ("g := c", "in an output alone", "vector b"),
        ("output y := v.T @ h[1] / sqrt(n) + sqrt(n) * c", "grows like sqrt", None),
        ("output y := v.T @ h[1] / sqrt(n) + c / n", "vanishes like 1/n", None),
        ("scalar e ~ N(1, 1)", "mean 0", "targets"),
        ("scalar e ~ N(0, n)", "scalar grows like n", None),
        ("scalar e : G(n) ~ N(0, 1)", "is a C", "leave the type out"),
    ],
)
def test_what_a_bias_of_the_output_cannot_be(head, statement, says, hint):
    text = f"scalar c ~ N(0, 1)\n{statement}\n"
    with pytest.raises(tp.ProgramError, match=says) as found:
        head(text).derive("nngp")
    assert found.value.line
    assert hint is None or hint in (found.value.hint or "")


@pytest.mark.parametrize(
    ("law", "instead"),
    [
        ("U(-1, 1)", "N(0, 1/3)"),
        ("Uniform(-a, a)", "N(0, a ** 2/3)"),
        ("uniform(-sqrt(3), sqrt(3))", "N(0, 1)"),
        ("U(0, 1)", "N(1/2, 1/12)"),
        ("U(-0.5, 1)", "N(1/4, 3/16)"),
        ("Laplace(0, 1/2)", "N(0, 1/2)"),
        ("normal(0, 2)", "N(0, 4)"),
        ("Cauchy(0, 1)", None),
    ],
)
def test_laws_of_another_kind_are_refused_with_the_gaussian_of_the_same_variance(law, instead):
    with pytest.raises(tp.ProgramError, match="is no law") as found:
        tp.parse(f"program p(a = 1)\nweight W : A(n, n) ~ {law}\n")
    assert found.value.hint is None if instead is None else f"{instead}" in found.value.hint


OVER_AN_AXIS = """program over_an_axis(P)
input x[p = 1..P] : R(d)
weight W : A(n, d) ~ N(0, 1) / sqrt(d)
weight L[p = 1..P] : A(n, n) ~ N(0, 1) / sqrt(P * n)
vector v : G(n) ~ N(0, 1)
h := sum[p = 1..P](L[p] @ relu(W @ x[p]))
output y := v.T @ {readout} / sqrt(n)
"""


SAMPLED = pytest.param("(h * tanh(h) * sin(h) * softplus(h))", marks=pytest.mark.slow)


@pytest.mark.parametrize("readout", ["tanh(h)", SAMPLED])
def test_laws_may_depend_on_sizes_that_both_runs_share(readout):
    program = tp.parse(OVER_AN_AXIS.format(readout=readout))
    x = RNG.normal(size=(2, 3, 2))
    found, right = program.kernel()(x), tp.parse(OVER_AN_AXIS.format(readout=readout), P=3).kernel()(x)
    np.testing.assert_allclose(found.nngp, right.nngp, rtol=1e-6)
    np.testing.assert_allclose(found.ntk, right.ntk, rtol=1e-6)
    with pytest.raises(ValueError, match="x1 and x2 differ in P: 3 and 2, and the law of 'L' depends on P"):
        program.kernel()(x, x[:, :2])


@pytest.mark.slow
def test_laws_over_an_axis_in_what_is_emitted_and_at_a_width():
    program = tp.parse(OVER_AN_AXIS.format(readout="relu(h)"))
    x = RNG.normal(size=(2, 3, 2))
    namespace = {}
    exec(program.kernel().backend.module.source, namespace)
    np.testing.assert_allclose(namespace["kernel"](x, get="nngp"), program.kernel()(x, get="nngp"), rtol=1e-6)
    with pytest.raises(ValueError, match="differ in P"):
        namespace["kernel"](x, x[:, :2])
    report = tp.verify(program, x, widths=[256], seeds=2)
    assert report.deviations["nngp"].max() < 0.3


TOKENS = """program tokens(T, V = 5)
input t[i = 1..T] : index(V)
vector E[k = 1..V] : G(n) ~ N(0, 2)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
scalar c[k = 1..V] ~ N(0, 3)
for i = 1..T:
    h[i] := relu(W @ relu(sum[a = 0..1](E[t[i+a]] else 0)))
output y := mean[i = 1..T](v.T @ h[i] / sqrt(n) + c[t[i]])
"""


def test_data_as_indices_are_one_hot_data():
    program = tp.parse(TOKENS)
    one_hot = tp.parse(
        TOKENS.replace("input t[i = 1..T] : index(V)", "input x[i = 1..T] : R(d)\ninput s[i = 1..T, k = 1..V] : C")
        .replace("vector E[k = 1..V] : G(n) ~ N(0, 2)", "weight E : A(n, d) ~ N(0, 2 / d)")
        .replace("(E[t[i+a]] else 0)", "(E @ (x[i+a] else 0))")
        .replace("c[t[i]]", "sum[k = 1..V](s[i, k] * c[k])")
    )
    a, b = RNG.integers(1, 6, size=(3, 4)), RNG.integers(1, 6, size=(2, 3))
    kernel = program.kernel()
    found = kernel(a, b)
    hot = [{"x": np.eye(5)[t - 1] * 5**0.5, "s": np.eye(5)[t - 1]} for t in (a, b)]
    right = one_hot.kernel()(*hot)
    np.testing.assert_allclose(found.nngp, right.nngp, rtol=1e-5)
    trained = ["W", "v", "c"]
    np.testing.assert_allclose(kernel(a, b, "ntk", wrt=trained), one_hot.kernel()(*hot, "ntk", wrt=trained), rtol=1e-5)
    np.testing.assert_allclose(  # of the vectors, tangent 1; of the weight, tangent d · <x, x'>/d
        kernel(a, b, "ntk", wrt=["E"]), one_hot.kernel()(*hot, "ntk", wrt=["E"]) / 5, rtol=1e-5
    )
    np.testing.assert_allclose(jax.jit(lambda t: kernel(t, b, "ntk"))(a), found.ntk, rtol=1e-5)
    assert tp.parse(program.core()).core() == program.core()
    assert "t_{i} = t'_{i'}" in program.derive("nngp").latex()


@pytest.mark.slow
def test_the_ntk_of_data_as_indices_by_its_backward_pass():
    program = tp.parse(TOKENS)
    backward = program.backward()
    assert "if k == t[" in backward.core()
    a = RNG.integers(1, 6, size=(3, 4))
    namespace = {}
    exec(build_module(derive_ntk_by_backward(program.ir, backward.ir)).source, namespace)
    np.testing.assert_allclose(namespace["kernel"](a, get="nngp"), program.kernel()(a, get="ntk"), rtol=1e-5)


LOOKUPS = """program lookups(T, V = 3)
input t[i = 1..T] : index(V)
input x[k = 1..V] : R(d)
input s : index(2)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight L[k = 1..V, j = 1..2] : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[k = 1..V] := tanh(U @ x[k])
for i = 1..T:
    g[i] := {value}
output y[i = 1..T] := v.T @ relu(g[i]) / sqrt(n)
"""


def without_data_as_indices(text):
    for line in ("input s : index(2)\n", "input t[i = 1..T] : index(V)\n"):
        text = text.replace(line, "")
    return tp.parse(text.replace("(T, V = 3)", "(T = 2, V = 3)"))


@pytest.mark.parametrize(
    ("value", "by_hand"),
    [
        ("h[t[i]]", "h[{t}]"),
        ("U @ x[t[i]]", "U @ x[{t}]"),
        ("L[t[i], s] @ h[t[i]]", "L[{t}, {s}] @ h[{t}]"),
        ("U @ x[1] if t[i] == s else L[2, 1] @ h[t[i]]", "U @ x[1] if {t} == {s} else L[2, 1] @ h[{t}]"),
    ],
)
def test_data_name_members_of_any_family(value, by_hand):
    program = tp.parse(LOOKUPS.format(value=value))
    x, t, s = RNG.normal(size=(1, 3, 2)), np.array([[2, 3]]), np.array([1])
    found = program.kernel()({"x": x, "t": t, "s": s})
    plain = without_data_as_indices(LOOKUPS.format(value=by_hand.format(t="i+1", s="1")))
    right = plain.kernel()(x)
    np.testing.assert_allclose(found.nngp, right.nngp, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.ntk, right.ntk, rtol=1e-5, atol=1e-6)


def test_data_as_indices_in_finite_networks():
    program = tp.parse(LOOKUPS.format(value="L[t[i], s] @ (h[t[i]] if t[i] == 2 else 0)"))
    x, t, s = RNG.normal(size=(2, 3, 2)), np.array([[2, 3], [1, 2]]), np.array([1, 2])
    init, apply = program.network(width=8)
    data = {"x": x, "t": t, "s": s}
    params = init(jax.random.key(0), data)
    found = apply(params, data)
    for i in range(2):
        for j in range(2):
            hidden = np.tanh(params["U"] @ x[i, t[i, j] - 1] / 2**0.5) if t[i, j] == 2 else np.zeros(8)
            value = params["L"][t[i, j] - 1, s[i] - 1] @ hidden / 8**0.5
            np.testing.assert_allclose(found[i, j], params["v"] @ np.maximum(value, 0) / 8**0.5, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_data_as_indices_where_the_kernel_is_sampled():
    value = "softplus(h[t[i]]) * h[t[i]] * tanh(L[1, 1] @ h[t[i]])"
    program = tp.parse(LOOKUPS.format(value=value))
    plain = without_data_as_indices(LOOKUPS.format(value=value.replace("t[i]", "i+1")))
    x = RNG.normal(size=(1, 3, 2))
    found = program.kernel(tol=0.02)({"x": x, "t": np.array([[2, 3]]), "s": np.array([1])}, get="nngp")
    np.testing.assert_allclose(found, plain.kernel(tol=0.02)(x, get="nngp"), rtol=0.1, atol=0.01)


def test_data_that_name_no_member():
    kernel = tp.parse(TOKENS).kernel()
    for data, says in (
        ([[1, 2, 6]], r"x1: 't' holds 6 at \[0, 2\], and its indices are 1, …, V = 5"),
        ([[0, 1, 2]], r"holds 0 at \[0, 0\]"),
        ([[1.5, 1, 2]], r"holds 1.5"),
    ):
        with pytest.raises(ValueError, match=says):
            kernel(np.array(data))
    with pytest.raises(ValueError, match="x2: 't' holds 9"):
        kernel(np.array([[1, 2]]), np.array([[9, 1]]))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("for k = 1..t[1]:\n    h[k] := E[k]", "is data: a range has ends that are known before"),
        ("h[t[1]] := E[1]", "is data: what is assigned has indices"),
        ("h := t[1] * E[1]", "holds indices"),
        ("h := E[t]", "has 1 indices"),
        ("h := E[t[1] + 1]", r"E\[4\] is out of range"),
        ("h := E[t[4]]", r"t\[4\] is out of range"),
        ("input s : index(n)", "goes to infinity"),
        ("input s : index", "written index"),
    ],
)
def test_what_data_as_indices_cannot_be(statement, says):
    head = "program p()\ninput t[i = 1..2] : index(3)\nvector E[k = 1..3] : G(n) ~ N(0, 1)\n"
    with pytest.raises(tp.ProgramError, match=says) as found:
        tp.parse(f"{head}{statement}\n")
    assert found.value.line


@pytest.mark.parametrize(
    ("loops", "target", "read", "size", "source"),
    [
        ("p = 1..P, r = 0..1", "2*p-r", "q", 8, lambda q: ((q + 1) // 2, (q % 2) + 1)),
        ("p = 1..P, r = 0..1", "3*p+r", "3*((q+1)/2)+(q+1) mod 2", 8, lambda q: ((q + 1) // 2, (q + 1) % 2 + 1)),
        ("p = 1..P, r = 0..1", "p, p+r", "(q+1)/2, (q+1)/2+(q+1) mod 2", 8, lambda q: ((q + 1) // 2, (q + 1) % 2 + 1)),
        ("p = 1..P, r = 0..1", "P-p, r", "q-1, 1", 4, lambda q: (5 - q, 2)),
        ("p = 1..P, r = 0..1", "p+r, r-p", "q+1, 1-q", 4, lambda q: (q, 2)),
    ],
)
def test_left_hand_sides_are_solved(head, loops, target, read, size, source):
    body = f"weight M[r = 1..2] : A(n, n) ~ N(0, r) / sqrt(n)\nfor {loops}:\n    m[{target}] := M[r+1] @ h[p]\n"
    program = head(f"{body}output y[q = 1..{size}] := v.T @ relu(m[{read}]) / sqrt(n)\n")
    x = RNG.normal(size=(1, 4, 3))
    gram = x[0] @ x[0].T / 3
    if target == "2*p-r":
        source = lambda q: ((q + 1) // 2, (2 * ((q + 1) // 2) - q) + 1)  # noqa: E731
    places = [source(q) for q in range(1, size + 1)]
    k = np.array([[gram[p - 1, s - 1] * r if r == t else 0 for s, t in places] for p, r in places])
    right, slope = relu_moments(k)
    same = np.array([[gram[p - 1, s - 1] * (r == t) for s, t in places] for p, r in places])
    found = program.kernel()(x)
    np.testing.assert_allclose(found.nngp[0, 0], right, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.ntk[0, 0], right + slope * (k + same), rtol=1e-5, atol=1e-6)


def test_left_hand_sides_that_are_not_solved_have_a_place(head):
    program = head("for p = 0..2, r = 0..1:\n    m[2*p+3*r] := h[1]\noutput y := v.T @ m[3] / sqrt(n)\n")
    with pytest.raises(tp.ProgramError, match=r"m\[2\*p\+3\*r\] does not tell p and r") as found:
        program.derive()
    assert found.value.line == 9
