"""Networks in the limit, coordinate by coordinate: vectors are samples of the random variables Z of their coordinates.

One run of a network is a path. W @ x is a Gaussian whose covariance with an earlier W @ y is s_W times the mean of
x y over the samples; it is drawn by conditioning on those before it, one row of a Cholesky factor at a time. The run on
x2 is conditioned on the run on x1. Between the two, the derivative of E Z^x Z^x' along the correlation of the
parameters is Price's, the mean of ∂x/∂Z_i · ∂x'/∂Z'_j times that of Cov(Z_i, Z'_j): slopes are carried along.

Arrays have leading axes (N1, N2, replicates), of length 1 where a run does not depend on them; the last axis of a
vector holds its samples.
"""

from functools import partial

import jax
import jax.numpy as jnp

from .reductions import Stack, stacked_values

# A pivot below this part of the variance is rounding: the Gaussian is a combination of earlier ones.
PIVOTS = {"float64": 1e-11, "float32": 3e-6}


class Vector:
    """Samples `value` (…, P) of Z; `slopes` by group of Gaussians, (…, K, P) or (…, K, 1).

    On the path of x1 a slope is ∂Z/∂Z_k for the K Gaussians of a group. On the path of x2 it is Σ_j ∂Z/∂Z_j times the
    tangent of Cov(Z_k, Z_j), k among the Gaussians of x1.
    """

    def __init__(self, value, slopes):
        self.value, self.slopes = value, slopes


class Gaussian:
    """A G-var, before it is drawn: Σ over channels, a channel being one random matrix or vector.

    features: channel → (size, operand): the Vector that a matrix multiplies, data (…, d), or a number.
    """

    def __init__(self, features, mean=0.0):
        self.features, self.mean, self.drawn = features, mean, None


ZERO_VECTOR = 0  # what `h[0] := 0` holds


def members(output):
    """An output's members in the order of their indices, and how many there are along each axis."""
    if not isinstance(output, dict):
        return [output], ()
    keys = sorted(output)
    tuples = [k if isinstance(k, tuple) else (k,) for k in keys]
    return [output[k] for k in keys], tuple(len(set(axis)) for axis in zip(*tuples, strict=True))


class _Run:
    """What the program calls: its instructions, on vectors of some kind."""

    def product(self, matrix, index, x):
        """W @ x."""
        return Gaussian({} if x is ZERO_VECTOR else {(matrix, index): (None, self.values(x))})

    def data_product(self, matrix, index, x):
        """U @ x for data x."""
        return Gaussian({(matrix, index): (x.shape[-1], x)})

    def vector(self, name, index):
        """A vector drawn from its law."""
        return Gaussian({(name, index): (1, 1.0)}, self.laws[name](*index)[2])

    def combine(self, terms):
        """Σ coefficient · vector; a vector of None is that of ones."""
        terms = [(c, v) for c, v in terms if v is not ZERO_VECTOR]
        if all(isinstance(v, Gaussian) for _, v in terms):
            return self._gaussian(terms) if terms else ZERO_VECTOR
        return self._mixture([(c, v if v is None else self.values(v)) for c, v in terms])

    def _gaussian(self, terms):
        """Σ coefficient · Gaussian, channel by channel."""
        features, mean = {}, 0.0
        for c, v in terms:
            mean = mean + c * v.mean
            for channel, (size, operand) in v.features.items():
                features.setdefault(channel, (size, []))[1].append((c, operand))
        return Gaussian({c: (size, self._summed(size, parts)) for c, (size, parts) in features.items()}, mean)


