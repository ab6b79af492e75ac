"""Finite networks in NumPy, by the text of a program and differentiated here: no code of the package but its parser.

Values carry the axes (seeds, runs, coordinates); a scalar has one coordinate. Gradients of the output with respect to
weights stay pairs (left, right) of vectors whose outer product they are, which is what a kernel needs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy import special

from tensorprog.language import syntax
from tensorprog.language.parser import parse_text

COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

WHOLE = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
    "mod": operator.mod,
    "**": pow,
}


class OutOfRange(Exception):
    """An index is outside of a family's range."""


# ---------------------------------------------------------------- values with gradients


class Value:
    """An array (S, N, coordinates) and how its gradient goes on to what it was computed from."""

    __array_ufunc__ = None  # NumPy's arrays leave operators to this class

    def __init__(self, array, parents=()):
        self.array = np.asarray(array, float)
        self.parents: tuple[tuple[Value, Callable], ...] = parents
        self.grad: np.ndarray | None = None

    def _with(self, other, array, own: Callable, others: Callable) -> Value:
        parents = [(self, own)]
        if isinstance(other, Value):
            parents.append((other, others))
        return Value(array, tuple(parents))

    def __add__(self, other):
        return self._with(other, self.array + plain(other), lambda g: g, lambda g: g)

    __radd__ = __add__

    def __neg__(self):
        return Value(-self.array, ((self, lambda g: -g),))

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, other):
        a, b = self.array, plain(other)
        return self._with(other, a * b, lambda g: g * b, lambda g: g * a)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self * (1 / other if not isinstance(other, Value) else other ** (-1))

    def __rtruediv__(self, other):
        return self ** (-1) * other

    def __pow__(self, power):
        return self.apply(lambda z: z**power, lambda z: power * z ** (power - 1))

    def apply(self, f: Callable, slope: Callable) -> Value:
        z = self.array
        return Value(f(z), ((self, lambda g: g * slope(z)),))

    def mean(self) -> Value:
        z = self.array
        return Value(z.mean(-1, keepdims=True), ((self, lambda g: np.broadcast_to(g / z.shape[-1], z.shape)),))

    def total(self) -> Value:
        z = self.array
        return Value(z.sum(-1, keepdims=True), ((self, lambda g: np.broadcast_to(g, z.shape)),))


def plain(x):
    return x.array if isinstance(x, Value) else x


def maximum(a, b, sign: float = 1.0):
    if not isinstance(a, Value) and not isinstance(b, Value):
        return sign * np.maximum(sign * a, sign * b)
    x, y = plain(a), plain(b)
    first = sign * x >= sign * y
    parents = [(v, lambda g, w=w: g * w) for v, w in ((a, first), (b, ~first)) if isinstance(v, Value)]
    return Value(np.where(first, x, y), tuple(parents))


