"""How tables, sizes, laws and parameters are called in a function of a module."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.fresh import underscored
from tensorprog.index.ranges import Range
from tensorprog.naming import identifier, plain
from tensorprog.program.ir import Program
from tensorprog.program.types import Data
from tensorprog.recursion import Axis, Key, Recursion, Table

PREFIX = {
    ir.DATA: "",
    ir.SCALAR: "",
    ir.MEAN: "mean_",
    ir.GRAM: "gram_",
    ir.COVARIANCE: "cov_",
    ir.MOMENT: "mom_",
    ir.OUTPUT: "out_",
}


class Names:
    """How tables, sizes and parameters are called in one function of the module."""

    def __init__(self, recursion: Recursion, primed: bool):
        self.program: Program = recursion.program
        self.recursion = recursion
        self.primed = primed
        self.used_laws: dict[str, ir.LawVariance] = {}
        self.law_arrays: dict[str, tuple[str, ...]] = {}
        self._tables: dict[Key, str] = {}
        self._fixed = set(self.program.integers)

    def table(self, key: Key) -> str:
        if key not in self._tables:
            families = key.families if len(set(key.families)) > 1 else key.families[:1]
            name = PREFIX[key.kind] + identifier("_".join(families))
            if key.stream == "self" and len(key.families) == 2 and len(families) == 1:
                name += "_full"
            self._tables[key] = underscored(name, lambda n: plain(n) in map(plain, self._tables.values()))
        return self._tables[key]

    def axes(self, key: Key) -> tuple[Axis, ...]:
        return self.recursion.tables[key].axes

    def range_of(self, axis: Axis, side: str | None) -> Range:
        """The range of an axis of a table, in the sizes of the run that it belongs to."""
        if side != "right":
            return axis.range
        return axis.range.substitute({s: Affine.symbol(s + "'") for s in self.program.open_sizes})

    def size(self, s: str) -> str:
        """The variable of a size; of the run that its prime tells, where there are two."""
        base = s.rstrip("'")
        if base in self._fixed or base in self.program.features or not self.primed:
            return identifier(base)
        return identifier(base) + ("2" if s.endswith("'") else "1")

    def scalar(self, s: sympy.Symbol, integers: Mapping[str, str]) -> str:
        if s.name in integers:
            return integers[s.name]
        if s.is_positive:
            return self.size(s.name)
        return identifier(s.name)

    def batch_size(self, label: str) -> str:
        return {"n": "N", "n1": "N1", "n2": "N2"}[label]

    def feature(self, key: Key) -> str:
        t = self.program.families[key.families[0]].type
        assert isinstance(t, Data)
        return t.size

    def law(self, node: ir.LawVariance) -> str:
        """The variable of a law: s_W in one copy of the parameters, s_W_12 between two that may differ."""
        name = f"s_{identifier(node.name)}" + ("_12" if node.moves else "")
        # Two members of one family may have laws that differ.
        name = underscored(name, lambda n: self.used_laws.get(n, node) != node)
        self.used_laws[name] = node
        return name

    def laws(self, node: ir.LawVariances) -> str:
        """The variable of an array of laws, s_W2_and_on."""
        members = tuple(self.law(law) for law in node.laws)
        name = underscored(f"{members[0]}_and_on", lambda n: self.law_arrays.get(n, members) != members)
        self.law_arrays[name] = members
        return name

    def describe(self, t: Table) -> str:
        axes = ", ".join(str(a.range) for a in t.axes)
        f = t.key.families
        prime = "'" if t.key.stream == "cross" else ""
        u, w = f[0], f[-1] + prime
        what = {
            ir.DATA: f"data {u}",
            ir.SCALAR: f"C {u}",
            ir.MEAN: f"E {u}",
            ir.GRAM: f"<{u}, {w}>/d",
            ir.COVARIANCE: f"Cov({u}, {w})",
            ir.MOMENT: f"E[{u} {w}]",
            ir.OUTPUT: f"E[{u} {w}]",
        }[t.key.kind]
        return f"{what}   {axes}" if axes else what