class Survey(_Run):
    """A run that draws nothing: it notes from which channels Gaussians are drawn, in their order."""

    def __init__(self, laws):
        self.laws, self.drawn, self.functions = laws, [], 0

    @property
    def widest(self):
        """How many Gaussians the largest group of this run has."""
        return max(Groups(self).counts(self), default=0)

    def values(self, x):
        if isinstance(x, Gaussian) and x.drawn is None:
            x.drawn = Vector(None, {})
            if x.features:
                self.drawn.append({channel: size for channel, (size, _) in x.features.items()})
        return x.drawn if isinstance(x, Gaussian) else x

    def apply(self, f, vectors, scalars=(), terms=None):
        self.functions += 1
        for v in vectors:
            for x in v.vectors if isinstance(v, Stack) else (v,):
                self.values(x)
        return Vector(None, {})

    def moment(self, f, vectors, scalars=()):
        self.apply(f, vectors, scalars)
        return jnp.ones((1, 1, 1))

    def _summed(self, size, parts):
        return parts[0][1]

    def _mixture(self, terms):
        return Vector(None, {})


class Groups:
    """The Gaussians that are drawn together, since they share a channel in some run.

    channels: of each group, {channel: size}, size None for as many as there are samples; of: channel → group.
    """

    def __init__(self, *surveys):
        self.channels = []
        for own in (drawn for s in surveys for drawn in s.drawn):
            touched = [g for g in self.channels if g.keys() & own.keys()]
            rest = [g for g in self.channels if not g.keys() & own.keys()]
            self.channels = [*rest, {c: size for g in (*touched, own) for c, size in g.items()}]
        self.of = {c: g for g, channels in enumerate(self.channels) for c in channels}

    def counts(self, survey):
        """How many Gaussians of each group a run draws."""
        found = [0] * len(self.channels)
        for own in survey.drawn:
            found[self.of[next(iter(own))]] += 1
        return found


