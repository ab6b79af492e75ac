import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorprog.data import Digits, Source, digit_labels, digits, fit_digits, parse_source, read_array, sentences
from tensorprog.data.sentences import word_vector


def test_digits_agree_with_the_reference(reference):
    np.testing.assert_array_equal(digits(slice(32)), reference["digits"])


def test_digits_are_all_there():
    images = digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float64
    assert (images.min(), images.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(digit_labels(slice(10)), np.arange(10))
    assert np.bincount(digit_labels()).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_not_shared_with_the_caller():
    digits(slice(2))[:] = 7.0
    assert digits(slice(2)).max() <= 1.0


def test_sentences():
    first, second = sentences()
    assert (first.shape, second.shape) == ((7, 32), (9, 32))
    np.testing.assert_allclose((second**2).mean(1), 1.0)
    np.testing.assert_array_equal(first[1], second[2])  # brown
    np.testing.assert_array_equal(first[0], first[5])  # The, the
    assert [s.shape for s in sentences(slice(1, 2))] == [(9, 32)]
    with pytest.raises(ValueError, match="selection of sentences is empty"):
        sentences(slice(2, 3))


def test_word_vectors_stay_what_they_are():
    signs = np.sign(word_vector("dog")).astype(int)
    assert "".join(" +-"[s] for s in signs) == "+ --++- - --+-+----+ -+++- -- ++"
    assert word_vector("jumps") @ word_vector("jump") > 16 > abs(word_vector("jumps") @ word_vector("dog"))


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("sentences", (2, 7, 32)),
        (" sentences[:] ", (2, 7, 32)),
        ("sentences[:1]", (1, 7, 32)),
        ("sentences[1]", (1, 9, 32)),
        ("sentences[-1]", (1, 9, 32)),
    ],
)
def test_selections_of_sentences(spec, shape):
    assert read_array(spec).shape == shape


@pytest.mark.parametrize(
    ("spec", "message"),
    [("sentences[2:]", "selection of sentences is empty"), ("sentences[a]", r"write it as sentences\[:100\]")],
)
def test_sentences_that_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        read_array(spec)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("A.npy", Source(None, "A.npy")),
        ("x=A.npy", Source("x", "A.npy")),
        ("adj = B.npz:adj", Source("adj", "B.npz:adj")),
        ("x=digits[:100]", Source("x", "digits[:100]")),
        ("./a=b.npy", Source(None, "./a=b.npy")),
        ("x=a=b.npy", Source("x", "a=b.npy")),
    ],
)
def test_parse_source(text, source):
    assert parse_source(text) == source


@pytest.mark.parametrize("text", ["", "x=", "  "])
def test_parse_source_of_nothing(text):
    with pytest.raises(ValueError, match="no data"):
        parse_source(text)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("digits", slice(None)),
        ("digits[:100]", slice(None, 100)),
        ("digits[100:200]", slice(100, 200)),
        ("digits[ 10 : 20 : 3 ]", slice(10, 20, 3)),
        ("digits[-5:]", slice(-5, None)),
        ("digits[::-1]", slice(None, None, -1)),
        ("digits[3]", slice(3, 4)),
        ("digits[-1]", slice(-1, None)),
    ],
)
def test_selections_of_digits(spec, expected):
    read = read_array(spec)
    assert read == Digits(expected)
    np.testing.assert_array_equal(read.images, digits()[expected])


@pytest.mark.parametrize("spec", ["digits[5:5]", "digits[2000:]", "digits[1797]", "digits[:0]"])
def test_empty_selections(spec):
    with pytest.raises(ValueError, match="selection of digits is empty"):
        read_array(spec)


@pytest.mark.parametrize("spec", ["digits[a:b]", "digits[]", "digits[1:2:3:4]", "digits[::0]", "digits[1.5:]"])
def test_unreadable_selections(spec):
    with pytest.raises(ValueError, match="cannot read the selection"):
        read_array(spec)


@pytest.mark.parametrize(
    ("axes", "features", "batch", "shape"),
    [
        (0, True, False, (5, 64)),
        (1, True, False, (5, 8, 8)),
        (2, True, False, (5, 8, 8, 1)),
        (1, False, False, (5, 64)),
        (2, False, False, (5, 8, 8)),
        (3, False, False, (5, 8, 8, 1)),
        (1, True, True, (1, 5, 64)),
        (2, True, True, (1, 5, 8, 8)),
        (3, True, True, (1, 5, 8, 8, 1)),
    ],
)
def test_fit_digits(axes, features, batch, shape):
    images = digits(slice(5))
    fitted = fit_digits(images, axes, features, batch=batch)
    assert fitted.shape == shape
    np.testing.assert_array_equal(fitted.ravel(), images.ravel())
    assert fitted.shape[1:-1] == shape[1:-1]


