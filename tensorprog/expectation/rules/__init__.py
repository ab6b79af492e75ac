"""Rules for E f(z) g(w), a file each; a rule registers itself with a rank, and the lowest that serves a pair is
taken.
"""

from __future__ import annotations

from collections.abc import Callable

from tensorprog.expectation.plan import Plan, Request

_RULES: list[tuple[int, str, Callable[[Request], Plan | None]]] = []


def rule(rank: int) -> Callable:
    """Register a function Request -> Plan | None: closed forms have rank 10, expansions 20, special quadratures 30,
    the rest 90.
    """

    def add(function):
        _RULES.append((rank, function.__module__, function))
        _RULES.sort(key=lambda entry: entry[:2])
        return function

    return add


def first_plan(request: Request) -> Plan:
    """The plan of the first rule that serves the request."""
    for _, _, function in _RULES:
        plan = function(request)
        if plan is not None:
            return plan
    raise AssertionError("the quadrature rule serves every pair")
