"""Plans as callable functions, by way of the source that a generated module would hold, and the brute-force
reference.
"""

import importlib.util
import pathlib
import types

import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from tensorprog import expectation

HERE = pathlib.Path(__file__).parent


def _function(plan, arguments, call):
    source = [expectation.HEADER, expectation.runtime_source(plan.runtime), *plan.definitions]
    source.append(f"def value({', '.join(arguments)}):\n    return {call}\n")
    namespace = {}
    exec("\n\n".join(source), namespace)
    # Modules pass arrays; JAX 0.8 lets a Python float into a custom derivative as it is.
    return lambda *given: namespace["value"](*(jnp.asarray(a) if isinstance(a, float) else a for a in given))


def pair_function(f, g=None, *, scalars=(), means=False):
    """value(k, p, q[, mu, nu], *scalars of f, *scalars of g) of f(x) g(x), x the Symbol of make_reference."""
    x, y = sympy.Symbol("x", real=True), sympy.Symbol("y", real=True)
    g = (f if g is None else g).subs(x, y)
    plan = expectation.plan_pair(f, g, x, y, mean_f=means, mean_g=means)
    left = {symbol: f"left_{symbol.name}" for symbol in scalars}
    right = {symbol: f"right_{symbol.name}" for symbol in scalars}
    call = plan.call("k", "p", "q", "mu" if means else None, "nu" if means else None, left, right)
    arguments = ["k", "p", "q", *(("mu", "nu") if means else ()), *left.values(), *right.values()]
    return _function(plan, arguments, call)


def mean_function(f, *, means=False):
    """value(p[, mu])."""
    plan = expectation.plan_mean(f, sympy.Symbol("x", real=True), mean=means)
    return _function(plan, ["p", *(("mu",) if means else ())], plan.call("p", "mu" if means else None))


def joint_function(f, g, zs, ws, **options):
    """value(covariance (..., size, size), means (..., size))."""
    size = len(zs) + len(ws)
    plan = expectation.plan_joint(f, g, zs, ws, **options)
    cov = {(i, j): f"C[..., {i}, {j}]" for i in range(size) for j in range(i, size)}
    codes = [f"m[..., {i}]" for i in range(size)] if "means" in options else None
    return plan, _function(plan, ["C", "m"], plan.call(cov, codes))


@pytest.fixture(scope="session")
def make():
    """The three functions above."""
    return types.SimpleNamespace(pair=pair_function, mean=mean_function, joint=joint_function)


def _reference_module():
    spec = importlib.util.spec_from_file_location("make_reference", HERE / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = _reference_module()


@pytest.fixture(scope="session")
def cases():
    """The module make_reference: functions, variances, correlations."""
    return CASES


@pytest.fixture(scope="session")
def brute_force():
    """The arrays of reference.npz: name, name_norm, name_slope, name_slope_norm."""
    with np.load(HERE / "reference.npz") as file:
        return {name: file[name] for name in file.files}


def pytest_generate_tests(metafunc):
    if "smooth_name" in metafunc.fixturenames:
        metafunc.parametrize("smooth_name", list(CASES.SMOOTH))
    if "any_name" in metafunc.fixturenames:
        metafunc.parametrize("any_name", [*CASES.SMOOTH, *CASES.KINKED])
