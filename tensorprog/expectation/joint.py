"""Plans for E f(z_1, ..., z_a) g(w_1, ..., w_b).

The product is expanded into terms. In each, variables that stand as powers are removed by Stein's lemma, what is left
is split into independent groups by the structural zeros of the covariance, and a group of one or two variables, each
in a function of its own, goes to `plan_mean` or `plan_pair`. A larger group is, in this order,

- a sum of orthant moments, for functions that are piecewise linear on cones, as relu(z + c·relu(u)) (`cones`);
- a Hermite expansion in several variables, for smooth functions;
- an expectation over two variables (u, t) that are independent of the others, of the plan for the others given u, t;
- product quadrature, for smooth functions of three variables and less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import networkx
import sympy

from tensorprog import functions
from tensorprog.expectation.cones import Piece, pieces
from tensorprog.expectation.emit import several_source, tuple_code
from tensorprog.expectation.pairs import plan_mean, plan_pair, plan_quick_pair
from tensorprog.expectation.plan import MeanPlan, Plan, Scalars

MOST_DEGREE = 8
MOST_TERMS = 64
MOST_VARIABLES = 3


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
    variance: float = math.inf
    """The variance up to which the accuracy holds."""

    def call(
        self,
        cov: Mapping[tuple[int, int], str],
        means: Sequence[str | None] | None = None,
        scalars_f: Scalars | None = None,
        scalars_g: Scalars | None = None,
    ) -> str:
        """JAX source of the value, given the source of the arrays."""
        return self._call(cov, means, scalars_f or {}, scalars_g or {})


class NoRule(ValueError):
    """No rule gives the expectation accurately."""


class _TooHard(Exception):
    """The term needs another rule."""


Factors = dict[tuple[int, ...], sympy.Expr]
"""A product: for each set of variables the factor that depends on just these."""


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
    (i, j), i < j, that are known to be uncorrelated, and (i, i) of a variable that is its mean. Other Symbols are
    scalars, each side with its own values. Raises NoRule where none is accurate: more than three variables would
    have to be integrated over at once, or fewer with kinks.
    """
    variables = [sympy.Dummy(f"x{i}", real=True) for i in range(len(zs) + len(ws))]
    left = sympy.sympify(f).xreplace(dict(zip(zs, variables, strict=False)))
    right = sympy.sympify(g).xreplace(dict(zip(ws, variables[len(zs) :], strict=False)))
    apart = [
        {s: sympy.Symbol(f"{s.name}_{end}", real=True) for s in sorted(e.free_symbols - set(variables), key=str)}
        for e, end in ((left, "l"), (right, "r"))
    ]
    sides = [e.xreplace(names) for e, names in zip((left, right), apart, strict=True)]

    def solved(parts: Sequence[sympy.Expr], prefix: str) -> tuple[_Task, Terms]:
        task = _Task(variables, len(zs), tuple(means or (False,) * len(variables)), frozenset(zeros), prefix)
        constants = {x: task.means[i] for i, x in enumerate(variables) if (i, i) in zeros}
        return task, task.solve([e.xreplace(constants) for e in parts])

    first = solved(sides, prefix)
    slopes = {
        (i, j): solved([f_, g_], f"{prefix}_{i}_{j}")
        for (i, j), f_, g_ in _constant_slopes(sides, variables, len(zs), zeros)
    }

    def call(cov, mean_codes, scalars_f, scalars_g):
        codes = {}
        for names, given in zip(apart, (scalars_f, scalars_g), strict=True):
            codes.update({names[symbol]: code for symbol, code in given.items() if symbol in names})
        mean_codes = mean_codes or [None] * len(variables)
        written = [first[0].code(first[1], cov, mean_codes, codes)]
        # Zero in value: the covariance of constants has a derivative between two copies of them.
        written += [f"{cov[key]} * {t.code(terms, cov, mean_codes, codes)}" for key, (t, terms) in slopes.items()]
        return written[0] if len(written) == 1 else f"({' + '.join(written)})"

    return _joint_plan([first, *slopes.values()], call)


