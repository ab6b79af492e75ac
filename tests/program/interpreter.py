"""Finite networks, straight from the core form: every instruction is executed on arrays of width n.

draws = draw(program, 64, {"T": 3}, seed=0)
values = run(program, 64, {"T": 3}, draws)        values["h", (1, 2)] is h[1, 2]
"""

from functools import cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from tensorprog.functions import jax_code
from tensorprog.index.bounds import evaluate_bound
from tensorprog.language import syntax
from tensorprog.program.passes.reads import scope_of
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Data, Matrix, Scalar, Vector

FEATURES = 2


class Interpreter:
    """A program at given widths and sizes.

    draws: weights, vectors and data by name and indices; bumps: what is added to vectors as they are assigned.
    """

    def __init__(self, program, n, sizes, draws=None, bumps=None):
        self.program = program
        self.scope = scope_of(program)
        self.sizes = {**program.integers, **sizes}
        self.reals = {name: float(value) for name, value in program.reals.items()}
        self.n = n
        self.widths = {name: int(ratio * n) for name, ratio in program.widths.items()}
        self.values = dict(draws or {})
        self.bumps = bumps or {}
        for key, bump in self.bumps.items():
            if key in self.values:
                self.values[key] = self.values[key] + bump

    # ------------------------------------------------------------ draws

    def draw(self, seed):
        rng = np.random.default_rng(seed)
        for s in self.program.text.statements:
            if isinstance(s, syntax.Input | syntax.Random):
                for v in s.variables:
                    for index in self.members(v.axes, {}):
                        self.values[v.name, tuple(index.values())] = self._sample(self.program.families[v.name], rng)
        return self.values

    def _sample(self, family, rng):
        match family.type:
            case Data():
                return jnp.asarray(rng.normal(size=FEATURES))
            case Scalar():
                return jnp.asarray(rng.normal())
            case Matrix(rows, columns):
                shape = (self.size(rows), self.size(columns))
            case Vector(width):
                shape = (self.size(width),)
        numbers = {**self.reals, **self.widths, **dict.fromkeys(self.program.features, FEATURES), **self.sizes}
        mean, variance, multiplier = (
            float(e.subs({s: numbers[s.name] for s in e.free_symbols}))
            for e in (family.law.mean, family.law.variance, family.law.multiplier)
        )
        # A bias of variance 0 is drawn all the same: the derivatives by it are not trivial anywhere else.
        variance = variance if variance and multiplier else 0.1
        return jnp.asarray((mean + np.sqrt(variance) * rng.normal(size=shape)) * (multiplier or 1.0))

    def size(self, name):
        return self.widths.get(name, FEATURES)

    def members(self, binders, env):
        if not binders:
            yield {}
            return
        for i in self.span(binders[0], env):
            for rest in self.members(binders[1:], {**env, binders[0].name: i}):
                yield {binders[0].name: i, **rest}

    def span(self, b, env):
        low, high = self.integer(b.low, env), self.integer(b.high, env)
        step = 1 if b.step is None else self.integer(b.step, env)
        return range(low, high + (1 if step > 0 else -1), step)

    # ------------------------------------------------------------ statements

    def run(self):
        self.block(self.program.text.statements, {}, {})
        return self.values

    def block(self, block, env, spans):
        for s in block:
            match s:
                case syntax.For(binders, body):
                    for inner in self.nest(binders, env, spans):
                        self.block(body, *inner)
                case syntax.Assignment():
                    binders = [i for i in s.indices if isinstance(i, syntax.Binder)]
                    for inner in self.nest(binders, env, spans):
                        self.assign(s, *inner)

    def nest(self, binders, env, spans):
        if not binders:
            yield env, spans
            return
        b = binders[0]
        span = self.span(b, env)
        for i in span:
            yield from self.nest(binders[1:], {**env, b.name: i}, {**spans, b.name: span})

    def assign(self, s, env, spans):
        entries = (syntax.Name(i.name) if isinstance(i, syntax.Binder) else i for i in s.indices)
        key = s.name, tuple(self.integer(i, env) for i in entries)
        assert key not in self.values, key
        value = self.value(s.value, env, spans)
        t = self.program.families[s.name].type
        if isinstance(t, Vector):
            value = jnp.broadcast_to(value, (self.size(t.width),))
        if isinstance(t, Scalar):
            value = jax.lax.stop_gradient(value)  # a constant in the limit
        self.values[key] = value + self.bumps[key] if key in self.bumps else value

    # ------------------------------------------------------------ expressions

    def integer(self, e, env):
        match e:
            case syntax.Number(text):
                return int(text)
            case syntax.Name(name):
                return env[name] if name in env else self.sizes[name]
            case syntax.Negate(operand):
                return -self.integer(operand, env)
            case syntax.Binary(op, a, b):
                a, b = self.integer(a, env), self.integer(b, env)
                return a + b if op == "+" else a - b if op == "-" else a * b
        raise AssertionError(e)

    def holds(self, c, env):
        match c:
            case syntax.And(a, b):
                return self.holds(a, env) and self.holds(b, env)
            case syntax.Or(a, b):
                return self.holds(a, env) or self.holds(b, env)
            case syntax.Not(a):
                return not self.holds(a, env)
            case syntax.Comparison(op, a, b):
                a, b = self.integer(a, env), self.integer(b, env)
                return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]

    def value(self, e, env, spans):
        def at(x):
            return self.value(x, env, spans)

        match e:
            case syntax.Number(text):
                return float(text)
            case syntax.Name(name) | syntax.Index(name) if name in self.program.families and name not in env:
                indices = e.indices if isinstance(e, syntax.Index) else ()
                return self.values[name, tuple(self.integer(i, env) for i in indices)]
            case syntax.Name(name):
                return self.number(name, env)
            case syntax.Transpose(operand):
                return at(operand).T
            case syntax.Negate(operand):
                return -at(operand)
            case syntax.Binary(op, a, b):
                return _operate(op, at(a), at(b))
            case syntax.Conditional(a, c, b):
                return at(a) if self.holds(c, env) else at(b)
            case syntax.Guard(a, b):
                return at(a) if all(self.inside(s, env) for s in _references(a)) else at(b)
            case syntax.Call("MatMul", (a, b)):
                matrix = at(a)
                return matrix @ jnp.broadcast_to(at(b), matrix.shape[1:])
            case syntax.Call("LinComb" | "Nonlin", (a,)):
                return at(a)
            case syntax.Call("Moment", (a,)):
                return jnp.mean(at(a))
            case syntax.Call("Trsp", (a,)):
                return at(a).T
            case syntax.Call(name, arguments, keywords):
                f = self.scope.as_function(name, e.span)
                if len(arguments) > len(f.arguments):  # max(x, y, z)
                    return at(syntax.Call(name, (arguments[0], syntax.Call(name, arguments[1:]))))
                return _apply(f, [at(a) for a in arguments], {k: at(v) for k, v in keywords}, self.reals)
            case syntax.DerivativeCall(name, argument, arguments, keywords):
                f = self.scope.derivative(name, argument, e.span)
                return _apply(f, [at(a) for a in arguments], {k: at(v) for k, v in keywords}, self.reals)
            case syntax.Reduction("softmax" | "batchnorm" as kind, (b,), body, keywords):
                low = spans[b.name] if b.low is None else self.span(b, env)
                all_ = [self.value(body, {**env, b.name: i}, spans) for i in low]
                own = at(body)
                if kind == "softmax":
                    return jnp.exp(own) / sum(jnp.exp(x) for x in all_)
                mean = sum(all_) / len(all_)
                eps = at(dict(keywords)["eps"]) if keywords else 0
                return (own - mean) / jnp.sqrt(sum((x - mean) ** 2 for x in all_) / len(all_) + eps)
            case syntax.Reduction(kind, binders, body):
                terms = [self.value(body, {**env, **i}, spans) for i in self.members(binders, env)]
                total = sum(terms) if kind in ("sum", "mean") else None
                if kind in ("max", "min"):
                    total = getattr(jnp.stack(terms), kind)(0)
                if kind == "prod":
                    total = 1.0
                    for t in terms:
                        total = total * t
                return total / len(terms) if kind == "mean" else total
        raise AssertionError(e)

    def number(self, name, env):
        for table in (env, self.sizes, self.reals, self.widths, {"pi": np.pi}):
            if name in table:
                return float(table[name])
        return float(FEATURES)

    def inside(self, e, env):
        family = self.program.families[e.name]
        own = [self.integer(i, env) for i in e.indices]
        return all(
            evaluate_bound(r.low, self.sizes) <= i <= evaluate_bound(r.high, self.sizes)
            for i, r in zip(own, family.ranges, strict=True)
        )


