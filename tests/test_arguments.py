"""What a kernel is called with: shapes, sizes, dtypes, and the sentences for what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.arguments import Reader, bind_shapes, is_batch, read_argument, read_arguments
from tensorprog.data.sources import Digits

RNN = tp.load("rnn").ir
GCN = tp.load("gcn").ir
MLP = tp.load("mlp").ir

HALF = tp.parse(
    """program half(T)
input x[t = 1..2*T] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
output y[t = 1..T] := v.T @ relu(U @ x[2*t]) / sqrt(n)
"""
).ir


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def graph(nodes: int, samples: int = 3) -> dict[str, np.ndarray]:
    return {"x": data(samples, nodes, 4), "adj": data(samples, nodes, nodes)}


def test_sizes_are_read_off_the_data_of_each_argument():
    first, second = read_arguments(RNN, data(3, 5, 4), data(2, 7, 4))
    assert (first.sizes, first.features, first.count) == ({"T": 5}, {"d": 4}, 3)
    assert second.sizes == {"T": 7}
    assert first.shapes == {"x": (5, 4)}


def test_one_input_may_be_given_by_name():
    x = data(3, 5, 4)
    assert read_argument(RNN, {"x": x}).arrays["x"] is x


def test_several_inputs():
    argument = read_argument(GCN, graph(5))
    assert list(argument.arrays) == ["x", "adj"]
    assert argument.sizes == {"P": 5}


def test_a_length_may_be_an_expression():
    assert bind_shapes(HALF, {"x": (6, 4)})[0] == {"T": 3}
    with pytest.raises(ValueError, match=r"axis t of 'x' has length 2\*T, and no integer T makes it 7"):
        bind_shapes(HALF, {"x": (7, 4)})


@pytest.mark.parametrize(
    ("program", "x1", "message"),
    [
        (RNN, data(5, 4), r"x1: 'x' has the shape \(N1, T, d\), and an array of shape \(5, 4\) was given"),
        (RNN, 1.0, r"shape \(\) was given"),
        (RNN, None, "x1 is missing: the program rnn reads x"),
        (RNN, data(0, 5, 4), r"x1: 'x' has no samples: its shape is \(0, 5, 4\)"),
        (RNN, data(2, 0, 4), r"x1: 'x' has an axis of length 0"),
        (RNN, data(2, 5, 0), r"x1: 'x' has an axis of length 0"),
        (RNN, [[1, 2], [3]], "x1: 'x' is not an array of numbers"),
        (RNN, np.array([["a"]]), "data are real numbers"),
        (RNN, data(2, 5, 4) * 1j, "x1: 'x' holds complex numbers"),
        (RNN, np.array([[[None]]]), "data are real numbers"),
        (RNN, {"y": data(2, 5, 4)}, "no input 'y': it has x"),
        (GCN, data(2, 5, 4), "the program gcn reads x and adj: give a dict of arrays"),
        (GCN, {"x": data(2, 5, 4)}, "the data for 'adj' are missing"),
        (GCN, {**graph(5), "ajd": data(1)}, "no input 'ajd': did you mean 'adj'?"),
        (GCN, {**graph(5), "adj": data(2, 5, 5)}, "differ in the number of samples: 'x' has 3, 'adj' has 2"),
        (GCN, {**graph(5), "adj": data(3, 4, 4)}, "axis p of 'adj' has length 4, but P = 5 was read off axis p of 'x'"),
        (GCN, {**graph(5), "adj": data(3, 5, 4)}, "axis q of 'adj' has length 4, but P = 5"),
    ],
)
def test_what_does_not_fit_is_named(program, x1, message):
    with pytest.raises(ValueError, match=message):
        read_argument(program, x1)


def test_a_size_that_is_set_and_one_read_off_the_data_must_agree():
    program = tp.load("rnn", T=5).ir
    assert read_argument(program, data(2, 5, 4)).sizes == {}
    with pytest.raises(ValueError, match="axis t of 'x' has length 7, but the program has T = 5"):
        read_argument(program, data(2, 7, 4))


def test_features_agree_between_the_arguments():
    with pytest.raises(ValueError, match="x1 and x2 differ in d: 4 and 3 features"):
        read_arguments(RNN, data(2, 5, 4), data(2, 5, 3))


def test_the_second_argument_is_named_in_its_errors():
    with pytest.raises(ValueError, match=r"x2: 'x' has the shape \(N2, T, d\)"):
        read_arguments(RNN, data(2, 5, 4), data(5, 4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_are_finite(bad):
    x = data(2, 5, 4)
    x[1, 2, 3] = bad
    with pytest.raises(ValueError, match=rf"x2: 'x' holds {bad} at \[1, 2, 3\]"):
        read_arguments(RNN, data(2, 5, 4), x)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (np.float64, np.float64),
        (np.float32, np.float32),
        (np.float16, np.float32),
        (jnp.bfloat16, np.float32),
        (np.longdouble, np.float64),
        (np.int8, np.float64),
        (np.bool_, np.float64),
    ],
)
def test_dtypes(given, read):
    assert read_argument(MLP, np.ones((2, 3)).astype(given)).arrays["x"].dtype == read


def test_the_widest_dtype_of_all_data_is_taken():
    single, double = np.ones((2, 3), np.float32), np.ones((2, 3))
    assert {a.arrays["x"].dtype for a in read_arguments(MLP, single, double)} == {np.dtype(np.float64)}
    mixed = {"x": data(2, 3, 4).astype(np.float32), "adj": np.ones((2, 3, 3), int)}
    assert {a.dtype for a in read_argument(GCN, mixed).arrays.values()} == {np.dtype(np.float64)}


def test_a_dtype_that_is_asked_for():
    assert read_argument(MLP, np.ones((2, 3)), np.dtype(np.float32)).arrays["x"].dtype == np.float32
    with pytest.raises(ValueError, match=r"holds inf at \[0, 0\]"):
        read_argument(MLP, np.full((2, 3), 1e300), np.dtype(np.float32))


def test_lists_are_arrays():
    assert read_argument(MLP, [[1, 2], [3, 4]]).arrays["x"].dtype == np.float64


def test_tracers_pass_with_their_shapes_checked():
    seen = []

    def f(x):
        seen.append(read_argument(RNN, x))
        return x

    jax.jit(f)(jnp.ones((2, 5, 4)))
    assert seen[0].sizes == {"T": 5}
    with pytest.raises(ValueError, match="shape"):
        jax.jit(f)(jnp.ones((5, 4)))
    jax.jit(lambda x: f(jnp.arange(6).reshape(1, 2, 3)) + x)(1.0)  # a constant inside a trace is looked at in NumPy


def test_indices_are_checked_at_the_real_sizes():
    text = """program third(T)