def _constant_slopes(sides, variables, left_count: int, zeros):
    """(i, j), ∂f/∂z_i, ∂g/∂w_j for the variables that are constants but may be correlated between the sides."""
    constants = [i for i in range(len(variables)) if (i, i) in zeros]
    for i in constants:
        for j in constants:
            if i < left_count <= j and (i, j) not in zeros:
                x, y = variables[i], variables[j]
                if min(_smoothness(sides[0], [x]), _smoothness(sides[1], [y])) >= 0:
                    slopes = sides[0].diff(x), sides[1].diff(y)
                    if 0 not in slopes:
                        yield (i, j), *slopes


def _joint_plan(solved, call) -> JointPlan:
    """The plan of some tasks with their terms."""
    terms = [t for _, own in solved for t in own]
    definitions = tuple(d for task, _ in solved for d in task.definitions)
    rules = sorted({block.rule for _, group in terms for block in group})
    accuracies = sorted({block.accuracy for _, group in terms for block in group})
    runtime = {name for _, group in terms for block in group for name in block.runtime}
    if any(coefficient.has(sympy.Function("reciprocal")) for coefficient, _ in terms):
        runtime.add("shapes")
    name = "; ".join(rules) if rules else "polynomial"
    variance = min((block.variance for _, group in terms for block in group), default=math.inf)
    return JointPlan(name, "; ".join(accuracies) or "rounding", definitions, tuple(sorted(runtime)), call, variance)


Write = Callable[[sympy.Expr], str]
"""The source of an expression in covariances, means and scalars."""


@dataclass(frozen=True)
class _Block:
    """An expectation over some of the variables, and how to write it."""

    rule: str
    accuracy: str
    runtime: tuple[str, ...]
    code: Callable[[Write], str]
    variance: float = math.inf
    """The variance up to which its accuracy holds."""


Terms = list[tuple[sympy.Expr, list[_Block]]]


