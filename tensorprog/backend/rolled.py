"""Layers written one by one, rolled into a table with an axis more: a pass from recursion to recursion.

    h2 := W2 @ relu(h1), h3 := W3 @ relu(h2), …    gives    Cov(h2, h2') := law(W2)·E[relu(h1) relu(h1')], …

tables of one form, each from those of the layer before. As one family over layers they are a loop, which is compiled
once; the laws of the layers stand in an array, so each weight keeps its name and its own part of the NTK.

A *chain* is a set of classes of tables of equal form, each with one member to a layer, where everything that a member
reads is the member of a class of the same layer or the one before, or one table outside for all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import networkx
import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range
from tensorprog.recursion import Axis, Clause, Key, Node, Recursion, Table

FEWEST = 4  # layers that are worth a loop


@dataclass(frozen=True)
class _Form:
    """A table without the names in it: what it reads and the laws in it, in their order, stand apart."""

    skeleton: object
    reads: tuple[Key, ...]
    laws: tuple[ir.LawVariance, ...]


@dataclass
class _Chain:
    """The layer of each member, from `low` to `high`, and the members of a class by their layer."""

    layers: dict[Key, int]
    members: list[dict[int, Key]]
    low: int
    high: int


def with_layers_rolled(recursion: Recursion) -> Recursion:
    """The recursion with chains of alike tables as tables over layers; the last member's name stands for all."""
    tables = dict(recursion.tables)
    kept = {k for k in (recursion.output, *recursion.limits) if k is not None}
    taken = {s for t in tables.values() for a in t.axes for s in (a.range.name, a.range.name.rstrip("'"))}
    taken |= {s for t in tables.values() for c in t.clauses for r in _ranges(c) for s in (r.name,)}
    taken |= set(recursion.program.integers) | {p.name for p in recursion.program.parameters}  # type: ignore[attr-defined]
    layer = underscored("layer", taken)
    rolled: set[Key] = set()
    while True:
        chain = _found(tables, kept | rolled)
        if chain is None:
            return replace(recursion, tables=tables)
        tables, new = _with_chain(tables, chain, layer)
        rolled |= new


def _ranges(value) -> Iterator[Range]:
    if isinstance(value, Range):
        yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _ranges(v)
    elif isinstance(value, Clause | Node):
        for f in fields(value):
            yield from _ranges(getattr(value, f.name))


# ---------------------------------------------------------------- forms


def _form(table: Table) -> _Form | None:
    """The form of a table; None for those that no chain has."""
    if table.key.kind not in (ir.MOMENT, ir.COVARIANCE, ir.MEAN):
        return None
    reads: list[Key] = []
    laws: list[ir.LawVariance] = []
    standing: list[dict[sympy.Basic, sympy.Basic]] = []

    def change(value):
        if isinstance(value, ir.Read):
            reads.append(value.key)
            return ("read", value.key.kind, value.key.stream, value.indices, value.side)
        if isinstance(value, ir.LawVariance):
            laws.append(value)
            return ("law", value.moves)
        if isinstance(value, tuple):
            return tuple(change(v) for v in value)
        if isinstance(value, sympy.Basic):
            return value.xreplace(standing[-1]) if standing else value
        if isinstance(value, Clause | Node):
            standing.append(_numbered(value))
            parts = tuple(change(getattr(value, f.name)) for f in fields(value))
            standing.pop()
            return (type(value).__name__, *parts)
        return value

    skeleton = change(table.clauses)
    if not reads or any(_by_index(x) for x in laws):
        return None
    return _Form((table.key.kind, table.key.stream, table.axes, skeleton), tuple(reads), tuple(laws))


def _numbered(node: Clause | Node) -> dict[sympy.Basic, sympy.Basic]:
    """Numbers for the symbols that stand for vectors and C's in a node's functions, which are named after them."""
    own: list[sympy.Basic] = []

    def collect(value) -> None:
        if isinstance(value, sympy.Symbol):
            own.append(value)
        elif isinstance(value, tuple):
            for v in value:
                collect(v)

    if not isinstance(node, Clause | ir.Constant):
        for f in fields(node):
            collect(getattr(node, f.name))
    return {s: sympy.Symbol(f"#{k}", real=True) for k, s in enumerate(dict.fromkeys(own))}


