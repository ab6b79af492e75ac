"""Whether a program is BP-like, by which vectors, and what is said where it is not."""

import re

import pytest
import sympy

import tensorprog as tp
from tensorprog.functions import lookup
from tensorprog.program.build import build
from tensorprog.theorem.bp_like import EVEN, INDEPENDENT, NEITHER, ODD, ZERO, analyse, join, parity, times

HEAD = """program p(s = 1, phi = erf)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W, Q : A(n, n) ~ N(0, 1) / sqrt(n)
vector v ~ N(0, 1)
vector b ~ N(0, s)
h := U @ x
g := W @ phi(h) + b
""".replace("vector v ~", "vector v : G(n) ~").replace("vector b ~", "vector b : G(n) ~")
OUTPUT = "output y := v.T @ phi(g) / sqrt(n)\n"


def of(text, **settings):
    return analyse(build(text, settings, "p.netsor"))


def body(text, head=HEAD):
    return of(head + text)


# ---------------------------------------------------------------- bundled programs


@pytest.mark.parametrize(
    "name", "mlp resnet rnn rnn_avgpool gru lstm batchnorm cnn_flat cnn_pool gcn transformer".split()
)
def test_programs_without_transposes(name):
    found = analyse(tp.load(name).ir if hasattr(tp.load(name), "ir") else build(tp.load(name).source, {}, name))
    assert found.holds and not found.transposes and not found.witnesses
    assert set(found.orientation.values()) == set(found.orientation)
    assert "no transpose" in found.reasons[0]
    assert found.simple_gia
