"""Which Gaussians need no samples: those that stand linearly wherever they stand, as phi(c[t]) in a gated update.

A class of G-vars is the families that share matrices or vectors. It is held, not drawn, where every function of one of
its members is a factor of a product whose other factors do not depend on the class, and where what such products make
up is only added, scaled by what is drawn, multiplied by matrices and read out. Its part of E Z^x Z^x' then comes from
rules for E u(z) u'(z'), exactly, and the samples are those of fewer Gaussians (see runtime/held.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import networkx
import sympy

from tensorprog.program.instructions import Linear, Multiply, Pointwise
from tensorprog.program.types import Data, Process, Vector
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.derivation import gaussian
from tensorprog.theorem.support import Support

Class = int
MOST_TERMS = 32
MOST_CLASSES = 8


@dataclass(frozen=True)
class HeldTerm:
    """coefficient(what is drawn) · held vector · Π factors; symbols are those of the Pointwise that it is a term of.

    factors: (function, symbol of its G-var) of the classes that are held.
    """

    coefficient: sympy.Expr
    held: sympy.Symbol | None
    factors: tuple[tuple[sympy.Expr, sympy.Symbol], ...]


@dataclass(frozen=True)
class _Shape:
    """Of which classes a vector has one factor each, and over which class's factors it is a sum."""

    common: frozenset[Class] = frozenset()
    main: Class | None = None

    @property
    def classes(self) -> frozenset[Class]:
        return self.common if self.main is None else self.common | {self.main}


class _Unfit(Exception):
    """The classes chosen cannot all be held."""


