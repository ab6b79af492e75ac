"""A loop whose steps are alike: single steps written out, then a `lax.scan`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tensorprog import recursion as ir
from tensorprog.backend import passes
from tensorprog.backend.code.arrays import neighbours
from tensorprog.backend.code.tree import (
    Binary,
    Def,
    Expr,
    Name,
    Return,
    Slice,
    Statement,
    TupleOf,
    call,
    index,
    let,
    tree,
)
from tensorprog.backend.lower.layout import Access, Dims, axes_in_order
from tensorprog.backend.lower.loops import Scan, Step, as_affine
from tensorprog.backend.lower.system import Active, System
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound, bound_symbols, shift
from tensorprog.recursion import Clause, Key, Table

Values = dict[Key, list[tuple[Affine, Access]]]
"""Of each table the steps that were written out."""


@dataclass(frozen=True)
class _Kept:
    """What a scan keeps of its tables: steps that later steps read (carried), all steps (stacked), the last one alone,
    or the sum of all."""

    carried: tuple[tuple[Key, int], ...]
    stacked: tuple[Key, ...]
    last: tuple[Key, ...]
    summed: tuple[Key, ...]


Body = Callable[[Step], tuple[list[Statement], dict[Key, Access]]]
"""Statements of a step, and where each of the loop's tables is there."""


def scan(plan: Scan, system: System, body: Body) -> list[Statement]:
    return _Writer(plan, system, body).statements()


