"""Paths that draw only what they must: what stands linearly is integrated exactly.

h[t] := (1 - gate(z[t])) h[t-1] + gate(z[t]) phi(c[t]) is, over the steps, a sum of products of gates times one
phi(c[s]). The Gaussians c are independent of the z, so E Z^h Z^h' needs samples of the z alone, and E phi(c) phi(c')
by its rule: a vector is Σ_a Z_a u_a with samples Z_a and held factors u_a, and E Σ_a Z_a u_a Σ_b Z'_b u_b is
Σ_ab E[Z_a Z'_b] E[u_a u_b].
"""

from functools import partial

import jax
import jax.numpy as jnp

from .paths import ZERO_VECTOR, Gaussian, Groups, _Run, pivot_root, sum_of_data
from .reductions import Stack, stacked_values


class Unheld(Exception):
    """What is added up or multiplied has no form as samples times held factors of one class."""


class Mixed:
    """Π of the held factors in `common` (class → number of the factor) times the samples `value`.

    Where `main` is a class, value is (…, A, P): Σ over its held factors a, number 0 being 1; else (…, P).
    A class is a group of Gaussians that are held, not drawn.
    """

    def __init__(self, value, common=None, main=None):
        self.value, self.common, self.main = value, common or {}, main


def sum_class(terms):
    """The class over whose factors a sum runs; None for a sum that needs none. Raises Unheld where it needs several."""
    found = {t.main for t in terms if t.main is not None}
    if not found and len(terms) > 1:
        found = {c for t in terms for c in t.common}
    if len(found) > 1 or (len(terms) > 1 and any(t.common.keys() - found for t in terms)):
        raise Unheld
    return next(iter(found), None)


class _Held(_Run):
    """The algebra of mixed vectors, for paths and for what counts their Gaussians."""

    def _mixture(self, terms):
        return self.added([(c, Mixed(self.one) if v is None else v) for c, v in terms])

    def apply(self, f, vectors, scalars=(), terms=None):
        """f(*vectors, *scalars); `terms`: as Σ coefficient(drawn) · held vector · Π factors of one Gaussian each."""
        if terms is None:
            return self.drawn_function(f, vectors, scalars)
        parts = []
        for coefficient, used, held, factors in terms:
            if held is not None and vectors[held] is ZERO_VECTOR:
                continue
            part = Mixed(self.one) if held is None else self.values(vectors[held])
            common = dict(part.common)
            constants = []
            for name, k in factors:
                if vectors[k] is ZERO_VECTOR or not vectors[k].features:
                    constants.append((vectors[k], name))
                    continue
                group, number = self.hold(vectors[k], name)
                if group in common or group == part.main:
                    raise Unheld
                common[group] = number
            part = self.with_constants(constants, Mixed(part.value, common, part.main))
            if coefficient is not None:
                part = self.scaled(self.drawn_function(coefficient, [vectors[k] for k in used], scalars), part)
            parts.append((1, part))
        return self.added(parts) if parts else ZERO_VECTOR


class HeldSurvey(_Held):
    """Counts what a run draws and holds: see paths.Survey."""

    one = None

    def __init__(self, laws, groups=None):
        self.laws, self.groups = laws, groups
        self.drawn, self.held, self.factors, self.operands, self.functions = [], [], {}, {}, 0
        self.rows = {}
        # Channels by size; of Gaussians that may be independent, but whose factors are added up: they are one class.
        self.sizes, self.joined = {}, []

    def values(self, x):
        if isinstance(x, Gaussian):
            if x.drawn is None:
                x.drawn = Mixed(None)
                self._note(x, self.drawn)
            return x.drawn
        return Mixed(None) if x is ZERO_VECTOR else x

    def _note(self, x, kind):
        if not x.features:
            return
        channels = {channel: size for channel, (size, _) in x.features.items()}
        self.sizes |= channels
        kind.append(channels)
        for channel, (_, operand) in x.features.items():
            if isinstance(operand, Mixed):
                self.note_operand(channel, operand)

    def note_operand(self, channel, operand):
        mains, commons = self.operands.setdefault(channel, (set(), set()))
        mains |= {operand.main} - {None}
        commons |= set(operand.common)

    def hold(self, x, name):
        group = self.groups.of[next(iter(x.features))] if self.groups else next(iter(x.features))
        if not hasattr(x, "held"):
            x.held = {}
            self._note(x, self.held)
            x.row = self.rows[group] = self.rows.get(group, -1) + 1
        factors = self.factors.setdefault(group, [])
        if name not in x.held:
            factors.append((name, x.row))
            x.held[name] = len(factors)
        return group, x.held[name]

    def drawn_function(self, f, vectors, scalars):
        self.functions += 1
        for v in vectors:
            for x in v.vectors if isinstance(v, Stack) else (v,):
                self.values(x)
        return Mixed(None)

    def moment(self, f, vectors, scalars=()):
        self.drawn_function(f, vectors, scalars)
        return jnp.ones((1, 1, 1))

    def scaled(self, coefficient, part):
        return part

    def with_constants(self, factors, part):
        return part

    def added(self, terms):
        terms = [v for _, v in terms]
        if len(terms) == 1:
            return terms[0]
        if self.groups:
            return Mixed(None, None, sum_class(terms))
        classes = dict.fromkeys(c for t in terms for c in (*t.common, *([] if t.main is None else [t.main])))
        if len(classes) > 1:
            self.joined.append({c: self.sizes[c] for c in classes})
        return Mixed(None, None, next(iter(classes), None))

    def _summed(self, size, parts):
        return self.added(parts) if size is None else parts[0][1]