class _Task:
    """One call of plan_joint: its variables, and the definitions made so far.

    `quick` is set where the expectation is taken at every node of another quadrature, over two outer variables.
    """

    def __init__(self, variables, left_count, means, zeros, prefix, quick=False):
        self.variables = list(variables)
        self.sides = [int(i >= left_count) for i in range(len(variables))]
        self.zeros, self.prefix, self.quick = zeros, prefix, quick
        self.covariances: dict[tuple[int, int], sympy.Expr] = {}
        self.means = [sympy.Dummy(f"m{i}", real=True) if m else sympy.Integer(0) for i, m in enumerate(means)]
        self.mean_symbols = list(self.means)
        self.entries: dict[tuple[int, int], sympy.Symbol] = {}
        self.definitions: list[str] = []
        self.made: dict[tuple, Plan | MeanPlan] = {}
        self.count = 0

    def solve(self, parts: Sequence[sympy.Expr]) -> Terms:
        """The expectation of the product of both sides as a sum of coefficients times blocks."""
        try:
            return [(coefficient, self.blocks(factors)) for coefficient, factors in self.expand(parts)]
        except _TooHard:
            # not torn into terms, it may still be had at once
            self.definitions, self.made = [], {}
            group = tuple(i for i, x in enumerate(self.variables) if any(x in e.free_symbols for e in parts))
            return [(sympy.Integer(1), [self.hard(group, list(parts), last=True)])]

    def covariance(self, i: int, j: int) -> sympy.Expr:
        i, j = min(i, j), max(i, j)
        if (i, j) in self.zeros:
            return sympy.Integer(0)
        if (i, j) not in self.covariances:
            self.entries[i, j] = self.covariances[i, j] = sympy.Dummy(f"cov{i}{j}", real=True)
        return self.covariances[i, j]

    def expand(self, parts: Sequence[sympy.Expr]) -> list[tuple[sympy.Expr, Factors]]:
        """Terms coefficient · product of functions, none of them a bare power.

        Each side is multiplied out by itself: sympy would join exponentials and denominators of both sides.
        """
        sides = [
            [
                self._split(t)
                for t in sympy.Add.make_args(sympy.expand(e, power_base=False, power_exp=False, log=False, func=False))
            ]
            for e in parts
        ]
        todo = [(a * b, {**left, **right}) for a, left in sides[0] for b, right in sides[1]]
        done: dict[tuple, sympy.Expr] = {}
        while todo:
            coefficient, factors = todo.pop()
            if coefficient == 0:
                continue
            power = next(
                (k for k in sorted(factors) if len(k) == 1 and factors[k].is_polynomial(self.variables[k[0]])), None
            )
            if power is None:
                key = tuple(sorted(factors.items(), key=str))
                done[key] = done.get(key, sympy.Integer(0)) + coefficient
            else:
                todo += self._stein(coefficient, factors, power[0])
            if len(todo) + len(done) > MOST_TERMS:
                raise _TooHard
        return [(coefficient, dict(key)) for key, coefficient in done.items()]

    def _split(self, term) -> tuple[sympy.Expr, Factors]:
        coefficient: sympy.Expr = sympy.Integer(1)
        factors: Factors = {}
        for factor in sympy.Mul.make_args(term):
            used = tuple(i for i, x in enumerate(self.variables) if x in factor.free_symbols)
            if used:
                factors[used] = factors.get(used, sympy.Integer(1)) * factor
            else:
                coefficient *= factor
        return coefficient, factors

    def _stein(self, coefficient, factors: Factors, i):
        """E x_i R = mean·E R + sum over j of Cov_ij E dR/dx_j."""
        x = self.variables[i]
        if sympy.degree(factors[i,], x) > MOST_DEGREE:
            raise _TooHard
        rest = {key: factor for key, factor in factors.items() if key != (i,)}
        terms = []
        for (power,), number in sympy.Poly(factors[i,], x).terms():
            if power == 0:
                terms.append((coefficient * number, rest))
                continue
            lower = {**rest, (i,): x ** (power - 1)} if power > 1 else rest
            terms.append((coefficient * number * self.means[i], lower))
            for key, factor in lower.items():
                for j in key:
                    covariance = self.covariance(i, j)
                    if covariance == 0:
                        continue
                    other = {m: e for m, e in lower.items() if m != key}
                    for number_, factors_ in self._derivative(factor, key, j, other):
                        terms.append((coefficient * number * covariance * number_, factors_))
        return terms

    def _derivative(self, factor, key, j, rest: Factors):
        """Terms of E dF/dx_j R, R the rest.

        Where F(x_j) jumps, its delta is had from Stein's lemma read backwards:
        Var_j E F' R = E (x_j - mean_j) F R - sum over i of Cov_ij E F dR/dx_i.
        """
        x = self.variables[j]
        if len(key) > 1:
            if _smoothness(factor, [x]) < 0:
                raise _TooHard
            return [self._times(self._split(term), rest) for term in sympy.Add.make_args(sympy.expand(factor.diff(x)))]
        if factor.is_polynomial(x) or functions.facts(factor, x).continuity >= 0:
            slope = factor.diff(x)
            return [(slope, rest)] if not slope.has(x) else [(sympy.Integer(1), {**rest, key: slope})]
        if any(len(k) > 1 or functions.facts(e, self.variables[k[0]]).continuity < 0 for k, e in rest.items()):
            raise _TooHard
        scale = sympy.Function("reciprocal")(self.covariance(j, j))
        terms = [(scale, {**rest, key: (x - self.means[j]) * factor})]
        for k, e in rest.items():
            (i,) = k
            slope = e.diff(self.variables[i])
            left = {m: part for m, part in rest.items() if m != k}
            if slope.has(self.variables[i]):
                terms.append((-scale * self.covariance(i, j), {**left, k: slope, key: factor}))
            else:
                terms.append((-scale * self.covariance(i, j) * slope, {**left, key: factor}))
        return terms

    @staticmethod
    def _times(term, rest: Factors):
        coefficient, factors = term
        merged = dict(rest)
        for key, factor in factors.items():
            merged[key] = merged.get(key, sympy.Integer(1)) * factor
        return coefficient, merged

    def blocks(self, factors: Factors) -> list[_Block]:
        """Independent groups of variables, each with its rule."""
        factors = self._merged(factors)
        graph = networkx.Graph()
        for key in factors:
            networkx.add_path(graph, key) if len(key) > 1 else graph.add_node(key[0])
        graph.add_edges_from((i, j) for i in graph for j in graph if i < j and self.covariance(i, j) != 0)
        found = []
        for group in sorted(tuple(sorted(group)) for group in networkx.connected_components(graph)):
            own = {key: e for key, e in factors.items() if key[0] in group}
            if len(group) <= 2 and all(len(key) == 1 for key in own):
                found.append(self._simple(group, [own[i,] for i in group]))
            else:
                parts: list[sympy.Expr] = [sympy.Integer(1), sympy.Integer(1)]
                for key, e in own.items():
                    parts[self.sides[key[0]]] *= e
                found.append(self.hard(group, parts))
        return found

    def _merged(self, factors: Factors) -> Factors:
        """Factors of several variables that only depend on a sum of them: as functions of the sum."""
        result: Factors = {}
        for key, e in factors.items():
            alone = len(key) > 1 and all(k == key or not set(k) & set(key) for k in factors)
            form = _common_form(e, [self.variables[i] for i in key]) if alone else None
            if form is None:
                result[key] = e
                continue
            coefficients, whole, function = form
            result[self._sum(whole, key, coefficients),] = function
        return result

    def _sum(self, symbol, key, coefficients) -> int:
        """A new variable: the sum of coefficients times variables."""
        new = len(self.variables)
        pairs = list(zip(key, coefficients, strict=True))
        for j in range(new):
            self.covariances[j, new] = sympy.Add(*(a * self.covariance(i, j) for i, a in pairs))
        self.covariances[new, new] = sympy.Add(*(a * b * self.covariance(i, j) for i, a in pairs for j, b in pairs))
        self.means.append(sympy.Add(*(a * self.means[i] for i, a in pairs)))
        self.variables.append(symbol)
        self.sides.append(self.sides[key[0]])
        return new

    def name(self) -> str:
        """A name for what is defined next."""
        self.count += 1
        return f"{self.prefix}_{self.count}"

    def _simple(self, group, parts) -> _Block:
        """One or two variables, each in a function of its own."""
        x, y = sympy.Symbol("x", real=True), sympy.Symbol("y", real=True)
        parts = [e.xreplace({self.variables[i]: s}) for i, e, s in zip(group, parts, (x, y), strict=False)]
        has_mean = [self.means[i] != 0 for i in group]
        scalars = sorted(set().union(*(e.free_symbols for e in parts)) - {x, y}, key=str)
        key = (tuple(parts), tuple(has_mean))
        if key not in self.made:
            made: Plan | MeanPlan
            if len(group) == 1:
                made = plan_mean(parts[0], x, mean=has_mean[0], prefix=self.name())
            elif self.quick:
                made = plan_quick_pair(parts[0], parts[1], x, y, (has_mean[0], has_mean[1]), self.name())
            else:
                made = plan_pair(parts[0], parts[1], x, y, mean_f=has_mean[0], mean_g=has_mean[1], prefix=self.name())
            self.made[key] = made
            self.definitions += made.definitions
        plan = self.made[key]

        def code(write):
            own = {s: write(s) for s in scalars}
            means = [write(self.means[i]) if self.means[i] != 0 else None for i in group]
            variances = [write(self.covariance(i, i)) for i in group]
            if isinstance(plan, MeanPlan):
                return plan.call(variances[0], means[0], own).join(("(", ")"))
            k = write(self.covariance(*group))
            return plan.call(k, variances[0], variances[1], means[0], means[1], own, own).join(("(", ")"))

        return _Block(plan.rule, plan.accuracy, plan.runtime, code)

    # Groups of several variables.

    def hard(self, group: tuple[int, ...], parts: list[sympy.Expr], last: bool = False) -> _Block:
        """An expectation over a group of variables; `last` where it is the whole that is asked for."""
        smooth = all(_smoothness(e, [self.variables[i] for i in group]) == functions.analysis.SMOOTH for e in parts)
        block = self._product(group, parts) if smooth else self._cones(group, parts)
        if block is None and not self.quick:
            block = self._conditional(group, parts)
        if block is None and not last:
            raise _TooHard
        return block or self._quadrature(group, parts)

    def _cones(self, group, parts) -> _Block | None:
        if any(self.means[i] != 0 for i in group):
            return None
        variables = {i: self.variables[i] for i in group}
        found = [pieces(e, {i: x for i, x in variables.items() if self.sides[i] == n}) for n, e in enumerate(parts)]
        if found[0] is None or found[1] is None:
            return None
        sums: dict[str, dict[tuple, sympy.Expr]] = {}
        for a in found[0]:
            for b in found[1]:
                name, factor, covariance = self._cone(a, b)
                terms = sums.setdefault(name, {})
                terms[covariance] = terms.get(covariance, sympy.Integer(0)) + factor
        accuracy = "1e-10 (float64), 1e-6 in float32; with jumps 1e-7 and 1e-4 next to correlation +-1"

        def code(write):
            written = []
            for name, terms in sums.items():
                entries = tuple_code(tuple_code(map(write, column)) for column in zip(*terms, strict=True))
                written.append(f"cone_sum({name}, {tuple_code(map(write, terms.values()))}, {entries})")
            return f"({' + '.join(written) or '0.0'})"

        return _Block("orthant moments", accuracy, ("cone",), code)

    def _cone(self, a: Piece, b: Piece) -> tuple[str, sympy.Expr, tuple]:
        """The runtime function, its factor and its arguments."""
        if (a.kind, b.kind) == ("step", "relu"):
            a, b = b, a
        # a missing step is one of a variable that is zero, where step is 1/2
        forms = [*a.forms, *[{}] * (2 - len(a.forms)), *b.forms, *[{}] * (2 - len(b.forms))]
        covariance = tuple(
            sympy.Add(*(x * y * self.covariance(m, n) for m, x in forms[i].items() for n, y in forms[j].items()))
            for i in range(4)
            for j in range(i, 4)
        )
        scale = 2 ** sum(not form for form in forms)
        return f"cone_{a.kind}_{b.kind}", scale * a.coefficient * b.coefficient, covariance

    def _product(self, group, parts) -> _Block | None:
        own = [[i for i in group if self.sides[i] == n] for n in (0, 1)]
        if max(map(len, own)) > 3:
            return None
        related = {i: [j for j in group if j != i and self.covariance(i, j) != 0] for i in group}
        paired = all(len(r) <= 1 and all(self.sides[j] != self.sides[i] for j in r) for i, r in related.items())
        order = own[0] + own[1]
        few = "1e-9 for variances up to 3, 1e-7 up to 10"
        if paired:
            partners = tuple(order.index(related[i][0]) if related[i] else None for i in order)
            digits = few if max(map(len, own)) < 3 else "1e-6 for variances up to 1"
        elif self.quick:
            return None
        else:
            partners = (None,) * len(order)
            digits = "1e-8 for variances up to 1" if max(map(len, own)) < 3 else "1e-5 for variances up to 1"
        rule = "paired_rule" if paired else "rotated_rule"
        prefix, names = self.name(), []
        scalars = []
        for n, end in enumerate(("left", "right")):
            names.append(f"{prefix}_{end}")
            variables = [self.variables[i] for i in own[n]]
            scalars.append(sorted(parts[n].free_symbols - set(variables), key=str))
            self.definitions.append(several_source(names[-1], parts[n], variables, scalars[-1]))

        def code(write):
            entries = tuple_code(write(self.covariance(i, j)) for a, i in enumerate(order) for j in order[a:])
            means = tuple_code(write(self.means[i]) for i in order)
            values = tuple_code(tuple_code(write(s) for s in side) for side in scalars)
            count = (len(own[0]), len(own[1]))
            return f"gaussian_product({rule}, {count}, {partners}, {', '.join(names)}, {entries}, {means}, {values})"

        accuracy, holds = f"{digits} (float64); 1e-5 in float32", 10.0 if digits == few else 1.0
        title = f"Hermite expansion in {len(own[0])} + {len(own[1])} variables"
        return _Block(title, accuracy, ("mehler",), code, holds)

    def _conditional(self, group, parts) -> _Block | None:
        """The expectation over one or two variables that are independent of all others, of that over the others."""
        own = [[i for i in group if self.sides[i] == n] for n in (0, 1)]
        pairs = [(u, t) for u in own[0] for t in own[1]] + [(u,) for u in (*own[0], *own[1])]
        before, best = self.definitions, None
        for outer in pairs:
            rest = [i for i in group if i not in outer]
            if rest and not any(self.covariance(i, j) != 0 for i in outer for j in rest):
                self.definitions = list(before)
                found = self._given(outer, rest, parts)
                if found is not None and (best is None or found[0] < best[0]):
                    best = (*found, self.definitions)
        if best is None:
            self.definitions = before
            return None
        _, block, self.definitions = best
        return block

    def _given(self, outer, rest, parts) -> tuple[int, _Block] | None:
        """What the rule costs, in steps, and the rule."""
        symbols = [sympy.Symbol(name, real=True) for name in ("u", "t")][: len(outer)]
        swap = {self.variables[i]: s for i, s in zip(outer, symbols, strict=True)}
        by_side = {self.sides[i]: s for i, s in zip(outer, symbols, strict=True)}
        inner_left = [i for i in rest if self.sides[i] == 0]
        inner_right = [i for i in rest if self.sides[i] == 1]
        order = inner_left + inner_right
        given = [e.xreplace(swap) for e in parts]
        shifts: dict[int, sympy.Expr] = {}
        places: dict[sympy.Symbol, list] = {s: [] for s in symbols}
        levels = {s: functions.analysis.SMOOTH for s in symbols}
        for n, s in by_side.items():
            inside = [self.variables[i] for i in rest if self.sides[i] == n]
            found = [given[n]]
            if len(inside) == 1:
                moved = _shifted(given[n], inside[0], s)
                if moved is not None:
                    given[n], shift = moved
                    found = [given[n], shift]
                    shifts[next(i for i in rest if self.variables[i] == inside[0])] = shift
            for e in found:
                facts = [
                    functions.facts(e.xreplace({x: sympy.Rational(a + 3 * m, 7) for m, x in enumerate(inside)}), s)
                    for a in (2, -3)
                ]
                if not all(f.located for f in facts):
                    return None
                # kinks that move with the inner variables are smoothed out by the inner expectation
                common = set.intersection(*(set(f.kinks + f.jumps) for f in facts))
                places[s] += sorted(common, key=str)
                if any(set(f.jumps) & common for f in facts):
                    levels[s] = -1
                elif common:
                    levels[s] = min(levels[s], *(f.continuity if f.continuity >= 0 else 0 for f in facts))
        inner = _Task(
            [self.variables[i] for i in order],
            len(inner_left),
            [self.means[i] != 0 or i in shifts for i in order],
            frozenset((a, b) for a in range(len(order)) for b in range(a + 1, len(order))
                      if self.covariance(order[a], order[b]) == 0),
            f"{self.prefix}_given",
            quick=True,
        )  # fmt: skip
        try:
            blocks = [(a, inner.blocks(factors)) for a, factors in inner.expand(given)]
        except _TooHard:
            return None
        plan = _joint_plan([(inner, blocks)], None)
        # what the inner expectation is a function of, besides the outer variables
        keys = [(a, b) for a in range(len(order)) for b in range(a, len(order)) if (a, b) not in inner.zeros]
        with_mean = [a for a, i in enumerate(order) if self.means[i] != 0]
        scalars = sorted(set().union(*(e.free_symbols for e in (*given, *shifts.values())))
                         - set(symbols) - {self.variables[i] for i in rest}, key=str)  # fmt: skip
        parameters = [*(f"cov{a}{b}" for a, b in keys), *(f"mean{a}" for a in with_mean)]
        names = {s: f"scalar{n}" for n, s in enumerate(scalars)}
        arguments = [s.name for s in symbols] + parameters + list(names.values())
        codes = {**names, **{s: s.name for s in symbols}}
        means = []
        for a, i in enumerate(order):
            known = [f"mean{a}"] if a in with_mean else []
            if i in shifts:
                known.append(functions.jax_code(shifts[i], codes))
            means.append(" + ".join(known) or None)
        body = inner.code(blocks, {(a, b): f"cov{a}{b}" for a, b in keys}, means, codes)
        zero = " + ".join(f"0 * {s.name}" for s in symbols)
        name = self.name()
        self.definitions += [*plan.definitions, f"def {name}({', '.join(arguments)}):\n    return {body} + {zero}\n"]
        kinks = [list(dict.fromkeys(places[s])) for s in symbols]
        centred = all(self.means[i] == 0 for i in outer)
        order_code = tuple(levels[s] for s in symbols)
        own_names = {**codes, **names}
        kink_names = [f"{name}_kinks_{s.name}" for s in symbols]

        def define_kinks():
            for kink_name, found in zip(kink_names, kinks, strict=True):
                values = tuple_code(functions.jax_code(place, own_names) for place in found or [sympy.Integer(0)])
                header = ", ".join([*parameters, *names.values(), "*_"])
                self.definitions.append(f"def {kink_name}({header}):\n    return {values}\n")

        if len(outer) == 1:
            digits, module = "1e-9", "mean"
            if any(kinks):
                define_kinks()
                rule, title = f"split_mean({kink_names[0]})", "split quadrature"
            else:
                rule, title = "trapezoid_mean", "trapezoidal rule"
        elif not any(kinks):
            rule, title, module, digits = "plane_outer", "trapezoidal rule in two dimensions", "conditional", "1e-8"
        elif centred and all(place == 0 for found in kinks for place in found):
            rule, title, module, digits = "polar_outer", "polar quadrature", "conditional", "1e-8"
        else:
            define_kinks()
            rule = f"split_outer({', '.join(kink_names)})"
            title, module, digits = "split quadrature", "conditional", "1e-7"
        accuracy = f"{digits} for variances up to 1, 1e-5 up to 5 (float64); 1e-5, 1e-4 in float32"
        if len(order) > 1 and len(outer) > 1:
            accuracy += "; 1e-4 where the inner correlation is near +-1 and the outer one is not"

        def code(write):
            values = [write(self.covariance(order[a], order[b])) for a, b in keys]
            values += [write(self.means[order[a]]) for a in with_mean] + [write(s) for s in scalars]
            variances = [write(self.covariance(i, i)) for i in outer]
            centres = [write(self.means[i]) for i in outer]
            if len(outer) == 1:
                known = f"{rule}, {order_code[0]}, {name}, {variances[0]}, {centres[0]}"
                return f"gaussian_mean({known}, {tuple_code(values)})"
            known = ", ".join([f"{rule}, {order_code}, {name}", write(self.covariance(*outer)), *variances, *centres])
            return f"gaussian_outer({known}, {tuple_code(values)})"

        cost = (3 if "quadrature" in plan.rule else 2 if "Hermite" in plan.rule else 0) + ("split" in title)
        title = f"{title} over {plan.rule}"
        runtime = (module, "split", *plan.runtime)
        return cost, _Block(title, f"{accuracy}; inside {plan.accuracy}", runtime, code, min(5.0, plan.variance))

    def _quadrature(self, group, parts) -> _Block:
        size = len(group)
        own = [[self.variables[i] for i in group if self.sides[i] == n] for n in (0, 1)]
        levels = [_smoothness(part, variables) for part, variables in zip(parts, own, strict=True)]
        if size > MOST_VARIABLES or min(levels) < functions.analysis.SMOOTH:
            raise NoRule(f"no rule is accurate for an expectation over {size} Gaussians at once")
        order = tuple((self.sides[i], levels[self.sides[i]]) for i in group)
        variables = [self.variables[i] for i in group]
        scalars = sorted((parts[0] * parts[1]).free_symbols - set(variables), key=str)
        self.definitions.append(several_source(self.prefix, parts[0], variables, scalars, parts[1]))
        accuracy = f"about {'1e-6' if size == 3 else '1e-8'} for variances up to 1"

        def code(write):
            entries = tuple_code(write(self.covariance(i, j)) for a, i in enumerate(group) for j in group[a:])
            values = tuple_code(write(s) for s in scalars)
            means = tuple_code(write(self.means[i]) for i in group)
            return f"gaussian_joint({self.prefix}, {order}, {entries}, {means}, {values})"

        return _Block(f"product quadrature in {size} dimensions", accuracy, ("joint",), code, 1.0)

    def code(self, terms: Terms, cov, mean_codes, scalar_codes) -> str:
        """The source of the sum."""
        names = dict(scalar_codes)
        for symbol, code in zip(self.mean_symbols, mean_codes, strict=True):
            if symbol != 0:
                names[symbol] = code or "0.0"

        def write(expr):
            # entries that only now are asked for have just got their symbols
            names.update({symbol: cov.get(key, "0.0") for key, symbol in self.entries.items() if symbol not in names})
            missing = [s.name for s in expr.free_symbols if s not in names]
            if missing:
                raise ValueError(f"no code is given for the scalars {', '.join(sorted(missing))}")
            return "0.0" if expr == 0 else names[expr] if expr in names else functions.jax_code(expr, names)

        written = []
        for coefficient, group in terms:
            pieces_ = [] if coefficient == 1 and group else [f"({write(coefficient)})"]
            written.append(" * ".join(pieces_ + [block.code(write) for block in group]))
        return f"({' + '.join(written)})" if written else "0.0"


