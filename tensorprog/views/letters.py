"""The letters of a statement, and what they stand for."""

from __future__ import annotations

from tensorprog import recursion as ir
from tensorprog.recursion import Read
from tensorprog.views.layout import unmark
from tensorprog.views.notation import Notation
from tensorprog.views.selection import Selection

INSTEAD = {
    "c": "rho", "k": "kappa", "p": "sigma", "q": "tau", "z": "zeta", "mu": "mu", "nu": "nu",
    "g": "gamma", "s": "lambda", "G": "Gamma", "V": "Upsilon", "Omega": "Psi", "Pi": "Phi", "Delta": "Lambda",
}  # fmt: skip
"""Letters for a program that has the usual ones for its own things."""


class Letters:
    """Letters for what has no name in the equations of a selection.

    What they stand for gathers in `where`, statement by statement.
    """

    def __init__(self, notation: Notation, selection: Selection):
        self._n, self._taken = notation, _names_in(selection)
        self.reset()

    def reset(self) -> None:
        """Begin a statement."""
        self.where: list[str] = []
        self._numbers: dict[tuple[str, object], int] = {}

    def letter(self, name: str, number: int, primed: bool = False) -> str:
        """A letter that the equations do not use for something else."""
        together = {"p", "q"} if name in ("p", "q") else {name}
        return self._n.letter(INSTEAD[name] if together & self._taken else name, number, primed)

    def number_of(self, kind: str, what: object) -> int:
        """Which of its kind in this statement: letters of the second get a 2."""
        if (kind, what) not in self._numbers:
            self._numbers[kind, what] = 1 + sum(1 for k, _ in self._numbers if k == kind)
        return self._numbers[kind, what]

    def define(self, name: str, what: object, value: str) -> str:
        """The letter of that name that stands for `what`, and the line that it is this value."""
        letter = self.letter(name, self.number_of(name, what))
        line = self._n.define(letter, unmark(value))
        if line not in self.where:
            self.where.append(line)
        return letter

    def undefine(self, name: str, what: object) -> None:
        """Take a definition back."""
        if (name, what) in self._numbers:
            letter = self.letter(name, self._numbers.pop((name, what)))
            self.where = [w for w in self.where if not w.startswith(self._n.define(letter, ""))]

    def note(self, line: str) -> None:
        """What a letter stands for, in a line of its own."""
        if line not in self.where:
            self.where.append(line)


def _names_in(selection: Selection) -> set[str]:
    """Families, indices and parameters in the equations of a selection."""
    names = {p.name for p in selection.names.program.parameters}
    if selection.simulation is not None:
        names.update((*selection.simulation.families, *selection.simulation.gaussians))
    for table in (*selection.nngp, *selection.ntk):
        names.update(table.key.families)
        names.update(r.name for c in table.clauses for r in c.binders)
        for clause in table.clauses:
            for node in ir.walk(clause.value):
                match node:
                    case Read(key):
                        names.update(key.families)
                    case ir.Sum(ranges):
                        names.update(r.name for r in ranges)
    return names
