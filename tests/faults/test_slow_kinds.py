"""Values of kinds of programs that were slow: windows with strides and gaps, written in every way.

The reference is a convolutional network as products of matrices: the filter's a-th entry reads the vector at q for the
vector at p where taps[a][p, q] is 1, so that Cov[p, p'] = s Σ_a taps[a] E taps[a]ᵀ, and pooling is a matrix too.
"""

import numpy as np
import pytest

import tensorprog as tp

VARIANCE = 2.0


def relu_duals(k, p, q):
    """E relu(z) relu(z') and E relu'(z) relu'(z') of covariances k and variances p, q."""
    norm = np.sqrt(p[:, None] * q[None, :])
    c = np.clip(np.divide(k, norm, out=np.zeros_like(k), where=norm > 0), -1, 1)
    angle = np.pi - np.arccos(c)
    return norm / (2 * np.pi) * (np.sqrt(1 - c * c) + angle * c), angle / (2 * np.pi)


def reference(layers, x1, x2):
    """(NNGP, NTK) of layers ("conv", taps), ("pool", matrix), ("relu",) and a readout of the mean over all places."""

    def run(x, y):
        k, t = x @ y.T / x.shape[1], np.zeros((len(x), len(y)))
        p, q = (np.einsum("id,id->i", a, a) / a.shape[1] for a in (x, y))
        full = [x @ x.T / x.shape[1], y @ y.T / y.shape[1]]
        for kind, *rest in layers:
            if kind == "conv":
                taps = rest[0]
                s = VARIANCE / len(taps)
                k, t = (s * sum(m @ e @ m.T for m in taps) for e in (k, t + k))
                full = [s * sum(m @ e @ m.T for m in taps) for e in full]
            elif kind == "pool":
                k, t = (rest[0] @ e @ rest[0].T for e in (k, t))
                full = [rest[0] @ e @ rest[0].T for e in full]
            else:
                p, q = np.diag(full[0]), np.diag(full[1])
                k, slope = relu_duals(k, p, q)
                t = t * slope
                full = [relu_duals(e, np.diag(e), np.diag(e))[0] for e in full]
        return k.mean(), (k + t).mean()

    pairs = [[run(a, b) for b in x2] for a in x1]
    return np.array(pairs).transpose(2, 0, 1)


def taps(size, inputs, index, offsets):
    """One matrix to an offset: 1 at (p, q) where q = index(p, offset), both counted from 1; nothing outside."""
    result = []
    for a in offsets:
        m = np.zeros((size, inputs))
        for p in range(1, size + 1):
            if 1 <= index(p, a) <= inputs:
                m[p - 1, index(p, a) - 1] = 1
        result.append(m)
    return result


def check(program, layers, length, samples=2):
    rng = np.random.default_rng(length)
    x1, x2 = rng.standard_normal((2, samples, length, 3))
    k = program.kernel()(x1, x2)
    nngp, ntk = reference(layers, x1, x2)
    np.testing.assert_allclose(k.nngp, nngp, rtol=1e-10)
    np.testing.assert_allclose(k.ntk, ntk, rtol=1e-9)


FIRST = """program layers(P, Q, var_w = 2)
input x[p = 1..P] : R(d)
weight U[a = -1..1] : A(n, d) ~ N(0, 1) * sqrt(var_w / (3 * d))
weight W[a = -2..2] : A(n, n) ~ N(0, 1) * sqrt(var_w / (number * n))
vector v : G(n) ~ N(0, 1)
h[p = 1..P] := sum[a = -1..1](U[a] @ (x[p+a] else 0))
"""
LAST = """output y := mean[p = 1..Q](v.T @ relu(g[p])) / sqrt(n)
"""


def first(size):
    return ("conv", taps(size, size, lambda p, a: p + a, (-1, 0, 1))), ("relu",)


def layered(body, length, outputs, number):
    return tp.parse((FIRST + body + LAST).replace("number", str(number)), P=length, Q=outputs)


@pytest.mark.parametrize(
    ("read", "index", "offsets", "length", "outputs"),
    [
        ("h[2*p+a]", lambda p, a: 2 * p + a, (-1, 0, 1), 8, 4),
        ("h[2*p-1+a]", lambda p, a: 2 * p - 1 + a, (-1, 0, 1), 9, 5),
        ("h[3*p-2*a]", lambda p, a: 3 * p - 2 * a, (-1, 0, 1, 2), 10, 3),
        ("h[p+2*a]", lambda p, a: p + 2 * a, (-2, -1, 0, 1, 2), 7, 7),
        ("h[p-a]", lambda p, a: p - a, (0, 1, 2), 6, 6),
    ],
    ids=["even", "odd", "back and with gaps", "gaps", "back"],
)
def test_strides_and_gaps(read, index, offsets, length, outputs):
    body = f"g[p = 1..Q] := sum[a = {offsets[0]}..{offsets[-1]}](W[a] @ (relu({read}) else 0))\n"
    layers = [*first(length), ("conv", taps(outputs, length, index, offsets)), ("relu",)]
    check(layered(body, length, outputs, len(offsets)), layers, length)


