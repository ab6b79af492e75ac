"""What a kernel is called with besides data, and what one may do with programs and kernels."""

import copy
import pickle

import jax
import jax.export
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.backend.export import stablehlo

X = np.random.default_rng(0).normal(size=(3, 4))

MLP = """program two_layers(var_w = 2, slope = 0.1)
input x : R(d)
weight W1 : A(n, d) ~ N(0, 1) / sqrt(d)
weight W2 : A(n, n) ~ N(0, 1) * sqrt(var_w / n)
vector b : G(n) ~ N(0, 1)
vector v : G(n) ~ N(0, 1)
fixed vector c : G(n) ~ N(0, 1)
output y := v.T @ relu(W2 @ relu(W1 @ x) + b + c) / sqrt(n)
"""

SAMPLED = """program gate()
input x : R(d)
weight W, U : A(n, d) ~ N(0, 1) / sqrt(d)
weight V : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
z := sigmoid(W @ x) * tanh(U @ x) * tanh(W @ x + U @ x)
output y := v.T @ (tanh(V @ z + W @ x) * relu(V @ z - U @ x)) / sqrt(n)
"""


@pytest.fixture(scope="module")
def program():
    return tp.parse(MLP)


@pytest.fixture(scope="module")
def kernel(program):
    return program.kernel()


# ---------------------------------------------------------------- rates


def test_the_ntk_at_rates_is_the_sum_of_parts_times_rates(kernel):
    rates = {"W1": 2.0, "b": 0.25, "v": 0}
    parts = {p: kernel(X, None, "ntk", wrt=p) for p in ("W1", "W2", "b", "v")}
    right = sum(rates.get(p, 1) * part for p, part in parts.items())
    np.testing.assert_allclose(kernel(X, None, "ntk", rates=rates), right, rtol=1e-12)
    np.testing.assert_allclose(
        kernel(X, X[:2], "ntk", rates=rates, wrt=("W1", "v")), 2 * parts["W1"][:, :2], rtol=1e-12
    )
    np.testing.assert_allclose(kernel(X, rates=rates).nngp, kernel(X, None, "nngp"), rtol=1e-12)


def test_rates_may_be_traced(kernel):
    part = kernel(X, None, "ntk", wrt="W2")
    slope = jax.jit(jax.jacfwd(lambda r: kernel(X, None, "ntk", rates={"W2": r})))(3.0)
    np.testing.assert_allclose(slope, part, rtol=1e-12)


def test_rates_keep_the_dtype_of_the_data(kernel):
    assert kernel(X.astype(np.float32), None, "ntk", rates={"W2": np.float64(3)}).dtype == np.float32


def test_the_ntk_at_rates_of_what_is_sampled():
    k = tp.parse(SAMPLED).kernel(points=251, replicates=2)
    parts = {p: k(X[:2], None, "ntk", wrt=p) for p in ("W", "U", "V", "v")}
    right = parts["V"] * 3 + parts["W"] * 0.5 + parts["v"]
    np.testing.assert_allclose(k(X[:2], None, "ntk", rates={"V": 3.0, "W": 0.5, "U": 0}), right, rtol=1e-9)


def test_the_ntk_at_rates_of_a_fused_kernel(program, kernel):
    rates = {"W1": 2.0, "b": 0.25, "v": 0}
    fused = program.kernel(backend="fused")
    np.testing.assert_allclose(fused(X, None, "ntk", rates=rates), kernel(X, None, "ntk", rates=rates), rtol=1e-12)


def test_an_emitted_kernel_has_rates_too(program, kernel):
    namespace: dict = {}
    exec(program.kernel().backend.module.source, namespace)
    rates = {"W1": 2.0, "v": 0}
    right = kernel(X, None, "ntk", rates=rates)
    np.testing.assert_allclose(namespace["kernel"](X, None, "ntk", rates=rates), right, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wrt": {"v": 100.0}}, "rates="),
        ({"wrt": "c"}, "'c' is no trained parameter"),
        ({"wrt": 3}, "wrt is the name"),
        ({"rates": {"w2": 1.0}}, "trained are W1, W2"),
        ({"rates": {"c": 1.0}}, "no trained parameter"),
        ({"rates": {"W2": -1.0}}, "0 or more"),
        ({"rates": {"W2": "fast"}}, "is a number"),
        ({"rates": {"W2": [1.0, 2.0]}}, "one number"),
        ({"rates": {"W2": float("nan")}}, "finite"),
        ({"rates": 2.0}, "dict"),
        ({"params": 2.0}, "dict"),
        ({"params": {"var_w": "two"}}, "is a number"),
        ({"params": {"W2": 2.0}}, "no parameter 'W2'"),
    ],
)
def test_options_that_do_not_fit_are_refused(kernel, options, words):
    with pytest.raises(ValueError, match=words):
        kernel(X, None, "ntk", **options)


