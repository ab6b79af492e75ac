"""The recursion as sympy equations between functions of indices, closed forms filled in.

    Sigma_h_12(t, tp) = var_w·E_s_12(t - 1, tp - 1) + var_u·Gram_x_12(t, tp) + var_b

Suffixes tell the runs: _11 and _22 are the run on x1 or x2 with itself, _12 between the two; a C or a mean of the first
run has _1. Indices and sizes of the second run end in p (t' is tp).
"""

from __future__ import annotations

from dataclasses import replace

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine, Entry, Quotient, Remainder
from tensorprog.index.bounds import Bound
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Linear, Pointwise, Reference
from tensorprog.program.types import Data, Scalar, Vector
from tensorprog.recursion import Clause, Node, Read, Recursion, Table
from tensorprog.theorem.tangent import is_tangent, primal_key, tangent_key
from tensorprog.views import closed
from tensorprog.views.names import families, index_pair
from tensorprog.views.sampled import Definition, scalar_node, table_of
from tensorprog.views.selection import Selection, primed, select, sided

PREFIXES = {
    ir.COVARIANCE: "Sigma",
    ir.MOMENT: "E",
    ir.GRAM: "Gram",
    ir.OUTPUT: "K",
    ir.MEAN: "mu",
    ir.SCALAR: "C",
    ir.DATA: "data",
}


class GaussianExpectation(sympy.Function):
    """E f for Gaussian variables, where there is no closed form.

    Arguments: f, the variables, the lower triangle of their covariance row by row, their means.
    """

    nargs = 4


class SampledExpectation(sympy.Function):
    """E of a function of the random variables Z_…, or of their slopes, that no rule gives: by simulation."""

    nargs = 1


class Slope(sympy.Function):
    """∂u/∂g of a random variable u, which is a function of Gaussians, by one of them, g."""

    nargs = 2


class BatchnormIntegral(sympy.Function):
    """E φ(u) γ(u') of batch-normalized Gaussians, or E φ(u): an integral over Laplace variables.

    Arguments: φ(u) γ(u'); its variables; the covariances of the first batch, between the batches and of the second, as
    functions of two places; the first and last place of each batch; each ε; the places of u and u'.
    """

    nargs = 6


class BatchnormSlope(sympy.Function):
    """The derivative of the first argument, a BatchnormIntegral, by the covariance of the second and third places."""

    nargs = 3


class Over(sympy.Function):
    """A reduction of random variables over ranges: its kind, its body, each range, and where it is read, its ε."""

    nargs = 5


class MaxOver(sympy.Function):
    """The largest value of the first argument while the second runs from the third to the fourth."""

    nargs = 4


class MinOver(sympy.Function):
    """The least value of the first argument while the second runs from the third to the fourth."""

    nargs = 4


def equations(recursion: Recursion, get: str = "nngp") -> list[sympy.Eq]:
    """An equation to a clause, in the order of computation; tables of one run come for both runs.

    Where something is sampled, the equations of its random variables Z_…_1 and Z_…_2, of the two runs, come first.
    An index that is free in an equation runs over its range, which JSON and text show. Real parameters are symbols
    under their names, sizes of the second run end in p. Raises ProgramError where there is no NTK, ValueError for
    another `get`.
    """
    selection = select(recursion, get, everything=True)
    result: list[sympy.Eq] = []
    if selection.simulation is not None:
        definitions = selection.simulation.definitions
        result += [_Writer(selection).random_variable(d, run) for d in definitions for run in ("left", "right")]
    for table in (*selection.nngp, *selection.ntk):
        if table.key.kind == ir.GRAM:
            continue
        sides = (None,) if table.key.stream == "cross" else ("left", "right")
        result += [_Writer(selection).equation(table, c, side) for c in table.clauses for side in sides]
    return result


