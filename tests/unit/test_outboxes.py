"""Corners of the outboxes that the models reach seldom."""

from __future__ import annotations

import pytest

from broker.config import Overflow
from broker.errors import SlowConsumer
from broker.message import Gap, Item, Message, Position, Share
from broker.state.budget import Budget
from broker.state.conflating import ConflatingOutbox
from broker.state.fifo import FifoOutbox
from broker.state.outbox import Bounds, Outbox
from broker.stats import Counters


def make(overflow: Overflow, max_messages: int = 2, max_bytes: int = 10) -> Outbox:
    kind = ConflatingOutbox if overflow is Overflow.CONFLATE else FifoOutbox
    bounds = Bounds(max_messages, max_bytes)
    return kind(overflow, bounds, Budget(1000), Counters())


def message(topic: str, offset: int | None, size: int = 1) -> Message:
    position = None if offset is None else Position("e", offset)
    return Message(topic, "x" * size, position, share=Share(size))


def offer(outbox: Outbox, topic: str, offset: int | None, size: int = 1) -> None:
    new = message(topic, offset, size)
    outbox.budget.hold(new, 1)
    outbox.offer(new, size)


def short(items: list[Item]) -> list[tuple[str, ...] | tuple[str, int, int, int]]:
    """Messages as (topic, offset), gaps as (topic, first, last, missed)."""
    found: list[tuple[str, ...] | tuple[str, int, int, int]] = []
    for item in items:
        if isinstance(item, Gap):
            found.append((item.topic, item.first, item.last, item.missed))
        else:
            offset = "" if item.position is None else str(item.position.offset)
            found.append((item.topic, offset))
    return found


@pytest.mark.parametrize("overflow", Overflow)
def test_nothing_can_be_taken_from_an_empty_outbox(overflow: Overflow) -> None:
    outbox = make(overflow)
    with pytest.raises(IndexError):
        outbox.take()
    assert outbox.take_all() == []
    assert outbox.poll() is None
    assert outbox.is_empty()
    assert len(outbox) == 0


@pytest.mark.parametrize("overflow", [Overflow.DISCONNECT, Overflow.BLOCK])
def test_a_full_outbox_gives_up(overflow: Overflow) -> None:
    outbox = make(overflow)
    offer(outbox, "t", 1)
    offer(outbox, "t", 2)
    with pytest.raises(SlowConsumer, match=r"^the outbox is full$"):
        offer(outbox, "t", 3)
    assert short(outbox.take_all()) == [("t", "1"), ("t", "2")]
    assert (outbox.dropped, outbox.budget.used_bytes) == (0, 0)


def test_the_oldest_go_and_are_told_first() -> None:
    outbox = make(Overflow.DROP_OLDEST)
    for offset in range(1, 6):
        offer(outbox, "t", offset)
    assert short(outbox.take_all()) == [("t", 1, 3, 3), ("t", "4"), ("t", "5")]
    assert (outbox.dropped, outbox.told) == (3, 3)


def test_the_newest_go_and_are_told_last() -> None:
    outbox = make(Overflow.DROP_NEWEST)
    for offset in range(1, 6):
        offer(outbox, "t", offset)
    assert short(outbox.take_all()) == [("t", "1"), ("t", "2"), ("t", 3, 5, 3)]
    assert (outbox.dropped, outbox.told) == (3, 3)


def test_a_message_that_can_never_fit_is_dropped_in_its_place() -> None:
    """It evicts nobody."""
    outbox = make(Overflow.DROP_OLDEST, max_messages=3)
    offer(outbox, "t", 1)
    offer(outbox, "t", 2, size=11)
    offer(outbox, "t", 3)
    assert short(outbox.take_all()) == [("t", "1"), ("t", 2, 2, 1), ("t", "3")]
    assert (outbox.dropped, outbox.told, outbox.counters.missed) == (1, 1, 1)


def test_gaps_between_messages_take_up_room() -> None:
    outbox = make(Overflow.DROP_NEWEST, max_messages=3)
    offer(outbox, "t", 1)
    offer(outbox, "t", 2, size=11)
    offer(outbox, "t", 3)
    assert not outbox.has_room(0)
    offer(outbox, "t", 4, size=0)
    assert short(outbox.take_all()) == [
        ("t", "1"),
        ("t", 2, 2, 1),
        ("t", "3"),
        ("t", 4, 4, 1),
    ]


def test_a_gap_must_fit_too_before_the_message_behind_it() -> None:
    outbox = make(Overflow.DROP_NEWEST, max_messages=2)
    offer(outbox, "t", 1)
    outbox.tell(Gap("t", "e", 2, 2, 1))
    offer(outbox, "t", 3)
    assert short(outbox.take_all()) == [("t", "1"), ("t", 2, 3, 2)]


@pytest.mark.parametrize("way", ["take", "poll", "take_all"])
def test_a_gap_between_messages_is_told_once(way: str) -> None:
    """However it is taken out."""
    outbox = make(Overflow.DISCONNECT, max_messages=4)
    offer(outbox, "t", 1)
    outbox.tell(Gap("t", "e", 2, 4, 3))
    offer(outbox, "t", 5)
    if way == "take_all":
        items = outbox.take_all()
    else:
        items = [getattr(outbox, way)() for _ in range(3)]
    assert short(items) == [("t", "1"), ("t", 2, 4, 3), ("t", "5")]
    assert (outbox.told, outbox.counters.missed) == (3, 3)
    assert (len(outbox), outbox.size_bytes, outbox.budget.used_bytes) == (0, 0, 0)


