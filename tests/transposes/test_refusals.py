"""What has no limit is refused, with the reason."""

import numpy as np
import pytest

import tensorprog as tp

X = np.random.default_rng(0).normal(size=(2, 3))
TEXT = """program plain
input  x : R(d)
weight U : A(n, d)  ~ N(0, 1) / sqrt(d)
weight W : A(n, n)  ~ N(0, 1) / sqrt(n)
vector v : G(n)     ~ N(0, 1)
h := W @ {f}(U @ x)
output y := v.T @ {f}(h) / sqrt(n)
"""
PLAIN = TEXT.format(f="erf")


def refused(text, *words, get="nngp"):
    with pytest.raises(tp.ProgramError) as caught:
        tp.parse(text).kernel()(X, get=get)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return caught.value


def changed(old, new, text=PLAIN):
    assert old in text
    return text.replace(old, new)


def test_plain_is_not_refused():
    assert np.isfinite(np.asarray(tp.parse(PLAIN).kernel()(X).ntk)).all()


def test_readout_with_a_mean():
    error = refused(changed("vector v : G(n)     ~ N(0, 1)", "vector v : G(n)     ~ N(0.5, 1)"), "'v'", "has a mean")
    assert error.line == 5


@pytest.mark.parametrize(
    "body", ["h := W @ erf(U @ x) + v", "h := W @ erf(U @ x) * tanh(v)", "h := W @ erf(U @ x + v)"]
)
def test_readout_used_in_the_body(body):
    refused(changed("h := W @ erf(U @ x)", body), "'v'", "used in", "no Gaussian process")


def test_readout_that_is_computed():
    refused(changed("output y := v.T", "w := erf(v)\noutput y := w.T"))


@pytest.mark.parametrize(
    ("ending", "rate"), [("", "sqrt(n)"), (" * sqrt(n)", "n"), (" / sqrt(sqrt(n))", "n^(1/4)")]
)  # fmt: skip
def test_output_that_diverges(ending, rate):
    error = refused(changed("erf(h) / sqrt(n)", "erf(h)" + ending))
    assert "no limit" in error.message
    assert f"like {rate} " in error.message


def test_output_that_vanishes():
    refused(changed("v.T @ erf(h) / sqrt(n)", "v.T @ erf(h) / n"), "vanishes")


@pytest.mark.parametrize("f", ["step", "sign"])
def test_functions_that_jump_have_no_ntk(f):
    text = TEXT.format(f=f)
    refused(text, "jumps", "no NTK", get="ntk")
    nngp = np.asarray(tp.parse(text).kernel()(X, get="nngp"))
    assert np.isfinite(nngp).all()
    assert nngp[0, 0] == pytest.approx({"step": 0.5, "sign": 1}[f])


@pytest.mark.parametrize("f", ["step", "sign"])
def test_jumps_before_a_transpose_have_no_ntk(f):
    text = changed("h := W @ step(U @ x)", f"h := W @ (U @ x)\ng := W.T @ {f}(h)", TEXT.format(f="step"))
    refused(text.replace("step(h) / sqrt", "erf(g) / sqrt"), "jumps", get="ntk")


def test_standard_parametrization_has_no_ntk():
    text = changed("weight W : A(n, n)  ~ N(0, 1) / sqrt(n)", "weight W : A(n, n)  ~ N(0, 1 / n)")
    nngp = np.asarray(tp.parse(PLAIN).kernel()(X, get="nngp"))
    np.testing.assert_allclose(tp.parse(text).kernel()(X, get="nngp"), nngp, rtol=1e-14)
    refused(text, "'W'", "grows", get="ntk")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight W : A(n, n)  ~ N(0, 1) / sqrt(n)", "weight W : A(n, n)  ~ N(0, 1 / n)"),
        ("v.T @ erf(h) / sqrt(n)", "v.T @ erf(h)"),
    ],
)
def test_standard_parametrization_names_the_rate(old, new):
    text = changed(old, new)
    if "v.T @ erf(h)\n" in text:
        text = changed("vector v : G(n)     ~ N(0, 1)", "vector v : G(n)     ~ N(0, 1 / n)", text)
    refused(text, "like n", get="ntk")