def _common_form(expr, variables):
    """(coefficients, their sum's symbol, expr as a function of it) if expr only depends on such a sum, or None."""
    for part in sympy.preorder_traversal(expr):
        if not part.is_Function:
            continue
        for argument in part.args:
            if not argument.is_polynomial(*variables):
                continue
            polynomial = sympy.Poly(argument, *variables)
            coefficients = [polynomial.coeff_monomial(x) for x in variables]
            if polynomial.total_degree() != 1 or sympy.Integer(0) in coefficients:
                continue
            rest = sympy.Add(*(a * x for a, x in zip(coefficients[1:], variables[1:], strict=True)))
            whole = sympy.Dummy("sum", real=True)
            replaced = _expand_arguments(expr.xreplace({variables[0]: (whole - rest) / coefficients[0]}))
            return None if replaced.free_symbols & set(variables) else (coefficients, whole, replaced)
    return None


def _shifted(expr, z, u):
    """(h, m) with expr = h(z + m(u)), h possibly depending on u otherwise; None where z and u are not so mixed."""
    for part in sympy.preorder_traversal(expr):
        if not part.is_Function or not {z, u} <= part.free_symbols:
            continue
        for argument in part.args:
            argument = sympy.expand(argument)
            if u not in argument.free_symbols or not argument.is_polynomial(z) or sympy.degree(argument, z) != 1:
                continue
            slope, rest = sympy.Poly(argument, z).all_coeffs()
            if u in slope.free_symbols:
                continue
            shift = sympy.expand(rest.as_independent(u, as_Add=True)[1] / slope)
            moved = _expand_arguments(expr.xreplace({z: z - shift}))
            mixed = [p for p in sympy.preorder_traversal(moved) if p.is_Function and {z, u} <= p.free_symbols]
            return (moved, shift) if not mixed else None
    return None


def _expand_arguments(expr):
    return expr.replace(lambda p: p.is_Function, lambda p: p.func(*map(sympy.expand, p.args)))


def _smoothness(expr, variables) -> int:
    """How often the expression can be differentiated before it jumps: that of its worst part in any one variable."""
    return min(
        (
            functions.facts(expr.subs({y: sympy.Rational(3, 7) for y in variables if y != x}), x).continuity
            for x in variables
        ),
        default=functions.analysis.SMOOTH,
    )
