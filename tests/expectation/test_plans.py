"""Which rule serves what, the symbolic forms, the emitted source, means and joint expectations."""

import ast

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import sympy

from tensorprog import expectation, functions

X, Y, K, P, Q = (sympy.Symbol(name, real=True) for name in "xykpq")


def function(name, *arguments):
    return functions.lookup(name).symbolic(*arguments)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("relu", "arc-cosine kernel"), ("erf", "arcsine kernel"), ("sin", "trigonometric"), ("exp", "exponential"),
        ("tanh", "Hermite expansion"), ("elu", "Hermite expansion"), ("square", "polynomial"),
        ("abs", "arc-cosine kernel"),
    ],
)  # fmt: skip
def test_rules(name, rule):
    assert expectation.plan_pair(function(name, X), function(name, Y), X, Y).rule == rule


def test_kinks_elsewhere_and_means_with_kinks():
    for name, rule in (("elu", "split quadrature"), ("relu", "bivariate normal")):
        shifted, plain = function(name, X - 1), function(name, X)
        assert expectation.plan_pair(shifted, shifted.subs(X, Y), X, Y).rule == rule
        assert expectation.plan_pair(plain, plain.subs(X, Y), X, Y, mean_f=True, mean_g=True).rule == rule
        without_means = expectation.plan_pair(plain, plain.subs(X, Y), X, Y).rule
        assert without_means in ("Hermite expansion", "arc-cosine kernel")


def test_relu_with_means_is_the_split_quadrature(make):
    relu = function("relu", X)
    closed = jax.jit(make.pair(relu, means=True))
    plan = expectation.rules.quadrature.split
    source = plan(expectation.plan.Request(*[expectation.plan.Side(relu, X, (), True)] * 2, "phi"))
    namespace = {}
    text = "".join([expectation.HEADER, expectation.runtime_source(source.runtime), *source.definitions])
    exec(f"{text}\ndef value(k, p, q, mu, nu):\n    return {source.call('k', 'p', 'q', 'mu', 'nu')}", namespace)
    c = np.array([-1, -0.999999, -0.5, 0, 0.3, 0.9, 1 - 1e-10, 1])
    for p, q, mu, nu in ((1.0, 1.0, 0.5, 0.5), (1e-6, 1.0, -1e-3, 0.3), (10.0, 0.1, 2.0, -0.4), (2.0, 2.0, 0.7, -0.7)):
        k, p, q = c * np.sqrt(p * q), np.full(8, p), np.full(8, q)
        scale = np.sqrt(closed(p, p, p, mu, mu) * closed(q, q, q, nu, nu))
        found, expected = closed(k, p, q, mu, nu), jax.jit(namespace["value"])(k, p, q, mu, nu)
        np.testing.assert_array_less(np.abs(found - expected), 1e-9 * scale + 1e-15)


@pytest.mark.parametrize("name", ("relu", "step", "leaky_relu"))
def test_means_of_kinked_functions_do_not_degenerate(name, make):
    value = make.pair(function(name, X), means=True)
    points = [(1, 1, 1, 1, 1), (-1, 1, 1, 1, -1), (0, 0, 1, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, -1, 1), (4, 2, 8, 0, 0.5)]
    # in one direction: a NaN in any derivative stays one
    both = jax.jit(jax.vmap(lambda *v: jax.jvp(value, v, tuple(map(jnp.ones_like, v)))))
    for dtype in (np.float64, np.float32):
        found = both(*jnp.asarray(points, dtype).T)
        assert all(np.all(np.isfinite(a)) and a.dtype == dtype for a in jax.tree.leaves(found))


def test_symbolic_forms():
    form = expectation.plan_pair(sympy.erf(X), sympy.erf(Y), X, Y).symbolic(K, P, Q)
    assert sympy.simplify(form - 2 / sympy.pi * sympy.asin(2 * K / sympy.sqrt((1 + 2 * P) * (1 + 2 * Q)))) == 0
    assert expectation.plan_pair(sympy.tanh(X), sympy.tanh(Y), X, Y).symbolic(K, P, Q) is None
    assert sympy.expand(expectation.plan_pair(X**2, Y**2, X, Y).symbolic(K, P, Q) - (P * Q + 2 * K**2)) == 0
    assert expectation.plan_mean(X**4, X).symbolic(P) == 3 * P**2


def test_symbolic_form_and_source_agree(make):
    gelu = function("gelu", X)
    form = expectation.plan_pair(gelu, gelu.subs(X, Y), X, Y).symbolic(K, P, Q)
    found = make.pair(gelu)(0.3, 1.2, 0.8)
    np.testing.assert_allclose(found, float(form.subs({K: 0.3, P: 1.2, Q: 0.8})), rtol=1e-13)


def test_runtime_source_is_self_contained_and_has_no_duplicates():
    source = expectation.HEADER + expectation.runtime_source(("split", "mean", "pair", "hermite", "joint", "pair"))
    tree = ast.parse(source)
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(names) == len(set(names))
    assert "from ." not in source and source.count("import jax\n") == 1
    exec(compile(source, "generated", "exec"), {})


