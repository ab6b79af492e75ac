"""E f(z) g(w) of functions with kinks at zero, for means zero, in polar coordinates."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .shapes import common_shape, correlation, finer, same_rank


def polar_rules(angles, radii, reach):
    """Nodes and weights on (0, 1) for the angle, and on (0, inf) with r·exp(-r²/2)/(2·pi) for the radius."""
    x, x_weights = np.polynomial.legendre.leggauss(finer(angles))
    y, y_weights = np.polynomial.legendre.leggauss(finer(radii))
    s = (y + 1) / 2
    # a square puts nodes near r = 0, where functions of large variance change
    r = reach * s**2
    return (x + 1) / 2, x_weights / 2, r, reach * s * y_weights * r * np.exp(-(r**2) / 2) / (2 * np.pi)


POLAR_DOUBLE, POLAR_SINGLE = polar_rules(32, 24, 8.0), polar_rules(16, 16, 6.5)


def polar_pair(f, g, k, p, q, mu, nu, f_scalars, g_scalars):
    """E f(z) g(w), mu = nu = 0; f and g analytic on either side of zero.

    z = sqrt(p)·r·cos(t), w = sqrt(q)·r·cos(t - arccos c). The lines z = 0 and w = 0 cut the plane into two sectors of
    width pi - arccos c, where z and w have the same sign, and two of width arccos c, where they differ. In each, the
    integrand is analytic up to its edges for every c, so that Gauss-Legendre rules in angle and radius converge
    exponentially.
    """
    k, p, q, *scalars = same_rank(k, p, q, *f_scalars, *g_scalars)
    f_scalars, g_scalars = scalars[: len(f_scalars)], scalars[len(f_scalars) :]
    shape, dtype = common_shape(k, p, q, *scalars), k.dtype
    p_root, q_root = jnp.sqrt(jnp.maximum(p, 0)), jnp.sqrt(jnp.maximum(q, 0))
    opposite = jnp.arccos(correlation(k, p, q))
    alike = jnp.pi - opposite
    rules = POLAR_DOUBLE if dtype == jnp.float64 else POLAR_SINGLE
    angles, angle_weights, radii, radius_weights = (jnp.asarray(a, dtype) for a in rules)

    def add_angle(i, total):
        t = angles[i]
        z0, w0 = p_root * jnp.sin(t * alike), q_root * jnp.sin((1 - t) * alike)
        z1, w1 = p_root * jnp.sin(t * opposite), q_root * jnp.sin((1 - t) * opposite)

        def add_radius(j, sums):
            r = radii[j]
            u = lambda x: f(x, *f_scalars)  # noqa: E731
            v = lambda x: g(x, *g_scalars)  # noqa: E731
            same = u(r * z0) * v(r * w0) + u(-r * z0) * v(-r * w0)
            differ = u(r * z1) * v(-r * w1) + u(-r * z1) * v(r * w1)
            return sums + radius_weights[j] * (alike * same + opposite * differ)

        # unrolled by four, four radii share one pass over the table
        sums = lax.fori_loop(0, radii.size, add_radius, jnp.zeros(shape, dtype), unroll=4)
        return total + angle_weights[i] * sums

    return lax.fori_loop(0, angles.size, add_angle, jnp.zeros(shape, dtype))