@pytest.mark.parametrize(
    ("length", "width", "stride"),
    [
        (8, 2, 2),
        (9, 3, 2),
        pytest.param(11, 5, 5, marks=pytest.mark.slow),
        pytest.param(7, 2, 1, marks=pytest.mark.slow),
    ],
)
def test_average_pooling(length, width, stride):
    """Windows that overlap or not, and that leave out the last entries of an odd length."""
    outputs = (length - width) // stride + 1
    body = f"g[p = 1..Q] := W[0] @ (mean[b = 1..{width}](relu(h[{stride}*p-{stride}+b])))\n"
    pool = sum(taps(outputs, length, lambda p, b: stride * p - stride + b, range(1, width + 1))) / width
    layers = [*first(length), ("pool", pool), ("conv", [np.eye(outputs)]), ("relu",)]
    check(layered(body, length, outputs, 1), layers, length)


def test_pooling_and_strides_of_images():
    """Three by three filters at stride 2 over an odd image, after pooling by 2 × 2 that overlaps."""
    text = """program image(H, W, var_w = 2)
input x[i = 1..H, j = 1..W] : R(d)
weight U[a = -1..1, b = -1..1] : A(n, d) ~ N(0, 1) * sqrt(var_w / (9 * d))
weight V[a = -1..1, b = -1..1] : A(n, n) ~ N(0, 1) * sqrt(var_w / (9 * n))
vector v : G(n) ~ N(0, 1)
h[i = 1..H, j = 1..W] := sum[a = -1..1, b = -1..1](U[a, b] @ (x[2*i-1+a, j+b] else 0))
m[i = 1..3, j = 1..4] := mean[a = 0..1, b = 0..1](relu(h[i+a, j+b]))
g[i = 1..2, j = 1..2] := sum[a = -1..1, b = -1..1](V[a, b] @ (m[2*i-1+a, 2*j+b] else 0))
output y := mean[i = 1..2, j = 1..2](v.T @ relu(g[i, j])) / sqrt(n)
""".replace("h[i = 1..H, j", "h[i = 1..4, j")
    rows, columns = (taps(4, 7, lambda i, a: 2 * i - 1 + a, (-1, 0, 1)), taps(5, 5, lambda j, b: j + b, (-1, 0, 1)))
    pool = np.kron(sum(taps(3, 4, lambda i, a: i + a, (0, 1))), sum(taps(4, 5, lambda j, b: j + b, (0, 1)))) / 4
    after = (taps(2, 3, lambda i, a: 2 * i - 1 + a, (-1, 0, 1)), taps(2, 4, lambda j, b: 2 * j + b, (-1, 0, 1)))
    layers = [
        ("conv", [np.kron(a, b) for a in rows for b in columns]),
        ("relu",),
        ("pool", pool),
        ("conv", [np.kron(a, b) for a in after[0] for b in after[1]]),
        ("relu",),
    ]
    rng = np.random.default_rng(0)
    x1, x2 = rng.standard_normal((2, 2, 7, 5, 3))
    k = tp.parse(text).kernel()(x1, x2)
    nngp, ntk = reference(layers, x1.reshape(2, 35, 3), x2.reshape(2, 35, 3))
    np.testing.assert_allclose(k.nngp, nngp, rtol=1e-10)
    np.testing.assert_allclose(k.ntk, ntk, rtol=1e-9)


TRANSPOSED = {
    "in the operand": "g[p = 1..Q] := sum[q = 1..P, a = 0..2](W[a] @ (relu(h[q]) if 2*q + a - 2 == p else 0))\n",
    "of products": "z[p = 1..P] := relu(h[p])\n"
    "g[p = 1..Q] := sum[a = 0..2, q = 1..P](W[a] @ z[q] if p + 2 == 2*q + a else 0)\n",
    "in a family": "for p = 1..Q, a = 0..2, q = 1..P:\n    w[p, a, q] := W[a] @ relu(h[q]) if 2*q + a - 2 == p else 0\n"
    "g[p = 1..Q] := sum[a = 0..2, q = 1..P](w[p, a, q])\n",
    "in the vector": "for p = 1..Q, a = 0..2:\n    u[p, a] := sum[q = 1..P](relu(h[q]) if 2*q + a - 2 == p else 0)\n"
    "g[p = 1..Q] := sum[a = 0..2](W[a] @ u[p, a])\n",
}


