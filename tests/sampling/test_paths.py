"""Simulated kernels against exact ones, closed forms, the reference arrays and themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.special import erf

import tensorprog as tp
from tensorprog.lowering import module_source
from tensorprog.sampling.kernel import SampledKernel

EXACT = [
    ("rnn_avgpool", {"var_b": 0.2}, (2, 3, 4)),
    ("transformer", {"depth": 1, "var_b": 0.1}, (2, 2, 3)),
    ("tied_autoencoder", {}, (2, 3)),
]


def _within(value, exact, error, times=4.5, floor=2e-3):
    """Within so many standard errors; those of eight shifts are rough, so a part of the largest entry is added."""
    value, exact, error = (np.asarray(a) for a in (value, exact, error))
    assert (abs(value - exact) <= times * error + floor * abs(exact).max()).all()


@pytest.mark.parametrize(("name", "parameters", "shape"), EXACT)
def test_what_has_rules_comes_out_the_same_when_it_is_sampled(name, parameters, shape):
    program = tp.load(name, **parameters)
    x = np.random.default_rng(1).normal(size=shape)
    exact = program.kernel()(x)
    kernel = SampledKernel(program.recursion, points=1021)
    compiled = jax.jit(lambda x: kernel({program.ir.inputs[0].name: x}, return_stderr=True))  # in one piece
    sampled = compiled(x)
    _within(sampled.nngp, exact.nngp, sampled.nngp_stderr)
    _within(sampled.ntk, exact.ntk, sampled.ntk_stderr)
    assert sampled.nngp_stderr.max() < 0.02 * abs(exact.nngp).max()


def test_gru_reference(reference):
    """GP4A's GRU on two sentences of 7 and 9 words, to 1e-3 with the points that are the default."""
    x, lengths = reference["glove_vectors"], reference["glove_lengths"]
    sentences = np.split(x, [lengths[0]])
    found = tp.load("gru").kernel()(sentences, None, "nngp", return_stderr=True)
    nngp, error = (np.block([[np.asarray(b) for b in row] for row in k]) for k in found)
    combined = np.hypot(error, reference["gru_gp_stderr"])
    assert abs(nngp - reference["gru_gp"]).max() < 1e-3
    assert np.sqrt(np.mean((nngp - reference["gru_gp"]) ** 2)) < 3e-4
    assert (abs(nngp - reference["gru_gp"]) <= 4 * combined).mean() > 0.97


def test_one_step_of_a_gru_has_a_closed_form():
    x = np.random.default_rng(2).normal(size=(2, 1, 3))
    found = tp.load("gru", var_b=0.5).kernel(points=1021)(x, None, "nngp", return_stderr=True)
    k = x[:, 0] @ x[:, 0].T / 3 + 0.5
    angle = 2 / np.pi * np.arcsin(2 * k / np.sqrt(np.outer(1 + 2 * np.diag(k), 1 + 2 * np.diag(k))))
    np.testing.assert_allclose(found.nngp[:, :, 0, 0], (1 + angle) / 4 * angle, atol=3e-4)


def test_standard_errors_are_honest(gru, tokens):
    """The truth, from many points, lies within three standard errors in 95 % of entries over seeds."""

    def found(seed):
        return gru.program.kernel(points=251, seed=seed)(tokens, None, ("nngp", "ntk"), return_stderr=True)

    many = [found(100 + seed) for seed in range(32)]
    seeds = [found(seed) for seed in range(12)]
    for name in ("nngp", "ntk"):
        truth = np.mean([getattr(k, name) for k in many], axis=0)
        inside = [abs(getattr(k, name) - truth) <= 3 * getattr(k, f"{name}_stderr") for k in seeds]
        assert np.mean(inside) > 0.95


def test_seeds(gru, tokens):
    first, again = gru(tokens, None, "nngp"), gru(tokens, None, "nngp")
    other = gru.program.kernel(points=251, seed=7)(tokens, None, "nngp")
    np.testing.assert_array_equal(first, again)
    assert 0 < abs(first - other).max() < 0.02


def test_symmetry_and_equal_inputs(gru, tokens):
    same = np.concatenate([tokens[:1], tokens[:1]])
    same[:, 1] = same[:, 0]  # equal tokens, too
    single = gru.program.kernel(points=251, dtype="float32")
    for found, tolerance in ((gru(same), 1e-10), (jax.jit(single)(same), 2e-4)):
        for value in found:
            assert np.isfinite(value).all()
            np.testing.assert_allclose(value[0, 1], value[0, 0], atol=tolerance)
            np.testing.assert_allclose(value, value.transpose(1, 0, 3, 2), atol=1e-6)
            assert np.linalg.eigvalsh(value[0, 0]).min() > -1e-6


def test_sequences_of_different_lengths(gru, tokens):
    long, short = tokens[0], tokens[1, :2]
    blocks = gru([long, short], None, "nngp")
    assert blocks[0][1].shape == (3, 2)
    np.testing.assert_allclose(blocks[1][0], blocks[0][1].T)
    whole = gru(long[None], tokens[1:], "nngp")[0, 0]
    np.testing.assert_allclose(blocks[0][1], whole[:, :2], atol=5e-3)  # an RNN does not look ahead


