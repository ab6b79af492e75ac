"""The recursion as sympy equations between functions of indices, closed forms filled in.

    Sigma_h_12(t, tp) = var_w·E_s_12(t - 1, tp - 1) + var_u·Gram_x_12(t, tp) + var_b

Suffixes tell the runs: _11 and _22 are the run on x1 or x2 with itself, _12 between the two; a C or a mean of the first
run has _1. Indices and sizes of the second run end in p (t' is tp).
"""

from __future__ import annotations

import sympy

from tensorprog.program.affine import Affine, Bound, Range
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.recursion import Clause, Condition, Node, Read, Recursion, Table
from tensorprog.theorem.tangent import is_tangent, primal_key
from tensorprog.theorem.views import closed
from tensorprog.theorem.views.selection import Selection, primed, select, sided

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


class MaxOver(sympy.Function):
    """The largest value of the first argument while the second runs from the third to the fourth."""

    nargs = 4


class MinOver(sympy.Function):
    """The least value of the first argument while the second runs from the third to the fourth."""

    nargs = 4


def equations(recursion: Recursion, get: str = "nngp") -> list[sympy.Eq]:
    """An equation to a clause, in the order of computation; tables of one run come for both runs.

    An index that is free in an equation runs over its range, which JSON and text show. Real parameters are symbols
    under their names, sizes of the second run end in p. Raises ProgramError where there is no NTK, ValueError for
    another `get`.
    """
    selection = select(recursion, get, everything=True)
    result = []
    for table in (*selection.nngp, *selection.ntk):
        if table.key.kind == ir.GRAM:
            continue
        sides = (None,) if table.key.stream == "cross" else ("left", "right")
        result += [_Writer(selection).equation(table, c, side) for c in table.clauses for side in sides]
    return result


class _Writer:
    def __init__(self, selection: Selection):
        self.selection = selection
        self.primitives = dict(selection.tangents.primitives) if selection.tangents else {}
        self.sizes = selection.names.program.open_sizes

    def equation(self, table: Table, clause: Clause, side: str | None) -> sympy.Eq:
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
            total += c * _index(s)
        return total

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
            parts.append(sympy.Eq(e, 0) if c.op == "eq" else sympy.Ge(e, 0))
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
                return self.entry(self.selection.tables[key], indices, side)
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


def _index(name: str) -> sympy.Symbol:
    return sympy.Symbol(name.replace("'", "p"), integer=True)
