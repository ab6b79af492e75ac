"""Closed forms, where every pair of terms has one."""

from tensorprog.expectation.closed import closed_pair
from tensorprog.expectation.rules import rule

closed = rule(rank=10)(closed_pair)
