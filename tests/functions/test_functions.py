"""The registry, what functions are, and how they are written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from tensorprog import functions

X, A = sympy.Symbol("x", real=True), sympy.Symbol("a", real=True)


def applied(name):
    function = functions.lookup(name)
    return function.symbolic(*((X, A) if function.arguments[0] == 2 else (X,)))


def compiled(expr):
    return eval(f"lambda x, a: {functions.jax_code(expr, {X: 'x', A: 'a'})}", {"jax": jax, "jnp": jnp})


def test_names_and_lookup():
    wanted = "relu erf tanh sigmoid gelu silu softplus elu leaky_relu abs sign step sin cos exp log sqrt square max min"
    assert set(wanted.split()) <= set(functions.names())
    assert list(functions.names()) == sorted(functions.names())
    assert functions.lookup("erff") is None
    assert functions.lookup("elu").parameters == (("alpha", 1),)
    assert functions.lookup("max").arguments == (2, None)


@pytest.mark.parametrize("name", functions.names())
def test_source_and_numpy_agree(name):
    expr = applied(name)
    x = np.linspace(0.05, 5, 7) if name in ("log", "sqrt") else np.linspace(-5, 5, 8)
    expected = functions.numeric(expr, [X, A])(x, 0.3)
    np.testing.assert_allclose(compiled(expr)(x, 0.3), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        functions.numeric(functions.definition(expr), [X, A])(x, 0.3), expected, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", functions.names())
def test_derivatives_are_those_of_jax_and_float32_stays(name):
    expr = applied(name)
    x = jnp.linspace(0.05, 5, 7) if name in ("log", "sqrt") else jnp.linspace(-5, 5, 8)
    function = compiled(expr)
    by_jax = jax.vmap(jax.grad(lambda t: function(t, 0.3)))(x)
    by_sympy = jnp.broadcast_to(compiled(expr.diff(X))(x, 0.3), x.shape)
    np.testing.assert_allclose(by_jax, by_sympy, rtol=1e-10, atol=1e-13)
    single = x.astype(jnp.float32)
    for source in (expr, expr.diff(X)):
        assert jnp.result_type(compiled(source)(single, 0.3)) in (jnp.float32, jnp.result_type(int))


@pytest.mark.parametrize("name", sorted(set(functions.names()) - {"log", "sqrt", "exp", "square"}))
def test_nothing_overflows(name):
    x = jnp.asarray([-1e4, -200.0, -1e-30, 0.0, 1e-30, 200.0, 1e4], jnp.float32)
    for expr in (applied(name), applied(name).diff(X)):
        assert np.all(np.isfinite(compiled(expr)(x, 0.3))), functions.text(expr)


@pytest.mark.parametrize(
    ("expr", "text", "code"),
    [
        (functions.lookup("relu").symbolic(X) ** 2, "relu(x)**2", "jnp.maximum(x, 0)**2"),
        ((1 + sympy.erf(X)) / 2, "erf(x)/2 + 1/2", "jax.scipy.special.erf(x)/2 + 1/2"),
        (sympy.exp(-X), "exp(-x)", "jnp.exp(-x)"),
        (functions.lookup("elu").symbolic(X, alpha=2), "elu(x, alpha = 2)", None),
        (functions.lookup("elu").symbolic(X), "elu(x)", None),
        (sympy.sqrt(X) * sympy.pi, "pi*sqrt(x)", "jnp.pi*jnp.sqrt(x)"),
    ],
)
def test_text_and_source(expr, text, code):
    assert functions.text(expr) == text
    if code is not None:
        assert functions.jax_code(expr, {X: "x"}) == code


def test_source_takes_any_code_for_a_symbol():
    assert functions.jax_code(X * A, {X: "p + q", A: "c[0, 1]"}) in ("(p + q)*c[0, 1]", "c[0, 1]*(p + q)")
    assert eval(functions.jax_code(X**2 * A, {X: "1 + 2", A: "3 - 1"})) == 18


def test_latex_has_the_names_of_the_papers():
    assert functions.latex(functions.lookup("relu").symbolic(X)) == r"\operatorname{relu}\left(x\right)"
    assert functions.latex(functions.lookup("normal_cdf").symbolic(X)) == r"\Phi\left(x\right)"


def test_step_is_a_half_at_zero():
    step, sign = (functions.lookup(name).symbolic for name in ("step", "sign"))
    assert step(sympy.Integer(0)) == sympy.Rational(1, 2) and sign(sympy.Integer(0)) == 0
    assert step(X).diff(X) == 0 and functions.lookup("relu").symbolic(X).diff(X) == step(X)