class Path(_Run):
    """The run on one input, its Gaussians drawn one after the other.

    laws: name → function of the indices, giving (scale, tangent, mean). counts: Gaussians by group.
    points: by group, standard normals (replicates, K, P). left: the path on x1, for that on x2. slopes: whether
    derivatives are carried along.
    """

    def __init__(self, laws, groups, counts, points, batch, left=None, slopes=False):
        self.laws, self.groups, self.counts, self.points, self.batch = laws, groups, counts, points, batch
        self.left, self.slopes = left, slopes
        self.samples = points[0].shape[-1] if points else 1
        self.dtype = points[0].dtype if points else jnp.asarray(0.0).dtype
        self.rows = [0] * len(counts)
        self.sizes = [
            tuple((c, self.samples if n is None else n) for c, n in channels.items()) for channels in groups.channels
        ]
        self.scales = [self._by_channel(sizes, 0) for sizes in self.sizes]
        self.tangents = [self._by_channel(sizes, 1) for sizes in self.sizes]
        self.states = [
            self._empty(k, sum(n for _, n in sizes), 0 if left is None else left.counts[g])
            for g, (k, sizes) in enumerate(zip(counts, self.sizes, strict=True))
        ]
        self.operands = [[] for _ in counts]  # on the path of x1: the slopes of what each Gaussian was made from

    def _by_channel(self, sizes, part):
        laws = [(self.laws[c[0]](*c[1])[part], n) for c, n in sizes]
        return jnp.concatenate([jnp.broadcast_to(jnp.asarray(a / n, self.dtype), (n,)) for a, n in laws])

    def _empty(self, k, q, k1):
        zeros = partial(jnp.zeros, dtype=self.dtype)
        return zeros((*self.batch, k, q)), zeros((*self.batch, k, k)), zeros((*self.batch, k, k1))

    # -- instructions

    def values(self, x):
        """Samples of a vector; a Gaussian is drawn when it is first asked for."""
        if x is ZERO_VECTOR:
            return Vector(jnp.zeros((1,), self.dtype), {})
        if not isinstance(x, Gaussian):
            return x
        if x.drawn is None:
            x.drawn = self._draw(x)
        return x.drawn

    def apply(self, f, vectors, scalars=(), terms=None):
        """f(*vectors, *scalars), coordinate by coordinate; `terms` is for paths that hold Gaussians (held.py)."""
        values, slopes = [], []
        for v in vectors:
            if isinstance(v, Stack):
                v = self._stacked([self.values(x) for x in v.vectors])
            else:
                v = self.values(v)
            values.append(v.value)
            slopes.append(v.slopes)
        scalars = tuple(jnp.asarray(a, self.dtype) for a in scalars)
        stacked = tuple(isinstance(v, Stack) for v in vectors)
        return Vector(*apply_pointwise(f, stacked, tuple(values), tuple(slopes), scalars))

    def moment(self, f, vectors, scalars=()):
        """(1/n) Σ f, one number."""
        values = []
        for v in vectors:
            v = self._stacked([self.values(x) for x in v.vectors]) if isinstance(v, Stack) else self.values(v)
            values.append(v.value)
        stacked = tuple(isinstance(v, Stack) for v in vectors)
        scalars = tuple(jnp.asarray(a, self.dtype) for a in scalars)
        value, _ = apply_pointwise(f, stacked, tuple(values), tuple({} for _ in values), scalars)
        return jnp.mean(value, -1)

    def _summed(self, size, parts):
        return self._mixture(parts) if size is None else sum_of_data(parts)

    def _mixture(self, terms):
        if len(terms) == 1 and terms[0][1] is not None and isinstance(terms[0][0], int | float) and terms[0][0] == 1:
            return terms[0][1]
        value = sum(_last(c, self.dtype) * (1.0 if v is None else v.value) for c, v in terms)
        slopes = {}
        for c, v in terms:
            for g, s in ({} if v is None else v.slopes).items():
                s = _last(c, self.dtype)[..., None] * s
                slopes[g] = slopes[g] + s if g in slopes else s
        return Vector(value, slopes)

    def _stacked(self, vectors):
        """Vectors on an axis before the samples, (…, B, P), and their slopes (…, B, K, P)."""
        value = stacked_values([v.value for v in vectors], self.dtype)
        slopes = {}
        for g in dict.fromkeys(g for v in vectors for g in v.slopes):
            k = (self if self.left is None else self.left).counts[g]
            parts = [v.slopes.get(g, jnp.zeros((k, 1), self.dtype)) for v in vectors]
            slopes[g] = jnp.stack(jnp.broadcast_arrays(*parts), -3)
        return Vector(value, slopes)

    # -- drawing

    def _draw(self, x):
        mean = jnp.asarray(x.mean, self.dtype)[..., None]
        if not x.features:
            return Vector(mean, {})
        g = self.groups.of[next(iter(x.features))]
        i = self.rows[g]
        self.rows[g] += 1
        parts = {
            k: v.value if isinstance(v, Vector) else jnp.asarray(v, self.dtype)
            for k, (c, _) in enumerate(self.sizes[g])
            if c in x.features
            for v in (x.features[c][1],)
        }
        sizes = tuple(n for _, n in self.sizes[g])
        operands = {
            c: v.slopes for c, (_, v) in x.features.items() if isinstance(v, Vector) and v.slopes and self.slopes
        }
        if self.left is None:
            self.states[g], feature, value = draw_first(
                self.states[g], i, parts, self.scales[g], self.points[g], sizes, self.batch
            )
            self.operands[g].append(operands)
            slopes = {g: one_hot(i, self.counts[g], self.dtype)} if self.slopes else {}
        else:
            left = self.left
            self.states[g], feature, value = draw_second(
                self.states[g],
                i,
                parts,
                self.scales[g],
                self.points[g],
                sizes,
                self.batch,
                left.states[g],
                left.points[g],
            )
            slopes = {g: self._tangent(g, feature, operands)[..., None]} if self.slopes else {}
        return Vector(value + mean, slopes)

    def _tangent(self, g, feature, operands):
        """The tangent of the covariance of a Gaussian with those of x1, (…, K1)."""
        pairs = []
        for c, slopes in operands.items():
            scale = self.laws[c[0]](*c[1])[0]
            before = self.left.operand_slopes(g, c)
            pairs += [(scale, before[h], slopes[h]) for h in slopes if h in before]
        return covariance_tangent(self.left.states[g][0], feature, self.tangents[g], pairs)

    def output_rows(self, outputs, channel):
        """What a readout multiplies in each output, as one Vector: (…, T, P), slopes (…, T, K, P)."""
        zero = Vector(jnp.zeros((1,), self.dtype), {})
        rows = [y.features[channel][1] if y is not ZERO_VECTOR and channel in y.features else zero for y in outputs]
        return self._stacked(rows)

    def operand_slopes(self, g, channel):
        """By group h, the slopes of what a channel's matrix multiplies in each Gaussian of g, (…, K, K_h, P)."""
        cache = self.__dict__.setdefault("_operand_slopes", {})
        if (g, channel) not in cache:
            rows = [own.get(channel, {}) for own in self.operands[g]]
            cache[g, channel] = {h: self._rows(rows, h) for h in dict.fromkeys(h for r in rows for h in r)}
        return cache[g, channel]

    def _rows(self, rows, h):
        parts = [r.get(h, jnp.zeros((self.counts[h], 1), self.dtype)) for r in rows]
        return jnp.stack(jnp.broadcast_arrays(*parts), -3)


