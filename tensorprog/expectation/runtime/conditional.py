"""E F(u, t) for two Gaussians, where F(u, t) is itself the expectation over all others, given these two."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .hermite import trapezoid_functions
from .joint import partial_derivative
from .polar import polar_rules
from .shapes import RESOLUTION, common_shape, correlation, finer, reciprocal, same_rank
from .split import gauss_legendre, integrate_pieces, standardized, tanh_sinh

OUTER_POLAR = {True: polar_rules(24, 20, 8.0), False: polar_rules(12, 12, 6.5)}
OUTER_CROWDED, OUTER_EVEN = tanh_sinh(61), gauss_legendre(32)
QUICK_NODES, QUICK_TERMS = np.linspace(-7.2, 7.2, finer(49)), finer(44)


def plane_rule(step, reach):
    """Nodes and weights of the trapezoidal rule in two dimensions, in a disc: (2, nodes), (nodes,)."""
    step = step / RESOLUTION
    x = np.arange(-np.floor(reach / step), np.floor(reach / step) + 1) * step
    nodes = np.stack(np.meshgrid(x, x)).reshape(2, -1)
    nodes = nodes[:, np.sum(nodes**2, axis=0) <= reach**2]
    weights = np.exp(-np.sum(nodes**2, axis=0) / 2)
    return nodes, weights / weights.sum()


# how many numbers are computed at once
OUTER_BATCH = 4096
OUTER_PLANE = {True: plane_rule(0.25, 7.5), False: plane_rule(0.4, 5.6)}


def outer_arrays(k, p, q, mu, nu, parameters):
    """The arguments of an outer rule with one rank, the roots of the variances, the correlation, shape and dtype."""
    k, p, q, mu, nu, *parameters = same_rank(k, p, q, mu, nu, *parameters)
    roots = jnp.sqrt(jnp.maximum(p, 0)), jnp.sqrt(jnp.maximum(q, 0))
    return roots, correlation(k, p, q), mu, nu, parameters, common_shape(k, p, q, mu, nu, *parameters), k.dtype


def sum_over_nodes(term, nodes, weights, shape, dtype):
    """The sum of weights times term(*node); small tables take many nodes at a time, on an axis before all others."""
    count = len(weights)
    batch = min(count, max(1, OUTER_BATCH // max(int(np.prod(shape)), 1)))
    steps = -(-count // batch)
    padded = [np.concatenate([a, np.zeros(steps * batch - count)]) for a in (*nodes, weights)]
    arrays = [jnp.asarray(a, dtype).reshape(steps, batch, *[1] * len(shape)) for a in padded]

    def add(n, total):
        *node, weight = (a[n] for a in arrays)
        return (total + jnp.sum(weight * term(*node), axis=0)).astype(dtype)

    return lax.fori_loop(0, steps, add, jnp.zeros(shape, dtype))


def polar_outer(f, k, p, q, mu, nu, parameters):
    """f analytic on either side of u = 0 and of t = 0, means zero; as polar_pair."""
    (p_root, q_root), c, _, _, parameters, shape, dtype = outer_arrays(k, p, q, mu, nu, parameters)
    opposite = jnp.arccos(c)
    angles, angle_weights, radii, radius_weights = OUTER_POLAR[dtype == jnp.float64]

    def term(s, r):
        total = 0.0
        for width, sign in ((jnp.pi - opposite, 1), (opposite, -1)):
            u, t = p_root * r * jnp.sin(s * width), sign * q_root * r * jnp.sin((1 - s) * width)
            total = total + width * (f(u, t, *parameters) + f(-u, -t, *parameters))
        return total

    nodes = [a.ravel() for a in np.meshgrid(angles, radii, indexing="ij")]
    return sum_over_nodes(term, nodes, np.outer(angle_weights, radius_weights).ravel(), shape, dtype)


def plane_outer(f, k, p, q, mu, nu, parameters):
    """f smooth: the trapezoidal rule in two independent directions."""
    (p_root, q_root), c, mu, nu, parameters, shape, dtype = outer_arrays(k, p, q, mu, nu, parameters)
    # symmetric in u and t: each is one of two sides of an angle, with the correlation as its cosine
    near, far = jnp.sqrt((1 + c) / 2), jnp.sqrt((1 - c) / 2)

    def term(a, b):
        return f(mu + p_root * (near * a + far * b), nu + q_root * (near * a - far * b), *parameters)

    nodes, weights = OUTER_PLANE[dtype == jnp.float64]
    return sum_over_nodes(term, nodes, weights, shape, dtype)


def split_outer(u_kinks, t_kinks):
    """The rule where f has kinks at u_kinks(*parameters) and t_kinks(*parameters)."""

    def rule(f, k, p, q, mu, nu, parameters):
        (p_root, q_root), c, mu, nu, parameters, shape, dtype = outer_arrays(k, p, q, mu, nu, parameters)
        s = jnp.sqrt((1 - c) * (1 + c))
        t_places = [standardized(place, nu, q_root) for place in t_kinks(*parameters)]

        def outer(x):
            def inner(y):
                return f(mu + p_root * x, nu + q_root * (c * x + s * y), *parameters)

            cuts = [standardized(place, c * x, s) for place in t_places]
            return integrate_pieces(inner, cuts, OUTER_EVEN, shape, dtype)

        points = [standardized(place, mu, p_root) for place in u_kinks(*parameters)]
        points += [standardized(place, 0, c) for place in t_places]
        return integrate_pieces(outer, points, OUTER_CROWDED, shape, dtype)

    return rule


def quick_hermite(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
    """E f(z) g(w) of smooth functions, as hermite_pair with few nodes and terms: for use at every node of another
    rule.
    """
    k, p, q, mu, nu, *scalars = same_rank(k, p, q, mu, nu, *f_scalars, *g_scalars)
    f_scalars, g_scalars = scalars[: len(f_scalars)], scalars[len(f_scalars) :]
    x, matrix = QUICK_NODES, trapezoid_functions(QUICK_NODES, QUICK_TERMS)
    c = correlation(k, p, q)
    nodes = jnp.asarray(x, c.dtype).reshape(-1, *[1] * c.ndim)
    f_values = f(mu + jnp.sqrt(jnp.maximum(p, 0)) * nodes, *f_scalars).astype(c.dtype)
    g_values = g(nu + jnp.sqrt(jnp.maximum(q, 0)) * nodes, *g_scalars).astype(c.dtype)
    a, b = (jnp.tensordot(jnp.asarray(matrix, c.dtype), v, 1, precision="highest") for v in (f_values, g_values))
    total = a[-1] * b[-1]
    for m in range(QUICK_TERMS - 2, -1, -1):
        total = total * c + a[m] * b[m]
    return total


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def gaussian_outer(rule, order, f, k, p, q, mu, nu, parameters):
    """E f(u, t, *parameters), u and t Gaussian with means mu, nu, variances p, q and covariance k, by `rule`.

    `order` tells how often f can be differentiated in u and in t before it jumps. Derivatives as in gaussian_pair.
    """
    return rule(f, k, p, q, mu, nu, parameters)


@partial(gaussian_outer.defjvp, symbolic_zeros=True)
def _gaussian_outer_jvp(rule, order, f, primals, tangents):
    k, p, q, mu, nu, parameters = primals
    dk, dp, dq, dmu, dnu, dparameters = tangents
    moves = lambda tangent: type(tangent) is not SymbolicZero  # noqa: E731

    def mean(function, lost=(0, 0), more=()):
        left = (order[0] - lost[0], order[1] - lost[1])
        value = gaussian_outer(rule, left, function, k, p, q, mu, nu, (*parameters, *more))
        return value if min(left) >= -1 else jnp.full_like(value, jnp.nan)

    value = mean(f)
    terms = [jnp.zeros_like(value)]
    by_u, by_t = partial_derivative(f, 0), partial_derivative(f, 1)
    slopes = mean(partial_derivative(by_u, 1), (1, 1)) if any(map(moves, (dk, dp, dq))) else None
    if moves(dk):
        terms.append(slopes * dk)
    for i, slope, own, tangent, centre in ((0, by_u, p, dp, mu), (1, by_t, q, dq, nu)):
        lost = (1, 0) if i == 0 else (0, 1)
        if moves(tangent) and order[i] >= 1:
            terms.append(0.5 * mean(partial_derivative(slope, i), tuple(2 * a for a in lost)) * tangent)
        elif moves(tangent):
            distance = lambda *a, i=i, slope=slope: (a[i] - a[-1]) * slope(*a[:-1])  # noqa: E731
            terms.append((mean(distance, lost, (centre,)) - k * slopes) * (0.5 * reciprocal(own)) * tangent)
    if moves(dmu):
        terms.append(mean(by_u, (1, 0)) * dmu)
    if moves(dnu):
        terms.append(mean(by_t, (0, 1)) * dnu)
    for i, tangent in enumerate(dparameters):
        if moves(tangent):
            terms.append(mean(partial_derivative(f, 2 + i)) * tangent)
    return value, jnp.broadcast_to(sum(terms), value.shape).astype(value.dtype)