def _references(e):
    return [s for s in subexpressions(e) if isinstance(s, syntax.Index)]


def _operate(op, a, b):
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a / b
        case "**":
            return a ** int(b) if isinstance(b, float) and b == int(b) else a**b
        case "@":
            return a @ b


def _apply(f, arguments, keywords, reals):
    names = [a.name.removeprefix("_") for a in f.arguments]
    values = {**dict(zip(names, arguments, strict=False)), **keywords}
    for name, default in zip(names, f.defaults, strict=True):
        if default is not None:
            values.setdefault(name, float(default))
    free = sorted(s.name for s in f.body.free_symbols - set(f.arguments))
    compiled = _compiled(f.body, f.arguments, tuple(free))
    return compiled(*(values[n] for n in names), *(reals[n] for n in free))


@cache
def _compiled(body, arguments, free):
    symbols = {s: f"a{k}" for k, s in enumerate(arguments)}
    symbols |= {s: f"r_{s.name}" for s in body.free_symbols if s not in symbols}
    code = jax_code(sympy.sympify(body), symbols)
    names = [*(f"a{k}" for k in range(len(arguments))), *(f"r_{n}" for n in free)]
    scope = {"jnp": jnp, "jax": jax}
    return eval(f"lambda {', '.join(names)}: {code}", scope)


def draw(program, n, sizes, seed):
    """Weights, vectors and data by name and indices."""
    return Interpreter(program, n, sizes).draw(seed)


def run(program, n, sizes, draws, bumps=None):
    """All values by name and indices."""
    return Interpreter(program, n, sizes, draws, bumps).run()


def indices(ranges, sizes):
    """All members of the hull of a family."""
    return list(product(*(range(evaluate_bound(r.low, sizes), evaluate_bound(r.high, sizes) + 1) for r in ranges)))
