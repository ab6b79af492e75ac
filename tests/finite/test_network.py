"""Networks of finite width: what they compute, against the same networks written by hand in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, expit

import tensorprog as tp
from tensorprog.finite.network import FiniteNetwork

WIDTH = 7


def network(program, x, width=WIDTH, seed=0):
    """apply's output and the parameters, as NumPy arrays."""
    init, apply = program.network(width)
    params = init(jax.random.key(seed), x)
    output = jax.tree.map(np.asarray, apply(params, x))
    return output, {name: np.asarray(value) for name, value in params.items()}


def relu(x):
    return np.maximum(x, 0)


# -------------------------------------------------------------- against NumPy


def test_mlp(rng, close):
    x = rng.normal(size=(3, 5))
    y, p = network(tp.load("mlp", depth=3, phi="tanh", var_w=1.5, var_b=0.3), x)
    assert {name: a.shape for name, a in p.items()} == {"W1": (7, 5), "W": (2, 7, 7), "b": (3, 7), "v": (7,)}
    h = np.sqrt(1.5 / 5) * x @ p["W1"].T + np.sqrt(0.3) * p["b"][0]
    for k in range(2):
        h = np.sqrt(1.5 / 7) * np.tanh(h) @ p["W"][k].T + np.sqrt(0.3) * p["b"][k + 1]
    close(y, np.tanh(h) @ p["v"] / np.sqrt(7), 1e-12)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_rnn(rng, close, length):
    x = rng.normal(size=(3, length, 5))
    y, p = network(tp.load("rnn", var_b=0.3), x)
    s, states = np.zeros((3, 7)), []
    for t in range(length):
        s = erf(s @ p["W"].T / np.sqrt(7) + x[:, t] @ p["U"].T / np.sqrt(5) + p["b"])
        states.append(s @ p["v"] / np.sqrt(7))
    close(y, np.stack(states, axis=1), 1e-12)


def test_gru(rng, close):
    x = rng.normal(size=(2, 6, 5))
    y, p = network(tp.load("gru"), x)

    def gate(z):
        return (1 + erf(z)) / 2

    def affine(k, state, token):
        return state @ p[f"W{k}"].T / np.sqrt(7) + token @ p[f"U{k}"].T / np.sqrt(5) + p[f"b{k}"]

    h, outputs = np.zeros((2, 7)), []
    for t in range(6):
        z, r = (gate(affine(k, h, x[:, t])) for k in "zr")
        h = (1 - z) * h + z * erf(affine("h", h * r, x[:, t]))
        outputs.append(h @ p["v"] / np.sqrt(7))
    close(y, np.stack(outputs, axis=1), 1e-12)


def test_lstm(rng, close):
    x = rng.normal(size=(2, 6, 5))
    y, p = network(tp.load("lstm", var_b=0.5), x)
    c = h = np.zeros((2, 7))
    outputs = []
    for t in range(6):
        i, f, g, o = (
            h @ p[f"W{k}"].T / np.sqrt(7) + x[:, t] @ p[f"U{k}"].T / np.sqrt(5) + np.sqrt(0.5) * p[f"b{k}"]
            for k in "ifgo"
        )
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        outputs.append(h @ p["v"] / np.sqrt(7))
    close(y, np.stack(outputs, axis=1), 1e-12)


def layernorm(x):
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