class Layout:
    """What two runs share: groups, which of them are held, and how operands of a channel are laid out.

    main, commons: channel → the class summed over, and the classes of which an operand has one factor.
    Raises Unheld where Gaussians that are correlated, or added up, leave no such form.
    """

    def __init__(self, survey_of_run, *runs):
        surveys = [survey_of_run(run, None) for run in runs]
        for s in surveys:
            s.drawn = s.drawn + s.held + s.joined
        self.groups = Groups(*surveys)
        self.surveys = [survey_of_run(run, self.groups) for run in runs]
        self.held = {g for s in self.surveys for g in s.factors}
        if any(self.groups.of[next(iter(own))] in self.held for s in self.surveys for own in s.drawn):
            raise Unheld
        self.main, self.commons = {}, {}
        for s in self.surveys:
            for channel, (mains, commons) in s.operands.items():
                if len(mains | {self.main.get(channel)} - {None}) > 1:
                    raise Unheld
                self.main[channel] = next(iter(mains | {self.main.get(channel)} - {None}), None)
                self.commons.setdefault(channel, set()).update(commons)
        for channel, main in self.main.items():
            self.commons[channel].discard(main)

    def counts(self, run):
        """Gaussians of each group in a run, drawn or held."""
        found = [0] * len(self.groups.channels)
        for own in (*self.surveys[run].drawn, *self.surveys[run].held):
            found[self.groups.of[next(iter(own))]] += 1
        return found

    def floats(self, run):
        """How many numbers a run keeps for each point of the lattice, nearly."""
        survey = self.surveys[run]
        sizes = {g: len(f) + 1 for g, f in survey.factors.items()}
        channels = [c for own in (*survey.drawn, *survey.held) for c, size in own.items() if size is None]
        return survey.functions + sum(sizes.get(self.main.get(c), 1) for c in channels)


