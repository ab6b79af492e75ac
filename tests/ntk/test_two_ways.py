"""The NTK by one derivative of the forward recursion, and by the backward pass as a program: the same number."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tensorprog as tp
from tensorprog.backend.kernel import Kernel
from tests.ntk.by_backward import derive_ntk_by_backward


def by_backward(program: tp.Program, data: dict) -> np.ndarray:
    recursion = derive_ntk_by_backward(program.ir, program.backward().ir)
    return np.asarray(Kernel(recursion)(data, get="nngp"))


def relative(actual, expected) -> float:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all() and np.isfinite(expected).all()
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def trained(program: tp.Program) -> list[str]:
    return [f.name for f in program.ir.families.values() if f.law is not None and not f.fixed]


# ---------------------------------------------------------------- bundled programs

BUNDLED = {
    "mlp": ({"phi": "erf", "var_w": 1.5, "var_b": 0.3}, {"x": (3, 4)}),
    "resnet": ({"depth": 2, "phi": "tanh", "var_b": 0.3, "branch": 0.5}, {"x": (3, 4)}),
    "rnn": ({"phi": "sin", "var_w": 1.5, "var_b": 0.3, "var_v": 0.7}, {"x": (2, 3, 4)}),
    "rnn_avgpool": ({"phi": "relu", "var_u": 0.8, "var_b": 0.3}, {"x": (2, 3, 4)}),
    "cnn_flat": ({"depth": 2, "phi": "erf", "var_w": 1.5, "var_b": 0.3}, {"x": (2, 3, 4, 2)}),
    "cnn_pool": ({"depth": 2, "var_b": 0.3}, {"x": (2, 3, 4, 2)}),
    "gcn": ({"phi": "erf", "var_w": 1.5}, {"x": (2, 3, 4), "adj": (2, 3, 3)}),
    "transformer": ({"var_b": 0.3, "temp": 2}, {"x": (2, 3, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_programs(name):
    parameters, shapes = BUNDLED[name]
    rng = np.random.default_rng(1)
    data = {k: rng.normal(size=shape) if k == "x" else rng.uniform(size=shape) for k, shape in shapes.items()}
    program = tp.load(name, **parameters)
    kernel = program.kernel()
    ntk = kernel(data, get="ntk")
    assert relative(by_backward(program, data), ntk) < 1e-9
    if name in ("mlp", "rnn"):  # one compilation for each parameter
        parts = sum(np.asarray(kernel(data, get="ntk", wrt=(p,))) for p in trained(program))
        assert relative(parts, ntk) < 1e-11


# ---------------------------------------------------------------- random programs


@st.composite
def texts(draw) -> str:
    """A program of one to three layers on one input, two inputs or a short sequence."""
    flip = st.booleans()
    kind = draw(st.sampled_from(["one", "two", "sequence"]))
    sequence = kind == "sequence"
    at = "[t]" if sequence else ""
    data = [f"U1 @ x{at}"] + (["U2 @ z"] if kind == "two" else [])
    function = st.sampled_from(["erf", "relu", "tanh", "sin"])
    scale = st.sampled_from(["", "2 * ", "0.5 * ", "-"])
    used, start, body = set(), [], []

    def bias():
        b = draw(st.sampled_from(["", "b1", "b2"]))
        used.update({b} - {""})
        return f" + {b}" if b else ""

    def weight():
        w = draw(st.sampled_from(["W1", "W2"]))
        used.add(w)
        return w

    gaussian, other = [], []
    layers = draw(st.integers(1, 2 if sequence else 3))
    for k in range(1, layers + 1):
        terms = []
        if k == 1 or draw(st.integers(0, 3)) == 0:
            terms.append(draw(st.sampled_from(data)))
        if other:
            terms.append(f"{weight()} @ {draw(st.sampled_from(other))}")
        if sequence and (k == 1 or draw(flip)):
            start.append(f"s{k}[0] := 0")
            terms.append(f"{weight()} @ s{k}[t-1]")
        if gaussian and draw(flip):
            terms.append(f"{draw(scale).replace('-', '3 * ')}{draw(st.sampled_from(gaussian))}")
        body.append(f"h{k}{at} := {' + '.join(terms)}{bias()}")
        gaussian.append(f"h{k}{at}")
        value = f"{draw(function)}(h{k}{at})"
        extra = draw(st.sampled_from(["none", "none", "product", "skip"]))
        if extra == "product":
            value += f" * {draw(function)}({draw(st.sampled_from(gaussian))})"
        if extra == "skip" and other:
            value += f" + {draw(st.sampled_from(other))}"
        body.append(f"s{k}{at} := {value}")
        other.append(f"s{k}{at}")
    last = other[-1] + (f" + {draw(scale).strip('-')}{other[0]}" if layers > 1 and draw(flip) else "")
    last = f"({last})" if "+" in last else last
    joined = "\n".join(body)
    lines = ["program sample" + ("(T)" if sequence else "")]
    lines += ["input x[t = 1..T] : R(d)" if sequence else "input x : R(d)"]
    lines += ["input z : R(e)"] if "U2" in joined else []
    lines += ["weight U1 : A(n, d) ~ N(0, 1.2) / sqrt(d)"] if "U1" in joined else []
    lines += ["weight U2 : A(n, e) ~ N(0, 0.7) / sqrt(e)"] if "U2" in joined else []
    lines += [f"weight {w} : A(n, n) ~ N(0, {s}) / sqrt(n)" for w, s in (("W1", 0.9), ("W2", 1.3)) if w in used]
    lines += [f"vector {b} : G(n) ~ N(0, {s})" for b, s in (("b1", 0.2), ("b2", 0)) if b in used]
    lines += ["vector v : G(n) ~ N(0, 1.1)"]
    lines += start
    if sequence:
        lines += ["for t = 1..T:", *("    " + line for line in body)]
        lines += [draw(st.sampled_from([f"output y[t = 1..T] := v.T @ {last} / sqrt(n)",
                                        f"output y := mean[t = 1..T](v.T @ {last}) / sqrt(n)"]))]  # fmt: skip
    else:
        lines += [*body, f"output y := v.T @ {last} / sqrt(n)"]
    return "\n".join(lines) + "\n"


class Counts:
    tried = compared = 0


@settings(max_examples=10)
@given(text=texts())
def compare(text):
    Counts.tried += 1
    rng = np.random.default_rng(3)
    data = {"x": rng.normal(size=(2, 3, 2) if "x[t" in text else (2, 3))}
    if "input z" in text:
        data["z"] = rng.normal(size=(2, 2))
    try:
        program = tp.parse(text)
        ntk = program.kernel()(data, get="ntk")
        second = by_backward(program, data)
    except tp.ProgramError:
        assume(False)
    Counts.compared += 1
    assert relative(second, ntk) < 1e-9, text


def test_random_programs():
    compare()
    assert Counts.compared >= 8
    assert Counts.compared >= 0.7 * Counts.tried


# ---------------------------------------------------------------- laws

LAWS = """program laws(s = 1.7)
input  x : R(d)
weight U : A(n, d)  ~ {U}
weight W : A(n, n)  ~ {W}
vector b : G(n)     ~ {b}
vector v : G(n)     ~ {v}
h := W @ erf(U @ x) + b
output y := {y}
"""
PLAIN = {"U": "N(0, s) / sqrt(d)", "W": "N(0, s) / sqrt(n)", "b": "N(0, s)", "v": "N(0, s)"}
PLAIN |= {"y": "v.T @ erf(h) / sqrt(n)"}
S, X = 1.7, np.random.default_rng(2).normal(size=(2, 3))

# The same law written otherwise, and by how much that multiplies the part of the parameter in the NTK.
SAME = {
    "W in the NTK parametrization": ("W", {"W": "N(0, 1) * sqrt(s / n)"}, S),
    "W divided by a power": ("W", {"W": "N(0, 4 * s) / (2 * sqrt(n))"}, 1 / 4),
    "U in the NTK parametrization": ("U", {"U": "N(0, 1) * sqrt(s / d)"}, S),
    "U in the standard parametrization": ("U", {"U": "N(0, s / d)"}, 3),
    "b in the NTK parametrization": ("b", {"b": "N(0, 1) * sqrt(s)"}, S),
    "v in the NTK parametrization": ("v", {"v": "N(0, 1) * sqrt(s)"}, S),
    "v with the width in its multiplier": ("v", {"v": "N(0, s) / sqrt(n)", "y": "v.T @ erf(h)"}, 1),
}


def with_laws(**changes) -> tp.Program:
    return tp.parse(LAWS.format(**(PLAIN | changes)))


def parts_of(program) -> dict[str, np.ndarray]:
    kernel = program.kernel()
    return {p: np.asarray(kernel(X, get="ntk", wrt=(p,))) for p in trained(program)}


@pytest.fixture(scope="module")
def plain():
    return parts_of(with_laws())


@pytest.fixture(scope="module")
def plain_nngp():
    return np.asarray(with_laws().kernel()(X, get="nngp"))


@pytest.mark.parametrize("case", SAME)
def test_the_law_decides_the_part_of_its_parameter(case, plain, plain_nngp):
    name, changes, factor = SAME[case]
    nngp, ntk = with_laws(**changes).kernel()(X)
    np.testing.assert_allclose(nngp, plain_nngp, rtol=1e-12)
    expected = sum(part * (factor if p == name else 1) for p, part in plain.items())
    np.testing.assert_allclose(ntk, expected, rtol=1e-10)


@pytest.mark.parametrize("case", ["W divided by a power", "U in the standard parametrization"])
def test_laws_in_the_backward_pass(case, plain):
    name, changes, factor = SAME[case]
    expected = sum(part * (factor if p == name else 1) for p, part in plain.items())
    assert relative(by_backward(with_laws(**changes), {"x": X}), expected) < 1e-9


def test_the_backward_pass_of_a_scaled_readout(plain):
    program = with_laws(**SAME["v with the width in its multiplier"][1])
    assert relative(by_backward(program, {"x": X}), sum(plain.values())) < 1e-9


@pytest.mark.parametrize(
    ("name", "changes"),
    [("W", {"W": "N(0, s / n)"}), ("v", {"v": "N(0, s / n)", "y": "v.T @ erf(h)"})],
    ids=["weight", "readout"],
)
def test_standard_parametrization_is_an_error(name, changes, plain_nngp):
    program = with_laws(**changes)
    kernel = program.kernel()
    np.testing.assert_allclose(kernel(X, get="nngp"), plain_nngp, rtol=1e-12)
    with pytest.raises(tp.ProgramError, match=f"'{name}'.* grows"):
        kernel(X, get="ntk")
    with pytest.raises(tp.ProgramError):
        by_backward(program, {"x": X})


def test_a_bias_that_starts_at_zero_has_its_part():
    """N(0, 0) is trained with gradient 1; N(0, 1) * sqrt(0) is not moved at all."""
    trained_bias, constant = with_laws(b="N(0, 0)"), with_laws(b="N(0, 1) * sqrt(0)")
    part, none = (np.asarray(p.kernel()(X, get="ntk", wrt="b")) for p in (trained_bias, constant))
    assert (np.diag(part) > 0.1).all()
    np.testing.assert_allclose(none, 0, atol=1e-14)
    small = with_laws(b="N(0, 1e-9)").kernel()(X, get="ntk", wrt="b")
    np.testing.assert_allclose(part, small, rtol=1e-7)


@pytest.mark.parametrize("name", "UWbv")
def test_fixed_parameters_have_no_part(name, plain):
    text = LAWS.format(**PLAIN)
    line = next(row for row in text.splitlines() if row.split()[1:2] == [name])
    program = tp.parse(text.replace(line, "fixed " + line))
    ntk = np.asarray(program.kernel()(X, get="ntk"))
    np.testing.assert_allclose(ntk, sum(part for p, part in plain.items() if p != name), rtol=1e-11)


def test_a_part_of_several_parameters(plain):
    ntk = with_laws().kernel()(X, get="ntk", wrt=("W", "b"))
    np.testing.assert_allclose(ntk, plain["W"] + plain["b"], rtol=1e-12)
