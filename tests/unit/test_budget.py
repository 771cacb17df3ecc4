"""Bytes count once, for as long as anybody holds them."""

from __future__ import annotations

from broker.message import Message, Share
from broker.state.budget import Budget


def message(size: int) -> Message:
    return Message("t", "x" * size, share=Share(size))


def test_many_holders_count_once() -> None:
    budget, shared = Budget(100), message(10)
    budget.hold(shared, 3)
    assert budget.used_bytes == 10
    for _ in range(2):
        budget.release(shared)
        assert budget.used_bytes == 10
    budget.release(shared)
    assert budget.used_bytes == 0


def test_more_holders_cost_nothing() -> None:
    budget, shared = Budget(100), message(10)
    budget.hold(shared, 1)
    budget.hold(shared, 1)
    budget.release(shared)
    assert budget.used_bytes == 10
    budget.release(shared)
    assert budget.used_bytes == 0


def test_a_message_that_was_let_go_counts_again() -> None:
    budget, shared = Budget(100), message(10)
    for _ in range(2):
        budget.hold(shared, 1)
        assert budget.used_bytes == 10
        budget.release(shared)
        assert budget.used_bytes == 0


def test_the_limit_itself_is_allowed() -> None:
    budget = Budget(10)
    budget.hold(message(10), 1)
    assert not budget.is_exceeded
    budget.hold(message(1), 1)
    assert budget.is_exceeded
