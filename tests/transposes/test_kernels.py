"""NNGPs and NTKs of networks that go forward with a matrix and back with its transpose, against finite networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import tensorprog as tp


def agree(draws, limit, slack):
    """The average of draws within four standard errors, and the bias of a finite width."""
    draws = np.array(draws)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    distance = np.abs(draws.mean(axis=0) - limit)
    assert (distance < 4 * error + slack).all(), f"{draws.mean(axis=0)} ± {error}, the limit {np.asarray(limit)}"
    return draws.mean(axis=0), error


# ---------------------------------------------------------------- tied autoencoder


@pytest.fixture(scope="module")
def digits(reference):
    return reference["digits"].reshape(len(reference["digits"]), -1)[:2]


@pytest.fixture(scope="module")
def autoencoder(digits):
    return tp.load("tied_autoencoder").kernel()(digits)


def test_numbers_of_the_tied_autoencoder(autoencoder):
    ntk = np.asarray(autoencoder.ntk)
    np.testing.assert_allclose([ntk[0, 0], ntk[0, 1], ntk[1, 1]], [0.512, 0.251, 0.686], atol=1e-3)


def tied_networks(x, n, rng):
    """NNGP and NTK of one network f = v.T @ relu(W.T @ relu(W @ relu(U @ x))) / sqrt(n), v averaged in the NNGP."""
    d = x.shape[1]
    W = rng.normal(size=(n, n)) / np.sqrt(n)
    h = x @ rng.normal(size=(n, d)).T / np.sqrt(d)
    v = rng.normal(size=n)
    e = np.maximum(h, 0)
    g = e @ W.T
    z = np.maximum(g, 0)
    a = z @ W
    r = np.maximum(a, 0)
    da = v * (a > 0)
    dg = (da @ W.T) * (g > 0)
    dh = (dg @ W) * (h > 0)
    nngp = r @ r.T / n
    ntk = nngp + (dh @ dh.T / n) * (x @ x.T / d)
    ntk += (dg @ dg.T) * (e @ e.T) / n**2 + (z @ z.T) * (da @ da.T) / n**2
    cross = (dg @ z.T) * (e @ da.T) / n**2
    return np.stack([nngp, ntk + cross + cross.T])


def test_tied_autoencoder_against_networks(digits, autoencoder):
    rng = np.random.default_rng(0)
    draws = [tied_networks(digits, 1024, rng) for _ in range(24)]
    agree(draws, np.stack([autoencoder.nngp, autoencoder.ntk]), 2e-3)


# ---------------------------------------------------------------- forward with W, back with W.T

RECURRENT = """program forth_and_back(T)
input  x[t = 1..T] : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 2) / sqrt(n)
{more}vector v : G(n)     ~ N(0, 1)
s[0] := 0
for t = 1..T:
    h[t] := W @ s[t-1] + U @ x[t]
    s[t] := erf(h[t])
    r[t] := {back} @ s[t]