def _by_index(law: ir.LawVariance) -> bool:
    """Whether a law is a family's, with numbers that depend on the index."""
    return any(s.is_integer and not s.is_positive for s in law.scale.free_symbols)


def _found(tables: Mapping[Key, Table], closed: set[Key]) -> _Chain | None:
    """The longest chain of at least so many layers."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(tables)
    graph.add_edges_from((r.key, t.key) for t in tables.values() for c in t.clauses for r in ir.reads(c.value))
    if not networkx.is_directed_acyclic_graph(graph):
        loops = {k for part in networkx.strongly_connected_components(graph) if len(part) > 1 for k in part}
        loops |= {k for k in graph if graph.has_edge(k, k)}
        graph.remove_nodes_from(loops)
        closed = closed | loops
    order = {key: k for k, key in enumerate(networkx.topological_sort(graph))}
    forms = {k: f for k, t in tables.items() if k not in closed and (f := _form(t)) is not None}
    classes: dict[object, list[Key]] = {}
    for key in sorted(forms, key=lambda k: order[k]):
        classes.setdefault(forms[key].skeleton, []).append(key)
    for members in sorted(classes.values(), key=len, reverse=True):
        if len(members) < FEWEST or not all(networkx.has_path(graph, a, b) for a, b in _neighbours(members)):
            continue
        chain = _chain(members, forms)
        if chain is not None:
            return chain
    return None


def _neighbours(members: Sequence[Key]) -> list[tuple[Key, Key]]:
    return list(pairwise(members))


def _chain(base: Sequence[Key], forms: Mapping[Key, _Form]) -> _Chain | None:
    """The chain that a class begins: what its members read joins it, layer by layer."""
    low, high = 1, len(base)
    layers = {key: k + 1 for k, key in enumerate(base)}
    classes = [{k + 1: key for k, key in enumerate(base)}]
    number = 0
    while number < len(classes):
        members = classes[number]
        number += 1
        inside = [k for k in sorted(members) if low <= k <= high]
        if len(inside) < FEWEST:
            return None
        for position in range(len(forms[members[inside[-1]]].reads)):
            targets = {k: forms[members[k]].reads[position] for k in inside}
            if len(set(targets.values())) == 1:
                continue  # one table outside of all layers
            found = {k: layers.get(t) for k, t in targets.items()}
            if all(at is None for at in found.values()):
                form = forms.get(targets[inside[-1]])
                joining = {
                    k: t for k, t in targets.items() if form and t in forms and forms[t].skeleton == form.skeleton
                }
                if len(set(joining.values())) < len(joining):
                    return None
                layers |= {t: k for k, t in joining.items()}
                classes.append(joining)
                found = {k: layers.get(t) for k, t in targets.items()}
            gap = found[inside[-1]]
            if gap is None or gap - inside[-1] not in (0, -1):
                return None
            wrong = [k for k in inside if found[k] is None or found[k] - k != gap - inside[-1]]  # type: ignore[operator]
            if wrong:
                low = max(low, max(wrong) + 1)
                inside = [k for k in inside if k >= low]
        if high - low + 1 < FEWEST:
            return None
    # A member that another class reads one layer before has its place there, though its own form may differ.
    return _Chain(layers, classes, low, high) if all(_complete(c, low, high) for c in classes) else None


def _alike(targets: Mapping[int, Key], forms: Mapping[Key, _Form], chosen: Key) -> dict[int, Key]:
    """Those of the form of one of them."""
    form = forms.get(chosen)
    return {k: t for k, t in targets.items() if form and t in forms and forms[t].skeleton == form.skeleton}


def _complete(members: Mapping[int, Key], low: int, high: int) -> bool:
    return all(k in members for k in range(low, high + 1))


# ---------------------------------------------------------------- tables over layers


def _with_chain(tables: Mapping[Key, Table], chain: _Chain, layer: str) -> tuple[dict[Key, Table], set[Key]]:
    """The tables with those of a chain rolled: of each class the last member's key, over the layers."""
    here = Affine.symbol(layer)
    span = Range(layer, Affine(chain.low), Affine(chain.high))
    place: dict[Key, tuple[Key, int]] = {}
    for members in chain.members:
        for k in range(chain.low, chain.high + 1):
            place[members[k]] = (members[chain.high], k)
    result: dict[Key, Table] = {}
    seeds: dict[Key, Key] = {}  # of a class, the table of the layer before the first, where that is read
    bodies: dict[Key, Table] = {}
    for members in chain.members:
        last = tables[members[chain.high]]
        laws = [list(_laws(tables[members[k]])) for k in range(chain.low, chain.high + 1)]
        clauses = [_clause(c, here) for c in last.clauses]
        counter = iter(range(len(laws[0])))

        def law(node: ir.LawVariance, laws=laws, counter=counter) -> Node:
            at = next(counter)
            own = tuple(found[at] for found in laws)
            if len(set(own)) == 1:
                return node
            first = own[0]
            return ir.LawVariances(
                first.name, first.parameter, first.scale, first.tangent, first.moves, own, here - chain.low
            )

        def read(node: ir.Read, members=members) -> Node:
            if node.key not in place:
                return node
            rolled, k = place[node.key]
            if k < chain.high:
                first = next(m for m in chain.members if m[chain.high] == rolled)
                seeds[rolled] = first.get(chain.low - 1) or _seed(tables, members, chain, node.key)
            return ir.Read(rolled, (here + (k - chain.high), *node.indices), node.side)

        clauses = [replace(c, value=_changed(c.value, read, law)) for c in clauses]
        clauses = [replace(c, binders=(span, *c.binders)) for c in clauses]
        bodies[last.key] = Table(last.key, (Axis(span, -1, -1), *last.axes), tuple(clauses))

    def elsewhere(node: ir.Read) -> Node:
        if node.key not in place:
            return node
        rolled, k = place[node.key]
        return ir.Read(rolled, (Affine(k), *node.indices), node.side)

    for key, table in tables.items():
        if key in place:
            if key in bodies:
                result[key] = _seeded(bodies[key], tables, seeds.get(key), chain, span)
            continue
        new = tuple(replace(c, value=_changed(c.value, elsewhere, lambda law: law)) for c in table.clauses)
        result[key] = replace(table, clauses=new)
    return result, set(bodies)


