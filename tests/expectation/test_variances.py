"""Every function of the library, and what people write themselves, at variances from 1e-12 to 1e8."""

import importlib.util
import pathlib

import numpy as np
import pytest

import tensorprog as tp

_spec = importlib.util.spec_from_file_location("panels", pathlib.Path(__file__).with_name("panels.py"))
panels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(panels)


def test_panels_agree_with_closed_forms():
    f, slope, cuts = panels.FUNCTIONS["erf(x)"]
    for p, q, c in ((1e-6, 1e-6, 0.3), (1.0, 1.0, 1 - 1e-8), (1e8, 1e8, 0.99), (1e8, 1.0, -0.9999)):
        determinant = 1 + 2 * (p + q) + 4 * p * q * (1 - c) * (1 + c)
        angle = 2 / np.pi * np.arctan2(2 * c * np.sqrt(p * q), np.sqrt(determinant))
        np.testing.assert_allclose(panels.pair(f, f, p, q, c, cuts), angle, rtol=1e-11)
        np.testing.assert_allclose(
            panels.pair(slope, slope, p, q, c, cuts), 4 / np.pi / np.sqrt(determinant), rtol=1e-9
        )


@pytest.mark.slow
@pytest.mark.parametrize("function", panels.FUNCTIONS)
def test_every_variance_and_correlation(function):
    kernel = tp.parse(panels.PROGRAM.format(function=function)).kernel()
    double = panels.errors(function, kernel, np.float64)
    # rounding k alone moves 1 - c by 1e-8 of 1e-8, which the slopes of what is narrow at variance 1e8 magnify
    closest = panels.CORRELATIONS.index(1 - 1e-8)
    assert np.max(np.delete(double, closest, axis=1)) < 1e-7
    assert np.max(double[:, closest]) < 1e-6
    single, equal = panels.errors(function, kernel, np.float32), len(panels.VARIANCES)
    assert np.max(single[:equal]) < 1e-4
    # inputs of unequal length are known to be proportional within rounding, which a kink of large variance magnifies
    assert np.max(single[equal:]) < 1e-3
