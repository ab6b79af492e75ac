"""Moments of members of families as entries of tables, which are asked for; laws, where there is no table."""

from __future__ import annotations

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import bound_symbols
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Multiply, Reference
from tensorprog.program.ir import Family
from tensorprog.program.laws import growth, nngp_scale
from tensorprog.program.types import Data
from tensorprog.recursion import ZERO, Key, Node, add, product
from tensorprog.theorem.derivation import Context, Derivation, Pairing, View
from tensorprog.theorem.indices import gather, same_indices, solved
from tensorprog.theorem.members import case_at
from tensorprog.theorem.moments import Pair, derived_second
from tensorprog.theorem.runs import sizes_of


def second(d: Derivation, view: View, u: Reference, w: Reference, centred: bool, ctx: Context) -> Node:
    """E Z^u Z^w, or their covariance where both are G-vars and `centred`; to stand under what ctx gathers."""
    u, w = solved(u, ctx), solved(w, ctx)
    if d.support.independent(u, w, ctx.all_ranges()):
        if centred:
            return ZERO
        return product(mean(d, u, view.left), mean(d, w, view.right))
    if not (d.gaussian(u.name) and d.gaussian(w.name)):
        assert not centred
        return read_pair(d, ir.MOMENT, view, u, w)
    covariance = _covariance(d, view, u, w, ctx)
    if centred or u.name in d.centred or w.name in d.centred:
        return covariance
    means = product(mean(d, solved(u, ctx), view.left), mean(d, solved(w, ctx), view.right))
    if ctx.solved or ctx.conditions:
        # The condition u = w of the law concerns the covariance alone.
        return read_pair(d, ir.MOMENT, view, u, w)
    return add(covariance, means)


def covariance(d: Derivation, view: View, u: Reference, w: Reference, ranges: dict[str, Range]) -> Node:
    """Cov(Z^u, Z^w) of G-vars, a factor by itself."""
    ctx = Context(dict(ranges))
    return gather(d.reader, ctx, second(d, view, u, w, True, ctx))


def variance(d: Derivation, u: Reference, side: str, view: View, ranges: dict[str, Range]) -> Node:
    """Var Z^u of a G-var of one side of the pair."""
    return second(d, view.within(side), u, u, True, Context(dict(ranges)))


def _covariance(d: Derivation, view: View, u: Reference, w: Reference, ctx: Context) -> Node:
    f, g = d.family(u.name), d.family(w.name)
    if f.role == "vector" and g.role == "vector":
        if f.name != g.name or not same_indices(d.reader, u.indices, w.indices, ctx):
            return ZERO
        return law(d, f, view, solved(u, ctx).indices)
    ranges = ctx.all_ranges()
    a, b = _inlined(d, u, view.left, ranges), _inlined(d, w, view.right, ranges)
    if a is not None and b is not None:
        return derived_second(d, Pair(ir.COVARIANCE, view, u, w, a, b, ctx, part=True))
    return read_pair(d, ir.COVARIANCE, view, u, w)


def _inlined(d: Derivation, u: Reference, side: str | None, ranges: dict[str, Range]) -> Multiply | None:
    """The MatMul that defines u, a vector of that run, where its indices tell which assignment does."""
    if d.family(u.name).role != "assigned":
        return None
    found = case_at(d, u, side, ranges)
    if found is None:
        return None
    case, mapping = found
    if not isinstance(case.body, Multiply) or case.conditions or any(r.name not in mapping for r in case.binders):
        return None
    body = d.reader.put(case.body, {**mapping, **sizes_of(d.program, side)})
    assert isinstance(body, Multiply)
    return body


def mean(d: Derivation, u: Reference, side: str | None) -> Node:
    """E Z^u in that run."""
    if u.name in d.centred:
        return ZERO
    family = d.family(u.name)
    if family.role == "vector":
        assert family.law is not None
        value = growth(family.law.mean * family.law.multiplier, dict(d.program.widths)).limit
        return ir.Constant(at_member(d, value, family, u.indices))
    key = Key(ir.MEAN, "self", (u.name,))
    d.tables.ask(key)
    return ir.Read(key, u.indices, side)


