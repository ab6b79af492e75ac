"""What all tests share: float64 on the CPU, reproducible random examples, and the reference arrays."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported anywhere

import logging
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
logging.getLogger("jax").setLevel(logging.ERROR)

# The first example compiles for seconds, so a deadline would fail at random; derandomized, a run is repeatable.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def reference() -> dict[str, np.ndarray]:
    """Arrays to agree with, float64, by name: `reference["rnn_gp"]` is (16, 16)."""
    with np.load(Path(__file__).with_name("reference.npz")) as file:
        return {name: file[name] for name in file.files}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Neighbouring tests go to one worker, which compiles once what they share; who is done takes half of the rest.

    By default tests are dealt out in turn, and every worker compiles everything.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