@pytest.mark.parametrize("depth", [2, 6])
def test_transformer(rng, close, depth):
    x = rng.normal(size=(2, 4, 5))
    y, p = network(tp.load("transformer", depth=depth, temp=2, var_b=0.2, var_w=1.3), x)
    z = None
    for layer in range(depth):
        k = x @ p["E"].T / np.sqrt(5) if layer == 0 else z @ p["U"][layer - 1].T / np.sqrt(7)
        scores = np.exp(k @ k.transpose(0, 2, 1) / 7 / 2) * np.tril(np.ones((4, 4)))
        a = layernorm(k + (scores / scores.sum(-1, keepdims=True)) @ k)
        g = a @ p["W1"][layer].T / np.sqrt(7) + p["b1"][layer]
        z = layernorm(relu(g) @ p["W2"][layer].T / np.sqrt(7) + p["b2"][layer] + a)
    close(y, z @ p["v"] / np.sqrt(7), 1e-12)


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("name", ["cnn_flat", "cnn_pool"])
def test_cnn(rng, close, name, depth):
    x = rng.normal(size=(2, 4, 3, 2))
    y, p = network(tp.load(name, depth=depth, var_b=0.4), x)

    def convolution(image, filters):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(padded[:, a : a + 4, b : b + 3] @ filters[a, b].T for a in range(3) for b in range(3))

    h = convolution(x, p["K1"]) * np.sqrt(2 / (9 * 2)) + np.sqrt(0.4) * p["c"][0]
    for k in range(depth - 1):
        h = convolution(relu(h), p["K"][k]) * np.sqrt(2 / (9 * 7)) + np.sqrt(0.4) * p["c"][k + 1]
    if name == "cnn_flat":
        close(y, np.einsum("nijk,ijk->n", relu(h), p["v"]) / np.sqrt(7 * 12), 1e-12)
    else:
        close(y, relu(h).mean((1, 2)) @ p["v"] / np.sqrt(7), 1e-12)


def test_batchnorm(rng, close):
    x = rng.normal(size=(2, 6, 5))
    y, p = network(tp.load("batchnorm", var_w=3), x)
    z = x
    for w, fan_in in ((p["W1"], 5), (p["W"][0], 7)):
        h = np.sqrt(3 / fan_in) * z @ w.T
        z = relu((h - h.mean(1, keepdims=True)) / h.std(1, keepdims=True))
    close(y, z @ p["v"] / np.sqrt(7), 1e-12)


def test_several_inputs(rng, close):
    x, adjacency = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 4))
    y, p = network(tp.load("gcn"), {"x": x, "adj": adjacency})
    h = adjacency @ (x @ p["W1"].T * np.sqrt(2 / 3))
    h = adjacency @ (relu(h) @ p["W"][0].T * np.sqrt(2 / 7))
    close(y, relu(h).mean(1) @ p["v"] / np.sqrt(7), 1e-12)


def test_transposes_are_of_the_same_matrix(rng, close):
    x = rng.normal(size=(3, 5))
    y, p = network(tp.load("tied_autoencoder"), x)
    w = p["W"] / np.sqrt(7)
    close(y, relu(relu(relu(x @ p["U"].T / np.sqrt(5)) @ w.T) @ w) @ p["v"] / np.sqrt(7), 1e-12)


def test_outputs_of_type_c(close):
    values, p = network(tp.load("semicircle", K=3), None)
    w = (p["W"] + p["W"].T) / np.sqrt(2 * 7)
    moments = [p["x0"] @ np.linalg.matrix_power(w, 2 * k) @ p["x0"] / 7 for k in (1, 2, 3)]
    close(values["m"], np.array(moments), 1e-12)


def test_widths_of_another_ratio(rng, close):
    program = tp.parse("""program widths(r = 2)
width m = 3 * n / r
input  x : R(d)
weight U : A(m, d)  ~ N(0, 1) / sqrt(d)
weight A : A(n, m)  ~ N(0, 1) / sqrt(m)
vector v : G(n)     ~ N(0, 1)
g := A @ relu(U @ x)
output y := v.T @ tanh(g + A @ (A.T @ g)) / sqrt(n)
output c := <g, g> / n + 1
""")
    x = rng.normal(size=(3, 5))
    values, p = network(program, x)
    assert p["A"].shape == (7, 11)  # 3 * 7 / 2 is 10.5
    a = p["A"] / np.sqrt(11)
    g = relu(x @ p["U"].T / np.sqrt(5)) @ a.T
    close(values["y"], np.tanh(g + g @ a @ a.T) @ p["v"] / np.sqrt(7), 1e-12)
    close(values["c"], (g**2).mean(-1) + 1, 1e-12)


