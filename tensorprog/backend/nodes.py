"""Source of the expressions of a recursion: each node becomes an array with labelled dimensions."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy

from tensorprog import functions
from tensorprog import recursion as ir
from tensorprog.backend.labelled import (
    Code,
    aligned,
    bound_source,
    combined,
    integer,
    neighbours,
    pieced,
    transposed,
    union,
)
from tensorprog.backend.passes import MERGED_AXES, WINDOWS
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine, Entry, Remainder, remainder
from tensorprog.index.bounds import Bound, at_most, bound_symbols, map_bound
from tensorprog.index.conditions import Condition, boxed
from tensorprog.index.ranges import Range, extent
from tensorprog.naming import identifier
from tensorprog.recursion import Clause, Key

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class NodeWriter:
    """Writes the value of one clause. `order` is the order of dimensions, extended by summed indices on the way.

    `runs` says of a dimension to which of the two runs it belongs; neighbours that belong to the same can be merged.
    """

    def __init__(
        self,
        system,
        binders: Mapping[str, Range],
        order: list[str],
        clause: Clause,
        fixed,
        key: Key,
        runs: Mapping[str, tuple[bool, bool]],
    ):
        self.system = system
        self.arrays: dict[str, Range] = dict(binders)
        self.order = order
        self.clause = clause
        self.fixed = fixed
        self.key = key
        self.runs = runs

    # ------------------------------------------------------------ integers and masks

    def symbol(self, s: str) -> str:
        return self.system.symbol(s)

    def index_array(self, e: Affine, tracing: bool = True) -> Code:
        """The integers that an index expression takes, as an array over the array indices in it."""
        labels = [s for s, _ in e.terms if s in self.arrays]
        divided = [s for s, _ in e.terms if s not in labels and self._is_array(Affine.symbol(s))]
        rest = Affine(e.constant, tuple((s, c) for s, c in e.terms if s not in (*labels, *divided)))
        if not labels and not divided:
            return Code(integer(rest, self.symbol), atomic=not rest.terms)
        codes = []
        for s in divided:
            if isinstance(s, Entry):
                codes.append(self._scaled_entry(s, e.coefficient(s)))
                continue
            inner = self.index_array(s.numerator)
            text = f"{inner.wrapped()} // {s.divisor}"
            if isinstance(s, Remainder):
                text = f"{inner.wrapped()} % ({integer(s.divisor, self.symbol)})"
            c = e.coefficient(s)
            codes.append(Code(text if c == 1 else f"{c} * ({text})", inner.dims, atomic=False))
        for s in labels:
            r = self.arrays[s]
            c = e.coefficient(s)
            base = f"np.arange({bound_source(r.low, self.symbol)}, {bound_source(r.high, self.symbol)} + 1)"
            codes.append(Code(base if c == 1 else f"{c} * {base}", (s,)))
        if rest != Affine(0):
            codes.append(Code(integer(rest, self.symbol)))
        return combined("+", codes, self.order)

    def _is_array(self, e: Affine) -> bool:
        return bool(e.entries or e.symbols & self.arrays.keys())

    def _scaled_entry(self, s: Entry, factor: int) -> Code:
        """An entry of data that holds indices, of the run that its prime tells."""
        name = s.table.rstrip("'")
        side = None if "n1" not in self.order else "right" if s.table.endswith("'") else "left"
        code = self.read(ir.Read(Key(ir.SCALAR, "self", (name,)), s.indices, side))
        return code if factor == 1 else Code(f"{factor} * {code.wrapped()}", code.dims, atomic=False)

    def mask(self, conditions: Sequence[Condition]) -> Code | None:
        """A boolean array: where all conditions hold. None where there is nothing to ask."""
        codes = []
        for c in conditions:
            if self.system.certain(c, self.arrays) is True:
                continue
            value = self.index_array(c.expression)
            codes.append(Code(f"{value.wrapped()} {c.op} 0", value.dims, atomic=False))
        if not codes:
            return None
        return combined("&", codes, self.order) if len(codes) > 1 else codes[0]

    # ------------------------------------------------------------ nodes

    def node(self, node: ir.Node) -> Code:
        match node:
            case ir.Constant(value):
                return self.number(value)
            case ir.LawVariance():
                return self.law(node)
            case ir.Read():
                return self.read(node)
            case ir.Gram():
                return self.gram(node)
            case ir.Add(terms):
                return combined("+", [self.node(t) for t in terms], self.order)
            case ir.Product(factors):
                return self.product(factors)
            case ir.Sum():
                return self.sum(node)
            case ir.Where():
                return self.where(node)
            case ir.Apply():
                return self.apply(node)
            case ir.Reduce():
                return self.reduce(node)
            case ir.PairExpectation():
                return self.pair(node)
            case ir.SingleExpectation():
                return self.single(node)
            case ir.JointExpectation():
                return self.joint(node)
            case ir.BatchnormExpectation():
                return self.batchnorm(node)
            case ir.BatchnormMean():
                return self.batchnorm_mean(node)
        raise AssertionError(node)

    def number(self, value: sympy.Expr) -> Code:
        if any("[" in s.name for s in value.free_symbols):
            raise ProgramError("an index that is data cannot stand as a number, as in a law that depends on it")
        labels = [s.name for s in value.free_symbols if s.is_integer and s.name in self.arrays]
        dims = tuple(sorted(labels, key=self.order.index))
        names = {}
        for s in value.free_symbols:
            if s.name in self.arrays and s.is_integer:
                code = aligned(self.index_array(Affine.symbol(s.name)), dims, self.order)
                names[s] = f"jnp.asarray({code.text}, dtype)"
            else:
                names[s] = self.system.names.scalar(s, self.system.integers)
                if s.name in self.system.traced:  # an integer of a loop, which would make float64 of a float32
                    names[s] = f"jnp.asarray({names[s]}, dtype)"
        text = functions.jax_code(value, names)
        return Code(text, dims, atomic=value.is_Symbol or (value.is_Integer and value >= 0))

    def law(self, node: ir.LawVariance) -> Code:
        if isinstance(node, ir.LawVariances):
            return Code(f"{self.system.names.laws(node)}[{integer(node.at, self.symbol)}]")
        if not any(s.is_integer and not s.is_positive for s in node.scale.free_symbols):
            return Code(self.system.names.law(node))
        scale = self.number(node.scale)
        if not node.moves:
            return scale
        if node.tangent is None:
            return scale
        tangent = self.number(node.tangent)
        moved = Code(f"move['{node.parameter}'] * {tangent.wrapped()}", tangent.dims, atomic=False)
        return combined("+", [scale, moved], self.order)

    def product(self, factors: Sequence[ir.Node]) -> Code:
        if any(isinstance(f, ir.Constant) and f.value == -1 for f in factors) and len(factors) > 1:
            rest = [f for f in factors if not (isinstance(f, ir.Constant) and f.value == -1)]
            inner = self.product(rest)
            return Code(f"-{inner.wrapped()}", inner.dims, atomic=False)
        codes = [self.node(f) for f in factors]
        # Numbers first, so that they multiply small arrays.
        codes.sort(key=lambda c: len(c.dims))
        result = combined("*", codes, self.order)
        return Code(result.text, result.dims, atomic=len(codes) == 1 and codes[0].atomic)

    def decided(self, conditions: Sequence[Condition]) -> bool:
        """Whether conditions are on Python integers alone, not on array dimensions or traced indices."""
        if any(c.expression.entries for c in conditions):
            return False
        symbols = {s for c in conditions for s in c.expression.symbols}
        return not symbols & self.arrays.keys() and not symbols & self.system.traced

    def where(self, node: ir.Where) -> Code:
        mask = self.mask(node.conditions)
        then = self.node(node.then)
        if mask is None:
            return then
        otherwise = self.node(node.otherwise)
        if self.decided(node.conditions):
            # Known in Python: the other branch must not be looked up at all.
            return pieced([then, otherwise], ("(", f" if {mask.text} else ", ")"), self.order)
        dims = union([mask, then, otherwise], self.order)
        parts = [aligned(c, dims, self.order).text for c in (mask, then, otherwise)]
        return Code(f"jnp.where({', '.join(parts)})", dims)

    def apply(self, node: ir.Apply) -> Code:
        codes = {s: self.node(a) for s, a in node.arguments}
        dims = union([*codes.values(), *self._number_dims(node.expression)], self.order)
        names = {s: aligned(c, dims, self.order).wrapped() for s, c in codes.items()}
        for s in node.expression.free_symbols - names.keys():
            names[s] = aligned(self.number(s), dims, self.order).text
        return Code(functions.jax_code(node.expression, names), dims, atomic=False)

    def reduce(self, node: ir.Reduce) -> Code:
        name, conditions = self._bind(node.range, node.conditions)
        body = self.node(node.body)
        if name not in body.dims:  # the same for all of them
            every = Code(f"jnp.zeros({self.system.size(self.arrays[name])}, dtype)", (name,))
            body = combined("+", [body, every], self.order)
        mask = self.mask(conditions)
        dims = union([body, mask] if mask else [body], self.order)
        axis = dims.index(name)
        value = aligned(body, dims, self.order)
        rest = tuple(d for d in dims if d != name)
        where = f", where={aligned(mask, dims, self.order).text}" if mask else ""
        if node.kind == "softmax":
            assert node.at is not None
            bound = self.arrays[name]
            self._unbind(name)
            text = f"jax.nn.softmax({value.text}, axis={axis}{where})"
            if axis + 1 < len(dims):
                text = f"jnp.moveaxis({text}, {axis}, -1)"
            return self._at_places(text, rest, ((name, bound, node.at),))
        self._unbind(name)
        initial = {"max": "-jnp.inf", "min": "jnp.inf", "prod": "1"}[node.kind]
        extra = f", initial={initial}" if mask else ""
        return Code(f"jnp.{node.kind}({value.text}, axis={axis}{extra}{where})", rest)

    # ------------------------------------------------------------ reads

    def read(self, node: ir.Read) -> Code:
        if node.key.kind == ir.DATA and "feature" not in self.order:
            self.order.append("feature")
        access, _ = self.system.find(node, self.key, self.clause.target)
        table = self.system.names.axes(node.key)
        batch = {None: None, "left": "n1", "right": "n2"}[node.side]
        subscripts: list[str] = []
        dims: list[str] = []
        later: list[tuple[int, str, str, str, int]] = []  # (position, kind, start or index, size, stride)
        gathered: list[tuple[int, Code]] = []
        looked_up: list[Code] = []
        for d in access.dims:
            if isinstance(d, str):
                subscripts.append(":")
                dims.append(d if d == "feature" else (batch or d))
                continue
            e = node.indices[d]
            axis = self.system.names.range_of(table[d], node.side)
            if e.entries:
                if not isinstance(axis.low, Affine):
                    raise ProgramError("an axis that begins at the smaller of two sizes")
                subscripts.append(":")
                looked_up.append(self.index_array(e - axis.low))
                dims.append("\2")
                continue
            kind, source, label, size, stride = self._subscript(e, axis)
            if kind == "int":
                subscripts.append(source)
                continue
            position = len(dims)
            if kind == "entry":
                subscripts.append(":")
                later.append((position, "entry", source, "", 1))
                dims.append("\0")
                continue
            if kind == "gather":
                subscripts.append(":")
                gathered.append((position, Code(source, label)))
                dims.append("\1")
                continue
            (name,) = label
            subscripts.append(":" if kind == "take" else source)
            if kind == "take":
                later.append((position, "take", source, size, stride))
            dims.append(name)
        while subscripts and subscripts[-1] == ":":
            subscripts.pop()
        text = access.name if not subscripts else f"{access.name}[{', '.join(subscripts)}]"
        takes = [(p, s, size, stride) for p, k, s, size, stride in later if k == "take"]
        if takes:
            positions, starts, sizes, strides = zip(*takes, strict=True)
            several = len(takes) > 1
            where = [_source_tuple(x) if several else x[0] for x in (positions, starts, sizes)]
            if any(stride != 1 for stride in strides):
                where.append(strides if several else strides[0])
            text = f"take({text}, {', '.join(map(str, where))})"
        for p, code in sorted(gathered, key=lambda g: g[0], reverse=True):
            text = f"gather({text}, {p}, {code.text})"
            dims[p : p + 1] = code.dims
        entries = [p for p, d in enumerate(dims) if d == "\0"]
        sources = [s for _, k, s, _, _ in later if k == "entry"]
        for p, s in sorted(zip(entries, sources, strict=True), reverse=True):
            text = f"entry({text}, {p}, {s})"
            del dims[p]
        if looked_up:
            return self._looked_up(text, dims, looked_up)
        while len(set(dims)) < len(dims):
            name = next(d for d in dims if dims.count(d) > 1)
            a, b = [k for k, d in enumerate(dims) if d == name][:2]
            text = f"jnp.diagonal({text}, axis1={a}, axis2={b})"
            dims = [d for k, d in enumerate(dims) if k not in (a, b)] + [name]
        return Code(text, tuple(dims))

    def _looked_up(self, text: str, dims: Sequence[str], codes: Sequence[Code]) -> Code:
        """An array read at indices that are data, in the dimensions marked by \\2."""
        whole = union([Code("", tuple(d for d in dims if d != "\2")), *codes], self.order)
        waiting = iter(codes)
        indices = [aligned(next(waiting), whole, self.order).text if d == "\2" else str(whole.index(d)) for d in dims]
        return Code(f"looked_up({text}, ({', '.join(indices)},), {len(whole)})", whole)

    def _subscript(self, e: Affine, axis: Range) -> tuple[str, str, tuple[str, ...], str, int]:
        """How an axis is read at e: an integer, a slice, a zero-filled slice, or an array of indices.

        (kind, source, labels, size, stride); the last two are those of a zero-filled slice.
        """
        labels = [s for s in e.symbols if s in self.arrays]
        inside = self._inside(e, axis)
        low = axis.low
        position = e - low if isinstance(low, Affine) else None
        if position is None:
            raise ProgramError("an axis that begins at the smaller of two sizes")
        if not labels:
            source = integer(position, self.symbol)
            # A loop of no steps is traced all the same, and then reads of an axis without entries.
            exists = inside and at_most(self.system.settle(axis.low), self.system.settle(axis.high))
            return ("int" if exists else "entry"), source, (), "", 1
        traced = any(s in self.system.traced for s in e.symbols)
        if len(labels) == 1 and e.coefficient(labels[0]) >= 1 and labels[0] not in e.divided and not traced:
            name, step = labels[0], e.coefficient(labels[0])
            r = self.arrays[name]
            # Python would count a slice that ends before it begins from the other end of the array.
            inside = inside and self.system.never_empty(r)
            first = map_bound(r.low, lambda a: position.substitute({name: a}))
            if self._covers(first, r, axis, step):
                return "slice", ":", (name,), "", 1
            start, size = bound_source(first, self.symbol), self.system.size(r)
            if not inside:
                return "take", start, (name,), size, step
            if inside:
                stop = map_bound(r.high, lambda a: position.substitute({name: a}) + 1)
                stride = "" if step == 1 else f":{step}"
                return "slice", f"{start}:{bound_source(stop, self.symbol)}{stride}", (name,), "", step
        code = self.index_array(position)
        return "gather", code.text, code.dims, "", 1

    def _covers(self, first, r: Range, axis: Range, step: int) -> bool:
        settle = self.system.settle
        return step == 1 and settle(first) == Affine(0) and _count(settle, r) == _count(settle, axis)

    def _inside(self, e: Affine, axis: Range) -> bool:
        ranges = {**self.system.loop_ranges, **self.arrays}
        low, high = extent(e, ranges, False), extent(e, ranges, True)
        settle = self.system.settle
        return at_most(settle(axis.low), settle(low)) and at_most(settle(high), settle(axis.high))

    def gram(self, node: ir.Gram) -> Code:
        """<x, x'>/d."""
        left, right = (self.read(r) for r in ir.data_reads(node))
        dims = tuple(sorted({*left.dims, *right.dims} - {"feature"}, key=self.order.index))
        subscripts, arrays = self._subscripts([left, right], dims)
        return Code(f"inner_products({subscripts!r}, {arrays})", dims)

    def einsum(self, codes: Sequence[Code], dims: Sequence[str]) -> str:
        subscripts, arrays = self._subscripts(codes, dims)
        return f"jnp.einsum({subscripts!r}, {arrays}, precision='highest')"

    def _subscripts(self, codes: Sequence[Code], dims: Sequence[str]) -> tuple[str, str]:
        """What an einsum over these arrays is called with."""
        labels = {d: LETTERS[k] for k, d in enumerate(dict.fromkeys([d for c in codes for d in c.dims]))}
        inputs = ",".join("".join(labels[d] for d in c.dims) for c in codes)
        output = "".join(labels[d] for d in dims)
        arrays = ", ".join(c.text for c in codes)
        return f"{inputs}->{output}", arrays

    # ------------------------------------------------------------ sums

    def _bind(self, r: Range, conditions: Sequence[Condition]) -> tuple[str, list[Condition]]:
        """An index as an array dimension; a range that depends on other indices becomes a box with conditions."""
        ranges = {**self.system.loop_ranges, **self.arrays}
        self.arrays[r.name], more = boxed(r, ranges)
        self.order.append(r.name)
        return r.name, [*conditions, *more]

    def _unbind(self, name: str) -> None:
        del self.arrays[name]
        self.order.remove(name)

    def sum(self, node: ir.Sum) -> Code:
        left = self.system.without_totals(node)
        if left is not node:
            return self.node(left)
        window = self._window(node)
        if window is not None:
            return window
        factors = node.body.factors if isinstance(node.body, ir.Product) else (node.body,)
        if all(self._bare(r.name, node) for r in node.ranges):
            return self._contraction(node, factors)
        return self._unrolled(node)

    def _bare(self, name: str, node: ir.Sum) -> bool:
        """Whether a summed index stands in reads only by itself: the sum is then a contraction of arrays."""
        for read in ir.reads(node.body):
            for k, e in enumerate(read.indices):
                alone = e == Affine.symbol(name) or (e.entries == tuple(s for s, _ in e.terms) and len(e.terms) == 1)
                if name in e.symbols and (not alone or self.system.is_history(read, k)):
                    return False
        return True

    def _contraction(self, node: ir.Sum, factors: Sequence[ir.Node]) -> Code:
        conditions = list(node.conditions)
        names = []
        for r in node.ranges:
            name, conditions = self._bind(r, conditions)
            names.append(name)
        outer = [f for f in factors if isinstance(f, ir.LawVariance | ir.Constant) and not self._mentions(f, names)]
        codes = [self.node(f) for f in factors if f not in outer]
        codes += self._indicators(conditions)
        dims = tuple(d for d in union(codes, self.order) if d not in names)
        missing = [n for n in names if all(n not in c.dims for c in codes)]
        for n in missing:
            codes.append(Code(f"jnp.ones({self.system.size(self.arrays[n])}, dtype)", (n,)))
        if len(codes) == 1:
            axes = tuple(codes[0].dims.index(n) for n in names)
            code = transposed(codes[0], self.order)
            axes = tuple(code.dims.index(n) for n in names)
            text = f"jnp.sum({code.text}, axis={axes if len(axes) > 1 else axes[0]})"
        else:
            text = self.einsum(codes, dims)
        for n in names:
            self._unbind(n)
        result = Code(text, dims)
        return combined("*", [*(self.node(f) for f in outer), result], self.order) if outer else result

    def _indicators(self, conditions: Sequence[Condition]) -> list[Code]:
        """Arrays of 0 and 1 whose product is 1 where all conditions hold: one for all that concern the same indices.

        One array over all indices would have as many entries as all of them together have values.
        """
        groups: dict[tuple[str, ...], list[Condition]] = {}
        for c in conditions:
            here = tuple(sorted(s for s in c.expression.symbols if s in self.arrays))
            groups.setdefault(here, []).append(c)
        masks = [self.mask(group) for group in groups.values()]
        return [Code(f"jnp.asarray({mask.text}, dtype)", mask.dims) for mask in masks if mask is not None]

    def _mentions(self, node: ir.Node, names: Sequence[str]) -> bool:
        values = [x.value for x in ir.walk(node) if isinstance(x, ir.Constant)]
        values += [x.scale for x in ir.walk(node) if isinstance(x, ir.LawVariance)]
        return any(s.name in names and s.is_integer for v in values for s in v.free_symbols)

    def _window(self, node: ir.Sum) -> Code | None:
        """Σ_a,b of one table at shifted indices (a filter): one pass for each summed index, on all its axes at once.

        An index q that an equation ties to others, c·q = p + a, reads the table with c - 1 zeros between its entries.
        """
        factors = node.body.factors if isinstance(node.body, ir.Product) else (node.body,)
        reads = [f for f in factors if isinstance(f, ir.Read)]
        others = [f for f in factors if not isinstance(f, ir.Read)]
        if len(reads) != 1:
            return None
        (read,) = reads
        axes = self.system.names.axes(read.key)
        tied, conditions = self._tied(node, read, axes)
        ranges = [r for r in node.ranges if r.name not in {name for name, _, _ in tied.values()}]
        names = [r.name for r in ranges]
        if any(
            not isinstance(f, ir.Constant | ir.LawVariance) or self._mentions(f, [r.name for r in node.ranges])
            for f in others
        ):
            return None
        indices = [tied[k][2] if k in tied else e for k, e in enumerate(read.indices)]
        if any(
            self.system.is_history(read, k) and (k in tied or e.symbols & set(names)) for k, e in enumerate(indices)
        ):
            return None
        over = {**self.arrays, **{r.name: r for r in ranges}}
        moves: dict[str | None, list[_Move]] = {n: [] for n in names}
        gaps: dict[str | None, int] = {}
        unwrapped: dict[int, tuple[Affine, Remainder, Range]] = {}
        for k, e in enumerate(indices):
            summed = [n for n in names if n in e.symbols]
            if not summed and k not in tied:
                continue
            n, *more = summed or [None]
            if e.divided & over.keys():
                # Around the axis: a window over the axis with what it wraps around to put at its ends.
                found = self._around(e, over)
                if found is None or k in tied:
                    return None
                unwrapped[k] = found
                e = found[1].numerator
            gap = 1 if n is None else e.coefficient(n)
            base = e if n is None else e - Affine.symbol(n) * gap
            labels = [s for s in base.symbols if s in self.arrays]
            if more or gaps.setdefault(n, gap) != gap or len(labels) != 1:
                return None
            stride = base.coefficient(labels[0])
            if stride < 1 or any(s in self.system.traced for s in base.symbols):
                return None
            move = _Move(k, labels[0], stride, base - Affine.symbol(labels[0]) * stride, tied[k][1] if k in tied else 1)
            if not any(move.same_as(m) for m in moves.setdefault(n, [])):  # two that follow one index: a diagonal
                moves[n].append(move)
        used = [m.label for found in moves.values() for m in found]
        if any(not m for m in moves.values()) or len(set(used)) < len(used):
            return None
        if any(x in self.arrays for r in ranges for b in (r.low, r.high) for x in _symbols(b)):
            return None
        if any(x in self.system.traced for r in ranges for b in (r.low, r.high) for x in _symbols(b)):
            return None
        # The conditions must be no more than staying inside the table, outside of which it counts as zero.
        for c in conditions:
            if self.system.certain(c, over) is not True and not self._implied(c, indices, axes, tied):
                return None
        plain: dict[str, Affine | int] = {n: Affine(0) for n in names}
        # First the table along all other axes; those of a window in full.
        saved = dict(self.arrays)
        whole = []
        for k, e in enumerate(read.indices):
            label = next((m.label for found in moves.values() for m in found if m.axis == k), None)
            if label is None and k in tied:
                label = next(m.label for found in moves.values() for m in found if m.label in tied[k][2].symbols)
            if label is None:
                whole.append(e.substitute(plain))
            elif k in unwrapped:
                rest, around, axis = unwrapped[k]
                self.arrays[label] = replace(axis, name=label)
                whole.append(rest + remainder(Affine.symbol(label), around.divisor))
            else:
                self.arrays[label] = replace(axes[k].range, name=label)
                whole.append(Affine.symbol(label))
        code = self.read(ir.Read(read.key, tuple(whole), read.side))
        self.arrays = saved
        spread = {code.dims.index(m.label): m.spread for found in moves.values() for m in found if m.spread != 1}
        if spread:
            between = f"{_source_tuple(list(spread))}, {_source_tuple(list(spread.values()))}"
            code = Code(f"spread({code.text}, {between})", code.dims)
        windows = []
        for n, found in moves.items():
            r = next((r for r in ranges if r.name == n), Range("", Affine(0), Affine(0)))
            positions = tuple(code.dims.index(m.label) for m in found)
            starts, sizes, strides = [], [], tuple(m.stride for m in found)
            for m in found:
                own = self.arrays[m.label]
                axis = unwrapped[m.axis][2] if m.axis in unwrapped else axes[m.axis].range
                assert isinstance(axis.low, Affine)
                first = map_bound(own.low, lambda a, m=m, b=axis.low: a * m.stride + m.shift - b * m.spread)
                starts.append(bound_source(first, self.symbol))
                sizes.append(self.system.size(own))
            parts = [_source_tuple(x) for x in (positions, starts, sizes)]
            parts.insert(1, self._offsets(r.low, r.high, gaps[n]))
            if any(s != 1 for s in strides):
                parts.append(str(strides))
            windows.append((positions, strides, f"({', '.join(parts)})"))
        self.system.definitions.notes.add(WINDOWS, [read.key])
        # Strided windows first, which leave less for the others, from the outermost axes on; then from the innermost
        # axes on: the pass that is fused into later work then shifts by whole rows.
        windows.sort(key=lambda p: (max(p[1]) == 1, max(p[0]) * (1 if max(p[1]) > 1 else -1)))
        if all(s == 1 for s in windows[-1][1]) and all(
            p == start for p in windows[-1][0] for start, stop in self._groups(code.dims) if start <= p < stop
        ):
            self.system.windowed.add(self.key)
        result = Code(f"window_sums({code.text}, [{', '.join(w for _, _, w in windows)}])", code.dims)
        return combined("*", [*(self.node(f) for f in others), result], self.order) if others else result

    def _tied(self, node: ir.Sum, read: ir.Read, axes) -> tuple[dict[int, tuple[str, int, Affine]], list[Condition]]:
        """Axes read at a summed index q that an equation c·q = e settles: (q, c, e) by axis; the other conditions."""
        found: dict[int, tuple[str, int, Affine]] = {}
        ranges = {**self.arrays, **{r.name: r for r in node.ranges}}
        conditions = [c for c in node.conditions if self.system.certain(c, ranges) is not True]
        for r in node.ranges:
            places = [k for k, e in enumerate(read.indices) if r.name in e.symbols]
            equations = [c for c in conditions if c.op == "==" and c.expression.coefficient(r.name)]
            if not places or len(equations) != 1 or any(read.indices[k] != Affine.symbol(r.name) for k in places):
                continue
            if any(r.name in c.expression.symbols for c in conditions if c is not equations[0]):
                continue
            if any(_ends(self.system.settle, axes[k].range) != _ends(self.system.settle, r) for k in places):
                continue
            c = equations[0].expression.coefficient(r.name)
            rest = equations[0].expression - Affine.symbol(r.name) * c
            conditions.remove(equations[0])
            found |= {k: (r.name, abs(c), rest * (-1 if c > 0 else 1)) for k in places}
        return found, conditions

    def _around(self, e: Affine, ranges: Mapping[str, Range]) -> tuple[Affine, Remainder, Range] | None:
        """For an index rest + (i + a) mod P: rest, the remainder, and over what i + a runs. None for other indices."""
        for s, c in e.terms:
            rest = e - Affine.symbol(s) * c
            if isinstance(s, Remainder) and c == 1 and not (rest.symbols | s.divisor.symbols) & ranges.keys():
                low, high = extent(s.numerator, ranges, False), extent(s.numerator, ranges, True)
                if isinstance(low, Affine) and isinstance(high, Affine) and not s.numerator.divided & ranges.keys():
                    return rest, s, Range("", low, high)
        return None

    def _offsets(self, low: Bound, high: Bound, gap: int) -> str:
        """Source of the range of what an index adds: the index times `gap`."""
        first, last = (low, high) if gap > 0 else (high, low)
        source = bound_source(map_bound(first, lambda a: a * gap), self.symbol)
        end = bound_source(map_bound(last, lambda a: a * gap), self.symbol)
        return f"range({source}, {end} + 1{f', {abs(gap)}' if abs(gap) != 1 else ''})"

    def _implied(self, c: Condition, indices: Sequence[Affine], axes, tied: Container[int]) -> bool:
        """Whether a condition holds wherever the indices are inside their table."""
        for k, e in enumerate(indices):
            bounds = []
            if k in tied:
                continue
            low, high = axes[k].range.low, axes[k].range.high
            lows = low.arguments if not isinstance(low, Affine) and low.kind == "max" else (low,)
            highs = high.arguments if not isinstance(high, Affine) and high.kind == "min" else (high,)
            bounds += [e - b for b in lows if isinstance(b, Affine)]
            bounds += [b - e for b in highs if isinstance(b, Affine)]
            for b in bounds:
                difference = (c.expression - b).substitute(self.system.known)
                if c.op == ">=" and difference.is_constant and difference.constant >= 0:
                    return True
        return False

    def _unrolled(self, node: ir.Sum) -> Code:
        """A Python sum over the summed indices, each an integer."""
        ranges = {**self.system.loop_ranges, **self.arrays}
        conditions = list(node.conditions)
        loops = []
        saved = dict(self.system.integers)
        for r in node.ranges:
            wide, more = boxed(r, ranges)
            conditions += more
            variable = identifier(r.name)
            low, high = bound_source(wide.low, self.symbol), bound_source(wide.high, self.symbol)
            loops.append(f"for {variable} in range({low}, {high} + 1)")
            self.system.integers[r.name] = variable
            self.system.loop_ranges[r.name] = ranges[r.name] = wide
        body = self.node(node.body)
        mask = self.mask(conditions)
        if mask is not None and self.decided(conditions):
            body = pieced([body], ("(", f" if {mask.text} else 0)"), self.order)
        elif mask is not None:
            both = union([body, mask], self.order)
            body = Code(
                f"jnp.where({aligned(mask, both, self.order).text}, {aligned(body, both, self.order).text}, 0)", both
            )
        for r in node.ranges:
            del self.system.loop_ranges[r.name]
        self.system.integers = saved
        return pieced([body], ("sum((", f") {' '.join(loops)})"), self.order)

    # ------------------------------------------------------------ expectations

    def _arguments(self, codes: Sequence[Code | None], dims: tuple[str, ...]) -> list[str | None]:
        return [None if c is None else aligned(c, dims, self.order).text for c in codes]

    def _scalars(self, scalars, names, dims: tuple[str, ...], expression: sympy.Expr, variables, entries=None):
        """Source of every symbol of a function but its variables: C's under their names in the plan, and parameters."""
        codes = {names[s]: self.node(n) for s, n in scalars}
        for s in expression.free_symbols:
            if s not in names and s not in variables:
                codes[s] = self.number(s)
        entries = entries or _Entries()
        return {s: entries("_a", aligned(c, dims, self.order)) for s, c in codes.items()}

    def _number_dims(self, *expressions: sympy.Expr) -> list[Code]:
        """The loop indices that stand as numbers in functions, so that the result has their dimensions."""
        symbols = {s for e in expressions for s in e.free_symbols if s.is_integer and s.name in self.arrays}
        return [self.number(s) for s in sorted(symbols, key=str)]

    def pair(self, node: ir.PairExpectation) -> Code:
        plan, left, right = self.system.definitions.pair(node)
        k = self.node(node.k)
        p, q = self.node(node.p), self.node(node.q)
        mu = None if node.mu is None else self.node(node.mu)
        nu = None if node.nu is None else self.node(node.nu)
        scalars = [self.node(n) for _, n in (*node.scalars_f, *node.scalars_g)]
        numbers = self._number_dims(node.f, node.g)
        dims = union([c for c in (k, p, q, mu, nu, *scalars, *numbers) if c is not None], self.order)
        entries = _Entries(self._groups(dims) if self._is_windowed(node.k) else ())
        texts = [
            entries(name, None if c is None else aligned(c, dims, self.order))
            for name, c in (("_k", k), ("_p", p), ("_q", q), ("_mu", mu), ("_nu", nu))
        ]
        same = self._same(node, dims) if self.system.definitions.singular(node) else None
        if same is not None:
            texts[0] = f"equal_where({texts[0]}, {texts[1]}, {entries('_same', aligned(same, dims, self.order))})"
        text = plan.call(
            *texts,
            self._scalars(node.scalars_f, left, dims, node.f, {node.z}, entries),
            self._scalars(node.scalars_g, right, dims, node.g, {node.w}, entries),
        )
        if entries.arguments:
            self.system.definitions.notes.add(MERGED_AXES, [self.key])
        return Code(entries.around(text), dims, atomic=False)

    def _is_windowed(self, k: ir.Node) -> bool:
        """Whether a covariance comes from `window_sums`, the last pass of which shifts whole rows of merged axes."""
        return any(r.side is None and r.key in self.system.windowed for r in ir.reads(k))

    def _groups(self, dims: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """The (start, stop) of neighbouring dimensions of the same run."""
        return neighbours([self.runs.get(d) for d in dims]) if "n1" in self.order else ()

    def _same(self, node: ir.PairExpectation, dims) -> Code | None:
        """Where both arguments are the same vector of one input, so that k is p; None where nobody looks."""
        if node.same is None or node.k == node.p or not ({"n1", "n2"} & set(dims) or node.same):
            return None  # one number for all samples
        masks = []
        cross = "n1" in self.order
        if cross:
            masks.append(Code("same", ("n1", "n2")))
        inner = self.mask(node.same)
        if inner is not None:
            masks.append(inner)
        elif not cross:
            return None
        both = combined("&", [Code(m.wrapped(), m.dims) for m in masks], self.order)
        return both if set(both.dims) <= set(dims) else None

    def single(self, node: ir.SingleExpectation) -> Code:
        plan, names = self.system.definitions.single(node)
        q = self.node(node.q)
        mu = None if node.mu is None else self.node(node.mu)
        scalars = [self.node(n) for _, n in node.scalars]
        numbers = self._number_dims(node.f)
        dims = union([c for c in (q, mu, *scalars, *numbers) if c is not None], self.order)
        texts = self._arguments([q, mu], dims)
        text = plan.call(texts[0], texts[1], self._scalars(node.scalars, names, dims, node.f, {node.z}))
        return _of_shape(text, dims)

    def joint(self, node: ir.JointExpectation) -> Code:
        plan, left, right = self.system.definitions.joint(node)
        entries: dict[tuple[int, int], Code] = {}
        position = 0
        count = len(node.zs) + len(node.ws)
        for a in range(count):
            for b in range(a + 1):
                value = node.covariance[position]
                position += 1
                if a == b or not ir.is_zero(value):
                    entries[b, a] = self.node(value)
        means = [None if m is None else self.node(m) for m in node.means]
        scalars = [self.node(n) for _, n in (*node.scalars_f, *node.scalars_g)]
        numbers = self._number_dims(node.f, node.g)
        dims = union([*entries.values(), *(m for m in means if m is not None), *scalars, *numbers], self.order)
        covariance = {k: aligned(c, dims, self.order).text for k, c in entries.items()}
        text = plan.call(
            covariance,
            self._arguments(means, dims),
            self._scalars(node.scalars_f, left, dims, node.f, set(node.zs)),
            self._scalars(node.scalars_g, right, dims, node.g, set(node.ws)),
        )
        return _of_shape(text, dims)

    def batchnorm(self, node: ir.BatchnormExpectation) -> Code:
        """Tables of whole batches, of which the entries at the clause's indices are taken."""
        self.system.definitions.needs("batchnorm")
        rows, rows2, columns, columns2 = self._bind_all((*node.rows, *node.columns))
        p, q, k = (self.node(x) for x in (node.p, node.q, node.k))
        eps, other_eps = self.node(node.eps), self.node(node.other_eps)
        phi, gamma = (f"({self.number(a).text}, {self.number(b).text})" for a, b in (node.phi, node.gamma))
        inner = {rows, rows2, columns, columns2}
        dims = tuple(d for d in union([p, q, k, eps, other_eps], self.order) if d not in inner)
        cross = "n1" in self.order

        def laid(code: Code, last: tuple[str, ...]) -> str:
            return aligned(code, (*dims, *last), [*(d for d in self.order if d not in last), *last]).text

        left, between = laid(p, (rows, rows2)), laid(k, (rows, columns))
        if not cross and node.same == () and self._same_batch(node):
            text = f"batchnorm_self({left}, {laid(eps, ())}, {phi}, {gamma})"
        else:
            right = laid(q, (columns, columns2))
            if cross and node.same is not None:
                mask = self.mask(node.same)
                codes = [Code("same", ("n1", "n2")), *([] if mask is None else [Code(mask.wrapped(), mask.dims)])]
                both = combined("&", codes, self.order)
                between = f"equal_batches({between}, {left}, {laid(both, ())})"
            text = f"batchnorm_pair({left}, {right}, {between}, {laid(eps, ())}, {laid(other_eps, ())}, {phi}, {gamma})"
        self._unbind_all((rows, rows2, columns, columns2))
        return self._at_places(text, dims, ((rows, node.rows[0], node.at), (columns, node.columns[0], node.other_at)))

    def _same_batch(self, node: ir.BatchnormExpectation) -> bool:
        """Whether both sides are one batch of one run."""
        swap = {c.name: Affine.symbol(r.name) for r, c in zip(node.rows, node.columns, strict=True)}
        return ir.substitute(node.q, swap) == node.p and node.eps == node.other_eps

    def batchnorm_mean(self, node: ir.BatchnormMean) -> Code:
        self.system.definitions.needs("batchnorm")
        rows, rows2 = self._bind_all(node.rows)
        p, eps = self.node(node.p), self.node(node.eps)
        dims = tuple(d for d in union([p, eps], self.order) if d not in (rows, rows2))
        order = [*(d for d in self.order if d not in (rows, rows2)), rows, rows2]
        phi = f"({self.number(node.phi[0]).text}, {self.number(node.phi[1]).text})"
        left = aligned(p, (*dims, rows, rows2), order).text
        text = f"batchnorm_mean({left}, {aligned(eps, dims, self.order).text}, {phi})"
        self._unbind_all((rows, rows2))
        return self._at_places(text, dims, ((rows, node.rows[0], node.at),))

    def _bind_all(self, ranges: Sequence[Range]) -> list[str]:
        names = []
        for r in ranges:
            name, conditions = self._bind(r, ())
            if conditions:
                raise ProgramError(f"a batch over {r}, which depends on other indices, is not supported")
            names.append(name)
        return names

    def _unbind_all(self, names: Sequence[str]) -> None:
        for n in names:
            self._unbind(n)

    def _at_places(self, text: str, dims: tuple[str, ...], places) -> Code:
        """The last dimensions of an array, each read at an index expression."""
        found: list[str] = [*dims, *(name for name, _, _ in places)]
        for name, r, at in places:
            position = found.index(name)
            axis = self.system.names.range_of(ir.Axis(r, 0, None), None)
            kind, source, label, size, stride = self._subscript(at, axis)
            if kind in ("int", "entry"):
                text = f"entry({text}, {position}, {source})"
                del found[position]
            elif kind in ("slice", "take"):
                if kind == "take":
                    text = f"take({text}, {position}, {source}, {size}, {stride})"
                elif source != ":":
                    text = f"{text}[{', '.join([':'] * position + [source])}]"
                found[position] = label[0]
            else:
                text = f"gather({text}, {position}, {source})"
                found[position : position + 1] = label
        while len(set(found)) < len(found):
            name = next(d for d in found if found.count(d) > 1)
            a, b = [k for k, d in enumerate(found) if d == name][:2]
            text = f"jnp.diagonal({text}, axis1={a}, axis2={b})"
            found = [d for k, d in enumerate(found) if k not in (a, b)] + [name]
        return Code(text, tuple(found))


@dataclass(frozen=True)
class _Move:
    """An axis of a table that a window shifts: read at `stride` · label + `shift` and what is summed.

    spread: how far the entries of the table are apart there, with zeros between them.
    """

    axis: int
    label: str
    stride: int
    shift: Affine
    spread: int

    def same_as(self, other: _Move) -> bool:
        return replace(self, axis=0) == replace(other, axis=0)


class _Entries:
    """The arrays that a function of single entries is called with: within `entrywise` if their axes are merged."""

    def __init__(self, groups: tuple[tuple[int, int], ...] = ()):
        self.groups = groups
        self.arguments: dict[str, str] = {}

    def __call__(self, name: str, code: Code | None) -> str | None:
        """What the array is called in the function: `_name`, which no name of the program becomes (`identifier`)."""
        if code is None or not self.groups or not code.dims:
            return None if code is None else code.text
        known = next((n for n, text in self.arguments.items() if text == code.text), None)
        if known is None:
            known = name if name not in self.arguments else f"{name}{len(self.arguments)}"
            self.arguments[known] = code.text
        return known

    def around(self, text: str) -> str:
        if not self.arguments:
            return text
        names, arrays = ", ".join(self.arguments), ", ".join(self.arguments.values())
        return f"entrywise(lambda {names}: {text}, {self.groups}, {arrays})"


def _of_shape(text: str, dims: tuple[str, ...]) -> Code:
    """The value of an expectation; a number where it depends on nothing."""
    try:
        float(text.strip("() "))
    except ValueError:
        return Code(text, dims, atomic=False)
    return Code(text)


def _count(settle, r: Range):
    low, high = settle(r.low), settle(r.high)
    return map_bound(high, lambda a: a - low) if isinstance(low, Affine) else None


def _ends(settle, r: Range):
    return settle(r.low), settle(r.high)


def _symbols(bound) -> frozenset[str]:
    return bound_symbols(bound)


def _source_tuple(items: Sequence) -> str:
    return f"({', '.join(map(str, items))}{',' if len(items) == 1 else ''})"
