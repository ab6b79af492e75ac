"""Expectations behind batch normalization: tables of whole batches, of which entries are taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sympy

from tensorprog import recursion as ir
from tensorprog.backend.code.arrays import aligned, all_of, union
from tensorprog.backend.code.tree import Array, Expr, Name, call, tree
from tensorprog.backend.lower.context import Context
from tensorprog.backend.lower.indices import mask
from tensorprog.backend.lower.registry import lowering
from tensorprog.backend.lower.rules.numbers import number
from tensorprog.backend.lower.rules.reads import at_places
from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range


@lowering(ir.BatchnormExpectation)
def batchnorm(node: ir.BatchnormExpectation, at: Context) -> Array:
    at.system.definitions.needs("batchnorm")
    with _batches((*node.rows, *node.columns), at) as (rows, rows2, columns, columns2):
        p, q, k, eps, other_eps = (at.lower(x) for x in (node.p, node.q, node.k, node.eps, node.other_eps))
        phi, gamma = _numbers(node.phi, at), _numbers(node.gamma, at)
        inner = {rows, rows2, columns, columns2}
        dims = tuple(d for d in union([p, q, k, eps, other_eps], at.order) if d not in inner)

        def laid(array: Array, *last: str) -> Array:
            return _laid(array, dims, last, at)

        left, between = laid(p, rows, rows2), laid(k, rows, columns)
        value: Expr
        if not at.is_pair and node.same == () and _same_batch(node):
            value = call("batchnorm_self", left, laid(eps), phi, gamma)
        else:
            right = laid(q, columns, columns2)
            covariance: Expr = between
            if at.is_pair and node.same is not None:
                test = mask(node.same, at)
                both = all_of([Array(Name("same"), ("n1", "n2")), *([] if test is None else [test])], at.order)
                covariance = call("equal_batches", between, left, laid(both))
            value = call("batchnorm_pair", left, right, covariance, laid(eps), laid(other_eps), phi, gamma)
    places = [(rows, node.rows[0], node.at), (columns, node.columns[0], node.other_at)]
    return at_places(value, dims, places, at)


@lowering(ir.BatchnormMean)
def batchnorm_mean(node: ir.BatchnormMean, at: Context) -> Array:
    at.system.definitions.needs("batchnorm")
    with _batches(node.rows, at) as (rows, rows2):
        p, eps = at.lower(node.p), at.lower(node.eps)
        dims = tuple(d for d in union([p, eps], at.order) if d not in (rows, rows2))
        left = _laid(p, dims, (rows, rows2), at)
        value = call("batchnorm_mean", left, _laid(eps, dims, (), at), _numbers(node.phi, at))
    return at_places(value, dims, [(rows, node.rows[0], node.at)], at)


def _numbers(pair: tuple[sympy.Expr, sympy.Expr], at: Context) -> Expr:
    return tree(tuple(number(e, at).value for e in pair))


def _laid(array: Array, dims: Sequence[str], last: Sequence[str], at: Context) -> Array:
    """The array with these dimensions last."""
    return aligned(array, (*dims, *last), [*(d for d in at.order if d not in last), *last])


@contextmanager
def _batches(ranges: Sequence[Range], at: Context) -> Iterator[list[str]]:
    with at.bound(ranges) as (names, conditions):
        if conditions:
            raise ProgramError(f"a batch over {ranges[0]}, which depends on other indices, is not supported")
        yield names


def _same_batch(node: ir.BatchnormExpectation) -> bool:
    """Whether both sides are one batch of one run."""
    swap = {c.name: Affine.symbol(r.name) for r, c in zip(node.rows, node.columns, strict=True)}
    return ir.substitute(node.q, swap) == node.p and node.eps == node.other_eps
