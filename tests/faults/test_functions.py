"""What the compiler knows of functions: numbers, jumps that are none, singular points, kinks without end."""

import itertools

import jax
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


def moments(f, slope, cuts=(), points=400):
    """E f² and E f² + E f'² at variance 1, by Gauss-Legendre panels that are cut at `cuts`."""
    x, w = np.polynomial.legendre.leggauss(points)
    edges = np.unique([-12.0, *cuts, 12.0])
    total = np.zeros(2)
    for a, b in itertools.pairwise(edges):
        z = (a + b) / 2 + (b - a) / 2 * x
        density = w * (b - a) / 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        total += [density @ f(z) ** 2, density @ (f(z) ** 2 + slope(z) ** 2)]
    return total


@pytest.mark.parametrize(
    ("function", "f", "slope"),
    [
        ("log(sigmoid(x))", lambda z: -np.logaddexp(0, -z), lambda z: 1 / (1 + np.exp(z))),
        ("log(1 + exp(5 * x)) / 5", lambda z: np.logaddexp(0, 5 * z) / 5, lambda z: 1 / (1 + np.exp(-5 * z))),
        ("sin(x) / x", lambda z: np.sinc(z / np.pi), lambda z: np.cos(z) / z - np.sin(z) / z**2),
        (
            "(1 - cos(x)) / x**2",
            lambda z: (1 - np.cos(z)) / z**2,
            lambda z: np.sin(z) / z**2 - 2 * (1 - np.cos(z)) / z**3,
        ),
    ],
)
def test_no_jumps_where_there_are_none(one, function, f, slope):
    np.testing.assert_allclose(kernels(one(function)), moments(f, slope), rtol=1e-8)


@pytest.mark.slow
def test_a_function_of_two_kinks(one):
    f, slope = lambda z: np.sign(z) * np.maximum(abs(z) - 1, 0), lambda z: abs(z) > 1
    found = one("max(x - 1, 0) - max(-x - 1, 0)").kernel()(np.ones((1, 1)))
    np.testing.assert_allclose(np.ravel(found), moments(f, slope, cuts=(-1, 1)), rtol=1e-8)


@pytest.mark.parametrize(
    ("function", "get", "message"),
    [
        ("sqrt(abs(x))", "ntk", "the NTK is infinite"),
        ("log(abs(x))", "ntk", "the NTK is infinite"),
        ("log(x)", "nngp", "not a real number"),
        ("(x - 1)**(1/3)", "nngp", "not a real number"),
        ("1 / x", "nngp", "its moments are infinite"),
        ("1 / sqrt(abs(x))", "nngp", "its moments are infinite"),
        ("x * sign(x - 1)", "ntk", "jumps"),
    ],
)
def test_what_does_not_exist_is_refused(one, function, get, message):
    with pytest.raises(tp.ProgramError, match=message) as error:
        kernels(one(function), get=(get,))
    assert error.value.hint


def test_functions_of_sums_of_squares_do_not_jump(text):
    for name in ("bn_conv", "grn"):
        assert tp.parse(text(name)).ntk_error is None


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), [("grn", (2, 2, 3)), ("bn_conv", (1, 2, 2, 3))])
def test_functions_of_sums_of_squares_against_finite_networks(text, name, shape):
    x = np.random.default_rng(0).normal(size=shape)
    report = tp.verify(tp.parse(text(name)), x, widths=[128, 512, 2048], seeds=6)
    assert all(-0.7 < report.slopes[g] < -0.3 for g in ("nngp", "ntk"))


def test_a_centred_vector(one):
    program = str(one("relu(x)")).replace("output y := v.T @ f(W @ x)", "h := W @ x\noutput y := v.T @ f(h - <h> / n)")
    np.testing.assert_allclose(kernels(tp.parse(program)), [0.5, 1.0], rtol=1e-12)


def mixed(program, x, y, get="nngp"):
    """∂²K/∂x∂y, (d, d), and the differences of ∂K/∂y along x."""
    kernel = program.kernel()
    value = lambda a, b: kernel(a[None], b[None], get)[0, 0]  # noqa: E731
    both = jax.jit(jax.jacfwd(jax.value_and_grad(value, 1), 0))
    slope = jax.jit(jax.grad(value, 1))
    step = 1e-4
    differences = [(slope(x + step * e, y) - slope(x - step * e, y)) / (2 * step) for e in np.eye(len(x))]
    return np.asarray(both(x, y)[1]).T, np.stack(differences)


