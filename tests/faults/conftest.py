"""Short forms of small programs, and the data they run on."""

from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp

ONE = """program one()
input x : R(d)
weight W : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
def f(x) := {function}
output y := v.T @ f(W @ x) / sqrt(n)
"""

HEAD = """program head(P)
input x[p = 1..P] : R(d)
weight U, V : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
for p = 1..P:
    h[p] := U @ x[p]
    u[p] := V @ x[p]
"""


@pytest.fixture(scope="session")
def one():
    """one("tanh(x)"): the program v.T @ f(W @ x) / sqrt(n) of a function of x."""
    return lambda function: tp.parse(ONE.format(function=function))


@pytest.fixture(scope="session")
def head():
    """head(body): h[p] = U @ x[p] and u[p] = V @ x[p] for p = 1..P, a readout v, and the statements of `body`."""
    return lambda body, **parameters: tp.parse(HEAD + body, **parameters)


@pytest.fixture(scope="session")
def orthonormal():
    """orthonormal(P): data (1, P, P) with <x[p], x[q]>/d = 1 where p = q, else 0."""
    return lambda size: np.sqrt(size) * np.eye(size)[None]


@pytest.fixture(scope="session")
def text():
    """text("birnn"): the text of a program beside these tests."""
    return lambda name: (Path(__file__).parent / "programs" / f"{name}.netsor").read_text()