class _Writer:
    def __init__(self, plan: Scan, system: System, body: Body):
        self.plan, self.system, self.body = plan, system, body
        self.loop = plan.loop
        self.slices: dict[Key, Dims] = {
            t.key: system.layout.dims(t, axes_in_order(t, system.stepped(t.key, plan.loop))) for t in plan.tables
        }
        self.kept = _kept(plan, system)
        carried = [key for key in dict(self.kept.carried) if key not in self.kept.stacked]
        self.merged = _merged(plan, carried, self.slices, system)
        self.values: Values = {t.key: [] for t in plan.tables}
        within = "_within" * len(system.active)  # the outer loop's name stays in sight
        self.befores = {
            (key, lag): Name(f"{system.names.table(key)}_before{'' if lag == 1 else lag}{within}")
            for key, lag in self.kept.carried
        }
        self.totals = {key: Name(f"{system.names.table(key)}_total") for key in self.kept.summed}

    def statements(self) -> list[Statement]:
        plan, system, kept = self.plan, self.system, self.kept
        statements: list[Statement] = []
        for step in plan.before:
            statements += self._single(step)
        system.scans += 1
        number = system.scans
        inits = [
            _merge(self._value_at(plan.first - lag * self.loop.step, key), self.merged.get(key))
            for key, lag in kept.carried
        ]
        inits += [self._nothing(key) for key in (*kept.last, *kept.summed)]
        self._note()
        statements.append(self._step(f"step_{number}"))
        scope = system.scope
        ends = [scope.integer(plan.first), scope.bound(shift(plan.last, self.loop.step))]
        steps = call("jnp.arange", *ends, *(() if self.loop.step == 1 else (-1,)))
        carry, history = Name(f"carry_{number}"), Name(f"history_{number}")
        results = TupleOf((carry, history))
        statements.append(let(results, call("lax.scan", f"step_{number}", TupleOf(tuple(inits)), steps)))
        for t in plan.tables:
            statements += self._result(t, carry, history)
        return statements

    # ------------------------------------------------------------ steps

    def _single(self, step: Step) -> list[Statement]:
        """A step that is written out, with its tables under names of their own."""
        lagged = {
            (key, k): Access(self._value_at(step.index - k * self.loop.step, key), self.slices[key])
            for key, lag in self.loop.lags.items()
            for k in range(1, (lag or 0) + 1)
        }
        with self.system.inside(Active(self.loop, step.index, lagged, {})):
            statements, found = self.body(step)
        for key, access in found.items():
            if not step.makes(key):
                continue
            name = self.system.fresh(self.system.names.table(key))
            statements.append(let(name, access.value))
            self.values[key].append((step.index, Access(name, access.dims)))
        return statements

    def _step(self, name: str) -> Def:
        """The function of one of the equal steps."""
        plan, kept = self.plan, self.kept
        arguments = [
            *self.befores.values(),
            *(Name(f"_{self.system.names.table(key)}") for key in kept.last),
            *self.totals.values(),
        ]
        statements: list[Statement] = []
        if arguments:
            statements.append(let(TupleOf(tuple(arguments)), "carry"))
        for (key, _), before in self.befores.items():
            if key in self.merged:
                statements.append(let(before, self._as_slice(before, key)))
        lagged = {at: Access(before, self.slices[at[0]]) for at, before in self.befores.items()}
        with self.system.inside(Active(self.loop, Affine.symbol(plan.symbol), lagged, {}), plan.scope):
            body, found = self.body(plan.step)
        carry = [
            _merge(found[key].value if lag == 1 else self.befores[key, lag - 1], self.merged.get(key))
            for key, lag in kept.carried
        ]
        carry += [found[key].value for key in kept.last]
        carry += [Binary("+", total, found[key].value) for key, total in self.totals.items()]
        history = [found[key].value for key in kept.stacked]
        result = Return(TupleOf((TupleOf(tuple(carry)), TupleOf(tuple(history)))))
        return Def(name, ("carry", plan.scope.variables[plan.symbol]), (*statements, *body, result))

    # ------------------------------------------------------------ results

    def _result(self, t: Table, carry: Expr, history: Expr) -> list[Statement]:
        """What of a table is there behind the scan."""
        key, kept, system = t.key, self.kept, self.system
        axis = self.loop.axes[key]
        if key in kept.summed:
            position = len(kept.carried) + len(kept.last) + kept.summed.index(key)
            system.access[key] = Access(self.totals[key], self.slices[key], {axis: self.plan.first})
            system.totals[key] = axis
            return [let(self.totals[key], index(carry, position))]
        if key in kept.stacked:
            return self._all_steps(t, index(history, kept.stacked.index(key)))
        if (key, 1) in kept.carried:
            position = kept.carried.index((key, 1))
        elif key in kept.last:
            position = len(kept.carried) + kept.last.index(key)
        else:
            return []
        final: Expr = index(carry, position)
        if key in self.merged:
            final = self._as_slice(final, key)
        variable = system.variable(key)
        system.settle(key, Access(variable, self.slices[key], {axis: as_affine(self.plan.last)}))
        return [let(variable, final)]

    def _all_steps(self, table: Table, history: Expr) -> list[Statement]:
        """One array of all steps: those written out, then the history of the scan.

        Inside another loop, its axis goes to its place among the others.
        """
        system, step = self.system, self.loop.step
        key, stepped = table.key, self.loop.axes[table.key]
        axis = table.axes[stepped].range
        dims: Dims = (stepped, *self.slices[key])
        system.footprint.append(tuple(table.axes[k].range for k in dims if isinstance(k, int)))
        low = as_affine(system.scope.settle(axis.low if step == 1 else axis.high))
        count = (self.plan.first.substitute(system.scope.known) - low) * step
        assert count.is_constant
        parts: list[Expr] = [index(self._value_at(low + d * step, key), None) for d in range(count.constant)]
        parts.append(history)
        if step == -1:
            parts = [index(history, Slice(step=tree(-1))), *reversed(parts[:-1])]
        value: Expr = parts[0] if len(parts) == 1 else call("jnp.concatenate", parts)
        if system.active:
            ordered = system.layout.dims(table, (d for d in axes_in_order(table) if d in dims))
            value, dims = call("jnp.moveaxis", value, 0, ordered.index(stepped)), ordered
        variable = system.variable(key)
        system.settle(key, Access(variable, dims))
        return [let(variable, value)]

    # ------------------------------------------------------------ pieces

    def _note(self) -> None:
        notes, main = self.system.definitions.notes, [t.key for t in self.plan.tables if t.clauses]
        notes.add(passes.SCAN, (key for key in main if key.kind != ir.GRAM))
        if self.kept.summed:
            notes.add(passes.SUM_IN_LOOP, self.kept.summed)
        if any(key.kind == ir.GRAM for key in main):
            notes.add(passes.GRAM_IN_LOOP, (key for key in main if key.kind == ir.GRAM))

    def _shape(self, key: Key) -> Expr:
        axes = [d for d in self.slices[key] if isinstance(d, int)]
        return self.system.shape(self.system.tables[key], axes)

    def _nothing(self, key: Key) -> Expr:
        return call("jnp.zeros", self._shape(key), "dtype")

    def _as_slice(self, value: Expr, key: Key) -> Expr:
        return call("jnp.reshape", value, self._shape(key))

    def _value_at(self, p: Affine, key: Key) -> Expr:
        for q, access in self.values[key]:
            if (p - q).substitute(self.system.scope.known) == Affine(0):
                return access.value
        return self._nothing(key)


def _merge(value: Expr, groups: tuple[tuple[int, int], ...] | None) -> Expr:
    return call("merge_axes", value, groups) if groups else value


