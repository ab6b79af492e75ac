"""The reference arrays (tests/reference.npz): neural-tangents, the GP4A code and independent computations."""

import numpy as np
import pytest

import tensorprog as tp


@pytest.fixture
def two_sentences(reference):
    """ "The brown fox jumps over the dog" and "The quick brown fox jumps over the lazy dog", one run each."""
    tokens, (first, _) = reference["glove_vectors"], reference["glove_lengths"]
    return tokens[None, :first], tokens[None, first:]


def all_tokens(kernel, one, two):
    """The kernel of all tokens of two sentences of different lengths, in blocks."""
    return np.block([[np.asarray(kernel(x, y, "nngp")[0, 0]) for y in (one, two)] for x in (one, two)])


def test_rnn(kernel, reference, two_sentences, close):
    close(all_tokens(kernel("rnn"), *two_sentences), reference["rnn_gp"], 1e-10)


def test_transformer(kernel, reference, two_sentences, close):
    k = kernel("transformer", depth=2, var_u=2, var_w=3, var_b=0.1)
    close(all_tokens(k, *two_sentences), reference["transformer_gp"], 1e-9)


def test_ntk_of_the_rnn_with_average_pooling(kernel, reference, two_sentences, close):
    x = np.concatenate([sentence[:, :5] for sentence in two_sentences])
    close(kernel("rnn_avgpool", var_u=2, var_b=0.2)(x, None, "ntk"), reference["rnn_ntk_avgpool"], 1e-10)


@pytest.mark.parametrize("phi", ["relu", "erf", "gelu", "sin"])
def test_fully_connected(kernel, reference, close, phi):
    x = reference["digits"].reshape(32, 64)
    # W_std = 1.3 and b_std = 0.4 of neural-tangents are variances 1.69 and 0.16.
    nngp, ntk = kernel("mlp", depth=3, phi=phi, var_w=1.69, var_b=0.16)(x[:6], x[6:11])
    close(nngp, reference[f"fcn_{phi}_nngp"])
    close(ntk, reference[f"fcn_{phi}_ntk"])


@pytest.mark.parametrize("readout", ["flat", "pool"])
def test_convolutional(kernel, reference, close, readout):
    x = reference["digits"][..., None]
    nngp, ntk = kernel(f"cnn_{readout}", depth=3, var_w=1.96, var_b=0.04)(x[:6], x[6:11])
    close(nngp, reference[f"cnn_{readout}_nngp"])
    close(ntk, reference[f"cnn_{readout}_ntk"])


def test_transformer_ntk(reference):
    """Attention over all tokens, no biases, one layer, the output averaged: the first five words of both sentences."""
    text = tp.load("transformer").ir.source
    for old, new in (
        ("j = 1..i", "j = 1..T"),
        (" + b1[l]", ""),
        (" + b2[l]", ""),
        (
            "output o[i = 1..T] := v.T @ z[depth, i] / sqrt(n)",
            "output o := mean[i = 1..T](v.T @ z[depth, i]) / sqrt(n)",
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    text = "\n".join(line for line in text.split("\n") if not line.startswith("vector b1"))
    words, lengths = reference["glove_vectors"], reference["glove_lengths"]
    x = np.stack([words[:5], words[lengths[0] : lengths[0] + 5]])
    ntk = tp.parse(text, depth=1).kernel()(x, None, "ntk")
    np.testing.assert_allclose(ntk, reference["transformer_ntk"], rtol=1e-8)