def _last(c, dtype):
    """A number, or numbers of the batch, against the samples."""
    return jnp.asarray(c, dtype)[..., None]


def sum_of_data(parts):
    """Σ coefficient · data or number; a coefficient may be numbers of the batch."""
    return sum((jnp.asarray(c)[..., None] if jnp.ndim(v) and jnp.ndim(c) else c) * v for c, v in parts)


def one_hot(i, k, dtype):
    return jnp.zeros((k, 1), dtype).at[i, 0].set(1)


@partial(jax.jit, static_argnums=(0, 1))
def apply_pointwise(f, stacked, values, slopes, scalars):
    """f of samples, and its slopes by the chain rule."""
    shapes = [v.shape[:-2] + v.shape[-1:] if s else v.shape for v, s in zip(values, stacked, strict=True)]
    shape = jnp.broadcast_shapes(*shapes, *((*a.shape, 1) for a in scalars))
    full = [
        jnp.broadcast_to(v, (*shape[:-1], v.shape[-2], shape[-1]) if s else shape)
        for v, s in zip(values, stacked, strict=True)
    ]
    given = tuple(a[..., None] for a in scalars)
    if not any(slopes):
        return jnp.broadcast_to(f(*full, *given), shape), {}
    value, pull = jax.vjp(lambda *v: jnp.broadcast_to(f(*v, *given), shape), *full)
    result = {}
    for part, own, s in zip(pull(jnp.ones_like(value)), slopes, stacked, strict=True):
        for g, slope in own.items():
            if s and slope.shape[-1] == 1:
                term = jnp.einsum("...bp,...bk->...kp", part, slope[..., 0])
            elif s:
                term = jnp.einsum("...bp,...bkp->...kp", part, slope)
            else:
                term = part[..., None, :] * slope
            result[g] = result[g] + term if g in result else term
    return value, result


def feature_vector(parts, sizes, batch, dtype):
    """What a Gaussian is made from, channel after channel: (…, Q)."""
    pieces = []
    for k, n in enumerate(sizes):
        part = parts.get(k, jnp.zeros((1,), dtype))
        part = part[..., None] if n == 1 and part.shape[-1:] != (1,) else part
        pieces.append(jnp.broadcast_to(part, (*batch, n)))
    return jnp.concatenate(pieces, -1)


def pivot_root(variance, known):
    """The root of what is left of a variance, and its inverse; both 0 where that is rounding."""
    left = variance - known
    good = left > PIVOTS[str(variance.dtype)] * variance
    safe = jnp.where(good, left, 1)
    return jnp.where(good, jnp.sqrt(safe), 0), jnp.where(good, 1 / jnp.sqrt(safe), 0)


