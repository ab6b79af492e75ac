"""The accelerator kernel against the plain lowering, interpreted on the CPU, and its lowering for a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.backend.fused import kernel as fused_kernel
from tensorprog.backend.fused.chain import NotFused
from tensorprog.backend.fused.kernel import FusedKernel
from tensorprog.backend.fused.launch import Blocks
from tensorprog.backend.fused.writer import build_fused

# Laws that differ from layer to layer, and a skip over two layers.
SKIPS = """
program skips(depth = 8, var_w = 2)
input x : R(d)
weight W[l = 1..depth] : A(n, d)   ~ N(0, 1) * sqrt(l / d)
weight U[l = 3..depth] : A(n, n)   ~ N(0, 1) * sqrt(var_w / (l * n))
vector b[l = 3..depth] : G(n)      ~ N(0, 1) * sqrt(1 / l)
vector v : G(n)                    ~ N(0, 1)
h[1] := W[1] @ x
h[2] := W[2] @ x
for l = 3..depth:
    h[l] := U[l] @ relu(h[l-1]) + h[l-2] + b[l]   : G(n)
output y := v.T @ erf(h[depth]) / sqrt(n)
"""

TWO = """
program two(depth = 2)
input x : R(d)
weight W[l = 1..depth] : A(n, d)   ~ N(0, 1) * sqrt(l / d)
vector v : G(n)                    ~ N(0, 1)
h := W[1] @ x + W[2] @ x
output y := v.T @ h / sqrt(n)
"""

SMALL = Blocks(4, 8, 1)


def plain(source, **settings):
    return tp_program(source, **settings).kernel(backend="plain")


def tp_program(source, **settings):
    return (tp.parse if "\n" in source else tp.load)(source, **settings)


def fused(source, blocks=SMALL, **settings):
    """A function of data as a Kernel of the API is, on small blocks."""
    backend = FusedKernel(tp_program(source, **settings).recursion, blocks=blocks, strict=True)

    def kernel(x1, x2=None, get=("nngp", "ntk"), **options):
        return backend({"x": x1}, None if x2 is None else {"x": x2}, get, **options)

    kernel.backend = backend
    return kernel


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("mlp", {"depth": 1}),
        ("mlp", {"depth": 3, "var_b": 0.1}),
        ("mlp", {"depth": 8, "var_b": 0.1}),
        ("mlp", {"depth": 6, "phi": "erf", "var_w": 1.3}),
        ("mlp", {"depth": 2, "phi": "gelu"}),
        ("resnet", {"depth": 5, "var_b": 0.2}),
        (SKIPS, {}),
    ],
)
def test_agrees_with_the_plain_lowering(source, settings, rng, close):
    x = rng.normal(size=(5, 3))
    y = np.concatenate([x[1:3], rng.normal(size=(9, 3))])  # equal samples, and sizes that blocks do not divide
    one, other = fused(source, **settings), plain(source, **settings)
    for second in (None, y) if source == SKIPS or settings.get("depth") == 3 else (y,):
        for actual, expected in zip(one(x, second), other(x, second), strict=True):
            close(actual, expected, 1e-13)
            assert isinstance(actual, jax.Array)


def test_single_precision(rng, close):
    x, y = (rng.normal(size=(n, 3)).astype(np.float32) for n in (5, 11))
    for actual, expected in zip(fused("mlp", depth=5)(x, y), plain("mlp", depth=5)(x, y), strict=True):
        assert actual.dtype == jnp.float32
        close(actual, expected, 1e-6)


def test_layers_that_are_alike_are_a_loop():
    source = build_fused(tp.load("mlp", depth=12, phi="erf").recursion).source
    assert source.count("erf_dual(cov") == 2
    assert source[source.index("    def step") : source.index("    out_y")].rstrip() == (
        """\
    def step(l, carry):
        mom_phi_h_before, = carry
        cov_h_here = s_W_12 * mom_phi_h_before + s_b_12
        cov_h_left = left['cov_h'](l - 1)
        cov_h_right = right['cov_h'](l - 1)
        mom_phi_h_here = erf_dual(cov_h_here, cov_h_left, cov_h_right)
        return (full(mom_phi_h_here),)

    mom_phi_h, = lax.fori_loop(np.int32(2), np.int32(13), step, (full(mom_phi_h_1),))"""
    )


def test_equal_samples_have_their_variance(rng):
    """Without a table of equal pairs: by what the samples' data add up to, or by their numbers."""
    x = np.float32(rng.normal(size=(6, 3)))
    k = fused("mlp", depth=4)
    of_itself = np.asarray(k(x, None, "nngp"))
    across = np.asarray(k(x, x[::-1].copy(), "nngp"))
    np.testing.assert_array_equal(np.diagonal(across[:, ::-1]), np.diagonal(of_itself))
    np.testing.assert_array_equal(np.diagonal(of_itself), np.diagonal(plain("mlp", depth=4)(x, None, "nngp")))


def test_members_of_one_family_have_their_own_laws(close):
    for k in (fused(TWO), plain(TWO)):
        nngp, ntk = k(np.ones((1, 3)), None)
        close(nngp, [[3.0]])
        close(ntk, [[3.0 + 3.0]])


