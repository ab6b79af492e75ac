"""What an entry of a table is made of: numbers, laws, entries of other tables, and Gaussian expectations of these."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range

# Kinds of tables.
DATA = "data"  # an input or data computed from inputs, one run: [axes…, d]
SCALAR = "scalar"  # a C, one run
MEAN = "mean"  # E Z^x, one run
GRAM = "gram"  # <x, x'>/d of two data vectors
COVARIANCE = "covariance"  # Cov(Z^g, Z^g') of two G-vars
MOMENT = "moment"  # E Z^x Z^x'
OUTPUT = "output"  # the kernel of the output


@dataclass(frozen=True)
class Key:
    """Names a table: its kind, stream ("self" or "cross"; one-run tables are "self") and one or two families."""

    kind: str
    stream: str
    families: tuple[str, ...]


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Constant:
    """A number in real parameters, sizes and indices."""

    value: sympy.Expr


@dataclass(frozen=True)
class LawVariance:
    """The part of a random variable's law: `scale` in one copy, scale + ε·`tangent` between copies.

    scale = lim fan-in · multiplier² · variance; tangent = lim fan-in · multiplier², the quotient
    (1/var)·∂/∂ρ taken analytically; None where it diverges (the NTK of a standard parametrization).
    `moves` is False within one run and for fixed parameters. `parameter` is the trained parameter that it moves with:
    the weight whose transpose a fresh matrix stands for, else `name` itself.
    """

    name: str
    parameter: str
    scale: sympy.Expr
    tangent: sympy.Expr | None
    moves: bool


@dataclass(frozen=True)
class LawVariances(LawVariance):
    """Those of several random variables, of which the one at `at` counts, the first at 0: layers rolled into a loop."""

    laws: tuple[LawVariance, ...]
    at: Affine


@dataclass(frozen=True)
class Read:
    """An entry of a table. `side` says whose run: "left", "right", or None inside a run and for the cross stream."""

    key: Key
    indices: tuple[Affine, ...]
    side: str | None = None


@dataclass(frozen=True)
class Gram:
    """<x, x'>/d of two data vectors; `sides` their runs (None, None inside a run)."""

    names: tuple[str, str]
    left: tuple[Affine, ...]
    right: tuple[Affine, ...]
    sides: tuple[str | None, str | None]
    feature: str


@dataclass(frozen=True)
class Add:
    terms: tuple[Node, ...]


@dataclass(frozen=True)
class Product:
    factors: tuple[Node, ...]


@dataclass(frozen=True)
class Sum:
    """Σ over the ranges, of the entries where all conditions hold."""

    ranges: tuple[Range, ...]
    conditions: tuple[Condition, ...]
    body: Node


@dataclass(frozen=True)
class Where:
    """`then` where all conditions hold, else `otherwise`."""

    conditions: tuple[Condition, ...]
    then: Node
    otherwise: Node


@dataclass(frozen=True)
class Apply:
    """A function of scalars: a sympy expression with symbols standing for entries."""

    expression: sympy.Expr
    arguments: tuple[tuple[sympy.Symbol, Node], ...]


@dataclass(frozen=True)
class Reduce:
    """max, min, prod or softmax of scalars over a range; softmax gives the value at `at`."""

    kind: str
    range: Range
    conditions: tuple[Condition, ...]
    body: Node
    at: Affine | None = None


@dataclass(frozen=True)
class PairExpectation:
    """E f(z) g(w), (z, w) Gaussian with covariance k, variances p, q and means mu, nu (None: zero).

    `same` holds the index pairs that must agree for z and w to be the same variable of the same
    input (None: never): there k = p = q exactly, which no rounding may spoil.
    """

    f: sympy.Expr
    g: sympy.Expr
    z: sympy.Symbol
    w: sympy.Symbol
    k: Node
    p: Node
    q: Node
    mu: Node | None
    nu: Node | None
    scalars_f: tuple[tuple[sympy.Symbol, Node], ...]
    scalars_g: tuple[tuple[sympy.Symbol, Node], ...]
    same: tuple[Condition, ...] | None


@dataclass(frozen=True)
class SingleExpectation:
    """E f(z), z Gaussian with variance q and mean mu (None: zero)."""

    f: sympy.Expr
    z: sympy.Symbol
    q: Node
    mu: Node | None
    scalars: tuple[tuple[sympy.Symbol, Node], ...]


