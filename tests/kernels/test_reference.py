"""The reference arrays (tests/reference.npz): neural-tangents, the GP4A code and independent computations."""

import numpy as np
import pytest


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
