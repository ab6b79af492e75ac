"""Entries of tables, of the pair and of the two runs, and Grams of inputs."""

from __future__ import annotations

from tensorprog import recursion as ir
from tensorprog.backend.code.integers import integer
from tensorprog.backend.code.tree import Expr, Name, call, index, text
from tensorprog.backend.fused.chain import NotFused
from tensorprog.backend.fused.place import LOOP, Place, tile_lowering
from tensorprog.backend.fused.rules.arithmetic import NOTHING
from tensorprog.backend.fused.tables import GramTable, SideTable
from tensorprog.index.affine import Affine
from tensorprog.naming import plain
from tensorprog.recursion import Key


@tile_lowering(ir.Read)
def read(node: ir.Read, at: Place) -> Expr:
    places = tuple(at.settled(e) for e in node.indices)
    if node.side is not None:
        return _side(node.key, places, node.side, at)
    if all(e.is_constant for e in places):
        return at.writer.entry(node.key, tuple(e.constant for e in places))
    rolled = at.writer.rolled
    assert rolled is not None
    distance = Affine.symbol(LOOP) - places[0]
    if node.key not in rolled.loop.axes or len(places) != 1 or not distance.is_constant:
        raise at.uneven()
    lag = distance.constant
    found = rolled.current.get(node.key) if lag == 0 else rolled.earlier.get((node.key, lag))
    if found is None:
        raise at.uneven()
    return found


def _side(key: Key, places: tuple[Affine, ...], side: str, at: Place) -> Expr:
    """An entry of one run's table, read once where it is used."""
    writer = at.writer
    is_input = key not in writer.run.handed
    dims = tuple(range(len(places))) if is_input else writer.run.handed[key].dims[1:]
    if "feature" in dims:
        raise NotFused(f"the vector {key.families[0]} is read as a number")
    row, sizes = Affine(0), []
    for d in (d for d in dims if isinstance(d, int)):
        low, high = writer.chain.ends(writer.recursion.tables[key].axes[d].range)
        inside = {low <= i <= high for i in at.everywhere(places[d])}
        if len(inside) > 1:
            raise at.uneven()
        if False in inside:
            return NOTHING
        row = row * (high - low + 1) + (places[d] - low)
        sizes.append(high - low + 1)
    name = (writer.names if is_input else writer.run.names).table(key)
    label = plain(name)
    writer.side_tables.setdefault(
        label, SideTable(label, key.families[0] if is_input else label, is_input, tuple(sizes))
    )
    here = integer(row, {LOOP: Name(writer.index)}.__getitem__)
    stem = f"{name}_{side}" if not row.is_constant else f"{name}_{side}_{row.constant}"
    return writer.read_once(call(index(side, text(label)), here), stem, moving=not row.is_constant)


@tile_lowering(ir.Gram)
def gram(node: ir.Gram, at: Place) -> Expr:
    writer = at.writer
    names, inputs, places, features = [], [], [], []
    for name, where in zip(node.names, (node.left, node.right), strict=True):
        settled = [at.settled(e) for e in where]
        if not all(e.is_constant for e in settled):
            raise at.uneven()
        key = Key(ir.DATA, "self", (name,))
        is_input = key not in writer.run.handed
        dims = (*range(len(settled)), "feature") if is_input else writer.run.handed[key].dims[1:]
        found = []
        for d in (d for d in dims if isinstance(d, int)):
            low, high = writer.chain.ends(writer.recursion.tables[key].axes[d].range)
            if not low <= settled[d].constant <= high:
                return NOTHING
            found.append(settled[d].constant - low)
        names.append(name if is_input else plain(writer.run.names.table(key)))
        inputs.append(is_input)
        places.append(tuple(found))
        features.append(dims.index("feature"))
    table = GramTable((names[0], names[1]), (inputs[0], inputs[1]), (places[0], places[1]), (features[0], features[1]))
    if table not in writer.grams:
        writer.grams.append(table)
    return index("grams", writer.grams.index(table))
