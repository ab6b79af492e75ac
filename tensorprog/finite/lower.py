"""From the expressions of the core form to trees over arrays, at known sizes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy

from tensorprog.errors import ProgramError
from tensorprog.finite import nodes
from tensorprog.finite.families import Families
from tensorprog.finite.nodes import Node
from tensorprog.finite.rows import Rows, collapse, renumbered
from tensorprog.functions import jax_code
from tensorprog.index.fresh import numbered
from tensorprog.index.rows import holds, integer, named
from tensorprog.language import syntax
from tensorprog.program.ir import Program
from tensorprog.program.passes.reads import scope_of
from tensorprog.program.scope import apply_definition
from tensorprog.program.substitution import rename, subexpressions
from tensorprog.program.types import Position
from tensorprog.program.typing import is_zero

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclass
class Lowering:
    """Lowers expressions of one program.

    numbers: the values of real parameters, sizes and widths by name.
    edges: where it is a list, every read is noted in it: the family, the numbers of the rows, the members read.
    """

    program: Program
    families: Families
    numbers: Mapping[str, float]
    edges: list[tuple[str, np.ndarray, np.ndarray]] | None = None
    sizes: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = self.families.sizes
        self.scope = scope_of(self.program)

    def lower(self, e: syntax.Expr, rows: Rows) -> Node:
        if positions := self._positions(e, rows):
            return self._at_data(e, positions, rows)
        match e:
            case syntax.Name(name) | syntax.Index(name) if name not in rows.indices and name in self.families:
                return self._read(e, rows)
            case syntax.Number(text):
                return _constant(float(text), rows)
            case syntax.Name(name):
                if name in rows.indices:
                    return nodes.Number(rows.indices[name].value.astype(np.float64))
                return _constant(np.pi if name == "pi" else self.numbers[name], rows)
            case syntax.Negate(operand):
                return _apply("-1", operator.neg, self.lower(operand, rows))
            case syntax.Binary("@", syntax.Transpose(v), x):
                return nodes.Dot(self.lower(v, rows), self.lower(x, rows))
            case syntax.Binary("**", base, exponent):
                return _power(self.lower(base, rows), self.lower(exponent, rows))
            case syntax.Binary(op, left, right) if op in _OPERATORS:
                return _apply(op, _OPERATORS[op], self.lower(left, rows), self.lower(right, rows))
            case syntax.Conditional(then, condition, otherwise):
                where = rows.full(holds(condition, named(_values(rows), self.sizes)))
                return self._choose(where, then, otherwise, rows)
            case syntax.Guard(value, otherwise):
                return self._guard(value, otherwise, rows)
            case syntax.Call("MatMul", (matrix, operand)):
                return self._multiply(matrix, operand, rows)
            case syntax.Call("LinComb" | "Nonlin", (inner,)):
                return self.lower(inner, rows)
            case syntax.Call("Moment", (inner,)):
                return nodes.Moment(self.lower(inner, rows))
            case syntax.Call(name, arguments, keywords):
                return self._call(e, rows, arguments, keywords, lambda a, k: self.scope.apply(name, a, k, e.span))
            case syntax.DerivativeCall(name, argument, arguments, keywords):
                derived = self.scope.derivative(name, argument, e.span)
                return self._call(e, rows, arguments, keywords, lambda a, k: apply_definition(derived, a, k, e.span))
            case syntax.Reduction("softmax" | "batchnorm"):
                return self._normalize(e, rows)
            case syntax.Reduction():
                return self._reduce(e, e.binders, rows)
        raise ProgramError("this expression cannot be run at a finite width", e.span)

    # ------------------------------------------------------------ indices that are data

    def _positions(self, e: syntax.Expr, rows: Rows) -> list[syntax.Name | syntax.Index]:
        """The entries of data that tell which members e itself reads, or which branch it is."""
        match e:
            case syntax.Index(_, indices):
                told: list[Any] = list(indices)
            case syntax.Conditional(_, condition):
                told = [condition]
            case syntax.Call("MatMul", (syntax.Index(_, indices), _)):
                told = list(indices)
            case syntax.Guard(syntax.Index(_, indices)):
                told = list(indices)
            case _:
                return []
        return [p for node in told for p in self.scope.positions(node) if p.name not in rows.indices]

    def _at_data(self, e: syntax.Expr, positions: list[syntax.Name | syntax.Index], rows: Rows) -> Node:
        """e for every value that the first of the entries may have, of which its value picks one."""
        first = positions[0]
        if isinstance(e, syntax.Guard):
            outside = np.zeros(rows.count, bool)
            self._mark(first, renumbered(rows), outside)
            if outside.any():
                return self._choose(~outside, e, e.otherwise, rows)
        t = self.scope.types[first.name]
        assert isinstance(t, Position)
        length = t.size.evaluate(self.sizes)
        name = numbered(f"{first.name}#", rows.indices, separator="")
        inner, _ = rows.over(name, 1, length)
        of_all = rename(e, lambda s: syntax.Name(name, span=s.span) if s == first else None)
        return nodes.Pick(self.lower(of_all, inner), self.lower(first, rows), length)

    # ------------------------------------------------------------ reading

    def _read(self, e: syntax.Name | syntax.Index, rows: Rows) -> Node:
        columns = self._columns(e, rows)
        ids = self.families.numbers(e.name, columns, len(rows.shape))
        self._note(e.name, rows, ids, None)
        return nodes.Read(e.name, ids)

    def _columns(self, e: syntax.Name | syntax.Index, rows: Rows) -> list[Any]:
        indices = e.indices if isinstance(e, syntax.Index) else ()
        return [integer(i, named(_values(rows), self.sizes)) for i in indices]

    def _note(self, family: str, rows: Rows, ids: np.ndarray, mask: np.ndarray | None) -> None:
        if self.edges is None or not self.families.is_computed(family):
            return
        arrays = [rows.number, ids] if mask is None else [rows.number, ids, mask]
        number, ids, *rest = np.broadcast_arrays(*arrays)
        if rest:
            number, ids = number[rest[0]], ids[rest[0]]
        self.edges.append((family, number.reshape(-1), ids.reshape(-1)))

    # ------------------------------------------------------------ conditions

    def _guard(self, value: syntax.Expr, otherwise: syntax.Expr, rows: Rows) -> Node:
        outside = np.zeros(rows.count, bool)
        self._mark(value, renumbered(rows), outside)
        where = ~outside
        simple = isinstance(value, syntax.Index) and is_zero(otherwise)
        if not simple or where.all() or not where.any():
            return self._choose(where, value, otherwise, rows)
        # What lies outside reads some member that is read anyway, and is replaced by 0.
        assert isinstance(value, syntax.Index)
        ids = self.families.numbers(value.name, self._columns(value, rows), len(rows.shape))
        mask, ids = np.broadcast_arrays(where.reshape(rows.shape), ids)
        ids = np.where(mask, ids, ids[mask][0])
        self._note(value.name, rows, ids, mask)
        return nodes.Read(value.name, ids, mask)

    def _mark(self, e: syntax.Expr, rows: Rows, outside: np.ndarray) -> None:
        """Notes, by the rows' numbers, where an index in e is out of range; inner guards look after themselves."""
        if rows.count == 0:
            return
        match e:
            case syntax.Name(name) | syntax.Index(name):
                if name in self.families and name not in rows.indices:
                    inside = self.families.inside(name, self._columns(e, rows))
                    outside[rows.full(rows.number)[~rows.full(inside)]] = True
            case syntax.Conditional(then, condition, otherwise):
                where = rows.full(holds(condition, named(_values(rows), self.sizes)))
                self._mark(then, rows.select(np.flatnonzero(where)), outside)
                self._mark(otherwise, rows.select(np.flatnonzero(~where)), outside)
            case syntax.Guard(value, otherwise):
                here = np.zeros(rows.count, bool)
                self._mark(value, renumbered(rows), here)
                self._mark(otherwise, rows.select(np.flatnonzero(here)), outside)
            case syntax.Reduction(_, (b, *rest), body):
                low, high = self._ends(b, rows)
                some = rows.full(np.asarray(high) >= np.asarray(low))
                rows = rows if some.all() else rows.select(np.flatnonzero(some))
                if rows.count:
                    inner, _ = rows.over(b.name, *self._ends(b, rows))
                    self._mark(replace(e, binders=tuple(rest)) if rest else body, inner, outside)
            case _:
                for part in subexpressions(e, deep=False):
                    self._mark(part, rows, outside)

    def _choose(self, where: np.ndarray, then: syntax.Expr, otherwise: syntax.Expr, rows: Rows) -> Node:
        """One expression in some rows, another in the others; neither is looked at where it is not meant."""
        if where.all():
            return self.lower(then, rows)
        if not where.any():
            return self.lower(otherwise, rows)
        return self._split(
            [np.flatnonzero(where), np.flatnonzero(~where)],
            [lambda r: self.lower(then, r), lambda r: self.lower(otherwise, r)],
            rows,
        )

    def _split(self, places: list[np.ndarray], makers: list[Callable[[Rows], Node]], rows: Rows) -> Node:
        """Each set of rows by a maker of its own."""
        index = np.empty(rows.count, np.int64)
        index[np.concatenate([p.reshape(-1) for p in places])] = np.arange(rows.count)
        parts = tuple(make(rows.select(p)) for p, make in zip(places, makers, strict=True))
        return nodes.Merge(parts, tuple(p.shape for p in places), index.reshape(rows.shape))

    # ------------------------------------------------------------ matrices

    def _multiply(self, matrix: syntax.Expr, operand: syntax.Expr, rows: Rows) -> Node:
        assert isinstance(matrix, syntax.Name | syntax.Index)
        ids = self.families.numbers(matrix.name, self._columns(matrix, rows), len(rows.shape))
        ids = collapse(ids)
        distinct, inverse = np.unique(ids, return_inverse=True)
        if ids.size == len(distinct):
            weight, members, transposed = self.families.weight(matrix.name, ids)
            return nodes.MatMul(nodes.Matrix(weight, members, transposed), self.lower(operand, rows))
        # Rows that share a matrix go together, so that no copies of it are made.
        which = rows.full(inverse.reshape(ids.shape))
        places = [np.flatnonzero(which == k) for k in range(len(distinct))]
        if len({len(p) for p in places}) == 1:
            places = [np.stack(places)]
        return self._split(places, [lambda r: self._multiply(matrix, operand, r)] * len(places), rows)

    # ------------------------------------------------------------ functions

    def _call(self, e: syntax.Expr, rows: Rows, arguments, keywords, expression) -> Node:
        """A coordinatewise function; `expression(symbols, keywords)` gives it in sympy."""
        symbols = [sympy.Symbol(f"a{k}", real=True) for k in range(len(arguments))]
        values = [self.lower(a, rows) for a in arguments]
        named: dict[str, sympy.Expr] = {}
        for k, v in keywords:
            try:
                named[k] = self.scope.number(v)
            except ProgramError:  # a C, or an index
                named[k] = sympy.Symbol(f"a{len(symbols)}", real=True)
                symbols.append(named[k])
                values.append(self.lower(v, rows))
        body = sympy.sympify(expression(symbols[: len(arguments)], named))
        free = sorted((s for s in body.free_symbols if s not in symbols), key=lambda s: s.name)
        constants = tuple(self.numbers[s.name] for s in free)
        function = _compiled(body, tuple(symbols), tuple(free), constants)
        return _apply(f"{body}{constants}", function, *values)

    # ------------------------------------------------------------ reductions

    def _ends(self, b: syntax.Binder, rows: Rows) -> tuple[Any, Any]:
        if b.low is None or b.high is None:
            index = rows.indices[b.name]
            return index.low, index.high
        low, high = (integer(e, named(_values(rows), self.sizes)) for e in (b.low, b.high))
        if b.step is not None and integer(b.step, named(_values(rows), self.sizes)) == -1:
            return high, low
        return low, high

    def _reduce(self, e: syntax.Reduction, binders: tuple[syntax.Binder, ...], rows: Rows) -> Node:
        if not binders:
            return self.lower(e.body, rows)
        low, high = self._ends(binders[0], rows)
        some = rows.full(np.asarray(high) >= np.asarray(low))
        empty = {"sum": 0.0, "prod": 1.0}.get(e.function, np.nan)
        if not some.any():
            return _constant(empty, rows)
        if not some.all():
            places = [np.flatnonzero(some), np.flatnonzero(~some)]
            return self._split(places, [lambda r: self._reduce(e, binders, r), lambda r: _constant(empty, r)], rows)
        inner, mask = rows.over(binders[0].name, low, high)
        value = self._reduce(e, binders[1:], inner)
        return nodes.Reduce(e.function, value, inner.shape[-1], mask)

    def _normalize(self, e: syntax.Reduction, rows: Rows) -> Node:
        (b,) = e.binders
        eps = self.lower(dict(e.keywords)["eps"], rows) if e.keywords else None
        own = self.lower(e.body, rows)
        low, high = self._ends(b, rows)
        axis = _axis_over(rows, b.name, low, high)
        if axis is not None:
            # The reads of the others in the same group count, although they are made once for all.
            self._note_along(e, b, rows, low, high)
            return nodes.Normalize(e.function, own, None, axis - len(rows.shape), rows.shape[axis], None, eps)
        inner, mask = rows.over(b.name, low, high)
        every = self.lower(e.body, inner)
        return nodes.Normalize(e.function, own, every, 0, inner.shape[-1], mask, eps)

    def _note_along(self, e: syntax.Reduction, b: syntax.Binder, rows: Rows, low, high) -> None:
        if self.edges is not None:
            inner, _ = rows.over(b.name, low, high)
            self.lower(e.body, inner)


