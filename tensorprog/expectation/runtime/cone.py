"""E A(y1) step(y2) B(y3) step(y4) for A and B either step or relu and four correlated Gaussians of mean zero.

Everything is homogeneous, so that Stein's lemma reduces every moment to orthant probabilities. Those of up to three
variables are arcsines; that of four is one integral of them (Plackett 1954), along the path on which the covariances
between (y1, y2) and (y3, y4) grow from zero. A variable of variance zero makes its step 1/2.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .arccosine import arcsin
from .shapes import correlation, float_dtype, reciprocal, same_rank
from .split import tanh_sinh

CONE_PAIRS = tuple(zip(*np.triu_indices(4), strict=True))
CONE_DOUBLE, CONE_SINGLE = tanh_sinh(49), tanh_sinh(25)
ROOT_2PI = float(np.sqrt(2 * np.pi))


class Cone:
    """Correlations of four Gaussians, also given that some of them are zero."""

    def __init__(self, covariance):
        entries = dict(zip(CONE_PAIRS, same_rank(*covariance), strict=True))
        self.roots = [jnp.sqrt(jnp.maximum(entries[i, i], 0)) for i in range(4)]
        self.table = {
            ((i, j), ()): correlation(entries[i, j], entries[i, i], entries[j, j]) for i, j in CONE_PAIRS if i != j
        }
        self.entries = entries

    def r(self, i, j, given=()):
        """The correlation of i and j where those in `given` are zero; 0 where one of them is then certain."""
        if i == j:
            return 1.0
        key = (min(i, j), max(i, j)), tuple(sorted(given))
        if key not in self.table:
            *before, m = key[1]
            c, a, b = self.r(i, j, before), self.r(i, m, before), self.r(j, m, before)
            spread = jnp.sqrt((1 - a) * (1 + a)) * jnp.sqrt((1 - b) * (1 + b))
            self.table[key] = jnp.clip((c - a * b) * reciprocal(spread), -1, 1)
        return self.table[key]

    def spread(self, i, given):
        """The standard deviation of i, in units of its own, where those in `given` are zero."""
        total = 1.0
        for n, m in enumerate(given):
            c = self.r(i, m, given[:n])
            total = total * jnp.sqrt((1 - c) * (1 + c))
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

    def four(self):
        """P(y_1, ..., y_4 > 0).

        The integrand is analytic but for singularities at distances beyond the path's end that may be small or zero:
        there the nodes crowd.
        """
        left, right = self.r(0, 1), self.r(2, 3)
        cross = {(i, j): self.r(i, j) for i in (0, 1) for j in (2, 3)}
        shape = jnp.broadcast_shapes(*(jnp.shape(c) for c in (left, right, *cross.values())))
        dtype = self.entries[0, 0].dtype
        x, weights = CONE_DOUBLE if dtype == jnp.float64 else CONE_SINGLE
        rests = jnp.asarray(x[::-1].copy(), dtype)  # what is left of the path, with all its digits
        weights = jnp.asarray(weights[::-1].copy(), dtype)

        def add(n, total):
            rest = rests[n]
            s = 1 - rest
            for (i, j), c in cross.items():
                other, another = 1 - i, 5 - j
                e, f, g, h = s * c, s * cross[other, j], s * cross[i, another], s * cross[other, another]
                # 1 - e² without cancellation
                d = ((1 - jnp.abs(c)) + rest * jnp.abs(c)) * (1 + jnp.abs(e))
                scale = reciprocal(d)
                first = 1 - (left * left - 2 * left * f * e + f * f) * scale
                second = 1 - (right * right - 2 * right * g * e + g * g) * scale
                both = h - (left * g + f * right - e * (left * right + f * g)) * scale
                good = (first > 0) & (second > 0)
                spread = jnp.sqrt(jnp.where(good, first * second, 1))
                r = jnp.where(good, jnp.clip(both / spread, -1, 1), 0)
                slope = (0.25 + arcsin(r) / (2 * jnp.pi)) / (2 * jnp.pi)
                total = total + weights[n] * c * jnp.sqrt(scale) * slope
            return total

        start = jnp.broadcast_to(self.two(0, 1) * self.two(2, 3), shape).astype(dtype)
        return lax.fori_loop(0, rests.size, add, start)

    def by_scale(self, slopes, fixed):
        """Completes derivatives: what does not depend on the scale of y_m has d/dS_mm from the other d/dS_mj."""
        for m in fixed:
            rest = sum(self.entries[tuple(sorted((m, j)))] * slopes[tuple(sorted((m, j)))] for j in range(4) if j != m)
            slopes[m, m] = -0.5 * rest * reciprocal(self.entries[m, m])
        return slopes


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
    return Cone(covariance).four()


@partial(cone_step_step.defjvp, symbolic_zeros=True)
def _cone_step_step_jvp(primals, tangents):
    cone = Cone(primals)

    def slope(i, j):
        if i == j:
            others = {tuple(sorted((i, m))): slope(*sorted((i, m))) for m in range(4) if m != i}
            return cone.by_scale(others, (i,))[i, i]
        a, b = (m for m in range(4) if m not in (i, j))
        return cone.density(i, j) * cone.two(a, b, (i, j))

    return along(cone_step_step(*primals), slope, tangents)


@jax.custom_jvp
def cone_relu_step(*covariance):
    """E relu(y1) step(y2) step(y3) step(y4)."""
    cone = Cone(covariance)
    total = cone.three(1, 2, 3, (0,))
    for j in (1, 2, 3):
        a, b = (m for m in (1, 2, 3) if m != j)
        total = total + cone.r(0, j) * cone.three(0, a, b, (j,))
    return cone.roots[0] * total / ROOT_2PI


@partial(cone_relu_step.defjvp, symbolic_zeros=True)
def _cone_relu_step_jvp(primals, tangents):
    cone = Cone(primals)

    def slope(i, j):
        if i == 0:
            at = j
            a, b, c = (m for m in range(4) if m != at)
            return (0.5 if j == 0 else 1.0) * cone.density(at) * cone.three(a, b, c, (at,))
        if i == j:
            others = {tuple(sorted((i, m))): slope(*sorted((i, m))) for m in range(4) if m != i}
            return cone.by_scale(others, (i,))[i, i]
        (m,) = {1, 2, 3} - {i, j}
        mean = cone.roots[0] * cone.spread(0, (i, j)) * (1 + cone.r(0, m, (i, j))) / (2 * ROOT_2PI)
        return cone.density(i, j) * mean

    return along(cone_relu_step(*primals), slope, tangents)


def _relu_relu(cone, four):
    total = cone.r(0, 2) * cone.roots[2] * four
    for j in (0, 1, 3):
        total = total + cone.r(0, j) * cone.relu_of_three(2, (j,)) / ROOT_2PI
    return cone.roots[0] * total


@jax.custom_jvp
def cone_relu_relu(*covariance):
    """E relu(y1) step(y2) relu(y3) step(y4)."""
    cone = Cone(covariance)
    return _relu_relu(cone, cone.four())


@partial(cone_relu_relu.defjvp, symbolic_zeros=True)
def _cone_relu_relu_jvp(primals, tangents):
    cone = Cone(primals)
    value = cone_relu_relu(*primals)

    def slope(i, j):
        if (i, j) == (0, 2):
            return cone_step_step(*primals)
        if (i, j) == (1, 3):
            c = cone.r(0, 2, (1, 3))
            mean = (jnp.sqrt((1 - c) * (1 + c)) + (0.5 * jnp.pi + arcsin(c)) * c) / (2 * jnp.pi)
            scale = cone.roots[0] * cone.spread(0, (1, 3)) * cone.roots[2] * cone.spread(2, (1, 3))
            return cone.density(1, 3) * scale * mean
        if i == j and i in (1, 3):
            others = {tuple(sorted((i, m))): slope(*sorted((i, m))) for m in range(4) if m != i}
            return cone.by_scale(others, (i,))[i, i]
        # one relu loses its edge, the delta stands where it or a step was
        if i == j:
            return 0.5 * cone.density(i) * cone.relu_of_three(2 - i, (i,))
        relu, at = (i, j) if i in (0, 2) else (j, i)
        return cone.density(at) * cone.relu_of_three(2 - relu, (at,))

    return along(value, slope, tangents)