def test_constants_have_the_full_shape(make):
    assert make.pair(sympy.Integer(3) + 0 * X)(jnp.zeros((2, 3)), jnp.ones((2, 1)), jnp.ones((1, 3))).shape == (2, 3)
    assert make.pair(sympy.tanh(X))(jnp.zeros((2, 3)), jnp.ones((2, 1)), jnp.ones((1, 3))).shape == (2, 3)


def test_a_table_is_its_entries(make):
    value, elu = make.pair(sympy.tanh(X)), make.pair(function("elu", X))
    p, q = jnp.asarray([[0.5], [2.0]]), jnp.asarray([[1.0, 3.0, 0.1]])
    k = jnp.asarray([[0.1, -0.9, 0.2], [1.4, 2.0, 0.0]])
    for function_ in map(jax.jit, (value, elu)):
        whole = function_(k, p, q)
        for i in range(2):
            for j in range(3):
                np.testing.assert_allclose(whole[i, j], function_(k[i, j], p[i, 0], q[0, j]), rtol=1e-9, atol=1e-15)


def test_large_tables_go_slice_by_slice(make):
    p = jnp.linspace(0.1, 2.0, 108_000).reshape(3, 36_000)
    found = jax.jit(make.pair(sympy.tanh(X)))(p, p, p)
    pick = make.mean(sympy.tanh(X) ** 2)(p[1, ::9_000])
    np.testing.assert_allclose(found[1, ::9_000], pick, rtol=1e-9)


def by_mpmath(f, p, mu, cuts=()):
    mpmath.mp.dps = 15
    root = mpmath.sqrt(p)
    points = sorted({-10, 0, 10, *((cut - mu) / root for cut in cuts)})
    return float(mpmath.quad(lambda x: mpmath.npdf(x) * f(mu + root * x), points))


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_means_of_one_gaussian(mu, make):
    relu = lambda t: max(t, 0)  # noqa: E731
    table = (
        (function("relu", X), relu, (0,)), (function("relu", X - 1), lambda t: relu(t - 1), (1,)),
        (sympy.tanh(X), mpmath.tanh, ()), (sympy.erf(X) * X, lambda t: mpmath.erf(t) * t, ()),
        (sympy.sin(X + 1), lambda t: mpmath.sin(t + 1), ()), (function("gelu", X), lambda t: t * mpmath.ncdf(t), ()),
        (X**4 - X, lambda t: t**4 - t, ()), (sympy.exp(X / 2), lambda t: mpmath.exp(t / 2), ()),
    )  # fmt: skip
    for expr, f, cuts in table:
        value = make.mean(expr, means=True)
        for p in (1e-3, 1.0, 10.0):
            expected = by_mpmath(f, p, mu, cuts)
            scale = np.sqrt(by_mpmath(lambda t, f=f: f(t) ** 2, p, mu, cuts))
            assert abs(float(value(p, mu)) - expected) <= 1e-9 * scale, (expr, p)


def brute(f, g, k, p, q, mu, nu, count=3001):
    """Trapezoidal rule: exact for smooth functions, also with few points, 1e-4 with kinks."""
    x = np.linspace(-9, 9, count)
    weight = (x[1] - x[0]) / np.sqrt(2 * np.pi) * np.exp(-(x**2) / 2)
    w = nu + k / np.sqrt(p) * x[:, None] + np.sqrt(q - k * k / p) * x
    return weight * f(mu + np.sqrt(p) * x) @ (g(w) @ weight)


def test_mixed_pairs_and_means(make):
    relu, elu, tanh = function("relu", X), function("elu", X), sympy.tanh(X)
    table = (
        (X**3 - X, sympy.erf(2 * X + 1)), (X**2, X * sympy.erf(X)), (X**2, sympy.sin(3 * X)),
        (X, function("abs", X) + X),
        (X, function("sign", X)), (sympy.exp(X), sympy.cos(2 * X + 1)), (sympy.sin(X), sympy.cos(X + 1)), (tanh, relu),
        (tanh, X**2), (sympy.erf(X), function("gelu", X)), (elu, tanh), (function("max", X, sympy.Integer(1)), relu),
        (sympy.exp(X), X**2 + 1), (relu, elu),
        (relu, function("leaky_relu", 2 * X - 1)), (function("step", X + 1), function("step", X)), (X, relu),
    )  # fmt: skip
    for f, g in table:
        # how good the trapezoidal rule is: with a jump, with a kink, without
        level = min(functions.facts(e, X).continuity for e in (f, g))
        bound = 1e-3 if level < 0 else 1e-5 if level < 2 else 1e-9
        for mu, nu in ((0.0, 0.0), (0.4, -0.7)):
            value = jax.jit(make.pair(f, g, means=bool(mu)))
            arguments = (0.5, 1.3, 0.8, *((mu, nu) if mu else ()))
            count = 3001 if level < 2 else 601
            expected = brute(functions.numeric(f, [X]), functions.numeric(g, [X]), 0.5, 1.3, 0.8, mu, nu, count)
            np.testing.assert_allclose(value(*arguments), expected, rtol=bound, atol=bound)


