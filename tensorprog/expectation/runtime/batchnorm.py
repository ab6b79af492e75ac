"""Batch normalization, then a function that is linear on either side of 0, of Gaussian batches (Tensor Programs II).

A batch is a Gaussian vector h of B samples with covariance S and one mean for all samples; with z = h - (its mean over
the batch), u_b = z_b/sqrt(|z|²/B + eps). A function phi(u) = alpha·u + beta·|u| is given as (alpha, beta): relu is
(1/2, 1/2). Arrays are (..., B, B) for S and (..., B1, B2) for a cross covariance; their leading axes broadcast, with
those of eps if it has any; alpha and beta are scalars.

Since phi(z/r) = phi(z)/r for r > 0, what is needed is E phi(z_b) gamma(z'_b')/(r·r'), and a root becomes a Gaussian:

    1/r = (|z|²/B + eps)^(-1/2) = sqrt(B/pi) · integral ds s^(-1/2) exp(-s·(|z|² + B·eps))

The density of (z, z') times exp(-s·|z|² - t·|z'|²) is, with the covariance Omega and D = s on the batch of z and t on
that of z', det(1 + 2 D Omega)^(-1/2) times a Gaussian's with covariance Pi = Omega (1 + 2 D Omega)^(-1), and under that
the expectation of phi(z_b) gamma(z'_b') is an arc-cosine kernel of entries of Pi. No inverse of Omega is needed. One
integral remains for each factor 1/r; and one altogether, from 1/r² = B · integral ds exp(-s·(|z|² + B·eps)), where both
factors are of one batch.

A batch whose samples are all equal has u = 0 if eps > 0; with eps = 0 that is 0/0, and taken as 0 with slope 0.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .arccosine import abs_dual, abs_mean
from .shapes import common_shape, correlation, finer, float_dtype, reciprocal

# By whether in float64: for a pair the most nodes, the least step, the last node and what bounds the rest beyond it;
# for one batch the number of nodes, the first and the last, and the bound.
PAIR_NODES = {True: (80, 0.16, 28.0, 1e-13), False: (40, 0.3, 15.0, 1e-8)}
SELF_NODES = {True: (224, -4.1, 56.0, 1e-13), False: (96, -3.2, 30.0, 1e-8)}


def batchnorm_pair(S1, S2, X, eps1, eps2, phi=(0.5, 0.5), gamma=(0.5, 0.5)):
    """E phi(u_b) gamma(u'_b') for batches with covariances S1 and S2, and X between them; (..., B1, B2).

    Derivatives in S1, S2, X and eps are closed forms under the integral, also where the joint covariance is singular.
    A batch with itself is to have X = S1 = S2 exactly: a kernel's derivative is of the size of the root of any
    difference. Derivatives of infinite size (one batch with itself, eps = 0 and B <= 3) come out finite and wrong.
    """
    dtype = float_dtype(S1, S2, X)
    odd, even = phi[0] * gamma[0], _product(phi[1], gamma[1])
    S1, S2, X = (jnp.asarray(a, dtype) for a in (S1, S2, X))
    C1, scale1, rate1, dead1, raw1 = _normalized(S1, eps1)
    C2, scale2, rate2, dead2, raw2 = _normalized(S2, eps2)
    # two roots: their product would under- or overflow first
    C12 = _centred(X) * (scale1**-0.5) * (scale2**-0.5)
    C12 = C12 - lax.stop_gradient(jnp.where(_constant(C1) | _constant(C2), C12, 0))
    shape = common_shape(rate1, rate2, C12)
    same = _same(C12, C1, C2, raw1, raw2)
    eigen1, eigen2 = (_eigenvalues(lax.stop_gradient(C)) for C in (C1, C2))
    nodes1, nodes2 = (_pair_rule(v, lax.stop_gradient(r)) for (v, _), r in ((eigen1, rate1), (eigen2, rate2)))
    frame = _pair_frame(eigen1, lax.stop_gradient(C2), lax.stop_gradient(C12))

    def outer(total, node):
        s, weight = node
        part = lax.cond(jnp.any(weight > 0), slice_of_s, lambda s: jnp.zeros(shape, dtype), s)
        return total + weight * jnp.exp(-rate1 * s) * part, None

    def slice_of_s(s):
        rotated = _tilted_frame(frame, s)

        def value(node):
            t, weight = node
            k, p, q, log_det = tilted_pair(C1, C2, C12, rotated, s, t)
            mean = (
                odd * k
                if even is None
                else odd * k + even * _abs_dual_or_same(k, p[..., :, None], q[..., None, :], same)
            )
            return jnp.broadcast_to(weight * jnp.exp(-0.5 * log_det[..., None, None] - rate2 * t) * mean, shape)

        def inner(part, node):
            return part + lax.cond(jnp.any(node[1] > 0), value, lambda node: jnp.zeros(shape, dtype), node), None

        # recomputing at every node keeps what a gradient stores bounded
        return lax.scan(jax.checkpoint(inner, prevent_cse=False), jnp.zeros(shape, dtype), nodes2)[0]

    total, _ = lax.scan(jax.checkpoint(outer, prevent_cse=False), jnp.zeros(shape, dtype), nodes1)
    return jnp.where(dead1 | dead2, 0, float(np.sqrt(shape[-2] * shape[-1]) / np.pi) * total)


def batchnorm_self(S, eps, phi=(0.5, 0.5), gamma=(0.5, 0.5)):
    """E phi(u_b) gamma(u_b') for two samples of one batch; shaped as S, (..., B, B)."""
    S = jnp.asarray(S, float_dtype(S))
    odd, even = phi[0] * gamma[0], _product(phi[1], gamma[1])
    C, _, rate, dead, raw = _normalized(S, eps)
    same = _same(C, C, C, raw, raw)
    frame = _eigenvalues(lax.stop_gradient(C))

    def add(total, node):
        s, weight = node
        k, _, log_det = tilted_self(C, frame, s)
        p = jnp.diagonal(k, axis1=-2, axis2=-1)
        mean = (
            odd * k if even is None else odd * k + even * _abs_dual_or_same(k, p[..., :, None], p[..., None, :], same)
        )
        return total + weight * s * jnp.exp(-0.5 * log_det[..., None, None] - rate * s) * mean, None

    start = jnp.zeros(common_shape(C, rate), S.dtype)
    total, _ = lax.scan(jax.checkpoint(add, prevent_cse=False), start, _self_rule(frame[0], lax.stop_gradient(rate)))
    return jnp.where(dead, 0, S.shape[-1] * total)


def equal_batches(X, S, same):
    """Cov(h, h') with S in its place where both batches are the same, so that no rounding parts them.

    The derivative stays that of X: the two are equal there, and move apart.
    """
    if S.shape[-2:] != X.shape[-2:]:
        return X  # batches of different sizes
    return X + lax.stop_gradient(jnp.where(same[..., None, None], S - X, 0))


def batchnorm_mean(S, eps, phi=(0.5, 0.5)):
    """E phi(u_b), (..., B)."""
    S = jnp.asarray(S, float_dtype(S))
    C, _, rate, dead, _ = _normalized(S, eps)
    frame = _eigenvalues(lax.stop_gradient(C))

    def add(total, node):
        s, weight = node
        k, _, log_det = tilted_self(C, frame, s)
        factor = weight * jnp.sqrt(s) * jnp.exp(-0.5 * log_det[..., None, None] - rate * s)
        return total + factor[..., 0] * abs_mean(jnp.diagonal(k, axis1=-2, axis2=-1)), None

    start = jnp.zeros(common_shape(C, rate)[:-1], S.dtype)
    total, _ = lax.scan(jax.checkpoint(add, prevent_cse=False), start, _self_rule(frame[0], lax.stop_gradient(rate)))
    return jnp.where(dead[..., 0], 0, phi[1] * float(np.sqrt(S.shape[-1] / np.pi)) * total)


def _pair_rule(values, rate):
    """Nodes s and weights for integrals of f(s)·ds/sqrt(s), both (nodes, ..., 1, 1); weights after the last are 0.

    In sigma, s = sigma², the integrand is even and, where Re s > 0, analytic, so that equal steps in y, sigma =
    0.7·sinh(y), converge exponentially. Where a batch varies in many directions few are enough; with eps = 0 and one
    direction the integrand falls no faster than exp(-y).
    """
    count, shortest, last, rest = PAIR_NODES[values.dtype == jnp.float64]
    count = finer(count)
    rank, grid = values.ndim + 1, np.linspace(0, last, 113)
    end = _needed(values, rate, grid, 0.49 * np.sinh(grid) ** 2, rest)
    step = jnp.maximum(shortest, end / count)
    y = (jnp.arange(count, dtype=values.dtype).reshape(-1, *[1] * rank) + 0.5) * step
    return 0.49 * jnp.sinh(y) ** 2, jnp.where(y < end, 1.4 * jnp.cosh(y) * step, 0)


def _self_rule(values, rate):
    """Nodes s and weights for integrals of f(s)·ds/s, f falling as sqrt(s) or s at 0, both (nodes, ..., 1, 1).

    Equal steps in y, s = exp(y - exp(-y)).
    """
    count, first, last, rest = SELF_NODES[values.dtype == jnp.float64]
    count = finer(count)
    rank, grid = values.ndim + 1, np.linspace(0, last, 113)
    end = _needed(values, rate, grid, np.exp(grid), rest)
    step = (end - first) / (count - 1)
    y = first + step * jnp.arange(count, dtype=values.dtype).reshape(-1, *[1] * rank)
    return jnp.exp(y - jnp.exp(-y)), (1 + jnp.exp(-y)) * step


def _needed(values, rate, grid, nodes, rest):
    """Where on the grid (1 + 2s)·det(1 + 2sC)^(-1/2)·exp(-rate·s), C with these eigenvalues, s the node, falls below
    `rest`; (..., 1, 1).

    Integrands fall as this without the first factor, and their derivatives in directions in which C vanishes as this.
    """
    rank = values.ndim + 1
    grid, nodes = (jnp.asarray(a, values.dtype).reshape(-1, *[1] * rank) for a in (grid, nodes))
    log_det = jnp.sum(jnp.log1p(2 * nodes * values[..., None, :]), axis=-1, keepdims=True)
    kept = jnp.log1p(2 * nodes) - 0.5 * log_det - rate * nodes > np.log(rest)
    return jnp.minimum(jnp.max(jnp.where(kept, grid, 0), axis=0) + grid[1], grid[-1])


def _product(a, b):
    """a·b, or None if it is the number 0."""
    product = a * b
    return None if isinstance(product, int | float) and product == 0 else product


def _centred(S):
    """S minus its means over the last two axes."""
    S = S - jnp.mean(S, axis=-1, keepdims=True)
    return S - jnp.mean(S, axis=-2, keepdims=True)


def _normalized(S, eps):
    """The centred S over a scale; the scale; B·eps over it; where u is 0/0; the variances over the scale, (..., B).

    u does not move with the scale if S and eps do, so that the scale counts as constant in derivatives.
    """
    eps = jnp.asarray(eps, S.dtype)
    if eps.ndim:
        eps = eps[..., None, None]
    C = _centred(S)
    trace, raw = (jnp.trace(lax.stop_gradient(a), axis1=-2, axis2=-1)[..., None, None] for a in (C, S))
    # what centring leaves of equal samples is rounding
    constant = trace <= 8 * jnp.finfo(S.dtype).eps * jnp.abs(raw)
    C = C - lax.stop_gradient(jnp.where(constant, C, 0))
    scale = jnp.where(constant, 0, trace) + S.shape[-1] * lax.stop_gradient(eps)
    scale = jnp.where(scale > 0, scale, 1)
    raw = jnp.diagonal(S, axis1=-2, axis2=-1) / scale[..., 0]
    return C / scale, scale, S.shape[-1] * eps / scale, constant & (eps == 0), raw


def _constant(C):
    """Whether a centred covariance vanishes, (..., 1, 1)."""
    return jnp.all(C == 0, axis=(-2, -1), keepdims=True)


def _same(C12, C1, C2, raw1, raw2):
    """1 or -1 where z_b and +-z'_b' are in proportion up to rounding, else 0; (..., B1, B2).

    raw1 and raw2 are the variances before centring, which rounds as they do.
    """
    C12, C1, C2, raw1, raw2 = (lax.stop_gradient(a) for a in (C12, C1, C2, raw1, raw2))
    p, q = (jnp.diagonal(a, axis1=-2, axis2=-1) for a in (C1, C2))
    c = correlation(C12, p[..., :, None], q[..., None, :])
    left, right = (jnp.abs(raw) * reciprocal(a) for raw, a in ((raw1, p), (raw2, q)))
    noise = 4 * jnp.finfo(c.dtype).eps * (1 + left[..., :, None] + right[..., None, :])
    return jnp.where(jnp.abs(c) >= 1 - noise, jnp.sign(c), 0)


def _abs_dual_or_same(k, p, q, same):
    """abs_dual at the covariance that `same` says it has, where rounding would cost half of the digits."""
    exact = same * jnp.sqrt(p) * jnp.sqrt(q)
    return abs_dual(k + lax.stop_gradient(jnp.where(same == 0, 0, exact - k)), p, q)


def _eigenvalues(C):
    """Eigenvalues, 0 where they are rounding, and eigenvectors of a positive semidefinite matrix."""
    values, vectors = _eigh(C)
    noise = 4 * C.shape[-1] * jnp.finfo(C.dtype).eps
    return jnp.where(values > noise * values[..., -1:], values, 0), vectors


def _eigh(C):
    """Eigenvalues and -vectors of symmetric matrices, (..., B, B); constant in derivatives.

    On a CPU one matrix at a time: jaxlib splits a call for many into tasks for the threads of XLA's pool and waits for
    them. Loops that do not depend on each other run on that pool themselves, and once each of its threads waits in
    such a call, none is left for the tasks. A call for one matrix is made where it is.
    """
    C = lax.stop_gradient(C)
    return lax.platform_dependent(C, cpu=_eigh_one_by_one, default=lambda C: tuple(jnp.linalg.eigh(C)))


def _eigh_one_by_one(C):
    if C.ndim == 2:
        return _eigh_of_one(C)
    values, vectors = lax.map(_eigh_of_one, C.reshape(-1, *C.shape[-2:]))
    return values.reshape(C.shape[:-1]), vectors.reshape(C.shape)


# vmap, too, is to loop over it
@jax.custom_batching.sequential_vmap
def _eigh_of_one(C):
    return tuple(jnp.linalg.eigh(C))


def _without_noise(across, values):
    """Covariances with directions, 0 where they are rounding and the directions' variances are, too.

    As a tilt leaves them as they are and shrinks all others, they would become large in comparison.
    """
    noise = 4 * across.shape[-2] * float(jnp.finfo(across.dtype).eps)
    largest = jnp.max(jnp.abs(across), axis=(-2, -1), keepdims=True)
    return jnp.where((values == 0) & (jnp.abs(across) <= noise * largest), 0, across)


@jax.custom_jvp
def tilted_self(C, frame, s):
    """Pi = C (1 + 2sC)^-1, (1 + 2sC)^-1 and log det(1 + 2sC); frame holds the eigenvalues and -vectors of C.

    Derivatives follow from those of the inverse alone, so that equal eigenvalues do no harm.
    """
    values, vectors = frame
    shrink = 1 / (1 + 2 * s[..., 0] * values)
    rest = _matmul(vectors * shrink[..., None, :], _transpose(vectors))
    covariance = _matmul(vectors * (shrink * values)[..., None, :], _transpose(vectors))
    return covariance, rest, jnp.sum(jnp.log1p(2 * s[..., 0] * values), axis=-1)


@partial(tilted_self.defjvp, symbolic_zeros=True)
def _tilted_self_jvp(primals, tangents):
    s, dC = primals[2], tangents[0]
    out = tilted_self(*primals)
    rest = out[1]
    if type(dC) is SymbolicZero:
        return out, tuple(jnp.zeros_like(a) for a in out)
    change = _matmul(_matmul(rest, dC), rest)
    return out, (change, -2 * s * change, 2 * s[..., 0, 0] * _inner(rest, dC))


# The two tilts of a pair are applied one after the other: exp(-s·|z|²) for a node s once, which leaves covariances P of
# z, Q of z' and M across, and, given the eigenvalues of Q, exp(-t·|z'|²) for all nodes t at the price of one product of
# matrices each. Differences of large numbers are taken at s = 0 only, where what is within rounding of 0 can be told.


def _pair_frame(eigen1, C2, C12):
    """What a pair's tilts need, apart from s and t; eigen1 the eigenvalues and -vectors of C1."""
    values, vectors = eigen1
    rotated = _without_noise(_matmul(_transpose(vectors), C12), values[..., :, None])
    # the covariance of z' given z
    given = C2 - _matmul(_transpose(rotated) * reciprocal(values)[..., None, :], rotated)
    noise = 8 * C2.shape[-1] * jnp.finfo(C2.dtype).eps * jnp.max(jnp.abs(C2), axis=(-2, -1))[..., None]
    rest, directions = _eigh(given)
    rest = jnp.where(jnp.abs(rest) <= noise, 0, rest)
    given = _matmul(directions * rest[..., None, :], _transpose(directions))
    return values, vectors, rotated, given


def _tilted_frame(frame, s):
    """After the first tilt: (1 + 2s·C1)^-1 and log det of its inverse; eigenvalues and -vectors of Q; M in these
    eigenvectors; the variances of z given z'.
    """
    values, vectors, rotated, given = frame
    shrink = 1 / (1 + 2 * s[..., 0] * values)
    first = _matmul(vectors * shrink[..., None, :], _transpose(vectors))
    Q = _matmul(_transpose(rotated) * (shrink * reciprocal(values))[..., None, :], rotated) + given
    q_values, directions = _eigenvalues(Q)
    across = _matmul(_matmul(vectors * shrink[..., None, :], rotated), directions)
    across = _without_noise(across, q_values[..., None, :])
    p = jnp.sum(vectors**2 * (shrink * values)[..., None, :], axis=-1)
    own = p - jnp.sum(across**2 * reciprocal(q_values)[..., None, :], axis=-1)
    noise = 8 * Q.shape[-1] * jnp.finfo(Q.dtype).eps
    own = jnp.where(own <= noise * p, 0, own)
    return first, jnp.sum(jnp.log1p(2 * s[..., 0] * values), axis=-1), q_values, directions, across, own


@jax.custom_jvp
def tilted_pair(C1, C2, C12, frame, s, t):
    """Of Pi the block (z, z') and the variances of z and z', and log det(1 + 2 D Omega); frame as _tilted_frame.

    Derivatives are those of Pi in Omega, so that equal eigenvalues do no harm.
    """
    _, log_det, values, directions, across, own = frame
    shrink = 1 / (1 + 2 * t[..., 0] * values)
    k = _matmul(across * shrink[..., None, :], _transpose(directions))
    p = own + jnp.sum(across**2 * (shrink * reciprocal(values))[..., None, :], axis=-1)
    q = jnp.sum(directions**2 * (shrink * values)[..., None, :], axis=-1)
    return k, p, q, log_det + jnp.sum(jnp.log1p(2 * t[..., 0] * values), axis=-1)


@jax.custom_jvp
def tilted_pair_blocks(C1, C2, C12, frame, s, t):
    """Of Pi the block (z, z'), and the diagonal blocks of (1 + 2 Omega D)^-1.

    Its other two blocks are -2t times that of Pi and -2s times the transposed.
    """
    first, _, values, directions, across, _ = frame
    shrink = 1 / (1 + 2 * t[..., 0] * values)
    k = _matmul(across * shrink[..., None, :], _transpose(directions))
    left = first + _matmul(across * (4 * (s * t)[..., 0] * shrink)[..., None, :], _transpose(across))
    right = _matmul(directions * shrink[..., None, :], _transpose(directions))
    return k, left, right


def _pair_tangents(blocks, tangents, s, t):
    """Tangents of the block (z, z') of Pi and of log det(1 + 2 D Omega), and as pairs (A, B) with A Bᵀ summed and added
    to its transpose those of the diagonal blocks of Pi.

    With R = (1 + 2 Omega D)^-1, dPi = R dOmega Rᵀ and d log det = 2 tr(D R dOmega).
    """
    k, left, right = blocks
    dC1, dC2, dC12 = tangents
    dk, log_det, ps, qs = [], [], [], []
    if type(dC12) is not SymbolicZero:
        by_left, by_k = _matmul(left, dC12), _matmul(_transpose(k), dC12)
        dk.append(_matmul(by_left, right) + 4 * s * t * _matmul(k, _transpose(by_k)))
        ps.append((-2 * t * by_left, k))
        qs.append((-2 * s * by_k, right))
        log_det.append(-8 * (s * t)[..., 0, 0] * _inner(k, dC12))
    if type(dC1) is not SymbolicZero:
        by_left, by_k = _matmul(left, dC1), _matmul(_transpose(k), dC1)
        dk.append(-2 * s * _matmul(by_left, k))
        ps.append((0.5 * by_left, left))
        qs.append((2 * s * s * by_k, _transpose(k)))
        log_det.append(2 * s[..., 0, 0] * _inner(left, dC1))
    if type(dC2) is not SymbolicZero:
        by_right, by_k = _matmul(right, dC2), _matmul(k, dC2)
        dk.append(-2 * t * _matmul(by_k, right))
        ps.append((2 * t * t * by_k, k))
        qs.append((0.5 * by_right, right))
        log_det.append(2 * t[..., 0, 0] * _inner(right, dC2))
    return dk, log_det, ps, qs


@partial(tilted_pair.defjvp, symbolic_zeros=True)
def _tilted_pair_jvp(primals, tangents):
    s, t = primals[4:]
    out = tilted_pair(*primals)
    dk, log_det, ps, qs = _pair_tangents(tilted_pair_blocks(*primals), tangents[:3], s, t)
    p, q = ([2 * jnp.sum(a * b, axis=-1) for a, b in pairs] for pairs in (ps, qs))
    return out, tuple(_total(terms, like) for terms, like in zip((dk, p, q, log_det), out, strict=True))


@partial(tilted_pair_blocks.defjvp, symbolic_zeros=True)
def _tilted_pair_blocks_jvp(primals, tangents):
    s, t = primals[4:]
    out = tilted_pair_blocks(*primals)
    dk, _, ps, qs = _pair_tangents(out, tangents[:3], s, t)
    products = ([_matmul(a, _transpose(b)) for a, b in pairs] for pairs in (ps, qs))
    left, right = ([-2 * r * (a + _transpose(a)) for a in terms] for r, terms in zip((s, t), products, strict=True))
    return out, tuple(_total(terms, like) for terms, like in zip((dk, left, right), out, strict=True))


def _matmul(A, B):
    return jnp.matmul(A, B, precision="highest")


def _transpose(A):
    return jnp.swapaxes(A, -1, -2)


def _inner(A, B):
    return jnp.sum(A * B, axis=(-2, -1))


def _total(terms, like):
    """The sum of the terms, shaped as `like`."""
    return sum(terms, jnp.zeros_like(like)).astype(like.dtype)