@partial(jax.jit, static_argnums=(5, 6))
def draw_first(state, i, parts, scale, points, sizes, batch):
    """The i-th Gaussian of its group, given those before it.

    state: features (…, K, Q), and the inverse of the Cholesky factor (…, K, K), whose rows are zero where a pivot is.
    """
    features, inverse, other = state
    feature = feature_vector(parts, sizes, batch, points.dtype)
    weighted = feature * scale
    row = jnp.einsum("...ij,...j->...i", inverse, jnp.einsum("...kq,...q->...k", features, weighted))
    root, reciprocal = pivot_root(jnp.sum(feature * weighted, -1), jnp.sum(row * row, -1))
    value = jnp.einsum("...k,...kp->...p", row, points) + root[..., None] * points[..., i, :]
    new = -jnp.einsum("...k,...kj->...j", row, inverse).at[..., i].add(-1) * reciprocal[..., None]
    return (features.at[..., i, :].set(feature), inverse.at[..., i, :].set(new), other), feature, value


@partial(jax.jit, static_argnums=(5, 6))
def draw_second(state, i, parts, scale, points, sizes, batch, first, first_points):
    """The i-th Gaussian of its group on the path of x2, given all of x1's and those before it.

    state: features, the inverse of the Cholesky factor of what x1's leave open, and the part (…, K, K1) of x1's.
    """
    features, inverse, joint = state
    feature = feature_vector(parts, sizes, batch, points.dtype)
    weighted = feature * scale
    shared = jnp.einsum("...kq,...q->...k", first[0], weighted)
    shared = jnp.einsum("...ij,...j->...i", first[1], shared)
    own = jnp.einsum("...kq,...q->...k", features, weighted) - jnp.einsum("...kj,...j->...k", joint, shared)
    row = jnp.einsum("...ij,...j->...i", inverse, own)
    known = jnp.sum(row * row, -1) + jnp.sum(shared * shared, -1)
    root, reciprocal = pivot_root(jnp.sum(feature * weighted, -1), known)
    value = jnp.einsum("...k,...kp->...p", shared, first_points) + jnp.einsum("...k,...kp->...p", row, points)
    value = value + root[..., None] * points[..., i, :]
    new = -jnp.einsum("...k,...kj->...j", row, inverse).at[..., i].add(-1) * reciprocal[..., None]
    state = features.at[..., i, :].set(feature), inverse.at[..., i, :].set(new), joint.at[..., i, :].set(shared)
    return state, feature, value


def mean_product(left, right, subscripts):
    """The mean over samples of a product of slopes, either of which may be the same for all samples."""
    if left.shape[-1] > 1 and right.shape[-1] > 1:
        return jnp.einsum(subscripts, left, right) / left.shape[-1]
    return jnp.einsum(subscripts, left.mean(-1, keepdims=True), right.mean(-1, keepdims=True))


@jax.jit
def covariance_tangent(features, feature, tangents, pairs):
    result = jnp.einsum("...kq,...q->...k", features, feature * tangents)
    for scale, before, slopes in pairs:
        result = result + scale * mean_product(before, slopes, "...khp,...hp->...k")
    return result


def output_kernels(outputs, others, left, right, ntk):
    """NNGP and NTK of the outputs of two paths, lists of Gaussians of which none is drawn: (…, len, len)."""
    features = [{c for y in run if y is not ZERO_VECTOR for c in y.features} for run in (outputs, others)]
    shape = (*right.batch, len(outputs), len(others))
    nngp, tangent = jnp.zeros(shape, right.dtype), jnp.zeros(shape, right.dtype)
    for c in sorted(features[0] & features[1]):
        scale, rate, _ = right.laws[c[0]](*c[1])
        u, v = left.output_rows(outputs, c), right.output_rows(others, c)
        both = mean_product(u.value, v.value, "...tp,...up->...tu")
        nngp = nngp + scale * both
        if ntk:
            tangent = tangent + rate * both
            for g in u.slopes.keys() & v.slopes.keys():
                tangent = tangent + scale * mean_product(u.slopes[g], v.slopes[g], "...tkp,...ukp->...tu")
    return nngp, tangent
