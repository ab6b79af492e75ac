"""The nodes in a node, and what it takes from tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from tensorprog.recursion.nodes import DATA, Gram, Key, Node, Read


def parts(node: Node) -> Iterator[Node]:
    """The nodes right under a node."""
    for f in fields(node):
        yield from _parts(getattr(node, f.name))


def _parts(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _parts(v)


def walk(node: Node) -> Iterator[Node]:
    yield node
    for p in parts(node):
        yield from walk(p)


def reads(node: Node) -> Iterator[Read]:
    return (x for x in walk(node) if isinstance(x, Read))


def data_reads(node: Gram) -> tuple[Read, Read]:
    """The two entries of tables of data that a Gram is the inner product of."""
    places = zip(node.names, (node.left, node.right), node.sides, strict=True)
    left, right = (Read(Key(DATA, "self", (name,)), indices, side) for name, indices, side in places)
    return left, right


def entries(node: Node) -> Iterator[Read]:
    """All that a node takes from tables: what it reads, and the data in its Grams."""
    for x in walk(node):
        if isinstance(x, Read):
            yield x
        elif isinstance(x, Gram):
            yield from data_reads(x)
