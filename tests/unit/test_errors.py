"""Errors: their text for humans, their data for handlers."""

from __future__ import annotations

import pytest

from broker import errors
from broker.ending import Ending, EndKind
from broker.errors import (
    BrokerError,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    NotAllowed,
    SessionEnded,
    SlowConsumer,
    UsageError,
)


@pytest.mark.parametrize("name", errors.__all__)
def test_one_root(name: str) -> None:
    assert issubclass(getattr(errors, name), BrokerError)


def test_the_callers_faults() -> None:
    assert all(
        issubclass(fault, UsageError)
        for fault in (InvalidTopic, LimitExceeded, MessageTooLarge)
    )
    assert not issubclass(NotAllowed, UsageError)


def test_facts_are_attributes() -> None:
    large = MessageTooLarge(70, 64)
    assert (large.size_bytes, large.limit_bytes) == (70, 64)
    assert str(large) == "payload is 70 B; the limit is 64 B"
    limit = LimitExceeded("max_topics", 3)
    assert (limit.name, limit.limit) == ("max_topics", 3)
    assert str(limit) == "max_topics is 3, and all are in use"
    refusal = NotAllowed("who are you?", authenticated=False)
    assert (refusal.reason, refusal.authenticated) == ("who are you?", False)
    assert str(refusal) == "who are you?"
    assert NotAllowed().authenticated
    assert str(SlowConsumer()) == "the outbox is full"
    ending = Ending.of(EndKind.IDLE)
    assert SessionEnded(ending).ending is ending
    assert (
        str(SessionEnded(ending)) == "session ended: idle (4002: 'idle for too long')"
    )


def test_quotes_in_topics_are_shown_as_they_are() -> None:
    assert InvalidTopic("it's", 0, "…").topic == "it's"
