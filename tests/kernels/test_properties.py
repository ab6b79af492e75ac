"""What holds of every kernel: symmetry, no negative eigenvalues, and nothing that depends on how it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tensorprog as tp

# Settings, and the shape of one sample of each input; small, and alike in all tests so that compilations are shared.
PROGRAMS = {
    "mlp": ({"depth": 2, "var_b": 0.1}, {"x": (3,)}),
    "resnet": ({"depth": 2, "phi": "erf", "var_b": 0.1}, {"x": (3,)}),
    "rnn": ({"var_b": 0.1}, {"x": (3, 2)}),
    "rnn_avgpool": ({"phi": "relu"}, {"x": (3, 2)}),
    "cnn_flat": ({"depth": 2, "phi": "erf", "var_b": 0.1}, {"x": (2, 3, 2)}),
    "cnn_pool": ({"depth": 2}, {"x": (2, 3, 2)}),
    "gcn": ({}, {"x": (3, 2), "adj": (3, 3)}),
    "transformer": ({"depth": 1, "var_b": 0.1}, {"x": (3, 2)}),
}


@pytest.fixture(params=list(PROGRAMS))
def name(request):
    return request.param


@pytest.fixture
def bundled(name, kernel):
    options, _ = PROGRAMS[name]
    return kernel(name, **options)


def draw(name, count, rng):
    return {key: rng.normal(size=(count, *shape)) for key, shape in PROGRAMS[name][1].items()}


@pytest.fixture
def data(name, rng):
    return draw(name, 4, rng)


def matrix(k) -> np.ndarray:
    """(N, N, *outputs, *outputs) as a matrix over (sample, output)."""
    k = np.asarray(k)
    axes = (k.ndim - 2) // 2
    size = k.shape[0] * int(np.prod(k.shape[2 : 2 + axes]))
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, k.ndim))
    return k.transpose(order).reshape(size, size)


# ---------------------------------------------------------------- symmetric and positive semidefinite


entries = st.floats(-4, 4, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-6, -1e3])


def samples(count, shape):
    """Batches, in which the samples are often equal, opposite, or zero."""

    def combine(drawn):
        base, signs, picks = drawn
        signs = np.reshape(signs, (count, *[1] * len(shape)))
        return base[np.array(picks)] * signs

    base = arrays(np.float64, (count, *shape), elements=entries)
    signs = st.lists(st.sampled_from([1.0, 1.0, -1.0]), min_size=count, max_size=count)
    picks = st.lists(st.integers(0, count - 1), min_size=count, max_size=count)
    return st.tuples(base, signs, picks).map(combine)


@pytest.mark.parametrize("which", [p for p in PROGRAMS if p != "transformer"])
def test_symmetric_and_positive_semidefinite(kernel, which):
    options, inputs = PROGRAMS[which]
    k = kernel(which, **options)

    @settings(max_examples=25)
    @given(st.fixed_dictionaries({key: samples(4, shape) for key, shape in inputs.items()}))
    def check(x):
        for part in k(x):
            table = matrix(part)
            assert np.isfinite(table).all()
            scale = max(np.abs(table).max(), 1e-300)
            # Where inputs are nearly equal, not equal, relu's arccos keeps half of the digits.
            assert np.abs(table - table.T).max() <= 2e-8 * scale
            assert np.linalg.eigvalsh((table + table.T) / scale).min() >= -1e-7

    check()


def test_rows_of_attention_are_positive_semidefinite(kernel):
    options, inputs = PROGRAMS["transformer"]
    k = kernel("transformer", **options)
    rng = np.random.default_rng(0)
    for scale in (1e-2, 1, 10):
        for part in k({key: scale * rng.normal(size=(4, *shape)) for key, shape in inputs.items()}):
            table = matrix(part)
            np.testing.assert_allclose(table, table.T, atol=1e-13 * np.abs(table).max())
            assert np.linalg.eigvalsh(table).min() >= -1e-11 * np.abs(table).max()


# ---------------------------------------------------------------- core form


def test_the_core_form_has_the_same_kernel(name, bundled, program):
    """To the letter: the modules that are generated are the same."""
    options, _ = PROGRAMS[name]
    again = tp.parse(program(name, **options).core()).kernel()
    assert again.backend.module.source == bundled.backend.module.source


# ---------------------------------------------------------------- diagonal and full tables


ALL_PIXELS = """
weight K1[a = -1..1, b = -1..1] : A(n, d)               ~ N(0, 1) * sqrt(1.6 / (9 * d))
weight K[l = 2..depth, a = -1..1, b = -1..1] : A(n, n)  ~ N(0, 1) * sqrt(1.6 / (9 * n))
h[1, i = 1..H, j = 1..W] := sum[a = -1..1, b = -1..1](K1[a, b] @ (x[i+a, j+b] else 0))
for l = 2..depth:
    h[l, i = 1..H, j = 1..W] := sum[a = -1..1, b = -1..1](K[l, a, b] @ (relu(h[l-1, i+a, j+b]) else 0))
