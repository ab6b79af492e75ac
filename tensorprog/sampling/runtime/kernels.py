"""Kernels and limits from paths."""

import functools

import jax
import jax.numpy as jnp

from .held import HeldPath, HeldSurvey, Layout, Unheld, held_outputs
from .lattice import normal_points
from .paths import ZERO_VECTOR, Groups, Path, Survey, output_kernels


def as_inputs(x):
    """A dict of floating-point arrays, from such a dict or from the array of the only input."""
    x = x if isinstance(x, dict) else {INPUTS[0]: x}
    arrays = {name: jnp.asarray(x[name]) for name in INPUTS}
    dtype = jnp.result_type(*arrays.values(), jnp.float32)
    return {name: a.astype(dtype) for name, a in arrays.items()}


def batch_shape(x):
    return next(iter(x.values())).shape[0] if x else 1


def sizes_of(x):
    return {**{size: x[name].shape[-1] for name, size in FEATURES.items()}, **axis_sizes(x)}


def without_computing(run, shapes):
    """Runs the network on inputs of these shapes for what it draws, and computes nothing."""
    jax.eval_shape(run, {name: jax.ShapeDtypeStruct((1, 1, 1, *shape), jnp.float32) for name, shape in shapes})


@functools.lru_cache(maxsize=64)
def survey_of(shapes):
    """Which Gaussians a run on inputs of these shapes draws."""
    found = []
    ones = dict.fromkeys(PARAMETERS, 1.0)

    def run(x):
        found.append(Survey(laws_of(ones, sizes_of(x), {})))
        network(found[0], x, ones)
        return 0

    without_computing(run, shapes)
    return found[0]


@functools.lru_cache(maxsize=64)
def layout_of(*runs):
    """What runs on inputs of these shapes draw and hold; None where they can hold nothing."""
    ones = dict.fromkeys(PARAMETERS, 1.0)

    def survey(shapes, groups):
        found = []

        def run(x):
            found.append(HeldSurvey(laws_of(ones, sizes_of(x), {}), groups))
            for y in network(found[0], x, ones)[OUTPUT][0]:
                for channel, (_, operand) in ({} if y is ZERO_VECTOR else y.features).items():
                    found[0].note_operand(channel, operand)
            return 0

        without_computing(run, shapes)
        return found[0]

    try:
        return Layout(survey, *runs)
    except Unheld:
        return None


def output_shape(x):
    """How many members the output of a run on x has along each axis."""
    found = []

    def run(x):
        path = Survey(laws_of(dict.fromkeys(PARAMETERS, 1.0), sizes_of(x), {}))
        found.append(network(path, x, dict.fromkeys(PARAMETERS, 1.0))[OUTPUT][1])
        return 0

    without_computing(run, shapes_of(x))
    return found[0]


def shapes_of(x):
    return tuple((name, a.shape[1:]) for name, a in x.items())


def split_points(points, *counts):
    """The normals of each group, for each run in turn; counts: of Gaussians by group, for each run."""
    start, result = 0, []
    for own in counts:
        result.append([])
        for k in own:
            result[-1].append(points[..., start : start + k, :])
            start += k
    return result


def drawn_counts(layout, run):
    """How many Gaussians of each group a run draws: none of those that are held."""
    return [0 if g in layout.held else k for g, k in enumerate(layout.counts(run))]


def pair_points(x1, x2, ntk, points, replicates, seed, dtype):
    """The normals for a pair of runs: (for paths that hold Gaussians or None, for those that hold none or None)."""
    shapes = shapes_of(x1), shapes_of(x2)
    normals = lambda d: normal_points(d, points, replicates, seed, dtype)  # noqa: E731
    held = plain = None
    layout = layout_of(*shapes) if HELD else None
    if layout is not None:
        held = normals(sum(sum(drawn_counts(layout, run)) for run in (0, 1)))
    if ntk or layout is None:
        plain = normals(sum(len(survey_of(s).drawn) for s in shapes))
    return held, plain


def sampled_pair(x1, x2, params, points, rates, ntk):
    """NNGP and NTK of each pair of samples by replicate: (N1, N2, replicates, outputs of x1, outputs of x2).

    points: of `pair_points`. The NTK is that of the parameters in `rates`, at these; None if not `ntk`.
    """
    held, plain = points
    first = {k: a[:, None, None] for k, a in x1.items()}
    second = {k: a[None, :, None] for k, a in x2.items()}
    batch = batch_shape(x1), batch_shape(x2)
    laws = laws_of(params, sizes_of(x1), rates)
    nngp = tangent = None
    if plain is not None:
        nngp, tangent = plain_pair(x1, x2, first, second, batch, laws, params, plain, ntk)
    if held is not None:
        nngp = held_pair(x1, x2, first, second, batch, laws, params, held)
    return nngp, tangent