def _merged(
    plan: Scan, keys: Iterable[Key], slices: Mapping[Key, Dims], system: System
) -> dict[Key, tuple[tuple[int, int], ...]]:
    """The dimensions that are one in what a scan carries: neighbours of one run, where a step has filters.

    The work of a step then has the shape that `window_sums` and `entrywise` work in, from one filter to the next.
    """
    if (
        system.active
        or "n1" not in system.layout.batch
        or not any(_has_filter(c) for t in plan.tables for c in t.clauses)
    ):
        return {}
    found = {}
    for key in keys:
        axes = system.tables[key].axes
        groups = neighbours([axes[d].runs if isinstance(d, int) else None for d in slices[key]])
        if groups:
            found[key] = groups
    return found


def _has_filter(clause: Clause) -> bool:
    """Whether a sum in a clause reads a table at shifted indices."""
    return any(
        len(e.symbols) > 1 and e.symbols & {r.name for r in node.ranges}
        for node in ir.walk(clause.value)
        if isinstance(node, ir.Sum)
        for r in ir.reads(node.body)
        for e in r.indices
    )


# ---------------------------------------------------------------- what is kept


def _kept(plan: Scan, system: System) -> _Kept:
    loop = plan.loop
    main = [t for t in plan.tables if t.clauses]
    carried = tuple((t.key, lag) for t in main for lag in range(1, (loop.lags[t.key] or 0) + 1))
    whole = [t for t in main if system.active or _is_read_before(t.key, plan, system)]
    summed = {t.key for t in whole if _is_only_summed(t.key, plan, system)}
    return _Kept(
        carried,
        tuple(t.key for t in whole if t.key not in summed),
        tuple(t.key for t in main if t not in whole and not loop.lags[t.key] and system.is_read(t.key, loop.keys)),
        tuple(key for key in system.tables if key in summed),
    )


def _is_read_before(key: Key, plan: Scan, system: System) -> bool:
    """Whether a step of a table other than the last is read outside of the loop."""
    axis = plan.loop.axes[key]
    reads = [
        r
        for reader in system.tables.values()
        if reader.key not in plan.loop.axes
        for c in reader.clauses
        for r in ir.entries(c.value)
        if r.key == key
    ]
    return any(not system.scope.same(r.indices[axis], plan.last) for r in (*reads, *system.external.get(key, ())))


def _is_only_summed(key: Key, plan: Scan, system: System) -> bool:
    """Whether all that is read of a table after its loop is its sum over the loop's index: no history is kept.

    The sum must run over just the steps of the scan; what was written out before them must be zero.
    """
    loop, axis = plan.loop, plan.loop.axes[key]
    if system.active or system.external.get(key) or loop.step != 1 or any(step.makes(key) for step in plan.before):
        return False
    for reader in system.tables.values():
        if reader.key in loop.axes:
            continue
        for c in reader.clauses:
            read = sum(r.key == key for r in ir.entries(c.value))
            sums = (node for node in ir.walk(c.value) if isinstance(node, ir.Sum))
            if read != sum(_sums_steps(node, key, axis, plan.first, plan.last, system) for node in sums):
                return False
    return True


def _sums_steps(node: ir.Sum, key: Key, axis: int, first: Affine, last: Bound, system: System) -> bool:
    """Whether a sum over an index, among others, reads a table at it, and depends on it nowhere else."""
    factors = node.body.factors if isinstance(node.body, ir.Product) else (node.body,)
    reads = [f for f in factors if isinstance(f, ir.Read) and f.key == key]
    if len(reads) != 1 or sum(r.key == key for r in ir.reads(node.body)) != 1:
        return False
    (read,) = reads
    ranges = [r for r in node.ranges if read.indices[axis] == Affine.symbol(r.name)]
    if not ranges:
        return False
    (over,) = ranges
    if not system.scope.same(over.low, first) or not system.scope.same(over.high, last):
        return False
    elsewhere = {s for c in node.conditions for s in c.expression.symbols}
    elsewhere |= {s for r in node.ranges if r is not over for b in (r.low, r.high) for s in bound_symbols(b)}
    elsewhere |= {s for k, e in enumerate(read.indices) if k != axis for s in e.symbols}
    others = [f for f in factors if f is not read]
    return over.name not in elsewhere and not any(_mentions(f, over.name) for f in others)


def _mentions(node: ir.Node, name: str) -> bool:
    """Whether a node depends on an index."""
    for x in ir.walk(node):
        if isinstance(x, ir.Read) and any(name in e.symbols for e in x.indices):
            return True
        if isinstance(x, ir.Constant) and any(s.name == name for s in x.value.free_symbols):
            return True
        if isinstance(x, ir.LawVariance) and any(s.name == name for s in x.scale.free_symbols):
            return True
        if isinstance(x, ir.LawVariances) and name in x.at.symbols:
            return True
        if not isinstance(x, ir.Read | ir.Constant | ir.LawVariance | ir.Product | ir.Add):
            return True  # what else may depend on it is not looked into
    return False
