"""Inner products of data, for all pairs of samples at once."""

import jax.numpy as jnp

# Where samples share axes, a product of matrices for each index of these would have to be transposed afterwards; up to
# so many features, adding up products in the order of the result is faster.
FEW_FEATURES = 16


def inner_products(subscripts, x, y):
    """Σ_f x[…, f]·y[…, f], an einsum whose last index on either side is f, divided by the number of features."""
    of_x, of_y, out = subscripts.replace("->", ",").split(",")
    features = x.shape[-1]
    if features > FEW_FEATURES or not set(of_x[:-1]) & set(of_y[:-1]):
        return jnp.einsum(subscripts, x, y, precision="highest") / features

    def by_feature(a, indices):
        """a with the features first and the indices of the result after them, of length 1 where it lacks one."""
        order = [indices.index(i) for i in out if i in indices]
        return jnp.transpose(a, [a.ndim - 1, *order]).reshape(
            features, *(a.shape[indices.index(i)] if i in indices else 1 for i in out)
        )

    a, b = by_feature(x, of_x), by_feature(y, of_y)
    return sum(a[f] * b[f] for f in range(features)) / features
