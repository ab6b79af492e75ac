"""Programs as users write them, against wide finite networks: averages over seeds within four standard errors.

A network is a function of its parameters, drawn as the program's laws say, that gives the vectors x which the readout
v.T @ x / sqrt(n) sees, one row an output. Given those, the average over v is known, E_v f f' = s·<x, x'>/n.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tensorprog as tp

WIDTH, SEEDS = 384, 20


@dataclass(frozen=True)
class Case:
    """A program and the network that it describes.

    laws: (shape, mean, variance) of each trained or fixed parameter, a shape's "n" and "m" being widths.
    network: its function of the parameters, the data and the width n. inputs: the shape of one sample of each input.
    m: the width m in units of n. outputs: the shape of the output. refused: why the package cannot do it yet.
    """

    text: str
    laws: dict
    network: object
    inputs: dict
    fixed: tuple = ()
    readout: float = 1.0
    outputs: tuple = ()
    m: float = 1.0
    refused: str = ""


CASES: dict[str, Case] = {}

# -------------------------------------------------------------- means

CASES["vectors with means"] = Case(
    """program means
input  x : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector b : G(n)     ~ N(0.5, 0.2)
vector v : G(n)     ~ N(0, 1)
h := relu(U @ x + b)
g := W @ h - b
output y := v.T @ tanh(g) / sqrt(n)
""",
    {"U": (("n", 4), 0, 1), "W": (("n", "n"), 0, 1), "b": (("n",), 0.5, 0.2)},
    lambda p, x, n: jnp.tanh(jax.nn.relu(x["x"] @ p["U"].T / 2 + p["b"]) @ p["W"].T / np.sqrt(n) - p["b"]),
    {"x": (4,)},
)

# -------------------------------------------------------------- widths


def bottleneck(p, x, n):
    m = p["A"].shape[0]
    h = jax.nn.relu(x["x"] @ p["U"].T / 2)
    g = jax.lax.erf(h @ p["A"].T * np.sqrt(2 / n))
    return jax.nn.relu(h + g @ p["B"].T / np.sqrt(m))


CASES["widths of another ratio"] = Case(
    """program widths
width m = 2 * n
input  x : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight A : A(m, n)  ~ N(0, 1) * sqrt(2 / n)
weight B : A(n, m)  ~ N(0, 1) / sqrt(m)
vector v : G(n)     ~ N(0, 1)
h := relu(U @ x)
g := erf(A @ h)
output y := v.T @ relu(h + B @ g) / sqrt(n)
""",
    {"U": (("n", 4), 0, 1), "A": (("m", "n"), 0, 1), "B": (("n", "m"), 0, 1)},
    bottleneck,
    {"x": (4,)},
    m=2,
)


def scaled_by_the_other_width(p, x, n):
    return jax.lax.erf(jax.nn.relu(x["x"] @ p["U"].T / 2) @ p["A"].T / np.sqrt(n))


# A's law divides by n where its fan-in is m = n/2: its variance times fan-in is 1/2.
CASES["a law in a width that is not the fan-in"] = Case(
    """program scales
width m = n / 2
input  x : R(d)
weight U : A(m, d)  ~ N(0, 1) / sqrt(d)
weight A : A(n, m)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 3)
output y := v.T @ erf(A @ relu(U @ x)) / sqrt(n)
""",
    {"U": (("m", 4), 0, 1), "A": (("n", "m"), 0, 1)},
    scaled_by_the_other_width,
    {"x": (4,)},
    m=0.5,
    readout=3.0,
)

# -------------------------------------------------------------- skips


def residual_after_the_nonlinearity(p, x, n):
    s = x["x"] @ p["U"].T / 2
    for l in range(3):  # noqa: E741
        s = s + jax.nn.relu(s @ p["W"][l].T / np.sqrt(n) + p["b"][l])
    return s


CASES["residual after the nonlinearity"] = Case(
    """program residual(depth = 3)
