"""`check`: language, BP-likeness, nonlinearities, which limits exist."""

import json
import re

import pytest

import tensorprog as tp

HEAD = """program p(s = 1)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector v, u : G(n) ~ N(0, 1)
h := U @ x
"""
OUTPUT = "output y := v.T @ z / sqrt(n)\n"


def check(body: str, head: str = HEAD):
    return tp.parse(head + body).check()


@pytest.mark.parametrize(
    ("names", "language", "bp_like"),
    [
        ("mlp rnn rnn_avgpool gru lstm batchnorm cnn_flat cnn_pool gcn", "Netsor", True),
        ("transformer", "Netsor+", True),
        ("tied_autoencoder semicircle", "Netsor⊤", False),
    ],
)
def test_bundled_programs(names, language, bp_like):
    for name in names.split():
        report = tp.load(name).check()
        assert (name, report.language, report.bp_like) == (name, language, bp_like)
        assert report.reasons and all(report.reasons)


@pytest.mark.parametrize(
    ("body", "language"),
    [
        ("z := relu(W @ relu(h))\n" + OUTPUT, "Netsor"),
        ("z := relu(W.T @ relu(h))\n" + OUTPUT, "Netsor⊤"),
        ("z := layernorm(h)\n" + OUTPUT, "Netsor+"),
        ("c := <h, h> / n\nz := relu(h) / sqrt(1 + c)\n" + OUTPUT, "Netsor+"),
        ("z := relu(h)\nc := <h, h> / n\n" + OUTPUT, "Netsor+"),
        ("z := relu(h)\noutput m := sqrt(<z, z> / n)\n", "Netsor"),
        ("z := relu(h)\noutput m := <W @ z, z> / n\n", "Netsor"),
        ("output y := v.T @ layernorm(h) / sqrt(n)\n", "Netsor+"),
        ("output y := v.T @ (W.T @ relu(h)) / sqrt(n)\n", "Netsor⊤"),
        ("z := W.T @ layernorm(h)\n" + OUTPUT, "Netsor⊤+"),
        ("V := Trsp(W)\nz := Trsp(V) @ relu(h)\n" + OUTPUT, "Netsor"),
        ("V := W.T\nz := relu(h)\n" + OUTPUT, "Netsor"),
        ("c := s * 2\nz := c * relu(h)\n" + OUTPUT, "Netsor"),
        ("output y := v.T @ relu(h) / sqrt(n)\n", "Netsor"),
    ],
)
def test_language(body, language):
    assert check(body).language == language


FORWARD = """program p(L = 3, phi = erf)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W[l = 2..L] : A(n, n) ~ N(0, 1) / sqrt(n)
vector b[l = 1..L], v, u : G(n) ~ N(0, 1)
h[1] := U @ x + b[1]
for l = 2..L:
    h[l] := W[l] @ phi(h[l-1]) + b[l]
"""
BACKWARD = """d_h[L] := v * D(phi)(h[L])
for l = L..2 by -1:
    d_h[l-1] := W[l].T @ d_h[l] * D(phi)(h[l-1])
output m := <d_h[1], d_h[1]> / n
"""


@pytest.mark.parametrize(
    ("body", "bp_like"),
    [
        (BACKWARD, True),
        (BACKWARD.replace("v *", "(v + u) *"), True),  # odd in both together
        (BACKWARD.replace("v *", "(v + v ** 3) *"), True),
        (BACKWARD.replace("v *", "sin(v) *"), True),
        (BACKWARD.replace("v *", "v ** 2 *"), False),
        (BACKWARD.replace("v *", "relu(v) *"), False),
        (BACKWARD.replace("v *", "(v + 1) *"), False),
        (BACKWARD.replace("v *", "h[1] *"), False),
        (BACKWARD.replace("v *", "W[2] @ v *"), False),  # W multiplies what depends on v
        ("g := W[2] @ v\n" + BACKWARD, False),
        ("for l = 2..L:\n    g[l] := W[l].T @ h[1]\noutput m := <g[2], g[2]> / n\n", False),
    ],
)
def test_bp_like(body, bp_like):
    report = tp.parse(FORWARD + body).check()
    assert report.bp_like == bp_like
    assert "⊤" in report.language


def test_which_of_a_matrix_and_its_transpose_is_written_plain_does_not_matter():
    swapped = (FORWARD + BACKWARD).replace("W[l].T @ d_h", "W[l] @ d_h").replace("W[l] @ phi", "W[l].T @ phi")
    assert tp.parse(swapped).check().bp_like
    assert check("z := relu(W.T @ relu(h))\n" + OUTPUT).bp_like