# ---------------------------------------------------------------- laws in a call


def test_a_negative_variance_in_a_call_is_the_error_of_loading_it(kernel):
    with pytest.raises(tp.ProgramError) as loaded:
        tp.parse(MLP, var_w=-1)
    with pytest.raises(tp.ProgramError) as called:
        kernel(X, params={"var_w": -1.0})
    assert (called.value.line, called.value.column) == (loaded.value.line, loaded.value.column)
    assert str(called.value).splitlines()[1:] == str(loaded.value).splitlines()[1:]
    kernel(X, params={"var_w": 0.0})
    jax.jit(lambda w: kernel(X, None, "nngp", params={"var_w": w}))(-1.0)  # what is traced is not looked at


def test_a_variance_by_index_is_looked_at_in_a_call_too():
    k = tp.parse(MLP.replace("vector b : G(n) ~ N(0, 1)", "vector b : G(n) ~ N(0, var_w - 1)")).kernel()
    with pytest.raises(tp.ProgramError, match="negative"):
        k(X, None, "nngp", params={"var_w": 0.5})


# ---------------------------------------------------------------- pickling, copies, hashes


def test_a_kernel_is_pickled_and_copied(program, kernel):
    options = {"tile": 2, "dtype": np.float32}
    one = pickle.loads(pickle.dumps(program.kernel(**options)))
    result = one(X, None, "nngp")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, kernel(X, None, "nngp"), rtol=1e-5)
    for other in (copy.copy(kernel), copy.deepcopy(kernel)):
        np.testing.assert_array_equal(other(X, None, "nngp"), kernel(X, None, "nngp"))
    sampled = tp.parse(SAMPLED).kernel(points=1021, replicates=3, seed=7)
    again = pickle.loads(pickle.dumps(sampled)).backend
    assert (again.points, again.replicates, again.seed) == (1021, 3, 7)


def test_programs_are_equal_and_hashed_by_text_and_settings():
    one, two, other = tp.parse(MLP), tp.parse(MLP, var_w=2), tp.parse(MLP, var_w=3)
    assert one == two and hash(one) == hash(two) and one != other
    assert {one: "a", two: "b", other: "c"} == {one: "b", other: "c"}
    assert one != MLP
    rnn = tp.load("rnn", phi="tanh", var_w="1/3")
    for p in (one, other, rnn, one.backward(), tp.load("rnn", T=4)):
        for again in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
            assert again == p and hash(again) == hash(p) and str(again) == str(p)
            assert again.parameters == p.parameters


def test_what_is_read_is_pickled_too(program):
    for what in (program.check(), program.derive("ntk"), program.network(8)):
        assert type(pickle.loads(pickle.dumps(what))) is type(what)
    with pytest.raises(tp.ProgramError) as caught:
        tp.parse(MLP.replace("W2 @", "W3 @"))
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value) and error.line == caught.value.line and error.hint == caught.value.hint


# ---------------------------------------------------------------- lists of different lengths, exports

STRIDED = """program strided(P)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight A : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[p = 1..P] := U @ x[p]
c[i = 1..P/2] := A @ relu(h[2*i])
output y := mean[i = 1..P/2](v.T @ relu(c[i])) / sqrt(n)
"""


@pytest.fixture(scope="module")
def strided():
    return tp.parse(STRIDED)


def test_each_of_a_list_has_the_derived_sizes_of_its_own_length(strided):
    k = strided.kernel()
    rng = np.random.default_rng(1)
    samples = [rng.normal(size=(length, 2)) for length in (4, 2, 5)]
    together = k(samples)
    for i, a in enumerate(samples):
        for j, b in enumerate(samples):
            alone = k(a[None], b[None])
            np.testing.assert_allclose([t[i, j] for t in together], [t[0, 0] for t in alone], rtol=1e-12)
    # The mean over P/2 equal entries of ones is as large at every length.
    np.testing.assert_allclose(k([np.ones((4, 1)), np.ones((2, 1))], None, "nngp"), np.full((2, 2), 0.25), rtol=1e-12)