class HeldPath(_Held):
    """A run whose Gaussians are drawn or held; arguments as of paths.Path, `run` numbering it in the layout."""

    def __init__(self, laws, layout, run, points, batch, params, left=None):
        self.laws, self.layout, self.points, self.batch, self.left = laws, layout, points, batch, left
        self.params, self.groups = params, layout.groups
        self.counts = layout.counts(run)
        self.samples, self.dtype = points[0].shape[-1], points[0].dtype
        self.one = jnp.ones((1,), self.dtype)
        self.rows = [0] * len(self.counts)
        # Of each class: its factors, a name and the row of a Gaussian each; number 0 is 1.
        self.factors = {g: layout.surveys[run].factors.get(g, []) for g in layout.held}
        self.size = {g: len(f) + 1 for g, f in self.factors.items()}
        self.features, self.places, self.inverse, self.joint = [], [], [], []
        for g, k in enumerate(self.counts):
            before = 0 if left is None else left.counts[g]
            channels = self.groups.channels[g]
            self.features.append(
                {c: jnp.zeros((*batch, k, *self._shape(c, n)), self.dtype) for c, n in channels.items()}
            )
            self.places.append({c: {r: [0] * k for r in layout.commons.get(c, ())} for c in channels})
            self.inverse.append(jnp.zeros((*batch, k, k), self.dtype))
            self.joint.append(jnp.zeros((*batch, k, before), self.dtype))
        # Of each class: E u_a u_b, within the run and between x1's and it; variances and means of its Gaussians.
        self.second = {g: self._unit(a, a) for g, a in self.size.items()}
        self.between = {} if left is None else {g: self._unit(left.size[g], a) for g, a in self.size.items()}
        self.known = {g: 0 for g in self.size}
        self.variances = {g: jnp.zeros((*batch, a), self.dtype) for g, a in self.size.items()}
        self.means = {g: jnp.zeros((*batch, a), self.dtype) for g, a in self.size.items()}
        self.places_of = {
            g: (jnp.asarray([0] + [row for _, row in f]), tuple(dict.fromkeys(name for name, _ in f)))
            for g, f in self.factors.items()
        }

    def _shape(self, channel, size):
        if size is not None:
            return (size,)
        main = self.layout.main.get(channel)
        return (self.samples,) if main is None else (self.size[main] * self.samples,)

    def _unit(self, a, b):
        return jnp.zeros((*self.batch, a, b), self.dtype).at[..., 0, 0].set(1)

    # -- algebra

    def values(self, x):
        if x is ZERO_VECTOR:
            return Mixed(jnp.zeros((1,), self.dtype))
        if not isinstance(x, Gaussian):
            return x
        if x.drawn is None:
            x.drawn = Mixed(self._draw(x))
        return x.drawn

    def drawn_function(self, f, vectors, scalars):
        values = []
        for v in vectors:
            if isinstance(v, Stack):
                values.append(stacked_values([self.values(x).value for x in v.vectors], self.dtype))
            else:
                values.append(self.values(v).value)
        given = tuple(jnp.asarray(a, self.dtype)[..., None] for a in scalars)
        return Mixed(call_function(f, tuple(values), given))

    def moment(self, f, vectors, scalars=()):
        return jnp.mean(self.drawn_function(f, vectors, scalars).value, -1)

    def scaled(self, coefficient, part):
        factor = coefficient.value if part.main is None else coefficient.value[..., None, :]
        return Mixed(factor * part.value, part.common, part.main)

    def with_constants(self, factors, part):
        """A vector times factors of Gaussians that do not vary: of W @ 0, and of a law of no variance."""
        for x, name in factors:
            mean = jnp.asarray(0 if x is ZERO_VECTOR else x.mean, self.dtype)
            part = self._times(FACTOR_MEANS[name](jnp.zeros_like(mean), mean, self.params), part)
        return part

    def added(self, terms):
        if len(terms) == 1:
            (c, v) = terms[0]
            return v if isinstance(c, int | float) and c == 1 else self._times(c, v)
        main = sum_class([v for _, v in terms])
        total = sum(self._times(c, self.over(v, main)).value for c, v in terms)
        return Mixed(total, None, main)

    def _times(self, c, v):
        c = jnp.asarray(c, self.dtype)[..., None]
        return Mixed((c if v.main is None else c[..., None]) * v.value, v.common, v.main)

    def over(self, v, main):
        """A vector as a sum over the factors of a class."""
        if main is None or v.main == main:
            return v
        common = dict(v.common)
        number = common.pop(main, 0)
        return Mixed(place_factor(v.value, number, self.size[main]), common, main)

    def _summed(self, size, parts):
        return self.added(parts) if size is None else sum_of_data(parts)

    # -- Gaussians

    def _enter(self, x):
        """A Gaussian becomes a row of its group; its covariances with x1's rows and with the run's, itself included."""
        g = self.groups.of[next(iter(x.features))]
        i = self.rows[g]
        self.rows[g] += 1
        shared, own = 0.0, 0.0
        for channel, size in self.groups.channels[g].items():
            if channel not in x.features:
                continue
            operand = x.features[channel][1]
            scale = self.laws[channel[0]](*channel[1])[0]
            common = {}
            if isinstance(operand, Mixed):
                operand = self.over(operand, self.layout.main.get(channel))
                common, value = operand.common, operand.value
                for r, a in common.items():
                    self.places[g][channel][r][i] = a
                if operand.main is not None:
                    value = jnp.broadcast_to(value, (*self.batch, self.size[operand.main], self.samples))
            else:
                value = jnp.asarray(operand, self.dtype)[..., None] if size == 1 else operand
            main = self.layout.main.get(channel)
            if self.left is not None:
                there = self._against(self.left.features[g][channel], value, scale, main, self.between, self.left.size)
                shared = shared + there * self._common(self.left, g, channel, common, self.between)
            self.features[g][channel] = set_row(self.features[g][channel], i, value, self.batch, main is not None)
            here = self._against(self.features[g][channel], value, scale, main, self.second, self.size)
            own = own + here * self._common(self, g, channel, common, self.second)
        return g, i, shared, own

    def _against(self, rows, value, scale, main, second, sizes):
        """s_W times the mean product of a channel's operands with a new one."""
        if main is not None:
            return factored_products(rows, value, second[main], scale, self.samples)
        size = rows.shape[-1]
        return products(rows, jnp.broadcast_to(value, (*value.shape[:-1], size)), scale / size)

    def _common(self, run, g, channel, common, second):
        """Π over classes of E u_i u, u_i being the factor that a row has of the class and u that of a new operand."""
        result = 1.0
        for r, places in run.places[g][channel].items():
            result = result * common_factors(second[r], jnp.asarray(places), common.get(r, 0))
        return result

    def _draw(self, x):
        mean = jnp.asarray(x.mean, self.dtype)[..., None]
        if not x.features:
            return mean
        g, i, shared, own = self._enter(x)
        if self.left is None:
            self.inverse[g], value = draw_alone(self.inverse[g], i, own, self.points[g])
        else:
            self.inverse[g], self.joint[g], value = draw_given(
                self.inverse[g],
                self.joint[g],
                i,
                own,
                shared,
                self.points[g],
                self.left.inverse[g],
                self.left.points[g],
            )
        return value + mean

    def hold(self, x, name):
        """The number of the factor f(x) in its class."""
        if not hasattr(x, "held"):
            x.held, x.row = {}, self._enter(x)
        g, row, shared, own = x.row
        if name not in x.held:
            self.known[g] += 1
            x.held[name] = self.known[g]
            self._factor(g, self.known[g], row, name, jnp.asarray(x.mean, self.dtype), shared, own)
        return g, x.held[name]

    def _factor(self, g, number, row, name, mean, shared, own):
        self.variances[g], self.means[g] = enter_factor(self.variances[g], self.means[g], number, own, row, mean)
        self.second[g] = set_symmetric(self.second[g], number, self._column(self, g, name, number, own))
        if self.left is not None:
            column = self._column(self.left, g, name, number, shared)
            firsts = self.left.second[g][..., 0]
            self.between[g] = set_between(self.between[g], number, column, firsts)

    def _column(self, run, g, name, number, covariances):
        """E u_a u for the factors a of a run, 1 first."""
        rows, names = run.places_of[g]
        column = 0.0
        for key in names:
            chosen = tuple(n == key for n, _ in run.factors[g])
            column = column + factor_column(
                key,
                name,
                chosen,
                covariances,
                rows,
                run.variances[g],
                run.means[g],
                self.variances[g],
                self.means[g],
                number,
                self.params,
            )
        return set_one(column, factor_mean(name, self.variances[g], self.means[g], number, self.params))

    def output_rows(self, outputs, channel):
        """What a readout multiplies in each output, (…, T, P) or (…, T, A, P), and their common factors by class."""
        main = self.layout.main.get(channel)
        places = {r: [0] * len(outputs) for r in self.layout.commons.get(channel, ())}
        rows = []
        for t, y in enumerate(outputs):
            v = Mixed(jnp.zeros((1,), self.dtype))
            if y is not ZERO_VECTOR and channel in y.features:
                v = y.features[channel][1]
            v = self.over(v, main)
            for r, a in v.common.items():
                places[r][t] = a
            rows.append(jnp.broadcast_to(v.value, (*v.value.shape[:-1], self.samples)))
        return jnp.stack(jnp.broadcast_arrays(*rows), -2 if main is None else -3), places


