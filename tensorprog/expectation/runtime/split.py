"""Quadrature cut where functions change, for what no better rule serves: right at any variance, and slow."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .shapes import RESOLUTION, common_shape, correlation, finer, same_rank

SPLIT_REACH = 7.5


def tanh_sinh(count):
    """Nodes and weights on (0, 1), crowded doubly exponentially at both ends (Takahasi & Mori 1974)."""
    t = np.linspace(-3.0, 3.0, finer(count))
    x = 1 / (1 + np.exp(-np.pi * np.sinh(t)))
    weights = np.pi * np.cosh(t) * x * (1 - x)
    return x, weights / weights.sum()


def gauss_legendre(count):
    """Nodes and weights of the Gauss-Legendre rule on (0, 1)."""
    x, weights = np.polynomial.legendre.leggauss(finer(count))
    return (x + 1) / 2, weights / 2


def breaks(points, shape, dtype):
    """The points, sorted and clipped to the reach, between both ends of it: an array (len(points) + 2, *shape)."""
    ends = (-SPLIT_REACH, SPLIT_REACH)
    stacked = jnp.stack([jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in (*ends, *points)])
    return jnp.sort(jnp.clip(stacked, *ends), axis=0)


def integrate_pieces(integrand, points, rule, shape, dtype):
    """The integral of integrand(x)·(density of N(0, 1)) over the line, cut at the points; one node at a time."""
    edges = breaks(points, shape, dtype)
    nodes, weights = (jnp.asarray(a, dtype) for a in (rule[0], rule[1] / np.sqrt(2 * np.pi)))

    def add(i, total):
        left, right = edges[i // nodes.size], edges[i // nodes.size + 1]
        x = left + (right - left) * nodes[i % nodes.size]
        term = integrand(x) * jnp.exp(-0.5 * x * x) * (right - left)
        return total + weights[i % nodes.size] * term.astype(dtype)

    return lax.fori_loop(0, (edges.shape[0] - 1) * nodes.size, add, jnp.zeros(shape, dtype))


def standardized(place, mean, root):
    """Where x = (place - mean)/root; far outside if root = 0."""
    tiny = np.finfo(np.dtype(root.dtype)).tiny ** 0.5
    return (place - mean) / jnp.where(jnp.abs(root) < tiny, tiny, root)


def log_spaced(step):
    """The trapezoidal rule in a on 1/(1 + exp(-a)), to exp(-40) from either end of (0, 1): the distances of its nodes
    from both ends, its weights, and what is added to those of a last node and of the one before it for the stretch
    beyond, on which the integrand counts as linear.
    """
    a = step * np.arange(-int(40 / step), int(40 / step) + 1)
    near, far = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(a))
    weights = step * near * far / np.sqrt(2 * np.pi)
    # what all nodes beyond one would add to the integrals of 1 and of the distance from the end, put on it and the next
    x, w = near[: a.size // 2 + 1], weights[: a.size // 2 + 1]
    whole, moment = np.cumsum(w) - w, np.cumsum(w * x) - w * x
    second = (moment - whole * x)[:-1] / np.diff(x)
    last, second = whole[:-1] - second, np.concatenate([[0.0], second[:-1]])
    mirrored = lambda v: np.concatenate([v, [0.0], v[::-1]])  # noqa: E731
    return near, far, weights, mirrored(last), mirrored(second)


# by dtype: step in the logarithm of the distance from a cut, and how far below the finest change the nodes reach
GRADED_NODES = {
    double: (step, log_spaced(step)) for double, step in ((True, 0.20 / RESOLUTION), (False, 0.30 / RESOLUTION))
}
GRADED_MARGIN = {True: 8.0, False: 5.0}
# numbers that are computed at once, where tables are smaller
GRADED_BATCH = 4096


def depth_of(root, finest):
    """How many e-foldings below the reach the finest changes lie of a function of deviation `root`: a scalar."""
    largest = jnp.max(jnp.where(jnp.isfinite(root), root, 0))
    return jnp.clip(jnp.log(SPLIT_REACH * jnp.maximum(largest, finest) / finest), 2.0, 24.0)


def integrate_graded(integrand, places, mean, root, depth, shape, dtype):
    """E integrand(z, (z - mean)/root) for a Gaussian z of that mean and deviation. The line is cut at the places, about
    which the nodes are spaced evenly in the logarithm of the distance: changes on every scale down to exp(-depth)
    deviations are resolved alike.

    The trapezoidal rule in a on left + (right - left)/(1 + exp(-a)); `depth` may be traced, and gives the number of
    nodes. z is taken from the nearer cut, so that it keeps its digits there.
    """
    cuts, places_of_cuts = [-SPLIT_REACH, SPLIT_REACH], [mean - root * SPLIT_REACH, mean + root * SPLIT_REACH]
    for place in places:
        x = jnp.clip(standardized(place, mean, root), -SPLIT_REACH, SPLIT_REACH)
        cuts = inserted(cuts, x)
        places_of_cuts = inserted(places_of_cuts, jnp.where(jnp.abs(x) < SPLIT_REACH, place, mean + root * x))
    edges, natural = (
        jnp.stack([jnp.broadcast_to(jnp.asarray(v, dtype), shape) for v in values]) for values in (cuts, places_of_cuts)
    )
    double = dtype == jnp.float64
    step, tables = GRADED_NODES[double]
    half = jnp.ceil((depth + GRADED_MARGIN[double]) / step).astype(int)
    known = all(isinstance(n, int) for n in shape)
    batch = max(1, min(128, GRADED_BATCH // max(int(np.prod(shape)), 1))) if known else 1
    # what is read beyond the tables counts nothing, and stands in the middle, far from where a function may be infinite
    ends = (0.5, 0.5, 0.0, 0.0, 0.0)
    tables = [jnp.asarray(np.append(v, np.full(batch, end)), dtype) for v, end in zip(tables, ends, strict=True)]
    middle = (tables[0].size - batch) // 2
    chunks = lax.div(2 * half + batch, jnp.asarray(batch, half.dtype))

    def add(n, total):
        # not // and %, which make a dozen small kernels to compile
        piece = lax.div(n, chunks)
        first = (n - piece * chunks) * batch - half
        i = first + jnp.arange(batch)
        one, other, weight, last, second = (lax.dynamic_slice_in_dim(v, middle + first, batch) for v in tables)
        weight = weight + jnp.where(jnp.abs(i) == half, last, 0) + jnp.where(jnp.abs(i) == half - 1, second, 0)
        weight = jnp.where(i <= half, weight, 0)
        one, other, weight = (v.reshape(batch, *[1] * len(shape)) for v in (one, other, weight))
        left, right, low, high = edges[piece], edges[piece + 1], natural[piece], natural[piece + 1]
        x = jnp.where(one < other, left + (right - left) * one, right - (right - left) * other)
        z = jnp.where(one < other, low + (high - low) * one, high - (high - low) * other)
        term = integrand(z, x) * (jnp.exp(-0.5 * x * x) * (right - left) * weight)
        # an empty piece adds nothing, whatever the integrand is there
        return total + jnp.sum(jnp.where(right > left, term, 0), axis=0).astype(dtype)

    # pieces of no length are left out, and so are those whose ends are not numbers: a value that is none stays so
    start = jnp.zeros(shape, dtype) + jnp.where(jnp.isnan(mean + root), jnp.nan, 0).astype(dtype)
    return lax.fori_loop(jnp.zeros_like(chunks), (edges.shape[0] - 1) * chunks, add, start)


def inserted(ordered, value):
    """The ascending list of arrays with one more, between its first and its last."""
    found = ordered[:1]
    for other in ordered[1:-1]:
        found.append(jnp.minimum(other, value))
        value = jnp.maximum(other, value)
    return [*found, value, ordered[-1]]


def split_pair(f_places, g_places, finest=(1.0, 1.0), centred=False):
    """The rule for E f(z) g(w) at any variance and correlation, where f and g change about the places that
    f_places(*scalars), g_places(*scalars) give, and are smooth elsewhere: kinks, and bends of smooth functions.

    The outer integral, over z, is cut at the places of f and where the conditional mean of w crosses a place of g:
    near there, the inner integral changes within sqrt(1 - c²). The inner one, over w given z, is cut at the places of
    g. `finest` gives the least distances over which f and g change. `centred`: all places and means are zero.
    """

    def rule(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
        k, p, q, mu, nu, *scalars = same_rank(k, p, q, mu, nu, *f_scalars, *g_scalars)
        f_scalars, g_scalars = scalars[: len(f_scalars)], scalars[len(f_scalars) :]
        shape, dtype = common_shape(k, p, q, mu, nu, *scalars), k.dtype
        c = correlation(k, p, q)
        s = jnp.sqrt((1 - c) * (1 + c))
        p_root, q_root = jnp.sqrt(jnp.maximum(p, 0)), jnp.sqrt(jnp.maximum(q, 0))
        inner_depth = depth_of(q_root * s, finest[1])
        outer_depth = jnp.maximum(depth_of(p_root, finest[0]), depth_of(q_root, finest[1]))
        # where g jumps, what is left of the inner integral changes within s of a deviation
        outer_depth = jnp.maximum(outer_depth, depth_of(jnp.ones((), dtype), jnp.min(jnp.where(s > 0, s, 1.0))))

        def outer(z, x):
            # the nodes of z stand on an axis before all others; those of w on one more
            given = integrate_graded(
                lambda w, _: g(w, *g_scalars),
                g_places(*g_scalars),
                nu + c * (q_root * x),
                q_root * s,
                inner_depth,
                jnp.broadcast_shapes(x.shape, shape),
                dtype,
            )
            return f(z, *f_scalars) * given

        places = [*f_places(*f_scalars)]
        if not centred:
            crossings = [standardized(place, nu, q_root * c) for place in g_places(*g_scalars)]
            places += [mu + p_root * jnp.clip(x, -2 * SPLIT_REACH, 2 * SPLIT_REACH) for x in crossings]
        return integrate_graded(outer, places, mu, p_root, outer_depth, shape, dtype)

    return rule


def split_mean(places, finest=1.0):
    """The rule for E f(z) at any variance, f smooth but about the places that places(*scalars) gives."""

    def rule(f, p, mu, scalars):
        p, mu, *scalars = same_rank(p, mu, *scalars)
        root, shape = jnp.sqrt(jnp.maximum(p, 0)), common_shape(p, mu, *scalars)
        cuts = [*places(*scalars), mu]
        depth = depth_of(root, finest)
        return integrate_graded(lambda z, _: f(z, *scalars), cuts, mu, root, depth, shape, p.dtype)

    return rule