OWN_LENGTH = STRIDED[: STRIDED.index("c[i")].replace("(P)", "(P, Q = 2)")
MEAN = "output y := mean[i = 1..Q](v.T @ relu(c[i])) / sqrt(n)\n"
OWN_LENGTHS = {
    "2*i": f"c[i = 1..Q] := A @ (relu(h[2*i]) else 0)\n{MEAN}",
    "2*i+a": f"c[i = 1..Q] := sum[a = -1..1](A @ (relu(h[2*i+a]) else 0))\n{MEAN}",
    "i+a": f"c[i = 1..Q] := mean[a = 0..1]((relu(h[i+a]) else 0))\n{MEAN}",
    "(i+1)/2": f"c[i = 1..Q] := A @ relu(h[(i+1)/2])\n{MEAN}",
    "2*i-1": "output y := mean[i = 1..Q](v.T @ relu(h[2*i-1])) / sqrt(n)\n",
}
SAME_LENGTH = {
    "the first": f"c[i = 1..Q] := A @ relu(h[i])\n{MEAN}",
    "the last": f"c[i = 1..Q] := A @ relu(h[P+1-i])\n{MEAN}",
    "a filter": f"c[i = 1..P] := sum[a = 0..Q-1](A @ (relu(h[i+a]) else 0))\n{MEAN}".replace("1..Q](v", "1..P](v"),
}


@pytest.mark.parametrize("index", OWN_LENGTHS)
def test_samples_of_two_lengths_through_a_layer_of_one_length_are_refused(index):
    k = tp.parse(OWN_LENGTH + OWN_LENGTHS[index]).kernel()
    long, short = np.ones((4, 1)), np.ones((2, 1))
    with pytest.raises(ValueError, match=r"differ in P: 4 and 2, while .* Q = 2") as caught:
        k([long, short], get="nngp")
    assert f"index {index} " in str(caught.value) and "1..P/2" in str(caught.value)
    with pytest.raises(ValueError, match="differ in P: 4 and 2"):
        k(long[None], short[None], "nngp")


@pytest.mark.parametrize("kind", SAME_LENGTH)
def test_windows_of_a_set_length_are_of_samples_of_all_lengths(kind):
    k = tp.parse(OWN_LENGTH + SAME_LENGTH[kind]).kernel()
    samples = [np.ones((4, 1)), np.ones((2, 1))]
    np.testing.assert_allclose(k(samples, get="nngp")[0, 0], k(samples[0][None], get="nngp")[0, 0], rtol=1e-12)


def test_a_network_that_runs_backwards_is_exported(text):
    k = tp.parse(text("birnn"), phi="erf").kernel()
    artifact = stablehlo(k.backend, {"x": (3, 2)})
    x1, x2 = (np.random.default_rng(2).normal(size=(n, 3, 2)) for n in (3, 2))
    found = jax.export.deserialize(bytearray(artifact)).call({"x": x1}, {"x": x2})
    for one, other in zip(found, k(x1, x2), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_shapes_of_an_export_must_fit(text):
    with pytest.raises(ValueError, match="T = 3"):
        stablehlo(tp.parse(text("birnn"), T=3, phi="erf").kernel().backend, {"x": (4, 2)})


# ---------------------------------------------------------------- what is no data, no option, no program

NO_DATA = [
    {},
    {"z": X},
    "digits",
    np.array(["a"]),
    np.array([["2020-01-01"]], dtype="M8[D]"),
    object(),
    3.0,
    [None],
    [[1, 2], [1]],
    {1, 2},
    (i for i in (1, 2)),
    np.ones((0, 4)),
    np.ones((2, 0)),
    np.full((2, 4), np.nan),
    X * 1j,
    len,
]


@pytest.mark.parametrize("data", NO_DATA, ids=lambda d: type(d).__name__)
def test_what_is_no_data_is_refused_in_one_sentence(program, kernel, strided, data):
    ragged, listed = strided.kernel(), [np.ones((4, 4)), np.ones((2, 4))]
    init, _ = program.network(4)
    calls = [
        lambda: kernel(data),
        lambda: kernel(X, data),
        lambda: ragged(listed, data),
        lambda: ragged([*listed, data]),
        lambda: init(jax.random.key(0), data),
        lambda: tp.verify(program, data, widths=[4], seeds=1),
        lambda: kernel(X, None, data),
        lambda: kernel(X, rates=data) if data != {} else kernel(data),
        lambda: kernel(X, params={"var_w": data}) if not isinstance(data, float) else kernel(data),
    ]
    for call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [[1, 2], "two", object(), np.ones(3), {"a": 1}, -1, len])
def test_what_is_no_option_is_refused_in_one_sentence(program, kernel, option):
    calls = [
        lambda: program.kernel(tile=option),
        lambda: program.kernel(dtype=option),
        lambda: program.kernel(backend=option),
        lambda: program.kernel(points=option),
        lambda: program.kernel(replicates=option),
        lambda: program.kernel(seed=option),
        lambda: program.kernel(tol=option),
        lambda: program.network(option),
        lambda: program.derive(option),
        lambda: tp.verify(program, X, widths=option) if option != [1, 2] else program.network(option),
        lambda: kernel.save(option, X),
        lambda: tp.verify(option, X),
        lambda: tp.load(option),
        lambda: tp.parse(MLP, var_w=option),
    ]
    for call in calls:
        with pytest.raises((ValueError, tp.ProgramError)):
            call()
