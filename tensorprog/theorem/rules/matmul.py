"""MatMul (Tensor Programs I, section 5): Gaussians, independent of all that is no product with the same weight.

Cov(Z^{W x}, Z^{W x'}) = s_W E Z^x Z^x'
"""

from __future__ import annotations

from tensorprog import recursion as ir
from tensorprog.errors import ProgramError
from tensorprog.program.instructions import Declared, Multiply
from tensorprog.program.types import Data
from tensorprog.recursion import ZERO, Node, product
from tensorprog.theorem.derivation import Derivation
from tensorprog.theorem.entries import law, read_pair, second
from tensorprog.theorem.indices import same_indices, settle, solved
from tensorprog.theorem.moments import Pair, Single, first_moment, second_moment


@second_moment(rank=30)
def matmul(d: Derivation, pair: Pair) -> Node | None:
    """The weight's variance times the second moment of what it multiplies, where both are the same weight."""
    a, b = pair.f, pair.g
    if not isinstance(a, Multiply) or not isinstance(b, Multiply):
        return None
    ctx, view = pair.context, pair.view
    w, transposed = d.reader.matrix(a.matrix)
    other, other_transposed = d.reader.matrix(b.matrix)
    if transposed or other_transposed:
        raise ProgramError("the limit of a program that multiplies by a transpose is not derived yet", a.matrix.span)
    if w.name != other.name or not same_indices(d.reader, w.indices, other.indices, ctx):
        return ZERO
    ctx.conditions.extend(c.substitute(ctx.solved) for c in (*a.conditions, *b.conditions))
    if not settle(d.reader, ctx):
        return ZERO
    variance = law(d, d.family(w.name), view, solved(w, ctx).indices)
    x, y = solved(a.vector, ctx), solved(b.vector, ctx)
    if isinstance(d.family(x.name).type, Data):
        return product(variance, read_pair(d, ir.GRAM, view, x, y))
    return product(variance, second(d, view, x, y, False, ctx))


@second_moment(rank=30)
def unrelated(d: Derivation, pair: Pair) -> Node | None:
    """Zero for a MatMul and a vector drawn."""
    return ZERO if {type(pair.f), type(pair.g)} == {Multiply, Declared} else None


@first_moment(rank=20)
def centred(d: Derivation, single: Single) -> Node | None:
    """E Z^{W x} = 0."""
    return ZERO if isinstance(single.f, Multiply) else None
