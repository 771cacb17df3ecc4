"""Counters start at nothing and belong to one node."""

from __future__ import annotations

from broker.config import Overflow
from broker.stats import Counters


def test_counters_are_not_shared() -> None:
    one, other = Counters(), Counters()
    one.dropped[Overflow.DROP_OLDEST] += 1
    one.handed += 1
    assert other == Counters()
    assert one != other
    assert other.dropped[Overflow.DROP_OLDEST] == 0
