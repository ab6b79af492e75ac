"""Kernels of one network: against its whole Jacobian, in pieces of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.finite import empirical
from tensorprog.finite.empirical import empirical_kernels, empirical_ntk
from tensorprog.finite.network import FiniteNetwork

SHAPES = {
    "mlp": (4, 5),
    "rnn": (3, 4, 5),
    "transformer": (2, 3, 5),
    "cnn_flat": (2, 3, 3, 2),
    "batchnorm": (2, 5, 4),
    "tied_autoencoder": (3, 5),
}


def made(name, rng, width=12):
    settings = {"depth": 2} if name.startswith("cnn") else {}
    network = FiniteNetwork(tp.load(name, **settings).ir, width)
    x = rng.normal(size=SHAPES[name])
    return network, network.init(jax.random.key(3), x), x


def whole_jacobian(network, params, x, names):
    """Σ J Jᵀ over the named parameters, by jax.jacrev."""
    of_chosen = jax.jacrev(lambda chosen: network.apply({**params, **chosen}, x))
    jacobian = jax.jit(of_chosen)({k: params[k] for k in names})
    shape = network.apply(params, x).shape
    rows = int(np.prod(shape))
    kernel = sum(j.reshape(rows, -1) @ j.reshape(rows, -1).T for j in jacobian.values())
    axes = len(shape) - 1
    return np.moveaxis(np.asarray(kernel).reshape(*shape, *shape), 1 + axes, 1)


@pytest.mark.parametrize("name", SHAPES)
def test_ntk_is_that_of_the_whole_jacobian(name, rng, close):
    network, params, x = made(name, rng)
    expected = whole_jacobian(network, params, x, network.trained)
    close(empirical_ntk(network, params, x), expected, 1e-12)


@pytest.mark.parametrize("budget", [1, 30_000, 120_000])
def test_pieces_of_any_size(rng, close, budget):
    network, params, x = made("rnn", rng)
    at_once, in_pieces = (empirical_kernels(network, params, x, budget=b) for b in (None, budget))
    for name in ("nngp", "ntk"):
        close(in_pieces[name], at_once[name], 1e-12)


def test_nngp_is_the_mean_over_readouts(rng, close):
    """E f f' over the readouts: s·<x, x'>/n, and an average over draws of them."""
    program = tp.load("rnn", var_v=3)
    network = FiniteNetwork(program.ir, 12)
    x = rng.normal(size=(2, 3, 5))
    params = network.init(jax.random.key(0), x)
    found = empirical_kernels(network, params, x, ("nngp",))["nngp"]
    draws = np.sqrt(3) * rng.normal(size=(40_000, 12))
    outputs = jax.vmap(lambda v: network.apply({**params, "v": v}, x))(jnp.asarray(draws))
    close(found, np.einsum("sat,sbu->abtu", outputs, outputs) / len(draws), 0.03)


def test_some_parameters_and_fixed_ones(rng, close):
    program = tp.parse("""program parts
input  x : R(d)
weight U : A(n, d)        ~ N(0, 1) / sqrt(d)
fixed weight R : A(n, n)  ~ N(0, 1) / sqrt(n)
weight W : A(n, n)        ~ N(0, 4) / sqrt(n)
vector v : G(n)           ~ N(0, 1)
output y := v.T @ tanh(W @ tanh(R @ (U @ x))) / sqrt(n)
""")
    network = FiniteNetwork(program.ir, 10)
    x = rng.normal(size=(3, 4))
    params = network.init(jax.random.key(0), x)
    assert network.trained == ("U", "W", "v")
    parts = {name: empirical_ntk(network, params, x, wrt=(name,)) for name in network.trained}
    close(sum(parts.values()), empirical_ntk(network, params, x), 1e-12)
    close(parts["W"], whole_jacobian(network, params, x, ["W"]), 1e-12)
    with pytest.raises(ValueError, match="'R' is no trained parameter"):
        empirical_ntk(network, params, x, wrt=("R",))


def test_what_does_not_fit_is_refused_first(rng, monkeypatch):
    network, params, x = made("mlp", rng)
    monkeypatch.setattr(empirical, "available_memory", lambda: 5000)
    with pytest.raises(ValueError, match=r"the derivatives of one output at width 12 take .* of memory"):
        empirical_ntk(network, params, x)


def test_outputs_of_type_c_have_no_kernel():
    network = FiniteNetwork(tp.load("semicircle").ir, 8)
    params = network.init(jax.random.key(0))
    with pytest.raises(ValueError, match="no readout"):
        empirical_ntk(network, params)
