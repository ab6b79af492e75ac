"""Tables without their borders of zeros: a pass from recursion to recursion.

A state that starts at zero, `s[0] := 0`, gives tables a first row of zeros in each direction. Entries outside a table
read as zero anyway, so the row need not be stored: steps then write whole tables, with nothing put around them.

    moment[cross](s, s') over t = 0..T, t' = 0..T'    →    moment[cross](s, s') over t = 1..T, t' = 1..T'
        [0, t'] := 0 …
"""

from __future__ import annotations

from dataclasses import replace

from tensorprog import recursion as ir
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import at_most
from tensorprog.index.ranges import Range, extent
from tensorprog.recursion import Recursion, Table


def without_zero_borders(recursion: Recursion) -> Recursion:
    """The recursion with every table that begins with zeros along an axis cut there."""
    kept = {recursion.output, *recursion.limits}
    tables = {key: table if key in kept else _trimmed(table) for key, table in recursion.tables.items()}
    return replace(recursion, tables=tables)


def trimmed_tables(recursion: Recursion) -> list[Table]:
    """The tables that the pass changes."""
    after = without_zero_borders(recursion)
    return [t for key, t in recursion.tables.items() if after.tables[key] is not t]


def _trimmed(table: Table) -> Table:
    for k, axis in enumerate(table.axes):
        low = axis.range.low
        if not isinstance(low, Affine):
            continue
        border = [c for c in table.clauses if c.target[k] == low]
        rest = [c for c in table.clauses if c.target[k] != low]
        if not border or not rest or not all(ir.is_zero(c.value) for c in border):
            continue
        if not all(at_most(low + 1, extent(c.target[k], {r.name: r for r in c.binders}, False)) for c in rest):
            continue
        axes = list(table.axes)
        axes[k] = replace(axis, range=Range(axis.range.name, low + 1, axis.range.high))
        table = replace(table, axes=tuple(axes), clauses=tuple(rest))
    return table