def test_one_sample_and_one_kernel(rng, close):
    x = rng.normal(size=(1, 3))
    k = fused("mlp", blocks=Blocks(), depth=2)
    close(k(x, None, "ntk"), plain("mlp", depth=2)(x, None, "ntk"), 1e-14)


def test_some_parameters_trained(rng, close):
    x = rng.normal(size=(3, 2))
    one, other = fused("mlp", var_b=0.3), plain("mlp", var_b=0.3)
    for wrt in ("b", ("W1", "v")):
        close(one(x, None, "ntk", wrt=wrt), other(x, None, "ntk", wrt=wrt), 1e-13)
    close(one(x, None, "ntk", params={"var_w": 0.7}), other(x, None, "ntk", params={"var_w": 0.7}), 1e-13)


def test_in_tiles(rng, close):
    x = rng.normal(size=(5, 3))
    k = tp.load("mlp", depth=1).kernel(backend="fused", tile=3)
    assert isinstance(k.backend, FusedKernel)
    close(k(x, None, "nngp"), plain("mlp", depth=1)(x, None, "nngp"), 1e-14)


def test_derivatives_are_those_of_the_plain_lowering(rng):
    x = rng.normal(size=(3, 2))
    one, other = (tp.load("mlp", depth=1).kernel(backend=b) for b in ("fused", "plain"))

    def total(k):
        return jax.grad(lambda w: k(x, None, "ntk", params={"var_w": w}).sum())(1.5)

    assert total(one) == total(other)


@pytest.mark.parametrize(
    ("source", "settings", "reason"),
    [
        ("rnn_avgpool", {}, "depends on T, which the data give"),
        ("mlp", {"phi": "tanh"}, "no closed form"),
        ("transformer", {}, "the output has axes"),
        ("tied_autoencoder", {}, "JointExpectation"),
        ("semicircle", {}, "no output with a kernel"),
    ],
)
def test_other_programs_are_refused_with_a_reason(source, settings, reason):
    program = tp.load(source, **settings)
    with pytest.raises(NotFused, match=reason):
        build_fused(program.recursion)
    if program.recursion.output is not None:
        with pytest.raises(tp.ProgramError, match=reason):
            program.kernel(backend="fused")


def test_backends_by_name(monkeypatch):
    program = tp.load("mlp")
    with pytest.raises(ValueError, match="backend is 'plain', 'fused' or None"):
        program.kernel(backend="gpu")
    assert not isinstance(program.kernel().backend, FusedKernel)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert isinstance(program.kernel().backend, FusedKernel)
    assert not isinstance(tp.load("mlp", phi="tanh").kernel().backend, FusedKernel)
    monkeypatch.setenv("TENSORPROG_BACKEND", "plain")
    assert not isinstance(program.kernel().backend, FusedKernel)


def test_what_cannot_be_lowered_falls_back_with_a_warning(rng, close, monkeypatch):
    def broken(*_, **__):
        raise NotImplementedError("no such primitive")

    monkeypatch.setattr(fused_kernel, "launch", broken)
    x = {"x": rng.normal(size=(3, 2))}
    k = FusedKernel(tp.load("mlp", depth=1).recursion)
    with pytest.warns(RuntimeWarning, match="the plain one is used: NotImplementedError: no such primitive"):
        close(k(x, None, "nngp"), plain("mlp", depth=1)(x["x"], None, "nngp"), 1e-14)
    k(x, None, "nngp")  # and says so once
    with pytest.raises(NotImplementedError):
        FusedKernel(tp.load("mlp", depth=1).recursion, strict=True)(x)


@pytest.mark.parametrize(
    ("source", "settings", "dtype"),
    [
        ("mlp", {"depth": 3}, np.float32),
        ("mlp", {"depth": 3}, np.float64),
        ("mlp", {"depth": 8, "phi": "erf"}, np.float32),
        ("mlp", {"depth": 2, "phi": "gelu"}, np.float32),
        ("mlp", {"depth": 2, "phi": "sin"}, np.float32),
        ("resnet", {"depth": 5}, np.float32),
        (SKIPS, {}, np.float64),
    ],
)
def test_lowers_for_a_gpu(source, settings, dtype):
    """To Triton's IR, which needs no GPU."""
    k = FusedKernel(tp_program(source, **settings).recursion, strict=True, interpret=False)
    x1, x2 = ({"x": jax.ShapeDtypeStruct((n, 7), dtype)} for n in (100, 300))
    values = k._values(None)
    left, right = (jax.eval_shape(k._run, x, values) for x in (x1, x2))
    for symmetric in (True, False):
        traced = k._block_fused.trace(
            x1, x2, left, right, (0, 0), values, None, symmetric=symmetric, names=("nngp", "ntk"), wrt=k.module.trained
        )
        assert "xla.gpu.triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_blocks_are_powers_of_two():
    with pytest.raises(ValueError, match="rows is a power of two, not 12"):
        Blocks(rows=12)