@pytest.mark.parametrize("body", TRANSPOSED.values(), ids=TRANSPOSED)
def test_transposed_convolutions(body):
    """Stride 2, the outputs that no input reaches among them; equations on indices are solved, not tried out."""
    length, outputs = 6, 13
    spread = [m.T for m in taps(length, outputs, lambda q, a: 2 * q + a - 2, (0, 1, 2))]
    layers = [*first(length), ("conv", spread), ("relu",)]
    program = layered(body, length, outputs, 3)
    check(program, layers, length)
    source = program.kernel().backend.module.source
    assert "for q in range" not in source


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("if p == 2*q or p == 2*q - 1 else 0", lambda q, a: 2 * q - a),
        pytest.param("if p >= 2*q - 1 and p <= 2*q else 0", lambda q, a: 2 * q - a, marks=pytest.mark.slow),
        pytest.param("if 3*q - 2 == p else 0", lambda q, a: 3 * q - 2 if a == 0 else 0, marks=pytest.mark.slow),
        ("if q == p + 1 else 0", lambda q, a: q - 1 if a == 0 else 0),
    ],
    ids=["nearest", "nearest by order", "zeros between", "shift"],
)
def test_upsampling_by_conditions(condition, index):
    length, outputs = 5, 10
    body = f"g[p = 1..Q] := sum[a = 0..1](W[a] @ sum[q = 1..P](relu(h[q]) {condition}))\n"
    up = sum(m.T for m in taps(length, outputs, index, (0, 1)))
    layers = [*first(length), ("pool", up), ("conv", [np.eye(outputs)] * 2), ("relu",)]
    check(layered(body, length, outputs, 2), layers, length)


CIRCULAR = {
    "else": "g[p = 1..Q] := sum[a = -1..1](W[a] @ (relu(h[p+a]) else (relu(h[p+a-P]) else relu(h[p+a+P]))))\n",
    "if": "g[p = 1..Q] := sum[a = -1..1](W[a] @ (relu(h[p+a-P]) if p + a > P else relu(h[p+a+P]) if p + a < 1 "
    "else relu(h[p+a])))\n",
    "added": "z[p = 1..P] := relu(h[p])\n"
    "g[p = 1..Q] := sum[a = -1..1](W[a] @ (z[p+a] else 0) + W[a] @ (z[p+a-P] else 0) + W[a] @ (z[p+a+P] else 0))\n",
    "mod": "g[p = 1..Q] := sum[a = -1..1](W[a] @ relu(h[1 + (p + a - 1) mod P]))\n",
}


@pytest.mark.parametrize("way", ["else", pytest.param("if", marks=pytest.mark.slow), "added", "mod"])
def test_circular_filters(way):
    length, body = 6, CIRCULAR[way]
    wrapped = taps(length, length, lambda p, a: 1 + (p + a - 1) % length, (-1, 0, 1))
    program = layered(body, length, length, 3)
    check(program, [*first(length), ("conv", wrapped), ("relu",)], length)
    assert "window_sums(" in program.kernel().backend.module.source.split("def pair(")[1].split("Cov(g")[1]


IMAGE = """program image(H, W, var_w = 2)
input x[i = 1..H, j = 1..W] : R(d)
weight U : A(n, d) ~ N(0, 1) * sqrt(var_w / d)
weight V[a = -1..1, b = -1..1] : A(n, n) ~ N(0, 1) * sqrt(var_w / (9 * n))
vector v : G(n) ~ N(0, 1)
h[i = 1..H, j = 1..W] := U @ x[i, j]
BODYg[i = 1..H, j = 1..W] := sum[a = -1..1, b = -1..1](V[a, b] @ READ)
output y := mean[i = 1..H, j = 1..W](v.T @ relu(g[i, j])) / sqrt(n)
"""


def check_circular_image(program):
    rows, columns = ([np.roll(np.eye(n), a, 1) for a in (-1, 0, 1)] for n in (3, 4))
    layers = [
        ("conv", [np.eye(12)]),
        ("relu",),
        ("conv", [np.kron(a, b) for a in rows for b in columns]),
        ("relu",),
    ]
    rng = np.random.default_rng(0)
    x1, x2 = rng.standard_normal((2, 2, 3, 4, 3))
    k = program.kernel()(x1, x2)
    nngp, ntk = reference(layers, x1.reshape(2, 12, 3), x2.reshape(2, 12, 3))
    np.testing.assert_allclose(k.nngp, nngp, rtol=1e-10)
    np.testing.assert_allclose(k.ntk, ntk, rtol=1e-9)