@jax.jit
def enter_factor(variances, means, number, own, row, mean):
    return variances.at[..., number].set(own[..., row]), means.at[..., number].set(mean)


@partial(jax.jit, static_argnums=(0, 1, 2))
def factor_column(key, name, chosen, covariances, rows, p, mu, q, nu, number, params):
    """E u_a u for the factors u_a of that name, 0 for others."""
    q, nu = q[..., number, None], nu[..., number, None]
    those = jnp.asarray((False, *chosen))
    k = jnp.where(those, covariances[..., rows], 0)  # of the others, a derivative would be no number
    k = jnp.broadcast_to(k, jnp.broadcast_shapes(k.shape, q.shape, p.shape))
    return jnp.where(those, FACTOR_PAIRS[key, name](k, p, q, mu, nu, params), 0)


@partial(jax.jit, static_argnums=0)
def factor_mean(name, variances, means, number, params):
    return FACTOR_MEANS[name](variances[..., number], means[..., number], params)


@jax.jit
def set_one(column, value):
    return column.at[..., 0].set(value)


@jax.jit
def set_between(matrix, i, column, firsts):
    """The column of a new factor, and E u_a for all of x1's in the column of 1."""
    return matrix.at[..., :, i].set(column).at[..., :, 0].set(firsts)