ODD = """program odd(T, k = 2)
input  x[t = 1..T] : R(d)
weight U : A(n, d)                ~ N(0, 1) / sqrt(d)
weight W[t = 1..3] : A(n, n)      ~ N(0, 1) / sqrt(n)
vector v[i = 1..3, j = 1..i] : G(n) ~ N(0, i + j)
vector b[j = 1..2] : G(n)         ~ N(j, 1/j) * 3
def f(x, a = 2) := tanh(a * x) * x

u[t = 1..T] := U @ x[t] + (b[t] else 0)
s[T+1] := 0
for t = T..1 by -1:
    s[t] := f(W[t].T @ s[t+1] + u[t], a = 3) if t < k or t == 3 else D(f)(u[t] + s[t+1])
    p[t] := prod[j = t..T](s[j]) + max[j = 1..t](u[j])
    c[t] := <s[t], p[t]> / n + 1/t
a[i = 1..T, j = 1..i] := softmax[j](u[j] * c[i])
q[i = 1..T] := sum[j = 1..i](a[i, j] * max(s[j], p[i], 0)) + (u[i-1] + u[i+1] else u[1])

output y := sum[i = 1..3, j = 1..3]((v[i, j].T @ q[j] else 0)) / sqrt(n)
output m := max[t = 1..T](c[t])
"""


def test_everything_at_once(rng, close):
    """Guards, conditionals, loops that count down, ranges that depend on indices, derivatives, laws with indices."""
    n = 7
    x = rng.normal(size=(2, 3, 5))
    values, p = network(tp.parse(ODD), x)
    b = 3 * p["b"]
    u = {t: x[:, t - 1] @ p["U"].T / np.sqrt(5) + (b[t - 1] if t <= 2 else 0) for t in (1, 2, 3)}
    s, pr, c = {4: np.zeros((2, n))}, {}, {}
    for t in (3, 2, 1):
        if t < 2 or t == 3:
            h = s[t + 1] @ p["W"][t - 1] / np.sqrt(n) + u[t]
            s[t] = np.tanh(3 * h) * h
        else:
            h = u[t] + s[t + 1]
            s[t] = np.tanh(2 * h) + h * 2 / np.cosh(2 * h) ** 2
        pr[t] = np.prod([s[j] for j in range(t, 4)], axis=0) + np.max([u[j] for j in range(1, t + 1)], axis=0)
        c[t] = (s[t] * pr[t]).mean(-1, keepdims=True) + 1 / t
    q = {}
    for i in (1, 2, 3):
        e = [np.exp(u[j] * c[i]) for j in range(1, i + 1)]
        q[i] = sum(e[j - 1] / sum(e) * np.maximum(np.maximum(s[j], pr[i]), 0) for j in range(1, i + 1))
        q[i] = q[i] + (u[1] + u[3] if i == 2 else u[1])
    y = sum(q[j] @ p["v"][i - 1, j - 1] for i in (1, 2, 3) for j in range(1, i + 1)) / np.sqrt(n)
    close(values["y"], y, 1e-12)
    close(values["m"], np.max([c[t][:, 0] for t in c], axis=0), 1e-12)


def test_recurrence_in_two_directions(rng, close):
    """A grid whose diagonals follow one another, and layers of a recurrent network, which are folded into a scan."""
    program = tp.parse("""program layers(T, L = 3)
input  x[t = 1..T] : R(d)
weight U : A(n, d)                           ~ N(0, 1) / sqrt(d)
weight W[l = 1..L], V[l = 2..L] : A(n, n)    ~ N(0, 1) / sqrt(n)
vector v : G(n)                              ~ N(0, 1)
for l = 1..L, t = 1..T:
    h[l, t] := W[l] @ (s[l, t-1] else 0) + (U @ x[t] if l == 1 else V[l] @ s[l-1, t])
    s[l, t] := tanh(h[l, t])
output y[t = 1..T] := v.T @ s[L, t] / sqrt(n)
""")
    x = rng.normal(size=(2, 9, 4))
    y, p = network(program, x)
    below = x @ p["U"].T / 2
    for k in range(3):
        above, s = [], np.zeros((2, 7))
        for t in range(9):
            s = np.tanh(s @ p["W"][k].T / np.sqrt(7) + below[:, t])
            above.append(s)
        states = np.stack(above, axis=1)
        below = states @ p["V"][k].T / np.sqrt(7) if k < 2 else below
    close(y, states @ p["v"] / np.sqrt(7), 1e-12)


