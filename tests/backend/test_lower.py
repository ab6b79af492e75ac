"""Lowerings are registered by node, and loops are planned before code is made of them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import recursion as ir
from tensorprog.backend.code.tree import Array, binary
from tensorprog.backend.lower.loops import EntryByEntry, Scan, Unrolled, WholeTable, planned
from tensorprog.backend.lower.names import Names
from tensorprog.backend.lower.registry import lowering
from tensorprog.backend.lower.scope import Scope
from tensorprog.backend.module import build_module
from tensorprog.backend.schedule import schedule
from tensorprog.index.affine import Affine


@dataclass(frozen=True)
class Doubled:
    """Twice a node: none that a recursion has."""

    node: ir.Node


@pytest.fixture
def doubling():
    """What a file for a new node is."""

    @lowering(Doubled)
    def doubled(node, at):
        inner = at.lower(node.node)
        return Array(binary("*", 2, inner), inner.dims)

    yield
    del lowering.functions[Doubled]


def doubled_output(recursion):
    table = recursion.tables[recursion.output]
    clauses = tuple(replace(c, value=Doubled(c.value)) for c in table.clauses)
    return replace(recursion, tables={**recursion.tables, table.key: replace(table, clauses=clauses)})


def kernel_of(recursion):
    space: dict = {}
    exec(build_module(recursion).source, space)
    return space["kernel"]


def test_a_new_lowering_registers_itself_and_works(doubling):
    recursion = tp.load("mlp", depth=2).recursion
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    kernels = kernel_of(recursion)(x), kernel_of(doubled_output(recursion))(x)
    for plain, twice in zip(*kernels, strict=True):
        np.testing.assert_allclose(twice, 2 * plain, rtol=1e-6)


def test_a_node_has_one_lowering_and_one_without_says_so():
    with pytest.raises(ValueError, match="Sum has a lowering already"):
        lowering.of(ir.Sum)
        lowering(ir.Sum)(lambda node, at: at.lower(node.body))
    with pytest.raises(LookupError, match="nothing lowers Doubled"):
        kernel_of(doubled_output(tp.load("mlp", depth=2).recursion))


def test_every_node_of_a_recursion_has_a_lowering():
    kinds = [kind for kind in ir.Node.__args__ if kind is not ir.Sampled]
    assert all(callable(lowering.of(kind)) for kind in kinds)


# ---------------------------------------------------------------- loops

STEPS = """
program steps(depth = 9)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[1] := U @ x
h[2] := U @ x
for l = 3..depth:
    h[l] := W @ relu({step})
output y := v.T @ h[depth] / sqrt(n)
"""


def plan_of(text: str, stream: str = "cross"):
    recursion = tp.parse(text).recursion
    names = Names(recursion, primed=True)
    tables = {t.key: t for t in recursion.system(stream)}
    scope = Scope(recursion.program.integers, names.size)
    return planned(schedule(tuple(tables.values()), scope.known), tables, scope)


def test_steps_that_differ_at_the_beginning_are_written_out_before_a_scan():
    (loop,) = [item for item in plan_of(STEPS.format(step="h[l-1] + h[l-2]")) if isinstance(item, Scan)]
    assert (loop.first, loop.last) == (Affine(3), Affine(9))
    assert {step.index for step in loop.before} <= {Affine(1), Affine(2)} and loop.before
    # Inside, an entry is read at the loop's index and at most two steps before it.
    here = Affine.symbol(loop.symbol)
    for item in loop.step.items:
        assert isinstance(item, WholeTable) and not item.zero
        for read in (r for c in item.table.clauses for r in ir.reads(c.value) if r.key in loop.loop.axes):
            assert (here - read.indices[loop.loop.axes[read.key]]).constant in (0, 1, 2)


def test_steps_that_read_far_back_are_a_loop_in_python():
    kinds = {type(item) for item in plan_of(STEPS.format(step="h[l-1] + h[1]"))}
    assert Unrolled in kinds and Scan not in kinds and EntryByEntry not in kinds


def test_a_loop_has_a_symbol_that_nothing_inside_has():
    for item in plan_of(STEPS.format(step="h[l-1] + h[l-2]")):
        if isinstance(item, Scan):
            bound = {r.name for t in item.tables for c in t.clauses for r in c.binders}
            inside = {r.name for s in item.step.items for c in s.table.clauses for r in c.binders}
            assert item.symbol not in inside and item.symbol in bound
            assert item.scope.traced == {item.symbol}
