"""Kernels of the bundled programs and of users' variants against recursions written out with NumPy.

All items (samples, or samples times positions) stand in one covariance matrix K and one tangent Θ; between layers,
K ← s·E φφ' and Θ ← s·(E φφ' + E φ'φ'·Θ), the expectations by composite Gauss-Legendre quadrature split at kinks.
"""

import numpy as np
import pytest

SMALL_MLP = """program own
{definition}
input  x : R(d)
weight W1 : A(n, d)            ~ N(0, 1) * sqrt(3/2 / d)
weight W[l = 2..2] : A(n, n)   ~ N(0, 1) * sqrt(3/2 / n)
vector b[l = 1..2] : G(n)      ~ N(0, 1/4)
vector v : G(n)                ~ N(0, 1)
h[1] := W1 @ x + b[1]
h[2] := W[2] @ act(h[1]) + b[2]
output y := v.T @ act(h[2]) / sqrt(n)
"""


def layer(quadrature, phi, k, theta):
    """(E φφ', E φ'φ'·Θ)."""
    f, slope = phi if isinstance(phi, tuple) else quadrature.functions[phi]
    return quadrature.dual(f, k), quadrature.dual(slope, k) * theta


def mlp(quadrature, x, phi, depth, var_w, var_b, bias_tangent=None):
    """NNGP and NTK. bias_tangent: mult² of the biases, var_b where their law is N(0, 1) * sqrt(var_b)."""
    bias_tangent = var_b if bias_tangent is None else bias_tangent
    gram = x @ x.T / x.shape[1]
    k, theta = var_w * gram + var_b, var_w * gram + bias_tangent
    for _ in range(depth - 1):
        value, moved = layer(quadrature, phi, k, theta)
        k, theta = var_w * value + var_b, var_w * (value + moved) + bias_tangent
    value, moved = layer(quadrature, phi, k, theta)
    return value, value + moved


def compare(kernel, x, split, expected, close, tolerance=1e-9):
    """x2 given (the samples from `split` on) and not, against the kernels of all items, (NNGP, NTK).

    Halves of equal size share one compilation.
    """
    for actual, wanted in zip(kernel(x[:split]), expected, strict=True):
        close(actual, wanted[:split, :split], tolerance)
    for actual, wanted in zip(kernel(x[:split], x[split:]), expected, strict=True):
        close(actual, wanted[:split, split:], tolerance)


# ---------------------------------------------------------------- perceptrons


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh", "silu", "elu", "abs", "sin", "square"])  # the others below
def test_perceptron(kernel, quadrature, close, rng, phi):
    x = rng.normal(size=(6, 3))
    expected = mlp(quadrature, x, phi, depth=2, var_w=1.3, var_b=0.2)
    compare(kernel("mlp", depth=2, phi=phi, var_w=1.3, var_b=0.2), x, 3, expected, close)


@pytest.mark.parametrize("depth", [1, 5])
def test_perceptron_of_other_depths(kernel, quadrature, close, rng, depth):
    x = rng.normal(size=(3, 6))
    expected = mlp(quadrature, x, "erf", depth=depth, var_w=0.7, var_b=0.0)
    compare(kernel("mlp", depth=depth, phi="erf", var_w=0.7), x, 2, expected, close)


def logistic(x):
    return 1 / (1 + np.exp(-x))


