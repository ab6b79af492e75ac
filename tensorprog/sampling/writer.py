"""A program as Python source, member by member in the order of its text, for the paths of runtime/paths.py.

    for t = 1..T:                                       for t in range(1, T + 1):
        W_s[t] := MatMul(W, s[t-1])                         W_s[t] = path.product('W', (), s[t - 1])
        h[t] := LinComb(W_s[t] + U_x[t] + b)                h[t] = path.combine([(1, W_s[t]), (1, U_x[t]), (1, b)])
        s[t] := Nonlin(erf(h[t]))                           s[t] = path.apply(fn_s, (h[t],))

with `def fn_s(z1): return jax.lax.erf(z1)` before it. Loops are Python's: the source runs while JAX traces, or call by
call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import sympy

from tensorprog import expectation, functions
from tensorprog.backend.labelled import bound_source, integer
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine, Entry
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range, sizes_read_off
from tensorprog.language import syntax
from tensorprog.naming import identifier
from tensorprog.program.ir import Clause, Family, Program
from tensorprog.program.laws import WIDTH, growth, nngp_scale
from tensorprog.program.scope import size_symbol
from tensorprog.program.types import Data, Matrix, Position, Process, Scalar, Vector
from tensorprog.sampling.holding import Holding
from tensorprog.theorem.cases import (
    CaseReader,
    Linear,
    Multiply,
    Pointwise,
    Reference,
    ScalarChoice,
    ScalarForm,
    ScalarLeaf,
    Term,
    VectorReduction,
)

_Z, _W = sympy.Symbol("z", real=True), sympy.Symbol("w", real=True)


class NetworkWriter:
    """Writes `laws_of` and `network` of a program that has no transposes left."""

    def __init__(self, program: Program):
        self.program = program
        self.reader = CaseReader(program)
        self.holding = Holding(self.reader)
        self.definitions: list[str] = []
        self.factors: dict[str, sympy.Expr] = {}  # held factors: functions of z, by their names
        self.lines: list[str] = []
        self.indent = 1
        self.functions: set[str] = set()
        self.clauses: dict[tuple[int, ...], list[tuple[Family, Clause]]] = {}
        for f in program.families.values():
            for c in f.clauses:
                self.clauses.setdefault(c.position, []).append((f, c))

    # ------------------------------------------------------------ names

    def name(self, family: str) -> str:
        """The variable of a family, of a size or of a loop."""
        return identifier(family)

    def index(self, s: str) -> str:
        """Source of an integer symbol; of an entry of data, its values in the batch."""
        return self._read(Reference(s.table, s.indices)) if isinstance(s, Entry) else self.name(s)

    def number(self, e: sympy.Expr) -> str:
        """Source of a number in real parameters, sizes and loop indices."""
        names = {s: self.name(s.name) for s in e.free_symbols}
        return functions.jax_code(e, names)

    def line(self, text: str = "") -> None:
        self.lines.append("    " * self.indent + text if text else "")

    # ------------------------------------------------------------ laws

    def laws(self) -> list[str]:
        lines = [
            "def laws_of(params, sizes, rates):",
            '    """Of every weight and vector, by its indices: lim fan-in · multiplier² · variance; the same without',
            '    the variance, times the rate at which it is trained, or 0; the mean."""',
        ]
        for r in self.program.reals:
            lines.append(f"    {self.name(r)} = params[{r!r}]")
        for d in (*self.program.features, *self.program.open_sizes):
            lines.append(f"    {self.name(d)} = sizes[{d!r}]")
        lines += [f"    {self.name(name)} = {value}" for name, value in self.program.integers.items()]
        lines.append("    return {")
        for f in self.program.families.values():
            if f.law is None:
                continue
            scale, tangent, mean = self._law(f)
            arguments = " ".join(["lambda", ", ".join(self.name(r.name) for r in f.ranges)]).strip()
            parameter = f.stands_for or f.name
            still = f.fixed or tangent in ("0", "0.0")
            rate = "0.0" if still else f"{tangent} * rates.get({parameter!r}, 0.0)"
            lines.append(f"        {f.name!r}: {arguments}: ({scale}, {rate}, {mean}),")
        return [*lines, "    }"]

    def axis_sizes(self) -> list[str]:
        p = self.program
        read = [f"    {self.name(f.name)} = x[{f.name!r}]" for f in p.inputs]
        items = ", ".join(f"{s!r}: {self.name(s)}" for s in p.open_sizes)
        return [
            "def axis_sizes(x):",
            '    """The sizes that the axes of the inputs give."""',
            *(read if items else []),
            *(f"    {line}" for line in (self.sizes() if items else [])),
            f"    return {{{items}}}",
        ]

    def _law(self, f: Family) -> tuple[str, str, str]:
        assert f.law is not None
        widths = dict(self.program.widths)
        coefficient = self._readout_coefficient(f)
        law = f.law
        if coefficient is not None and f.role != "scalar":
            # A readout: its sum over the coordinates, and how what divides it goes with n, belong to the law.
            assert isinstance(f.type, Vector)
            sums = size_symbol(f.type.width) * WIDTH ** (2 * growth(coefficient, widths).exponent)
            scale = growth(law.multiplier**2 * law.variance * sums, widths).limit
            rate = growth(law.multiplier**2 * sums, widths)
            tangent = rate.limit if rate.finite else sympy.Integer(0)
        else:
            scale, found = nngp_scale(law, f.type, widths)
            tangent = found if isinstance(found, sympy.Expr) else sympy.Integer(0)  # refused where the NTK is asked for
        mean = growth(law.mean * law.multiplier, widths).limit if f.role == "vector" else sympy.Integer(0)
        return self._float(scale), self._float(tangent), self._float(mean)

    def _float(self, e: sympy.Expr) -> str:
        text = self.number(e)
        return f"{text}.0" if text.lstrip("-").isdigit() else text

    def _readout_coefficient(self, f: Family) -> sympy.Expr | None:
        """The number with which a readout stands in the output; None for other families."""
        return next((t.coefficient for t in self._readouts() if t.readout and t.readout.name == f.name), None)

    def _readouts(self) -> list[Term]:
        return [
            t
            for f in self.program.outputs
            if isinstance(f.type, Process)
            for c in self.reader.cases(f.name)
            if isinstance(c.body, Linear)
            for t in c.body.terms
        ]

    # ------------------------------------------------------------ the network

    def network(self) -> list[str]:
        p = self.program
        self.lines = [
            "def network(path, inputs, params):",
            f'    """The program {p.name}, member by member; see `members` for what it returns of each output."""',
        ]
        for f in p.inputs:
            self.line(f"{self.name(f.name)} = inputs[{f.name!r}]")
        for text in self.sizes():
            self.line(text)
        for r in p.reals:
            self.line(f"{self.name(r)} = params[{r!r}]")
        named = [f for f in p.families.values() if f.role in ("assigned", "output") and f.transpose_of is None]
        for f in named:
            if f.ranges:
                self.line(f"{self.name(f.name)} = {{}}")
        for f in p.families.values():
            if f.role == "vector" and not isinstance(f.type, Matrix) and not f.ranges and not self._is_readout(f):
                self.line(f"{self.name(f.name)} = path.vector({f.name!r}, ())")
        body = p.text.statements
        self._block(body, ())
        self._results()
        return self.lines

    def _is_readout(self, f: Family) -> bool:
        return any(t.readout is not None and t.readout.name == f.name for t in self._readouts())

    def sizes(self) -> list[str]:
        """Sizes from the shapes of the inputs, and the known integer parameters."""
        p = self.program
        lines = [f"{self.name(name)} = {value}" for name, value in p.integers.items()]
        seen = set(p.integers)
        axes: list[tuple[str, Range]] = []
        for f in p.inputs:
            after = len(f.ranges) + isinstance(f.type, Data)
            axes += [(f"{self.name(f.name)}.shape[{k - after}]", r) for k, r in enumerate(f.ranges)]
            if isinstance(f.type, Data) and f.type.size not in seen:
                lines.append(f"{self.name(f.type.size)} = {self.name(f.name)}.shape[-1]")
                seen.add(f.type.size)
        for size in sizes_read_off(axes, p.integers):
            text = size.axis if size.rest == Affine(0) else f"{size.axis} - ({integer(size.rest, self.name)})"
            lines.append(f"{self.name(size.name)} = {text if size.factor == 1 else f'({text}) // {size.factor}'}")
        return lines

    def _results(self) -> None:
        items = ", ".join(f"{f.name!r}: members({self.name(f.name)})" for f in self.program.outputs)
        self.line(f"return {{{items}}}")

    def _block(self, statements: Sequence[syntax.Statement], position: tuple[int, ...]) -> None:
        for k, s in enumerate(statements):
            here = (*position, k)
            if isinstance(s, syntax.For):
                clause = next(
                    (c for pos, found in self.clauses.items() if pos[: len(here)] == here for _, c in found), None
                )
                if clause is None:
                    continue
                loops = {r.name: (r, back) for r, back in zip(clause.loops, clause.reverse, strict=True)}
                for b in s.binders:
                    self._loop(*loops[b.name])
                self._block(s.body, here)
                self.indent -= len(s.binders)
            elif isinstance(s, syntax.Assignment):
                for family, clause in self.clauses.get(here, ()):
                    if family.transpose_of is None:
                        self._assignment(family, clause, s)

    def _loop(self, r: Range, reverse: bool) -> None:
        low, high = bound_source(r.low, self.index), bound_source(r.high, self.index)
        ends = f"{high}, {low} - 1, -1" if reverse else f"{low}, {high} + 1"
        self.line(f"for {self.index(r.name)} in range({ends}):")
        self.indent += 1

    def _assignment(self, family: Family, clause: Clause, s: syntax.Assignment) -> None:
        bound = [i.name for i in s.indices if isinstance(i, syntax.Binder)]
        loops = {r.name: (r, back) for r, back in zip(clause.loops, clause.reverse, strict=True)}
        for name in bound:
            self._loop(*loops[name])
        target = self._member(family.name, clause.target)
        ranges = list(clause.loops)
        branches = self.reader._branches(clause.value, ranges)
        texts = []
        for value, alternatives in branches:
            with self.reader._bound(ranges):
                body = self.reader._body(family, value, ranges, {})
            texts.append((self._instruction(family, body), alternatives))
        text = texts[-1][0]
        for branch, alternatives in reversed(texts[:-1]):
            condition = " or ".join(self._conditions(a, len(alternatives) > 1) for a in alternatives) or "False"
            text = f"({branch}) if {condition} else ({text})"
        self.line(f"{target} = {text}")
        self.indent -= len(bound)

    # ------------------------------------------------------------ members and numbers

    def _member(self, name: str, indices: Sequence[Affine]) -> str:
        if not indices:
            return self.name(name)
        return f"{self.name(name)}[{', '.join(integer(i, self.index) for i in indices)}]"

    def _tuple(self, indices: Sequence[Affine]) -> str:
        inner = ", ".join(integer(i, self.index) for i in indices)
        return f"({inner}{',' if len(indices) == 1 else ''})"

    def _for_data(self, references: Sequence[Reference], combined: str, write) -> str:
        """What `write` gives for references with indices that are data: a combination over all values of these.

        combined: how terms (coefficient, value) are added up, with {} for them.
        """
        entry = next((e for r in references for i in r.indices for e in i.entries), None)
        if entry is None:
            return write(*references)
        here = Affine.symbol(f"{entry.table}__")
        changed = []
        for r in references:
            indices = []
            for i in r.indices:
                c = i.coefficient(entry)
                indices.append(i + (here - Affine.symbol(entry)) * c)
                if entry in indices[-1].entries:
                    raise ProgramError(f"the index {i} is not supported where the kernel is sampled", r.span)
            changed.append(replace(r, indices=tuple(indices)))
        inner = self._for_data(changed, combined, write)
        k = self.index(here.terms[0][0])
        size = integer(entry.size, self.index)
        chosen = f"jnp.where({self.index(entry)} == {k}, 1.0, 0.0)"
        return combined.format(f"({chosen}, {inner}) for {k} in range(1, {size} + 1)")

    def _read(self, r: Reference) -> str:
        t = self.program.families[r.name].type
        combined = "path.combine([{}])"
        if isinstance(t, Scalar | Data | Position):
            combined = "sum_of_data([{}])"
        return self._for_data([r], combined, self._read_member)

    def _read_member(self, r: Reference) -> str:
        family = self.program.families[r.name]
        if family.role == "input":
            places = [
                integer(i - axis.low, self.index) if isinstance(axis.low, Affine) else integer(i, self.index)
                for i, axis in zip(r.indices, family.ranges, strict=True)
            ]
            if not places:
                return self.name(r.name)
            end = ", :" if isinstance(family.type, Data) else ""
            return f"{self.name(r.name)}[..., {', '.join(places)}{end}]"
        if family.role == "vector" and r.indices:
            return f"path.vector({r.name!r}, {self._tuple(r.indices)})"
        return self._member(r.name, r.indices)

    def _chosen(self, conditions: Sequence[Condition]) -> str:
        """1 where conditions on data hold, 0 elsewhere, in the batch."""
        parts = [f"({integer(c.expression, self.index)} {c.op} 0)" for c in conditions]
        return f"jnp.where({' & '.join(parts)}, 1.0, 0.0)"

    def _conditions(self, conditions: Sequence[Condition], wrap: bool = False) -> str:
        for c in conditions:
            if c.expression.entries:
                raise ProgramError(f"a condition on {c.expression.entries[0]}, which is data, cannot be sampled here")
        parts = [f"{integer(c.expression, self.index)} {c.op} 0" for c in conditions]
        text = " and ".join(parts) or "True"
        return f"({text})" if wrap and len(parts) > 1 else text

    # ------------------------------------------------------------ instructions

    def _instruction(self, family: Family, body) -> str:
        scalar = isinstance(family.type, Scalar)
        data = isinstance(family.type, Data)
        match body:
            case Multiply(matrix, vector, conditions):
                declared, transposed = self.reader.matrix(matrix)
                if transposed:
                    raise ProgramError("a transpose is left in what is sampled", matrix.span)
                kind = "data_product" if isinstance(self.program.families[vector.name].type, Data) else "product"

                def multiply(m: Reference, x: Reference) -> str:
                    return f"path.{kind}({m.name!r}, {self._tuple(m.indices)}, {self._read_member(x)})"

                text = self._for_data([declared, vector], "path.combine([{}])", multiply)
                if any(c.expression.entries for c in conditions):
                    return f"path.combine([({self._chosen(conditions)}, {text})])"
                return f"{text} if {self._conditions(conditions)} else ZERO_VECTOR" if conditions else text
            case Linear(terms):
                if not terms and not data:
                    return "ZERO_VECTOR" if not scalar else "0.0"
                listed = self._terms(terms)
                return f"data_sum({listed}, {self._zero_data(family)})" if data else f"path.combine({listed})"
            case Pointwise():
                if scalar and not body.references:
                    return self._scalar_expression(body.expression, dict(body.scalars))
                function, vectors, scalars = self._function(family.name, body)
                if data:
                    return f"{function}({', '.join([*vectors, *(f'spread({s})' for s in scalars)])})"
                verb = "moment" if scalar else "apply"
                end = f", ({', '.join(scalars)},)" if scalars else ""
                held = None if scalar else self._held_terms(family.name, body)
                if held is not None:
                    end = f"{end or ', ()'}, {held}"
                return f"path.{verb}({function}, ({', '.join(vectors)},){end})"
        raise AssertionError(body)

    def _zero_data(self, family: Family) -> str:
        """Features that are zero, as many as the family has."""
        assert isinstance(family.type, Data)
        size = family.type.size
        source = next(f for f in self.program.inputs if isinstance(f.type, Data) and f.type.size == size)
        return f"jnp.zeros((1, 1, 1, {self.name(size)}), {self.name(source.name)}.dtype)"

    def _terms(self, terms: Sequence[Term]) -> str:
        return f"[{', '.join(self._term(t) for t in terms)}]"

    def _term(self, t: Term) -> str:
        coefficient = t.coefficient
        if t.readout is not None and t.vector is None:
            coefficient = growth(coefficient, dict(self.program.widths)).limit
            vector = f"path.product({t.readout.name!r}, {self._tuple(t.readout.indices)}, path.combine([(1.0, None)]))"
        elif t.readout is not None:
            assert t.vector is not None
            v = self.program.families[t.readout.name]
            assert isinstance(v.type, Vector)
            rate = growth(coefficient, dict(self.program.widths))
            coefficient = rate.limit
            vector = f"path.product({v.name!r}, {self._tuple(t.readout.indices)}, {self._read(t.vector)})"
        else:
            vector = "None" if t.vector is None else self._read(t.vector)
        factors = [] if coefficient == 1 and t.scalars else [self._factor(self.number(coefficient))]
        factors += [self._factor(self._scalar(s)) for s in t.scalars]
        on_data = [c for c in t.conditions if c.expression.entries]
        if on_data:
            factors.append(self._chosen(on_data))
            t = replace(t, conditions=tuple(c for c in t.conditions if c not in on_data))
        pair = f"({' * '.join(factors)}, {vector})"
        if not t.sums and not t.conditions:
            return pair
        if not t.sums:
            return f"*([{pair}] if {self._conditions(t.conditions)} else [])"
        loops = " ".join(self._for(r) for r in t.sums)
        condition = f" if {self._conditions(t.conditions)}" if t.conditions else ""
        return f"*({pair} {loops}{condition})"

    @staticmethod
    def _factor(text: str) -> str:
        return text if text.replace("_", "").replace(".", "").isalnum() else f"({text})"

    def _for(self, r: Range) -> str:
        low, high = bound_source(r.low, self.index), bound_source(r.high, self.index)
        return f"for {self.index(r.name)} in range({low}, {high} + 1)"

    def _function(self, stem: str, f: Pointwise) -> tuple[str, list[str], list[str]]:
        """Defines the function; its name, and the source of its vectors and of its scalars."""
        function = self._new_function(stem)
        names: dict[sympy.Symbol, str] = {}
        vectors: list[str] = []
        scalars: list[str] = []
        used = f.expression.free_symbols
        for s, r in f.vectors:
            if s in used:
                names[s] = f"z{len(vectors) + 1}"
                vectors.append(self._read(r))
        steps = []
        for s, reduction in f.reductions:
            if s not in used:
                continue
            stack = f"stack{len(vectors) + 1}"
            vectors.append(self._stack(stem, reduction))
            names[s] = f"u{len(vectors)}"
            extra = []
            if reduction.at:
                extra.append(self._scalar_argument(scalars, self._place(reduction)))
            if reduction.eps is not None:
                extra.append(self._scalar_argument(scalars, self._scalar(reduction.eps)))
            steps.append(f"    {names[s]} = reduce_{reduction.kind}({', '.join([stack, *extra])})")
            names[sympy.Dummy(stack)] = stack
        for s, form in f.scalars:
            if s in used:
                names[s] = self._scalar_argument(scalars, self._scalar(form))
        for s in sorted(used - set(names), key=str):
            names[s] = self._scalar_argument(scalars, self.name(s.name))
        arguments = [n for n in names.values() if n.startswith(("z", "stack"))]
        arguments.sort(key=lambda n: int(n.lstrip("zstack")))
        arguments += [f"a{k + 1}" for k in range(len(scalars))]
        code = functions.jax_code(f.expression, names)
        self.definitions += ["", "", f"def {function}({', '.join(arguments)}):", *steps, f"    return {code}"]
        return function, vectors, scalars

    def _new_function(self, stem: str) -> str:
        """fn_h, fn_h_2, …; families are called h_2 as well."""
        function, k = f"fn_{self.name(stem)}", 1
        while function in self.functions:
            k += 1
            function = f"fn_{self.name(stem)}_{k}"
        self.functions.add(function)
        return function

    def _held_terms(self, stem: str, f: Pointwise) -> str | None:
        """Defines the coefficients and factors of a function as a sum over held factors; the name of that sum."""
        terms = self.holding.terms(f)
        if terms is None:
            return None
        order = [s for s, _ in f.vectors if s in f.expression.free_symbols]
        order += [s for s, _ in f.reductions if s in f.expression.free_symbols]
        written = []
        for t in terms:
            coefficient = "None" if t.coefficient == 1 else self._coefficient(stem, f, t.coefficient)
            used = tuple(k for k, s in enumerate(order) if s in t.coefficient.free_symbols)
            held = None if t.held is None else order.index(t.held)
            factors = ", ".join(f"({self._factor_name(stem, e, s)!r}, {order.index(s)})" for e, s in t.factors)
            written.append(f"({coefficient}, {used}, {held}, ({factors}{',' if t.factors else ''}))")
        name = f"TERMS_{len(self.functions)}"
        self.definitions += ["", "", f"{name} = (", *(f"    {w}," for w in written), ")"]
        return name

    def _coefficient(self, stem: str, f: Pointwise, e: sympy.Expr) -> str:
        """A function of those vectors that stand in it, and of all scalars of the whole."""
        names = [s for s, _ in f.scalars if s in f.expression.free_symbols]
        own = {s for s, _ in f.vectors} | {s for s, _ in f.reductions}
        names += sorted(f.expression.free_symbols - own - set(names), key=str)
        function = self._new_function(stem)
        vectors = [s for s, _ in f.vectors if s in e.free_symbols]
        codes = {s: f"z{k + 1}" for k, s in enumerate(vectors)}
        places = self._reduction_places(f)
        steps = []
        arguments = list(codes.values())
        for s, reduction in f.reductions:
            if s in e.free_symbols:
                stack = f"stack{len(arguments) + 1}"
                arguments.append(stack)
                codes[s] = f"u{len(arguments)}"
                steps.append(f"    {codes[s]} = reduce_{reduction.kind}({', '.join([stack, *places[s]])})")
        shift = sum(map(len, places.values()))
        codes |= {s: f"a{shift + k + 1}" for k, s in enumerate(names)}
        arguments += [f"a{k + 1}" for k in range(shift + len(names))]
        code = functions.jax_code(e, codes)
        self.definitions += ["", "", f"def {function}({', '.join(arguments)}):", *steps, f"    return {code}"]
        return function

    @staticmethod
    def _reduction_places(f: Pointwise) -> dict[sympy.Symbol, list[str]]:
        """The scalar arguments of each reduction, in the order of `_function`."""
        places: dict[sympy.Symbol, list[str]] = {}
        count = 0
        for s, reduction in f.reductions:
            if s in f.expression.free_symbols:
                own = bool(reduction.at) + (reduction.eps is not None)
                places[s] = [f"a{count + k + 1}" for k in range(own)]
                count += own
        return places

    def _factor_name(self, stem: str, e: sympy.Expr, s: sympy.Symbol) -> str:
        e = e.xreplace({s: _Z})
        for name, known in self.factors.items():
            if known == e:
                return name
        name = f"{stem}_{len(self.factors) + 1}"
        self.factors[name] = e
        return name

    def factor_rules(self) -> tuple[list[str], tuple[str, ...]]:
        """FACTOR_MEANS and FACTOR_PAIRS of the held factors, and the names of the runtime that they need."""
        lines: list[str] = []
        runtime: list[str] = []
        means, pairs = [], []
        mean = any(f.law is not None and f.law.mean != 0 for f in self.program.families.values())
        given = {r: self._real(r) for r in self.program.reals}
        for k, (name, e) in enumerate(self.factors.items()):
            single = expectation.plan_mean(e, _Z, mean=mean, prefix=f"factor_{k + 1}")
            lines += [*single.definitions]
            runtime += single.runtime
            scalars = {s: given[s.name] for s in e.free_symbols - {_Z}}
            means.append(f"    {name!r}: lambda p, mu, params: {single.call('p', 'mu' if mean else None, scalars)},")
            for j, (other, g) in enumerate(self.factors.items()):
                plan = expectation.plan_pair(
                    e, g.xreplace({_Z: _W}), _Z, _W, mean_f=mean, mean_g=mean, prefix=f"factors_{k + 1}_{j + 1}"
                )
                lines += [*plan.definitions]
                runtime += plan.runtime
                others = {s: given[s.name] for s in g.free_symbols - {_Z}}
                call = plan.call("k", "p", "q", "mu" if mean else None, "nu" if mean else None, scalars, others)
                pairs.append(f"    ({name!r}, {other!r}): lambda k, p, q, mu, nu, params: {call},")
        spread = ["", "", "FACTOR_MEANS = {", *means, "}", "FACTOR_PAIRS = {", *pairs, "}"]
        return [*(x for d in lines for x in ("", "", d.strip())), *spread], tuple(dict.fromkeys(runtime))

    def _real(self, name: str) -> str:
        return f"params[{name!r}]"

    @staticmethod
    def _scalar_argument(scalars: list[str], text: str) -> str:
        scalars.append(text)
        return f"a{len(scalars)}"

    def _stack(self, stem: str, reduction: VectorReduction) -> str:
        body = reduction.body
        if len(body.vectors) == 1 and body.expression == body.vectors[0][0]:
            inner = self._read(body.vectors[0][1])
        else:
            function, vectors, scalars = self._function(stem, body)
            end = f", ({', '.join(scalars)},)" if scalars else ""
            inner = f"path.apply({function}, ({', '.join(vectors)},){end})"
        loops = " ".join(self._for(r) for r in reduction.ranges)
        return f"Stack([{inner} {loops}])"

    def _place(self, reduction: VectorReduction) -> str:
        """The position of `at` in the list over the ranges."""
        total = ""
        for r, at in zip(reduction.ranges, reduction.at, strict=True):
            if not isinstance(r.low, Affine) or not isinstance(r.high, Affine):
                raise ProgramError(f"the range of {r.name} in {reduction.kind}[…] is too involved to be sampled")
            own = integer(at - r.low, self.index)
            total = f"({total}) * ({integer(r.high - r.low + 1, self.index)}) + {own}" if total else own
        return total

    # ------------------------------------------------------------ functions of C's

    def _scalar(self, form: ScalarForm) -> str:
        return self._scalar_expression(form.expression, {s: ScalarForm(s, ((s, a),)) for s, a in form.arguments})

    def _scalar_expression(self, e: sympy.Expr, forms: Mapping[sympy.Symbol, ScalarForm]) -> str:
        names = {}
        for s in e.free_symbols:
            if s in forms:
                ((inner, leaf),) = forms[s].arguments
                names[s] = self._leaf(leaf) if forms[s].expression == inner else self._scalar(forms[s])
            else:
                names[s] = self.name(s.name)
        return functions.jax_code(e, names)

    def _leaf(self, leaf: ScalarLeaf) -> str:
        if isinstance(leaf, Reference):
            return self._read(leaf)
        if isinstance(leaf, ScalarChoice):
            parts = [f"(({self._scalar(f)}) if {self._conditions(c)} else 0.0)" for c, f in leaf.branches]
            return f"({' + '.join(parts) or '0.0'})"
        body = f"[{self._scalar(leaf.body)} {self._for(leaf.range)}]"
        if leaf.kind == "sum":
            return f"sum({body})"
        at = ""
        if leaf.at is not None:
            assert isinstance(leaf.range.low, Affine)
            at = f", {integer(leaf.at - leaf.range.low, self.index)}"
        return f"reduce_{leaf.kind}(stack_scalars({body}){at})[..., 0]"
