"""From expressions as written to the five instructions, one to an assignment (language: Core form).

Before:  s[t] := phi(W @ s[t-1] + U @ x[t] + b)
After:   W_s[t] := MatMul(W, s[t-1])
         U_x[t] := MatMul(U, x[t])
         s_1[t] := LinComb(W_s[t] + U_x[t] + b)
         s[t] := Nonlin(phi(s_1[t]))

A function of one vector, wherever it is read, becomes one family beside that vector, with the vector's own
indices: `phi(h[l-1, i+a, j+b])` reads `phi_h[l-1, i+a, j+b]`, and `phi_h` is as large as `h`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine, Entry, Quotient, Remainder, quotient, remainder
from tensorprog.index.bounds import maximum, minimum
from tensorprog.index.fresh import numbered
from tensorprog.index.ranges import Range, extent
from tensorprog.language import syntax
from tensorprog.language.printer import print_expression
from tensorprog.program.scope import Binding, Scope
from tensorprog.program.substitution import free_names, rename, subexpressions
from tensorprog.program.types import Constant, Data, Matrix, Process, Scalar, Type, Vector
from tensorprog.program.typing import infer, is_zero, readout_type

ZERO = syntax.Number("0")


@dataclass
class _Place:
    """Where the assignment in hand stands: the loops around it, and the binders of its own."""

    target: syntax.Assignment
    loops: list[syntax.Binder]
    local: list[syntax.Binder] = field(default_factory=list)
    conditions: list[syntax.Condition] = field(default_factory=list)
    used: set[str] = field(default_factory=set)


@dataclass
class Desugarer:
    """Lowers statements one by one; what it makes on the way is listed in `temporaries`."""

    scope: Scope
    temporaries: set[str] = field(default_factory=set)
    _before: list[syntax.Statement] = field(default_factory=list)
    _shared: dict[tuple[int, str], str] = field(default_factory=dict)
    _beside: dict[str, list[tuple[str, syntax.Expr]]] = field(default_factory=dict)
    _beside_names: dict[tuple[str, str], str] = field(default_factory=dict)
    _of_kind: dict[tuple, list[str]] = field(default_factory=dict)
    _block: int = 0
    _blocks: int = 0

    # ------------------------------------------------------------ statements

    def run(self, statements: tuple[syntax.Statement, ...]) -> tuple[syntax.Statement, ...]:
        """The body in core form."""
        lowered = self._statements(statements, [])
        first = [s for s in lowered if not isinstance(s, syntax.Assignment | syntax.For)]
        body = [s for s in lowered if isinstance(s, syntax.Assignment | syntax.For)]
        declared: list[syntax.Statement] = []
        for s in first:
            if isinstance(s, syntax.Input | syntax.Random):
                for v in s.variables:
                    declared += self._companions(v.name, v.axes)
        return (*first, *declared, *self._insert_companions(body))

    def _statements(self, statements, loops: list[syntax.Binder]) -> list[syntax.Statement]:
        outer, self._blocks = self._block, self._blocks + 1
        self._block = self._blocks
        result: list[syntax.Statement] = []
        for s in statements:
            match s:
                case syntax.Assignment() if _steps(s):
                    # h[l = 2..L] := W[l] @ phi(h[l-1]): what stands beside h[l] must come before h[l+1].
                    result += self._statements((_as_loops(s),), loops)
                case syntax.Assignment():
                    result += self._assignment(s, _Place(s, list(loops)))
                case syntax.For(binders, body):
                    with self.scope.binding(binders):
                        inner = self._statements(body, [*loops, *binders])
                    result.append(replace(s, body=tuple(inner)))
                case _:
                    result.append(s)
        self._block = outer
        return result

    def _assignment(self, s: syntax.Assignment, place: _Place) -> list[syntax.Statement]:
        self._before = []
        with self.scope.bound([]):
            for b in s.indices:
                if isinstance(b, syntax.Binder):
                    self.scope.indices[b.name] = self.scope.range_of(b)
            t = readout_type(s.value, self.scope) if s.output else infer(s.value, self.scope)
            family = self.scope.types[s.name]
            if isinstance(t, Process):
                value = self._readout(s.value, place)
            elif isinstance(family, Matrix):
                value = self._matrix(s.value)
            else:
                value = self._instruction(s.value, family, place)
        annotation = None if isinstance(family, Process) else type_name(family)
        return [*self._before, replace(s, value=value, annotation=annotation)]

    def _insert_companions(self, statements) -> list[syntax.Statement]:
        result: list[syntax.Statement] = []
        for s in statements:
            match s:
                case syntax.For(_, body):
                    result.append(replace(s, body=tuple(self._insert_companions(body))))
                case syntax.Assignment(name, indices):
                    result.append(s)
                    if not s.output:
                        result += self._companions(name, indices)
                case _:
                    result.append(s)
        return result

    def _companions(self, name: str, indices) -> list[syntax.Statement]:
        """The functions of one vector, beside an assignment or declaration of that vector."""
        result: list[syntax.Statement] = []
        for companion, template in self._beside.get(name, ()):
            here = tuple(syntax.Name(i.name) if isinstance(i, syntax.Binder) else i for i in indices)
            value = _fill(template, name, here)
            t = type_name(self.scope.types[companion])
            result.append(syntax.Assignment(companion, tuple(indices), value, t))
            result += self._companions(companion, indices)
        return result

    # ------------------------------------------------------------ instructions

    def _instruction(self, e: syntax.Expr, family: Type, place: _Place) -> syntax.Expr:
        """An instruction that computes e, or a conditional of such."""
        match e:
            case syntax.Conditional(then, condition, otherwise):
                place.conditions.append(condition)
                a = self._instruction(then, family, place)
                place.conditions[-1] = syntax.Not(condition)
                b = self._instruction(otherwise, family, place)
                place.conditions.pop()
                return replace(e, then=a, otherwise=b)
            case syntax.Guard(value, otherwise) if not _simple(e):
                return self._instruction(self._as_conditional(value, otherwise, e), family, place)
        if isinstance(family, Scalar):
            return self._moment(e, place)
        match e:
            case syntax.Call("MatMul", (matrix, vector)) | syntax.Binary("@", matrix, vector):
                return syntax.Call("MatMul", (self._matrix_operand(matrix), self._vector(vector, place)), span=e.span)
            case syntax.Call("LinComb", (inner,)):
                if self._kind(inner) == "nonlinear":
                    raise ProgramError("LinComb takes numbers or C's times vectors", inner.span, hint="use Nonlin")
                return replace(e, arguments=(self._linear(inner, place),))
            case syntax.Call("Nonlin", (inner,)):
                return replace(e, arguments=(self._nonlinear(inner, place),))
            case syntax.Call("layernorm"):
                return syntax.Call("LinComb", (self._layernorm(e, place),), span=e.span)
        if self._kind(e) == "linear":
            return syntax.Call("LinComb", (self._linear(e, place),), span=e.span)
        return syntax.Call("Nonlin", (self._nonlinear(e, place),), span=e.span)

    def _matrix(self, e: syntax.Expr) -> syntax.Expr:
        match e:
            case syntax.Transpose(operand):
                return syntax.Call("Trsp", (operand,), span=e.span)
            case syntax.Call("Trsp", (syntax.Name() | syntax.Index(),)):
                return e
        raise ProgramError("a matrix is assigned only as a transpose: Wt := Trsp(W)", e.span)

    def _matrix_operand(self, e: syntax.Expr) -> syntax.Expr:
        match e:
            case syntax.Name() | syntax.Index():
                return e
            case syntax.Transpose(operand) | syntax.Call("Trsp", (syntax.Name() | syntax.Index() as operand,)):
                indices = operand.indices if isinstance(operand, syntax.Index) else ()
                template = syntax.Call("Trsp", (_placeholder(operand),))
                name = self._companion(operand.name, f"{operand.name}_T", template, infer(e, self.scope))
                return _reference(name, indices, e.span)
        raise ProgramError("left of @ stands a matrix, its .T or Trsp(W)", e.span)

    # ------------------------------------------------------------ what an expression is

    def _kind(self, e: syntax.Expr) -> str:
        """'linear' if a LinComb computes e (with its nonlinear addends apart), else 'nonlinear'."""
        kinds = {self._addend_kind(a) for a in _addends(e)}
        return "linear" if kinds & {"vector", "reduction"} or kinds == {"constant"} else "nonlinear"

    def _addend_kind(self, e: syntax.Expr) -> str:
        match e:
            case syntax.Binary(op, left, right) if op in "*/":
                if isinstance(infer(right, self.scope), Constant | Scalar):
                    return self._addend_kind(left)
                if op == "*" and isinstance(infer(left, self.scope), Constant | Scalar):
                    return self._addend_kind(right)
                return "nonlinear"
            case syntax.Binary(op) if op in "+-":
                return "vector" if self._kind(e) == "linear" else "nonlinear"
            case syntax.Negate(operand):
                return self._addend_kind(operand)
            case syntax.Binary("@") | syntax.Call("MatMul" | "LinComb" | "layernorm"):
                return "vector"
            case syntax.Reduction("sum" | "mean"):
                return "reduction"
            case syntax.Conditional() | syntax.Guard():
                return "vector"
        t = infer(e, self.scope)
        if isinstance(t, Constant | Scalar):
            return "constant"
        return "vector" if isinstance(e, syntax.Name | syntax.Index) else "nonlinear"

    # ------------------------------------------------------------ operands

    def _vector(self, e: syntax.Expr, place: _Place) -> syntax.Expr:
        """A reference to a vector (or data) that holds e, guarded or not; a new assignment if need be."""
        if _simple(e) or is_zero(e):
            return e
        if isinstance(e, syntax.Guard) and is_zero(e.otherwise):
            inner = self._one_vector(e.value)
            if inner is not None:
                return replace(e, value=self._pointwise(e.value, inner))
        inner = self._one_vector(e)
        if inner is not None:
            return self._pointwise(e, inner)
        t = infer(e, self.scope)
        assert t is not None
        if isinstance(t, Constant):
            raise ProgramError("a vector is needed here, not a number", e.span)
        e = self._with_functions_apart(e)
        return self._temporary(self._instruction(e, t, place), t, place, e)

    def _with_functions_apart(self, e: syntax.Expr) -> syntax.Expr:
        """A choice between vectors for one between functions of them: each function is computed once, not per choice.

        In `W[a] @ (relu(h[q]) if 2*q == p + a else 0)` the choice has the indices p, a and q, and relu(h) only q.
        """
        if isinstance(e, syntax.Conditional):
            then, otherwise = (self._with_functions_apart(x) for x in (e.then, e.otherwise))
            return replace(e, then=then, otherwise=otherwise)
        if isinstance(e, syntax.Guard):
            value, otherwise = (self._with_functions_apart(x) for x in (e.value, e.otherwise))
            return replace(e, value=value, otherwise=otherwise)
        vector = None if is_zero(e) or _simple(e) else self._one_vector(e)
        return e if vector is None else self._pointwise(e, vector)

    def _one_vector(self, e: syntax.Expr) -> syntax.Name | syntax.Index | None:
        """The vector that e is a plain nonlinear function of, where it is one of a single vector."""
        found: syntax.Name | syntax.Index | None = None
        if isinstance(e, syntax.Name | syntax.Index):
            return None
        for s in subexpressions(e):
            match s:
                case syntax.Name(name) | syntax.Index(name):
                    t = self.scope.types.get(name)
                    if name in self.scope.indices or isinstance(t, Scalar):
                        return None
                    if isinstance(t, Vector | Data):
                        if found is not None and found != s:
                            return None
                        if isinstance(s, syntax.Index) and any(self.scope.positions(i) for i in s.indices):
                            return None  # a function of the members that are read, not of all that there are
                        found = s
                case syntax.Number() | syntax.Negate() | syntax.DerivativeCall():
                    pass
                case syntax.Binary(op):
                    if op == "@":
                        return None
                case syntax.Call(name):
                    if name in ("layernorm", "MatMul", "LinComb", "Moment"):
                        return None
                case _:
                    return None
        return found if found is not None and self._kind(e) == "nonlinear" else None

    def _pointwise(self, e: syntax.Expr, vector: syntax.Name | syntax.Index) -> syntax.Expr:
        t = infer(e, self.scope)
        assert t is not None
        inner = e.arguments[0] if isinstance(e, syntax.Call) and e.function == "Nonlin" else e
        indices = vector.indices if isinstance(vector, syntax.Index) else ()
        template = syntax.Call("Nonlin", (_mark(inner, vector),))
        function = inner.function if isinstance(inner, syntax.Call) and len(inner.arguments) == 1 else "f"
        stem = f"{function}_{vector.name}"
        return _reference(self._companion(vector.name, stem, template, t), indices, e.span)

    def _companion(self, vector: str, stem: str, template: syntax.Expr, t: Type | None) -> str:
        key = (vector, print_expression(template))
        if key not in self._beside_names:
            assert t is not None
            name = self._new_name(stem)
            self.scope.types[name] = t
            self.scope.ranges[name] = self.scope.ranges[vector]
            self._beside_names[key] = name
            self._beside.setdefault(vector, []).append((name, template))
        return self._beside_names[key]

    def _temporary(self, value: syntax.Expr, t: Type, place: _Place, origin: syntax.Expr) -> syntax.Expr:
        """Assign `value` to a new family over the indices in hand, and read it."""
        for condition in reversed(place.conditions):
            zero = syntax.Call("Moment" if isinstance(t, Scalar) else "LinComb", (ZERO,))
            value = syntax.Conditional(value, condition, zero, span=value.span)
        used = free_names(value)
        local: list[syntax.Binder] = []
        own = [i for i in place.target.indices if isinstance(i, syntax.Binder)]
        for b in reversed([*own, *place.local]):
            if b.name in used and b.name not in {x.name for x in local}:
                local.insert(0, b)
                used |= free_names(b)
        kept = [k for k, i in enumerate(place.target.indices) if not isinstance(i, syntax.Binder) or i in local]
        summed = [b for b in local if b not in own]
        indices = (*(place.target.indices[k] for k in kept), *summed)
        here = tuple(syntax.Name(i.name) if isinstance(i, syntax.Binder) else i for i in indices)
        key = (self._block, print_expression(value) + "|" + ", ".join(print_expression(i) for i in here))
        if key not in self._shared:
            name = self._temporary_name(value, t, place, tuple(kept), len(summed))
            self._shared[key] = name
            self.scope.types[name] = t
            self._extend(name, here, place, summed)
            self._before.append(syntax.Assignment(name, indices, value, type_name(t), span=origin.span))
        return _reference(self._shared[key], here, origin.span)

    def _temporary_name(self, value: syntax.Expr, t: Type, place: _Place, kept: tuple[int, ...], summed: int) -> str:
        """One name for what several assignments of a family need alike: f[0] and f[l] beside h[0] and h[l]."""
        kind = (place.target.name, _stem(value), kept, summed, t)
        for name in self._of_kind.setdefault(kind, []):
            if name not in place.used:
                place.used.add(name)
                return name
        name = self._new_name(_stem(value))
        self._of_kind[kind].append(name)
        place.used.add(name)
        return name

    def _extend(self, name: str, here: tuple[syntax.Expr, ...], place: _Place, summed: list[syntax.Binder]) -> None:
        """The range of a temporary holds these indices too."""
        ranges = self.scope.index_ranges()
        new = []
        for k, e in enumerate(here):
            index = self.scope.affine(e)
            axis = e.name if isinstance(e, syntax.Name) and e.name in ranges else f"i{k + 1}"
            new.append(Range(axis, extent(index, ranges, False), extent(index, ranges, True)))
        old = self.scope.ranges.get(name)
        if old is not None:
            new = [
                Range(a.name if b.name.startswith("i") else b.name, minimum(a.low, b.low), maximum(a.high, b.high))
                for a, b in zip(old, new, strict=True)
            ]
        self.scope.ranges[name] = tuple(new)

    def _new_name(self, stem: str) -> str:
        taken = set(self.scope.known()) | self.temporaries | set(self.scope.types) | set(self.scope.spans)
        name = numbered(stem, taken, self.scope.is_function)
        self.temporaries.add(name)
        return name

    # ------------------------------------------------------------ insides of the instructions

    def _linear(self, e: syntax.Expr, place: _Place) -> syntax.Expr:
        """The inside of a LinComb: C's and numbers times references."""
        match e:
            case syntax.Binary(op, left, right) if op in "+-":
                return replace(e, left=self._linear(left, place), right=self._linear(right, place))
            case syntax.Negate(operand):
                return replace(e, operand=self._linear(operand, place))
            case syntax.Binary(op, left, right) if op in "*/" and self._scalar(right):
                if self._scalar(left):
                    return self._coefficient(e, place)
                return replace(e, left=self._linear(left, place), right=self._coefficient(right, place))
            case syntax.Binary("*", left, right) if self._scalar(left):
                return replace(e, left=self._coefficient(left, place), right=self._linear(right, place))
            case syntax.Reduction("sum" | "mean") if not self._scalar(e):
                return self._inside_reduction(e, place, self._linear)
            case syntax.Conditional(then, condition, otherwise):
                place.conditions.append(condition)
                a = self._linear(then, place)
                place.conditions[-1] = syntax.Not(condition)
                b = self._linear(otherwise, place)
                place.conditions.pop()
                return replace(e, then=a, otherwise=b)
            case syntax.Guard(value, otherwise) if not _simple(e):
                if is_zero(otherwise) and self._one_vector(value) is not None:
                    return self._vector(e, place)
                return self._linear(self._as_conditional(value, otherwise, e), place)
            case syntax.Call("LinComb", (inner,)):
                return self._linear(inner, place)
            case syntax.Call("layernorm"):
                return self._layernorm(e, place)
        if self._scalar(e):
            return self._coefficient(e, place)
        return self._vector(e, place)

    def _nonlinear(self, e: syntax.Expr, place: _Place) -> syntax.Expr:
        """The inside of a Nonlin: a coordinatewise expression of references and C's."""
        if self._scalar(e):
            return self._coefficient(e, place)
        if isinstance(e, syntax.Conditional | syntax.Guard):
            # A vector by cases is a family of its own: conditions stand on instructions, not inside of functions.
            t = infer(e, self.scope)
            assert t is not None
            return self._temporary(self._instruction(e, t, place), t, place, e)
        if _simple(e):
            return e
        t = infer(e, self.scope)
        if isinstance(t, Vector) and t.gaussian and self._several(e):
            return self._vector(e, place)
        match e:
            case syntax.Binary("@"):
                return self._vector(e, place)
            case syntax.Binary(_, left, right):
                return replace(e, left=self._nonlinear(left, place), right=self._nonlinear(right, place))
            case syntax.Negate(operand):
                return replace(e, operand=self._nonlinear(operand, place))
            case syntax.Call("Nonlin", (inner,)):
                return self._nonlinear(inner, place)
            case syntax.Call("MatMul" | "LinComb" | "layernorm"):
                return self._vector(e, place)
            case syntax.Call() | syntax.DerivativeCall():
                return replace(
                    e,
                    arguments=tuple(self._nonlinear(a, place) for a in e.arguments),
                    keywords=tuple((k, self._nonlinear(v, place)) for k, v in e.keywords),
                )
            case syntax.Reduction("sum" | "mean"):
                return self._vector(e, place)
            case syntax.Reduction():
                return self._inside_reduction(e, place, self._nonlinear)
        return self._vector(e, place)

    def _several(self, e: syntax.Expr) -> bool:
        """Whether e combines more than one vector, or sums over an index."""
        vectors = set()
        for s in subexpressions(e):
            if isinstance(s, syntax.Reduction) or (isinstance(s, syntax.Binary) and s.op == "@"):
                return True
            if isinstance(s, syntax.Name | syntax.Index) and s.name not in self.scope.indices:
                if isinstance(self.scope.types.get(s.name), Vector | Data):
                    vectors.add(s)
        return len(vectors) > 1

    def _scalar(self, e: syntax.Expr) -> bool:
        return isinstance(infer(e, self.scope), Constant | Scalar)

    def _inside_reduction(self, e: syntax.Reduction, place: _Place, inside) -> syntax.Expr:
        written = [b if b.low is not None else self._written_binder(b.name, place) for b in e.binders]
        with self.scope.binding(e.binders):
            place.local.extend(written)
            body = inside(e.body, place)
            del place.local[len(place.local) - len(written) :]
        keywords = tuple((k, self._coefficient(v, place)) for k, v in e.keywords)
        return replace(e, body=body, keywords=keywords)

    def _written_binder(self, name: str, place: _Place) -> syntax.Binder:
        own = [i for i in place.target.indices if isinstance(i, syntax.Binder)]
        for b in reversed([*place.loops, *own, *place.local]):
            if b.name == name and b.low is not None:
                return b
        raise AssertionError(name)

    def _coefficient(self, e: syntax.Expr, place: _Place) -> syntax.Expr:
        """A number, or arithmetic on C's with every Moment in an assignment of its own."""
        match e:
            case syntax.Bracket() | syntax.Call("Moment"):
                return self._temporary(self._moment(e, place), Scalar(), place, e)
            case syntax.Binary(_, left, right):
                return replace(e, left=self._coefficient(left, place), right=self._coefficient(right, place))
            case syntax.Negate(operand):
                return replace(e, operand=self._coefficient(operand, place))
            case syntax.Call() | syntax.DerivativeCall():
                return replace(
                    e,
                    arguments=tuple(self._coefficient(a, place) for a in e.arguments),
                    keywords=tuple((k, self._coefficient(v, place)) for k, v in e.keywords),
                )
            case syntax.Reduction():
                return self._inside_reduction(e, place, self._coefficient)
            case syntax.Conditional(then, condition, otherwise):
                place.conditions.append(condition)
                a = self._coefficient(then, place)
                place.conditions[-1] = syntax.Not(condition)
                b = self._coefficient(otherwise, place)
                place.conditions.pop()
                return replace(e, then=a, otherwise=b)
            case syntax.Guard(value, otherwise) if not _simple(e):
                return self._coefficient(self._as_conditional(value, otherwise, e), place)
        return e

    def _moment(self, e: syntax.Expr, place: _Place) -> syntax.Expr:
        match e:
            case syntax.Bracket(operands):
                inner, *rest = (self._nonlinear(o, place) for o in operands)
                for factor in rest:
                    inner = syntax.Binary("*", inner, factor, span=e.span)
                return syntax.Call("Moment", (inner,), span=e.span)
            case syntax.Call("Moment", (inner,)):
                return replace(e, arguments=(self._nonlinear(inner, place),))
        return syntax.Call("Moment", (self._coefficient(e, place),), span=e.span)

    def _layernorm(self, e: syntax.Call, place: _Place) -> syntax.Expr:
        """(x − ν)/sqrt(var + eps), with ν = <x>/n and var = <x − ν, x − ν>/n."""
        x = self._vector(e.arguments[0], place)
        if isinstance(x, syntax.Guard):
            x = self._nonlinear(x, place)
        t = infer(x, self.scope)
        assert isinstance(t, Vector)
        eps = e.arguments[1] if len(e.arguments) == 2 else dict(e.keywords).get("eps", ZERO)
        at = e.span
        mean = self._temporary(syntax.Call("Moment", (x,), span=at), Scalar(), place, e)
        centred = syntax.Binary("-", x, mean, at)
        square = syntax.Call("Moment", (syntax.Binary("*", centred, centred, at),), span=at)
        variance = self._temporary(square, Scalar(), place, e)
        shifted = variance if is_zero(eps) else syntax.Binary("+", variance, self._coefficient(eps, place), at)
        root = syntax.Call("Moment", (syntax.Call("sqrt", (shifted,), span=at),), span=at)
        return syntax.Binary("/", centred, self._temporary(root, Scalar(), place, e), at)

    # ------------------------------------------------------------ outputs and guards

    def _readout(self, e: syntax.Expr, place: _Place) -> syntax.Expr:
        match e:
            case syntax.Binary("@", syntax.Transpose(), right):
                return replace(e, right=self._vector(right, place))
            case syntax.Binary(op, left, right):
                if op in "*/" and not isinstance(readout_type(right, self.scope), Process):
                    return replace(e, left=self._readout(left, place), right=self._output_factor(right, place))
                if op == "*":
                    return replace(e, left=self._output_factor(left, place), right=self._readout(right, place))
                return replace(e, left=self._readout(left, place), right=self._readout(right, place))
            case syntax.Negate(operand):
                return replace(e, operand=self._readout(operand, place))
            case syntax.Reduction():
                return self._inside_reduction(e, place, self._readout)
            case syntax.Call("LinComb", (inner,)):
                return self._readout(inner, place)
            case syntax.Conditional(then, condition, otherwise):
                place.conditions.append(condition)
                a = self._readout(then, place)
                place.conditions[-1] = syntax.Not(condition)
                b = self._readout(otherwise, place)
                place.conditions.pop()
                return replace(e, then=a, otherwise=b)
            case syntax.Guard(value, otherwise):
                match value:
                    case syntax.Binary("@", syntax.Transpose(), right) if _simple(right) and is_zero(otherwise):
                        return e
                return self._readout(self._as_conditional(value, otherwise, e), place)
        return e

    def _output_factor(self, e: syntax.Expr, place: _Place) -> syntax.Expr:
        if any(isinstance(s, syntax.Name) and s.name in self.scope.widths for s in subexpressions(e)):
            return e
        return self._coefficient(e, place)

    def _as_conditional(self, value: syntax.Expr, otherwise: syntax.Expr, e: syntax.Expr) -> syntax.Expr:
        """`( value else otherwise )` with the ranges of the indices inside written out as a condition."""
        condition = self._inside(value, {}, e)
        return value if condition is None else syntax.Conditional(value, condition, otherwise, span=e.span)

    def _inside(self, e: syntax.Expr, inner: dict[str, Range], guard: syntax.Expr) -> syntax.Condition | None:
        """When every index in e that is looked up is in range; None for always. `inner`: the ranges of sums around.

        A guard in it is in range where its value is or, in its place, what follows its own `else`.
        """
        match e:
            case syntax.Guard(value, otherwise):
                a, b = self._inside(value, inner, guard), self._inside(otherwise, inner, guard)
                if a is None or b is None:
                    return None
                self._same_for_all(inner, guard)
                return syntax.Or(a, b, span=guard.span)
            case syntax.Conditional(then, condition, otherwise):
                a, b = self._inside(then, inner, guard), self._inside(otherwise, inner, guard)
                if a is None and b is None:
                    return None
                self._same_for_all(inner, guard)
                taken = ((condition, a), (syntax.Not(condition), b))
                first, second = (c if x is None else syntax.And(c, x, span=guard.span) for c, x in taken)
                return syntax.Or(first, second, span=guard.span)
            case syntax.Index(_, indices):
                positions = (p for i in indices for p in self.scope.positions(i) if isinstance(p, syntax.Index))
                return _all(c for s in (e, *positions) for c in self._in_ranges(s, inner, guard))
            case syntax.Reduction(_, binders, body):
                with self.scope.binding(binders) as bindings:
                    own = {b.range.name: b.range for b in bindings}
                    return self._inside(body, {**inner, **own}, guard)
        return _all(self._inside(s, inner, guard) for s in subexpressions(e, deep=False))

    def _in_ranges(self, s: syntax.Index, inner: dict[str, Range], guard: syntax.Expr) -> list[syntax.Condition]:
        with self.scope.bound([Binding(r) for r in inner.values()]):
            indices = [self.scope.affine(i) for i in s.indices]
        found: list[syntax.Condition] = []
        for index, r in zip(indices, self.scope.ranges.get(s.name, ()), strict=False):
            for op, end, largest in ((">=", r.low, False), ("<=", r.high, True)):
                edge = bound_expression(extent(index, inner, largest), s)
                found.append(syntax.Comparison(op, edge, bound_expression(end, s), span=guard.span))
        return found

    def _same_for_all(self, inner: dict[str, Range], guard: syntax.Expr) -> None:
        if inner:
            raise ProgramError(
                f"what this `else` replaces chooses for each {' and '.join(inner)} by itself: assign that first",
                guard.span,
            )


