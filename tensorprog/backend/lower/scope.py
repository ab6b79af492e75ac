"""What is known of integers where code stands: sizes, and the indices of the loops around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tensorprog.backend.code import integers
from tensorprog.backend.code.tree import Binary, Expr, Literal, Name, call, plus
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound, at_most, map_bound, shift, substituted
from tensorprog.index.conditions import Condition, certain
from tensorprog.index.ranges import Range, extent


@dataclass(frozen=True)
class Scope:
    """known: sizes that are numbers. size_name: the variable of a size.

    ranges: those of the loops' indices. variables: how an index is called that is an integer, a Python one or, where it
    is in `traced`, one of JAX.
    """

    known: Mapping[str, int]
    size_name: Callable[[str], str]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    traced: frozenset[str] = frozenset()

    def inside(self, r: Range, variable: str, traced: bool = False) -> Scope:
        """The scope inside a loop over an index."""
        return replace(
            self,
            ranges={**self.ranges, r.name: r},
            variables={**self.variables, r.name: variable},
            traced=self.traced | ({r.name} if traced else set()),
        )

    def narrowed(self, r: Range) -> Scope:
        """The scope where an index of it is known to be in this range."""
        return replace(self, ranges={**self.ranges, r.name: r})

    # ------------------------------------------------------------ trees

    def symbol(self, s: str) -> Expr:
        return Name(self.variables[s] if s in self.variables else self.size_name(s))

    def integer(self, e: Affine) -> Expr:
        return integers.integer(e, self.symbol)

    def bound(self, b: Bound) -> Expr:
        return integers.bound(b, self.symbol)

    def test(self, c: Condition) -> Expr:
        return integers.test(c, self.symbol)

    def size(self, r: Range) -> Expr:
        """The number of entries of a range."""
        length = self._length(r)
        return length if self.never_empty(r) else call("max", length, 0)

    def _length(self, r: Range) -> Expr:
        low, high = r.low, r.high
        if isinstance(low, Affine):
            return self.bound(map_bound(high, lambda a: a - low + 1))
        return plus(Binary("-", self.bound(high), self.bound(low)), 1)

    def offset(self, e: Bound, low: Bound) -> Expr:
        """The position of an index within an axis that begins at `low`."""
        if isinstance(low, Affine):
            return self.bound(map_bound(e, lambda a: a - low))
        return Binary("-", self.bound(e), self.bound(low))

    # ------------------------------------------------------------ what is certain

    def settle(self, b: Bound) -> Bound:
        """A bound with the sizes that are known put in."""
        return substituted(b, self.known)

    def certain(self, c: Condition, ranges: Mapping[str, Range]) -> bool | None:
        """Whether a condition holds for all, or for no indices in these ranges and those of the loops."""
        return certain(c, {**self.ranges, **ranges}, self.settle)

    def same(self, a: Bound, b: Bound) -> bool:
        return self.settle(a) == self.settle(b)

    def never_empty(self, r: Range) -> bool:
        """Whether a range has an entry, or none by a difference of its ends of just -1, for all sizes."""
        low, high = extent(r.low, self.ranges, True), extent(r.high, self.ranges, False)
        return at_most(self.settle(low), shift(self.settle(high), 1))


ZERO = Literal(0)
DTYPE = Name("dtype")


def zeros(shape: Expr) -> Expr:
    return call("jnp.zeros", shape, DTYPE)