DEFINITIONS = {
    "polynomial": (
        "def act(x) := 1 - 2*x + x**2/2 + x**3/3",
        (lambda x: 1 - 2 * x + x**2 / 2 + x**3 / 3, lambda x: -2 + x + x**2),
    ),
    "slope": (
        "def act(x) := leaky_relu(x, slope = 0.3)",
        (lambda x: np.where(x > 0, x, 0.3 * x), lambda x: np.where(x > 0, 1, 0.3)),
    ),
    "gaussian": ("def act(x) := exp(-x**2/2)", (lambda x: np.exp(-(x**2) / 2), lambda x: -x * np.exp(-(x**2) / 2))),
    "wave": (
        "def act(x) := sin(2*x) + cos(x)/3",
        (lambda x: np.sin(2 * x) + np.cos(x) / 3, lambda x: 2 * np.cos(2 * x) - np.sin(x) / 3),
    ),
    "mish-like": (
        "def act(x) := x * tanh(softplus(x))",
        (
            lambda x: x * np.tanh(np.logaddexp(x, 0)),
            lambda x: np.tanh(np.logaddexp(x, 0)) + x * logistic(x) / np.cosh(np.logaddexp(x, 0)) ** 2,
        ),
    ),
    "kinks and curves": (
        "def act(x) := relu(x) * tanh(x) + abs(x)/2",
        (
            lambda x: np.maximum(x, 0) * np.tanh(x) + np.abs(x) / 2,
            lambda x: np.where(x > 0, np.tanh(x) + x / np.cosh(x) ** 2, 0) + np.sign(x) / 2,
        ),
    ),
    "other names": (
        "def gate(u) := sigmoid(2*u)\ndef act(x) := x * gate(x) - max(x, 0)/4",
        (
            lambda x: x * logistic(2 * x) - np.maximum(x, 0) / 4,
            lambda x: logistic(2 * x) + 2 * x * logistic(2 * x) * logistic(-2 * x) - np.where(x > 0, 0.25, 0),
        ),
    ),
}


@pytest.mark.parametrize("name", list(DEFINITIONS))
def test_functions_of_the_user(kernel, quadrature, close, rng, name):
    definition, phi = DEFINITIONS[name]
    x = rng.normal(size=(6, 3))
    # The law N(0, 1/4) of the biases makes their part of the NTK 1, not 1/4.
    expected = mlp(quadrature, x, phi, depth=2, var_w=1.5, var_b=0.25, bias_tangent=1.0)
    compare(kernel(SMALL_MLP.format(definition=definition)), x, 3, expected, close, 1e-8)


def test_trained_biases_that_start_at_zero(kernel, quadrature, close, rng):
    text = SMALL_MLP.format(definition="def act(x) := erf(x)").replace("N(0, 1/4)", "N(0, 0)")
    x = rng.normal(size=(3, 3))
    expected = mlp(quadrature, x, "erf", depth=2, var_w=1.5, var_b=0.0, bias_tangent=1.0)
    compare(kernel(text), x, 1, expected, close)


NO_BIAS = """program plain
input  x : R(d)
weight U : A(n, d)     ~ N(0, 1) * sqrt(2 / d)
weight V, W : A(n, n)  ~ N(0, 1) * sqrt(2 / n)
vector v : G(n)        ~ N(0, 1)
a := {phi}(U @ x)
b := {phi}(V @ a)
c := {phi}(W @ b)
output y := v.T @ c / sqrt(n)
"""


@pytest.mark.parametrize("phi", ["relu", "softplus"])
def test_layers_written_out_without_biases(kernel, quadrature, close, rng, phi):
    """What enters each function is a MatMul itself, whose variances are not kept in tables."""
    x = rng.normal(size=(4, 4))
    compare(kernel(NO_BIAS.format(phi=phi)), x, 2, mlp(quadrature, x, phi, 3, 2.0, 0.0), close)


def test_parts_of_the_ntk_add_up(kernel, close, rng):
    x = rng.normal(size=(3, 4))
    k = kernel("mlp", depth=2, phi="relu", var_w=1.2, var_b=0.3)
    parts = [np.asarray(k(x, None, "ntk", wrt=name)) for name in ("W1", "W", "b", "v")]
    close(sum(parts), k(x, None, "ntk"), 1e-12)
    close(k(x, None, "ntk", wrt=("W1", "b")), parts[0] + parts[2], 1e-12)
    close(parts[3], k(x, None, "nngp"), 1e-12)


