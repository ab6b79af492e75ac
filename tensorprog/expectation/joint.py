"""Plans for E f(z_1, ..., z_a) g(w_1, ..., w_b).

The product is expanded into terms. In each, variables that stand as powers are removed by Stein's lemma, what is left
is split into independent groups by the structural zeros of the covariance, and a group of one or two variables, each
in a function of its own, goes to `plan_mean` or `plan_pair`. Only what resists is computed by product quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import networkx
import sympy

from tensorprog import functions
from tensorprog.expectation.emit import scalar_tuple
from tensorprog.expectation.pairs import plan_mean, plan_pair
from tensorprog.expectation.plan import Scalars, Side

MOST_DEGREE = 8
MOST_TERMS = 64


@dataclass(frozen=True)
class JointPlan:
    """How E f(z...) g(w...) is computed; `call(cov, means, scalars_f, scalars_g)` gives the JAX source.

    cov[i, j], i <= j, is the source of the covariance of the variables i and j of (*zs, *ws); structural zeros may be
    missing. The arrays broadcast to the shape of the result. means has a source or None for each variable.
    """

    rule: str
    accuracy: str
    definitions: tuple[str, ...]
    runtime: tuple[str, ...]
    _call: Callable[..., str]

    def call(
        self,
        cov: Mapping[tuple[int, int], str],
        means: Sequence[str | None] | None = None,
        scalars_f: Scalars | None = None,
        scalars_g: Scalars | None = None,
    ) -> str:
        """JAX source of the value, given the source of the arrays."""
        return self._call(cov, means, scalars_f or {}, scalars_g or {})


class _TooHard(Exception):
    """The term needs quadrature."""


def plan_joint(
    f: sympy.Expr,
    g: sympy.Expr,
    zs: Sequence[sympy.Symbol],
    ws: Sequence[sympy.Symbol],
    *,
    means: Sequence[bool] | None = None,
    zeros: Collection[tuple[int, int]] = (),
    prefix: str = "phi",
) -> JointPlan:
    """How to compute E f(z_1, ..., z_a) g(w_1, ..., w_b) for jointly Gaussian variables, also with singular covariance.

    Variables are numbered through (*zs, *ws). `means[i]` tells whether the i-th can have a mean, `zeros` holds pairs
    (i, j), i < j, that are known to be uncorrelated. Other Symbols are scalars, each side with its own values. Raises
    ValueError where more than six variables would have to be integrated over at once.
    """
    variables = [sympy.Dummy(f"x{i}", real=True) for i in range(len(zs) + len(ws))]
    left = sympy.sympify(f).xreplace(dict(zip(zs, variables, strict=False)))
    right = sympy.sympify(g).xreplace(dict(zip(ws, variables[len(zs) :], strict=False)))
    sides = [Side(e, None, tuple(sorted(e.free_symbols - set(variables), key=str)), False) for e in (left, right)]
    apart = [
        {s: sympy.Symbol(f"{s.name}_{end}", real=True) for s in side.scalars}
        for side, end in zip(sides, "lr", strict=True)
    ]
    task = _Task(variables, tuple(means or (False,) * len(variables)), frozenset(zeros), prefix)
    parts = [e.xreplace(names) for e, names in zip((left, right), apart, strict=True)]
    try:
        terms = task.expand(sympy.expand(parts[0] * parts[1], power_base=False, power_exp=False, log=False, func=False))
        blocks = [task.blocks(functions_) for _, functions_ in terms]
    except _TooHard:
        task.clear()
        terms, blocks = [(sympy.Integer(1), {})], [[task.quadrature(parts, len(zs))]]

    def call(cov, mean_codes, scalars_f, scalars_g):
        codes = {}
        for names, given in zip(apart, (scalars_f, scalars_g), strict=True):
            codes.update({names[symbol]: code for symbol, code in given.items() if symbol in names})
        return task.code(terms, blocks, cov, mean_codes or [None] * len(variables), codes)

    rules = sorted({block.plan.rule for group in blocks for block in group})
    accuracies = sorted({block.plan.accuracy for group in blocks for block in group})
    runtime = {name for group in blocks for block in group for name in block.plan.runtime}
    if any(coefficient.has(sympy.Function("reciprocal")) for coefficient, _ in terms):
        runtime.add("shapes")
    name = "; ".join(rules) if rules else "polynomial"
    return JointPlan(name, "; ".join(accuracies) or "rounding", tuple(task.definitions), tuple(sorted(runtime)), call)


@dataclass(frozen=True)
class _Block:
    """An expectation over some of the variables, and how to write it."""

    plan: object
    variables: tuple[int, ...]
    scalars: tuple[sympy.Symbol, ...]


@dataclass(frozen=True)
class _Quadrature:
    rule: str
    accuracy: str
    runtime: tuple[str, ...]
    name: str
    order: tuple


class _Task:
    """One call of plan_joint: its variables, and the definitions made so far."""

    def __init__(self, variables, means, zeros, prefix):
        self.variables, self.means, self.zeros, self.prefix = variables, means, zeros, prefix
        self.covariances = {}
        self.mean_symbols = [sympy.Dummy(f"m{i}", real=True) if m else sympy.Integer(0) for i, m in enumerate(means)]
        self.clear()

    def clear(self):
        self.definitions: list[str] = []
        self.made: dict[tuple, object] = {}

    def covariance(self, i: int, j: int) -> sympy.Expr:
        i, j = min(i, j), max(i, j)
        if (i, j) in self.zeros:
            return sympy.Integer(0)
        return self.covariances.setdefault((i, j), sympy.Dummy(f"cov{i}{j}", real=True))

    def expand(self, expr) -> list[tuple[sympy.Expr, dict[int, sympy.Expr]]]:
        """Terms coefficient · product of functions of one variable each, none of them a bare power."""
        todo = [self._split(term) for term in sympy.Add.make_args(expr)]
        done: dict[tuple, sympy.Expr] = {}
        while todo:
            coefficient, factors = todo.pop()
            if coefficient == 0:
                continue
            power = next((i for i in sorted(factors) if factors[i].is_polynomial(self.variables[i])), None)
            if power is None:
                key = tuple(sorted(factors.items()))
                done[key] = done.get(key, 0) + coefficient
            else:
                todo += self._stein(coefficient, factors, power)
            if len(todo) + len(done) > MOST_TERMS:
                raise _TooHard
        return [(coefficient, dict(key)) for key, coefficient in done.items()]

    def _split(self, term):
        coefficient, factors = sympy.Integer(1), {}
        for factor in sympy.Mul.make_args(term):
            used = [i for i, x in enumerate(self.variables) if x in factor.free_symbols]
            if len(used) > 1:
                raise _TooHard
            if used:
                factors[used[0]] = factors.get(used[0], sympy.Integer(1)) * factor
            else:
                coefficient *= factor
        return coefficient, factors

    def _stein(self, coefficient, factors, i):
        """E x_i R = mean·E R + sum over j of Cov_ij E dR/dx_j."""
        x = self.variables[i]
        if sympy.degree(factors[i], x) > MOST_DEGREE:
            raise _TooHard
        rest = {j: factor for j, factor in factors.items() if j != i}
        terms = []
        for (power,), number in sympy.Poly(factors[i], x).terms():
            if power == 0:
                terms.append((coefficient * number, rest))
                continue
            lower = {**rest, i: x ** (power - 1)} if power > 1 else rest
            terms.append((coefficient * number * self.mean_symbols[i], lower))
            for j, factor in lower.items():
                covariance = self.covariance(i, j)
                if covariance == 0:
                    continue
                other = {m: e for m, e in lower.items() if m != j}
                for number_, factors_ in self._derivative(factor, j, other):
                    terms.append((coefficient * number * covariance * number_, factors_))
        return terms

    def _derivative(self, factor, j, rest):
        """Terms of E F'(x_j) R(the rest).

        Where F jumps, its delta is had from Stein's lemma read backwards:
        Var_j E F' R = E (x_j - mean_j) F R - sum over i of Cov_ij E F dR/dx_i.
        """
        x = self.variables[j]
        if factor.is_polynomial(x) or functions.facts(factor, x).continuity >= 0:
            slope = factor.diff(x)
            return [(slope, rest)] if not slope.has(x) else [(sympy.Integer(1), {**rest, j: slope})]
        if any(functions.facts(e, self.variables[i]).continuity < 0 for i, e in rest.items()):
            raise _TooHard
        scale = sympy.Function("reciprocal")(self.covariance(j, j))
        terms = [(scale, {**rest, j: (x - self.mean_symbols[j]) * factor})]
        for i, e in rest.items():
            slope = e.diff(self.variables[i])
            left = {m: part for m, part in rest.items() if m != i}
            if slope.has(self.variables[i]):
                terms.append((-scale * self.covariance(i, j), {**left, i: slope, j: factor}))
            else:
                terms.append((-scale * self.covariance(i, j) * slope, {**left, j: factor}))
        return terms

    def blocks(self, factors) -> list[_Block]:
        """Independent groups of variables, each with its plan."""
        graph = networkx.Graph()
        graph.add_nodes_from(factors)
        graph.add_edges_from((i, j) for i in factors for j in factors if i < j and (i, j) not in self.zeros)
        groups = sorted(tuple(sorted(group)) for group in networkx.connected_components(graph))
        return [self._block(group, [factors[i] for i in group]) for group in groups]

    def _block(self, group, parts) -> _Block:
        if len(group) > 2:
            raise _TooHard
        x, y = sympy.Symbol("x", real=True), sympy.Symbol("y", real=True)
        parts = [e.xreplace({self.variables[i]: s}) for i, e, s in zip(group, parts, (x, y), strict=False)]
        means = tuple(self.means[i] for i in group)
        scalars = tuple(sorted(set().union(*(e.free_symbols for e in parts)) - {x, y}, key=str))
        key = (tuple(parts), means)
        if key not in self.made:
            prefix = f"{self.prefix}_{len(self.made) + 1}"
            if len(group) == 1:
                plan = plan_mean(parts[0], x, mean=means[0], prefix=prefix)
            else:
                plan = plan_pair(*parts, x, y, mean_f=means[0], mean_g=means[1], prefix=prefix)
            self.made[key] = plan
            self.definitions += plan.definitions
        return _Block(self.made[key], group, scalars)

    def quadrature(self, parts, left_count) -> _Block:
        size = len(self.variables)
        if size > 6:
            raise ValueError(f"an expectation over {size} Gaussians at once is beyond product quadrature")
        order = []
        for side, (part, own) in enumerate(
            zip(parts, (self.variables[:left_count], self.variables[left_count:]), strict=True)
        ):
            order += [(side, _smoothness(part, own))] * len(own)
        names = {x: f"x{i}" for i, x in enumerate(self.variables)}
        scalars = tuple(sorted((parts[0] * parts[1]).free_symbols - set(names), key=str))
        arguments = [*names.values(), *(s.name for s in scalars)]
        body = " * ".join(f"({functions.jax_code(part, names)})" for part in parts)
        zero = " + ".join(f"0 * {name}" for name in names.values())
        self.definitions.append(f"def {self.prefix}({', '.join(arguments)}):\n    return {body} + {zero}\n")
        digits = {1: "1e-8", 2: "1e-8", 3: "1e-6", 4: "1e-4", 5: "1e-3", 6: "1e-2"}[size]
        accuracy = f"about {digits} for smooth functions and variances about 1; 1e-2 with kinks"
        plan = _Quadrature(f"product quadrature in {size} dimensions", accuracy, ("joint",), self.prefix, tuple(order))
        return _Block(plan, tuple(range(size)), scalars)

    def code(self, terms, blocks, cov, mean_codes, scalar_codes) -> str:
        def entry(i, j):
            i, j = min(i, j), max(i, j)
            return cov.get((i, j), "0.0")

        names = dict(scalar_codes)
        names.update({symbol: entry(i, j) for (i, j), symbol in self.covariances.items()})
        for symbol, code in zip(self.mean_symbols, mean_codes, strict=True):
            if symbol != 0:
                names[symbol] = code or "0.0"
        written = []
        for (coefficient, _), group in zip(terms, blocks, strict=True):
            pieces = [] if coefficient == 1 and group else [f"({functions.jax_code(coefficient, names)})"]
            pieces += [self._block_code(block, entry, mean_codes, scalar_codes) for block in group]
            written.append(" * ".join(pieces))
        return f"({' + '.join(written)})" if written else "0.0"

    def _block_code(self, block, entry, mean_codes, scalar_codes) -> str:
        plan = block.plan
        own = {s: scalar_codes[s] for s in block.scalars if s in scalar_codes}
        means = [mean_codes[i] if self.means[i] else None for i in block.variables]
        if isinstance(plan, _Quadrature):
            size = len(block.variables)
            entries = ", ".join(entry(i, j) for i in range(size) for j in range(i, size))
            side = Side(sympy.Integer(0), None, block.scalars, False)
            values = ", ".join(mean or "0.0" for mean in means)
            return f"gaussian_joint({plan.name}, {plan.order}, ({entries},), ({values},), {scalar_tuple(side, own)})"
        if len(block.variables) == 1:
            (i,) = block.variables
            return plan.call(entry(i, i), means[0], own).join(("(", ")"))
        i, j = block.variables
        return plan.call(entry(i, j), entry(i, i), entry(j, j), *means, own, own).join(("(", ")"))


def _smoothness(expr, variables) -> int:
    """How often the expression can be differentiated before it jumps: that of its worst part in any one variable."""
    return min(
        (
            functions.facts(expr.subs({y: sympy.Rational(3, 7) for y in variables if y != x}), x).continuity
            for x in variables
        ),
        default=functions.analysis.SMOOTH,
    )