"""


def test_pixels_on_the_diagonal_and_in_full(kernel, rng, close):
    head = "program pixels(H, W, depth = 3)\ninput  x[i = 1..H, j = 1..W] : R(d)\n"
    full = head + "vector v : G(n)  ~ N(0, 1)" + ALL_PIXELS
    full += "output y[i = 1..H, j = 1..W] := v.T @ relu(h[depth, i, j]) / sqrt(n)\n"
    diagonal = head + "vector v[i = 1..H, j = 1..W] : G(n)  ~ N(0, 1)" + ALL_PIXELS
    diagonal += "output y := sum[i = 1..H, j = 1..W](v[i, j].T @ relu(h[depth, i, j])) / sqrt(n)\n"
    pixels = head + "vector v[i = 1..H, j = 1..W] : G(n)  ~ N(0, 1)" + ALL_PIXELS
    pixels += "output y[i = 1..H, j = 1..W] := v[i, j].T @ relu(h[depth, i, j]) / sqrt(n)\n"
    flat_settings = {"depth": 3, "var_w": 1.6}
    x1, x2 = rng.normal(size=(2, 3, 2, 2)), rng.normal(size=(3, 2, 4, 2))
    parts = zip(
        kernel(full)(x1, x2),
        kernel(diagonal)(x1, x2),
        kernel(pixels)(x1, x2),
        kernel("cnn_flat", **flat_settings)(x1, x2),
        kernel("cnn_pool", **flat_settings)(x1, x2),
        strict=True,
    )
    for all_pairs, summed, own, flat, pool in parts:
        # The pixels that images of 3 × 2 and 2 × 4 both have are 2 × 2.
        same = np.einsum("stijij->stij", np.asarray(all_pairs)[:, :, :2, :2, :2, :2])
        close(summed, same.sum((2, 3)), 1e-12)
        close(flat, same.sum((2, 3)) / np.sqrt(6 * 8), 1e-12)
        close(pool, np.mean(all_pairs, axis=(2, 3, 4, 5)), 1e-12)
        expected = np.zeros_like(all_pairs)
        for i in range(2):
            for j in range(2):
                expected[:, :, i, j, i, j] = same[:, :, i, j]
        close(own, expected, 1e-12)


STEPS = """
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
s[0] := 0
for t = 1..T:
    s[t] := erf(W @ s[t-1] + U @ x[t])