def test_a_mean_rules_a_vector_out():
    assert not tp.parse((FORWARD + BACKWARD).replace("N(0, 1)\nh", "N(1, 1)\nh")).check().bp_like


@pytest.mark.parametrize(
    ("function", "growth", "smoothness"),
    [
        ("erf(h)", "bounded", "smooth"),
        ("relu(h)", "polynomial", "kink at 0"),
        ("leaky_relu(h, slope = 0.2)", "polynomial", "kink at 0"),
        ("step(h)", "bounded", "jump at 0"),
        ("exp(h)", "exponential", "smooth"),
        ("max(h, U @ x)", "polynomial", "kink at"),
        ("D(erf)(h)", "bounded", "smooth"),
        ("D(relu)(h)", "bounded", "jump at 0"),
        ("h ** 3", "polynomial", "smooth"),
        ("relu(h - 1)", "polynomial", "kink at"),
    ],
)
def test_nonlinearities(function, growth, smoothness):
    (found,) = check(f"z := {function}\n{OUTPUT}").nonlinearities
    assert found.growth == growth
    assert found.smoothness.startswith(smoothness)


def test_a_function_that_is_a_parameter_is_shown_as_what_it_is():
    (found,) = tp.load("rnn", phi="tanh").check().nonlinearities
    assert (found.name, found.expression) == ("phi(x)", "tanh(x)")
    shown = str(tp.load("gru").check())
    assert "gate(x) = erf(x)/2 + 1/2: growth bounded; smooth" in shown


def test_the_limits_exist():
    report = tp.load("transformer").check()
    assert report.nngp.exists and report.ntk.exists


@pytest.mark.parametrize(("name", "sampled"), [("gru", True), ("lstm", True), ("batchnorm", False)])
def test_what_is_sampled(name, sampled):
    report = tp.load(name).check()
    for limit in (report.nngp, report.ntk):
        assert limit.exists and limit.derived and limit.sampled == sampled
    assert ("NNGP            exists (sampled)\nNTK             exists (sampled)\n" in str(report) + "\n") == sampled
    assert report.json()["ntk"]["sampled"] == sampled


@pytest.mark.parametrize(
    ("body", "nngp", "ntk"),
    [
        ("z := step(h)\n" + OUTPUT, "", "step.* jumps"),
        ("z := exp(h ** 2)\n" + OUTPUT, "grows faster in h than the Master Theorem allows", "grows faster"),
        ("output y := v.T @ relu(h)\n", "grows", "grows"),
    ],
)
def test_limits_that_do_not_exist(body, nngp, ntk):
    report = check(body)
    assert report.nngp.exists == (not nngp)
    assert not report.ntk.exists
    for limit, pattern in ((report.nngp, nngp), (report.ntk, ntk)):
        assert re.search(pattern, limit.reason)


def test_the_standard_parametrization_has_no_ntk():
    report = check("z := relu(W @ relu(h))\n" + OUTPUT, HEAD.replace("N(0, 1) / sqrt(n)", "N(0, 1 / n)"))
    assert report.nngp.exists
    assert not report.ntk.exists
    assert "'W'" in report.ntk.reason


def test_the_backward_pass_through_exp_is_outside_the_theorem():
    report = tp.load("mlp", phi="exp").check()
    assert report.nngp.exists and not report.nngp.reason
    assert report.ntk.exists
    assert "exponentially" in report.ntk.reason


def test_the_report_as_json_and_as_text():
    report = tp.load("gcn", P=4).check()
    plain = json.loads(json.dumps(report.json()))
    assert plain["language"] == "Netsor"
    assert plain["bp_like"] is True
    assert plain["nngp"] == {"exists": True, "reason": "", "derived": True, "sampled": False}
    assert plain["inputs"][1] == {"name": "adj", "type": "C", "axes": ["p = 1..P", "q = 1..P"]}
    assert {"name": "P", "kind": "size", "value": "4"} in plain["parameters"]
    shown = str(report)
    for part in ("language        Netsor", "adj[p = 1..P, q = 1..P] : C", "phi = relu", "NNGP            exists"):
        assert part in shown


def test_sizes_and_reals_may_stay_open():
    report = tp.parse(HEAD.replace("s = 1", "s") + "z := s * relu(h)\n" + OUTPUT).check()
    assert report.nngp.exists
    assert "s: open" in str(report)
    assert "T: read off the data" in str(tp.load("rnn").check())
