"""The statistics, against distributions whose percentiles are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.loadtest.latencies import LONGEST_US, Latencies
from adapters.loadtest.report import Latency

DIGITS = 0.001  # HdrHistogram's three
COUNT = 20_000
times_ns = st.lists(st.integers(0, 10**11), min_size=1, max_size=60)


def uniform(share: float) -> float:
    """From 0 to 100 ms."""
    return 100 * share


def exponential(share: float) -> float:
    """Mean 10 ms."""
    return -10 * math.log(1 - share)


def two_humped(share: float) -> float:
    """Of a hundred, 98 take 1 to 2 ms; two have to wait, 400 to 500 ms."""
    return 1 + share / 0.98 if share < 0.98 else 400 + 5000 * (share - 0.98)


def recorded(times: list[int]) -> Latencies:
    latencies = Latencies()
    for ns in times:
        latencies.record(ns)
    return latencies


def close_to(ms: float) -> object:
    return pytest.approx(ms, rel=DIGITS, abs=0.001)


@pytest.mark.parametrize("quantile", [uniform, exponential, two_humped])
def test_known_distributions(quantile: Callable[[float], float]) -> None:
    """Recorded at evenly spread shares, so that every percentile is known."""
    times = [quantile((n + 0.5) / COUNT) for n in range(COUNT)]  # ms, rising
    summary = recorded([round(ms * 1e6) for ms in times]).summary()
    assert summary.count == COUNT
    for measured, share in (
        (summary.p50_ms, 0.5),
        (summary.p90_ms, 0.9),
        (summary.p99_ms, 0.99),
        (summary.p999_ms, 0.999),
        (summary.max_ms, 1.0),
    ):
        exact = times[round(share * COUNT) - 1]
        assert measured == close_to(exact)
        assert measured > exact * (1 - DIGITS / 2) - 0.001  # never told too low
    assert summary.mean_ms == pytest.approx(sum(times) / COUNT, rel=DIGITS / 5)


@settings(max_examples=40)
@given(times_ns)
def test_every_percentile_is_a_time_that_was_recorded(times: list[int]) -> None:
    """Of the same rank, to three digits; no time between two is made up."""
    shares = (0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0)
    for share, ms in zip(shares, recorded(times).percentiles_ms(*shares), strict=True):
        rank = max(int(share * len(times) / 100 + 0.5), 1)
        assert ms == close_to(sorted(times)[rank - 1] / 1e6)


@settings(max_examples=10)  # each decodes 23,000 counters, several times
@given(st.lists(times_ns, min_size=1, max_size=4))
def test_merged_equals_whole(parts: list[list[int]]) -> None:
    whole = recorded([ns for part in parts for ns in part])
    by_text, by_counts = Latencies(), Latencies()
    for part in parts:
        by_text.add(recorded(part).encode())
        by_counts.add_counts(recorded(part).take())
    assert by_text.summary() == by_counts.summary() == whole.summary()
    assert whole.count == sum(map(len, parts))


def test_what_was_taken_is_gone() -> None:
    latencies = recorded([1_000, 2_000_000])
    assert latencies.take() == {1: 1, 2000: 1}
    assert latencies.take() == {}
    assert latencies.summary() == Latency()
    assert latencies.percentiles_ms(50.0) == (0.0,)


def test_times_are_recorded_many_at_once() -> None:
    latencies = Latencies()
    latencies.record(5_000_000, 50)
    latencies.record(5_000_000, 49)
    latencies.record(7_000_000)
    summary = latencies.summary()
    assert (summary.count, summary.p99_ms, summary.max_ms) == (
        100,
        close_to(5.0),
        close_to(7.0),
    )


def test_times_out_of_range_are_kept_at_its_ends() -> None:
    latencies = recorded([-1, -(10**12), 10**15])
    assert latencies.early == 2
    assert latencies.percentiles_ms(0.0, 100.0) == (0.0, close_to(LONGEST_US / 1000))
    assert latencies.count == 3


def test_however_many_times_it_stays_small() -> None:
    latencies = Latencies()
    for n in range(200_000):
        latencies.record(n * 20_000_000)  # up to over an hour, all different
    assert len(latencies.take()) < 25_000


@pytest.mark.parametrize("text", ["", "?", "HISTFAAA", "SElTVEZBQUE="])
def test_what_is_no_histogram(text: str) -> None:
    latencies = recorded([1_000])
    with pytest.raises(ValueError, match="not a HdrHistogram"):
        latencies.add(text)
    assert latencies.count == 1