class Holding:
    """The families of G-vars that are held, and how functions are written as sums over held factors."""

    def __init__(self, reader: CaseReader):
        self.reader = reader
        self.families = reader.program.families
        self.class_of = self._classes()
        for chosen in self._choices():
            self.held = frozenset(chosen)
            try:
                self.shapes = self._all_shapes()
                self._check_uses()
                break
            except _Unfit:
                continue

    def _choices(self) -> Iterable[tuple[Class, ...]]:
        """Sets of classes to try, larger ones first; the last is empty."""
        classes = sorted(set(self.class_of.values()))
        if len(classes) <= MOST_CLASSES:
            for size in range(len(classes), 0, -1):
                yield from combinations(classes, size)
        yield ()

    def terms(self, f: Pointwise) -> tuple[HeldTerm, ...] | None:
        """The function as a sum over held factors; None where it depends on none."""
        return self._terms(f) if self._held_symbols(f) else None

    # ------------------------------------------------------------ classes

    def _classes(self) -> dict[str, Class]:
        """The families of G-vars that some function reads, by which share a source of randomness."""
        read = {
            r.name
            for name in self.families
            for body in self._bodies(name)
            if isinstance(body, Pointwise)
            for r in body.references
            if gaussian(self.families[r.name])
        }
        sources = Support(self.reader).sources
        graph = networkx.Graph()
        for name in read:
            graph.add_node(("family", name))
            graph.add_edges_from((("family", name), ("source", s)) for s in sources.get(name, ()))
        found: dict[str, Class] = {}
        components = sorted(networkx.connected_components(graph), key=lambda c: sorted(map(str, c)))
        for number, component in enumerate(components):
            found |= {name: number for kind, name in component if kind == "family"}
        return found

    def _bodies(self, name: str):
        family = self.families[name]
        if family.role not in ("assigned", "output") or family.transpose_of is not None:
            return
        for case in self.reader.cases(name):
            yield case.body

    # ------------------------------------------------------------ shapes

    def _all_shapes(self) -> dict[str, _Shape]:
        """The shape of every vector that depends on held Gaussians, to a fixed point."""
        shapes: dict[str, _Shape] = {}
        self.shapes = shapes
        for _ in range(len(self.families) + 2):
            before = dict(shapes)
            for name, family in self.families.items():
                if family.role != "assigned" or not isinstance(family.type, Vector) or gaussian(family):
                    continue
                found = [self._sum(parts) for body in self._bodies(name) if (parts := self._parts(body))]
                shape = self._sum(dict.fromkeys(found))
                if shape.classes:
                    shapes[name] = shape
            if shapes == before:
                return shapes
        raise AssertionError("shapes of held vectors do not settle")

    def _parts(self, body) -> list[_Shape]:
        match body:
            case Pointwise() as f:
                if not self._held_symbols(f):
                    return [_Shape()]
                return [self._shape_of(f, t) for t in self._terms(f)]
            case Linear(terms):
                shapes = [_Shape() if t.vector is None else self.shapes.get(t.vector.name, _Shape()) for t in terms]
                return shapes + [s for s, t in zip(shapes, terms, strict=True) if t.sums]  # a sum adds up several
        return [_Shape()]

    def _shape_of(self, f: Pointwise, t: HeldTerm) -> _Shape:
        references = dict(f.vectors)
        shape = _Shape() if t.held is None else self.shapes.get(references[t.held].name, _Shape())
        own = [self.class_of[references[s].name] for _, s in t.factors]
        if len(set(own)) < len(own) or shape.classes & set(own):
            raise _Unfit
        return _Shape(shape.common | set(own), shape.main)

    @staticmethod
    def _sum(shapes: Iterable[_Shape]) -> _Shape:
        """The shape of a sum of vectors of these shapes, or of a family that holds them."""
        terms = list(shapes)
        distinct = set(terms)
        if not terms:
            return _Shape()
        if len(terms) == 1 or all(not s.classes for s in terms):
            return terms[0]
        mains = {s.main for s in distinct} - {None}
        alone = {c for s in distinct if s.main is None for c in s.common}
        if any(len(s.common) > (s.main is None) for s in distinct) or len(mains | alone) > 1:
            raise _Unfit
        return _Shape(main=next(iter(mains | alone)))

    # ------------------------------------------------------------ functions

    def _is_held(self, name: str) -> bool:
        """Whether a family is of a class that is held, or depends on one."""
        return self.class_of.get(name) in self.held if gaussian(self.families[name]) else name in self.shapes

    def _classes_of(self, name: str) -> frozenset[Class]:
        if gaussian(self.families[name]):
            return frozenset({self.class_of[name]}) & self.held if name in self.class_of else frozenset()
        return self.shapes[name].classes if name in self.shapes else frozenset()

    def _held_symbols(self, f: Pointwise) -> Mapping[sympy.Symbol, str]:
        return {s: r.name for s, r in f.vectors if s in f.expression.free_symbols and self._is_held(r.name)}

    def _terms(self, f: Pointwise) -> tuple[HeldTerm, ...]:
        """f as a sum over held factors. Raises _Unfit where it is none."""
        symbols = self._held_symbols(f)
        others = {s for s, _ in (*f.scalars, *f.reductions, *f.vectors)} - symbols.keys()
        terms: dict[tuple, HeldTerm] = {}
        for product in self._products(f.expression, symbols, 0):
            t = self._term(product, symbols, others)
            key = t.held, t.factors
            terms[key] = HeldTerm(terms[key].coefficient + t.coefficient, *key) if key in terms else t
        return tuple(terms.values())

    def _products(self, e: sympy.Expr, symbols, depth: int) -> list[sympy.Expr]:
        """The addends of e, multiplied out as far as held vectors stand in different ones of its factors' addends."""
        if depth > MOST_TERMS:
            raise _Unfit
        result = []
        for term in sympy.Add.make_args(e):
            factors = sympy.Mul.make_args(term)
            sums = [x for x in factors if len(x.free_symbols & symbols.keys()) > 1]
            sums += [
                x for x in factors if x.is_Add and any(not self._is_drawn_from(s, symbols) for s in x.free_symbols)
            ]
            if not sums:
                result.append(term)
                continue
            if not sums[0].is_Add:
                raise _Unfit
            rest = term / sums[0]
            for part in sums[0].args:
                result += self._products(rest * part, symbols, depth + 1)
        if len(result) > MOST_TERMS:
            raise _Unfit
        return result

    def _is_drawn_from(self, s: sympy.Symbol, symbols) -> bool:
        """Whether a symbol may stand inside a factor that is a function: not a vector made of held factors."""
        return s not in symbols or gaussian(self.families[symbols[s]])

    def _term(self, term: sympy.Expr, symbols, others) -> HeldTerm:
        coefficient, held = sympy.Integer(1), None
        factors: dict[sympy.Symbol, sympy.Expr] = {}
        for factor in sympy.Mul.make_args(term):
            own = factor.free_symbols & symbols.keys()
            if not own:
                coefficient *= factor
                continue
            if len(own) > 1 or factor.free_symbols & others:
                raise _Unfit
            (s,) = own
            if gaussian(self.families[symbols[s]]):
                if any(x.is_integer or x.is_positive for x in factor.free_symbols - own):
                    raise _Unfit  # an index or a size inside the function
                factors[s] = factors.get(s, sympy.Integer(1)) * factor
            elif factor == s and held is None:
                held = s
            else:
                raise _Unfit
        return HeldTerm(coefficient, held, tuple((e, s) for s, e in factors.items()))

    # ------------------------------------------------------------ uses

    def _check_uses(self) -> None:
        """Held Gaussians are not read as they are, and what depends on them enters no Moment and no reduction."""
        for name, family in self.families.items():
            for body in self._bodies(name):
                if isinstance(body, Multiply):
                    self._refuse_gaussian(body.vector.name)
                if isinstance(body, Linear) and not gaussian(family):
                    for t in body.terms:
                        if t.vector is not None:
                            self._refuse_gaussian(t.vector.name)
                if isinstance(body, Pointwise) and not isinstance(family.type, Data | Process):
                    inside = [r for _, reduction in body.reductions for r in reduction.body.references]
                    for r in inside if isinstance(family.type, Vector) else body.references:
                        self._refuse(r.name)

    def _refuse_gaussian(self, name: str) -> None:
        if gaussian(self.families[name]):
            self._refuse(name)

    def _refuse(self, name: str) -> None:
        if not isinstance(self.families[name].type, Data) and self._classes_of(name):
            raise _Unfit
