"""Plans as callable functions, by way of the source that a generated module would hold."""

from tensorprog import expectation


def pair_function(plan, scalars_f=(), scalars_g=(), means=False):
    """value(k, p, q, mu, nu, *scalars of f, *scalars of g)."""
    left = {symbol: f"left_{symbol.name}" for symbol in scalars_f}
    right = {symbol: f"right_{symbol.name}" for symbol in scalars_g}
    call = plan.call("k", "p", "q", "mu" if means else None, "nu" if means else None, left, right)
    arguments = ["k", "p", "q", *(("mu", "nu") if means else ()), *left.values(), *right.values()]
    return _function(plan, arguments, call)


def mean_function(plan, means=False):
    """value(p, mu)."""
    return _function(plan, ["p", *(("mu",) if means else ())], plan.call("p", "mu" if means else None))


def joint_function(plan, size, means=False):
    """value(covariance (..., size, size), means (..., size))."""
    cov = {(i, j): f"C[..., {i}, {j}]" for i in range(size) for j in range(i, size)}
    codes = [f"m[..., {i}]" for i in range(size)] if means else None
    return _function(plan, ["C", *(("m",) if means else ())], plan.call(cov, codes))


def _function(plan, arguments, call):
    source = [expectation.HEADER, expectation.runtime_source(plan.runtime), *plan.definitions]
    source.append(f"def value({', '.join(arguments)}):\n    return {call}\n")
    namespace = {}
    exec("\n\n".join(source), namespace)
    return namespace["value"]
