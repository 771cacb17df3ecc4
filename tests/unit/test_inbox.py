"""Frames wait in order, and a full inbox says so."""

from __future__ import annotations

import pytest

from broker.message import Payload, size_of
from broker.state.budget import Budget
from broker.state.inbox import Inbox


def make(
    max_messages: int = 10, max_bytes: int = 100, budget: Budget | None = None
) -> Inbox:
    return Inbox(
        max_messages=max_messages,
        max_bytes=max_bytes,
        budget=Budget(1000) if budget is None else budget,
    )


def put(inbox: Inbox, *frames: Payload) -> None:
    for frame in frames:
        inbox.put(frame, size_of(frame))


def test_first_in_first_out() -> None:
    inbox = make()
    put(inbox, "a", b"b", "")
    assert len(inbox) == 3
    assert [inbox.take() for _ in range(3)] == ["a", b"b", ""]
    assert len(inbox) == 0
    with pytest.raises(IndexError):
        inbox.take()


def test_full_by_number() -> None:
    """Empty frames too."""
    inbox = make(max_messages=2)
    put(inbox, "")
    assert not inbox.is_full
    put(inbox, "")
    assert inbox.is_full
    inbox.take()
    assert not inbox.is_full


def test_full_by_bytes() -> None:
    inbox = make(max_bytes=4)
    put(inbox, "abc")
    assert not inbox.is_full
    put(inbox, "d")
    assert inbox.is_full
    inbox.take()
    assert not inbox.is_full
    put(inbox, "a longer one than fits")
    assert inbox.is_full


def test_bytes_that_wait_are_counted() -> None:
    """As UTF-8, in the inbox and in the budget, which others use too."""
    budget = Budget(1000)
    one, other = make(budget=budget), make(budget=budget)
    put(one, "é", b"abc")
    put(other, "12345")
    assert (one.size_bytes, other.size_bytes, budget.used_bytes) == (5, 5, 10)
    one.take()
    assert (one.size_bytes, budget.used_bytes) == (3, 8)
    one.clear()
    assert (len(one), one.size_bytes, budget.used_bytes) == (0, 0, 5)
    put(one, "x")
    assert (one.size_bytes, budget.used_bytes) == (1, 6)
