"""What bundled programs compile to, and its numbers, are what they were: python -m tests.goldens writes them again."""

import difflib

import jax
import numpy as np
import pytest

from .texts import FOLDER, PARTS, PROGRAMS, golden, path_of
from .values import stored, values

UPDATE = "where the change is meant, run: python -m tests.goldens"


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """What is run once is not worth optimizing."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_texts(name):
    for part in PARTS:
        path, found = path_of(name, part), golden(name, part)
        assert path.exists(), UPDATE
        was = path.read_text(encoding="utf-8")
        if found != was:
            lines = list(difflib.unified_diff(was.splitlines(), found.splitlines(), "was", "is", n=1, lineterm=""))
            pytest.fail(f"the {part} of {name} changed; {UPDATE}\n" + "\n".join(lines[:60]), pytrace=False)


def test_there_is_a_file_for_each_program_and_no_other():
    assert set(FOLDER.glob("*")) == {path_of(name, part) for name in PROGRAMS for part in PARTS}
    assert set(stored()) == set(PROGRAMS)


# One of each kind is computed each time; the texts above pin down what the others compute.
EACH_TIME = {"mlp", "rnn", "cnn_pool", "transformer", "lstm", "semicircle", "embedding", "batchnorm"}


@pytest.mark.parametrize(
    "name", [name if name in EACH_TIME else pytest.param(name, marks=pytest.mark.slow) for name in PROGRAMS]
)
def test_values(name):
    """To 1e-12 of the largest entry; what is sampled has the same numbers from the same seed, up to rounding."""
    was, found = stored()[name], values(name)
    assert list(found) == list(was), UPDATE
    for key, value in found.items():
        assert value.shape == was[key].shape
        size = np.abs(was[key]).max()
        off = np.abs(value - was[key]).max()
        allowed = 1e-9 if f"{key}_stderr" in was or key.endswith("_stderr") else 1e-12
        assert off <= allowed * size or size == 0, f"{key} is off by {off / size:.1e} of the largest entry; {UPDATE}"
