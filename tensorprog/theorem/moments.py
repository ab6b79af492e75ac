"""Which moments are asked for, and the rules that answer: functions that register themselves, in `rules/`.

A rule takes the derivation and the question, and gives a node of the recursion, or None where it does not cover what
is asked; the first that gives a node is taken, by rank. It raises NotDerived where it does cover it, and finds on the
way that something inside is covered by none: then what is left are the rules of last resort, of rank LAST and above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tensorprog import recursion as ir
from tensorprog.errors import NotDerived
from tensorprog.program.instructions import Reference
from tensorprog.recursion import Node
from tensorprog.theorem.derivation import Body, Context, Derivation, View

LAST = 90


@dataclass(frozen=True)
class Pair:
    """E Z^u Z^w of vectors u := f and w := g is asked for.

    kind: MOMENT; COVARIANCE, of G-vars, the product of the means left out; OUTPUT, lim E u w of readouts.
    context: the ranges of the indices. What a rule adds to its conditions is asked of the indices where u and w are
    defined; elsewhere the moment is zero. A rule that gives no node leaves it as it was.
    part: f and g are parts of functions, or these written differently: u and w are told for their places alone.
    """

    kind: str
    view: View
    u: Reference
    w: Reference
    f: Body
    g: Body
    context: Context
    part: bool = False

    @property
    def centred(self) -> bool:
        return self.kind == ir.COVARIANCE


@dataclass(frozen=True)
class Single:
    """E Z^u of a vector u := f (kind MEAN), or the C (1/n) Σ f (kind SCALAR), is asked for, of the run view.left.

    context, part: as of a Pair.
    """

    kind: str
    view: View
    u: Reference
    f: Body
    context: Context
    part: bool = False


Question = TypeVar("Question", Pair, Single)


class Rules(Generic[Question]):
    """Rules by rank, and those of the same rank by the names of their modules."""

    def __init__(self, what: str):
        self._what = what
        self._rules: list[tuple[int, str, Callable[[Derivation, Question], Node | None]]] = []

    def register(self, rank: int) -> Callable:
        """Register a function (Derivation, question) -> Node | None.

        Rank 10: readouts and arithmetic. 20: sums. 30: products with weights, and laws. 40: batchnorm and polynomials.
        50: functions written in Gaussians. 60 to 70: functions of Gaussians. 80: a function against a Gaussian.
        LAST: simulation.
        """

        def add(function: Callable[[Derivation, Question], Node | None]):
            self._rules.append((rank, function.__module__, function))
            self._rules.sort(key=lambda entry: entry[:2])
            return function

        return add

    def remove(self, function: Callable[[Derivation, Question], Node | None]) -> None:
        self._rules = [entry for entry in self._rules if entry[2] is not function]

    def answer(self, d: Derivation, question: Question) -> Node:
        """The node of the first rule that gives one. Raises NotDerived where none does."""
        reason: NotDerived | None = None
        for rank, _, function in self._rules:
            if reason is not None and rank < LAST:
                continue
            try:
                node = function(d, question)
            except NotDerived as error:
                reason = reason or error
            else:
                if node is not None:
                    return node
        raise reason or NotDerived(f"no rule derives this {self._what}", question.u.span)


SECOND: Rules[Pair] = Rules("second moment")
FIRST: Rules[Single] = Rules("mean")

second_moment = SECOND.register
first_moment = FIRST.register


def derived_second(d: Derivation, pair: Pair) -> Node:
    """The second moment, by the rules. Raises NotDerived where there is none."""
    return SECOND.answer(d, pair)


def derived_first(d: Derivation, single: Single) -> Node:
    """The mean, by the rules. Raises NotDerived where there is none."""
    return FIRST.answer(d, single)