@pytest.mark.parametrize("phi", ["relu", "tanh"])
def test_residual(kernel, quadrature, close, rng, phi):
    x = rng.normal(size=(4, 5))
    var_w, var_b, branch = 1.4, 0.3, 0.5
    k = theta = x @ x.T / 5
    for _ in range(3):
        value, moved = layer(quadrature, phi, k, theta)
        g, g_theta = var_w * value + var_b, var_w * (value + moved) + var_b
        value, moved = layer(quadrature, phi, g, g_theta)
        k, theta = k + branch * value + var_b, theta + branch * (value + moved) + var_b
    compiled = kernel("resnet", depth=3, phi=phi, var_w=var_w, var_b=var_b, branch=branch)
    compare(compiled, x, 2, (k, k + theta), close)


# ---------------------------------------------------------------- recurrent


def rnn(quadrature, sequences, phi, var_u, var_w, var_b, var_v):
    """Kernels of the states of all tokens of all sequences: {(s, t, s', t'): (E ss', E s's'·Θ)}."""
    f, slope = quadrature.functions[phi]
    k = {}  # of the preactivations

    def preactivation(s, t, r, u):
        """(K, Θ) of token t of sequence s and token u of sequence r, counted from 0."""
        if (s, t, r, u) not in k:
            gram = sequences[s][t] @ sequences[r][u] / sequences[s].shape[1]
            value, moved = state(s, t - 1, r, u - 1)
            # Laws N(0, var) / sqrt(...): the tangents of var·E and var are E and 1.
            k[s, t, r, u] = (var_w * value + var_u * gram + var_b, value + var_w * moved + gram + 1)
        return k[s, t, r, u]

    def state(s, t, r, u):
        if t < 0 or u < 0:
            return 0.0, 0.0
        (c, theta), (p, _), (q, _) = (preactivation(*i) for i in ((s, t, r, u), (s, t, s, t), (r, u, r, u)))
        value = quadrature.expectation(f, f, p, q, c)
        return value, quadrature.expectation(slope, slope, p, q, c) * theta

    positions = [(s, t) for s, x in enumerate(sequences) for t in range(len(x))]
    values = {(s, t, r, u): state(s, t, r, u) for s, t in positions for r, u in positions}
    return {i: (var_v * value, value + var_v * moved) for i, (value, moved) in values.items()}


@pytest.fixture(scope="module")
def ragged():
    """Two sequences of length 2 and one of length 4."""
    rng = np.random.default_rng(3)
    return [rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(4, 3))]


@pytest.fixture(scope="module", params=["relu", "sigmoid"])
def recurrent(request, quadrature, ragged):
    settings = {"phi": request.param, "var_u": 1.5, "var_w": 0.8, "var_b": 0.1, "var_v": 1.2}
    return settings, rnn(quadrature, ragged, **settings)


def lengths(s):
    return range(2 if s < 2 else 4)


@pytest.mark.parametrize("left, right", [((0, 1), (0, 1)), ((0, 1), (2,)), ((2,), (0, 1)), ((2,), (2,))])
def test_recurrent(kernel, ragged, recurrent, close, left, right):
    settings, expected = recurrent
    x1, x2 = (np.stack([ragged[s] for s in group]) for group in (left, right))
    actual = kernel("rnn", **settings)(x1, None if left == right else x2)
    for part in range(2):
        wanted = [[[[expected[s, t, r, u][part] for u in lengths(r)] for t in lengths(s)] for r in right] for s in left]
        close(actual[part], wanted)