input x[t = 1..T] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
output y := v.T @ relu(U @ x[3]) / sqrt(n)
"""
    program = tp.parse(text).ir
    for _ in range(2):  # the second time, the answer is remembered
        assert read_argument(program, data(2, 3, 4)).sizes == {"T": 3}
        with pytest.raises(tp.ProgramError, match=r"x\[3\] is out of range: x has t = 1..2") as caught:
            read_argument(program, data(2, 2, 4))
        assert (caught.value.line, caught.value.column) == (5, 28)


def test_digits_take_the_shape_of_the_input():
    digits = Digits(slice(0, 6))
    cnn, batchnorm = tp.load("cnn_flat").ir, tp.load("batchnorm").ir
    assert read_argument(MLP, digits).shapes == {"x": (64,)}
    assert read_argument(RNN, digits).shapes == {"x": (8, 8)}
    assert read_argument(cnn, digits).shapes == {"x": (8, 8, 1)}
    one_batch = read_argument(batchnorm, digits)
    assert (one_batch.count, one_batch.sizes, one_batch.features) == (1, {"B": 6}, {"d": 64})


def test_a_batch_is_what_batchnorm_runs_over():
    for name in ("batchnorm", "rnn", "mlp"):
        program = tp.load(name).ir
        assert is_batch(program, program.inputs[0]) == (name == "batchnorm")
    written_out = tp.parse(
        """program written_out(B)
input x[b = 1..B] : R(d)
weight W : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
h[b = 1..B] := W @ x[b]
output y[b = 1..B] := v.T @ relu(batchnorm[b = 1..B](h[b])) / sqrt(n)
"""
    ).ir
    assert is_batch(written_out, written_out.inputs[0])


def test_a_program_without_inputs_takes_none():
    program = tp.load("semicircle").ir
    assert read_argument(program, None).arrays == {}
    with pytest.raises(ValueError, match="has no inputs"):
        read_argument(program, data(2, 3))


def test_one_reader_reads_shape_after_shape():
    """What it keeps from one call to the next is of their shapes alone."""
    reader = Reader(RNN)
    long, short, few = (3, 5, 4), (2, 7, 4), (1, 5, 4)
    for first, second in [(long, short), (short, long), (few, long), (long, short)]:
        read = reader.read(data(*first), data(*second))
        fresh = read_arguments(RNN, data(*first), data(*second))
        for one, other in zip(read, fresh, strict=True):
            assert (one.sizes, one.features, one.count) == (other.sizes, other.features, other.count)
            np.testing.assert_array_equal(one.arrays["x"], other.arrays["x"])


def test_a_reader_gives_sizes_of_its_own_to_every_call():
    reader = Reader(RNN)
    reader.read(data(3, 5, 4))[0].sizes["T"] = 1
    assert reader.read(data(3, 5, 4))[0].sizes == {"T": 5}


def test_a_reader_refuses_each_time():
    reader = Reader(RNN)
    for _ in range(2):
        with pytest.raises(ValueError, match="x1 and x2 differ in d: 4 and 3 features"):
            reader.read(data(3, 5, 4), data(3, 5, 3))
        with pytest.raises(ValueError, match=r"x2: 'x' has the shape"):
            reader.read(data(3, 5, 4), data(3, 5))
        reader.read(data(3, 5, 4), data(3, 5, 4))
        with pytest.raises(ValueError, match=r"x2: .* data are finite"):
            reader.read(data(3, 5, 4), data(3, 5, 4) * np.nan)


def test_a_reader_looks_at_positions_again_where_shapes_are_known():
    reader = Reader(tp.load("embedding").ir)
    argument = {f.name: np.ones((2, 3), int) for f in reader.program.inputs}
    with pytest.raises(ValueError) as missing:
        reader.read(argument | {"t": np.full((2, 3), 10**6)})
    assert "1000000" in str(missing.value)
