"""The general Master Theorem as a pass: transposes become fresh matrices, with corrections (TP III, box 1).

    Before:  e := Nonlin(phi(U_x))         After:  weight W_T : A(n, n) ~ N(0, 1) * sqrt(var_w / n)   (fresh)
             W_e := MatMul(W, e)                   W_e := MatMul(W, e)
             z := Nonlin(phi(W_e))                 z := Nonlin(phi(W_e))
             W_T := Trsp(W)                        d_z_W_e := Nonlin(D(phi)(W_e))
             W_T_z := MatMul(W_T, z)               c_W_T_z := Moment(var_w * d_z_W_e)
                                                   W_T_z_hat := MatMul(W_T, z)
                                                   W_T_z := LinComb(W_T_z_hat + c_W_T_z * e)

Z^{W.T @ z} = Ẑ + Σ_i c_i Z^{x_i} with c_i = s_{W.T} E[∂Z^z/∂Ẑ^{W @ x_i}], over all W @ x_i that z was computed from,
and the same with W and W.T exchanged. The derivative is the total one through everything coordinatewise, earlier
corrections included; it is carried along as families d_y_g, with the indices of y first, then those of g. A program
that is BP-like needs no corrections: its transposes only become fresh (Tensor Programs II, theorem 2.10).

The fresh matrix has the law of W, so s_{W.T} = lim (rows of W)·multiplier²·variance comes out of its shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import sympy

from tensorprog import functions
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import map_bound
from tensorprog.index.conditions import Condition, strongest, within
from tensorprog.index.fresh import numbered, underscored
from tensorprog.index.ranges import Range
from tensorprog.index.solving import with_value
from tensorprog.language import syntax
from tensorprog.program.build import coordinatewise, rebuilt
from tensorprog.program.desugar import bound_expression, type_name
from tensorprog.program.ir import Family, Program
from tensorprog.program.laws import nngp_scale
from tensorprog.program.numerals import numeral
from tensorprog.program.passes.arithmetic import ONE, ZERO, add, divide, multiply
from tensorprog.program.passes.directional import directional
from tensorprog.program.scope import Binding, Scope
from tensorprog.program.substitution import binders, free_names, rename, subexpressions
from tensorprog.program.transposes import Use, declared_weight, matrix_uses
from tensorprog.program.types import Matrix, Vector
from tensorprog.program.typing import is_zero
from tensorprog.theorem.before import Alternatives, Order
from tensorprog.theorem.bp_like import analyse
from tensorprog.theorem.cases import CaseReader, Reference
from tensorprog.theorem.dependence import Dependence, dependence
from tensorprog.theorem.support import Interval


def without_transposes(program: Program) -> Program:
    """The program with a fresh independent matrix for every transpose, and the corrections that this takes.

    The program itself where nothing multiplies by a transpose. Raises ProgramError where a derivative does not exist.
    """
    uses = tuple(matrix_uses(program))
    if not any(u.transposed for u in uses):
        return program
    return _Pass(program, uses, corrected=not analyse(program).holds).run()


@dataclass
class _Pass:
    program: Program
    uses: tuple[Use, ...]
    corrected: bool
    before: dict[int, list[syntax.Statement]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        p = self.program
        self.reader = CaseReader(p)
        self.order = Order(p)
        self.position: tuple[int, ...] = ()
        self.fresh: dict[str, str] = {}
        # The aliases of transposes go, so that their names are free for the fresh matrices.
        self.taken = (
            {f.name for f in p.families.values() if f.transpose_of is None}
            | {x.name for x in p.parameters}
            | set(p.widths)
            | set(p.features)
        )
        self.taken |= {b.name for s in p.text.statements for b in binders(s)} | set(p.functions)
        self.scope = Scope(
            parameters={x.name: x for x in p.parameters},
            widths=dict(p.widths),
            features=list(p.features),
            functions=dict(p.functions),
            ranges={f.name: f.ranges for f in p.families.values()},
            types={f.name: f.type for f in p.families.values()},
        )
        for u in self.uses:
            if u.transposed and u.weight not in self.fresh:
                self.fresh[u.weight] = self._new(f"{u.weight}_T")
        # The MatMul families of weights that are used both ways, by orientation.
        self.sides: dict[str, tuple[str, bool]] = {}
        for u in self.uses:
            if u.weight in self.fresh:
                side = (u.weight, u.transposed)
                if self.sides.setdefault(u.family.name, side) != side:
                    raise ProgramError(
                        f"'{u.family.name}' multiplies by {u.weight} and by another matrix or its transpose: "
                        "give each its own variable",
                        u.clause.span,
                    )
        self.opposite: dict[str, tuple[str, ...]] = {}
        if self.corrected:
            self.opposite = {
                m: tuple(g for g, (w, t) in self.sides.items() if w == weight and t != transposed)
                for m, (weight, transposed) in self.sides.items()
            }
        self.depends: Dependence = dependence(self.reader, self.opposite) if self.opposite else {}
        self.pairs = self._correction_pairs()
        self.hats = {m: self._new(f"{m}_hat") for m in dict.fromkeys(m for m, _ in self.pairs)}
        self.derivatives = self._needed()
        self.curved = self._curved()

    def _new(self, stem: str) -> str:
        name = numbered(stem, self.taken, self.scope.is_function)
        self.taken.add(name)
        return name

    # ------------------------------------------------------------ which derivatives are needed

    def _correction_pairs(self) -> dict[tuple[str, str], str]:
        """(m, g) → name of the coefficients of m = W.T @ z along the g = W @ x that z depends on."""
        pairs = {}
        for u in self.uses:
            m = u.family.name
            for g in self.opposite.get(m, ()):
                operand = _reference(u.operand)
                if operand is not None and g in self.depends.get(operand.name, {}) and (m, g) not in pairs:
                    pairs[m, g] = self._new(f"c_{m}" if len(self.opposite[m]) == 1 else f"c_{m}_{g}")
        return pairs

    def _needed(self) -> dict[tuple[str, str], str]:
        """(y, g) → name of ∂y/∂ĝ, for the families y on the way from g to an operand that needs it."""
        wanted: set[tuple[str, str]] = set()
        work = []
        for u in self.uses:
            operand = _reference(u.operand)
            for g in self.opposite.get(u.family.name, ()):
                if operand is not None and (u.family.name, g) in self.pairs:
                    work.append((operand.name, g))
        while work:
            y, g = work.pop()
            if (y, g) in wanted or g not in self.depends.get(y, {}) or (y == g and g not in self.hats):
                continue
            wanted.add((y, g))
            work += [(r, g) for r in self._read_by(y)]
        return {(y, g): self._new(f"d_{y}_{g}") for y, g in sorted(wanted)}

    def _curved(self) -> set[tuple[str, str]]:
        """The (y, g) whose derivative is a vector: y depends on ĝ through a nonlinear function. The others' are C's."""
        curved: set[tuple[str, str]] = set()
        while True:
            more = {
                (y, g)
                for y, g in self.derivatives
                if (self._is_nonlin(y) and not self._jumps(y)) or any((r, g) in curved for r in self._read_by(y))
            }
            if more <= curved:
                return curved
            curved |= more

    def _read_by(self, y: str) -> set[str]:
        """Families that y is computed from coordinatewise, through corrections too."""
        result: set[str] = set()
        for clause in self.program.families[y].clauses:
            for e in subexpressions(clause.value):
                if isinstance(e, syntax.Call) and e.function == "MatMul":
                    result |= {
                        r.name
                        for u in self.uses
                        if (y, u.family.name) in self.pairs
                        for r in (_reference(u.operand),)
                        if r is not None
                    }
            if not any(isinstance(e, syntax.Call) and e.function == "MatMul" for e in subexpressions(clause.value)):
                result |= {
                    e.name
                    for e in subexpressions(clause.value)
                    if isinstance(e, syntax.Name | syntax.Index) and e.name in self.depends
                }
        return result

    # ------------------------------------------------------------ rewriting

    def run(self) -> Program:
        text = self.program.text
        statements: list[syntax.Statement] = []
        for s in text.statements:
            statements += self._declaration(s)
        body = self._block(text.statements, ())
        tree = replace(text, statements=(*statements, *body))
        result = rebuilt(self.program, tree)
        families = dict(result.families)
        for weight, fresh in self.fresh.items():
            families[fresh] = replace(families[fresh], stands_for=weight)
        return replace(result, families=families)

    def _declaration(self, s: syntax.Statement) -> list[syntax.Statement]:
        if isinstance(s, syntax.Assignment | syntax.For):
            return []
        result: list[syntax.Statement] = [s]
        if isinstance(s, syntax.Random):
            for v in s.variables:
                if v.name in self.fresh:
                    t = self.program.families[v.name].type
                    assert isinstance(t, Matrix)
                    type_ = type_name(Matrix(t.columns, t.rows))
                    assert type_ is not None
                    result.append(replace(s, variables=(replace(v, name=self.fresh[v.name]),), type=type_))
        return result

    def _block(self, statements, position: tuple[int, ...]) -> list[syntax.Statement]:
        result: list[syntax.Statement] = []
        for k, s in enumerate(statements):
            self.position = (*position, k)
            if isinstance(s, syntax.For):
                with self.scope.bound([]):
                    for b in s.binders:
                        self.scope.indices[b.name] = self.scope.range_of(b)
                    inner = self._block(s.body, self.position)
                if inner:
                    result.append(replace(s, body=tuple(inner)))
            elif isinstance(s, syntax.Assignment):
                with self.scope.bound([]):
                    for i in s.indices:
                        if isinstance(i, syntax.Binder):
                            self.scope.indices[i.name] = self.scope.range_of(i)
                    result += self._assignment(s)
        return result

    def _assignment(self, s: syntax.Assignment) -> list[syntax.Statement]:
        if isinstance(self.program.families[s.name].type, Matrix):
            return []  # an alias of a transpose: its uses name the fresh matrix
        result: list[syntax.Statement] = []
        s = replace(s, value=self._matrices(s.value))
        if s.name in self.hats:
            hat = replace(s, name=self.hats[s.name], value=self._hat(s.value))
            coefficients: list[syntax.Assignment] = []
            value = self._corrected(s.value, s, coefficients)
            result += [replace(hat, annotation=None), *coefficients]
            s = replace(s, value=value, annotation=None)
        elif not isinstance(self.program.families[s.name].type, Matrix):
            s = replace(s, annotation=None if _is_vector(self.program, s.name) else s.annotation)
        result.append(s)
        if not s.output:
            for (y, g), name in self.derivatives.items():
                if y == s.name:
                    result.append(self._derivative(s, g, name))
        return result

    def _matrices(self, e: syntax.Expr) -> syntax.Expr:
        """MatMuls by transposes name the fresh matrices."""

        def change(x):
            if isinstance(x, syntax.Call) and x.function == "MatMul":
                matrix, operand = x.arguments
                assert isinstance(matrix, syntax.Name | syntax.Index)
                weight, transposed = declared_weight(self.program, matrix.name)
                if self.program.families[matrix.name].transpose_of is None:
                    return None
                declared, _ = self.reader.matrix(self._as_reference(matrix))
                indices = tuple(bound_expression(i, matrix) for i in declared.indices)
                name = self.fresh[weight] if transposed else weight
                new = syntax.Index(name, indices, span=matrix.span) if indices else syntax.Name(name, span=matrix.span)
                return replace(x, arguments=(new, operand))
            return None

        return rename(e, change)

    def _as_reference(self, e: syntax.Name | syntax.Index) -> Reference:
        indices = e.indices if isinstance(e, syntax.Index) else ()
        return Reference(e.name, tuple(self.scope.affine(i) for i in indices), e.span)

    def _hat(self, e: syntax.Expr) -> syntax.Expr:
        """The Gaussian part alone: MatMuls, zero on other branches."""
        match e:
            case syntax.Conditional(a, _, b):
                return replace(e, then=self._hat(a), otherwise=self._hat(b))
            case syntax.Call("MatMul"):
                return e
        return ZERO

    def _corrected(self, e: syntax.Expr, s: syntax.Assignment, coefficients: list[syntax.Assignment]) -> syntax.Expr:
        """The value of s with its corrections; their coefficients are assigned where e stands in s.value."""
        match e:
            case syntax.Conditional(a, c, b):
                then: list[syntax.Assignment] = []
                otherwise: list[syntax.Assignment] = []
                result = replace(e, then=self._corrected(a, s, then), otherwise=self._corrected(b, s, otherwise))
                # Where a branch is not taken, what it reads need not be there.
                yes, no = ({x.name: x for x in branch} for branch in (then, otherwise))
                for x in {**yes, **no}.values():
                    values = (branch[x.name].value if x.name in branch else ZERO for branch in (yes, no))
                    coefficients.append(replace(x, value=syntax.Conditional(next(values), c, next(values))))
                return result
            case syntax.Call("MatMul", (matrix, operand)):
                here = _here(s.indices)
                total: syntax.Expr = _index(self.hats[s.name], here)
                for g in self.opposite[s.name]:
                    z = _reference(operand)
                    if z is not None and (s.name, g) in self.pairs and g in self.depends.get(z.name, {}):
                        total = add(total, self._correction(s, matrix, operand, z, g, coefficients))
                return syntax.Call("LinComb", (total,), span=e.span)
        return e

    def _correction(self, s, matrix, operand, z, g: str, coefficients) -> syntax.Expr:
        """Σ over the members of g = W @ x of c · x, and the assignment of the coefficients c."""
        name = self.pairs[s.name, g]
        family = self.program.families[g]
        here = _here(s.indices)
        axes = self._fresh_binders(family, _all_names(s.value) | _names_in(s.indices))
        at = tuple(syntax.Name(b.name) for b in axes)
        z_indices = z.indices if isinstance(z, syntax.Index) else ()
        if z.name == g and g not in self.hats:
            slope: syntax.Expr = _delta(z_indices, at)
        else:
            slope = _index(self.derivatives[z.name, g], (*z_indices, *at))
        if isinstance(operand, syntax.Guard):
            slope = syntax.Guard(slope, ZERO, span=operand.span)
        total: syntax.Expr = ZERO
        z_at = [self.scope.affine(i) for i in (z.indices if isinstance(z, syntax.Index) else ())]
        own = [self.scope.affine(i) for i in (matrix.indices if isinstance(matrix, syntax.Index) else ())]
        intervals = self.depends[z.name][g]
        for u in self.uses:
            if u.family.name == g:
                total = add(total, self._one_use(u, name, here, z_at, own, intervals))
        if not is_zero(total):
            moment = syntax.Call("Moment", (multiply(self._scale(s.name), slope),), span=s.span)
            coefficients.append(syntax.Assignment(name, (*s.indices, *axes), moment, span=s.span))
        return total

    def _one_use(self, u: Use, name: str, here, z_at: list[Affine], own: list[Affine], intervals) -> syntax.Expr:
        """The corrections along the members of one assignment g := W @ x."""
        taken = set(self.scope.indices) | self.taken
        renamed: dict[str, str] = {}
        for r in u.clause.loops:
            renamed[r.name] = underscored(r.name, taken, renamed.values())
        mapping = {old: Affine.symbol(new) for old, new in renamed.items()}
        ranges = {
            renamed[r.name]: Range(renamed[r.name], _put(r.low, mapping), _put(r.high, mapping)) for r in u.clause.loops
        }
        target = [t.substitute(mapping) for t in u.clause.target]
        operand = rename(
            u.operand,
            lambda e: syntax.Name(renamed[e.name]) if isinstance(e, syntax.Name) and e.name in renamed else None,
        )
        with self.scope.bound([Binding(r) for r in u.clause.loops]):
            matrix = next(
                e.arguments[0]
                for e in subexpressions(u.clause.value)
                if isinstance(e, syntax.Call) and e.function == "MatMul" and e.arguments[1] == u.operand
            )
            assert isinstance(matrix, syntax.Name | syntax.Index)
            declared, _ = self.reader.matrix(self._as_reference(matrix))
        theirs = [i.substitute(mapping) for i in declared.indices]
        solved: dict[str, Affine] = {}
        conditions: list[Condition] = []
        equations = list(zip(theirs, own, strict=True))
        for t, interval in zip(target, intervals, strict=True):
            base = Affine(0) if interval.base is None else z_at[interval.base]
            if interval.low is not None and interval.low == interval.high:
                equations.append((t, base + interval.low))
            else:
                conditions += _between(t, base, interval)
        for left, right in equations:
            difference = (left - right).substitute(solved)
            names = (x for x, _ in difference.terms if x in ranges and x not in solved)
            name_ = next((x for x in names if difference.solved(x) is not None), None)
            if name_ is None:
                if difference != Affine(0):
                    conditions.append(Condition("==", difference))
                continue
            value = difference.solved(name_)
            assert value is not None
            solved = with_value(solved, name_, value)
            r = ranges[name_]
            assert isinstance(r.low, Affine) and isinstance(r.high, Affine)
            conditions += within(value, r)
        inside = {x: r for x, r in ranges.items() if x not in solved}
        outer = {**self.scope.index_ranges(), **inside}
        earlier = self.order.before(u.clause.position, self.position, mapping)
        always = [_put_in(c, solved) for c in conditions]
        alternatives = self._settled([[*always, *(_put_in(c, solved) for c in a)] for a in earlier or [[]]], outer)
        if earlier == [] or not alternatives:
            return ZERO

        def put(e):
            if isinstance(e, syntax.Name) and e.name in solved:
                return bound_expression(solved[e.name], e)
            return None

        at = tuple(bound_expression(t.substitute(solved), operand) for t in target)
        term: syntax.Expr = multiply(_index(name, (*here, *at)), rename(operand, put))
        condition = _written(alternatives, operand)
        if condition is not None:
            term = syntax.Conditional(term, condition, ZERO)
        if inside:
            binders = tuple(
                syntax.Binder(x, bound_expression(r.low, operand), bound_expression(r.high, operand))
                for x, r in inside.items()
            )
            term = syntax.Reduction("sum", binders, term)
        return term

    def _settled(self, alternatives: Alternatives, ranges: dict[str, Range]) -> Alternatives:
        """The alternatives that can hold, without what is certain; one that is without conditions stands alone."""
        result: Alternatives = []
        for conditions in alternatives:
            verdicts = [self.reader.certain(c, ranges) for c in conditions]
            if False in verdicts:
                continue
            kept = strongest([c for c, v in zip(conditions, verdicts, strict=True) if v is None])
            if not kept:
                return [[]]
            if kept not in result:
                result.append(kept)
        return result

    def _scale(self, m: str) -> syntax.Expr:
        """s_{W.T} (or s_W): lim fan-in · multiplier² · variance of the matrix in m = W.T @ z."""
        weight, transposed = self.sides[m]
        family = self.program.families[weight]
        assert family.law is not None and isinstance(family.type, Matrix)
        t = Matrix(family.type.columns, family.type.rows) if transposed else family.type
        scale, _ = nngp_scale(family.law, t, dict(self.program.widths))
        if any(s.is_integer and not s.is_positive for s in scale.free_symbols):
            raise ProgramError(
                f"the law of '{weight}' depends on its index; corrections for its transpose are not derived",
                family.span,
            )
        return numeral(scale)

    def _fresh_binders(self, family: Family, taken: set[str]) -> tuple[syntax.Binder, ...]:
        binders = []
        used = set(taken) | set(self.scope.indices)
        for r in family.ranges:
            name = underscored(r.name, used, self.taken)
            used.add(name)
            at = syntax.Name(name)
            binders.append(syntax.Binder(name, bound_expression(r.low, at), bound_expression(r.high, at)))
        return tuple(binders)

    def _derivative(self, s: syntax.Assignment, g: str, name: str) -> syntax.Assignment:
        """∂y/∂ĝ beside the assignment of y."""
        family = self.program.families[g]
        axes = self._fresh_binders(family, _all_names(s.value) | _names_in(s.indices))
        at = tuple(syntax.Name(b.name) for b in axes)

        def direction(e: syntax.Expr) -> syntax.Expr | None:
            if isinstance(e, syntax.Name | syntax.Index):
                if e.name == self.hats.get(g, g):
                    indices = e.indices if isinstance(e, syntax.Index) else ()
                    return _delta(indices, at)
                if (e.name, g) in self.derivatives and e.name not in self.scope.indices:
                    indices = e.indices if isinstance(e, syntax.Index) else ()
                    return _index(self.derivatives[e.name, g], (*indices, *at))
            return None

        value = self._jump(s, direction) or directional(s.value, direction)
        t = self.program.families[s.name].type
        assert isinstance(t, Vector)
        vector = (s.name, g) in self.curved
        annotation = syntax.TypeName("H", (syntax.Name(t.width),)) if vector else syntax.TypeName("C")
        return syntax.Assignment(name, (*s.indices, *axes), value, annotation, span=s.span)

    def _jump(self, s: syntax.Assignment, direction: Callable) -> syntax.Expr | None:
        """For a function that jumps, of one Gaussian vector h: E f'(h) = E f(h)(h - Eh)/Var h in place of f'(h).

        The almost everywhere derivative would miss the jump (TP III, remark 2.12); its mean is all that a
        coefficient needs where h is Gaussian.
        """
        value = s.value
        if not (isinstance(value, syntax.Call) and value.function == "Nonlin"):
            return None
        (inner,) = value.arguments
        vectors = {
            e
            for e in subexpressions(inner)
            if isinstance(e, syntax.Name | syntax.Index) and _is_vector(self.program, e.name)
        }
        symbols: dict[syntax.Expr, sympy.Symbol] = {
            v: sympy.Symbol(f"x{k}", real=True) for k, v in enumerate(sorted(vectors, key=str))
        }
        try:
            f = coordinatewise(inner, self.scope, symbols)
        except ProgramError:
            return None
        if not any(functions.facts(f, x).jumps for x in symbols.values()):
            return None
        (vector, *more) = vectors
        t = self.program.families[vector.name].type
        moved = any(
            r == s.name and y != s.name and self._is_nonlin(y)
            for y in self.program.families
            for r in self._reads(y)
            if any((y, g) in self.derivatives for g in self.hats)
        )
        if more or not (isinstance(t, Vector) and t.gaussian) or moved:
            raise ProgramError(
                "a correction needs the derivative of a function that jumps; this is derived only for one of a single "
                "G-var, whose image is combined linearly",
                s.span,
            )
        mean = syntax.Call("Moment", (vector,))
        covariance = syntax.Binary(
            "-",
            syntax.Call("Moment", (syntax.Binary("*", inner, vector),)),
            syntax.Binary("*", syntax.Call("Moment", (inner,)), mean),
        )
        variance = syntax.Binary(
            "-", syntax.Call("Moment", (syntax.Binary("*", vector, vector),)), syntax.Binary("*", mean, mean)
        )
        return multiply(divide(covariance, variance), direction(vector) or ZERO)

    def _jumps(self, y: str) -> bool:
        """Whether y is a function of one vector that jumps: its derivative is taken in the mean."""
        for clause in self.program.families[y].clauses:
            if isinstance(clause.value, syntax.Call) and clause.value.function == "Nonlin":
                (inner,) = clause.value.arguments
                vectors = {
                    e
                    for e in subexpressions(inner)
                    if isinstance(e, syntax.Name | syntax.Index) and _is_vector(self.program, e.name)
                }
                if len(vectors) != 1:
                    continue
                (vector,) = vectors
                x = sympy.Symbol("x", real=True)
                try:
                    if functions.facts(coordinatewise(inner, self.scope, {vector: x}), x).jumps:
                        return True
                except ProgramError:
                    continue
        return False

    def _is_nonlin(self, y: str) -> bool:
        return any(
            isinstance(e, syntax.Call) and e.function == "Nonlin"
            for c in self.program.families[y].clauses
            for e in subexpressions(c.value)
        )

    def _reads(self, y: str) -> set[str]:
        return {
            e.name
            for c in self.program.families[y].clauses
            for e in subexpressions(c.value)
            if isinstance(e, syntax.Name | syntax.Index)
        }


def _between(t: Affine, base: Affine, interval: Interval) -> list[Condition]:
    result = []
    if interval.low is not None:
        result.append(Condition(">=", t - base - interval.low))
    if interval.high is not None:
        result.append(Condition(">=", base + interval.high - t))
    return result


def _written(alternatives: Alternatives, at: syntax.Expr) -> syntax.Condition | None:
    """That one of the alternatives holds; None where one always does."""
    result: syntax.Condition | None = None
    for conditions in alternatives:
        both: syntax.Condition | None = None
        for c in conditions:
            one = syntax.Comparison(c.op, bound_expression(c.expression, at), ZERO)
            both = one if both is None else syntax.And(both, one)
        if both is None:
            return None
        result = both if result is None else syntax.Or(result, both)
    return result


def _delta(indices, at) -> syntax.Expr:
    """1 where the indices agree, else 0."""
    condition: syntax.Condition | None = None
    for i, j in zip(indices, at, strict=True):
        c = syntax.Comparison("==", i, j)
        condition = c if condition is None else syntax.And(condition, c)
    return ONE if condition is None else syntax.Conditional(ONE, condition, ZERO)


def _put(bound, mapping):
    return map_bound(bound, lambda a: a.substitute(mapping))


def _put_in(c: Condition, values: dict[str, Affine]) -> Condition:
    return c.substitute(values)


def _reference(e: syntax.Expr) -> syntax.Name | syntax.Index | None:
    while isinstance(e, syntax.Guard):
        e = e.value
    if is_zero(e):
        return None
    assert isinstance(e, syntax.Name | syntax.Index)
    return e


def _here(indices) -> tuple[syntax.Expr, ...]:
    return tuple(syntax.Name(i.name) if isinstance(i, syntax.Binder) else i for i in indices)


def _names_in(indices) -> set[str]:
    return {i.name for i in indices if isinstance(i, syntax.Binder)}


def _all_names(e) -> set[str]:
    """Every name in a tree, bound or free: a new index under any of them would be captured or capture."""
    return free_names(e) | {b.name for b in binders(e)}


def _index(name: str, indices) -> syntax.Name | syntax.Index:
    return syntax.Index(name, tuple(indices)) if indices else syntax.Name(name)


def _is_vector(program: Program, name: str) -> bool:
    return name in program.families and isinstance(program.families[name].type, Vector)
