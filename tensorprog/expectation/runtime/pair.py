"""E f(z) g(w) for jointly Gaussian z and w by any rule, with its derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .mean import gaussian_mean
from .shapes import common_shape, correlation, float_dtype, reciprocal, same_rank, without_entries
from .slopes import (
    LARGE_VARIANCE,
    both_sides,
    density,
    derivative,
    jump,
    scalar_derivative,
    slope_by_variance,
    times_distance,
)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def gaussian_pair(rule, order, f, g, k, p, q, mu, nu, f_scalars, g_scalars):
    """E f(z, *f_scalars) g(w, *g_scalars), z and w Gaussian with means mu, nu, variances p, q and covariance k.

    `rule` computes the value; `order` tells how often f and g can be differentiated before they jump, and, where they
    do at some time, for each the function of its scalars that gives the places, and a rule for means.

    Derivatives, to all orders: Price's theorem, d/dk = E f'(z) g'(w), and d/dp = (1/2) E f''(z) g(w), or, where f'
    jumps or p is large, (E (z - mu) f'(z) g(w) - k E f'(z) g'(w))/(2p) by Stein's lemma, taken as 0 at p = 0. The
    derivative of what jumps has a delta at each jump: E delta(z - a) g(w) is a density times a conditional mean. At
    correlation +-1 two deltas meet or miss, and count as 0: second derivatives d²/dx dx' of a kernel at x = x', in
    which they cancel, are right. NaN where places are not known.
    """
    everything = (k, p, q, mu, nu, *f_scalars, *g_scalars)
    if without_entries(*everything):  # which have no largest variance either, by which rules choose
        return jnp.zeros(common_shape(*everything), float_dtype(*everything))
    return rule(f, g, k, p, q, mu, nu, f_scalars, g_scalars)


@partial(gaussian_pair.defjvp, symbolic_zeros=True)
def _gaussian_pair_jvp(rule, order, f, g, primals, tangents):
    k, p, q, *_ = primals
    dk, dp, dq, dmu, dnu, df_scalars, dg_scalars = tangents
    pair = _Slopes(rule, order, primals)
    moves = lambda tangent: type(tangent) is not SymbolicZero  # noqa: E731

    value = pair.mean(f, g)
    terms = []
    slopes = pair.mean(f, g, (1, 1)) if any(map(moves, (dk, dp, dq))) else None
    turned = [dk] if moves(dk) else []
    for side, variance, moved in ((0, p, dp), (1, q, dq)):
        if moves(moved):
            own, share = pair.by_variance((f, g), side, variance)
            terms.append(own * moved)
            turned.append(-k * share * moved)
    if turned:
        # the change of the correlation, put together before it meets a slope: at large variance a function that
        # saturates hardly sees the rest
        terms.append(slopes * sum(turned))
    if moves(dmu):
        terms.append(pair.mean(f, g, (1, 0)) * dmu)
    if moves(dnu):
        terms.append(pair.mean(f, g, (0, 1)) * dnu)
    for i, tangent in enumerate(df_scalars):
        if moves(tangent):
            terms.append(pair.known(0, pair.mean(scalar_derivative(f, i), g, lost=(1, 0))) * tangent)
    for i, tangent in enumerate(dg_scalars):
        if moves(tangent):
            terms.append(pair.known(1, pair.mean(f, scalar_derivative(g, i), lost=(0, 1))) * tangent)
    total = sum(terms) if terms else jnp.zeros_like(value)
    return value, jnp.broadcast_to(total, value.shape).astype(value.dtype)


class _Slopes:
    """E f g, E f' g, ... at one point."""

    def __init__(self, rule, order, primals):
        self.rule, self.times, self.marks = rule, order[:2], order[2:]
        *self.moments, f_scalars, g_scalars = primals
        self.scalars = f_scalars, g_scalars

    def known(self, side, value):
        """The value, or NaN where a jump moves with a scalar."""
        return value if self.times[side] >= 0 else jnp.full_like(value, jnp.nan)

    def by_variance(self, functions, side, variance):
        """(a, s) with d/dp = a - k·s·E f'(z) g'(w): (1/2) E f''(z) g(w) and 0, or by Stein's lemma."""
        slopes = (1 - side, side)
        if self.times[side] < 1:
            share = 0.5 * reciprocal(variance)
            return self.mean(functions[0], functions[1], slopes, away=True) * share, share
        chosen, scalars, left = list(functions), list(self.scalars), list(self.times)
        chosen[side] = slope_by_variance(functions[side])
        scalars[side] = (*scalars[side], self.moments[3 + side], variance)
        left[side] -= 2
        own = gaussian_pair(self.rule, (*left, *self.marks), *chosen, *self.moments, *map(tuple, scalars))
        return own, jnp.where(variance > LARGE_VARIANCE, 0.5 * reciprocal(variance), 0)

    def mean(self, f, g, slopes=(0, 0), lost=(0, 0), away=False):
        """E f(z) g(w), with f' for f and g' for g where `slopes` says 1; with (z - mu)·f' or (w - nu)·g' if `away`.

        lost: how many derivatives f and g have lost to those that `order` speaks of.
        """
        times = [t - m for t, m in zip(self.times, lost, strict=True)]
        functions, scalars = [], []
        for function, slope, values, centre in zip((f, g), slopes, self.scalars, self.moments[3:], strict=True):
            regular = derivative(function) if slope else function
            functions.append(times_distance(regular) if slope and away else regular)
            scalars.append((*values, centre) if slope and away else tuple(values))
        left = [max(t - s, -1) for t, s in zip(times, slopes, strict=True)]
        total = gaussian_pair(self.rule, (*left, *self.marks), *functions, *self.moments, *scalars)
        jumps = [bool(slope) and t < 0 for slope, t in zip(slopes, times, strict=True)]
        if not any(jumps):
            return total
        if not self.marks:
            return jnp.full_like(total, jnp.nan)
        k, p, q, mu, nu = same_rank(*self.moments)
        c = correlation(k, p, q)
        gap = (1 - c) * (1 + c)
        sides = (p, mu), (q, nu)

        def given(side, place):
            """Mean and variance of the other variable where that of this side is at a place."""
            (variance, mean), (other, centre) = sides[side], sides[1 - side]
            return centre + k * reciprocal(variance) * (place - mean), other * gap

        for side, function in ((0, f), (1, g)):
            if not jumps[side]:
                continue
            variance, mean = sides[side]
            for place in self.marks[side][0](*self.scalars[side]):
                weight = jump(function, place, self.scalars[side], k.dtype) * density(place, mean, variance)
                weight = weight * (place - mean) if away else weight
                middle, spread = given(side, place)
                total = total + weight * self._other(1 - side, left, functions, scalars, spread, middle, k.dtype)
        if all(jumps):
            for a in self.marks[0][0](*self.scalars[0]):
                middle, spread = given(0, a)
                weight = jump(f, a, self.scalars[0], k.dtype) * density(a, mu, p)
                for b in self.marks[1][0](*self.scalars[1]):
                    total = total + weight * jump(g, b, self.scalars[1], k.dtype) * density(b, middle, spread)
        return total

    def _other(self, side, left, functions, scalars, variance, mean, dtype):
        """E of the other side's function, given this side's place; halfway at a jump where it is certain."""
        places, rule = self.marks[side]
        function, values = functions[side], scalars[side]
        found = gaussian_mean(rule, (left[side], places), function, variance, mean, values)
        below, above = both_sides(function, mean, values, dtype)
        return jnp.where(variance > 0, found, 0.5 * (below + above))
