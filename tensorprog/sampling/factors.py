"""FACTOR_MEANS and FACTOR_PAIRS: rules for the expectations of held factors, alone and two together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy

from tensorprog import expectation
from tensorprog.backend.code.reading import Holes
from tensorprog.backend.code.tree import DictOf, Expr, Lambda, Statement, index, let, text, tree
from tensorprog.program.ir import Program
from tensorprog.sampling.expressions import HELD_VARIABLE

_OTHER = sympy.Symbol("w", real=True)


@dataclass(frozen=True)
class FactorRules:
    """statements that define both; definitions, as text, and runtime modules that they need."""

    statements: tuple[Statement, ...]
    definitions: tuple[str, ...]
    runtime: tuple[str, ...]


def factor_rules(factors: Mapping[str, sympy.Expr], program: Program) -> FactorRules:
    z, w = HELD_VARIABLE, _OTHER
    definitions: list[str] = []
    runtime: list[str] = []
    means: list[tuple[Expr, Expr]] = []
    pairs: list[tuple[Expr, Expr]] = []
    mean = any(f.law is not None and f.law.mean != 0 for f in program.families.values())
    mu, nu = ("mu", "nu") if mean else (None, None)
    for k, (name, f) in enumerate(factors.items()):
        single = expectation.plan_mean(f, z, mean=mean, prefix=f"factor_{k + 1}")
        definitions += single.definitions
        runtime += single.runtime
        holes = Holes()
        value = holes.filled(single.call("p", mu, _scalars(f, z, holes)))
        means.append((text(name), Lambda(("p", "mu", "params"), value)))
        for j, (other, g) in enumerate(factors.items()):
            prefix = f"factors_{k + 1}_{j + 1}"
            plan = expectation.plan_pair(f, g.xreplace({z: w}), z, w, mean_f=mean, mean_g=mean, prefix=prefix)
            definitions += plan.definitions
            runtime += plan.runtime
            holes = Holes()
            value = holes.filled(plan.call("k", "p", "q", mu, nu, _scalars(f, z, holes), _scalars(g, z, holes)))
            pairs.append((tree((text(name), text(other))), Lambda(("k", "p", "q", "mu", "nu", "params"), value)))
    statements = let("FACTOR_MEANS", DictOf(tuple(means), True)), let("FACTOR_PAIRS", DictOf(tuple(pairs), True))
    return FactorRules(statements, tuple(definitions), tuple(dict.fromkeys(runtime)))


def _scalars(e: sympy.Expr, variable: sympy.Symbol, holes: Holes) -> dict[sympy.Symbol, str]:
    """The parameters in a function."""
    return {s: holes(index("params", text(s.name))) for s in e.free_symbols - {variable}}