def test_backward_programs_run(rng):
    x = rng.normal(size=(2, 3))
    init, apply = tp.load("mlp").backward().network(5)
    assert jnp.asarray(apply(init(jax.random.key(0), x), x)).shape == (2,)


# -------------------------------------------------------------- laws


def test_parameters_follow_their_laws():
    program = tp.parse("""program laws(var_w = 3)
input  x : R(d)
weight U : A(n, d)                ~ N(0, var_w / d)
weight W[l = 1..2] : A(n, n)      ~ N(0, l) / sqrt(n)
fixed weight R : A(n, n)          ~ N(0, 1) / sqrt(n)
vector b : G(n)                   ~ N(0.5, 0) * 2
vector v : G(n)                   ~ N(0, 2)
output y := v.T @ tanh(W[2] @ (W[1] @ (R @ (U @ x))) + b) / sqrt(n)
""")
    p = program.network(400)[0](jax.random.key(1), np.ones((1, 6)))
    assert {k: a.shape for k, a in p.items()} == {
        "U": (400, 6), "W": (2, 400, 400), "R": (400, 400), "b": (400,), "v": (400,)
    }  # fmt: skip
    spread = {"U": 3 / 6, "R": 1, "v": 2}
    for name, variance in spread.items():
        count = p[name].size
        assert abs(float(jnp.var(p[name])) / variance - 1) < 5 * np.sqrt(2 / count), name
        assert abs(float(jnp.mean(p[name]))) < 5 * np.sqrt(variance / count), name
    assert np.allclose(np.var(np.asarray(p["W"]), axis=(1, 2)), [1, 2], rtol=0.02)
    assert (p["b"] == 0.5).all()
    independent = np.corrcoef([np.ravel(p["W"][0]), np.ravel(p["W"][1]), np.ravel(p["R"])])
    assert np.abs(independent - np.eye(3)).max() < 0.02


def test_keys_and_dtypes(rng):
    x = rng.normal(size=(2, 5))
    program = tp.load("mlp")
    init, apply = program.network(8)
    one, same, other = (init(jax.random.key(k), x)["W"] for k in (0, 0, 1))
    assert (one == same).all() and not (one == other).any()
    assert one.dtype == np.float64
    params = init(jax.random.key(0), x.astype(np.float32))
    assert params["W"].dtype == apply(params, x.astype(np.float32)).dtype == np.float32
    single = program.network(8, dtype="float32")
    assert single.init(jax.random.key(0), x)["v"].dtype == np.float32


# -------------------------------------------------------------- JAX


def test_transformations(rng, close):
    x = rng.normal(size=(3, 6, 4))
    init, apply = tp.load("rnn").network(6)
    params = jax.jit(init)(jax.random.key(0), x)
    close(jax.jit(apply)(params, x), apply(params, x), 1e-12)
    ensemble = jax.vmap(lambda key: apply(init(key, x), x))(jax.random.split(jax.random.key(0), 4))
    assert ensemble.shape == (4, 3, 6)

    def loss(p, data):
        return jnp.sum(apply(p, data) ** 2)

    direction = init(jax.random.key(1), x)
    along = sum(
        jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (jax.grad(loss)(params, x), direction)), strict=True)
    )
    step = 1e-5
    moved = [jax.tree.map(lambda a, b, s=s: a + s * step * b, params, direction) for s in (1, -1)]
    assert abs(float(along) - float(loss(moved[0], x) - loss(moved[1], x)) / (2 * step)) < 1e-6 * abs(float(along))
    assert jax.grad(loss, argnums=1)(params, jnp.asarray(x)).shape == x.shape