ROOT_PI = np.sqrt(np.pi)
DENSITY = lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
FUNCTIONS: dict[str, tuple[Callable, Callable]] = {
    "erf": (special.erf, lambda z: 2 / ROOT_PI * np.exp(-z * z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda z: -np.sin(z)),
    "sigmoid": (special.expit, lambda z: special.expit(z) * special.expit(-z)),
    "gelu": (lambda z: z * special.ndtr(z), lambda z: special.ndtr(z) + z * DENSITY(z)),
    "silu": (lambda z: z * special.expit(z), lambda z: special.expit(z) * (1 + z * special.expit(-z))),
    "softplus": (lambda z: np.logaddexp(z, 0), special.expit),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "abs": (np.abs, np.sign),
    "exp": (np.exp, np.exp),
    "sqrt": (np.sqrt, lambda z: 0.5 / np.sqrt(z)),
    "square": (np.square, lambda z: 2 * z),
    "log": (np.log, lambda z: 1 / z),
}


# ---------------------------------------------------------------- a program's text, run


@dataclass
class Weight:
    array: np.ndarray  # (S, rows, columns), as drawn
    multiplier: float
    fixed: bool
    uses: list[tuple[bool, np.ndarray, list]] = field(default_factory=list)  # (transposed, right, [gradients])


@dataclass
class Interpreter:
    """A program at width n, in `seeds` draws, on data (N, *axes, d) by input."""

    text: str
    data: dict[str, np.ndarray]
    n: int
    seeds: int
    seed: int = 0

    def __post_init__(self):
        self.tree = parse_text(self.text)
        self.rng = np.random.default_rng(self.seed)
        self.numbers: dict[str, object] = {"n": self.n, "pi": np.pi}
        self.widths = {"n": self.n}
        for p in self.tree.parameters:
            if p.default is not None:
                self.numbers[p.name] = (
                    p.default.name
                    if isinstance(p.default, syntax.Name) and p.default.name in FUNCTIONS
                    else self.number(p.default, {})
                )
        self.runs = 1
        self.inputs: dict[str, syntax.Variable] = {}
        self.definitions = {s.name: s for s in self.tree.statements if isinstance(s, syntax.Definition)}
        for s in self.tree.statements:
            if isinstance(s, syntax.Input):
                self._input(s)
        self.scalars: set[str] = set()
        self.box: dict[str, list[tuple[int, int]]] = {}
        self.parameters: dict[str, object] = {}
        self.vectors: dict[str, tuple[float, float, bool]] = {}
        self.members: dict[tuple, tuple] = {}
        self.outputs: list[tuple] = []
        for s in self.tree.statements:
            self._statement(s, {})
        for name, indices in self.members:
            self._grow(name, indices)
        self.known: dict[tuple, object] = {}

    def _input(self, s: syntax.Input) -> None:
        for v in s.variables:
            array = self.data[v.name]
            self.runs = len(array)
            self.inputs[v.name] = v
            for k, axis in enumerate(v.axes):
                if isinstance(axis.high, syntax.Name) and axis.high.name not in self.numbers:
                    low = self.integer(axis.low, {})
                    self.numbers[axis.high.name] = low + array.shape[1 + k] - 1
            if s.type.name == "R":
                self.numbers[s.type.arguments[0].name] = array.shape[-1]

    def _grow(self, name: str, indices: tuple[int, ...]) -> None:
        box = self.box.setdefault(name, [(i, i) for i in indices])
        self.box[name] = [(min(a, i), max(b, i)) for (a, b), i in zip(box, indices, strict=True)]

    def _span(self, b: syntax.Binder, env) -> range:
        low, high = self.integer(b.low, env), self.integer(b.high, env)
        step = self.integer(b.step, env) if b.step else 1
        return range(low, high + (1 if step > 0 else -1), step)

    def _each(self, binders, env):
        if not binders:
            yield env
            return
        span = self._span(binders[0], env)
        for i in span:
            yield from self._each(binders[1:], {**env, binders[0].name: i, f"range of {binders[0].name}": span})

    def _statement(self, s, env) -> None:
        match s:
            case syntax.Width():
                ratio = self.number(s.value, {})
                self.widths[s.name] = self.numbers[s.name] = round(ratio)
            case syntax.Input():
                for v in s.variables:
                    self.box[v.name] = [(self._span(a, {})[0], self._span(a, {})[-1]) for a in v.axes]
            case syntax.Random():
                self._random(s)
            case syntax.For():
                for inner in self._each(s.binders, env):
                    for t in s.body:
                        self._statement(t, inner)
            case syntax.Assignment():
                binders = [i for i in s.indices if isinstance(i, syntax.Binder)]
                for inner in self._each(binders, env):
                    indices = tuple(
                        inner[i.name] if isinstance(i, syntax.Binder) else self.integer(i, inner) for i in s.indices
                    )
                    if (s.name, indices) in self.members:
                        raise AssertionError(f"{s.name}{indices} twice")
                    self.members[s.name, indices] = (s.value, inner)
                    if s.output:
                        self.outputs.append((s.name, indices))

    def _random(self, s: syntax.Random) -> None:
        law = s.law
        mean, variance = self.number(law.mean, {}), self.number(law.variance, {})
        m = 1.0 if law.multiplier is None else self.number(law.multiplier, {})
        m = 1 / m if law.divides else m
        shape = [1] if s.kind == "scalar" else [self.number(a, {}) for a in s.type.arguments]
        if s.kind == "scalar":
            self.scalars |= {v.name for v in s.variables}
        for v in s.variables:
            self.box[v.name] = []
            spans = [self._span(a, {}) for a in v.axes]
            if spans and all(spans):
                self.box[v.name] = [(r[0], r[-1]) for r in spans]
            for indices in product(*spans):
                array = mean + np.sqrt(variance) * self.rng.normal(size=(self.seeds, *(int(k) for k in shape)))
                if s.kind == "weight":
                    self.parameters[v.name, indices] = Weight(array, m, s.fixed)
                else:
                    shaped = np.broadcast_to(array[:, None], (self.seeds, self.runs, array.shape[-1]))
                    self.parameters[v.name, indices] = own = Value(shaped)
                    own.multiplier, own.fixed, own.variance = m, s.fixed, variance  # type: ignore[attr-defined]
                    own.name = v.name  # type: ignore[attr-defined]

    # ------------------------------------------------------------ numbers

    def integer(self, e, env) -> int:
        if isinstance(e, syntax.Binary):
            a, b = self.integer(e.left, env), self.integer(e.right, env)
            return WHOLE[e.op](a, b)
        value = self.number(e, env)
        assert float(value).is_integer(), e
        return int(value)

    def number(self, e, env):
        value = self.value(e, env)
        return value

    def holds(self, c, env) -> bool:
        match c:
            case syntax.Comparison():
                return COMPARE[c.op](self.integer(c.left, env), self.integer(c.right, env))
            case syntax.And():
                return self.holds(c.left, env) and self.holds(c.right, env)
            case syntax.Or():
                return self.holds(c.left, env) or self.holds(c.right, env)
            case syntax.Not():
                return not self.holds(c.operand, env)
        raise AssertionError(c)

    # ------------------------------------------------------------ values

    def member(self, name: str, indices: tuple[int, ...]):
        box = self.box.get(name)
        if box is None:
            raise AssertionError(f"unknown {name}")
        if len(box) < len(indices) or any(not a <= i <= b for i, (a, b) in zip(indices, box, strict=True)):
            raise OutOfRange(name)
        key = (name, indices)
        if key in self.known:
            return self.known[key]
        if name in self.inputs:
            array = self.data[name]
            array = array[(slice(None), *(i - a for i, (a, _) in zip(indices, box, strict=True)))]
            value = array[None] if array.ndim == 2 else array[None, :, None]
        elif key in self.parameters:
            p = self.parameters[key]
            value = p if isinstance(p, Weight) else p * p.multiplier  # type: ignore[attr-defined]
        else:
            e, env = self.members[key]
            try:
                value = self.value(e, env)
            except OutOfRange as error:
                raise AssertionError(f"{key} reads out of range: {error}") from None
        self.known[key] = value
        return value

    def value(self, e, env):
        at = lambda x: self.value(x, env)  # noqa: E731
        match e:
            case syntax.Number():
                return float(e.text)
            case syntax.Name():
                if e.name in env:
                    return env[e.name]
                if e.name in self.numbers:
                    return self.numbers[e.name]
                return self.member(e.name, ())
            case syntax.Index():
                return self.entry(e, env)
            case syntax.Negate():
                return -at(e.operand)
            case syntax.Binary(op="@"):
                return self.multiply(e.left, at(e.right), env)
            case syntax.Binary():
                a, b = at(e.left), at(e.right)
                match e.op:
                    case "+":
                        return a + b
                    case "-":
                        return a - b
                    case "*":
                        return a * b
                    case "/":
                        return a / b
                    case "**":
                        return a**b
            case syntax.Conditional():
                return at(e.then) if self.holds(e.condition, env) else at(e.otherwise)
            case syntax.Guard():
                try:
                    return at(e.value)
                except OutOfRange:
                    return at(e.otherwise)
            case syntax.Call():
                return self.call(e.function, [at(a) for a in e.arguments], {k: at(v) for k, v in e.keywords})
            case syntax.Reduction():
                return self.reduction(e, env)
            case syntax.Bracket():
                x = [at(o) for o in e.operands]
                x = x[0] * x[1] if len(x) > 1 else x[0]
                return x.mean() if isinstance(x, Value) else 0.0
        raise AssertionError(e)

    def entry(self, e: syntax.Index, env):
        """A member at indices of which one may be data, and those that are a `mod` go round their axis."""
        indices: list[int | np.ndarray] = []
        for k, i in enumerate(e.indices):
            if isinstance(i, syntax.Index):
                indices.append(self.entry(i, env)[0, :, 0].astype(int))
            elif isinstance(i, syntax.Binary) and i.op == "mod":
                low = self.box[e.name][k][0]
                count = self.integer(i.right, env)
                indices.append(low + (self.integer(i.left, env) - low) % count)
            else:
                indices.append(self.integer(i, env))
        chosen = next((i for i in indices if isinstance(i, np.ndarray)), None)
        if chosen is None:
            return self.member(e.name, tuple(indices))
        parents, total = [], 0.0
        for number in sorted(set(chosen)):
            value = self.member(e.name, tuple(number if i is chosen else i for i in indices))
            mask = (chosen == number)[None, :, None]
            total = total + np.where(mask, value.array, 0)
            parents.append((value, lambda g, m=mask: np.where(m, g, 0)))
        return Value(total, tuple(parents))

    def call(self, name, arguments, keywords):
        if name in self.definitions:
            d = self.definitions[name]
            env = {p.name: a for p, a in zip(d.parameters, arguments, strict=True)}
            return self.value(d.body, env)
        if name in ("max", "min"):
            value = arguments[0]
            for a in arguments[1:]:
                value = maximum(value, a, 1.0 if name == "max" else -1.0)
            return value
        if name == "layernorm":
            x, eps = arguments[0], keywords.get("eps", arguments[1] if len(arguments) > 1 else 0.0)
            if not isinstance(x, Value):
                return 0.0
            centred = x - x.mean()
            return centred / ((centred * centred).mean() + eps) ** 0.5
        if isinstance(self.numbers.get(name), str):
            name = self.numbers[name]
        f, slope = FUNCTIONS[name]
        (x,) = arguments
        return x.apply(f, slope) if isinstance(x, Value) else f(x)

    def reduction(self, e: syntax.Reduction, env):
        if e.function in ("softmax", "batchnorm"):
            (b,) = e.binders
            span = self._span(b, env) if b.low is not None else env[f"range of {b.name}"]
            every = [self.value(e.body, {**env, b.name: i}) for i in span]
            own = self.value(e.body, env)
            if e.function == "softmax":
                top = np.max([np.max(plain(x)) for x in every])
                terms = [exp(x - top) for x in every]
                return exp(own - top) / sum(terms[1:], terms[0])
            eps = dict((k, self.value(v, env)) for k, v in e.keywords).get("eps", 0.0)
            mean = sum(every[1:], every[0]) / len(every)
            deviations = [(x - mean) * (x - mean) for x in every]
            return (own - mean) / (sum(deviations[1:], deviations[0]) / len(every) + eps) ** 0.5
        terms = [self.value(e.body, inner) for inner in self._each(e.binders, env)]
        if e.function == "sum" and not terms:
            return 0.0
        value = terms[0]
        for t in terms[1:]:
            if e.function in ("sum", "mean"):
                value = value + t
            elif e.function == "prod":
                value = value * t
            else:
                value = maximum(value, t, 1.0 if e.function == "max" else -1.0)
        return value / len(terms) if e.function == "mean" else value

    def multiply(self, left, x, env):
        transposed = isinstance(left, syntax.Transpose)
        w = self.value(left.operand if transposed else left, env)
        if isinstance(x, float):  # the same number in each coordinate
            if x == 0.0:
                return (
                    Value(np.zeros((self.seeds, self.runs, w.array.shape[2 if transposed else 1])))
                    if isinstance(w, Weight)
                    else 0.0
                )
            size = (
                w.array.shape[1 if transposed or isinstance(w, Value) else 2]
                if isinstance(w, Weight)
                else w.array.shape[-1]
            )
            x = np.full((1, self.runs, size), x)
        if isinstance(w, Value):  # a readout
            return (w * x).total()
        array = plain(x)
        matrix = w.array if transposed else w.array.transpose(0, 2, 1)
        array = np.broadcast_to(array, (self.seeds, *array.shape[1:]))
        out = w.multiplier * (array @ matrix)
        back = w.multiplier * matrix.transpose(0, 2, 1)
        use = (transposed, array, [])
        w.uses.append(use)

        def pull(g):
            use[2].append(g)
            return g @ back

        if isinstance(x, Value):
            return Value(out, ((x, pull),))
        leaf = Value(np.zeros(1))  # data: the gradient ends here, but the weight sees it
        return Value(out, ((leaf, lambda g: (use[2].append(g), np.zeros(1))[1]),))

    # ------------------------------------------------------------ kernels

    def kernels(self) -> tuple[np.ndarray, np.ndarray]:
        """NNGP and NTK by seed: (S, N·outputs, N·outputs), runs first. The NNGP is the mean over the readouts."""
        vectors = {k: p for k, p in self.parameters.items() if isinstance(p, Value)}
        weights = {k: p for k, p in self.parameters.items() if isinstance(p, Weight)}
        outputs = [self.member(name, indices) for name, indices in sorted(self.outputs)]
        outputs = [y if isinstance(y, Value) else Value(np.full((self.seeds, self.runs, 1), y)) for y in outputs]
        gradients: dict[tuple, list] = {}
        for y in outputs:
            for w in weights.values():
                for use in w.uses:
                    use[2].clear()
            reached = backward(y)
            for key, p in vectors.items():
                gradients.setdefault(("vector", key), []).append(p.grad if id(p) in reached else None)
            for key, w in weights.items():
                for u, (transposed, right, grads) in enumerate(w.uses):
                    g = sum(grads[1:], grads[0]) if grads else None
                    gradients.setdefault(("weight", key, u, transposed), []).append((g, right))
        count = len(outputs)
        nngp = np.zeros((self.seeds, self.runs, count, self.runs, count))
        ntk = np.zeros_like(nngp)
        readouts = self._readouts()
        for key, p in vectors.items():
            for a, ga in enumerate(gradients["vector", key]):
                for b, gb in enumerate(gradients["vector", key]):
                    if ga is None or gb is None:
                        continue
                    part = np.einsum("sin,sjn->sij", ga, gb)
                    if key[0] in readouts:
                        nngp[:, :, a, :, b] += p.variance * part  # type: ignore[attr-defined]
                    if not p.fixed:  # type: ignore[attr-defined]
                        ntk[:, :, a, :, b] += part
        for key, w in weights.items():
            if w.fixed:
                continue
            uses = [(t, gradients["weight", key, u, t]) for u, (t, *_) in enumerate(w.uses)]
            for (t1, first), (t2, second) in product(uses, uses):
                for (a, (ga, za)), (b, (gb, zb)) in product(enumerate(first), enumerate(second)):
                    if ga is None or gb is None:
                        continue
                    if t1 == t2:
                        part = np.einsum("sin,sjn->sij", ga, gb) * np.einsum("sin,sjn->sij", za, zb)
                    else:
                        part = np.einsum("sin,sjn->sij", ga, zb) * np.einsum("sin,sjn->sij", za, gb)
                    ntk[:, :, a, :, b] += w.multiplier**2 * part
        size = self.runs * count
        return nngp.reshape(self.seeds, size, size), ntk.reshape(self.seeds, size, size)

    def _readouts(self) -> set[str]:
        """Vectors that multiply others by v.T @."""
        names = set()

        def walk(x):
            if isinstance(x, syntax.Binary) and x.op == "@" and isinstance(x.left, syntax.Transpose):
                names.add(x.left.operand.name)
            for child in vars(x).values() if hasattr(x, "__dict__") else ():
                for c in child if isinstance(child, tuple) else (child,):
                    walk(c)

        for name, indices in self.outputs:
            walk(self.members[name, indices][0])
        return self.scalars | names & {k[0] for k, p in self.parameters.items() if isinstance(p, Value)}


def exp(x):
    return x.apply(np.exp, np.exp) if isinstance(x, Value) else np.exp(x)


def backward(y: Value) -> set[int]:
    """Gradients of the sum over seeds and runs of y, in every value that it was computed from; their ids."""
    order: list[Value] = []
    seen: set[int] = set()
    stack = [(y, False)]
    while stack:
        v, done = stack.pop()
        if done:
            order.append(v)
        elif id(v) not in seen:
            seen.add(id(v))
            v.grad = None
            stack.append((v, True))
            stack += [(p, False) for p, _ in v.parents]
    y.grad = np.ones_like(y.array)
    for v in reversed(order):
        if v.grad is None:
            continue
        for p, pull in v.parents:
            g = summed(pull(v.grad), p.array.shape)
            p.grad = g if p.grad is None else p.grad + g
    return {id(v) for v in order}


def summed(g, shape):
    """A gradient of a broadcast array, summed to the shape of that array."""
    g = np.asarray(g)
    for axis, size in enumerate(shape):
        if g.ndim == len(shape) and size == 1 and g.shape[axis] > 1:
            g = g.sum(axis, keepdims=True)
    return g