"""


def test_steps_on_the_diagonal_and_in_full(kernel, rng, close):
    head = "program steps(T)\ninput  x[t = 1..T] : R(d)\n"
    diagonal = head + "vector v[t = 1..T] : G(n)  ~ N(0, 1)" + STEPS
    diagonal += "output y := sum[t = 1..T](v[t].T @ s[t]) / sqrt(n)\n"
    every = head + "vector v : G(n)  ~ N(0, 1)" + STEPS + "output y[t = 1..T] := v.T @ s[t] / sqrt(n)\n"
    last = head + "vector v : G(n)  ~ N(0, 1)" + STEPS + "output y := v.T @ s[T] / sqrt(n)\n"
    x1, x2 = rng.normal(size=(2, 3, 2)), rng.normal(size=(3, 5, 2))
    for full, summed, end in zip(*(kernel(text)(x1, x2) for text in (every, diagonal, last)), strict=True):
        close(summed, np.einsum("abtt->ab", np.asarray(full)[..., :3, :3]), 1e-12)
        close(end, np.asarray(full)[..., -1, -1], 1e-12)


# ---------------------------------------------------------------- how it is computed


def test_tiles_change_nothing(name, bundled, data, close):
    whole = bundled(data)
    for tile in (1, 3) if name in ("mlp", "rnn") else (3,):
        tiled = bundled.program.kernel(tile=tile)
        for part, expected in zip(tiled(data), whole, strict=True):
            close(part, expected, 1e-12)
    # Its last tile again, of another number of samples: 4 pairs with 3.
    few = {key: a[:3] for key, a in data.items()}
    for part, expected in zip(tiled(few, data), whole, strict=True):
        close(part, np.asarray(expected)[:3], 1e-12)


def test_single_precision(bundled, data, close):
    single = {key: a.astype(np.float32) for key, a in data.items()}
    whole = bundled({key: a.astype(np.float64) for key, a in single.items()})
    for part, expected in zip(bundled(single), whole, strict=True):
        assert part.dtype == np.float32
        close(part, expected, 2e-5)


def test_one_kernel_for_data_of_shape_after_shape(kernel, rng, close):
    """A kernel keeps how it works data through by their shapes and dtypes; none may be taken for another's."""
    k, x = kernel("mlp", depth=1, var_b=0.1), rng.normal(size=(4, 3))
    whole = np.asarray(k(x).ntk)
    for rows, columns in [((0, 3), (3, 4)), ((3, 4), (0, 3)), ((0, 3), (0, 3)), ((0, 3), None), ((0, 3), (3, 4))]:
        first, second = slice(*rows), slice(*(columns or rows))
        for dtype, bound in [(np.float64, 1e-12), (np.float32, 2e-5)]:
            x2 = x[second].astype(dtype) if columns else None
            ntk = k(x[first].astype(dtype), x2, "ntk")
            assert ntk.dtype == dtype
            close(ntk, whole[first, second], bound)


def test_single_precision_of_double_data(kernel, rng, close):
    k, x = kernel("rnn", var_b=0.1), rng.normal(size=(3, 4, 2))
    for part, expected in zip(k.program.kernel(dtype=np.float32)(x), k(x), strict=True):
        assert part.dtype == np.float32
        close(part, expected, 2e-5)


def test_the_nngp_alone(bundled, data, close):
    close(bundled(data, None, "nngp"), bundled(data).nngp, 1e-13)


# How kernels are chosen, mapped and given parameters does not depend on the program: for one of each kind of axes.
ONE_OF_A_KIND = ["resnet", "rnn_avgpool", "transformer"]


@pytest.mark.parametrize("name", ONE_OF_A_KIND, indirect=True)
def test_one_kernel_at_a_time(bundled, data, close):
    ntk = bundled(data).ntk
    swapped = bundled(data, None, ("ntk", "nngp"))
    assert swapped._fields == ("ntk", "nngp")
    close(bundled(data, None, "ntk"), ntk, 1e-13)
    close(swapped.ntk, ntk, 1e-13)


@pytest.mark.parametrize("name", [*ONE_OF_A_KIND, "cnn_pool"], indirect=True)
def test_vmap_changes_nothing(bundled, data, close):
    runs = jax.vmap(lambda x: bundled({key: a[None] for key, a in x.items()}, None, "nngp")[0, 0])(data)
    whole = np.asarray(bundled(data, None, "nngp"))
    close(runs, np.stack([whole[i, i] for i in range(4)]), 1e-12)


# ---------------------------------------------------------------- equal inputs


