"""What no rule derives: expectations that are left to simulation, and the tables of the Gaussians behind them."""

from __future__ import annotations

import sympy

from tensorprog.program.types import Data, Vector
from tensorprog.theorem import recursion as ir
from tensorprog.theorem.batches import Batches
from tensorprog.theorem.cases import Linear, Pointwise, Reference
from tensorprog.theorem.recursion import Key, Node
from tensorprog.theorem.sides import View, gaussian


class Sampling(Batches):
    """Nodes for expectations that are sampled."""

    def _sampled(self, view: View, me: Reference, other: Reference | None, left, right) -> Node:
        """E Z^me Z^other by simulation, with the tables that the joint law of its Gaussians needs."""
        functions: dict[tuple[sympy.Expr, tuple[sympy.Symbol, ...]], None] = {}
        first = self._gaussians(me, left, functions)
        second = first if other is None else self._gaussians(other, right, functions)
        keys: dict[Key, None] = {}
        for u in first:
            for v in second:
                if self._related(u, v):
                    keys[self._full(view.stream, u, v)] = None
        partner = None if other is None else (other.name, other.indices)
        return ir.Sampled((me.name, me.indices), partner, tuple(functions), tuple(keys))

    def _gaussians(self, r: Reference, body, functions) -> tuple[str, ...]:
        """The families of G-vars that a vector with this body is a function of, coordinate by coordinate."""
        if gaussian(self.program.families[r.name]):
            return (r.name,)
        found: dict[str, None] = {}
        seen: set[str] = set()

        def visit(name: str) -> None:
            if name in seen:
                return
            seen.add(name)
            family = self.program.families[name]
            if isinstance(family.type, Data):
                return
            if gaussian(family):
                found[name] = None
                return
            for case in self.reader.cases(name):
                through(case.body)

        def through(body) -> None:
            if isinstance(body, Pointwise):
                note(body)
                for r in body.references:
                    visit(r.name)
            if isinstance(body, Linear):
                for t in body.terms:
                    if t.vector is not None:
                        visit(t.vector.name)

        def note(f: Pointwise) -> None:
            symbols = tuple(s for s, r in f.vectors if isinstance(self.program.families[r.name].type, Vector))
            symbols += tuple(s for s, _ in f.reductions)
            functions[f.expression, symbols] = None
            for _, r in f.reductions:
                note(r.body)

        through(body)
        return tuple(found)

    def _related(self, u: str, v: str) -> bool:
        """Whether two families share a source of randomness at any indices."""
        return bool(self.support.sources.get(u, {}).keys() & self.support.sources.get(v, {}).keys())

    def _full(self, stream: str, u: str, v: str) -> Key:
        """The table of the covariances of all members of two families."""
        key = Key(ir.COVARIANCE, stream, (u, v))
        if self.pairings.get(key, ()) != ():
            self.changed = self.changed or key in self.tables
        self.pairings[key] = ()
        self._ask(key)
        return key