@pytest.mark.parametrize(("axes", "features", "batch"), [(3, True, False), (0, False, False), (0, True, True)])
def test_digits_that_do_not_fit(axes, features, batch):
    with pytest.raises(ValueError, match="do not fit an input"):
        fit_digits(digits(slice(5)), axes, features, batch=batch)


@pytest.mark.parametrize(
    ("stored", "read"),
    [("f4", "f4"), (">f4", "f4"), ("f2", "f4"), ("f8", "f8"), (">f8", "f8"), ("i8", "f8"), ("u1", "f8"), ("?", "f8")],
)
def test_dtypes(tmp_path, stored, read):
    values = np.array([[0, 1], [1, 1]], dtype=stored)
    np.save(tmp_path / "A.npy", values)
    array = read_array(str(tmp_path / "A.npy"))
    assert array.dtype == np.dtype(read)
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, values)


def test_archives(tmp_path):
    path = str(tmp_path / "A.npz")
    np.savez(path, a=np.ones((2, 3)), b=np.zeros((4, 5)))
    assert read_array(f"{path}:b").shape == (4, 5)
    with pytest.raises(ValueError, match=r"several arrays, so say which: it has a, b"):
        read_array(path)
    with pytest.raises(ValueError, match=r"no array 'c': it has a, b"):
        read_array(f"{path}:c")
    np.savez_compressed(path, only=np.ones((2, 3)))
    assert read_array(path).shape == (2, 3)
    np.savez(path)
    with pytest.raises(ValueError, match="has no arrays"):
        read_array(path)


def test_a_key_of_a_plain_file(tmp_path):
    np.save(tmp_path / "A.npy", np.ones(3))
    os.rename(tmp_path / "A.npy", tmp_path / "A.npz")
    with pytest.raises(ValueError, match="no key 'k'"):
        read_array(f"{tmp_path}/A.npz:k")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1j]), "complex"),
        (np.array(["a"]), "text"),
        (np.array([b"a"]), "text"),
        (np.array([{}], dtype=object), "Python objects"),
        (np.zeros(2, dtype="M8[s]"), "datetime64"),
        (np.zeros(2, dtype=[("a", "f8")]), "real numbers"),
        (np.zeros((0, 3)), "is empty"),
        (np.array(1.0), "single number"),
        (np.array([1.0, np.nan]), "infinities or NaN"),
        (np.array([1.0, np.inf], dtype=np.float32), "infinities or NaN"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_that_are_refused(tmp_path, values, message, suffix):
    path = str(tmp_path / f"A{suffix}")
    np.savez(path, values) if suffix == ".npz" else np.save(path, values)
    with pytest.raises(ValueError, match=message) as caught:
        read_array(path)
    assert path in str(caught.value)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot read .*none\.npy: no such file"):
        read_array(str(tmp_path / "none.npy"))
    with pytest.raises(FileNotFoundError, match=r"cannot read .*none\.npz"):
        read_array(f"{tmp_path}/none.npz:key")
    with pytest.raises(OSError, match="is a directory"):
        read_array(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read_array(str(tmp_path / "pipe"))


def _npy_with_shape(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x09\x09 from the future",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': oh no}",
        b"PK",
        b"PK\x03\x04 but no archive",
        b"x,y\n1,2\n",
        b"\x80\x04K\x01.",  # a pickle
        bytes(range(256)),
        _npy_with_shape("(5, 5)") + b"\x00" * 100,
        _npy_with_shape("(10**15,)"),
        _npy_with_shape("(1000000000000000,)"),
        _npy_with_shape("(9223372036854775807, 3)"),
        _npy_with_shape("('a',)"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_rubbish_is_a_valueerror_that_names_the_file(tmp_path, content, suffix):
    path = tmp_path / f"A{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"A\.np. is (empty|not a|damaged)") as caught:
        read_array(str(path))
    assert "\n" not in str(caught.value)


@given(st.data())
def test_any_truncation_or_flipped_byte_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged"
    with open(path, "wb") as file:
        if data.draw(st.booleans(), label="archive"):
            np.savez_compressed(file, a=np.arange(12.0))
        else:
            np.save(file, np.arange(12.0))
    content = bytearray(path.read_bytes())
    content = content[: data.draw(st.integers(0, len(content)), label="length")]
    if content:
        content[data.draw(st.integers(0, len(content) - 1), label="place")] ^= data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert isinstance(read_array(str(path)), np.ndarray)
    except ValueError as error:
        assert str(path) in str(error)