def _values(rows: Rows) -> dict[str, np.ndarray]:
    return {name: index.value for name, index in rows.indices.items()}


def _constant(value: float, rows: Rows) -> nodes.Number:
    return nodes.Number(np.full((1,) * len(rows.shape), float(value)))


def _axis_over(rows: Rows, name: str, low, high) -> int | None:
    """The axis of the rows that is the index's own, where it runs over just this range in all rows."""
    low, high, value = np.asarray(low), np.asarray(high), rows.indices[name].value
    axes = [k for k, size in enumerate(value.shape) if size > 1]
    if len(axes) != 1 or low.size != 1 or high.size != 1:
        return None
    expected = np.arange(int(low.reshape(())), int(high.reshape(())) + 1)
    return axes[0] if np.array_equal(value.reshape(-1), expected) else None


def _apply(name: str, function: Callable[..., Any], *arguments: Node) -> Node:
    if name in _OPERATORS or name == "-1":
        known = [a.value for a in arguments if isinstance(a, nodes.Number)]
        if len(known) == len(arguments):
            return nodes.Number(np.asarray(function(*known)))
    return nodes.Apply(name, function, arguments)


def _power(base: Node, exponent: Node) -> Node:
    if isinstance(base, nodes.Number) and isinstance(exponent, nodes.Number):
        return nodes.Number(base.value**exponent.value)
    if isinstance(exponent, nodes.Number) and exponent.value.size == 1:
        value = float(exponent.value.reshape(()))
        power = int(value) if value.is_integer() else value
        return nodes.Apply(f"**{power}", lambda x: x**power, (base,))
    return nodes.Apply("**", lambda x, y: x**y, (base, exponent))


@lru_cache(maxsize=1024)
def _compiled(
    body: sympy.Expr, symbols: tuple[sympy.Symbol, ...], free: tuple[sympy.Symbol, ...], constants: tuple[float, ...]
) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    names = {s: s.name for s in symbols} | {s: f"p{k}" for k, s in enumerate(free)}
    code = f"lambda {', '.join(s.name for s in symbols)}: {jax_code(body, names)}"
    values = {f"p{k}": v for k, v in enumerate(constants)}
    return eval(code, {"jnp": jnp, "jax": jax, **values})  # code of our own printer
