"""C's: arithmetic on C's, and Moments of polynomials of degree two, whose parts are entries of tables."""

from __future__ import annotations

from tensorprog import recursion as ir
from tensorprog.program.instructions import Pointwise
from tensorprog.recursion import Node, add, product
from tensorprog.theorem.derivation import Context, Derivation
from tensorprog.theorem.entries import mean, second
from tensorprog.theorem.indices import gather
from tensorprog.theorem.moments import Single, first_moment
from tensorprog.theorem.scalars import applied


@first_moment(rank=10)
def arithmetic(d: Derivation, single: Single) -> Node | None:
    """A C that is a function of C's."""
    f = single.f
    if single.kind != ir.SCALAR or not isinstance(f, Pointwise) or f.vectors or f.reductions:
        return None
    return applied(d, f.expression, dict(f.scalars), None)


@first_moment(rank=45)
def quadratic(d: Derivation, single: Single) -> Node | None:
    """(1/n) Σ of c + Σ_i c_i x_i + Σ_ij c_ij x_i x_j."""
    f = single.f
    if single.kind != ir.SCALAR or not isinstance(f, Pointwise) or f.reductions:
        return None
    symbols, references = [s for s, _ in f.vectors], dict(f.vectors)
    polynomial = f.expression.expand().as_poly(*symbols) if f.expression.is_polynomial(*symbols) else None
    if polynomial is None or polynomial.total_degree() > 2:
        return None
    total = []
    for powers, coefficient in polynomial.terms():
        used = [s for s, k in zip(symbols, powers, strict=True) for _ in range(k)]
        factor = applied(d, coefficient, dict(f.scalars), None)
        if not used:
            total.append(factor)
        elif len(used) == 1:
            total.append(product(factor, mean(d, references[used[0]], None)))
        else:
            ctx = Context(single.context.all_ranges())
            inner = second(d, single.view, references[used[0]], references[used[1]], False, ctx)
            total.append(gather(d.reader, ctx, factor, inner))
    return add(*total)
