"""Token buckets, and who has which."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config import Limits
from broker.ending import EndKind
from broker.errors import UsageError
from broker.state.rates import Meter, TokenBucket, UserMeters, session_meter

RATE, CAPACITY = 4.0, 8.0
# Eighths are exact, so that the model needs no tolerance.
steps = st.lists(
    st.tuples(st.integers(0, 40).map(lambda n: n / 8), st.integers(1, 10)), max_size=60
)


@given(steps)
def test_never_more_than_the_rate_and_the_burst(steps: list[tuple[float, int]]) -> None:
    """Over every stretch of time, which is what a rate limit promises."""
    bucket = TokenBucket(RATE, CAPACITY, 0.0)
    now, taken = 0.0, [(0.0, 0)]
    for pause_s, tokens in steps:
        now += pause_s
        if bucket.take(tokens, now):
            taken.append((now, tokens))
    for start, (began, _) in enumerate(taken):
        total = 0
        for at, tokens in taken[start:]:
            total += tokens
            assert total <= CAPACITY + RATE * (at - began)


@given(steps)
def test_nothing_is_refused_that_fits(steps: list[tuple[float, int]]) -> None:
    """The model keeps the level as anybody would."""
    bucket, level, now = TokenBucket(RATE, CAPACITY, 0.0), CAPACITY, 0.0
    for pause_s, tokens in steps:
        now += pause_s
        level = min(CAPACITY, level + RATE * pause_s)
        fits = tokens <= level
        assert bucket.take(tokens, now) is fits
        if fits:
            level -= tokens
        assert bucket.is_full(now) is (level == CAPACITY)


def meter(messages: float | None, size: float | None) -> Meter:
    return Meter(messages, size, burst_s=2, largest_bytes=100, now=0.0)


def test_which_rate_is_exceeded() -> None:
    both = meter(1, 1_000)
    assert [both.take(10, 0.0) for _ in range(3)] == [None, None, EndKind.MESSAGE_RATE]
    assert both.take(10, 1.0) is None
    assert meter(None, 1_000).take(2_001, 0.0) is EndKind.BYTE_RATE


def test_the_largest_message_fits_every_byte_rate() -> None:
    slow = meter(None, 1)
    assert slow.take(100, 0.0) is None
    assert slow.take(1, 0.0) is EndKind.BYTE_RATE
    assert slow.take(1, 1.0) is None


def test_a_rate_below_one_lets_a_first_message_through() -> None:
    assert meter(0.1, None).take(1, 0.0) is None


def test_no_limit_no_meter() -> None:
    assert session_meter(Limits(messages_per_s=None, bytes_per_s=None), 0.0) is None
    assert session_meter(Limits(messages_per_s=None), 0.0) is not None
    users = UserMeters(Limits())
    assert users.of("ann", 0.0) is None
    assert len(users) == 0


def test_a_user_who_comes_back_gets_no_new_meter() -> None:
    users = UserMeters(Limits(user_messages_per_s=1, burst_s=2))
    first = users.of("ann", 0.0)
    assert first is not None
    assert first is users.of("ann", 0.0)
    assert [first.take(1, 0.0) for _ in range(3)][-1] is EndKind.MESSAGE_RATE
    users.forget_idle(lambda user: False, 1.0)
    assert users.of("ann", 1.0) is first
    users.forget_idle(lambda user: True, 9.0)
    assert users.of("ann", 9.0) is first
    users.forget_idle(lambda user: False, 9.0)
    assert len(users) == 0


@pytest.mark.parametrize("name", ["messages_per_s", "user_bytes_per_s", "burst_s"])
def test_rates_are_positive(name: str) -> None:
    wrong: dict[str, Any] = {name: 0}
    with pytest.raises(UsageError, match=f"Limits.{name} must be > 0"):
        Limits(**wrong)
