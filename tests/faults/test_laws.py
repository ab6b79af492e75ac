"""The width in the law of a readout and the width in the output are one account: what is counted twice is refused."""

import numpy as np
import pytest

import tensorprog as tp

HEAD = "program readout()\ninput x : R(d)\nweight W : A(n, d) ~ N(0, 1) / sqrt(d)\n"


def program(declarations: str, output: str):
    return tp.parse(f"{HEAD}{declarations}\noutput y := {output}\n")


@pytest.mark.parametrize(
    ("declarations", "output", "words"),
    [
        ("vector v : G(n) ~ N(0, 1 / n)", "v.T @ relu(W @ x) / sqrt(n)", "vanishes.*the law of 'v'"),
        ("vector v : G(n) ~ N(0, 1) / sqrt(n)", "v.T @ relu(W @ x) / sqrt(n)", "vanishes.*the law of 'v'"),
        ("vector v : G(n) ~ N(0, 1)", "v.T @ relu(W @ x) / n", r"vanishes.*divide it by sqrt\(n\)"),
        ("vector v : G(n) ~ N(0, 1)", "v.T @ relu(W @ x)", r"grows like sqrt\(n\).*divide it by sqrt\(n\)"),
        ("vector v : G(n) ~ N(0, 1 / n)", "v.T @ relu(W @ x) * sqrt(n)", "grows.*the law of 'v'"),
        ("vector v : G(n) ~ N(0, 1 / n**2)", "v.T @ relu(W @ x)", "vanishes.*the law of 'v'"),
        ("vector v, u : G(n) ~ N(0, 1)", "(v.T @ relu(W @ x)) / sqrt(n) + (u.T @ (W @ x)) / n", "part by 'u' vanishes"),
        (
            "vector v : G(n) ~ N(0, 1)\nvector u : G(n) ~ N(0, 1 / n)",
            "v.T @ relu(W @ x) / sqrt(n) + u.T @ (W @ x) / sqrt(n)",
            "part by 'u' vanishes.*the law of 'u'",
        ),
        ("vector v[k = 1..3] : G(n) ~ N(0, k / n)", "sum[k = 1..3](v[k].T @ (W @ x)) / sqrt(n)", "the law of 'v'"),
        (
            "width m = 2 * n\nweight V : A(m, n) ~ N(0, 1) / sqrt(n)\nvector v : G(m) ~ N(0, 1 / n)",
            "v.T @ relu(V @ relu(W @ x)) / sqrt(m)",
            r"the law of 'v'.*sqrt\(m\)",
        ),
        ("vector v : G(n) ~ N(0, 1)\nscalar c ~ N(0, 1)", "v.T @ (W @ x) / sqrt(n) + c / sqrt(n)", "'c' vanishes"),
    ],
)
def test_an_output_that_vanishes_or_grows_is_refused(declarations, output, words):
    with pytest.raises(tp.ProgramError, match=f"(?s){words}"):
        program(declarations, output).kernel()


@pytest.mark.parametrize(
    ("declarations", "output", "nngp", "ntk"),
    [
        ("vector v : G(n) ~ N(0, 1) / sqrt(n)", "v.T @ relu(W @ x)", 0.5, 1.0),
        ("vector v : G(n) ~ N(0, 1) / n", "v.T @ relu(W @ x) * sqrt(n)", 0.5, 1.0),
        # The variance of W is counted where it is written: Σ k · E relu² and 3 · E relu² + Σ k · E step.
        ("vector v[k = 1..3] : G(n) ~ N(0, k) / sqrt(n)", "sum[k = 1..3](v[k].T @ relu(W @ x))", 3.0, 4.5),
        ("vector v[k = 1..3] : G(n) ~ N(0, k / n)", "sum[k = 1..3](v[k].T @ relu(W @ x))", 3.0, None),
        # v starts at zero and is trained.
        ("vector v : G(n) ~ N(0, 0) / sqrt(n)", "v.T @ relu(W @ x)", 0.0, 0.5),
        # The part of v in the NTK vanishes like 1/n, and W's remains.
        ("vector v : G(n) ~ N(0, n) / sqrt(n)", "v.T @ relu(W @ x) / sqrt(n)", 0.5, 0.5),
    ],
)
def test_an_account_that_balances_has_its_kernels(declarations, output, nngp, ntk):
    made = program(declarations, output)
    k, x = made.kernel(), np.ones((1, 1))
    assert float(k(x, None, "nngp")[0, 0]) == pytest.approx(nngp, abs=1e-12)
    if ntk is None:
        with pytest.raises(tp.ProgramError, match="grows like n"):
            k(x, None, "ntk")
    else:
        assert float(k(x, None, "ntk")[0, 0]) == pytest.approx(ntk, abs=1e-12)