def test_scalars_of_the_two_sides_are_apart(make):
    a = sympy.Symbol("a", real=True)
    for expr in (sympy.erf(a * X) + a, a * function("relu", X) + 1, sympy.tanh(a * X)):
        value = make.pair(expr, scalars=(a,))
        f, g = (functions.numeric(expr.subs(a, number), [X]) for number in (0.5, 2.0))
        np.testing.assert_allclose(value(0.5, 1.3, 0.8, 0.5, 2.0), brute(f, g, 0.5, 1.3, 0.8, 0, 0), rtol=1e-5)


def test_a_missing_scalar_is_named():
    a = sympy.Symbol("a", real=True)
    for expr in (sympy.erf(a * X), sympy.tanh(a * X)):
        with pytest.raises(ValueError, match="a"):
            expectation.plan_pair(expr, expr.subs(X, Y), X, Y).call("k", "p", "q")


U, V = sympy.Symbol("u", real=True), sympy.Symbol("v", real=True)
COVARIANCE = np.array([[1.0, 0.3, 0.5, 0.1], [0.3, 0.8, 0.2, 0.4], [0.5, 0.2, 1.2, -0.3], [0.1, 0.4, -0.3, 0.9]])


def gauss_hermite(f, covariance, count=28):
    x, w = np.polynomial.hermite_e.hermegauss(count)
    size = len(covariance)
    points = np.linalg.cholesky(covariance) @ np.stack(np.meshgrid(*[x] * size, indexing="ij")).reshape(size, -1)
    weights = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * size, indexing="ij")), axis=0).ravel()
    return weights @ f(*points)


@pytest.mark.parametrize(
    ("f", "bound"),
    [(X * function("sigmoid", Y), 1e-8), (X**2 * sympy.tanh(Y) + Y, 1e-6), (X * Y, 1e-12),
     (sympy.erf(X) * function("sigmoid", Y), 1e-8)],
    ids=str,
)  # fmt: skip
def test_joint(f, bound, make):
    g = f.subs({X: U, Y: V}, simultaneous=True)
    _, value = make.joint(f, g, (X, Y), (U, V))
    expected = gauss_hermite(functions.numeric(f * g, [X, Y, U, V]), COVARIANCE)
    both = jax.jit(lambda c: jax.jvp(lambda c: value(c, None), (c,), (UNIT,)))
    found, slope = both(COVARIANCE)
    np.testing.assert_allclose(found, expected, rtol=bound)
    up, down = (float(both(COVARIANCE + s * 1e-4 * UNIT)[0]) for s in (1, -1))
    np.testing.assert_allclose(slope, (up - down) / 2e-4, rtol=max(1e-5, 100 * bound), atol=1e-7)


UNIT = np.zeros((4, 4))
UNIT[1, 3] = UNIT[0, 0] = 1


def test_joint_splits_into_independent_factors(make):
    f = X * function("relu", Y)
    g = f.subs({X: U, Y: V}, simultaneous=True)
    plan, value = make.joint(f, g, (X, Y), (U, V), zeros={(0, 1), (0, 3), (1, 2), (2, 3)})
    assert plan.rule == "arc-cosine kernel"
    relu = make.pair(function("relu", X))
    np.testing.assert_allclose(value(COVARIANCE, None), 0.5 * relu(0.4, 0.8, 0.9), rtol=1e-12)


def test_joint_with_the_delta_of_a_step(make):
    f = X * function("relu", Y)
    g = f.subs({X: U, Y: V}, simultaneous=True)
    _, value = make.joint(f, g, (X, Y), (U, V))
    rng = np.random.default_rng(0)
    x, y, u, v = rng.multivariate_normal(np.zeros(4), COVARIANCE, 2_000_000).T
    samples = x * np.maximum(y, 0) * u * np.maximum(v, 0)
    assert abs(float(value(COVARIANCE, None)) - samples.mean()) < 4 * samples.std() / np.sqrt(samples.size)


def test_joint_takes_singular_covariances(make):
    f = sympy.tanh(X * Y)
    g = f.subs({X: U, Y: V}, simultaneous=True)
    _, value = make.joint(f, g, (X, Y), (U, V))
    twice = np.tile(COVARIANCE[:2, :2], (2, 2))
    expected = gauss_hermite(lambda x, y: np.tanh(x * y) ** 2, COVARIANCE[:2, :2], 60)
    both = jax.jit(jax.value_and_grad(value))
    found, slope = both(twice, None)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert np.all(np.isfinite(slope)) and np.all(np.isfinite(both(np.zeros((4, 4)), None)[1]))
