# ruff: noqa: E501, SIM905  (a statement of a program is one line here too)
"""Random programs: small, of every construct of the language, the same for the same seed.

A program grows by stages. Each takes the vectors there are, over no index, over positions or over two indices, and adds
families to them: a layer, a window, a recurrence, a gate, attention, a pool, a matrix and its transpose, and so on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FUNCTIONS = ("erf", "relu", "tanh", "sin", "gelu", "sigmoid", "abs", "softplus", "cos", "silu", "leaky_relu")
BOUNDED = ("erf", "tanh", "sin", "sigmoid", "cos")
NAMES = (
    "h g s z c r e o k q u w H G R S Z C K M P1 P2 P3 x1 x2 jnp jax np lax params same left right pair run moves one "
    "cov var f_1 h_ _h a1 W_x N0 I J Q2 h1 h2 hidden_state Lambda None_ True_ self import_ print len range float int "
    "dict tuple E O rho sigma mu Sigma K_x D0 B0 kernel table entry i_1 l_1 zeros ones where cross nngp ntk"
).split()
SIZE_NAMES = ("P", "T", "Q", "H2", "P1", "P2", "size", "len_", "K", "S", "M", "n1", "N", "N1", "x_size")
INDICES = ("p", "t", "i", "a", "b", "j", "l", "q", "k", "o", "tt", "i1", "x_")


@dataclass(frozen=True)
class Axis:
    """Entries low..high, as written and as numbers."""

    low: str
    high: str
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start + 1

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


@dataclass(frozen=True)
class Family:
    name: str
    axes: tuple[Axis, ...]
    width: str = "n"


@dataclass(frozen=True)
class Sample:
    """A random program: its text, and data that fit (by input, the axes of one run and its features at the end)."""

    seed: int
    text: str
    shapes: dict[str, tuple[int, ...]]
    stages: tuple[str, ...]
    tokens: dict[str, int]  # inputs that are indices, and how many there are

    def data(self, runs: int = 2) -> dict[str, np.ndarray]:
        """Inputs of `runs` runs, of norms near one a feature."""
        rng = np.random.default_rng(self.seed)
        return {
            name: rng.integers(1, self.tokens[name] + 1, (runs, *shape))
            if name in self.tokens
            else rng.normal(size=(runs, *shape))
            for name, shape in self.shapes.items()
        }


def sample(seed: int) -> Sample:
    """The random program of a seed."""
    return _Writer(seed).write()


@dataclass
class _Writer:
    seed: int
    rng: random.Random = field(init=False)
    taken: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)  # by indices
    parameters: list[str] = field(default_factory=list)
    widths: list[str] = field(default_factory=list)
    defs: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    families: list[Family] = field(default_factory=list)
    weights: dict[tuple[str, str, tuple[str, ...]], list[str]] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    functions: tuple[str, ...] = FUNCTIONS
    heavy: int = 0  # products, attention, maxima: what makes expectations of many Gaussians

    @property
    def newer(self) -> bool:
        """Seeds keep their programs: those from here on have indices that wrap around, tokens and output biases too."""
        return self.seed >= 5000

    def __post_init__(self) -> None:
        self.rng = random.Random(f"program {self.seed}")

    # ------------------------------------------------------------ choices

    def one_in(self, k: int) -> bool:
        return self.rng.randrange(k) == 0

    def pick(self, *options):
        return self.rng.choice(options)

    def new(self, *wanted: str) -> str:
        """A name that is not taken: one of `wanted`, or an odd one."""
        used = self.taken | self.bound
        pool = [w for w in wanted if w not in used] if wanted and not self.one_in(3) else []
        pool = pool or [n for n in NAMES if n not in used]
        name = self.rng.choice(pool)
        self.taken.add(name)
        return name

    def index(self, *others: str) -> str:
        """A name for an index, other than the indices around it; it may hide nothing else."""
        name = self.rng.choice([i for i in INDICES if i not in others and i not in self.taken])
        self.bound.add(name)
        return name

    def number(self) -> str:
        return self.pick("2", "1/2", "0.5", "1.5", "1/3", "0.7", "3/4")

    def function(self, bounded: bool = False) -> str:
        own = [d.split("(")[0].split()[-1] for d in self.defs]
        choice = self.rng.choice(BOUNDED if bounded else self.functions)
        return self.rng.choice(own) if own and self.one_in(4) and not bounded else choice

    # ------------------------------------------------------------ declarations

    def size(self, value: int | None = None) -> Axis:
        """An axis 1..P of a size that is a parameter, set or read off the data."""
        name = self.rng.choice([s for s in SIZE_NAMES if s not in self.taken | self.bound])
        self.taken.add(name)
        value = value or self.pick(1, 2, 2, 3, 3, 4)
        self.parameters.append(name if self.one_in(2) else f"{name} = {value}")
        return Axis("1", name, 1, value)

    def weight(self, rows: str, columns: str, axes: tuple[tuple[str, Axis], ...] = (), fresh: bool = False) -> str:
        """The name of a weight A(rows, columns) of a family with those axes; one that is there, now and then."""
        key = (rows, columns, tuple(str(a) for _, a in axes))
        there = self.weights.setdefault(key, [])
        if there and not fresh and self.one_in(4):
            return self.rng.choice(there)
        name = self.new("W", "V", "U", "A", "B", "W1", "W2")
        there.append(name)
        ranges = ", ".join(f"{i} = {a}" for i, a in axes)
        total = 1
        for _, a in axes:
            total *= a.count if a.low != "1" else 1
        fan = f"{total} * {columns}" if total > 1 else columns
        law = self.pick(f"N(0, 1) / sqrt({fan})", f"N(0, {self.number()}) / sqrt({fan})",
                        f"N(0, 1) * sqrt({self.number()} / ({fan}))")  # fmt: skip
        fixed = "fixed " if self.one_in(12) else ""
        self.laws.append(f"{fixed}weight {name}{f'[{ranges}]' if ranges else ''} : A({rows}, {columns}) ~ {law}")
        return name

    def bias(self, width: str, index: str = "", axis: Axis | None = None) -> str:
        """A vector to add, or a family of them over an axis, read at `index`."""
        name = self.new("b", "be", "b1")
        mean = self.pick("0", "0", "0", "1/2", "-0.3")
        law = self.pick(f"N({mean}, 1/2)", f"N({mean}, 1) * sqrt(0.3)", "N(0, 0)", f"N({mean}, 0.1)")
        ranges = f"[{index} = {axis}]" if axis else ""
        self.laws.append(f"vector {name}{ranges} : G({width}) ~ {law}")
        return f"{name}[{index}]" if axis else name

    # ------------------------------------------------------------ reading

    def vectors(self, axes: int | None = None, width: str | None = None) -> list[Family]:
        return [
            f for f in self.families if (axes is None or len(f.axes) == axes) and (width is None or f.width == width)
        ]

    def last(self, axes: int | None = None) -> Family | None:
        """A family to go on from: the last one, mostly."""
        found = self.vectors(axes)
        if not found:
            return None
        return found[-1] if not self.one_in(4) else self.rng.choice(found)

    def read(self, f: Family, at: tuple[tuple[str, Axis], ...]) -> str:
        """A member of a family at those indices; another member or a guarded one, now and then."""
        if not f.axes:
            return f.name
        parts, inside = [], True
        for k, axis in enumerate(f.axes):
            i, own = at[k] if k < len(at) else ("", None)
            same = own is not None and (own.low, own.high) == (axis.low, axis.high)
            if same and not self.one_in(8):
                parts.append(i)
            elif same and self.one_in(2) and axis.low == "1":
                parts.append(f"{axis.high}+1-{i}" if self.one_in(2) else f"{axis.high} - {i} + 1")
            elif same:
                shift = self.pick("+1", "-1", "+2")
                parts.append(i + shift)
                inside = False
            else:
                parts.append(self.pick(axis.low, axis.high))
        text = f"{f.name}[{', '.join(parts)}]"
        return text if inside else f"({text} else {self.otherwise(f, at)})"

    def otherwise(self, f: Family, at) -> str:
        ends = ", ".join(self.pick(a.low, a.high) for a in f.axes)
        plain = [
            i
            for k, (i, own) in enumerate(at)
            if k < len(f.axes) and (own.low, own.high) == (f.axes[k].low, f.axes[k].high)
        ]
        options = ["0", "0", f"{f.name}[{ends}]"]
        if len(plain) == len(f.axes):
            options.append(f"{f.name}[{', '.join(plain)}]")
        return self.rng.choice(options)

    def term(self, width: str, at) -> str | None:
        """Some vector of that width, at those indices."""
        found = [f for f in self.vectors(width=width) if len(f.axes) <= len(at) or self.one_in(3)]
        return self.read(self.rng.choice(found), at) if found else None

    def assign(self, name: str, at: tuple[tuple[str, Axis], ...], value: str, width: str = "n") -> Family:
        """A family by one assignment, as a block or with its indices bound on the left."""
        self.body += self.block(at, [f"{name}{self.indices(at)} := {value}"])
        return self.add(name, at, width)

    def block(self, at, lines: list[str]) -> list[str]:
        if not at:
            return lines
        if len(lines) == 1 and self.one_in(3):
            head, _, value = lines[0].partition(" := ")
            name = head.partition("[")[0]
            if head == f"{name}[{', '.join(i for i, _ in at)}]":
                return [f"{name}[{', '.join(f'{i} = {a}' for i, a in at)}] := {value}"]
        reverse = self.one_in(6)
        ranges = [f"{i} = {a.high}..{a.low} by -1" if reverse else f"{i} = {a}" for i, a in at]
        if len(at) > 1 and self.one_in(3):
            return [f"for {ranges[0]}:", f"    for {', '.join(ranges[1:])}:", *("        " + x for x in lines)]
        return [f"for {', '.join(ranges)}:", *("    " + line for line in lines)]

    @staticmethod
    def indices(at) -> str:
        return f"[{', '.join(i for i, _ in at)}]" if at else ""

    def add(self, name: str, at, width: str = "n") -> Family:
        family = Family(name, tuple(a for _, a in at), width)
        self.families.append(family)
        return family

    def around(self, f: Family) -> tuple[tuple[str, Axis], ...]:
        """Fresh indices for the axes of a family."""
        names: list[str] = []
        for _ in f.axes:
            names.append(self.index(*names))
        return tuple(zip(names, f.axes, strict=True))

    # ------------------------------------------------------------ the program

    def write(self) -> Sample:
        self.functions = tuple(self.rng.sample(FUNCTIONS, 2))
        if self.one_in(4):
            bodies = ("(1 + erf(x)) / 2", "x * sigmoid(x)", "relu(x) - x / 2", "max(x, -1/2)", "tanh(x)**2", "erf(2 * x) + 1/3", "x**2 / 4",
                      "relu(x)**2 / 3", "exp(-x**2)", "min(max(x, -1), 1)", "abs(x) / 2 + x", "sin(x) + x")  # fmt: skip
            self.defs.append(f"def {self.new('f', 'gate', 'act')}(x) := {self.rng.choice(bodies)}")
        self.data()
        for _ in range(self.pick(1, 2, 2, 3, 3, 4)):
            self.stage()
        output = self.output()
        name = self.rng.choice(["p", "net", "kernel", "sample_1", "x", "h"])
        header = f"program {name}({', '.join(self.parameters)})"
        declared = [*self.inputs, *self.widths, *self.laws]
        if self.one_in(3):
            defs, declared = [], [*self.defs, *declared]
        else:
            defs = self.defs
        text = "\n".join([header, *declared, *defs, *self.body, output]) + "\n"
        return Sample(self.seed, text, self.shapes, tuple(self.stages), self.tokens)

    def data(self) -> None:
        kind = self.rng.choice(
            ("one", "row", "row", "row", "grid", "two", "graph", *(["tokens"] if self.newer else []))
        )
        self.stages.append(kind)
        if kind == "tokens":
            self.words()
            return
        x = self.new("x", "inp", "data")
        axes: tuple[Axis, ...] = ()
        if kind in ("row", "two", "graph"):
            axes = (self.size(),)
        if kind == "grid":
            axes = (self.size(self.pick(1, 2, 3)), self.size(self.pick(1, 2)))
        if kind == "two" and self.one_in(2):
            axes = ()
        at: tuple[tuple[str, Axis], ...] = self.around(Family("", axes))
        ranges = f"[{', '.join(f'{i} = {a}' for i, a in at)}]" if at else ""
        self.inputs.append(f"input {x}{ranges} : R(d)")
        self.shapes[x] = (*(a.count for a in axes), 2)
        data = Family(x, axes)
        if at and self.one_in(4):  # data by cases, or by assignments
            i, axis = at[0]
            others = "".join(f", {j}" for j, _ in at[1:])
            y = self.new("xx", "xp")
            value = self.pick(
                f"{x}[{i}+1{others}] if {i} < {axis.high} else {x}[1{others}]",
                f"({x}[{i}-1{others}] else {x}[{i}{others}])",
                f"{x}[{i}{others}] if {i} == 1 else {x}[{i}{others}] - {x}[{i}-1{others}]",
                f"{self.number()} * {x}[{i}{others}] + ({x}[{i}+1{others}] else 0)",
                f"relu({x}[{i}{others}])",
            )
            self.body += self.block(at, [f"{y}{self.indices(at)} := {value}"])
            data, x = Family(y, axes), y
            self.stages.append("data by cases")
        terms = [self.layer_of_data(data, at, "d")]
        if kind == "two":
            second = self.new("y", "z")
            self.inputs.append(f"input {second} : R(e0)")
            self.shapes[second] = (3,)
            terms.append(self.layer_of_data(Family(second, ()), (), "e0"))
        if kind == "graph":
            adj, i, axis = self.new("adj", "A"), at[0][0], axes[0]
            j = self.index(i)
            self.inputs.append(f"input {adj}[{i} = {axis}, {j} = {axis}] : C")
            self.shapes[adj] = (axis.count, axis.count)
            g = self.assign(self.new("g"), at, " + ".join(terms))
            value = f"sum[{j} = {axis}]({adj}[{i}, {j}] * {self.pick(f'{g.name}[{j}]', f'{self.function()}({g.name}[{j}])')})"
            self.assign(self.new("h"), at, value)
            return
        if self.one_in(3):
            terms.append(self.bias("n"))
        self.assign(self.new("h", "h0"), at, " + ".join(terms))

    def words(self) -> None:
        """Integers for data, and a family that they choose from."""
        t, e, axis, count = self.new("t", "words"), self.new("E"), self.size(), self.pick(2, 3)
        i = self.index()
        w = self.index(i)
        self.inputs.append(f"input {t}[{i} = {axis}] : index({count})")
        self.shapes[t], self.tokens[t] = (axis.count,), count
        self.laws.append(
            f"vector {e}[{w} = 1..{count}] : G(n) ~ {self.pick('N(0, 1)', 'N(1/2, 1/3)', 'N(0, 1) * sqrt(0.7)')}"
        )
        value = self.pick(f"{e}[{t}[{i}]]", f"{e}[{t}[{i}]]", f"{e}[{t}[{i}]] + ({e}[{t}[{i}-1]] / 2 else 0)")
        if self.one_in(3):
            value = f"{self.weight('n', 'n')} @ {self.function()}({e}[{t}[{i}]])"
        self.assign(self.new("h"), ((i, axis),), value)

    def layer_of_data(self, data: Family, at, features: str) -> str:
        if at and self.one_in(3):
            i, _ = at[0]
            a = self.index(*(j for j, _ in at))
            low, high = self.pick((-1, 1), (0, 1), (-1, 0))
            window = Axis(str(low), str(high), low, high)
            w = self.weight("n", features, ((a, window),))
            others = "".join(f", {j}" for j, _ in at[1:])
            return f"sum[{a} = {low}..{high}]({w}[{a}] @ ({data.name}[{i}+{a}{others}] else 0))"
        return f"{self.weight('n', features)} @ {self.read(data, at)}"

    def stage(self) -> None:
        stages: list[Callable[[], bool]] = [
            self.dense, self.dense, self.nonlinear, self.residual, self.gate, self.normalize, self.attention, self.pool, self.strided,
            self.recurrence, self.recurrence, self.layers, self.layers, self.transpose, self.moment, self.permuted, self.batch, self.wide,
            self.mixture, self.mixture, self.window, self.window, self.upsample, self.outer, self.cases,
        ]  # fmt: skip
        for _ in range(8):
            stage = self.rng.choice(stages)
            if stage():
                self.stages.append(stage.__name__)
                return

    # ------------------------------------------------------------ stages: False where they do not fit

    def dense(self) -> bool:
        f = self.last()
        at = self.around(f)
        inner = self.read(f, at)
        if not self.one_in(3):
            inner = f"{self.function()}({inner})"
        value = f"{self.weight('n', f.width)} @ {inner}"
        if self.one_in(3):
            value += f" + {self.bias('n', *at[0]) if at and self.one_in(3) else self.bias('n')}"
        self.assign(self.new("g", "h", "z"), at, value)
        return True

    def nonlinear(self) -> bool:
        f = self.last()
        at = self.around(f)
        self.assign(self.new("s", "z", "a"), at, f"{self.function()}({self.read(f, at)})", f.width)
        return True

    def residual(self) -> bool:
        f = self.last()
        at = self.around(f)
        w = self.weight(f.width, f.width)
        value = f"{self.read(f, at)} + {self.number()} * {self.function()}({w} @ {self.read(f, at)})"
        self.assign(self.new("r", "z"), at, value, f.width)
        return True

    def gate(self) -> bool:
        if self.heavy > 1:
            return False
        self.heavy += 1
        f = self.last()
        at = self.around(f)
        a, b = (f"{self.weight('n', f.width, fresh=True)} @ {self.read(f, at)}" for _ in range(2))
        value = f"sigmoid({a}) * {self.pick('tanh', 'erf', '')}({b})"
        other = self.term("n", at)
        if other and self.one_in(2):
            u = self.new("u")
            self.assign(u, at, f"{self.pick('sigmoid', 'erf')}({a})")
            value = f"{u}{self.indices(at)} * {self.function(True)}({b}) + (1 - {u}{self.indices(at)}) * {other}"
        self.assign(self.new("z", "o"), at, value)
        return True

    def normalize(self) -> bool:
        f = self.last()
        at = self.around(f)
        eps = self.pick("", ", 0.01", ", eps = 1/10")
        value = f"layernorm({self.read(f, at)}{eps})"
        self.assign(self.new("z", "ln"), at, self.pick(value, f"{self.function()}({value})"), f.width)
        return True

    def attention(self) -> bool:
        f = self.last(1)
        if f is None or self.heavy > 1:
            return False
        self.heavy += 1
        (i, axis), *_ = at = self.around(f)
        j = self.index(i)
        k, s, a = self.new("k", "q"), self.new("s"), self.new("a")
        self.assign(k, at, f"{self.weight('n', f.width)} @ {f.name}[{i}]")
        u = f"{self.weight('n', f.width)} @ {f.name}[{j}]" if self.one_in(2) else f"{f.name}[{j}]"
        both = ((i, axis), (j, axis))
        score = f"<{k}[{i}], {k}[{j}]> / n"
        if self.one_in(3):
            score += f" if {j} <= {i} else -1000"
        self.body += self.block(both, [f"{s}[{i}, {j}] := {score}"])
        self.body += self.block(both, [f"{a}[{i}, {j}] := softmax[{j}]({s}[{i}, {j}])"])
        total = f"sum[{j} = {axis}]({a}[{i}, {j}] * {u if '@' not in u else f'({u})'})"
        if f.width != "n" and "@" not in u:
            total = f"{self.weight('n', f.width)} @ {total}"
        self.assign(self.new("m", "o"), at, total)
        return True

    def pool(self) -> bool:
        f = self.last(1) or self.last(2)
        if f is None:
            return False
        kept = self.around(f)[: len(f.axes) - 1]
        j = self.index(*(i for i, _ in kept))
        axis = f.axes[-1]
        low = axis.low
        kind = self.pick("mean", "mean", "sum", "max" if axis.count <= 3 and self.heavy < 1 else "mean")
        self.heavy += kind == "max"
        inner = f"{f.name}[{', '.join([*(i for i, _ in kept), j])}]"
        inner = self.pick(inner, f"{self.function(True)}({inner})")
        self.assign(self.new("m", "pooled"), kept, f"{kind}[{j} = {low}..{axis.high}]({inner})", f.width)
        return True

    def strided(self) -> bool:
        f = self.last(1)
        if f is None or f.axes[0].low != "1":
            return False
        i = self.index()
        count = (f.axes[0].count + 1) // 2
        half = Axis("1", str(count), 1, count)
        if self.newer and f.axes[0].high.isidentifier() and self.one_in(2):
            half = Axis("1", f"({f.axes[0].high}+1)/2", 1, count)
        if self.one_in(2):
            a = self.index(i)
            w = self.weight("n", f.width, ((a, Axis("-1", "0", -1, 0)),))
            value = f"sum[{a} = -1..0]({w}[{a}] @ ({f.name}[2*{i}+{a}] else 0))"
            width = "n"
        else:
            value = f"({f.name}[2*{i}-1] + {f.name}[2*{i}] else {f.name}[2*{i}-1]) / 2"
            value = self.pick(value, f"{f.name}[2*{i}-1]")
            width = f.width
        self.assign(self.new("c", "down"), ((i, half),), value, width)
        return True

    def recurrence(self) -> bool:
        f = self.last(1)
        if f is None or f.axes[0].low != "1":
            return False
        i, axis = self.around(f)[0]
        s = self.new("s", "state")
        backwards = self.one_in(3)
        start, before = (f"{axis.high}+1", f"{i}+1") if backwards else ("0", f"{i}-1")
        self.body.append(f"{s}[{start}] := {self.pick('0', '0', self.bias('n'))}")
        w = self.weight("n", "n")
        drive = (
            f"{f.name}[{i}]" if f.width == "n" and self.one_in(2) else f"{self.weight('n', f.width)} @ {f.name}[{i}]"
        )
        form = self.pick("plain", "plain", "two", "leaky", "condition")
        head = f"for {i} = {axis.high}..{axis.low} by -1:" if backwards else f"for {i} = {axis}:"
        if form == "plain":
            lines = [f"{s}[{i}] := {self.function()}({w} @ {s}[{before}] + {drive})"]
        elif form == "two":
            g = self.new("g")
            lines = [f"{g}[{i}] := {w} @ {s}[{before}] + {drive}", f"{s}[{i}] := {self.function()}({g}[{i}])"]
        elif form == "leaky":
            lines = [f"{s}[{i}] := {s}[{before}] / 2 + {self.function()}({w} @ {s}[{before}] + {drive}) / 2"]
        else:
            first = f"{i} == {axis.high}" if backwards else f"{i} == 1"
            lines = [
                f"{s}[{i}] := {self.function()}({drive}) if {first} else {self.function()}({w} @ {s}[{before}] + {drive})"
            ]
        self.body += [head, *("    " + line for line in lines)]
        # what stands at the start is not offered to later stages
        self.families.append(Family(s, (axis,)))
        return True

    def layers(self) -> bool:
        f = self.last()
        if f.width != "n":
            return False
        at = self.around(f)
        names = [i for i, _ in at]
        layer = self.index(*names)
        depth = self.pick(1, 2, 2, 3) if len(at) < 2 else self.pick(1, 2)
        name = self.rng.choice([x for x in ("L", "depth", "D_", "H1") if x not in self.taken | self.bound] or ["L9"])
        if name in self.taken:
            return False
        self.taken.add(name)
        self.parameters.append(f"{name} = {depth}")
        steps = Axis("1", name, 1, depth)
        z = self.new("z", "h", "s")
        rest = "".join(f", {i}" for i in names)
        self.body += self.block(at, [f"{z}[0{rest}] := {f.name}{self.indices(at)}"])
        shared = self.one_in(3)
        w = self.weight("n", "n") if shared else f"{self.weight('n', 'n', ((layer, steps),))}[{layer}]"
        prev = f"{z}[{layer}-1{rest}]"
        inner = f"{w} @ {self.function()}({prev})"
        form = self.pick("plain", "plain", "residual", "bias", "window", "condition", "input")
        if form == "residual":
            inner = f"{prev} + {self.pick('0.5', '1/2', '2')} * {inner}"
        elif form == "bias":
            inner += f" + {self.bias('n', layer, steps)}"
        elif form == "window" and at:
            i = names[0]
            a = self.index(*names, layer)
            window = Axis("-1", "1", -1, 1)
            v = self.weight("n", "n", ((layer, steps), (a, window)))
            others = "".join(f", {j}" for j in names[1:])
            inner = f"sum[{a} = -1..1]({v}[{layer}, {a}] @ ({self.pick('', 'erf')}({z}[{layer}-1, {i}+{a}{others}]) else 0))"
        elif form == "condition":
            inner = f"{inner} if {layer} {self.pick('==', '<', '!=', '>=')} {self.pick('1', '2', name)} else {self.function(True)}({prev})"
        elif form == "input":
            inner += f" + {f.name}{self.indices(at)}"
        loops = ", ".join(f"{i} = {a}" for i, a in at)
        target = f"{z}[{layer}{rest}] := {inner}"
        if not at:
            self.body += [f"for {layer} = {steps}:", f"    {target}"]
        elif self.one_in(2):
            self.body += [f"for {layer} = {steps}:", f"    for {loops}:", f"        {target}"]
        elif self.one_in(2):
            self.body += [f"for {layer} = {steps}, {loops}:", f"    {target}"]
        else:
            self.body += [f"for {layer} = {steps}:", f"    {z}[{layer}, {loops}] := {inner}"]
        out = self.new("o", "top")
        self.assign(out, at, f"{z}[{name}{rest}]")
        return True

    def transpose(self) -> bool:
        f = self.last()
        if self.heavy > 1:
            return False
        self.heavy += 1
        at = self.around(f)
        w = self.weight("n", f.width)
        inner = self.read(f, at)
        value = f"{w}.T @ {self.function(True)}({w} @ {inner})"
        if self.one_in(3):
            g = self.new("g")
            self.assign(g, at, f"{w} @ {inner}")
            value = f"{w}.T @ {self.function(True)}({g}{self.indices(at)}) + {self.number()} * {inner}"
        self.assign(self.new("b", "r"), at, value, f.width)
        return True

    def moment(self) -> bool:
        f = self.last()
        at = self.around(f)
        c = self.new("c", "nu")
        inner = f"{f.name}{self.indices(at)}"
        value = self.pick(f"<{inner}, {inner}> / {f.width}", f"<{self.function()}({inner})> / {f.width}",
                          f"<{inner}**2> / {f.width} + 1/3")  # fmt: skip
        self.body += self.block(at, [f"{c}{self.indices(at)} := {value}"])
        c = f"{c}{self.indices(at)}"
        value = self.pick(f"{inner} / sqrt({c} + 1/2)", f"{c} * {inner}", f"{self.function()}({c} * {inner})",
                          f"{inner} - {c}", f"{self.function()}({inner} / sqrt(1/4 + {c}**2))")  # fmt: skip
        self.assign(self.new("z"), at, value, f.width)
        return True

    def permuted(self) -> bool:
        f = self.last(1)
        if f is None or f.axes[0].low != "1":
            return False
        i, axis = self.around(f)[0]
        h = f.name
        ways = [
            f"{h}[{i}+1] if {i} < {axis.high} else {h}[1]",
            f"{h}[{axis.high}+1-{i}]",
            f"({h}[{i}+1] else {h}[{i}+1-{axis.high}])",
            f"({h}[{i}-1] else ({h}[{i}+1] else {h}[{i}]))",
            f"{h}[{i}] if {i} == 1 or {i} == {axis.high} else ({h}[{i}-1] + {h}[{i}+1]) / 2",
            f"{h}[1] if {i} != 1 else {h}[{axis.high}]",
        ]
        if self.newer and axis.high.isidentifier():
            ways += [
                f"{h}[({i}+1) mod {axis.high}]",
                f"{h}[({i}-1) mod {axis.high}] - {h}[{i}]",
                f"{h}[{i}] if {i} mod 2 == 0 else {h}[({i}+1) mod {axis.high}]",
            ]
        value = self.rng.choice(ways)
        if self.one_in(2):
            value = f"{self.weight('n', f.width)} @ ({value})"
            self.assign(self.new("c"), ((i, axis),), value)
        else:
            self.assign(self.new("c"), ((i, axis),), value, f.width)
        return True

    def batch(self) -> bool:
        f = self.last(1)
        if f is None or f.axes[0].count < 2 or self.heavy > 0:
            return False
        self.heavy += 2
        at = self.around(f)
        value = f"batchnorm[{at[0][0]}]({f.name}{self.indices(at)}, eps = {self.pick('0.1', '1/2')})"
        self.assign(self.new("z", "bn"), at, self.pick(value, f"relu({value})"), f.width)
        return True

    def wide(self) -> bool:
        f = self.last()
        m = self.rng.choice([x for x in ("m", "w2", "width_", "nn") if x not in self.taken | self.bound] or ["m9"])
        if m in self.taken:
            return False
        self.taken.add(m)
        self.widths.append(f"width {m} = {self.pick('2 * n', 'n / 2', '3 * n', 'n')}")
        at = self.around(f)
        g = self.assign(self.new("wide"), at, f"{self.weight(m, f.width)} @ {self.function()}({self.read(f, at)})", m)
        if self.one_in(2):
            self.assign(self.new("back"), at, f"{self.weight('n', m)} @ {self.function()}({self.read(g, at)})")
        return True

    def mixture(self) -> bool:
        """A linear combination or a product of what there is."""
        f = self.last()
        at = self.around(f)
        terms = [self.read(f, at)]
        for _ in range(self.pick(1, 1, 2)):
            other = self.term(f.width, at)
            if other:
                other = self.pick(other, f"{self.function()}({other})", f"{self.number()} * {other}", f"(-{other})")
                terms.append(other)
        if len(terms) > 1 and self.heavy < 1 and self.one_in(3):
            self.heavy += 1
            value = f"{self.function(True)}({terms[0]}) * ({' + '.join(terms[1:])})"
        else:
            value = terms[0] + "".join(f" {self.pick('+', '-', '+')} {t}" for t in terms[1:])
        if self.one_in(3):
            value = f"{self.weight('n', f.width)} @ ({value})"
            self.assign(self.new("z"), at, value)
        else:
            self.assign(self.new("z"), at, value, f.width)
        return True

    def window(self) -> bool:
        """A filter along one axis, of matrices, padded in several ways."""
        f = self.last(self.pick(1, 1, 2)) or self.last(1)
        if f is None:
            return False
        at = self.around(f)
        i, axis = at[0]
        a = self.index(*(j for j, _ in at))
        low, high = self.pick((-1, 1), (0, 1), (-1, 0), (-2, 1))
        others = "".join(f", {j}" for j, _ in at[1:])
        phi = self.pick("", self.function())

        def member(index: str) -> str:
            text = f"{f.name}[{index}{others}]"
            return f"{phi}({text})" if phi else text

        if axis.low == "1":
            pad = self.pick(
                "0",
                "0",
                "0",
                member(i),
                member("1"),
                member(f"{i}-{a}") if False else "0",
                "(" + member(f"{i}-{a}") + " else 0)",
            )
        else:
            pad = "0"
        w = self.weight("n", f.width, ((a, Axis(str(low), str(high), low, high)),))
        self.assign(
            self.new("g", "conv"), at, f"sum[{a} = {low}..{high}]({w}[{a}] @ ({member(f'{i}+{a}')} else {pad}))"
        )
        return True

    def upsample(self) -> bool:
        f = self.last(1)
        if f is None or f.axes[0].low != "1" or f.axes[0].count > 2:
            return False
        i, axis = self.around(f)[0]
        u = self.new("up")
        second = self.pick(f"{f.name}[{i}]", f"({f.name}[{i}] + ({f.name}[{i}+1] else 0)) / 2")
        self.body += [f"for {i} = {axis}:", f"    {u}[2*{i}-1] := {f.name}[{i}]", f"    {u}[2*{i}] := {second}"]
        self.families.append(Family(u, (Axis("1", f"2*{axis.high}", 1, 2 * axis.count),), f.width))
        return True

    def outer(self) -> bool:
        """A family over two indices, and what is left of it over one."""
        f = self.last(1)
        if f is None or f.axes[0].count > 3:
            return False
        (i, axis), *_ = self.around(f)
        j = self.index(i)
        o = self.new("pairs", "o")
        w = self.weight(f.width, f.width)
        value = self.pick(
            f"{self.function(True)}({f.name}[{i}] + {w} @ {f.name}[{j}])",
            f"{f.name}[{i}] - {f.name}[{j}]",
            f"{w} @ {f.name}[{j}] if {j} <= {i} else {f.name}[{i}]",
        )
        g = self.assign(o, ((i, axis), (j, axis)), value, f.width)
        if self.one_in(2):
            kind = self.pick("sum", "mean")
            inner = self.pick(
                f"{g.name}[{i}, {j}]", f"{self.function(True)}({g.name}[{i}, {j}])", f"{g.name}[{j}, {i}]"
            )
            high = self.pick(axis.high, i)
            self.assign(self.new("z"), ((i, axis),), f"{kind}[{j} = {axis.low}..{high}]({inner})", f.width)
        return True

    def cases(self) -> bool:
        """By cases over one index or two."""
        f = self.last(self.pick(1, 2)) or self.last(1)
        if f is None:
            return False
        at = self.around(f)
        i, axis = at[0]
        condition = self.pick(
            f"{i} == {axis.low}", f"{i} > {axis.low}", f"2*{i} <= {axis.high}", f"{i} != {axis.high}", f"not {i} < 2"
        )
        if len(at) > 1:
            j, second = at[1]
            condition = self.pick(
                f"{i} == {j}", f"{i} <= {j}", f"{condition} and {j} > {second.low}", f"{i} + {j} == 3 or {condition}"
            )
        here = f"{f.name}{self.indices(at)}"
        first = self.pick(here, f"{self.function()}({here})", f"{self.weight(f.width, f.width)} @ {here}")
        second = self.pick(
            "0", f"{self.number()} * {here}", f"{self.function()}({here})", self.term(f.width, at) or "0"
        )
        self.assign(self.new("z", "c"), at, f"{first} if {condition} else {second}", f.width)
        return True

    # ------------------------------------------------------------ outputs

    def output(self) -> str:
        """The output, with a bias of its own now and then."""
        text = self.readout()
        if self.newer and self.one_in(6):
            c = self.new("c", "bias")
            self.laws.append(f"scalar {c} ~ {self.pick('N(0, 1/2)', 'N(0, 1) * sqrt(0.3)', 'N(0, 0)')}")
            text += f" + {c}"
        return text

    def readout(self) -> str:
        f = self.families[-1]
        at = self.around(f)
        v = self.new("v", "readout")
        y = self.new("y", "out")
        law = self.pick("N(0, 1)", "N(0, 1)", "N(0, 1.3)", "N(0, 1) * sqrt(0.7)")
        w = f.width
        ranges = ", ".join(f"{i} = {a}" for i, a in at)
        value = self.pick("{}", "{}", self.function() + "({})").format(
            self.read(f, at) if self.one_in(2) else f"{f.name}{self.indices(at)}"
        )
        if not at:
            self.laws.append(f"vector {v} : G({w}) ~ {law}")
            return f"output {y} := {v}.T @ {value} / sqrt({w})"
        if self.one_in(6):
            own = ", ".join(f"{i} = {a}" for i, a in at)
            self.laws.append(f"vector {v}[{own}] : G({w}) ~ {law}")
            return f"output {y} := sum[{ranges}]({v}{self.indices(at)}.T @ {value}) / sqrt({w})"
        self.laws.append(f"vector {v} : G({w}) ~ {law}")
        if self.one_in(2):
            return f"output {y}[{ranges}] := {v}.T @ {value} / sqrt({w})"
        return f"output {y} := {self.pick('mean', 'sum')}[{ranges}]({v}.T @ {value}) / sqrt({w})"