def test_a_circular_filter_of_images_by_nine_cases():
    """The conditions of nine cases have more combinations than can be looked at; those that can hold are few."""
    shifts = [f"relu(h[i+a{r}, j+b{c}])" for c in ("", "-W", "+W") for r in ("", "-H", "+H")]
    read = shifts[-1]
    for s in reversed(shifts[:-1]):
        read = f"({s} else {read})"
    check_circular_image(tp.parse(IMAGE.replace("BODY", "").replace("READ", read), H=3, W=4))


def test_a_filter_of_circular_copies_by_if_on_both_axes():
    """A border of copies, rows first and then columns; the sizes are read off the data."""
    body = """for i = 0..H+1, j = 1..W:
    r[i, j] := relu(h[H, j]) if i < 1 else relu(h[1, j]) if i > H else relu(h[i, j])
for i = 0..H+1, j = 0..W+1:
    c[i, j] := r[i, W] if j == 0 else (r[i, j] if j <= W else r[i, 1])
"""
    check_circular_image(tp.parse(IMAGE.replace("BODY", body).replace("READ", "c[i+a, j+b]")))


LAYERS = """program layers(var_w = 2, var_b = 1/10)
input x : R(d)
weight W1 : A(n, d) ~ N(0, 1) * sqrt(var_w / d)
DECLARED
vector b3 : G(n) ~ N(0, var_b)
vector v : G(n) ~ N(0, 1)
h1 := W1 @ x
WRITTEN
output y := v.T @ relu(hLAST) / sqrt(n)
"""


def written_out(number, layer):
    text = LAYERS.replace(
        "DECLARED", "\n".join(f"weight W{k} : A(n, n) ~ N(0, 1) * sqrt(var_w / n)" for k in range(2, number + 1))
    )
    return text.replace("WRITTEN", "\n".join(layer(k) for k in range(2, number + 1))).replace("LAST", str(number))


@pytest.mark.parametrize(
    ("layer", "residual"),
    [
        (lambda k: f"h{k} := W{k} @ relu(h{k - 1})" + " + b3" * (k == 3), False),
        (lambda k: f"h{k} := h{k - 1} + W{k} @ relu(h{k - 1})", True),
    ],
    ids=["dense", "residual"],
)
def test_layers_written_one_by_one_are_a_loop(layer, residual):
    """Values, the parts of single weights, and rates; a layer that differs from the others is left alone."""
    number = 9
    program = tp.parse(written_out(number, layer))
    kernel = program.kernel()
    assert "lax.scan" in kernel.backend.module.source
    x1, x2 = np.random.default_rng(0).standard_normal((2, 3, 4))
    found = kernel(x1, x2)

    def recursion(s):
        """NNGP where s[k] is the variance of layer k between the two copies of the parameters."""
        k = s[1] * x1 @ x2.T / 4
        p, q = (2 * np.einsum("id,id->i", x, x) / 4 for x in (x1, x2))
        for layer_number in range(2, number + 1):
            bias = 0.1 * (layer_number == 3 and not residual)
            new = s[layer_number] * relu_duals(k, p, q)[0] + bias * s["b"]
            k = new + residual * k
            p, q = (residual * e + e + bias for e in (p, q))  # 2 E relu(z)² is the variance of z
        return relu_duals(k, p, q)[0] * s["v"]

    whole = {k: 2.0 for k in range(1, number + 1)} | {"b": 1.0, "v": 1.0}
    np.testing.assert_allclose(found.nngp, recursion(whole), rtol=1e-10)

    def part(name, step=1e-6):
        up, down = ({**whole, name: whole[name] + sign * step * whole[name]} for sign in (1, -1))
        scale = 1 / 0.1 if name == "b" else 1.0  # the bias's own variance is what is trained
        return scale * (recursion(up) - recursion(down)) / (2 * step)

    for name, weight in (("W5", 5), ("W9", 9), *((("b3", "b"),) if not residual else ())):
        np.testing.assert_allclose(kernel(x1, x2, "ntk", wrt=name), part(weight), rtol=1e-5)
    names = [k for k in whole if k != "b" or not residual]
    np.testing.assert_allclose(found.ntk, sum(part(k) for k in names), rtol=1e-5)
