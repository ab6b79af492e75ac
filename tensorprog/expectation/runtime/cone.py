"""E A(y1) step(y2) B(y3) step(y4) for A and B either step or relu and four correlated Gaussians of mean zero.

Orthant probabilities of up to three variables are arcsines, and so, by Stein's lemma, are their moments. Along the path
on which the covariances between (y1, y2) and (y3, y4) grow from zero to what they are, the derivatives of those of four
are of that kind (Plackett 1954; Price 1958): one integral is left. A variable of variance zero makes its step 1/2.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .arcsine import arcsin
from .shapes import correlation, float_dtype, reciprocal, same_rank

CONE_PAIRS = tuple((i, j) for i in range(4) for j in range(i, 4))
CONE_CROSS = ((0, 2), (0, 3), (1, 2), (1, 3))
ROOT_2PI = float(np.sqrt(2 * np.pi))


def cone_path(step, reach):
    """What is left of the path at the nodes, with all its digits, and weights: the tanh-sinh rule on (0, 1).

    The integrand is analytic but for singularities on the real axis, at distances beyond the path's end that may be
    small or zero: there the nodes crowd.
    """
    t = np.arange(-reach, 3.2, step)
    rest = 1 / (1 + np.exp(-np.pi * np.sinh(t)))
    return rest, step * np.pi * np.cosh(t) / (1 + np.exp(np.pi * np.sinh(t))) * rest


CONE_DOUBLE, CONE_SINGLE = cone_path(0.14, 3.85), cone_path(0.22, 3.0)


class Cone:
    """Correlations of four Gaussians, also given that some of them are zero."""

    def __init__(self, roots, correlations, gaps):
        self.roots = roots
        self.table = {(pair, ()): c for pair, c in correlations.items()}
        # 1 - c²
        self.gaps = {(pair, ()): gap for pair, gap in gaps.items()}

    @classmethod
    def of(cls, covariance):
        entries = dict(zip(CONE_PAIRS, same_rank(*covariance), strict=True))
        table = {(i, j): correlation(entries[i, j], entries[i, i], entries[j, j]) for i, j in CONE_PAIRS if i != j}
        gaps = {pair: (1 - c) * (1 + c) for pair, c in table.items()}
        return cls([jnp.sqrt(jnp.maximum(entries[i, i], 0)) for i in range(4)], table, gaps)

    def at(self, rest):
        """Earlier on the path, with variances one: 1 - rest times the correlations between the two sides."""
        table = {pair: self.r(*pair) for pair in ((0, 1), (2, 3))}
        gaps = {pair: self.gaps[pair, ()] for pair in table}
        for pair in CONE_CROSS:
            size = jnp.abs(self.r(*pair))
            table[pair] = (1 - rest) * self.r(*pair)
            gaps[pair] = ((1 - size) + rest * size) * (1 + (1 - rest) * size)
        return Cone([1.0] * 4, table, gaps)

    def r(self, i, j, given=()):
        """The correlation of i and j where those in `given` are zero; 0 where one of them is then certain."""
        if i == j:
            return 1.0
        key = (min(i, j), max(i, j)), tuple(sorted(given))
        if key not in self.table:
            *before, m = key[1]
            c, a, b = self.r(i, j, before), self.r(i, m, before), self.r(j, m, before)
            spread = jnp.sqrt(self.gap(i, m, before)) * jnp.sqrt(self.gap(j, m, before))
            self.table[key] = jnp.clip((c - a * b) * reciprocal(spread), -1, 1)
        return self.table[key]

    def gap(self, i, j, given=()):
        """1 - r²."""
        key = (min(i, j), max(i, j)), tuple(sorted(given))
        if key not in self.gaps:
            c = self.r(i, j, given)
            self.gaps[key] = (1 - c) * (1 + c)
        return self.gaps[key]

    def spread(self, i, given):
        """The standard deviation of i, in units of its own, where those in `given` are zero."""
        total: jax.Array | float = 1.0
        for n, m in enumerate(given):
            total = total * jnp.sqrt(self.gap(i, m, given[:n]))
        return total

    def density(self, *given):
        """The density at zero of those in `given`, one or two; 0 where it is infinite."""
        total = 1 / ROOT_2PI ** len(given)
        for n, m in enumerate(given):
            total = total * reciprocal(self.roots[m] * self.spread(m, given[:n]))
        return total

    def two(self, i, j, given=()):
        """P(y_i > 0, y_j > 0)."""
        return 0.25 + arcsin(self.r(i, j, given)) / (2 * jnp.pi)

    def three(self, i, j, m, given=()):
        """P(y_i > 0, y_j > 0, y_m > 0)."""
        angles = sum(arcsin(self.r(*pair, given)) for pair in ((i, j), (i, m), (j, m)))
        return 0.125 + angles / (4 * jnp.pi)

    def relu_of_three(self, i, given):
        """E relu(y_i) step(the other two), where the one in `given` is zero."""
        a, b = (m for m in range(4) if m != i and m not in given)
        total = self.two(a, b, (*given, i))
        for m, other in ((a, b), (b, a)):
            total = total + self.r(i, m, given) * self.two(i, other, (*given, m))
        return self.roots[i] * self.spread(i, given) * total / ROOT_2PI

    def relu_of_two(self, i, j, given=()):
        """E relu(y_i) step(y_j), where those in `given` are zero."""
        return self.roots[i] * self.spread(i, given) * (1 + self.r(i, j, given)) / (2 * ROOT_2PI)

    def relus(self, i, j, given):
        """E relu(y_i) relu(y_j), where those in `given` are zero."""
        c = self.r(i, j, given)
        mean = (jnp.sqrt(self.gap(i, j, given)) + (0.5 * jnp.pi + arcsin(c)) * c) / (2 * jnp.pi)
        return self.roots[i] * self.spread(i, given) * self.roots[j] * self.spread(j, given) * mean

    def steps_slope(self, i, j):
        """The derivative of P(y1, ..., y4 > 0) by the covariance of i and j."""
        a, b = (m for m in range(4) if m not in (i, j))
        return self.density(i, j) * self.two(a, b, (i, j))

    def relu_step_slope(self, i, j):
        """That of E relu(y1) step(y2) step(y3) step(y4), i < j."""
        if i == 0:
            a, b, c = (m for m in range(4) if m != j)
            return self.density(j) * self.three(a, b, c, (j,))
        (m,) = {1, 2, 3} - {i, j}
        return self.density(i, j) * self.relu_of_two(0, m, (i, j))

    def relus_slope(self, i, j):
        """That of E relu(y1) step(y2) relu(y3) step(y4), i < j, but for (y1, y3): there it is P(y1, ..., y4 > 0)."""
        if (i, j) == (1, 3):
            return self.density(1, 3) * self.relus(0, 2, (1, 3))
        relu, at = (i, j) if i in (0, 2) else (j, i)
        return self.density(at) * self.relu_of_three(2 - relu, (at,))

    def along_path(self, start, slope):
        """start + the integral of slope(the cone on the path, what is left of it)."""
        everything = [c for (_, given), c in self.table.items() if not given]
        shape, dtype = jnp.broadcast_shapes(*map(jnp.shape, everything)), everything[0].dtype
        rests, weights = (jnp.asarray(a, dtype) for a in (CONE_DOUBLE if dtype == jnp.float64 else CONE_SINGLE))

        def add(n, total):
            return (total + weights[n] * slope(self.at(rests[n]), rests[n])).astype(dtype)

        return lax.fori_loop(0, rests.size, add, jnp.broadcast_to(start, shape).astype(dtype))

    def grow(self, slope, pairs=CONE_CROSS):
        """The derivative along the path, where those by the covariances are slope(i, j)."""
        return sum(self.r(*pair) * slope(*pair) for pair in pairs)


def by_scale(entries, slopes, m):
    """d/dS_mm, by the other d/dS_mj, of what does not depend on the scale of y_m."""
    pairs = [tuple(sorted((m, j))) for j in range(4) if j != m]
    return -0.5 * sum(entries[pair] * slopes(*pair) for pair in pairs) * reciprocal(entries[m, m])


def along(value, slopes, tangents):
    """The sum of slopes times tangents, without those that are zero."""
    terms = [
        slopes(i, j) * tangent
        for (i, j), tangent in zip(CONE_PAIRS, tangents, strict=True)
        if type(tangent) is not SymbolicZero
    ]
    total = sum(terms) if terms else jnp.zeros_like(value)
    return value, jnp.broadcast_to(total, value.shape).astype(value.dtype)


def cone_sum(function, factors, covariances):
    """The sum of factors times the function of covariances; covariances[e] lists the e-th entry for every term."""
    everything = [a for entries in covariances for a in entries]
    pattern = jnp.zeros((1,) * max(map(jnp.ndim, everything)), float_dtype(*everything))

    def stacked(arrays):
        return jnp.stack(jnp.broadcast_arrays(*same_rank(*arrays, pattern)[:-1]))

    return jnp.sum(stacked(factors) * function(*map(stacked, covariances)), axis=0)


@jax.custom_jvp
def cone_step_step(*covariance):
    """P(y1, y2, y3, y4 > 0); `covariance` lists the entries (1, 1), (1, 2), ..., (2, 2), ... of the upper triangle.

    Where two variables have correlation +-1, the derivative by their covariance is infinite, and taken as 0.
    """
    whole = Cone.of(covariance)
    return whole.along_path(whole.two(0, 1) * whole.two(2, 3), lambda cone, _: whole.grow(cone.steps_slope))


@partial(cone_step_step.defjvp, symbolic_zeros=True)
def _cone_step_step_jvp(primals, tangents):
    cone, entries = Cone.of(primals), dict(zip(CONE_PAIRS, primals, strict=True))

    def slope(i, j):
        return by_scale(entries, cone.steps_slope, i) if i == j else cone.steps_slope(i, j)

    return along(cone_step_step(*primals), slope, tangents)


@jax.custom_jvp
def cone_relu_step(*covariance):
    """E relu(y1) step(y2) step(y3) step(y4)."""
    whole = Cone.of(covariance)
    unit = whole.at(0.0)
    start = unit.relu_of_two(0, 1) * whole.two(2, 3)
    return whole.roots[0] * whole.along_path(start, lambda cone, _: whole.grow(cone.relu_step_slope))


@partial(cone_relu_step.defjvp, symbolic_zeros=True)
def _cone_relu_step_jvp(primals, tangents):
    cone, entries = Cone.of(primals), dict(zip(CONE_PAIRS, primals, strict=True))

    def slope(i, j):
        if i != j:
            return cone.relu_step_slope(i, j)
        if i:
            return by_scale(entries, cone.relu_step_slope, i)
        return 0.5 * cone.density(0) * cone.three(1, 2, 3, (0,))

    return along(cone_relu_step(*primals), slope, tangents)


@jax.custom_jvp
def cone_relu_relu(*covariance):
    """E relu(y1) step(y2) relu(y3) step(y4)."""
    whole = Cone.of(covariance)
    unit = whole.at(0.0)

    def slope(cone, rest):
        # the integral of P(y1, ..., y4 > 0) by parts
        again = whole.r(0, 2) * rest * whole.grow(cone.steps_slope)
        return again + whole.grow(cone.relus_slope, CONE_CROSS[1:])

    start = unit.relu_of_two(0, 1) * unit.relu_of_two(2, 3) + whole.r(0, 2) * whole.two(0, 1) * whole.two(2, 3)
    return whole.roots[0] * whole.roots[2] * whole.along_path(start, slope)


@partial(cone_relu_relu.defjvp, symbolic_zeros=True)
def _cone_relu_relu_jvp(primals, tangents):
    cone, entries = Cone.of(primals), dict(zip(CONE_PAIRS, primals, strict=True))

    def slope(i, j):
        if (i, j) == (0, 2):
            return cone_step_step(*primals)
        if i != j:
            return cone.relus_slope(i, j)
        if i in (1, 3):
            return by_scale(entries, cone.relus_slope, i)
        return 0.5 * cone.density(i) * cone.relu_of_three(2 - i, (i,))

    return along(cone_relu_relu(*primals), slope, tangents)