def test_training_with_optax(rng):
    optax = pytest.importorskip("optax")
    x, y = rng.normal(size=(8, 5)), np.sign(rng.normal(size=8))
    init, apply = tp.load("mlp").network(32)
    params = init(jax.random.key(0), x)
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)

    def loss(p):
        return jnp.mean((apply(p, x) - y) ** 2)

    @jax.jit
    def step(p, s):
        value, gradient = jax.value_and_grad(loss)(p)
        updates, s = optimizer.update(gradient, s)
        return optax.apply_updates(p, updates), s, value

    values = []
    for _ in range(60):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.1 * values[0]


def test_other_numbers_of_samples_and_tokens(rng):
    init, apply = tp.load("rnn").network(6)
    params = init(jax.random.key(0), rng.normal(size=(1, 3, 4)))
    assert apply(params, rng.normal(size=(5, 8, 4))).shape == (5, 8)


def test_long_recurrences_are_folded(rng):
    """128 tokens are a handful of steps; without a scan there would be more than a thousand."""
    program = tp.load("lstm")
    network = FiniteNetwork(program.ir, 16)
    x = rng.normal(size=(2, 128, 4))
    params = network.init(jax.random.key(0), x)
    steps = network.at((("T", 128),), (("d", 4),)).plan.steps
    assert len(steps) < 40
    assert max(s.run.count for s in steps if s.run is not None) >= 120
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(network.apply(p, x))))(params)
    assert all(np.isfinite(g).all() for g in gradient.values())


def test_images_are_one_step_a_layer(rng):
    network = FiniteNetwork(tp.load("cnn_pool", depth=3).ir, 4)
    x = rng.normal(size=(1, 16, 16, 3))
    assert network.apply(network.init(jax.random.key(0), x), x).shape == (1,)
    steps = network.at((("H", 16), ("W", 16)), (("d", 3),)).plan.steps
    assert len(steps) < 15


# -------------------------------------------------------------- messages


@pytest.mark.parametrize("width", [0, -3, 2.5, True, "64", None])
def test_wrong_widths(width):
    with pytest.raises(ValueError, match="width is an integer of at least 1"):
        tp.load("mlp").network(width)


def test_wrong_arguments(rng):
    program = tp.load("mlp")
    init, apply = program.network(6)
    key, x = jax.random.key(0), rng.normal(size=(2, 5))
    params = init(key, x)
    with pytest.raises(ValueError, match=r"x1: 'x' has the shape \(N1, d\)"):
        init(key, np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="x1 is missing"):
        apply(params)
    with pytest.raises(ValueError, match="params: 'v' is missing"):
        apply({k: a for k, a in params.items() if k != "v"}, x)
    with pytest.raises(ValueError, match="no weight or vector 'W11': did you mean 'W1'"):
        apply({**params, "W11": params["W1"]}, x)
    with pytest.raises(ValueError, match=r"'W1' has the shape \(6, 4\) at this width, not \(6, 5\)"):
        apply(params, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="parameters are real numbers"):
        apply({**params, "v": np.zeros(6, int)}, x)
    with pytest.raises(ValueError, match="params is a dict"):
        apply(list(params.values()), x)
    with pytest.raises(tp.ProgramError, match="'T' has no value"):
        tp.parse("""program p(T)
vector x[t = 1..T] : G(n) ~ N(0, 1)
output m := mean[t = 1..T](<x[t], x[t]> / n)
""").network(4)[0](key)


def test_what_does_not_fit_the_memory_is_refused_before_it_is_drawn():
    init, _ = tp.load("mlp").network(10**7)
    with pytest.raises(ValueError, match=r"the parameters at width 10000000 take .* TiB"):
        init(jax.random.key(0), np.zeros((2, 5)))
    with pytest.raises(ValueError, match="at n = 1 the width m would be 0"):
        tp.parse("""program p
width m = n / 3
vector x : G(m) ~ N(0, 1)
output c := <x, x> / m
""").network(1)
