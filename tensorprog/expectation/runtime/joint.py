"""Expectations of functions of several Gaussians by product quadrature."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .shapes import common_shape, finer, same_rank

JOINT_POINTS = {1: 96, 2: 48, 3: 24}


def zero_pivot_cholesky(entries, size):
    """The rows of a lower triangular L with L Lᵀ = the covariance; columns whose pivot vanishes are zero.

    entries[i, j], i <= j, are arrays. A pivot below 10 roundings of its variance counts as zero: equal Gaussians give
    one.
    """
    low: dict = {}
    for j in range(size):
        variance = entries[j, j]
        pivot = variance - sum(low[j, m] ** 2 for m in range(j))
        keep = pivot > 10 * np.finfo(np.dtype(variance.dtype)).eps * variance
        root = jnp.sqrt(jnp.where(keep, pivot, 1))
        low[j, j] = jnp.where(keep, root, 0)
        for i in range(j + 1, size):
            rest = entries[j, i] - sum(low[i, m] * low[j, m] for m in range(j))
            low[i, j] = jnp.where(keep, rest / root, 0)
    return [[low[i, j] for j in range(i + 1)] for i in range(size)]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def gaussian_joint(f, order, covariance, means, scalars):
    """E f(x_1, ..., x_d, *scalars) by a product of Gauss-Hermite rules.

    `covariance` lists the entries (0, 0), (0, 1), ..., (1, 1), ... of the upper triangle; it may be singular.
    Derivatives by Price's theorem: d/dCov_ij = E d²f/dx_i dx_j. `order` gives, for the side each variable is on, the
    side's number and how often it can be differentiated before it jumps; NaN beyond that.
    """
    size = len(means)
    covariance, means, scalars = list(covariance), list(means), list(scalars)
    arrays = same_rank(*covariance, *means, *scalars)
    shape, dtype = common_shape(*arrays), arrays[0].dtype
    entries = dict(zip(zip(*np.triu_indices(size), strict=True), arrays, strict=False))
    means, scalars = arrays[len(covariance) : len(covariance) + size], arrays[len(covariance) + size :]
    factor = zero_pivot_cholesky(entries, size)
    count = finer(JOINT_POINTS[size])
    x, w = np.polynomial.hermite_e.hermegauss(count)
    nodes, weights = jnp.asarray(x, dtype), jnp.asarray(w / w.sum(), dtype)

    def add(index, total):
        digits = [(index // count**i) % count for i in range(size)]
        weight = jnp.prod(weights[jnp.stack(digits)])
        chosen = [nodes[digit] for digit in digits]
        # a row of the factor has one entry more than the one before it
        values = [
            m + sum(a * x for a, x in zip(row, chosen, strict=False)) for m, row in zip(means, factor, strict=True)
        ]
        return total + weight * f(*values, *scalars).astype(dtype)

    return lax.fori_loop(0, count**size, add, jnp.zeros(shape, dtype))


def partial_derivative(f, index):
    """The derivative of an elementwise f in one of its arguments."""

    def differentiated(*arguments):
        shape = common_shape(*arguments)
        x = jnp.broadcast_to(arguments[index], shape)
        return jax.jvp(lambda y: f(*arguments[:index], y, *arguments[index + 1 :]), (x,), (jnp.ones_like(x),))[1]

    return differentiated


@partial(gaussian_joint.defjvp, symbolic_zeros=True)
def _gaussian_joint_jvp(f, order, primals, tangents):
    size = len(primals[1])

    def mean(u, *lost):
        left = tuple((side, times - sum(order[i][0] == side for i in lost)) for side, times in order)
        value = gaussian_joint(u, left, *primals)
        return value if all(times >= -1 for _, times in left) else jnp.full_like(value, jnp.nan)

    value = mean(f)
    terms = [jnp.zeros_like(value)]
    pairs = [(i, j) for i in range(size) for j in range(i, size)]
    for (i, j), tangent in zip(pairs, tangents[0], strict=True):
        if type(tangent) is not SymbolicZero:
            both = mean(partial_derivative(partial_derivative(f, i), j), i, j)
            terms.append((0.5 if i == j else 1.0) * both * tangent)
    for i, tangent in enumerate(tangents[1]):
        if type(tangent) is not SymbolicZero:
            terms.append(mean(partial_derivative(f, i), i) * tangent)
    for i, tangent in enumerate(tangents[2]):
        if type(tangent) is not SymbolicZero:
            terms.append(mean(partial_derivative(f, size + i)) * tangent)
    return value, sum(terms[1:], terms[0]).astype(value.dtype)