input  x0 : R(d)
weight U : A(n, d)                ~ N(0, 1) / sqrt(d)
weight W[l = 1..depth] : A(n, n)  ~ N(0, 0.5) / sqrt(n)
vector b[l = 1..depth] : G(n)     ~ N(0, 0.1)
vector v : G(n)                   ~ N(0, 1)
x[0] := U @ x0
for l = 1..depth:
    h[l] := W[l] @ x[l-1] + b[l]
    x[l] := x[l-1] + relu(h[l])
output y := v.T @ x[depth] / sqrt(n)
""",
    {"U": (("n", 4), 0, 1), "W": ((3, "n", "n"), 0, 0.5), "b": ((3, "n"), 0, 0.1)},
    lambda p, x, n: residual_after_the_nonlinearity(p, {"x": x["x0"]}, n),
    {"x0": (4,)},
)


def dense_skips(p, x, n):
    h = [None, x["x"] @ p["U"].T / 2]
    h.append(jax.nn.relu(h[1]) @ p["W"][0].T / np.sqrt(n))
    for l in (3, 4):  # noqa: E741
        h.append((jax.nn.relu(h[l - 1]) @ p["W"][l - 2].T + jnp.tanh(h[l - 2]) @ p["V"][l - 3].T) / np.sqrt(n))
    return jax.nn.relu(h[4]) + h[2]


CASES["dense skip connections"] = Case(
    """program skips(depth = 4)
input  x : R(d)
weight U : A(n, d)                ~ N(0, 1) / sqrt(d)
weight W[l = 2..depth] : A(n, n)  ~ N(0, 2) / sqrt(n)
weight V[l = 3..depth] : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)                   ~ N(0, 1)
h[1] := U @ x
h[2] := W[2] @ relu(h[1])
for l = 3..depth:
    h[l] := W[l] @ relu(h[l-1]) + V[l] @ tanh(h[l-2])
output y := v.T @ (relu(h[depth]) + h[2]) / sqrt(n)
""",
    {"U": (("n", 4), 0, 1), "W": ((3, "n", "n"), 0, 2), "V": ((2, "n", "n"), 0, 1)},
    dense_skips,
    {"x": (4,)},
)

# -------------------------------------------------------------- shared and fixed weights


def shared(p, x, n):
    h = x["x"] @ p["U"].T / 2
    for _ in range(3):
        h = jax.nn.relu(h) @ p["W"].T / np.sqrt(n) + x["x"] @ p["U"].T / 2
    return jnp.tanh(h)


SHARED = """program shared(depth = 3)
input  x : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
{fixed}weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
h[0] := U @ x
for l = 1..depth:
    h[l] := W @ relu(h[l-1]) + U @ x
