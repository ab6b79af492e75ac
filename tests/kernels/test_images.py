"""Bundled networks of images against neural-tangents (`make_image_reference.py`): even and odd sizes."""

from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp

REFERENCE = np.load(Path(__file__).parent / "image_reference.npz")
CASES = [
    ("myrtle", {"depth": 5}, "myrtle_5"),
    pytest.param("myrtle", {"depth": 7}, "myrtle_7", marks=pytest.mark.slow),
    pytest.param("myrtle", {"depth": 10}, "myrtle_10", marks=pytest.mark.slow),
    ("wide_resnet", {"blocks": 2}, "wide_resnet_2"),
]


@pytest.mark.parametrize("size", [pytest.param("8x8x3", marks=pytest.mark.slow), "9x7x3"])
@pytest.mark.parametrize(("name", "settings", "reference"), CASES)
def test_kernels_are_those_of_neural_tangents(name, settings, reference, size):
    x1, x2 = REFERENCE[f"x1_{size}"], REFERENCE[f"x2_{size}"]
    k = tp.load(name, **settings).kernel()(x1, x2)
    np.testing.assert_allclose(k.nngp, REFERENCE[f"{reference}_{size}_nngp"], rtol=1e-9)
    np.testing.assert_allclose(k.ntk, REFERENCE[f"{reference}_{size}_ntk"], rtol=1e-9)