# ---------------------------------------------------------------- helpers


def _all(conditions: Iterable[syntax.Condition | None]) -> syntax.Condition | None:
    """All of the conditions; None where there is nothing to ask."""
    result: syntax.Condition | None = None
    for c in conditions:
        if c is not None:
            result = c if result is None else syntax.And(result, c, span=c.span)
    return result


def bound_expression(bound, at: syntax.Expr) -> syntax.Expr:
    """A bound of a range as syntax."""
    if not isinstance(bound, Affine):
        raise ProgramError("the range of this variable is too involved for `else`", at.span)
    e: syntax.Expr | None = None
    for s, c in bound.terms:
        term = _symbol_expression(s, at)
        if abs(c) != 1:
            term = syntax.Binary("*", syntax.Number(str(abs(c))), term)
        if e is None:
            e = term if c > 0 else syntax.Negate(term)
        else:
            e = syntax.Binary("+" if c > 0 else "-", e, term)
    k = bound.constant
    if e is None:
        return syntax.Number(str(k)) if k >= 0 else syntax.Negate(syntax.Number(str(-k)))
    if k:
        e = syntax.Binary("+" if k > 0 else "-", e, syntax.Number(str(abs(k))))
    return e


def _symbol_expression(s: str, at: syntax.Expr) -> syntax.Expr:
    if isinstance(s, Quotient):
        return syntax.Binary("/", bound_expression(s.numerator, at), syntax.Number(str(s.divisor)))
    if isinstance(s, Remainder):
        return syntax.Binary("mod", bound_expression(s.numerator, at), bound_expression(s.divisor, at))
    if isinstance(s, Entry):
        return _reference(s.table, tuple(bound_expression(i, at) for i in s.indices), at.span)
    return syntax.Name(s)


