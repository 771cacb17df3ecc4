"""A subscriber that lets go of one topic: as if that had never been queued."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config import Overflow
from broker.errors import SlowConsumer
from broker.message import Gap, Item, Message, Position, Share
from broker.state.budget import Budget
from broker.state.conflating import ConflatingOutbox
from broker.state.fifo import FifoOutbox
from broker.state.outbox import Bounds
from broker.stats import Counters
from broker.subscriber import Subscriber
from broker.wakeup import Wakeup

POLICIES = [each for each in Overflow if each is not Overflow.BLOCK]
TOPICS = st.sampled_from("ab")
# What history has brought comes before all else.
STEPS = st.builds(
    lambda recovered, then: [(topic, "recover") for topic in recovered] + then,
    st.lists(TOPICS, max_size=3),
    st.lists(st.tuples(TOPICS, st.sampled_from(["message", "gap"])), max_size=12),
)


def subscriber(overflow: Overflow, slow: list[SlowConsumer]) -> Subscriber:
    kind = ConflatingOutbox if overflow is Overflow.CONFLATE else FifoOutbox
    counters = Counters()
    outbox = kind(overflow, Bounds(4, 100), Budget(1_000), counters)
    return Subscriber("me", outbox, Wakeup(), counters, slow.append)


def play(subscriber: Subscriber, steps: list[tuple[str, str]]) -> None:
    offsets = dict.fromkeys("ab", 0)
    for topic, what in steps:
        offsets[topic] += 1
        offset = offsets[topic]
        message = Message(topic, "x", Position("e", offset), share=Share(1))
        if what == "gap":
            subscriber.tell(Gap(topic, "e", offset, offset, 1))
        elif what == "recover":
            subscriber.recover([message])
        else:
            subscriber.outbox.budget.hold(message, 1)
            subscriber.deliver(message, 1)


def fates(items: list[Item], topic: str) -> list[tuple[int, bool]]:
    """Return (offset, whether it is there) in the order in which one learns of it."""
    found = []
    for item in items:
        if item.topic != topic:
            continue
        if isinstance(item, Gap):
            found += [(offset, False) for offset in range(item.first, item.last + 1)]
        else:
            assert item.position is not None
            found.append((item.position.offset, True))
    return found


@pytest.mark.parametrize("overflow", POLICIES)
@given(steps=STEPS)
def test_discard(overflow: Overflow, steps: list[tuple[str, str]]) -> None:
    slow: list[Any] = []
    ours, theirs = subscriber(overflow, slow), subscriber(overflow, slow)
    try:
        play(ours, steps)
        play(theirs, steps)
        if slow:
            return  # it would have been cleared
        ours.discard("a")
        got, whole = ours.take_all(), theirs.take_all()
        assert fates(got, "a") == []
        assert fates(got, "b") == fates(whole, "b")
        assert ours.outbox.budget.used_bytes == 0
        assert ours.outbox.size_bytes == 0
        assert ours.outbox.told == theirs.outbox.told
    finally:
        for each in (ours, theirs):
            each.clear()
            each.wakeup.close()
