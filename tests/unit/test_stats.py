"""Counters start at nothing and belong to one node; histograms count every time."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from broker.config import Overflow
from broker.ending import EndKind
from broker.stats import TIME_BOUNDS_S, Counters, Histogram


def test_counters_are_not_shared() -> None:
    one, other = Counters(), Counters()
    one.dropped[Overflow.DROP_OLDEST] += 1
    one.handed += 1
    assert other == Counters()
    assert one != other
    assert other.dropped[Overflow.DROP_OLDEST] == 0


def test_a_copy_stays_as_it_is() -> None:
    one = Counters()
    copy = one.copy()
    one.dropped[Overflow.DROP_OLDEST] += 1
    one.ended[EndKind.IDLE] += 1
    one.refused[EndKind.SESSIONS] += 1
    one.fan_out.observe(1)
    one.queueing.observe(1)
    assert copy == Counters()


@given(st.lists(st.floats(0, 100)))
def test_histogram(times: list[float]) -> None:
    histogram = Histogram()
    for time_s in times:
        histogram.observe(time_s)
    assert sum(histogram.counts) == len(times)
    assert histogram.sum_s == sum(times)
    for index, bound in enumerate(TIME_BOUNDS_S):
        at_most = sum(time_s <= bound for time_s in times)
        assert sum(histogram.counts[: index + 1]) == at_most
    longest = len(TIME_BOUNDS_S)
    assert histogram.counts[longest] == sum(
        bisect_left(TIME_BOUNDS_S, time_s) == longest for time_s in times
    )
