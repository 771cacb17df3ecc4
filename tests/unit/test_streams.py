"""Histories that are forgotten in their time, and bounded in number."""

from __future__ import annotations

from itertools import count

import pytest

from broker.errors import LimitExceeded
from broker.message import Message, Position, Share
from broker.state.streams import Streams


def make(max_topics: int = 9) -> Streams:
    return Streams((f"e{number}" for number in count(1)), max_topics)


def publish(streams: Streams, topic: str, now: float, *, ttl_s: float = 10) -> Position:
    position = streams.open(topic).advance()
    message = Message(topic, "x", position, share=Share(1))
    streams.keep(message, size=9, ttl_s=ttl_s, now=now)
    return position


def nobody(topic: str) -> bool:
    return False


def everybody(topic: str) -> bool:
    return True


def test_open_finds_what_is_remembered() -> None:
    streams = make()
    assert streams.find("t") is None
    history = streams.open("t")
    assert streams.open("t") is history is streams.find("t")
    assert "t" in streams
    assert "u" not in streams
    assert len(streams) == 1


def test_a_forgotten_topic_begins_a_new_life() -> None:
    streams = make()
    assert publish(streams, "t", 0) == Position("e1", 1)
    assert publish(streams, "t", 0) == Position("e1", 2)
    streams.forget("t")
    streams.forget("never known")
    assert "t" not in streams
    assert publish(streams, "t", 0) == Position("e2", 1)


def test_the_number_of_topics_is_bounded() -> None:
    streams = make(max_topics=1)
    streams.open("t")
    with pytest.raises(LimitExceeded) as caught:
        streams.open("u")
    assert (caught.value.name, caught.value.limit) == ("max_topics", 1)
    assert "u" not in streams
    streams.open("t")
    streams.forget("t")
    assert streams.open("u").epoch == "e2"


def test_unused_topics_are_forgotten_in_their_time() -> None:
    streams = make()
    publish(streams, "t", 0)
    streams.expire(9.9, nobody)
    assert "t" in streams
    streams.expire(10, nobody)
    assert "t" not in streams


def test_used_topics_stay_and_their_messages_go() -> None:
    streams = make()
    publish(streams, "t", 0)
    streams.expire(10, everybody)
    history = streams.find("t")
    assert history is not None
    assert len(history) == 0
    assert history.offset == 1


def test_a_topic_that_was_used_is_forgotten_later() -> None:
    streams = make()
    publish(streams, "t", 0)
    streams.expire(10, everybody)
    streams.extend("t", 25)
    streams.expire(24.9, nobody)
    assert "t" in streams
    streams.expire(25, nobody)
    assert "t" not in streams


def test_a_longer_life_is_not_cut_short() -> None:
    """Nor the messages kept beyond their own."""
    streams = make()
    streams.open("t")
    streams.extend("t", 100)
    publish(streams, "t", 0)
    streams.expire(10, nobody)
    history = streams.find("t")
    assert history is not None
    assert len(history) == 0
    streams.expire(99.9, nobody)
    assert "t" in streams
    streams.expire(100, nobody)
    assert "t" not in streams


def test_the_next_life_is_not_ended_by_the_last_ones_time() -> None:
    streams = make()
    publish(streams, "t", 0)
    streams.forget("t")
    publish(streams, "t", 5)
    streams.expire(10, nobody)
    assert "t" in streams
    streams.expire(15, nobody)
    assert "t" not in streams


def test_a_look_at_an_ended_life_is_not_repeated() -> None:
    streams = make()
    publish(streams, "t", 0)
    streams.forget("t")
    publish(streams, "t", 5)
    assert len(streams._agenda) == 2
    streams.expire(10, nobody)
    assert len(streams._agenda) == 1
