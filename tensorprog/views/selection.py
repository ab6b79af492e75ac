"""What is printed of a recursion: which tables, in which order, with the compiler's small scalars put in.

The equations of a run with itself are those between two runs with x' = x: where these are there, those are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.scope import size_symbol
from tensorprog.recursion import Clause, Key, Node, Recursion, Table
from tensorprog.theorem.tangent import Tangents, is_tangent, primal_key, tangent_key, tangents
from tensorprog.views.names import Names, assigned
from tensorprog.views.sampled import Simulation, simulation

MOST_NODES = 4
"""A scalar of the compiler with at most so many nodes is put in where it is read."""


@dataclass(frozen=True)
class Selection:
    """The tables to print: `nngp` and `ntk` in the order of computation. `tables` holds all, for looking up axes.

    mirrored: whether tables of a run with itself were left out because the cross tables say the same.
    simulation: what the expectations are made of that no rule gives; None where there are none.
    """

    recursion: Recursion
    names: Names
    tables: dict[Key, Table]
    nngp: tuple[Table, ...]
    ntk: tuple[Table, ...]
    tangents: Tangents | None
    mirrored: bool
    simulation: Simulation | None


def select(recursion: Recursion, get: str = "nngp", everything: bool = False) -> Selection:
    """What to print for get = "nngp" or "ntk"; `everything` keeps all tables as they are.

    Raises ValueError for another `get`, ProgramError where there is no NTK.
    """
    if get not in ("nngp", "ntk"):
        raise ValueError(f"get is 'nngp' or 'ntk', not {get!r}")
    program = recursion.program
    names = Names(program)
    made = tangents(recursion) if get == "ntk" else None
    tables = {**recursion.tables, **(made.tables if made else {})}
    if not everything:
        tables = put_in(tables, names)
    simulated = simulation(tables, program)
    if simulated is not None:
        names = Names(program, frozenset(simulated.families))
    ordered = in_order(sorted(tables.values(), key=lambda t: _place(t, names)))
    wanted = [t for t in ordered if everything or (t.clauses and t.key.kind != ir.GRAM)]
    mirrored = False
    if not everything:
        before = len(wanted)
        wanted = [t for t in wanted if not _mirrored(t, tables)]
        mirrored = len(wanted) < before
        wanted = [t for t in wanted if not _repeated(t, tables)]
    ntk = [t for t in wanted if is_tangent(t.key)]
    nngp = tuple(t for t in wanted if t not in ntk)
    return Selection(recursion, names, tables, nngp, tuple(ntk), made, mirrored, simulated)


def _place(table: Table, names: Names) -> tuple:
    kinds = [ir.DATA, ir.GRAM, ir.SCALAR, ir.MEAN, ir.COVARIANCE, ir.MOMENT, ir.OUTPUT]
    kind = primal_key(table.key).kind
    positions = sorted((names.order[f] for f in table.key.families), reverse=True)
    return kind == ir.OUTPUT, positions, kinds.index(kind), table.key.stream


def in_order(tables: list[Table]) -> list[Table]:
    """The tables after those that they are computed from at the same step, else in the given order.

    h[t] is computed from s[t-1], which belongs to the step before, and s[t] from h[t]: Σ(h, h') comes first.
    """
    places = {t.key: k for k, t in enumerate(tables)}
    needs = {t.key: {r.key for c in t.clauses for r in _same_step(c)} & places.keys() - {t.key} for t in tables}
    for t in tables:
        # What is sampled comes after the Gaussians that it is made of, but for those that are computed from it.
        law = {k for c in t.clauses for n in ir.walk(c.value) if isinstance(n, ir.Sampled) for k in n.tables}
        law = {tangent_key(k) for k in law} if is_tangent(t.key) else law
        needs[t.key] |= {k for k in law & places.keys() if t.key not in needs[k]}
    result: list[Table] = []
    left = list(tables)
    done: set[Key] = set()
    while left:
        table = next((t for t in left if needs[t.key] <= done), left[0])
        left.remove(table)
        result.append(table)
        done.add(table.key)
    return result


def _same_step(clause: Clause) -> list[ir.Read]:
    """The reads of a clause that do not go back by a step of a loop."""
    moving = [t for t in clause.target if not t.is_constant]

    def back(r: ir.Read) -> bool:
        gaps = [t - i for t in moving for i in r.indices]
        return any(g.is_constant and g.constant for g in gaps)

    return [r for r in ir.reads(clause.value) if not back(r)]


def _mirrored(table: Table, tables: dict[Key, Table]) -> bool:
    """Whether another table holds at least the entries of this table of a run with itself: the cross table,
    or for variances the table of the whole run."""
    key = table.key
    if key.stream != "self" or key.kind not in (ir.GRAM, ir.COVARIANCE, ir.MOMENT):
        return False
    left, right = key.families[0], key.families[-1]
    for stream, pair, flip in (
        ("cross", (left, right), False),
        ("cross", (right, left), True),
        ("self", (left, right), False),
    ):
        other = tables.get(Key(key.kind, stream, pair))
        if other is not None and other is not table and _pairs(other, flip) <= _pairs(table, False):
            return True
    return False


def _pairs(table: Table, flip: bool) -> set[tuple[int, int, int]]:
    pairs = {(a.left, a.right, a.offset) for a in table.axes if a.left is not None and a.right is not None}
    return {(right, left, -offset) for left, right, offset in pairs} if flip else pairs


def _repeated(table: Table, tables: dict[Key, Table]) -> bool:
    """Θ of second moments is Θ of covariances: means do not move."""
    key = primal_key(table.key)
    return (
        is_tangent(table.key)
        and key.kind == ir.MOMENT
        and replace(table.key, kind=table.key.kind.replace(ir.MOMENT, ir.COVARIANCE)) in tables
    )


# ---------------------------------------------------------------- putting scalars in


def put_in(tables: dict[Key, Table], names: Names) -> dict[Key, Table]:
    """The tables with the compiler's short scalars and the means that are zero put in where they are read."""
    tables = dict(tables)
    while True:
        key = next((k for k, t in tables.items() if _short(t, names)), None)
        if key is None:
            return tables
        table = tables.pop(key)
        (clause,) = table.clauses[:1]
        swap = _Swap(key, clause, names)
        for k, t in tables.items():
            clauses = tuple(replace(c, value=swap.node(c.value)) for c in t.clauses)
            tables[k] = replace(t, clauses=clauses)


def _short(table: Table, names: Names) -> bool:
    if table.key.kind not in (ir.SCALAR, ir.MEAN) or not table.clauses:
        return False
    if all(ir.is_zero(c.value) for c in table.clauses):
        return names.program.families[table.key.families[0]].role != "output"
    (clause, *rest) = table.clauses
    if rest or clause.conditions or not names.is_temporary(table.key.families[0]):
        return False
    if any(r.key == table.key for r in ir.reads(clause.value)):
        return False
    if assigned(clause.target, clause.target) is None:
        return False
    kinds = (ir.Constant, ir.Read, ir.Apply, ir.Product)
    nodes = list(ir.walk(clause.value))
    return len(nodes) <= MOST_NODES and all(isinstance(n, kinds) for n in nodes)


class _Swap:
    """Reads of one table replaced by the value of its clause."""

    def __init__(self, key: Key, clause: Clause, names: Names):
        self.key, self.clause, self.sizes = key, clause, names.program.open_sizes

    def node(self, node: Node) -> Node:
        if isinstance(node, ir.Read) and node.key == self.key:
            return self._value(node)
        changed = {f.name: self._part(getattr(node, f.name)) for f in fields(node)}
        match node:
            case ir.Add():
                return ir.add(*changed["terms"])
            case ir.Product():
                return ir.product(*changed["factors"])
            case ir.Sum() if ir.is_zero(changed["body"]):
                return ir.ZERO
            case ir.Where() if ir.is_zero(changed["then"]) and ir.is_zero(changed["otherwise"]):
                return ir.ZERO
            case ir.Apply():
                return _apply(changed["expression"], changed["arguments"])
            case ir.PairExpectation():
                changed |= {m: None for m in ("mu", "nu") if changed[m] is not None and ir.is_zero(changed[m])}
            case ir.SingleExpectation():
                changed |= {"mu": None} if changed["mu"] is not None and ir.is_zero(changed["mu"]) else {}
        return replace(node, **changed)

    def _part(self, value):
        if isinstance(value, Node):
            return self.node(value)
        if isinstance(value, tuple):
            return tuple(self._part(v) for v in value)
        return value

    def _value(self, read: ir.Read) -> Node:
        if ir.is_zero(self.clause.value):
            return ir.ZERO
        mapping = assigned(self.clause.target, read.indices)
        assert mapping is not None
        value = self.clause.value
        if read.side == "right":
            value = primed(value, self.sizes)
        return sided(ir.substitute(value, mapping), read.side)


def _apply(expression: sympy.Expr, arguments) -> Node:
    """A function of scalars, with functions of scalars among its arguments put in."""
    found: dict[Node, sympy.Symbol] = {}
    swap = {}
    for symbol, argument in arguments:
        if isinstance(argument, ir.Constant):
            swap[symbol] = argument.value
        elif isinstance(argument, ir.Apply):
            inner = {s: found.setdefault(a, sympy.Dummy(s.name, real=True)) for s, a in argument.arguments}
            swap[symbol] = argument.expression.xreplace(inner)
        else:
            swap[symbol] = found.setdefault(argument, sympy.Dummy(symbol.name, real=True))
    expression = expression.xreplace(swap)
    used = tuple((s, a) for a, s in found.items() if s in expression.free_symbols)
    return ir.Apply(expression, used) if used else ir.Constant(expression)


def sided(node, side: str | None):
    def change(value):
        if isinstance(value, ir.Read):
            return replace(value, side=side)
        if isinstance(value, Node):
            return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value)})
        return tuple(change(v) for v in value) if isinstance(value, tuple) else value

    return change(node)


def primed(node, sizes: tuple[str, ...]):
    """The second run's sizes in a node of one run."""
    numbers = {size_symbol(s): size_symbol(s + "'") for s in sizes}
    indices = {s: Affine.symbol(s + "'") for s in sizes}

    def change(value):
        if isinstance(value, sympy.Expr):
            return value.xreplace(numbers)
        if isinstance(value, Affine):
            return value.substitute(indices)
        if isinstance(value, Node | Condition | Range):
            return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value)})
        return tuple(change(v) for v in value) if isinstance(value, tuple) else value

    return change(node)