def test_bounds_are_reached_and_not_passed() -> None:
    outbox = make(Overflow.DROP_NEWEST, max_messages=3, max_bytes=10)
    offer(outbox, "t", 1, size=4)
    assert outbox.has_room(6)
    assert not outbox.has_room(7)
    offer(outbox, "t", 2, size=6)
    assert outbox.size_bytes == 10
    assert outbox.has_room(0)
    offer(outbox, "t", 3, size=0)
    assert not outbox.has_room(0)
    assert outbox.dropped == 0


def test_messages_without_position_are_nobodys_loss() -> None:
    outbox = make(Overflow.DROP_OLDEST, max_messages=1)
    offer(outbox, "", None)
    offer(outbox, "t", 1)
    assert short(outbox.take_all()) == [("t", "1")]
    assert (outbox.dropped, outbox.told) == (1, 0)


def test_latest_keeps_the_place_of_the_first() -> None:
    outbox = make(Overflow.CONFLATE)
    offer(outbox, "a", 1)
    offer(outbox, "b", 1)
    offer(outbox, "a", 2)
    assert short(outbox.take_all()) == [("a", 1, 1, 1), ("a", "2"), ("b", "1")]
    assert (outbox.dropped, outbox.told) == (1, 1)


@pytest.mark.parametrize("size", [9, 10])
def test_conflation_counts_what_it_replaces(size: int) -> None:
    """The new one fits as soon as the old one is gone."""
    outbox = make(Overflow.CONFLATE)
    offer(outbox, "a", 1, size=9)
    offer(outbox, "a", 2, size=size)
    assert outbox.size_bytes == outbox.budget.used_bytes == size
    with pytest.raises(SlowConsumer):
        offer(outbox, "a", 3, size=11)
    assert short(outbox.take_all()) == [("a", 1, 1, 1), ("a", "2")]


@pytest.mark.parametrize("overflow", Overflow)
def test_a_told_loss_stands_behind_what_came_before_it(overflow: Overflow) -> None:
    outbox = make(overflow)
    offer(outbox, "t", 4)
    outbox.tell(Gap("t", "e", 5, 6, 2))
    assert len(outbox) == 2
    assert short(outbox.take_all()) == [("t", "4"), ("t", 5, 6, 2)]
    assert (outbox.dropped, outbox.told, outbox.counters.missed) == (0, 2, 2)


@pytest.mark.parametrize("overflow", Overflow)
def test_a_told_loss_stands_before_what_came_after_it(overflow: Overflow) -> None:
    outbox = make(overflow)
    outbox.tell(Gap("t", "e", 5, 6, 2))
    offer(outbox, "t", 7)
    assert short(outbox.take_all()) == [("t", 5, 6, 2), ("t", "7")]


def test_conflation_joins_told_losses_to_its_own() -> None:
    outbox = make(Overflow.CONFLATE)
    offer(outbox, "t", 4)
    outbox.tell(Gap("t", "e", 5, 6, 2))
    offer(outbox, "t", 7)
    assert short(outbox.take_all()) == [("t", 4, 6, 3), ("t", "7")]


@pytest.mark.parametrize("overflow", Overflow)
def test_too_many_gaps_are_not_queued(overflow: Overflow) -> None:
    outbox = make(overflow, max_messages=2)
    outbox.tell(Gap("a", "e", 1, 1, 1))
    outbox.tell(Gap("b", "e", 1, 1, 1))
    with pytest.raises(SlowConsumer, match="gaps"):
        outbox.tell(Gap("c", "e", 1, 1, 1))
    outbox.tell(Gap("b", "e", 2, 4, 2))
    assert short(outbox.take_all()) == [("a", 1, 1, 1), ("b", 1, 4, 3)]


@pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, Overflow.CONFLATE])
def test_a_loss_that_cannot_be_told_is_not_made(overflow: Overflow) -> None:
    outbox = make(overflow, max_messages=1)
    outbox.tell(Gap("gone", "e", 1, 1, 1))
    offer(outbox, "t", 1)
    with pytest.raises(SlowConsumer, match="gaps"):
        offer(outbox, "t", 2)
    assert outbox.dropped == 0
    assert outbox.budget.used_bytes == outbox.size_bytes == 1
    assert short(outbox.take_all()) == [("gone", 1, 1, 1), ("t", "1")]


def test_an_eviction_that_cannot_be_told_is_not_made() -> None:
    outbox = make(Overflow.DROP_OLDEST, max_messages=1)
    offer(outbox, "a", 1)
    offer(outbox, "b", 1)
    with pytest.raises(SlowConsumer, match="gaps"):
        offer(outbox, "c", 1)
    assert outbox.budget.used_bytes == outbox.size_bytes == 1
    assert short(outbox.take_all()) == [("a", 1, 1, 1), ("b", "1")]
    assert (outbox.dropped, outbox.told) == (1, 1)


@pytest.mark.parametrize("overflow", Overflow)
def test_epochs_are_told_apart(overflow: Overflow) -> None:
    outbox = make(overflow)
    outbox.tell(Gap("t", "e", 8, 9, 2))
    outbox.tell(Gap("t", "f", 1, 3, 3))
    assert outbox.take_all() == [Gap("t", "e", 8, 9, 2), Gap("t", "f", 1, 3, 3)]


@pytest.mark.parametrize("overflow", Overflow)
def test_clear_lets_go_of_everything(overflow: Overflow) -> None:
    outbox = make(overflow)
    outbox.tell(Gap("u", "e", 1, 1, 1))
    offer(outbox, "t", 1)
    outbox.tell(Gap("t", "e", 2, 2, 1))
    outbox.clear()
    assert (len(outbox), outbox.size_bytes, outbox.budget.used_bytes) == (0, 0, 0)
    assert outbox.take_all() == []
    assert outbox.told == 0
    offer(outbox, "t", 3)
    assert outbox.has_room(1)
    assert short([outbox.take()]) == [("t", "3")]
