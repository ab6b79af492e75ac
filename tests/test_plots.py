import matplotlib.pyplot as plt
import numpy as np
import pytest

from tensorprog.plots import block_matrix, correlation, is_self_kernel, plot_kernels


def _self_kernel(samples: int, outputs: int) -> np.ndarray:
    factor = np.random.default_rng(0).normal(size=(samples * outputs, 12))
    matrix = (factor @ factor.T).reshape(samples, outputs, samples, outputs)
    return matrix.transpose(0, 2, 1, 3)


def test_plain_kernels_are_their_own_matrix():
    kernel = np.arange(6.0).reshape(2, 3)
    laid_out = block_matrix(kernel)
    np.testing.assert_array_equal(laid_out.values, kernel)
    assert (laid_out.rows, laid_out.columns) == (1, 1)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((2, 3, 4, 5), 4, 5), ((2, 3, 4), 4, 1), ((2, 3, 2, 3, 4, 5), 6, 20), ((1, 1, 4, 4), 4, 4)],
)
def test_blocks(shape, rows, columns):
    kernel = np.random.default_rng(0).normal(size=shape)
    laid_out = block_matrix(kernel)
    assert (laid_out.rows, laid_out.columns) == (rows, columns)
    assert laid_out.values.shape == (shape[0] * rows, shape[1] * columns)
    for i, j in np.ndindex(shape[:2]):
        block = laid_out.values[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        np.testing.assert_array_equal(block, kernel[i, j].reshape(rows, columns))


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 2, 0, 1)])
def test_arrays_that_are_no_kernels(shape):
    with pytest.raises(ValueError, match="is not a kernel"):
        block_matrix(np.zeros(shape))


def test_self_kernels():
    matrix = block_matrix(_self_kernel(3, 2)).values
    assert is_self_kernel(matrix)
    assert is_self_kernel(matrix.astype(np.float32) * (1 + 1e-6))
    assert not is_self_kernel(matrix[:, :4])
    assert not is_self_kernel(matrix + np.triu(np.ones_like(matrix), 1))


def test_correlation():
    matrix = block_matrix(_self_kernel(3, 2)).values
    found = correlation(matrix)
    np.testing.assert_allclose(np.diagonal(found), 1.0)
    np.testing.assert_allclose(found[0, 3], matrix[0, 3] / np.sqrt(matrix[0, 0] * matrix[3, 3]))
    with np.errstate(all="raise"):
        found = correlation(np.array([[0.0, 0.0, 0.0], [0.0, 4.0, 1.0], [0.0, 1.0, -1e-9]]))
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def _png_size(path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def test_one_row_to_a_kernel_and_a_column_for_correlation(tmp_path):
    both, cross = tmp_path / "both.png", tmp_path / "cross.png"
    plot_kernels({"nngp": _self_kernel(4, 3), "ntk": _self_kernel(4, 3), "nngp_stderr": np.ones(1)}, both, title="rnn")
    plot_kernels({"nngp": np.ones((3, 4))}, cross)
    width, height = _png_size(cross)
    assert width > 500
    assert height > 500
    assert abs(_png_size(both)[0] - 2 * width) <= 1
    assert _png_size(both)[1] > 2 * height


def test_nothing_global_is_touched(tmp_path):
    plot_kernels({"nngp": _self_kernel(4, 1)[..., 0, 0]}, tmp_path / "K.png")
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_formats(tmp_path, suffix, start):
    path = tmp_path / f"K.{suffix}"
    plot_kernels({"ntk": np.eye(3)}, path)
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    "kernel",
    [
        np.zeros((3, 3)),
        np.full((2, 2), np.nan),
        np.array([[1.0, np.inf], [np.inf, 1.0]]),
        np.array([[5.0]]),
        np.ones((2, 2), dtype=np.float32),
        np.eye(3, dtype=int),
        np.full((3, 3), -2.0),
        np.random.default_rng(0).normal(size=(3, 2, 5)),
        np.random.default_rng(0).normal(size=(2100, 40)),
    ],
    ids=["zero", "nan", "inf", "one entry", "constant", "integers", "negative", "one output axis", "large"],
)
@pytest.mark.filterwarnings("error")
def test_unusual_kernels_are_drawn_without_a_warning(tmp_path, kernel):
    plot_kernels({"nngp": kernel}, tmp_path / "K.png")
    assert _png_size(tmp_path / "K.png")[0] > 500


@pytest.mark.parametrize(
    ("arrays", "name", "message"),
    [
        ({}, "K.png", "no kernel to plot"),
        ({"nngp_stderr": np.eye(2)}, "K.png", "no kernel to plot"),
        ({"nngp": np.eye(2)}, "K.jpg", r"must end in \.png"),
        ({"nngp": np.ones(3)}, "K.png", "is not a kernel"),
        ({"nngp": np.eye(2) * 1j}, "K.png", "does not hold real numbers"),
    ],
)
def test_mistakes(tmp_path, arrays, name, message):
    with pytest.raises(ValueError, match=message):
        plot_kernels(arrays, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