def mean_or_none(d: Derivation, u: Reference, side: str | None) -> Node | None:
    """E Z^u in that run, None for zero."""
    m = mean(d, u, side)
    return None if ir.is_zero(m) else m


def law(d: Derivation, family: Family, view: View, indices: tuple[Affine, ...]) -> ir.LawVariance:
    """The variance of a random family at a member."""
    assert family.law is not None
    scale, tangent = nngp_scale(family.law, family.type, dict(d.program.widths))
    rate = None if not isinstance(tangent, sympy.Expr) else at_member(d, tangent, family, indices)
    moves = view.stream == "cross" and not family.fixed
    parameter = family.stands_for or family.name
    return ir.LawVariance(family.name, parameter, at_member(d, scale, family, indices), rate, moves)


def at_member(d: Derivation, value: sympy.Expr, family: Family, indices: tuple[Affine, ...]) -> sympy.Expr:
    """A law's number at a member of the family."""
    names = (sympy.Symbol(r.name, integer=True) for r in family.ranges)
    return value.xreplace({s: d.reader.number(i) for s, i in zip(names, indices, strict=True)})


def read_one(d: Derivation, r: Reference, side: str | None) -> Node:
    """An entry of a table of data or of C's."""
    kind = ir.DATA if isinstance(d.family(r.name).type, Data) else ir.SCALAR
    key = Key(kind, "self", (r.name,))
    d.tables.ask(key)
    return ir.Read(key, r.indices, side)


def read_pair(d: Derivation, kind: str, view: View, u: Reference, w: Reference) -> Node:
    """An entry of a table of second moments."""
    if view.stream == "self" and u.name == w.name and u.indices == w.indices:
        # A variance: a table of its own, on the diagonal, which asks for no other entries to be known.
        key = Key(kind, "self", (u.name,))
        d.tables.pairings[key] = tuple((a, a, 0) for a in range(len(u.indices)))
        d.tables.ask(key)
        return ir.Read(key, u.indices, view.left)
    key = Key(kind, view.stream, (u.name, w.name))
    asked = tuple(p for p in _pairing(u.indices, w.indices) if _shares_low(d, u.name, p[0]))
    pairing = d.tables.ask_paired(key, asked)
    return ir.Read(key, interleaved(u.indices, w.indices, pairing), view.left if view.stream == "self" else None)


def _shares_low(d: Derivation, name: str, axis: int) -> bool:
    """Whether two runs have the same first index along an axis, so that a diagonal of both begins at it."""
    low = d.family(name).ranges[axis].low
    return not bound_symbols(low) & set(d.program.open_sizes)


def _pairing(left: tuple[Affine, ...], right: tuple[Affine, ...]) -> Pairing:
    """Which axes these indices keep on a diagonal: the difference of the two indices is a number."""
    result = []
    taken: set[int] = set()
    for a, e in enumerate(left):
        order = [a, *(k for k in range(len(right)) if k != a)] if a < len(right) else range(len(right))
        for b in order:
            if b in taken:
                continue
            difference = right[b] - e
            if difference.is_constant:
                result.append((a, b, difference.constant))
                taken.add(b)
                break
    return tuple(result)


def interleaved(left: tuple[Affine, ...], right: tuple[Affine, ...], pairing: Pairing) -> tuple[Affine, ...]:
    """The indices of an entry of a table of two families, in the order of its axes: a diagonal once."""
    paired = {a for a, _, _ in pairing}
    taken = {b for _, b, _ in pairing}
    rest = [k for k in range(len(right)) if k not in taken]
    result = []
    for k, e in enumerate(left):
        result.append(e)
        if k not in paired and k in rest:
            result.append(right[k])
            rest.remove(k)
    return tuple(result + [right[k] for k in rest])