output y := v.T @ tanh(h[depth]) / sqrt(n)
"""
SHARED_LAWS = {"U": (("n", 4), 0, 1), "W": (("n", "n"), 0, 1)}
CASES["weights shared by the layers"] = Case(SHARED.format(fixed=""), SHARED_LAWS, shared, {"x": (4,)})
CASES["fixed weights"] = Case(SHARED.format(fixed="fixed "), SHARED_LAWS, shared, {"x": (4,)}, fixed=("W",))


def residual_rnn(p, x, n):
    h = 0
    for t in range(4):
        u = x["x"][:, t] @ p["U"].T / np.sqrt(3)
        h = u if t == 0 else h + 0.5 * jax.lax.erf(h) @ p["W"].T / np.sqrt(n) + u
    return h


CASES["residual RNN with shared weights"] = Case(
    """program residual_rnn(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
h[1] := U @ x[1]
for t = 2..T:
    h[t] := h[t-1] + 0.5 * (W @ erf(h[t-1])) + U @ x[t]
output y := v.T @ h[T] / sqrt(n)
""",
    {"U": (("n", 3), 0, 1), "W": (("n", "n"), 0, 1)},
    residual_rnn,
    {"x": (4, 3)},
)


def steps(rule):
    """A network whose states follow rule(t, states, W, u); those before the first are 0."""

    def network(p, x, n):
        u = x["x"] @ p["U"].T / np.sqrt(3)
        states = {t: jnp.zeros_like(u[:, 0]) for t in (-2, -1)}
        for t in range(u.shape[1]):
            states[t] = rule(t, states, lambda s: s @ p["W"].T / np.sqrt(n), u[:, t])
        return states[u.shape[1] - 1]

    return network


def steps_text(name, body):
    return f"""program {name}(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
s[-1] := 0
s[0] := 0
for t = 1..T:
    s[t] := {body}
output y := v.T @ s[T] / sqrt(n)
"""


STEP_LAWS = {"U": (("n", 3), 0, 1), "W": (("n", "n"), 0, 1)}
CASES["leaky states"] = Case(
    steps_text("leaky", "0.5 * s[t-1] + erf(W @ s[t-1] + U @ x[t])"),
    STEP_LAWS,
    steps(lambda t, s, w, u: 0.5 * s[t - 1] + jax.lax.erf(w(s[t - 1]) + u)),
    {"x": (4, 3)},
)
CASES["one matrix reads two steps"] = Case(
    steps_text("second_order", "erf(W @ s[t-1] + W @ s[t-2] + U @ x[t])"),
    STEP_LAWS,
    steps(lambda t, s, w, u: jax.lax.erf(w(s[t - 1]) + w(s[t - 2]) + u)),
    {"x": (4, 3)},
)


def stacked(p, x, n):
    u = x["x"] @ p["U"].T / np.sqrt(3)
    first, second = jnp.zeros_like(u[:, 0]), jnp.zeros_like(u[:, 0])
    for t in range(u.shape[1]):
        first = jax.lax.erf(first @ p["W"].T / np.sqrt(n) + u[:, t])
        second = jax.lax.erf(second @ p["W"].T / np.sqrt(n) + first @ p["W"].T / np.sqrt(n))
    return second


CASES["two layers of one recurrent matrix"] = Case(
    """program stacked(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
for t = 1..T:
    s[1, t] := erf((W @ s[1, t-1] else 0) + U @ x[t])
for t = 1..T:
    s[2, t] := erf((W @ s[2, t-1] else 0) + W @ s[1, t])
output y := v.T @ s[2, T] / sqrt(n)
""",
    STEP_LAWS,
    stacked,
    {"x": (3, 3)},
)


def encoder_decoder(p, x, n):
    u = x["x"] @ p["U"].T / np.sqrt(3)
    state, outputs = 0, []
    for t in range(u.shape[1]):
        state = jax.lax.erf((state @ p["W"].T / np.sqrt(n) if t else 0) + u[:, t])
    for t in reversed(range(u.shape[1])):
        state = jax.lax.erf(state @ p["W"].T / np.sqrt(n) + u[:, t])
        outputs.insert(0, state)
    return jnp.stack(outputs, axis=1).reshape(-1, n)


CASES["encoder and decoder of one matrix"] = Case(
    """program encoder_decoder(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
for t = 1..T:
    s[t] := erf((W @ s[t-1] else 0) + U @ x[t])
for t = T..1 by -1:
    r[t] := erf((W @ r[t+1] else W @ s[T]) + U @ x[t])
output y[t = 1..T] := v.T @ r[t] / sqrt(n)
""",
    STEP_LAWS,
    encoder_decoder,
    {"x": (3, 3)},
    outputs=(3,),
)

# -------------------------------------------------------------- several functions of several vectors


def gated(p, x, n):
    h = jax.nn.relu(x["x"] @ p["U"].T / 2)
    return (h @ p["W"].T / np.sqrt(n)) * jax.nn.sigmoid(h @ p["V"].T / np.sqrt(n))


GATED_LAWS = {"U": (("n", 4), 0, 1), "W": (("n", "n"), 0, 1), "V": (("n", "n"), 0, 1)}
CASES["gated linear unit"] = Case(
    """program gated
input  x : R(d)
weight U : A(n, d)     ~ N(0, 1) / sqrt(d)
weight W, V : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)        ~ N(0, 1)
h := relu(U @ x)
output y := v.T @ ((W @ h) * sigmoid(V @ h)) / sqrt(n)
""",
    GATED_LAWS,
    gated,
    {"x": (4,)},
)


def dependent_gates(p, x, n):
    h = x["x"] @ p["U"].T / 2 + p["b"]
    g = jnp.tanh(h) @ p["W"].T / np.sqrt(n) + h
    return g * jax.nn.sigmoid(h) * jnp.tanh(g)


CASES["gates of dependent vectors"] = Case(
    """program dependent
input  x : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector b : G(n)     ~ N(0, 0.5)
vector v : G(n)     ~ N(0, 1)
h := U @ x + b
g := W @ tanh(h) + h
output y := v.T @ (g * sigmoid(h) * tanh(g)) / sqrt(n)
""",
    {"U": (("n", 4), 0, 1), "W": (("n", "n"), 0, 1), "b": (("n",), 0, 0.5)},
    dependent_gates,
    {"x": (4,)},
)


def sums_with_constants(p, x, n):
    h = x["x"] @ p["U"].T / 2
    g = x["x"] @ p["V"].T / 2 + p["b"]
    s = jax.nn.relu(h) - 0.3 + jnp.tanh(g) / 2 + 0.25 * h
    return (2 - s) @ p["W"].T / np.sqrt(n) + s


CASES["sums with constants"] = Case(
    """program constants
input  x : R(d)
weight U, V : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)     ~ N(0, 1) / sqrt(n)
vector b : G(n)        ~ N(0, 0.5)
vector v : G(n)        ~ N(0, 1)
h := U @ x
g := V @ x + b
s := relu(h) - 0.3 + tanh(g) / 2 + 0.25 * h
output y := v.T @ (W @ (2 - s) + s) / sqrt(n)
""",
    {"U": (("n", 4), 0, 1), "V": (("n", 4), 0, 1), "W": (("n", "n"), 0, 1), "b": (("n",), 0, 0.5)},
    sums_with_constants,
    {"x": (4,)},
)

# -------------------------------------------------------------- inputs


def two_inputs(p, x, n):
    a = jnp.einsum("st,std->sd", x["mask"], x["x"]) @ p["U"].T / np.sqrt(3)
    b = jax.lax.erf(x["z"] @ p["V"].T / np.sqrt(2))
    return jax.nn.relu(a) @ p["W"].T / np.sqrt(n) + b


CASES["several inputs"] = Case(
    """program inputs(T)
input  x[t = 1..T] : R(d)
input  mask[t = 1..T] : C
input  z : R(e)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight V : A(n, e)  ~ N(0, 1) / sqrt(e)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
a := sum[t = 1..T](mask[t] * (U @ x[t]))
b := erf(V @ z)
output y := v.T @ (W @ relu(a) + b) / sqrt(n)
""",
    {"U": (("n", 3), 0, 1), "V": (("n", 2), 0, 1), "W": (("n", "n"), 0, 1)},
    two_inputs,
    {"x": (3, 3), "mask": (3,), "z": (2,)},
)

# -------------------------------------------------------------- positions


def bidirectional(p, x, n):
    u = x["x"] @ p["U"].T / np.sqrt(3)
    steps = u.shape[1]
    forward, backward = [0] * steps, [0] * steps
    for t in range(steps):
        before = forward[t - 1] @ p["W"].T / np.sqrt(n) if t else 0
        forward[t] = jax.lax.erf(before + u[:, t])
    for t in reversed(range(steps)):
        after = backward[t + 1] @ p["R"].T / np.sqrt(n) if t + 1 < steps else 0
        backward[t] = jax.nn.relu(after + u[:, t])
    return jnp.stack([f + b for f, b in zip(forward, backward, strict=True)], axis=1).reshape(-1, n)


CASES["bidirectional RNN"] = Case(
    """program bidirectional(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)     ~ N(0, 1) / sqrt(d)
weight W, R : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)        ~ N(0, 1)
f[0] := 0
for t = 1..T:
    f[t] := erf(W @ f[t-1] + U @ x[t])
r[T+1] := 0
for t = T..1 by -1:
    r[t] := relu(R @ r[t+1] + U @ x[t])
output y[t = 1..T] := v.T @ (f[t] + r[t]) / sqrt(n)
""",
    {"U": (("n", 3), 0, 1), "W": (("n", "n"), 0, 1), "R": (("n", "n"), 0, 1)},
    bidirectional,
    {"x": (3, 3)},
    outputs=(3,),
)


def strided(p, x, n):
    """Filters of three taps, stride 2 on seven tokens, then two taps two apart."""
    u = x["x"]
    h = [sum(u[:, 2 * i + a] @ p["K"][a].T for a in range(3)) / np.sqrt(9) for i in range(3)]
    s = [jax.nn.relu(y) for y in h]
    g = [sum(s[i + 2 * a] @ p["L"][a].T for a in range(2) if i + 2 * a < 3) / np.sqrt(2 * n) for i in range(3)]
    return jnp.stack([jax.lax.erf(y) for y in g]).mean(0)


CASES["strided and dilated convolutions"] = Case(
    """program strided(P = 3)
input  x[i = 0..2*P] : R(d)
weight K[a = 0..2] : A(n, d)  ~ N(0, 1) / sqrt(3 * d)
weight L[a = 0..1] : A(n, n)  ~ N(0, 1) / sqrt(2 * n)
vector v : G(n)               ~ N(0, 1)
h[i = 1..P] := sum[a = 0..2](K[a] @ x[2*(i-1) + a])
g[i = 1..P] := sum[a = 0..1](L[a] @ (relu(h[i + 2*a]) else 0))
output y := mean[i = 1..P](v.T @ erf(g[i])) / sqrt(n)
""",
    {"K": ((3, "n", 3), 0, 1), "L": ((2, "n", "n"), 0, 1)},
    strided,
    {"x": (7, 3)},
)


def triangular(p, x, n):
    u = x["x"] @ p["U"].T / np.sqrt(3)
    pair = {(i, j): jax.lax.erf(u[:, i] + u[:, j] / 2) @ p["W"].T / np.sqrt(n) for i in range(3) for j in range(i + 1)}
    z = [sum(jax.nn.relu(pair[i, j]) for j in range(i + 1)) / (i + 1) for i in range(3)]
    return jnp.stack(z, axis=1).reshape(-1, n)


CASES["triangular families"] = Case(
    """program triangular(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
for i = 1..T, j = 1..i:
    s[i, j] := erf(U @ x[i] + U @ x[j] / 2)
    h[i, j] := W @ s[i, j]
output y[i = 1..T] := mean[j = 1..i](v.T @ relu(h[i, j])) / sqrt(n)
""",
    {"U": (("n", 3), 0, 1), "W": (("n", "n"), 0, 1)},
    triangular,
    {"x": (3, 3)},
    outputs=(3,),
)


def attention(p, x, n):
    """Attention by scores <q, k>/n, over all tokens."""
    u = jnp.tanh(x["x"] @ p["U"].T / np.sqrt(3))
    q, k = u @ p["Q"].T / np.sqrt(n) + u, u @ p["Q"].T / np.sqrt(n)
    scores = jax.nn.softmax(jnp.einsum("sin,sjn->sij", q, k) / n, axis=-1)
    return (jnp.einsum("sij,sjn->sin", scores, u) + u).reshape(-1, n)


CASES["attention"] = Case(
    """program attention(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight Q : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
for i = 1..T:
    u[i] := tanh(U @ x[i])
    k[i] := Q @ u[i]
    q[i] := k[i] + u[i]
for i = 1..T:
    s[i, j = 1..T] := <q[i], k[j]> / n
    a[i, j = 1..T] := softmax[j](s[i, j])
    z[i] := sum[j = 1..T](a[i, j] * u[j]) + u[i]
output y[i = 1..T] := v.T @ z[i] / sqrt(n)
""",
    {"U": (("n", 3), 0, 1), "Q": (("n", "n"), 0, 1)},
    attention,
    {"x": (3, 3)},
    outputs=(3,),
)


def normalized(p, x, n):
    h = jax.nn.relu(x["x"] @ p["U"].T / 2)
    centred = h - h.mean(-1, keepdims=True)
    y = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 0.1)
    return jax.lax.erf(y @ p["W"].T / np.sqrt(n) + y)


CASES["layer normalization"] = Case(
    """program normalized
input  x : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
y0 := layernorm(relu(U @ x), eps = 0.1)
output y := v.T @ erf(W @ y0 + y0) / sqrt(n)
""",
    {"U": (("n", 4), 0, 1), "W": (("n", "n"), 0, 1)},
    normalized,
    {"x": (4,)},
)


# -------------------------------------------------------------- simulation


def simulate(case: Case, data: dict, seeds: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK of finite networks, a row for each seed."""
    widths = {"n": width, "m": round(case.m * width)}

    def outputs(trained, fixed, v):
        x = case.network(trained | fixed, data, width)
        return x @ v / np.sqrt(width)

    @jax.jit
    def kernels(trained, fixed, v):
        x = case.network(trained | fixed, data, width)
        gram = x @ x.T / width
        jacobian = jax.jacrev(outputs)(trained, fixed, v)
        ntk = gram + sum(jnp.einsum("i...,j...->ij", g, g) for g in jacobian.values())
        return case.readout * gram, ntk

    results = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        values = {}
        for name, (shape, mean, variance) in case.laws.items():
            size = tuple(widths.get(s, s) for s in shape)
            values[name] = mean + np.sqrt(variance) * rng.normal(size=size)
        v = np.sqrt(case.readout) * rng.normal(size=width)
        trained = {name: a for name, a in values.items() if name not in case.fixed}
        results.append(kernels(trained, {name: values[name] for name in case.fixed}, v))
    return tuple(np.array(part) for part in zip(*results, strict=True))


def within_errors(samples: np.ndarray, limit: np.ndarray, width: int) -> None:
    """Four standard errors, and 2/width of the largest entry for what a finite width is off by."""
    mean, error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))
    allowed = 4 * error + 2 / width * np.abs(limit).max()
    excess = np.abs(mean - limit) / allowed
    assert (excess <= 1).all(), f"{4 * excess.max():.1f} standard errors:\n{limit}\nsimulated\n{mean}\n± {error}"


def marks(case: Case) -> tuple:
    return (pytest.mark.xfail(strict=True, raises=tp.ProgramError, reason=case.refused),) if case.refused else ()


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(case)) for name, case in CASES.items()])
def test_finite_networks(name):
    case = CASES[name]
    rng = np.random.default_rng(11)
    data = {key: rng.normal(size=(2, *shape)) for key, shape in case.inputs.items()}
    nngp, ntk = tp.parse(case.text).kernel()(data)
    positions = int(np.prod(case.outputs))
    assert nngp.shape == (2, 2, *case.outputs, *case.outputs)

    def rows(k):
        """(N1, N2, out1, out2) as a matrix over (sample, output)."""
        return np.asarray(k).reshape(2, 2, positions, positions).transpose(0, 2, 1, 3).reshape(2 * positions, -1)

    simulated_nngp, simulated_ntk = simulate(case, data, SEEDS, WIDTH)
    within_errors(simulated_nngp, rows(nngp), WIDTH)
    within_errors(simulated_ntk, rows(ntk), WIDTH)
