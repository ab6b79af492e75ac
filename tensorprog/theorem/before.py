"""Which members of a family are computed before a statement is executed, as conditions on indices.

    for k = 1..K:                         of g[q], what stands at d[k] finds those with q ≤ k - 1 done,
        d[k] := W.T @ phi(g[k-1])         and of d[q], what stands at g[k] those with q ≤ k
        g[k] := W @ phi(d[k])

Loops that two statements share are compared index by index, the outer one first; what they do not share comes in the
order in which it is written.
"""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.language import syntax
from tensorprog.program.ir import Program

Alternatives = list[list[Condition]]


class Order:
    """The order of execution of the statements of a program, which are named by their positions in its text."""

    def __init__(self, program: Program):
        self.loops: dict[tuple[int, ...], tuple[syntax.Binder, ...]] = {}
        self.own: dict[tuple[int, ...], tuple[syntax.Binder, ...]] = {}
        self._walk(program.text.statements, ())

    def _walk(self, statements, position: tuple[int, ...]) -> None:
        for k, s in enumerate(statements):
            here = (*position, k)
            if isinstance(s, syntax.For):
                self.loops[here] = s.binders
                self._walk(s.body, here)
            elif isinstance(s, syntax.Assignment):
                self.own[here] = tuple(i for i in s.indices if isinstance(i, syntax.Binder))

    def before(self, there: tuple[int, ...], here: tuple[int, ...], names: Mapping[str, Affine]) -> Alternatives | None:
        """When a pass of the statement at `there` comes before one of that at `here`: one of these holds, or [] never.

        names: the loop indices of `there` under other names than those of `here`. None where an index that decides is
        hidden by another of its name.
        """
        shared: list[syntax.Binder] = []
        depth = 0
        while depth < min(len(there), len(here)) and there[depth] == here[depth]:
            depth += 1
            shared += self.loops.get(there[:depth], ())
        same = there == here
        if same:
            shared += self.own[here]
        first = not same and there[depth] < here[depth]
        if self._hidden(shared, there) or self._hidden(shared, here):
            return None
        gaps = []
        for b in shared:
            sign = -1 if isinstance(b.step, syntax.Negate) else 1
            gaps.append((Affine.symbol(b.name) - names[b.name]) * sign)
        equal = [Condition("==", gap) for gap in gaps]
        result = [[*equal[:k], Condition(">=", gap - 1)] for k, gap in enumerate(gaps)]
        if first and result:
            result[-1] = [*equal[:-1], Condition(">=", gaps[-1])]
        return result or ([[]] if first else [])

    def _hidden(self, shared: list[syntax.Binder], statement: tuple[int, ...]) -> bool:
        """Whether a shared index has its name a second time around a statement."""
        around = [b.name for k in range(len(statement)) for b in self.loops.get(statement[: k + 1], ())]
        around += [b.name for b in self.own[statement]]
        return any(around.count(b.name) > 1 for b in shared)
