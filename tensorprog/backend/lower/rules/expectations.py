"""Expectations of functions of Gaussians, by the rules that `expectation` has for them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import sympy

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import aligned, all_of, union
from tensorprog.backend.code.reading import Holes
from tensorprog.backend.code.tree import Array, Call, Expr, Lambda, Name, call, is_number, tree
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.definitions import Renamed, Scalars
from tensorprog.backend.lower.indices import mask
from tensorprog.backend.lower.registry import lowering
from tensorprog.backend.lower.rules.arithmetic import numbers_in
from tensorprog.backend.lower.rules.numbers import number
from tensorprog.backend.passes import MERGED_AXES


class _Entries:
    """The arrays that a function of single entries is called with: within `entrywise` if their axes are merged."""

    def __init__(self, groups: tuple[tuple[int, int], ...] = ()):
        self.groups = groups
        self.arguments: dict[str, Array] = {}

    def __call__(self, name: str, array: Array) -> Expr:
        """What the array is called in the function: `_name`, which no name of the program becomes (`identifier`)."""
        if not self.groups or not array.dims:
            return array
        known = next((n for n, a in self.arguments.items() if a == array), None)
        if known is None:
            known = name if name not in self.arguments else f"{name}{len(self.arguments)}"
            self.arguments[known] = array
        return Name(known)

    def around(self, value: Expr) -> Expr:
        if not self.arguments:
            return value
        inner = Lambda(tuple(self.arguments), value)
        return Call(Name("entrywise"), (inner, tree(self.groups), *self.arguments.values()))


def lowered_scalars(
    scalars: Scalars, names: Renamed, expression: sympy.Expr, variables: Container[sympy.Symbol], at: Context
) -> dict[sympy.Symbol, Array]:
    """Every symbol of a function but its variables: C's under their names in the plan, and parameters."""
    found = {names[s]: at.lower(n) for s, n in scalars}
    for s in expression.free_symbols:
        if s not in names and s not in variables:
            found[s] = number(s, at)
    return found


def _optional(node: ir.Node | None, at: Context) -> Array | None:
    return None if node is None else at.lower(node)


def _text(array: Array | None, dims: tuple[str, ...], holes: Holes, at: Context) -> str | None:
    return None if array is None else holes(aligned(array, dims, at.order))


def _texts(
    values: Mapping[sympy.Symbol, Array], dims: tuple[str, ...], holes: Holes, at: Context
) -> dict[sympy.Symbol, str]:
    return {s: holes(aligned(a, dims, at.order)) for s, a in values.items()}


def _of_shape(value: Expr, dims: tuple[str, ...]) -> Array:
    """The value of an expectation; a number where it depends on nothing."""
    return Array(value, () if is_number(value) else dims)


@lowering(ir.PairExpectation)
def pair(node: ir.PairExpectation, at: Context) -> Array:
    definitions = at.system.definitions
    plan, left, right = definitions.pair(node)
    k, p, q = at.lower(node.k), at.lower(node.p), at.lower(node.q)
    mu, nu = _optional(node.mu, at), _optional(node.nu, at)
    scalars_f = lowered_scalars(node.scalars_f, left, node.f, {node.z}, at)
    scalars_g = lowered_scalars(node.scalars_g, right, node.g, {node.w}, at)
    arrays = [k, p, q, *(m for m in (mu, nu) if m is not None), *scalars_f.values(), *scalars_g.values()]
    dims = union([*arrays, *numbers_in(at, node.f, node.g)], at.order)
    entries, holes = _Entries(at.groups(dims) if _is_windowed(node.k, at) else ()), Holes()

    def entry(name: str, array: Array) -> Expr:
        return entries(name, aligned(array, dims, at.order))

    covariance, variance, other = entry("_k", k), entry("_p", p), entry("_q", q)
    means = [None if m is None else holes(entry(name, m)) for name, m in (("_mu", mu), ("_nu", nu))]
    same = _same(node, dims, at) if definitions.singular(node) else None
    if same is not None:
        covariance = call("equal_where", covariance, variance, entry("_same", same))
    text = plan.call(
        holes(covariance),
        holes(variance),
        holes(other),
        means[0],
        means[1],
        {s: holes(entry("_a", a)) for s, a in scalars_f.items()},
        {s: holes(entry("_a", a)) for s, a in scalars_g.items()},
    )
    if entries.arguments:
        definitions.notes.add(MERGED_AXES, [at.key])
    return Array(entries.around(holes.filled(text)), dims)


def _is_windowed(k: ir.Node, at: Context) -> bool:
    """Whether a covariance comes from `window_sums`, the last pass of which shifts whole rows of merged axes."""
    return any(r.side is None and r.key in at.system.windowed for r in ir.reads(k))


def _same(node: ir.PairExpectation, dims: Sequence[str], at: Context) -> Array | None:
    """Where both arguments are the same vector of one input, so that k is p; None where nobody looks."""
    if node.same is None or node.k == node.p or not ({"n1", "n2"} & set(dims) or node.same):
        return None  # one number for all samples
    masks = [Array(Name("same"), ("n1", "n2"))] if at.is_pair else []
    inner = mask(node.same, at)
    if inner is not None:
        masks.append(inner)
    if not masks:
        return None
    both = all_of(masks, at.order)
    return both if set(both.dims) <= set(dims) else None


@lowering(ir.SingleExpectation)
def single(node: ir.SingleExpectation, at: Context) -> Array:
    plan, names = at.system.definitions.single(node)
    q, mu = at.lower(node.q), _optional(node.mu, at)
    scalars = lowered_scalars(node.scalars, names, node.f, {node.z}, at)
    arrays = [q, *([] if mu is None else [mu]), *scalars.values(), *numbers_in(at, node.f)]
    dims, holes = union(arrays, at.order), Holes()
    text = plan.call(
        holes(aligned(q, dims, at.order)),
        _text(mu, dims, holes, at),
        _texts(scalars, dims, holes, at),
    )
    return _of_shape(holes.filled(text), dims)


@lowering(ir.JointExpectation)
def joint(node: ir.JointExpectation, at: Context) -> Array:
    plan, left, right = at.system.definitions.joint(node)
    count = len(node.zs) + len(node.ws)
    places = [(b, a) for a in range(count) for b in range(a + 1)]
    covariance = {
        (b, a): at.lower(value)
        for (b, a), value in zip(places, node.covariance, strict=True)
        if a == b or not ir.is_zero(value)
    }
    means = [_optional(m, at) for m in node.means]
    scalars_f = lowered_scalars(node.scalars_f, left, node.f, set(node.zs), at)
    scalars_g = lowered_scalars(node.scalars_g, right, node.g, set(node.ws), at)
    arrays = [*covariance.values(), *(m for m in means if m is not None), *scalars_f.values(), *scalars_g.values()]
    dims, holes = union([*arrays, *numbers_in(at, node.f, node.g)], at.order), Holes()
    text = plan.call(
        {places: holes(aligned(a, dims, at.order)) for places, a in covariance.items()},
        [_text(m, dims, holes, at) for m in means],
        _texts(scalars_f, dims, holes, at),
        _texts(scalars_g, dims, holes, at),
    )
    return _of_shape(holes.filled(text), dims)
