"""Entries along axes as one array."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.backend.code.tree import Conditional, Each, Expr, TupleOf, call, compare, counting, every, listing
from tensorprog.backend.lower.scope import Scope, zeros
from tensorprog.index.bounds import at_most
from tensorprog.index.ranges import Range


def stacked(entry: Expr, places: Sequence[tuple[str, Range]], shape: TupleOf, scope: Scope) -> Expr:
    """The entries of `shape` for all values of some variables, whose axes come first, also where there is none."""
    value = entry
    for variable, r in reversed(places):
        loop = Each(variable, counting(scope.bound(r.low), scope.bound(r.high)))
        value = call("jnp.stack", listing(value, loop))
    ranges = [r for _, r in places]
    maybe_empty = [r for r in ranges if not at_most(scope.settle(r.low), scope.settle(r.high))]
    if not maybe_empty:
        return value
    # No arrays cannot be stacked: what is empty for some sizes has its shape said.
    tests = [compare(scope.bound(r.low), "<=", scope.bound(r.high)) for r in maybe_empty]
    sizes = tuple(scope.size(r) for r in ranges)
    return Conditional(value, every("and", tests), zeros(TupleOf((*sizes, *shape.items))))