def plain_pair(x1, x2, first, second, batch, laws, params, points, ntk):
    """By paths that draw every Gaussian."""
    surveys = survey_of(shapes_of(x1)), survey_of(shapes_of(x2))
    groups = Groups(*surveys)
    counts = [groups.counts(s) for s in surveys]
    normals = split_points(points, *counts)
    replicates = points.shape[0]
    left = Path(laws, groups, counts[0], normals[0], (batch[0], 1, replicates), None, ntk)
    outputs = network(left, first, params)[OUTPUT][0]
    right = Path(laws, groups, counts[1], normals[1], (*batch, replicates), left, ntk)
    others = network(right, second, params)[OUTPUT][0]
    return output_kernels(outputs, others, left, right, ntk)


def held_pair(x1, x2, first, second, batch, laws, params, points):
    """By paths that hold the Gaussians that stand linearly."""
    layout = layout_of(shapes_of(x1), shapes_of(x2))
    normals = split_points(points, drawn_counts(layout, 0), drawn_counts(layout, 1))
    replicates = points.shape[0]
    left = HeldPath(laws, layout, 0, normals[0], (batch[0], 1, replicates), params)
    outputs = network(left, first, params)[OUTPUT][0]
    right = HeldPath(laws, layout, 1, normals[1], (*batch, replicates), params, left)
    others = network(right, second, params)[OUTPUT][0]
    return held_outputs(outputs, others, left, right)


def limit_points(x, points, replicates, seed, dtype):
    """The normals for runs on x."""
    return normal_points(len(survey_of(shapes_of(x)).drawn), points, replicates, seed, dtype)


def sampled_limits(x, params, points):
    """The outputs of type C by replicate: name → (N, replicates, members)."""
    survey = survey_of(shapes_of(x))
    groups = Groups(survey)
    counts = groups.counts(survey)
    (own,) = split_points(points, counts)
    shape = (batch_shape(x), 1, points.shape[0])
    path = Path(laws_of(params, sizes_of(x), {}), groups, counts, own, shape)
    results = network(path, {k: a[:, None, None] for k, a in x.items()}, params)
    dtype = points.dtype
    return {
        name: jnp.stack([jnp.broadcast_to(jnp.asarray(v, dtype), shape)[:, 0] for v in values], -1)
        for name, (values, _) in results.items()
        if name != OUTPUT
    }


def mean_and_error(values, axis):
    """The mean over replicates and its standard error."""
    count = values.shape[axis]
    return jnp.mean(values, axis), jnp.std(values, axis, ddof=1) / count**0.5


def kernel(
    x1,
    x2=None,
    get=("nngp", "ntk"),
    params=None,
    wrt=TRAINED,
    points=1021,
    replicates=8,
    seed=0,
    return_stderr=False,
    rates=None,
):
    """Kernels between the samples of x1 and x2 (of x1 with itself where x2 is None), by simulation.

    x1 has shape (N1, *axes of the input, d), without d for a scalar input; several inputs go in a dict. The result
    has shape (N1, N2, *axes of the output for x1, *axes of the output for x2): one array for get="nngp" or "ntk", a
    tuple of arrays for a tuple; with return_stderr a tuple in which the standard errors follow.
    points: one of LATTICE_SIZES; replicates: randomly shifted lattices of so many points, whose spread gives the error.
    """
    names = (get,) if isinstance(get, str) else tuple(get)
    if "ntk" in names and NTK_OBSTACLE:
        raise ValueError(NTK_OBSTACLE)
    values = {**PARAMETERS, **(params or {})}
    x1 = as_inputs(x1)
    x2 = x1 if x2 is None else as_inputs(x2)
    dtype = next(iter(x1.values())).dtype
    normals = pair_points(x1, x2, "ntk" in names, points, replicates, seed, dtype)
    rates = {name: jnp.asarray((rates or {}).get(name, 1.0), dtype) for name in wrt}
    both = sampled_pair(x1, x2, values, normals, rates, "ntk" in names)
    shape = (*output_shape(x1), *output_shape(x2))
    found = {}
    for name, k in zip(("nngp", "ntk"), both, strict=True):
        if name in names:
            found[name] = [a.reshape(*a.shape[:2], *shape) for a in mean_and_error(k, 2)]
    results = tuple(found[name][0] for name in names)
    if return_stderr:
        return results + tuple(found[name][1] for name in names)
    return results[0] if isinstance(get, str) else results