def test_the_second_argument_may_be_the_first(bundled, data):
    """Equal inputs have correlation 1 exactly: arccos near 1 would lose half of the digits of relu's NTK."""
    for part, expected in zip(bundled(data, data), bundled(data), strict=True):
        for i in range(4):
            np.testing.assert_array_equal(part[i, i], expected[i, i])
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_equal_samples_of_one_batch(bundled, data):
    again = {key: a[[0, 1, 0, 3]] for key, a in data.items()}
    for part in bundled(again):
        np.testing.assert_allclose(part[0, 2], part[0, 0], rtol=0, atol=1e-11 * np.abs(part[0, 0]).max())
        np.testing.assert_allclose(part[1, 2], part[1, 0], rtol=0, atol=1e-11 * np.abs(part).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_diagonal_of_a_deep_relu_network(kernel, dtype):
    """With var_w = 2, var_b = 0 every E relu'² is 1/2, so the NTK on the diagonal is depth + 1 times the NNGP."""
    x = np.random.default_rng(2).normal(size=(50, 7)).astype(dtype)
    k = kernel("mlp", depth=30)
    squares = (x.astype(np.float64) ** 2).mean(1)
    eps = float(np.finfo(dtype).eps)
    for other in (None, x.copy()):
        nngp, ntk = k(x, other)
        np.testing.assert_allclose(np.diag(nngp), squares, rtol=200 * eps)
        np.testing.assert_allclose(np.diag(ntk), 31 * squares, rtol=200 * eps)


def test_opposite_inputs(kernel, rng, close):
    x = rng.normal(size=(3, 4))
    nngp, ntk = kernel("mlp", depth=3, phi="erf")(np.concatenate([x, -x]))  # odd: f(-x) = -f(x)
    for part in (np.asarray(nngp), np.asarray(ntk)):
        close(part[:3, 3:], -part[:3, :3], 1e-12)
    nngp, ntk = kernel("mlp", depth=1)(x, -x)
    # relu(z) relu(-z) = 0, and so is relu'(z) relu'(-z).
    np.testing.assert_allclose(np.diag(nngp), 0, atol=1e-15)
    np.testing.assert_allclose(np.diag(ntk), 0, atol=1e-14)
    # One layer on, E relu relu' between x and -x is 1/(2π) of the variance times 2.
    nngp = kernel("mlp", depth=2)(x, -x, "nngp")
    np.testing.assert_allclose(np.diag(nngp), (x**2).mean(1) / np.pi, rtol=1e-13)


@pytest.mark.parametrize("which", [p for p in PROGRAMS if p != "transformer"])  # whose layernorm divides 0 by 0
def test_zero_input(kernel, which):
    options, inputs = PROGRAMS[which]
    for part in kernel(which, **options)({key: np.zeros((4, *shape)) for key, shape in inputs.items()}):
        assert np.isfinite(part).all()


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh"])
def test_zero_among_other_inputs(kernel, rng, phi):
    """Without biases, f(0) = 0 for relu, erf and tanh."""
    x = np.concatenate([np.zeros((1, 3)), rng.normal(size=(3, 3))])
    for part in kernel("mlp", depth=2, phi=phi, var_w=1)(x):
        np.testing.assert_allclose(part[0], 0, atol=1e-14)
        np.testing.assert_allclose(part[:, 0], 0, atol=1e-14)


# ---------------------------------------------------------------- scale


@pytest.mark.parametrize("scale", [1e-6, 1e3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_homogeneous_networks(kernel, rng, close, scale, dtype):
    """With relu and without biases, f and its gradients in the weights are homogeneous: f(s x) = s f(x)."""
    x = rng.normal(size=(4, 3)).astype(dtype)
    images = rng.normal(size=(4, 2, 3, 2)).astype(dtype)
    for k, inputs in ((kernel("mlp", depth=2), x), (kernel("cnn_pool", depth=2), images)):
        for part, expected in zip(k(inputs * dtype(scale)), k(inputs.astype(np.float64)), strict=True):
            close(np.asarray(part, np.float64) / scale**2, expected, 1e-11 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("phi", ["tanh", "erf", "sin", "gelu", "silu"])
def test_small_inputs_see_the_tangent_at_zero(kernel, rng, close, phi):
    x = 1e-6 * rng.normal(size=(4, 3))
    slope = {"erf": 2 / np.sqrt(np.pi), "gelu": 0.5, "silu": 0.5}.get(phi, 1.0)
    nngp, ntk = kernel("mlp", depth=2, phi=phi, var_w=1)(x)
    expected = slope**4 * x @ x.T / 3
    close(nngp, expected, 1e-5)
    close(ntk, 3 * expected, 1e-5)


@pytest.mark.parametrize("phi", ["tanh", "erf", "sigmoid"])
def test_large_inputs(kernel, quadrature, rng, close, phi):
    """Variances up to 100 to 1e-6; where tanh and erf are nearly the sign, and sigmoid the step, roughly."""
    x = rng.normal(size=(4, 3))
    x *= 10 / np.sqrt((x**2).mean(1).max())
    k = kernel("mlp", depth=1, phi=phi, var_w=1)
    expected = quadrature.dual(quadrature.functions[phi][0], x @ x.T / 3, pieces=20)
    close(k(x, None, "nngp"), expected, 1e-6)
    x *= 100
    gram = x @ x.T
    norms = np.sqrt(np.diag(gram))
    signs = 2 / np.pi * np.arcsin(np.clip(gram / norms[:, None] / norms[None, :], -1, 1))
    close(k(x, None, "nngp"), signs if phi != "sigmoid" else (1 + signs) / 4, 3e-2)


# ---------------------------------------------------------------- gradients


def central(f, x, direction, step=1e-5):
    def moved(s):
        return jax.tree.map(lambda a, b: a + s * b, x, direction)

    return (f(moved(step)) - f(moved(-step))) / (2 * step)


@pytest.mark.parametrize("name", [p for p in PROGRAMS if p not in ("rnn", "cnn_flat")], indirect=True)
def test_gradients_in_inputs(bundled, data, rng, close):
    """Of the kernels of a batch with itself, whose diagonal has correlation 1 at every data; jit changes nothing."""
    direction = {key: rng.normal(size=a.shape) for key, a in data.items()}
    whole = bundled(data)
    weights = rng.normal(size=(2, *whole.nngp.shape))

    @jax.jit
    def parts(x):
        return bundled(x)

    def f(x):
        return np.sum(weights * np.stack(parts(x)))

    for part, expected in zip(parts(data), whole, strict=True):
        close(part, expected, 1e-12)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(weights * jnp.stack(bundled(x)))))(data)
    assert all(np.isfinite(a).all() for a in gradient.values())
    along = sum(float(np.vdot(gradient[key], direction[key])) for key in data)
    np.testing.assert_allclose(along, central(f, data, direction), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "rnn_avgpool", "cnn_pool", "transformer"], indirect=True)
def test_gradients_in_one_argument_at_equal_inputs(name, bundled, data):
    """relu's NTK has a vertical tangent there: finite is what is asked of it, and the right value of the NNGP."""
    direction = draw(name, 4, np.random.default_rng(1))

    def f(x):
        return np.sum(bundled(x, data).nngp)

    @jax.jit
    def gradients(x):
        return tuple(jax.grad(lambda x, get=get: jnp.sum(bundled(x, data, get)))(x) for get in ("nngp", "ntk"))

    gradient, of_the_ntk = gradients(data)
    assert all(np.isfinite(a).all() for a in of_the_ntk.values())
    along = sum(float(np.vdot(gradient[key], direction[key])) for key in data)
    np.testing.assert_allclose(along, central(f, data, direction, 1e-6), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*ONE_OF_A_KIND, "cnn_flat"], indirect=True)