def _clause(c: Clause, here: Affine) -> Clause:
    return replace(c, target=(here, *c.target))


def _seed(tables, members, chain: _Chain, key: Key) -> Key:
    """The table that the first layer reads where the last reads `key`."""
    last, first = (tables[members[k]] for k in (chain.high, chain.low))
    pairs = zip(_reads(last), _reads(first), strict=True)
    return next(b for a, b in pairs if a == key)


def _seeded(table: Table, tables: Mapping[Key, Table], seed: Key | None, chain: _Chain, span: Range) -> Table:
    """A table over layers with the layer before the first in it, a copy of the table that the first one reads."""
    if seed is None:
        return table
    axes = (replace(table.axes[0], range=replace(span, low=Affine(chain.low - 1))), *table.axes[1:])
    own = tables[seed]
    binders = tuple(a.range for a in own.axes)
    indices = tuple(Affine.symbol(r.name) for r in binders)
    first = Clause(binders, (Affine(chain.low - 1), *indices), (), ir.Read(seed, indices))
    return replace(table, axes=axes, clauses=(first, *table.clauses))


def _laws(table: Table) -> Iterator[ir.LawVariance]:
    for c in table.clauses:
        yield from (n for n in ir.walk(c.value) if isinstance(n, ir.LawVariance))


def _reads(table: Table) -> Iterator[Key]:
    for c in table.clauses:
        yield from (r.key for r in ir.reads(c.value))


def _changed(node: Node, read, law) -> Node:
    """A node with its reads and laws changed, in the order of `walk`."""
    if isinstance(node, ir.Read):
        return read(node)
    if isinstance(node, ir.LawVariance):
        return law(node)

    def each(value):
        if isinstance(value, Node):
            return _changed(value, read, law)
        return tuple(each(v) for v in value) if isinstance(value, tuple) else value

    return replace(node, **{f.name: each(getattr(node, f.name)) for f in fields(node)})
