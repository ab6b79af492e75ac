"""Whether a program is BP-like: whether W.T may be taken for a fresh, independent matrix (Tensor Programs II, A.3).

    h := W @ phi(x)                   h does not depend on v
    dx := (W.T @ dh) * D(phi)(x)      dh is odd in v: dh(−v) = −dh(v)

A program is BP-like if there are declared vectors v^1..v^k of mean zero, one at least, such that every vector that some
W.T multiplies is odd in them jointly, and none that a W multiplies depends on them; which of W and W.T is called W is
free, matrix by matrix. Families are taken as a whole: all members of one are among the v's or none is, and W[l] has the
same orientation for all l.

Every family gets a Parity under the change of sign of the v's, as the least fixed point over its assignments.
"""

from tensorprog.theorem.bp_like.analysis import BpLike, analyse

__all__ = ["BpLike", "analyse"]