@pytest.mark.parametrize("left, right", [((0, 1), (0, 1)), ((0, 1), (2,)), ((2,), (2,))])
def test_recurrent_with_average_pooling(kernel, ragged, recurrent, close, left, right):
    settings, expected = recurrent
    x1, x2 = (np.stack([ragged[s] for s in group]) for group in (left, right))
    actual = kernel("rnn_avgpool", **settings)(x1, None if left == right else x2)
    for part in range(2):
        wanted = np.empty((len(left), len(right)))
        for i, s in enumerate(left):
            for j, r in enumerate(right):
                wanted[i, j] = np.mean([[expected[s, t, r, u][part] for u in lengths(r)] for t in lengths(s)])
        close(actual[part], wanted)


# ---------------------------------------------------------------- convolutional


def cnn(quadrature, images, phi, depth, var_w, var_b):
    """(E φφ', E φ'φ'·Θ) after the last layer, between all pixels of all images of any sizes, and the pixels."""
    pixels = [(s, i, j) for s, x in enumerate(images) for i in range(x.shape[0]) for j in range(x.shape[1])]
    number = {pixel: m for m, pixel in enumerate(pixels)}

    def convolved(value):
        """The mean over a 3 × 3 filter, both pixels moving together, zero outside."""
        result = np.zeros_like(value)
        for (s, i, j), m in number.items():
            for (r, k, l), o in number.items():  # noqa: E741
                for a in (-1, 0, 1):
                    for b in (-1, 0, 1):
                        left, right = (s, i + a, j + b), (r, k + a, l + b)
                        if left in number and right in number:
                            result[m, o] += value[number[left], number[right]] / 9
        return result

    data = np.array([images[s][i, j] for s, i, j in pixels])
    gram = convolved(data @ data.T / data.shape[1])
    k = theta = var_w * gram + var_b
    for _ in range(depth - 1):
        value, moved = layer(quadrature, phi, k, theta)
        k = var_w * convolved(value) + var_b
        theta = var_w * convolved(value + moved) + var_b
    return pixels, *layer(quadrature, phi, k, theta)


@pytest.fixture(scope="module")
def images():
    """Two images of 3 × 4 pixels and one of 4 × 2."""
    rng = np.random.default_rng(5)
    return [rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4, 2)), rng.normal(size=(4, 2, 2))]


@pytest.mark.parametrize(("phi", "readout"), [("relu", "flat"), ("tanh", "pool")])
def test_convolutional(kernel, quadrature, images, close, phi, readout):
    settings = {"phi": phi, "depth": 2, "var_w": 1.6, "var_b": 0.15}
    pixels, value, moved = cnn(quadrature, images, **settings)
    owner = np.array([s for s, _, _ in pixels])
    places = np.array([(i, j) for _, i, j in pixels])
    # A dense readout has a weight of its own for every pixel; pooling has one for all.
    weights = (places[:, None] == places[None]).all(-1) if readout == "flat" else np.ones_like(value)

    def wanted(table):
        result = np.empty((3, 3))
        for s in range(3):
            for r in range(3):
                block = np.ix_(owner == s, owner == r)
                count = np.sqrt(np.sum(owner == s) * np.sum(owner == r))
                result[s, r] = np.sum((weights * table)[block]) / (count if readout == "flat" else count**2)
        return result

    k = kernel(f"cnn_{readout}", **settings)
    small, large = np.stack(images[:2]), images[2][None]
    for part, table in enumerate((value, value + moved)):
        expected = wanted(table)
        close(k(small)[part], expected[:2, :2])
        close(k(small, large)[part], expected[:2, 2:])
        close(k(large, small)[part], expected[2:, :2])
        close(k(large)[part], expected[2:, 2:])


def test_convolution_on_one_row_and_one_pixel(kernel, quadrature, close, rng):
    for shape in ((1, 4, 2), (1, 1, 3)):
        images = [rng.normal(size=shape) for _ in range(2)]
        _, value, moved = cnn(quadrature, images, "relu", depth=3, var_w=2.0, var_b=0.1)
        per_image = (2, shape[0] * shape[1]) * 2
        k = kernel("cnn_pool", depth=3, var_b=0.1)
        for part, table in enumerate((value, value + moved)):
            close(k(np.stack(images))[part], table.reshape(per_image).mean((1, 3)))