def test_gradients_in_parameters(bundled, data):
    real = {n: float(v) for n, v in bundled.program.parameters.items() if isinstance(v, float)}

    def f(values):
        nngp, ntk = bundled(data, params=values)
        return jnp.sum(jnp.sin(nngp)) + jnp.sum(jnp.cos(ntk))

    gradient = jax.jit(jax.grad(f))(real)
    for parameter, value in real.items():
        assert np.isfinite(gradient[parameter])
        if value:
            slope = central(f, real, {n: float(n == parameter) for n in real})
            np.testing.assert_allclose(gradient[parameter], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", ["mlp", "rnn_avgpool"])
def test_the_gradient_at_a_bias_variance_of_zero(kernel, rng, which):
    """Multiplier² is kept as it is written: no square root of var_b is differentiated at 0."""
    options, inputs = PROGRAMS[which]
    x = {key: rng.normal(size=(3, *shape)) for key, shape in inputs.items()}
    k = kernel(which, **{"phi": "erf", **{key: v for key, v in options.items() if key == "depth"}})

    def f(var_b):
        return jnp.sum(jnp.stack(k(x, params={"var_b": var_b})))

    slope = jax.jit(jax.grad(f))(0.0)
    # One-sided, of second order: (-3 f(0) + 4 f(h) - f(2h)) / 2h
    h = 1e-4
    np.testing.assert_allclose(slope, (-3 * f(0.0) + 4 * f(h) - f(2 * h)) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize("name", ONE_OF_A_KIND, indirect=True)
def test_parameters_given_at_the_call(bundled, data, program, name, close):
    options, _ = PROGRAMS[name]
    changed = {n: v + 0.25 for n, v in bundled.program.parameters.items() if isinstance(v, float)}
    other = program(name, **options | {n: str(v) for n, v in changed.items()}).kernel()
    for part, expected in zip(bundled(data, params=changed), other(data), strict=True):
        close(part, expected, 1e-12)