def as_affine(e: syntax.Expr) -> Affine | None:
    """An integer expression without products of names, each name taken for an integer; None for others."""
    match e:
        case syntax.Number(text) if text.isdigit():
            return Affine(int(text))
        case syntax.Name(name):
            return Affine.symbol(name)
        case syntax.Negate(operand):
            a = as_affine(operand)
            return None if a is None else -a
        case syntax.Binary("+" | "-" | "*" as op, left, right):
            a, b = as_affine(left), as_affine(right)
            if a is None or b is None:
                return None
            if op == "*":
                return a * b.constant if b.is_constant else b * a.constant if a.is_constant else None
            return a + b if op == "+" else a - b
        case syntax.Binary("/", left, syntax.Number(text)) if text.isdigit() and int(text) > 0:
            a = as_affine(left)
            return None if a is None else quotient(a, int(text))
        case syntax.Binary("mod", left, right):
            a, b = as_affine(left), as_affine(right)
            return None if a is None or b is None else remainder(a, b)
    return None


def type_name(t: Type) -> syntax.TypeName | None:
    """A type as an annotation."""
    match t:
        case Matrix(rows, columns):
            return syntax.TypeName("A", (syntax.Name(rows), syntax.Name(columns)))
        case Vector(width, gaussian):
            return syntax.TypeName("G" if gaussian else "H", (syntax.Name(width),))
        case Scalar():
            return syntax.TypeName("C")
        case Data(size):
            return syntax.TypeName("R", (syntax.Name(size),))
    return None


