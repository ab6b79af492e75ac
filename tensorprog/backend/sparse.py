"""Tables that only pass on entries of smaller ones, read through; and sums with their equations solved.

Both are passes from recursion to recursion. A transposed convolution writes a product for each place of the output,
each of the input and each entry of the filter, most of them zero:

    w[p, a, q] := W[a] @ z[q] if 2*q == p + a else 0              g[p] := sum[a, q](w[p, a, q])

The table of second moments of w has six axes. What reads it gets its clauses instead, as conditions of its own sums,
where equations between summed indices alone leave one index for two:

    sum[a, a', q, q'](Cov(w, w')[p, p', a, a', q, q'])
        →  sum[a, q, q' where 2*q == p + a and 2*q' == p' + a](law(W) * E[z z'][q, q'])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound
from tensorprog.index.conditions import Condition, within
from tensorprog.index.ranges import Range
from tensorprog.index.solving import integral
from tensorprog.recursion import Clause, Node, Recursion, Table

MOST_CLAUSES = 100


def with_sparse_tables_read_through(recursion: Recursion) -> Recursion:
    """The recursion without the tables that only pass on others, and with equations in sums solved."""
    tables = dict(recursion.tables)
    kept = {k for k in (recursion.output, *recursion.limits) if k is not None}
    read_from_runs = {
        x.key for t in tables.values() for c in t.clauses for x in ir.reads(c.value) if x.side is not None
    }
    for key in list(tables):
        if key in kept or key in read_from_runs or not _passes_on(tables[key]):
            continue
        thin = tables.pop(key)
        for k, t in tables.items():
            if any(r.key == key for c in t.clauses for r in ir.reads(c.value)):
                tables[k] = _mapped(t, lambda node, thin=thin: _through(node, thin))
    return replace(recursion, tables={k: _mapped(t, _solved) for k, t in tables.items()})


def _mapped(table: Table, change) -> Table:
    clauses = []
    for c in table.clauses:
        value = change(c.value)
        clauses.append(c if value is c.value else replace(c, value=value))
    return replace(table, clauses=tuple(clauses))


def _children(node: Node, change) -> Node:
    """A node with its parts changed; the node itself where nothing is."""

    def each(value):
        if isinstance(value, Node):
            return change(value)
        if isinstance(value, tuple):
            new = tuple(each(v) for v in value)
            return value if all(a is b for a, b in zip(new, value, strict=True)) else new
        return value

    new = {f.name: each(getattr(node, f.name)) for f in fields(node)}
    changed = {name: v for name, v in new.items() if v is not getattr(node, name)}
    return replace(node, **changed) if changed else node


# ---------------------------------------------------------------- tables that pass on others


def _passes_on(table: Table) -> bool:
    """Whether each entry is zero or a number times one entry of a table of fewer axes."""
    if table.key.kind not in (ir.MOMENT, ir.COVARIANCE):
        return False
    clauses = [c for c in table.clauses if not ir.is_zero(c.value)]
    if not 1 <= len(clauses) <= MOST_CLAUSES:
        return False
    for c in clauses:
        factors = c.value.factors if isinstance(c.value, ir.Product) else (c.value,)
        reads = [f for f in factors if isinstance(f, ir.Read)]
        if len(reads) != 1 or any(not isinstance(f, ir.Read | ir.LawVariance | ir.Constant) for f in factors):
            return False
        if reads[0].key == table.key or len(reads[0].indices) >= len(table.axes):
            return False
        own = {r.name: r for r in c.binders}
        if sorted(str(t) for t in c.target if t.symbols & own.keys()) != sorted(own):
            return False
    return True


def _entry(thin: Table, clause: Clause, indices: Sequence[Affine]) -> tuple[tuple[Condition, ...], Node]:
    """The conditions under which an entry comes from a clause, and its value there."""
    own = {r.name: r for r in clause.binders}
    values: dict[str, Affine] = {}
    conditions = []
    for target, index in zip(clause.target, indices, strict=True):
        if target.symbols & own.keys():
            values[str(target)] = index
        else:
            conditions.append(Condition("==", index - target))
    # Only what the clause says is in its own indices: the reader's may have the same names.
    for r in clause.binders:
        conditions += within(values[r.name], ir.substitute(r, values))
    conditions += [c.substitute(values) for c in clause.conditions]
    return tuple(conditions), ir.substitute(clause.value, values)


def _ends(bound: Bound) -> Sequence[Affine]:
    return (bound,) if isinstance(bound, Affine) else [a for x in bound.arguments for a in _ends(x)]


def _through(node: Node, thin: Table) -> Node:
    """A node with the entries of a table that it reads put in."""
    clauses = [c for c in thin.clauses if not ir.is_zero(c.value)]
    if isinstance(node, ir.Read) and node.key == thin.key:
        pieces = [_entry(thin, c, node.indices) for c in clauses]
        return ir.add(*(ir.Where(conditions, value, ir.ZERO) if conditions else value for conditions, value in pieces))
    if isinstance(node, ir.Sum):
        factors = node.body.factors if isinstance(node.body, ir.Product) else (node.body,)
        reads = [f for f in factors if isinstance(f, ir.Read) and f.key == thin.key]
        if len(reads) == 1:
            rest = [_through(f, thin) for f in factors if f is not reads[0]]
            pieces = [_entry(thin, c, reads[0].indices) for c in clauses]
            return ir.add(
                *(
                    replace(node, conditions=(*node.conditions, *conditions), body=ir.product(*rest, value))
                    for conditions, value in pieces
                )
            )
    return _children(node, lambda part: _through(part, thin))


# ---------------------------------------------------------------- equations in sums


def _solved(node: Node) -> Node:
    """A node whose sums have their equations solved, where that leaves an index out."""
    node = _children(node, _solved)
    if not isinstance(node, ir.Sum) or not any(c.op == "==" for c in node.conditions):
        return node
    ranges, conditions, body = list(node.ranges), list(dict.fromkeys(node.conditions)), node.body
    while True:
        settled = _settled(conditions)
        if settled is None:
            return ir.ZERO
        conditions = settled
        found = _solution(ranges, conditions, body)
        if found is None:
            break
        name, value = found
        r = next(r for r in ranges if r.name == name)
        ranges.remove(r)
        conditions += within(value, r)
        values = {name: value}
        conditions = [c.substitute(values) for c in conditions]
        ranges = [ir.substitute(x, values) for x in ranges]
        body = ir.substitute(body, values)
    if not ranges:
        return ir.Where(tuple(conditions), body, ir.ZERO) if conditions else body
    return ir.Sum(tuple(ranges), tuple(conditions), body)


def _settled(conditions: Sequence[Condition]) -> list[Condition] | None:
    """The conditions that ask for something; None where one never holds."""
    result = []
    for c in dict.fromkeys(conditions):
        if not c.expression.is_constant:
            result.append(c)
        elif c.expression.constant < 0 or (c.op == "==" and c.expression.constant):
            return None
    return result


def _solution(ranges: Sequence[Range], conditions: Sequence[Condition], body: Node) -> tuple[str, Affine] | None:
    """A summed index and its value by an equation.

    Equations between summed indices alone come first, those that two others leave together among them. Where an
    equation ties an index of the sum to others, c·q = p + a, and q is what a table is read at, it is kept for c ≠ ±1:
    zeros between the entries of the table stand for it later.
    """
    names = {r.name: r for r in ranges}
    inner = {s for r in ranges for b in (r.low, r.high) for e in _ends(b) for s in e.symbols}
    equations = [c.expression for c in conditions if c.op == "=="]
    among = [e for e in equations if e.symbols <= names.keys()]
    differences = [a - b for k, a in enumerate(equations) for b in equations[k + 1 :]]
    among += [d for d in differences if d.symbols and d.symbols <= names.keys()]
    at = {str(e) for read in ir.reads(body) for e in read.indices}
    for e in [*among, *equations]:
        reduced = integral(e)
        if reduced is None:
            continue
        e = reduced
        candidates = [s for s in sorted(names) if e.solved(s) is not None and s not in inner]
        if not e.symbols <= names.keys():
            if any(s in at and abs(c) != 1 for s, c in e.terms if s in names):
                continue
            candidates.sort(key=lambda s: s not in at)
        else:
            candidates.sort(key=lambda s: not s.endswith("'"))
        if candidates:
            value = e.solved(candidates[0])
            assert value is not None
            return candidates[0], value
    return None