KINKED = [
    ("relu(x)", lambda z: z > 0),
    ("elu(x)", lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0)))),
    pytest.param("max(min(x, 1), -1)", lambda z: np.abs(z) < 1, marks=pytest.mark.slow),
    pytest.param("min(relu(x), 6)", lambda z: (z > 0) & (z < 6), marks=pytest.mark.slow),
    pytest.param("x / (1 + abs(x))", lambda z: 1 / (1 + np.abs(z)) ** 2, marks=pytest.mark.slow),
    pytest.param("relu(x - 1)", lambda z: z > 1, marks=pytest.mark.slow),
    pytest.param("relu(x)**2", lambda z: 2 * np.maximum(z, 0), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("function", "slope"), KINKED)
def test_derivative_observations(one, function, slope):
    x, y = np.array([1.0, 2.0]), np.array([0.7, -0.4])
    program = one(function)
    # at x = y it is E w wᵀ f'(w·x)², w of covariance 1/d
    root = np.sqrt(x @ x / 2)
    t, weight = np.polynomial.legendre.leggauss(200)
    edges = np.unique([-9, -1 / root, 0, 1 / root, 6 / root, 9])
    zs = np.concatenate([(a + b) / 2 + (b - a) / 2 * t for a, b in itertools.pairwise(edges)])
    ws = np.concatenate([(b - a) / 2 * weight for a, b in itertools.pairwise(edges)])
    square = ws * np.exp(-(zs**2) / 2) / np.sqrt(2 * np.pi) * slope(root * zs) ** 2
    axis = x / np.sqrt(x @ x)
    right = (square.sum() * np.eye(2) + (square @ (zs**2 - 1)) * np.outer(axis, axis)) / 2
    np.testing.assert_allclose(mixed(program, x, x)[0], right, rtol=1e-7, atol=1e-9)
    found, differences = mixed(program, x, y)
    np.testing.assert_allclose(found, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("function", "right"),
    [
        ("abs(x)**0.75", [0.86003998732452, 1.82758497276396]),
        ("log(abs(x))", [(np.euler_gamma + np.log(2)) ** 2 / 4 + np.pi**2 / 8]),
        pytest.param("x * log(abs(x))", [0.366793144452853, 1.73358628891387], marks=pytest.mark.slow),
        pytest.param("relu(x)**0.75", [0.43001999366226, 0.91379248638198], marks=pytest.mark.slow),
    ],
)
def test_singular_points_that_have_integrals(one, function, right):
    get = ("nngp", "ntk")[: len(right)]
    np.testing.assert_allclose(kernels(one(function), get=get), right, rtol=2e-7)


@pytest.mark.parametrize(
    ("function", "right"),
    [
        pytest.param("abs(sin(x))", [(1 - np.exp(-2)) / 2, 1.0], marks=pytest.mark.slow),
        ("relu(sin(3 * x))", [(1 - np.exp(-18)) / 4, 2.5 + 2 * np.exp(-18)]),
        ("x * sign(sin(x))", [1.0]),
    ],
)
def test_kinks_without_end(one, function, right):
    get = ("nngp", "ntk")[: len(right)]
    np.testing.assert_allclose(kernels(one(function), get=get), right, rtol=1e-8)


def test_kinks_without_end_off_the_diagonal(one):
    x = np.array([[1.0, 0.3], [-0.2, 1.4], [3.0, 2.0]])
    k = x @ x.T / 2
    p, q = np.diag(k)[:, None, None, None], np.diag(k)[:, None, None]
    # |sin x| = sum of a_i cos(2·i·x)
    i, j = np.arange(300)[:, None], np.arange(300)
    a = np.where(i == 0, 2, -4) / np.pi / np.where(i == 0, 1, 4 * i**2 - 1)
    k4 = k[:, :, None, None]
    duals = sum(np.exp(-2 * (i**2 * p + 2 * s * i * j * k4 + j**2 * q)) for s in (1, -1)) / 2
    right = np.sum(a * a[:, 0] * duals, axis=(2, 3))
    found = np.asarray(one("abs(sin(x))").kernel()(x, None, "nngp"))
    np.testing.assert_allclose(found, right, rtol=1e-7)
