"""What is said to be certain of conditions, against every point of the indices' ranges."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorprog.index.affine import Affine
from tensorprog.index.bounds import evaluate_bound, minimum
from tensorprog.index.conditions import (
    Condition,
    at_least,
    boxed,
    certain,
    compare,
    complementary,
    contradict,
    equal,
    implies,
    judging,
    strongest,
    within,
    without_implied,
)
from tensorprog.index.ranges import Range

I_, J_, P_ = map(Affine.symbol, ("i", "j", "P"))
RANGES = {"i": Range("i", Affine(1), P_), "j": Range("j", I_ - 1, minimum(P_, Affine(4)))}
POINTS = [{"P": p, "i": i, "j": j} for p in range(1, 7) for i in range(1, p + 1) for j in range(i - 1, min(p, 4) + 1)]
conditions = st.builds(
    lambda op, c, i, j, p: Condition(op, Affine.build(c, {"i": i, "j": j, "P": p})),
    st.sampled_from((">=", "==", "!=")),
    *[st.integers(-3, 3)] * 4,
)
judge = partial(certain, ranges=RANGES)


def holds(c: Condition, at) -> bool:
    value = c.expression.evaluate(at)
    return {">=": value >= 0, "==": value == 0, "!=": value != 0}[c.op]


@given(conditions)
def test_what_is_certain_holds_everywhere_or_nowhere(c):
    verdict, seen = judge(c), {holds(c, at) for at in POINTS}
    assert verdict is None or seen == {verdict}


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        (at_least(I_, Affine(1)), True),
        (at_least(P_, J_), True),
        (at_least(J_, I_), None),
        (at_least(J_, I_ - 1), True),
        (at_least(I_ - 2, J_), False),
        (equal(I_, P_ + 1), False),
        (Condition("!=", I_ - P_ - 1), True),
        (equal(J_, I_), None),
        (equal(P_ - P_, Affine(0)), True),
    ],
)
def test_what_is_found_certain(condition, verdict):
    assert judge(condition) is verdict


def test_known_sizes_decide_more():
    assert judging(RANGES.values(), {})(at_least(P_, Affine(2))) is None
    assert judging(RANGES.values(), {"P": 1})(at_least(P_, Affine(2))) is False
    assert judging([], {})(at_least(P_, Affine(1))) is True
    assert judging([], {"P": 0})(at_least(P_, Affine(1))) is False


@given(conditions, conditions)
def test_implied_contradicted_and_complementary(c, d):
    pairs = [(holds(c, at), holds(d, at)) for at in POINTS]
    if implies(c, d, judge):
        assert all(second for first, second in pairs if first)
    if contradict(c, d, judge):
        assert not any(first and second for first, second in pairs)
    if complementary(c, d, judge):
        assert all(first != second for first, second in pairs)


@given(st.lists(conditions, max_size=5))
def test_what_is_left_says_as_much(given_conditions):
    kept = without_implied(given_conditions, judge)
    for at in POINTS:
        everything = all(holds(c, at) for c in given_conditions)
        assert everything == (kept is not None and all(holds(c, at) for c in kept))
        assert everything == all(holds(c, at) for c in strongest(given_conditions))


def test_wrapped_indices_leave_one_condition():
    beyond, not_below = at_least(I_ + J_, P_ + 1), at_least(I_ + J_, Affine(1))
    assert without_implied([not_below, beyond], judge) == [beyond]
    assert without_implied([beyond, at_least(P_, I_ + J_)], judge) is None


@pytest.mark.parametrize("op", ["==", "!=", "<", "<=", ">", ">="])
def test_comparisons(op):
    for a, b in itertools.product(range(-2, 3), repeat=2):
        assert holds(compare(op, I_, J_), {"i": a, "j": b}) == eval(f"{a} {op} {b}")


def test_boxes_and_ranges():
    box, narrower = boxed(RANGES["j"], {"i": RANGES["i"]})
    for p in range(1, 7):
        for i, j in itertools.product(range(1, p + 1), range(-3, 8)):
            at = {"P": p, "i": i, "j": j}
            inside = evaluate_bound(RANGES["j"].low, at) <= j <= evaluate_bound(RANGES["j"].high, at)
            in_box = evaluate_bound(box.low, at) <= j <= evaluate_bound(box.high, at)
            assert inside == (in_box and all(holds(c, at) for c in narrower))
            assert inside == all(holds(c, at) for c in within(J_, RANGES["j"]))