def print_expression_of(i: syntax.Expr | syntax.Binder) -> str:
    return i.name if isinstance(i, syntax.Binder) else print_expression(i)


def _steps(s: syntax.Assignment) -> bool:
    """Whether an assignment binds indices and reads its own family: it is a loop, step by step."""
    reads = any(isinstance(e, syntax.Index) and e.name == s.name for e in subexpressions(s.value))
    return reads and any(isinstance(i, syntax.Binder) for i in s.indices)


def _as_loops(s: syntax.Assignment) -> syntax.For:
    binders = tuple(i for i in s.indices if isinstance(i, syntax.Binder))
    indices = tuple(syntax.Name(i.name, span=i.span) if isinstance(i, syntax.Binder) else i for i in s.indices)
    return syntax.For(binders, (replace(s, indices=indices),), span=s.span)


def _addends(e: syntax.Expr) -> list[syntax.Expr]:
    match e:
        case syntax.Binary(op, left, right) if op in "+-":
            return _addends(left) + _addends(right)
    return [e]


def _simple(e: syntax.Expr) -> bool:
    """A reference, or a reference that is 0 out of range."""
    match e:
        case syntax.Name() | syntax.Index():
            return True
        case syntax.Guard(value, otherwise):
            return _simple(value) and is_zero(otherwise)
    return False


