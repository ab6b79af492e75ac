"""The Recursion: the moment IR between a program and its kernel.

A Recursion is a set of tables, each defined by clauses over index ranges from other tables:

    Σ(h, h')[t, t'] := (var_w) · E(s, s')[t-1, t'-1] + var_u · <x[t], x'[t']>/d + var_b     t = 1..T, t' = 1..T'
    E(s, s')[t, t'] := pair(erf, erf; Σ(h, h')[t, t'], Σ(h, h)[t, t], Σ(h', h')[t', t'])

Tables live in two systems. A *run* is what one input of the program alone determines: means, C's, and the second
moments of the run with itself (the self streams); it is evaluated for x1 and for x2. The *cross* stream holds the
second moments between a run on x1 and a run on x2, and is the only one that moves with the correlation ρ of two
copies of the parameters. What is derived, printed and compiled is this one object.
"""

from tensorprog.recursion.nodes import (
    COVARIANCE,
    DATA,
    GRAM,
    MEAN,
    MOMENT,
    ONE,
    OUTPUT,
    SCALAR,
    ZERO,
    Add,
    Apply,
    BatchnormExpectation,
    BatchnormMean,
    Constant,
    Gram,
    JointExpectation,
    Key,
    LawVariance,
    LawVariances,
    Node,
    PairExpectation,
    Product,
    Read,
    Reduce,
    Sampled,
    SingleExpectation,
    Sum,
    Where,
    add,
    is_zero,
    product,
    vanishes,
)
from tensorprog.recursion.printer import (
    key_text,
    print_recursion,
)
from tensorprog.recursion.substitution import (
    affine_number,
    substitute,
    substitute_clause,
)
from tensorprog.recursion.tables import (
    Axis,
    Clause,
    Recursion,
    Table,
)
from tensorprog.recursion.walking import (
    data_reads,
    entries,
    parts,
    reads,
    walk,
)

__all__ = [
    "COVARIANCE",
    "DATA",
    "GRAM",
    "MEAN",
    "MOMENT",
    "ONE",
    "OUTPUT",
    "SCALAR",
    "ZERO",
    "Add",
    "Apply",
    "Axis",
    "BatchnormExpectation",
    "BatchnormMean",
    "Clause",
    "Constant",
    "Gram",
    "JointExpectation",
    "Key",
    "LawVariance",
    "LawVariances",
    "Node",
    "PairExpectation",
    "Product",
    "Read",
    "Recursion",
    "Reduce",
    "Sampled",
    "SingleExpectation",
    "Sum",
    "Table",
    "Where",
    "add",
    "affine_number",
    "data_reads",
    "entries",
    "is_zero",
    "key_text",
    "parts",
    "print_recursion",
    "product",
    "reads",
    "substitute",
    "substitute_clause",
    "vanishes",
    "walk",
]
