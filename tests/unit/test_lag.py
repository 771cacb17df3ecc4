"""How far a node is behind: which publications are timed, and how."""

from __future__ import annotations

from broker.message import Position
from broker.state.lag import FORGET_S, Lag
from broker.stats import Histogram


def at(offset: int, epoch: str = "e") -> Position:
    return Position(epoch, offset)


def test_what_was_there_before_has_no_lag() -> None:
    times = Histogram()
    lag = Lag(times)
    lag.accept("t", at(3), reached=at(3), now=10.0)
    lag.accept("t", at(3), reached=at(4), now=10.0)
    assert (sum(times.counts), times.sum_s) == (2, 0.0)
    assert not lag.is_awaiting


def test_what_comes_later_is_timed_once() -> None:
    times = Histogram()
    lag = Lag(times)
    lag.accept("t", at(3), reached=at(1), now=10.0)
    lag.arrive("t", at(2), now=10.1)
    lag.arrive("u", at(3), now=10.1)
    lag.arrive("t", at(3, "another life"), now=10.1)
    assert lag.is_awaiting
    lag.arrive("t", at(3), now=10.25)
    lag.arrive("t", at(4), now=11.0)
    assert (sum(times.counts), times.sum_s) == (1, 0.25)


def test_one_at_a_time_and_none_for_ever() -> None:
    times = Histogram()
    lag = Lag(times)
    lag.accept("t", at(3), reached=at(1), now=10.0)
    lag.accept("u", at(3), reached=at(1), now=11.0)
    lag.arrive("u", at(3), now=12.0)
    assert lag.is_awaiting
    lag.accept("u", at(4), reached=at(1), now=10.5 + FORGET_S)
    lag.arrive("u", at(5), now=11.5 + FORGET_S)
    assert (sum(times.counts), times.sum_s) == (1, 1.0)


def test_a_topic_that_nobody_listens_to_tells_nothing() -> None:
    times = Histogram()
    lag = Lag(times)
    lag.accept("t", at(3), reached=None, now=10.0)
    assert not lag.is_awaiting
    assert not sum(times.counts)
