"""What a derivation knows of its program, and the tables that it makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.conditions import Condition
from tensorprog.index.ranges import Range
from tensorprog.program.instructions import Case, Declared, Linear, Multiply, Pointwise
from tensorprog.program.ir import Family, Program
from tensorprog.program.substitution import binders
from tensorprog.program.types import Vector
from tensorprog.recursion import Key
from tensorprog.theorem.cases import CaseReader
from tensorprog.theorem.centred import centred_vectors
from tensorprog.theorem.support import Support

Body = Linear | Multiply | Pointwise | Declared
Pairing = tuple[tuple[int, int, int], ...]  # (left axis, right axis, offset): right index = left index + offset


@dataclass(frozen=True)
class View:
    """From where tables are looked at: the stream of the pair at hand, and whose runs its two sides are.

    Inside a run: ("self", None, None). In the cross stream: ("cross", "left", "right"), and its variances are
    read through ("self", "left", "left") and ("self", "right", "right").
    """

    stream: str
    left: str | None
    right: str | None

    def within(self, side: str) -> View:
        run = self.run(side)
        return View("self", run, run)

    def run(self, side: str) -> str | None:
        """Whose run the "left" or the "right" of the pair is."""
        return self.left if side == "left" else self.right


WITHIN = View("self", None, None)
ACROSS = View("cross", "left", "right")


@dataclass
class Context:
    """What gathers around a product: the sums and conditions it stands under, and the ranges of all its indices.

    solved: indices that conditions on the way have set equal to something.
    """

    ranges: dict[str, Range]
    sums: dict[str, Range] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    solved: dict[str, Affine] = field(default_factory=dict)

    def all_ranges(self) -> dict[str, Range]:
        return {**self.ranges, **self.sums}

    def fresh(self) -> Context:
        """A context of the same indices, for a product of its own."""
        return Context(self.all_ranges())


@dataclass
class Tables:
    """The tables that are made, which of their axes are one for two, and which tables are asked for.

    changed: whether one that is made was asked for more since, so that all are to be made again.
    """

    made: dict[Key, ir.Table] = field(default_factory=dict)
    pending: list[Key] = field(default_factory=list)
    pairings: dict[Key, Pairing] = field(default_factory=dict)
    changed: bool = False

    def again(self) -> None:
        """Begin again, with the axes that are known to be needed by now."""
        self.made, self.pending, self.changed = {}, [], False

    def ask(self, key: Key) -> None:
        if key not in self.made:
            self.pending.append(key)

    def ask_paired(self, key: Key, pairing: Pairing) -> Pairing:
        """Ask for a table at indices that keep these axes on diagonals; which of them it has."""
        known = self.pairings.get(key)
        common = pairing if known is None else tuple(p for p in known if p in pairing)
        if known is None:
            self.changed = self.changed or key in self.made
        elif common != known:
            self.changed = True
        self.pairings[key] = common
        self.ask(key)
        return common

    def ask_full(self, key: Key) -> None:
        """Ask for a table of all members of two families."""
        if self.pairings.get(key, ()) != ():
            self.changed = self.changed or key in self.made
        self.pairings[key] = ()
        self.ask(key)


@dataclass(frozen=True)
class Derivation:
    """What the rules are given: the program, what holds for its structure, and the tables that are being made.

    centred: the vectors whose limits have mean zero by their structure.
    given: what holds where the assignment in hand defines something.
    zero_scalars, split_cases: what scalars.py and flattening.py found out so far.
    """

    program: Program
    reader: CaseReader
    support: Support
    centred: frozenset[str]
    index_names: frozenset[str]
    tables: Tables = field(default_factory=Tables)
    given: tuple[Condition, ...] = ()
    zero_scalars: dict[str, bool] = field(default_factory=dict)
    split_cases: dict[str, tuple[Case, ...]] = field(default_factory=dict)

    def where(self, conditions: Iterable[Condition]) -> Derivation:
        """The derivation while an assignment is looked at, of a case under these conditions."""
        return replace(self, given=tuple(conditions))

    def family(self, name: str) -> Family:
        return self.program.families[name]

    def gaussian(self, name: str) -> bool:
        """Whether a family is one of G-vars."""
        return gaussian(self.program.families[name])


def derivation(program: Program) -> Derivation:
    """The derivation of a program at its beginning."""
    reader = CaseReader(program)
    index_names = frozenset(b.name for s in program.text.statements for b in binders(s))
    return Derivation(program, reader, Support(reader), centred_vectors(reader), index_names)


def gaussian(f: Family) -> bool:
    return isinstance(f.type, Vector) and f.type.gaussian