class _Writer:
    def __init__(self, selection: Selection):
        self.selection = selection
        self.table: Table
        self.side: str | None = None
        self.primitives = dict(selection.tangents.primitives) if selection.tangents else {}
        self.sizes = selection.names.program.open_sizes

    def equation(self, table: Table, clause: Clause, side: str | None) -> sympy.Eq:
        self.table, self.side = table, side
        value: Node = clause.value
        conditions, target = clause.conditions, clause.target
        if side is not None:
            value = sided(value, side)
        if side == "right":
            value = primed(value, self.sizes)
            conditions, target = primed((conditions, target), self.sizes)
        right = self.node(value)
        if conditions:
            right = sympy.Piecewise((right, self.conditions(conditions)), evaluate=False)
        return sympy.Eq(self.entry(table, target, side), right, evaluate=False)

    # ------------------------------------------------------------ entries

    def entry(self, table: Table, indices: tuple[Affine, ...], side: str | None) -> sympy.Expr:
        key = primal_key(table.key)
        kind = "Theta" if is_tangent(table.key) else PREFIXES[key.kind]
        if key.kind == ir.OUTPUT:
            kind = "K_ntk" if is_tangent(table.key) else "K_nngp"
        elif is_tangent(table.key) and key.kind == ir.MOMENT:
            kind = "ThetaE"  # beside that of the covariance of the same vectors
        names = sorted(set(key.families), key=key.families.index)
        run = {"left": "1", "right": "2", None: ""}[side]
        if key.stream == "cross":
            run = "12"
        elif len(key.families) == 2 or key.kind in (ir.GRAM, ir.COVARIANCE, ir.MOMENT):
            # A variance and the table of the whole run are two tables.
            run = run * 2 + ("_var" if len(key.families) == 1 else "")
        name = "_".join([kind, *names, *([run] if key.kind != ir.OUTPUT else [])])
        arguments = [self.affine(i) for i in indices]
        return sympy.Function(name, real=True)(*arguments) if arguments else sympy.Symbol(name, real=True)

    def affine(self, a: Affine) -> sympy.Expr:
        total = sympy.Integer(a.constant)
        for s, c in a.terms:
            total += c * self._symbol(s)
        return total

    def _symbol(self, s: str) -> sympy.Expr:
        if isinstance(s, Quotient):
            return sympy.floor(self.affine(s.numerator) / s.divisor)
        if isinstance(s, Remainder):
            return sympy.Mod(self.affine(s.numerator), self.affine(s.divisor))
        if isinstance(s, Entry):
            table = sympy.Function(_index(s.table).name, integer=True)
            return table(*map(self.affine, s.indices)) if s.indices else _index(s.table)
        return _index(s)

    def bound(self, b: Bound) -> sympy.Expr:
        if isinstance(b, Affine):
            return self.affine(b)
        return (sympy.Min if b.kind == "min" else sympy.Max)(*map(self.bound, b.arguments))

    def limits(self, r: Range) -> tuple[sympy.Symbol, sympy.Expr, sympy.Expr]:
        return _index(r.name), self.bound(r.low), self.bound(r.high)

    def conditions(self, conditions: tuple[Condition, ...]) -> sympy.Basic:
        parts = []
        for c in conditions:
            e = self.affine(c.expression)
            parts.append(sympy.Eq(e, 0) if c.op == "==" else sympy.Ge(e, 0))
        return sympy.And(*parts)

    def number(self, e: sympy.Expr, values: dict[sympy.Symbol, sympy.Expr] | None = None) -> sympy.Expr:
        """Indices and sizes become integer symbols without primes."""
        e = sympy.sympify(e)
        swap = dict(values or {})
        integers = {p.name for p in self.selection.names.program.parameters if p.kind in ("integer", "size")}
        for s in e.free_symbols - swap.keys():
            if s.is_integer or s.name.rstrip("'") in integers:
                swap[s] = _index(s.name)
        return e.xreplace(swap)

    # ------------------------------------------------------------ nodes

    def node(self, node: Node) -> sympy.Expr:
        match node:
            case ir.Constant(value):
                return self.number(value)
            case ir.LawVariance(scale=scale):
                return self.number(scale)
            case Read(key, indices, side):
                return self.entry(table_of(key, self.selection.tables, self.selection.names.program), indices, side)
            case ir.Add(terms):
                return sympy.Add(*map(self.node, terms))
            case ir.Product(factors):
                return sympy.Mul(*map(self.node, factors))
            case ir.Sum(ranges, conditions, body):
                inner = self.node(body)
                if conditions:
                    inner = sympy.Piecewise((inner, self.conditions(conditions)), (0, True))
                return sympy.Sum(inner, *(self.limits(r) for r in reversed(ranges)))
            case ir.Where(conditions, then, otherwise):
                return sympy.Piecewise((self.node(then), self.conditions(conditions)), (self.node(otherwise), True))
            case ir.Apply(expression, arguments):
                return self.number(expression, {s: self.node(a) for s, a in arguments})
            case ir.Reduce():
                return self._reduce(node)
            case ir.PairExpectation():
                return self._pair(node)
            case ir.SingleExpectation():
                return self._single(node)
            case ir.JointExpectation():
                scalars = {s: self.node(n) for s, n in (*node.scalars_f, *node.scalars_g)}
                means = [sympy.Integer(0) if m is None else self.node(m) for m in node.means]
                variables = (*node.zs, *node.ws)
                return self._open(node.f * node.g, variables, map(self.node, node.covariance), means, scalars)
            case ir.Sampled():
                return self._sampled(node)
            case ir.BatchnormExpectation():
                return self._batchnorm(node)
            case ir.BatchnormMean():
                u = sympy.Symbol("u", real=True)
                f = slopes_of(node.phi, u)
                return self._normalized(f, (u,), [(node.rows, node.p)], [node.rows[0]], [node.eps], [node.at])
        raise AssertionError(node)

    def _reduce(self, node: ir.Reduce) -> sympy.Expr:
        body = self.node(node.body)
        if node.kind == "softmax":
            assert node.at is not None
            at = self.node(ir.substitute(node.body, {node.range.name: node.at}))
            return sympy.exp(at) / sympy.Sum(sympy.exp(body), self.limits(node.range))
        if node.kind == "prod":
            return sympy.Product(body, self.limits(node.range))
        return (MaxOver if node.kind == "max" else MinOver)(body, *self.limits(node.range))

    def _pair(self, node: ir.PairExpectation) -> sympy.Expr:
        scalars = {s: self.node(n) for s, n in (*node.scalars_f, *node.scalars_g)}
        k, p, q = (self.node(n) for n in (node.k, node.p, node.q))
        mu, nu = (sympy.Integer(0) if m is None else self.node(m) for m in (node.mu, node.nu))
        form = closed.pair_form(node, self.primitives)
        if form is None:
            return self._open(node.f * node.g, (node.z, node.w), (p, k, q), (mu, nu), scalars)
        e = form.expression
        if form.correlation:
            e = e.xreplace({closed.C: closed.K / sympy.sqrt(closed.P * closed.Q)})
        return self.number(e, {**scalars, closed.K: k, closed.P: p, closed.Q: q, closed.MU: mu, closed.NU: nu})

    def _single(self, node: ir.SingleExpectation) -> sympy.Expr:
        scalars = {s: self.node(n) for s, n in node.scalars}
        q, mu = self.node(node.q), sympy.Integer(0) if node.mu is None else self.node(node.mu)
        form = closed.mean_form(node)
        if form is None:
            return self._open(node.f, (node.z,), (q,), (mu,), scalars)
        return self.number(form.expression, {**scalars, closed.P: q, closed.MU: mu})

    def _open(self, f, variables, covariance, means, scalars) -> sympy.Expr:
        names = [sympy.Symbol(f"z{i + 1}", real=True) for i in range(len(variables))]
        f = self.number(f, {**scalars, **dict(zip(variables, names, strict=True))})
        return GaussianExpectation(f, sympy.Tuple(*names), sympy.Tuple(*covariance), sympy.Tuple(*means))

    # ------------------------------------------------------------ what is sampled

    def random_variable(self, d: Definition, run: str) -> sympy.Eq:
        """The equation of a random variable, or of a C that is an expectation of them, in one run."""
        self.side = run
        here = Reference(d.name, self._here(d.case.target))
        left = self._random(here, run)
        right = self._random_body(d.case.body, run)
        if d.moment:
            right = SampledExpectation(right)
        if d.case.conditions:
            right = sympy.Piecewise((right, self.conditions(self._here(d.case.conditions))), evaluate=False)
        return sympy.Eq(left, right, evaluate=False)

    def _here(self, what):
        """What a program says of a run: in the second with its sizes."""
        return primed(what, self.sizes) if self.side == "right" else what

    def _random(self, r: Reference, run: str | None) -> sympy.Expr:
        """Z_h_1(t) of the first run; a C under its own name."""
        family = self.selection.names.program.families[r.name]
        kind = ir.DATA if isinstance(family.type, Data) else ir.SCALAR
        prefix = "Z" if isinstance(family.type, Vector) else PREFIXES[kind]
        name = f"{prefix}_{r.name}_{'2' if run == 'right' else '1'}"
        arguments = [self.affine(i) for i in r.indices]
        return sympy.Function(name, real=True)(*arguments) if arguments else sympy.Symbol(name, real=True)

    def _random_body(self, body, run: str | None) -> sympy.Expr:
        program = self.selection.names.program

        def scalar(form) -> sympy.Expr:
            node = sided(scalar_node(form, program), run)
            return self.node(self._here(node))

        if isinstance(body, Pointwise):
            values = {s: self._random(Reference(r.name, self._here(r.indices)), run) for s, r in body.vectors}
            values |= {s: scalar(form) for s, form in body.scalars}
            for s, r in body.reductions:
                ranges = sympy.Tuple(*(sympy.Tuple(*self.limits(x)) for x in self._here(r.ranges)))
                at = sympy.Tuple(*(self.affine(i) for i in self._here(r.at)))
                eps = sympy.Integer(0) if r.eps is None else scalar(r.eps)
                values[s] = Over(sympy.Symbol(r.kind), self._random_body(r.body, run), ranges, at, eps)
            return self.number(self._here(self._written_out(body.expression)), values)
        assert isinstance(body, Linear), body
        total = sympy.Integer(0)
        for t in body.terms:
            value = self.number(self._here(t.coefficient)) * sympy.Mul(*map(scalar, t.scalars))
            if t.vector is not None:
                value *= self._random(Reference(t.vector.name, self._here(t.vector.indices)), run)
            if t.conditions:
                value = sympy.Piecewise((value, self.conditions(self._here(t.conditions))), (0, True))
            if t.sums:
                value = sympy.Sum(value, *(self.limits(r) for r in reversed(self._here(t.sums))))
            total += value
        return total

    def _written_out(self, e: sympy.Expr) -> sympy.Expr:
        """The program's own functions by what they are."""
        simulated = self.selection.simulation
        for f in simulated.functions if simulated is not None else ():
            e = e.replace(
                sympy.Function(f.name, real=True),
                lambda *values, f=f: f.body.xreplace(dict(zip(f.arguments, values, strict=True))),
            )
        return e

    def _sampled(self, node: ir.Sampled) -> sympy.Expr:
        (name, indices), right = node.left, node.right
        cross = self.table.key.stream == "cross"
        first = "left" if cross else self.side
        if isinstance(self.selection.names.program.families[name].type, Scalar):
            cases = self.selection.names.reader.cases(name)
            return SampledExpectation(self._random_body(next(c.body for c in cases if c.target == indices), first))
        u = self._random(Reference(name, indices), first)
        if right is None:
            return SampledExpectation(u)
        v = self._random(Reference(*right), "right" if cross else first)
        if not node.moved:
            return SampledExpectation(u * v)
        assert self.selection.tangents is not None
        moving = [t for k in node.tables if (t := self.selection.tangents.tables.get(tangent_key(k))) is not None]
        total = sympy.Integer(0)
        for table in moving:
            swap = {a.range.name: Affine.symbol(_fresh(a.range.name)) for a in table.axes}
            here = tuple(swap[a.range.name] for a in table.axes)
            a, b = index_pair(table, here)
            f, g = families(table)
            slopes = Slope(u, self._random(Reference(f, a), "left")) * Slope(v, self._random(Reference(g, b), "right"))
            term = SampledExpectation(slopes) * self.entry(table, here, None)
            ranges = [self.limits(ir.substitute(replace(x.range, name=_fresh(x.range.name)), swap)) for x in table.axes]
            total += sympy.Sum(term, *reversed(ranges)) if ranges else term
        return total

    # ------------------------------------------------------------ batch normalization

    def _batchnorm(self, node: ir.BatchnormExpectation) -> sympy.Expr:
        u, w = sympy.symbols("u1 u2", real=True)
        covariances = [(node.rows, node.p), ((node.rows[0], node.columns[0]), node.k), (node.columns, node.q)]
        whole = self._normalized(
            slopes_of(node.phi, u) * slopes_of(node.gamma, w),
            (u, w),
            covariances,
            (node.rows[0], node.columns[0]),
            (node.eps, node.other_eps),
            (node.at, node.other_at),
        )
        if node.moved is None:
            return whole
        i, j = self.limits(node.rows[0]), self.limits(node.columns[0])
        return sympy.Sum(BatchnormSlope(whole, i[0], j[0]) * self.node(node.moved), j, i)

    def _normalized(self, f, variables, covariances, batches, eps, at) -> sympy.Expr:
        functions = []
        for places, value in covariances:
            # Bound under fresh names, as the places that are summed over may have theirs.
            swap = {r.name: Affine.symbol(_fresh(r.name)) for r in places}
            bound = sympy.Tuple(*(_index(_fresh(r.name)) for r in places))
            functions.append(sympy.Lambda(bound, self.node(ir.substitute(value, swap))))
        return BatchnormIntegral(
            f,
            sympy.Tuple(*variables),
            sympy.Tuple(*functions),
            sympy.Tuple(*(sympy.Tuple(*self.limits(r)[1:]) for r in batches)),
            sympy.Tuple(*map(self.node, eps)),
            sympy.Tuple(*map(self.affine, at)),
        )


def _fresh(name: str) -> str:
    return name.rstrip("'") + "_" + "'" * name.endswith("'")


def slopes_of(slopes: tuple[sympy.Expr, sympy.Expr], u: sympy.Symbol) -> sympy.Expr:
    """α u + β |u|."""
    return slopes[0] * u + slopes[1] * sympy.Abs(u)


def _index(name: str) -> sympy.Symbol:
    return sympy.Symbol(name.replace("'", "p"), integer=True)