# ---------------------------------------------------------------- graphs


def test_graphs_of_different_sizes(kernel, quadrature, close, rng):
    phi, var_w, sizes = "relu", 1.7, (3, 3, 5)
    nodes = [rng.normal(size=(p, 2)) for p in sizes]
    graphs = [rng.uniform(size=(p, p)) for p in sizes]  # not symmetric
    data = np.concatenate(nodes)
    owner = np.repeat(np.arange(3), sizes)
    adjacency = np.zeros((11, 11))
    for s, a in enumerate(graphs):
        adjacency[np.ix_(owner == s, owner == s)] = a

    def spread(table):
        return adjacency @ table @ adjacency.T

    k = theta = spread(var_w * data @ data.T / 2)
    for _ in range(2):
        value, moved = layer(quadrature, phi, k, theta)
        k, theta = spread(var_w * value), spread(var_w * (value + moved))
    value, moved = layer(quadrature, phi, k, theta)
    pool = np.stack([(owner == s) / sizes[s] for s in range(3)])
    compiled = kernel("gcn", depth=3, phi=phi, var_w=var_w)
    small = {"x": np.stack(nodes[:2]), "adj": np.stack(graphs[:2])}
    large = {"x": nodes[2][None], "adj": graphs[2][None]}
    for part, table in enumerate((value, value + moved)):
        expected = pool @ table @ pool.T
        close(compiled(small)[part], expected[:2, :2])
        close(compiled(small, large)[part], expected[:2, 2:])
        close(compiled(large, small)[part], expected[2:, :2])


# ---------------------------------------------------------------- means


MEANS = """program biased(m1 = 1/2, m2 = -1/4, phi = {phi})
input  x : R(d)
weight U : A(n, d)  ~ N(0, 1) * sqrt(1 / d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector b : G(n)     ~ N(m1, 0.2)
vector c : G(n)     ~ N(m2, 0.3) * 2
vector v : G(n)     ~ N(0, 1)
h := U @ x + b
g := W @ phi(h) + c + h / 2
output y := v.T @ phi(g) / sqrt(n)
"""


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh", "sin", "square"])
def test_vectors_with_means(kernel, quadrature, close, rng, phi):
    """The mean of 2·N(-1/4, 0.3) is -1/2 and its covariance 4·0.3, of tangent 4; b enters twice, by h and by g."""
    f, slope = quadrature.functions[phi]
    x = rng.normal(size=(4, 4))
    gram = x @ x.T / 4
    k, theta = gram + 0.2, gram + 1
    means = np.full(4, 0.5)
    value, moved = quadrature.dual(f, k, means), quadrature.dual(slope, k, means) * theta
    g, g_theta = value + 1.2 + k / 4, value + moved + 4 + theta / 4
    means = np.full(4, -0.5 + 0.25)
    value, moved = quadrature.dual(f, g, means), quadrature.dual(slope, g, means) * g_theta
    compare(kernel(MEANS.format(phi=phi)), x, 2, (value, value + moved), close, 1e-8)


def test_exponential_functions_with_means(kernel, close, rng):
    """E e^z e^w = e^{mu + nu + (p + q)/2 + k}, too large for quadrature on a fixed window."""
    x = rng.normal(size=(4, 4))
    gram = x @ x.T / 4

    def dual(k, mean):
        half = np.diag(k) / 2 + mean
        return np.exp(half[:, None] + half[None, :] + k)

    k, theta = gram + 0.2, gram + 1
    value = dual(k, 0.5)
    g, g_theta = value + 1.2 + k / 4, value * (1 + theta) + 4 + theta / 4
    value = dual(g, -0.25)
    compare(kernel(MEANS.format(phi="exp")), x, 2, (value, value * (1 + g_theta)), close, 1e-8)
