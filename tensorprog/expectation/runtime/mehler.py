"""E f(x_1, ..., x_a) g(y_1, ..., y_b) of smooth functions by their Hermite expansions in several variables."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .hermite import hermite_functions, trapezoid_functions
from .joint import partial_derivative, zero_pivot_cholesky
from .shapes import common_shape, correlation, finer, same_rank

# per number of variables of a side: nodes and terms in each
MEHLER_PAIRED = {1: (385, 256), 2: (193, 128), 3: (51, 32)}
MEHLER_ROTATED = {1: 64, 2: 40, 3: 16}


def paired_rule(f, g, covariance, means, scalars, count, partners):
    """Where every x_i is independent of all but y_i: the coefficients depend on variances alone.

    The expansion is a power series in the correlations: the sum of f_mn g_mn c_1^m c_2^n.
    """
    size = sum(count)
    entries, means, sides = product_arrays(covariance, means, scalars, size)
    shape, dtype = common_shape(*entries.values(), *means, *sides[0], *sides[1]), means[0].dtype
    series = []
    for function, first, own, values in ((f, 0, count[0], sides[0]), (g, count[0], count[1], sides[1])):
        inside = range(first, first + own)
        nodes, terms = map(finer, MEHLER_PAIRED[max(own, 1)])
        x = np.linspace(-11.5, 11.5, nodes)
        matrix = trapezoid_functions(x, terms)
        # a variable without a partner only contributes its mean
        matrices = [jnp.asarray(matrix if partners[i] is not None else matrix[:1], dtype) for i in inside]
        roots = [jnp.sqrt(jnp.maximum(entries[i, i], 0)) for i in inside]
        small = common_shape(*roots, *(means[i] for i in inside), *values, jnp.zeros((1,) * len(shape)))
        if np.prod(small) * np.prod([m.shape[0] for m in matrices]) > 2**26:
            return rotated_rule(f, g, covariance, means, scalars, count, partners)
        grid = jnp.meshgrid(*[jnp.asarray(x, dtype)] * own, indexing="ij")

        def coefficients(arguments, function=function, x=x, grid=grid, matrices=matrices, own=own):
            points = [m + root * n for m, root, n in zip(arguments[:own], arguments[own:], grid, strict=False)]
            samples = jnp.broadcast_to(function(*points, *arguments[2 * own :]), [x.size] * own).astype(dtype)
            for rows in matrices:
                samples = jnp.tensordot(samples, rows, axes=(0, 1), precision="highest")
            return samples

        flat = tuple(jnp.broadcast_to(a, small).ravel() for a in (*(means[i] for i in inside), *roots, *values))
        if flat:
            batch = min(max(2**22 // x.size**own, 1), flat[0].size)
            found = lax.map(coefficients, flat, batch_size=batch)
            series.append(found.reshape(small + found.shape[1:]))
        else:
            series.append(jnp.broadcast_to(coefficients(()), (1,) * len(shape)))
    left, right = series
    pairs = [i for i in range(count[0]) if partners[i] is not None]
    # the partners on the right in the order of the left
    order = [j for i in pairs for j in range(count[1]) if count[0] + j == partners[i]]
    rank = len(shape)
    left = left.reshape(left.shape[:rank] + tuple(left.shape[rank + i] for i in pairs))
    alone = [j for j in range(count[1]) if j not in order]
    right = jnp.moveaxis(right, [rank + j for j in (*order, *alone)], range(rank, rank + count[1]))
    right = right.reshape(right.shape[: rank + len(order)])
    powers = [correlation(entries[i, partners[i]], entries[i, i], entries[partners[i], partners[i]]) for i in pairs]
    if not pairs:
        return jnp.broadcast_to(left * right, shape)

    def horner(left, right, powers):
        """The sum over the first of the remaining axes, highest power first."""
        if not powers:
            return left * right
        terms = left.shape[rank]

        def add(m, total):
            chosen = [lax.dynamic_index_in_dim(a, terms - 1 - m, rank, keepdims=False) for a in (left, right)]
            return total * powers[0] + horner(chosen[0], chosen[1], powers[1:])

        return lax.fori_loop(0, terms, add, jnp.zeros(shape, dtype))

    return horner(left, right, powers)


def product_arrays(covariance, means, scalars, size):
    """The entries as a dictionary, the means, and the scalars of both sides, all of one rank."""
    arrays = same_rank(*covariance, *means, *scalars[0], *scalars[1])
    entries = dict(zip(zip(*np.triu_indices(size), strict=True), arrays, strict=False))
    rest = arrays[len(covariance) :]
    means, rest = rest[:size], rest[size:]
    return entries, means, (rest[: len(scalars[0])], rest[len(scalars[0]) :])


def rotated_rule(f, g, covariance, means, scalars, count, partners):
    """Any covariance: both sides are rotated to canonical variables, of which each is correlated with one other.

    One entry of the table after another, a few at a time.
    """
    size = sum(count)
    entries, means, sides = product_arrays(covariance, means, scalars, size)
    keys, arrays = list(entries), [*entries.values(), *means, *sides[0], *sides[1]]
    shape, dtype = common_shape(*arrays), means[0].dtype
    flat = tuple(jnp.broadcast_to(a, shape).ravel() for a in arrays)

    def one(values):
        values = list(values)
        table = {key: values.pop(0) for key in keys}
        table.update({(j, i): v for (i, j), v in table.items()})
        centre = [values.pop(0) for _ in range(size)]
        own = values[: len(sides[0])], values[len(sides[0]) :]
        factors = []
        for first, number in ((0, count[0]), (count[0], count[1])):
            inside = {(i, j): table[first + i, first + j] for i in range(number) for j in range(i, number)}
            rows = zero_pivot_cholesky(inside, number)
            if not number:
                factors.append(jnp.zeros((0, 0), dtype))
                continue
            empty = jnp.zeros((), dtype)
            factors.append(jnp.stack([jnp.stack([*row, *[empty] * (number - len(row))]) for row in rows]))
        if min(count):
            cross = jnp.stack([jnp.stack([table[i, count[0] + j] for j in range(count[1])]) for i in range(count[0])])
            cross = solve_lower(factors[1], solve_lower(factors[0], cross).T).T
            u, canonical, v = jnp.linalg.svd(cross, full_matrices=True)
            canonical = jnp.minimum(canonical, 1)
        else:
            u, v = (jnp.eye(n, dtype=dtype) for n in count)
        series = []
        for function, factor, turn, first, number, values in (
            (f, factors[0], u, 0, count[0], own[0]),
            (g, factors[1], v.T, count[0], count[1], own[1]),
        ):
            x, matrix = hermite_functions(finer(MEHLER_ROTATED[max(count)]))
            nodes = jnp.meshgrid(*[jnp.asarray(x, dtype)] * number, indexing="ij")
            rows = factor @ turn
            points = [centre[first + i] + sum(rows[i, j] * nodes[j] for j in range(number)) for i in range(number)]
            samples = jnp.broadcast_to(function(*points, *values), [x.size] * number).astype(dtype)
            for i in range(number):
                rows = matrix if i < min(count) else matrix[:1]
                samples = jnp.tensordot(samples, jnp.asarray(rows, dtype), axes=(0, 1), precision="highest")
            series.append(samples.reshape([x.size] * min(count)))
        total = series[0] * series[1]
        for i in range(min(count)):
            total = jnp.tensordot(canonical[i] ** jnp.arange(total.shape[0], dtype=dtype), total, 1)
        return total

    return lax.map(one, flat, batch_size=min(64, max(flat[0].size, 1))).reshape(shape)


def solve_lower(factor, right):
    """factor⁻¹·right; rows whose pivot is zero give zero."""
    rows: list = []
    for i in range(factor.shape[0]):
        rest = right[i] - sum(factor[i, j] * rows[j] for j in range(i))
        pivot = factor[i, i]
        rows.append(jnp.where(pivot > 0, rest / jnp.where(pivot > 0, pivot, 1), 0))
    return jnp.stack(rows)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3, 4))
def gaussian_product(rule, count, partners, f, g, covariance, means, scalars):
    """E f(x_1, ..., x_a, *scalars[0]) g(y_1, ..., y_b, *scalars[1]), count = (a, b), for smooth f and g.

    `covariance` lists the upper triangle of that of (x_1, ..., y_b). `partners` gives for each variable the only one
    it is correlated with, or None. Derivatives by Price's theorem: d/dCov_ij = E d²(fg)/dv_i dv_j.
    """
    return rule(f, g, covariance, means, scalars, count, partners)


@partial(gaussian_product.defjvp, symbolic_zeros=True)
def _gaussian_product_jvp(rule, count, partners, f, g, primals, tangents):
    size = sum(count)

    def mean(*which):
        functions = [f, g]
        for i in which:
            side = int(i >= count[0])
            functions[side] = partial_derivative(functions[side], i - side * count[0])
        return gaussian_product(rule, count, partners, *functions, *primals)

    value = mean()
    terms = [jnp.zeros_like(value)]
    pairs = [(i, j) for i in range(size) for j in range(i, size)]
    for (i, j), tangent in zip(pairs, tangents[0], strict=True):
        if type(tangent) is not SymbolicZero:
            terms.append((0.5 if i == j else 1.0) * mean(i, j) * tangent)
    for i, tangent in enumerate(tangents[1]):
        if type(tangent) is not SymbolicZero:
            terms.append(mean(i) * tangent)
    for side, own in enumerate(tangents[2]):
        for i, tangent in enumerate(own):
            if type(tangent) is not SymbolicZero:
                functions = [f, g]
                functions[side] = partial_derivative(functions[side], count[side] + i)
                terms.append(gaussian_product(rule, count, partners, *functions, *primals) * tangent)
    return value, sum(terms[1:], terms[0]).astype(value.dtype)