_MARK = "\0"


def _placeholder(vector: syntax.Name | syntax.Index) -> syntax.Name:
    return syntax.Name(_MARK, span=vector.span)


def _mark(e: syntax.Expr, vector: syntax.Name | syntax.Index) -> syntax.Expr:
    return rename(e, lambda s: _placeholder(vector) if s == vector else None)


def _fill(e: syntax.Expr, name: str, indices: tuple[syntax.Expr, ...]) -> syntax.Expr:
    return rename(
        e,
        lambda s: _reference(name, indices, s.span) if isinstance(s, syntax.Name) and s.name == _MARK else None,
    )


def _reference(name: str, indices: tuple[syntax.Expr, ...], span) -> syntax.Name | syntax.Index:
    return syntax.Index(name, indices, span=span) if indices else syntax.Name(name, span=span)


def _stem(value: syntax.Expr) -> str:
    while isinstance(value, syntax.Conditional):
        value = value.then
    assert isinstance(value, syntax.Call)
    names = [s.name for s in subexpressions(value) if isinstance(s, syntax.Name | syntax.Index)]
    if value.function == "MatMul":
        matrix, operand = value.arguments
        while isinstance(operand, syntax.Guard):
            operand = operand.value
        return f"{getattr(matrix, 'name', '0')}_{getattr(operand, 'name', '0')}"
    stem = {"LinComb": "sum", "Nonlin": "f", "Moment": "m"}[value.function]
    return f"{stem}_{names[0]}" if names else stem
