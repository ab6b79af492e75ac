"""A plan's steps in JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog.finite import nodes
from tensorprog.finite.nodes import take
from tensorprog.finite.plan import Group, Plan
from tensorprog.finite.repeats import Leaf, Run
from tensorprog.program.ir import Program
from tensorprog.program.substitution import free_names
from tensorprog.program.types import Data, Matrix, Vector


@dataclass
class Execution:
    """One run of a plan.

    given: for each weight an array (members, rows, columns), multiplier included; for each vector (members, 1, width);
    for each input (members, samples, features), with one feature for scalars.
    widths: of every width and of the features, by name. varying: the families that depend on data.
    """

    plan: Plan
    program: Program
    given: Mapping[str, Any]
    widths: Mapping[str, int]
    varying: frozenset[str]
    samples: int
    dtype: Any
    arrays: dict[int, Any] = field(default_factory=dict)

    def outputs(self) -> dict[str, Any]:
        """Every output, (members, samples), or (members, 1) where it does not depend on data."""
        for step in self.plan.steps:
            if step.group is not None:
                value = nodes.evaluate(step.group.value, self._leaf)
                self.arrays[step.arrays[0]] = self._finished(step.group, value)
            else:
                assert step.run is not None
                self._scan(step.run, step.arrays)
        return {f.name: self._output(f.name) for f in self.program.outputs}

    def _output(self, name: str) -> Any:
        where, _ = self.plan.place[name]
        if (where >= 0).all():
            return self._fetch(name, np.arange(len(where)))[..., 0]
        # Members that the program leaves undefined, as y[i, j] for j > i, are 0.
        defined = np.flatnonzero(where >= 0)
        values = self._fetch(name, defined)[..., 0]
        return jnp.zeros((len(where), values.shape[1]), values.dtype).at[defined].set(values)

    # ------------------------------------------------------------ leaves

    def _leaf(self, node: nodes.Number | nodes.Read | nodes.Matrix) -> Any:
        match node:
            case nodes.Number(value):
                return self._number(value)
            case nodes.Read(family, ids, mask):
                return _masked(self._fetch(family, ids), mask)
        return take(self.given[node.family], node.ids)

    def _number(self, value: np.ndarray) -> Any:
        return jnp.asarray(value[..., None, None], self.dtype)

    def _fetch(self, family: str, ids: np.ndarray) -> Any:
        """Members of a family, (*shape of ids, samples, width)."""
        if family not in self.plan.place:
            return take(self.given[family], ids)
        where, row = self.plan.place[family]
        numbers, inverse = np.unique(where[ids], return_inverse=True)
        if len(numbers) == 1:
            return take(self.arrays[int(numbers[0])], row[ids])
        parts = [self.arrays[int(k)] for k in numbers]
        starts = np.cumsum([0, *(len(p) for p in parts[:-1])])
        return take(jnp.concatenate(parts), starts[inverse.reshape(ids.shape)] + row[ids])

    def _finished(self, group: Group, value: Any) -> Any:
        """A group's value with all its rows, samples and coordinates: (members, samples, width)."""
        t = self.program.families[group.family].type
        width = self.widths[t.width] if isinstance(t, Vector) else self.widths[t.size] if isinstance(t, Data) else 1
        samples = self.samples if group.family in self.varying else 1
        return jnp.broadcast_to(value, (*group.shape, samples, width)).reshape(-1, samples, width)

    # ------------------------------------------------------------ scans

    def _scan(self, run: Run, numbers: tuple[int, ...]) -> None:
        constant: dict[int, Any] = {}
        each: dict[int, Any] = {}
        lags: dict[int, int] = {}
        for key, leaf in run.leaves.items():
            if leaf.kind == "own":
                lags[leaf.slot] = max(lags.get(leaf.slot, 0), leaf.lag)
            else:
                (constant if leaf.kind == "same" else each)[key] = self._outside(leaf)
        carried = {
            slot: tuple(self._rows_of(run.before[slot - k * run.period]) for k in range(1, lag + 1))
            for slot, lag in lags.items()
            if lag
        }

        def body(carry: dict[int, tuple], given: dict[int, Any]):
            made: list[Any] = []

            def leaf(node: Any) -> Any:
                at = run.leaves[id(node)]
                if at.kind == "same":
                    value = constant[id(node)]
                elif at.kind == "own":
                    value = take(carry[at.slot][at.lag - 1] if at.lag else made[at.slot], at.ids)
                else:
                    value = given[id(node)]
                return _masked(value, node.mask) if isinstance(node, nodes.Read) else value

            for group in run.groups:
                made.append(self._finished(group, nodes.evaluate(group.value, leaf)))
            new = {slot: (made[slot], *before[:-1]) for slot, before in carry.items()}
            return new, tuple(made[slot] for slot in run.emitted)

        _, series = jax.lax.scan(body, carried, each, length=run.count)
        for slot, array in zip(run.emitted, series, strict=True):
            self.arrays[numbers[slot]] = array.reshape(-1, *array.shape[2:])

    def _outside(self, leaf: Leaf) -> Any:
        if not leaf.family:
            return self._number(leaf.ids)
        return self._fetch(leaf.family, leaf.ids)

    def _rows_of(self, group: Group) -> Any:
        return self._fetch(group.family, group.members)


def _masked(value: Any, mask: np.ndarray | None) -> Any:
    return value if mask is None else jnp.where(mask[..., None, None], value, jnp.zeros((), value.dtype))


def varying_families(program: Program) -> frozenset[str]:
    """The families that depend on data, directly or through others."""
    found = {f.name for f in program.inputs}
    while True:
        more = {
            f.name
            for f in program.families.values()
            if f.name not in found
            and not isinstance(f.type, Matrix)
            and any(free_names(c.value) & found for c in f.clauses)
        }
        if not more:
            return frozenset(found)
        found |= more