output y := mean[t = 1..T](v.T @ erf(r[t])) / sqrt(n)
"""
TIED = RECURRENT.format(more="", back="W.T")
INDEPENDENT = RECURRENT.format(more="weight A : A(n, n)  ~ N(0, 2) / sqrt(n)\n", back="A")


def unrolled(text, steps=3):
    """The same network on sequences of that length without a loop."""
    head, _, _ = text.partition("s[0] := 0")
    back = "W.T" if "W.T" in text else "A"
    lines = []
    for t in range(1, steps + 1):
        lines.append(f"h{t} := W @ s{t - 1} + U @ x[{t}]" if t > 1 else "h1 := U @ x[1]")
        lines += [f"s{t} := erf(h{t})", f"r{t} := {back} @ s{t}"]
    total = " + ".join(f"v.T @ erf(r{t})" for t in range(1, steps + 1))
    lines.append(f"output y := ({total}) / ({steps} * sqrt(n))")
    return head.replace("(T)", "").replace("1..T", f"1..{steps}") + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def sequences():
    return np.random.default_rng(5).normal(size=(2, 3, 4)) * 1.5


@pytest.fixture(scope="module")
def recurrent(sequences):
    return tp.parse(unrolled(TIED)).kernel()(sequences)


@pytest.fixture(scope="module")
def independent(sequences):
    return tp.parse(INDEPENDENT).kernel()(sequences)


@pytest.fixture(scope="module")
def flat(sequences):
    return tp.parse(unrolled(INDEPENDENT)).kernel()(sequences)


def recurrent_networks(x, n, rng):
    W = rng.normal(size=(n, n)) * np.sqrt(2 / n)
    u = x @ rng.normal(size=(n, x.shape[-1])).T / np.sqrt(x.shape[-1])
    s, total = np.zeros((len(x), n)), 0
    for t in range(x.shape[1]):
        s = erf(s @ W.T + u[:, t])
        total = total + erf(s @ W)
    q = total / x.shape[1]
    return q @ q.T / n


def test_forth_and_back(sequences, recurrent, independent):
    """The limit is that of networks; gradient independence, a fresh matrix in place of W.T, is not."""
    rng = np.random.default_rng(1)
    average, error = agree([recurrent_networks(sequences, 1024, rng) for _ in range(60)], recurrent.nngp, 1e-3)
    wrong = np.asarray(independent.nngp)
    assert (np.abs(wrong - average) / error).max() > 10


def test_the_loop_is_its_unrolled_program_where_the_matrices_are_independent(independent, flat):
    np.testing.assert_allclose(independent.nngp, flat.nngp, rtol=1e-9)
    np.testing.assert_allclose(independent.ntk, flat.ntk, rtol=1e-9)


def test_a_sum_inside_the_readout(sequences, flat):
    text = unrolled(INDEPENDENT)
    inside = text.replace("(v.T @ erf(r1) + v.T @ erf(r2) + v.T @ erf(r3))", "v.T @ (erf(r1) + erf(r2) + erf(r3))")
    assert inside != text
    np.testing.assert_allclose(tp.parse(inside).kernel()(sequences, get="nngp"), flat.nngp, rtol=1e-9)


def test_the_loop_is_its_unrolled_program(sequences, recurrent):
    loop = tp.parse(TIED).kernel()(sequences)
    np.testing.assert_allclose(loop.nngp, recurrent.nngp, rtol=1e-9)
    np.testing.assert_allclose(loop.ntk, recurrent.ntk, rtol=1e-9)


def test_ntk_forth_and_back(sequences, recurrent, independent):
    x, n = jnp.asarray(sequences), 512

    def network(p, x):
        s, total = jnp.zeros(n), 0.0
        for t in range(x.shape[0]):
            s = jax.lax.erf(p["W"] @ s / np.sqrt(n) + p["U"] @ x[t] / np.sqrt(x.shape[1]))
            total = total + jax.lax.erf(p["W"].T @ s / np.sqrt(n))
        return p["v"] @ total / x.shape[0] / np.sqrt(n)

    @jax.jit
    def ntk(key):
        k = jax.random.split(key, 3)
        p = {
            "W": jax.random.normal(k[0], (n, n)) * np.sqrt(2),
            "U": jax.random.normal(k[1], (n, x.shape[2])),
            "v": jax.random.normal(k[2], (n,)),
        }
        gradients = [jnp.concatenate([g.ravel() for g in jax.tree.leaves(jax.grad(network)(p, y))]) for y in x]
        J = jnp.stack(gradients)
        return J @ J.T

    agree([ntk(k) for k in jax.random.split(jax.random.key(0), 24)], recurrent.ntk, 1e-2)
    wrong = np.asarray(independent.ntk)
    assert np.abs(wrong - np.asarray(recurrent.ntk)).max() > 0.05 * np.abs(wrong).max()