@jax.jit
def common_factors(second, places, number):
    return second[..., places, number]


@partial(jax.jit, static_argnums=0)
def call_function(f, values, scalars):
    return f(*values, *scalars)


@partial(jax.jit, static_argnums=2)
def place_factor(value, number, size):
    return jnp.zeros((*value.shape[:-1], size, value.shape[-1]), value.dtype).at[..., number, :].set(value)


@partial(jax.jit, static_argnums=(3, 4), donate_argnums=0)
def set_row(rows, i, value, batch, factored):
    """Row i of features; a factored value, (…, A, P), is laid out flat."""
    value = value.reshape(*value.shape[:-2], -1) if factored else value
    return rows.at[..., i, :].set(jnp.broadcast_to(value, (*batch, rows.shape[-1])))


@jax.jit
def products(rows, value, scale):
    return jnp.einsum("...kq,...q->...k", rows, value * scale)


@partial(jax.jit, static_argnums=4)
def factored_products(rows, value, second, scale, samples):
    """Σ_ab E[Z_a Z'_b] E[u_a u_b] for every row."""
    moved = jnp.einsum("...ab,...bp->...ap", second, value) * (scale / samples)
    return jnp.einsum("...kq,...q->...k", rows, moved.reshape(*moved.shape[:-2], -1))


@jax.jit
def set_symmetric(matrix, i, column):
    return matrix.at[..., i, :].set(column).at[..., :, i].set(column)


@jax.jit
def draw_alone(inverse, i, own, points):
    """As paths.draw_first, from the covariances with the rows of the group."""
    row = jnp.einsum("...ij,...j->...i", inverse, own)
    root, reciprocal = pivot_root(own[..., i], jnp.sum(row * row, -1))
    value = jnp.einsum("...k,...kp->...p", row, points) + root[..., None] * points[..., i, :]
    new = -jnp.einsum("...k,...kj->...j", row, inverse).at[..., i].add(-1) * reciprocal[..., None]
    return inverse.at[..., i, :].set(new), value


@jax.jit
def draw_given(inverse, joint, i, own, shared, points, first_inverse, first_points):
    """As paths.draw_second, from the covariances with the rows of both runs."""
    shared = jnp.einsum("...ij,...j->...i", first_inverse, shared)
    row = jnp.einsum("...ij,...j->...i", inverse, own - jnp.einsum("...kj,...j->...k", joint, shared))
    known = jnp.sum(row * row, -1) + jnp.sum(shared * shared, -1)
    root, reciprocal = pivot_root(own[..., i], known)
    value = jnp.einsum("...k,...kp->...p", shared, first_points) + jnp.einsum("...k,...kp->...p", row, points)
    value = value + root[..., None] * points[..., i, :]
    new = -jnp.einsum("...k,...kj->...j", row, inverse).at[..., i].add(-1) * reciprocal[..., None]
    return inverse.at[..., i, :].set(new), joint.at[..., i, :].set(shared), value


def held_outputs(outputs, others, left, right):
    """NNGP of the outputs of two paths: (…, len, len)."""
    features = [{c for y in run if y is not ZERO_VECTOR for c in y.features} for run in (outputs, others)]
    total = jnp.zeros((*right.batch, len(outputs), len(others)), right.dtype)
    for channel in sorted(features[0] & features[1]):
        scale = right.laws[channel[0]](*channel[1])[0]
        rows, places = left.output_rows(outputs, channel)
        columns, others_places = right.output_rows(others, channel)
        main = right.layout.main.get(channel)
        if main is None:
            both = jnp.einsum("...tp,...up->...tu", rows, columns) / right.samples
        else:
            both = output_products(rows, columns, right.between[main]) / right.samples
        for r, at in places.items():
            both = both * right.between[r][..., jnp.asarray(at)[:, None], jnp.asarray(others_places[r])]
        total = total + scale * both
    return total


@jax.jit
def output_products(rows, columns, second):
    moved = jnp.einsum("...ab,...ubp->...uap", second, columns)
    return jnp.einsum("...tap,...uap->...tu", rows, moved)