@dataclass(frozen=True)
class JointExpectation:
    """E f(z_1, …) g(w_1, …) for jointly Gaussian arguments, those of f first in `covariance` and `means`.

    `covariance` is the lower triangle, row by row.
    """

    f: sympy.Expr
    g: sympy.Expr
    zs: tuple[sympy.Symbol, ...]
    ws: tuple[sympy.Symbol, ...]
    covariance: tuple[Node, ...]
    means: tuple[Node | None, ...]
    scalars_f: tuple[tuple[sympy.Symbol, Node], ...]
    scalars_g: tuple[tuple[sympy.Symbol, Node], ...]


@dataclass(frozen=True)
class BatchnormExpectation:
    """E φ(u_b) γ(u'_b') for u = batchnorm(h) of Gaussians h over an index, φ(u) = phi[0] u + phi[1] |u|, γ likewise.

    k is Cov(h_i, h'_j), i and j the first of `rows` and of `columns`; p and q are the covariances of each batch, over
    both of `rows` and of `columns`. b and b' are `at` and `other_at`. `same` as in PairExpectation, for the batches.
    `moved`: the tangent of k where this is the derivative along it, else None.
    """

    phi: tuple[sympy.Expr, sympy.Expr]
    gamma: tuple[sympy.Expr, sympy.Expr]
    rows: tuple[Range, Range]
    columns: tuple[Range, Range]
    k: Node
    p: Node
    q: Node
    eps: Node
    other_eps: Node
    at: Affine
    other_at: Affine
    same: tuple[Condition, ...] | None
    moved: Node | None = None


@dataclass(frozen=True)
class BatchnormMean:
    """E φ(u_b), in the notation of BatchnormExpectation."""

    phi: tuple[sympy.Expr, sympy.Expr]
    rows: tuple[Range, Range]
    p: Node
    eps: Node
    at: Affine


@dataclass(frozen=True)
class Sampled:
    """E Z^u Z^v (E Z^u where `right` is None), for vectors of which no rule gives it: by simulation.

    `left` and `right` are members of families: name and indices. `functions` are those that u and v are made of,
    each with the symbols of its vectors; `tables` are those of the Gaussians that they are functions of.
    `moved`: the derivative along the correlation of two copies, by Price's theorem the sum over Gaussians Z_i of u's
    run and Z_j of v's of E[∂Z^u/∂Z_i ∂Z^v/∂Z_j] times the derivative of Cov(Z_i, Z_j).
    """

    left: tuple[str, tuple[Affine, ...]]
    right: tuple[str, tuple[Affine, ...]] | None
    functions: tuple[tuple[sympy.Expr, tuple[sympy.Symbol, ...]], ...]
    tables: tuple[Key, ...]
    moved: bool = False


Node = (
    Constant
    | LawVariance
    | Read
    | Gram
    | Add
    | Product
    | Sum
    | Where
    | Apply
    | Reduce
    | PairExpectation
    | SingleExpectation
    | JointExpectation
    | BatchnormExpectation
    | BatchnormMean
    | Sampled
)

ZERO = Constant(sympy.Integer(0))
ONE = Constant(sympy.Integer(1))


def is_zero(node: Node) -> bool:
    return isinstance(node, Constant) and node.value == 0


def vanishes(node: Node) -> bool:
    """Whether a node is zero in its value, if not in its derivative: the variance of N(1, 0)."""
    return is_zero(node) or (isinstance(node, LawVariance) and node.scale == 0)


def add(*terms: Node) -> Node:
    """The sum, zeros left out and sums flattened."""
    flat: list[Node] = []
    number = sympy.Integer(0)
    for t in terms:
        for x in t.terms if isinstance(t, Add) else (t,):
            if isinstance(x, Constant):
                number += x.value
            else:
                flat.append(x)
    if number != 0:
        flat.append(Constant(number))
    if not flat:
        return ZERO
    return flat[0] if len(flat) == 1 else Add(tuple(flat))


def _has_roots(expression: sympy.Expr) -> bool:
    return any(part.is_Pow and not part.exp.is_Integer for part in sympy.preorder_traversal(expression))


def product(*factors: Node) -> Node:
    """The product, constants gathered in front and products flattened."""
    flat: list[Node] = []
    number = sympy.Integer(1)
    for t in factors:
        for x in t.factors if isinstance(t, Product) else (t,):
            if isinstance(x, Constant):
                number *= x.value
            elif isinstance(x, Apply) and x in flat and _has_roots(x.expression):
                # sqrt(u)·sqrt(u) is u, which has a slope at u = 0, and a value beyond
                flat[flat.index(x)] = Apply(x.expression**2, x.arguments)
            else:
                flat.append(x)
    if number == 0:
        return ZERO
    if number != 1 or not flat:
        flat.insert(0, Constant(number))
    return flat[0] if len(flat) == 1 else Product(tuple(flat))
