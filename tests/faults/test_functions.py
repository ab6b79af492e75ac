"""What the compiler knows of functions: numbers, jumps that are none, singular points, kinks without end."""

import numpy as np
import pytest

import tensorprog as tp


def kernels(program, x=1.0, get=("nngp", "ntk")):
    """NNGP and NTK of a program of one input, d = 1, at one point."""
    kernel = program.kernel()
    return [float(np.asarray(kernel(np.full((1, 1), x), None, g)).squeeze()) for g in get]


@pytest.mark.parametrize(
    ("function", "nngp", "ntk"),
    [
        ("erf(0.7071067811865476 * x)", 1 / 3, 0.7008859302811951),  # (2/pi)·asin(1/2) and + (2/pi)/sqrt(3)
        ("cos(3.141592653589793 * x)", (1 + np.exp(-2 * np.pi**2)) / 2, 5.434802188680),
        ("erf(x / 2.4020563531719796)", 0.16573449371951285, 0.33531753878),
        ("sqrt((x - 1/3)**2)", 10 / 9, 19 / 9),
        ("(x**2)**(1/2)", 1, 2),
        ("sqrt(4 * x**2)", 4, 8),
    ],
)
def test_decimals_and_roots_of_squares(one, function, nngp, ntk):
    np.testing.assert_allclose(kernels(one(function)), [nngp, ntk], rtol=1e-9)


def test_tanh_form_of_gelu_with_its_usual_decimals(one):
    program = one("0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x**3)))")
    z, w = np.polynomial.hermite_e.hermegauss(150)
    gelu = 0.5 * z * (1 + np.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    (value,) = kernels(program, get=("nngp",))
    assert value == pytest.approx(np.sum(w * gelu**2) / w.sum(), rel=1e-7)
    assert "0.7978845608028654" in str(program.derive("nngp")) and "0.7978845608028654" in str(program.check())
    core = tp.parse(program.core())
    assert kernels(core, get=("nngp",)) == pytest.approx([value], rel=1e-7)


@pytest.mark.parametrize(
    "output",
    ["softmax({0})", "erf({0})", "2 * exp({0})", "({0})**2", "1 / ({0})", "({0}) * ({0})", "max[p = 1..3](p * {0})"],
)
def test_a_function_of_the_output_is_refused_with_the_mend(one, output):
    text = str(one("tanh(x)")).replace("v.T @ f(W @ x) / sqrt(n)", output.format("v.T @ f(W @ x) / sqrt(n)"))
    with pytest.raises(tp.ProgramError, match="computed from the output") as error:
        tp.parse(text)
    assert "likelihood" in error.value.hint and error.value.line