def test_gradients(gru, tokens):
    def total(w):
        return gru(tokens[:, :2], None, "nngp", params={"var_w": w}).sum()

    slope = jax.grad(total)(1.0)
    assert float(slope) == pytest.approx(float(total(1 + 1e-4) - total(1 - 1e-4)) / 2e-4, rel=1e-4)


def test_tolerance(tokens):
    k = tp.load("lstm").kernel(points=251)
    found = k(tokens[:1], None, "nngp", return_stderr=True, tol=2e-3)
    assert found.nngp_stderr.max() <= 2e-3 * abs(found.nngp).max()


def test_kernels_with_rules_have_no_error(tokens):
    found = tp.load("rnn").kernel()(tokens, return_stderr=True)
    assert found.nngp_stderr.max() == found.ntk_stderr.max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": -1}, "tol is a positive"),
        ({"points": 1000}, "points is one of 251"),
        ({"replicates": 1}, "at least 2"),
        ({"seed": -3}, "seed is an integer"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        tp.load("gru").kernel(**options)


def test_the_module_stands_alone(tmp_path: Path, gru, tokens):
    """`--emit kernel` of a program that is sampled needs only jax and numpy."""
    (tmp_path / "gru_kernel.py").write_text(module_source(gru.program.recursion), encoding="utf-8")
    np.save(tmp_path / "x.npy", tokens)
    code = (
        "import sys, jax; jax.config.update('jax_enable_x64', True); import numpy as np, gru_kernel; "
        "k = gru_kernel.kernel(np.load('x.npy'), get='nngp', points=251); np.save('k.npy', k); "
        "assert not [m for m in sys.modules if m.startswith(('tensorprog', 'sympy', 'scipy.stats'))]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    k = np.load(tmp_path / "k.npy")
    other = gru(tokens, tokens, "nngp")
    np.testing.assert_allclose(k, other, atol=1e-12)


def test_a_batch_too_small_for_its_own_ntk():
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    k = tp.load("batchnorm").kernel()
    with pytest.raises(tp.ProgramError, match="batch of 3 with itself is infinite"):
        k(x)
    with pytest.raises(tp.ProgramError, match="with itself"):
        k(x[:1], x)
    flat = np.random.default_rng(0).normal(size=(1, 8, 2))
    with pytest.raises(tp.ProgramError, match="varies in 2 directions"):
        k(flat)
    assert np.isfinite(k(flat, None, "nngp")).all()
    for nothing in (flat[:, :1], np.ones((1, 4, 3))):
        with pytest.raises(tp.ProgramError, match="0/0"):
            k(nothing, None, "nngp")
    assert k(x[:1], x[1:], "ntk").shape == (1, 1, 3, 3)


def test_erf_gates_by_hand():
    """Two steps of a GRU whose recurrent weights vanish: independent updates, by quadrature over the gate."""
    x = np.random.default_rng(3).normal(size=(1, 2, 2))
    k = tp.load("gru", var_w=0, var_b=0).kernel(points=4093)(x, None, "nngp")[0, 0]
    gram = x[0] @ x[0].T / 2
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights /= weights.sum()
    factor = np.linalg.cholesky(gram)
    a, b = np.meshgrid(nodes, nodes, indexing="ij")
    w = np.outer(weights, weights)
    z1, z2 = factor[0, 0] * a, factor[1, 0] * a + factor[1, 1] * b
    g1, g2 = (1 + erf(z1)) / 2, (1 + erf(z2)) / 2
    d = np.sqrt(np.outer(1 + 2 * np.diag(gram), 1 + 2 * np.diag(gram)))
    m = 2 / np.pi * np.arcsin(2 * gram / d)
    expected = np.sum(w * ((1 - g2) ** 2 * g1**2 * m[0, 0] + 2 * (1 - g2) * g1 * g2 * m[0, 1] + g2**2 * m[1, 1]))
    assert float(k[1, 1]) == pytest.approx(expected, rel=2e-4)


WIDE = """
program wide(T)
input x[t = 1..T] : R(d)
width m = 3 * n
weight U : A(m, d) ~ N(0, 1) / sqrt(d)
vector v : G(m) ~ N(0, 1)
output y := v.T @ max[t = 1..T](U @ x[t]) / sqrt(DIVISOR)
"""


@pytest.mark.parametrize(("divisor", "factor"), [("m", 1), ("n", 3)])
def test_readouts_of_another_width(divisor, factor):
    found = tp.parse(WIDE.replace("DIVISOR", divisor)).kernel()(np.ones((1, 1, 1)), return_stderr=True)
    assert float(found.nngp[0, 0]) == pytest.approx(factor, rel=5e-3)
    assert float(found.ntk[0, 0]) == pytest.approx(2 * factor, rel=5e-3)


ZERO_DATA = """
program zero_data(T)
input x[t = 1..T] : R(d)
weight U, Uz : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
for t = 1..T:
    e[t] := (x[t-1] else 0)
    h[t] := max(sigmoid(Uz @ x[t]) * tanh(U @ e[t]), tanh(U @ x[t]))
output y := v.T @ h[T] / sqrt(n)
"""


def test_zero_data(tokens):
    one = tp.parse(ZERO_DATA).kernel(points=251)(tokens[:, :1], None, "nngp")
    assert np.isfinite(one).all() and one[0, 0] > 0
