"""Channels, which may have any name, as topics, which may not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.broadcaster import channel_of, topic_of
from broker import UsageError
from broker.topics import check_topic

# Any text: lone surrogates too, and often what the grammar of topics is about.
NAMES = st.text(st.one_of(st.characters(), st.sampled_from(".*>$%~ 2E0é\ud800")))
PLAIN = st.from_regex(r"[a-z0-9_:/@-]{1,9}(\.[a-z0-9_:/@-]{1,9}){0,9}", fullmatch=True)


@given(NAMES)
@example("")
@example("%")
@example("%2E")
@example("." * 40)
@example(".".join("a" * 33))
@example("$presence.chat")
@example("\ud800\udfff")
def test_a_channel_comes_back_from_its_topic(channel: str) -> None:
    topic = topic_of(channel)
    check_topic(topic)
    if not topic.startswith("%~"):
        assert channel_of(topic) == channel


@given(PLAIN)
def test_a_channel_that_is_a_topic_stays_itself(channel: str) -> None:
    assert topic_of(channel) == channel


@given(NAMES, NAMES)
@example("a" * 256, "a" * 257)
@example("é" * 100, "é" * 101)
@example("", "%")
@example("%41", "A")
def test_no_two_channels_share_a_topic(one: str, other: str) -> None:
    assert (topic_of(one) == topic_of(other)) == (one == other)


@pytest.mark.parametrize(
    ("channel", "topic"),
    [
        ("chat room", "chat%20room"),
        ("Grüße", "Gr%C3%BC%C3%9Fe"),
        ("chat.*", "chat.%2A"),
        ("100%", "100%25"),
        ("$SYS.a$b", "%24SYS.a$b"),
        (".a..b", "%2Ea%2E%2Eb"),
        ("a" * 255, "a" * 255),
        ("", "%"),
    ],
)
def test_what_it_looks_like(channel: str, topic: str) -> None:
    assert topic_of(channel) == topic


def test_a_long_name_becomes_a_hash() -> None:
    # sha256sum of 256 times "a"
    topic = "%~02d7160d77e18c6447be80c2e355c7ed4388545271702c50253b0914c65ce5fe"
    assert topic_of("a" * 256) == topic
    assert topic_of("é" * 43) == topic_of("é" * 43)
    assert topic_of("é" * 43).startswith("%~")
    with pytest.raises(UsageError, match="hash"):
        channel_of(topic)


@pytest.mark.parametrize("channel", [None, b"chat", 7])
def test_a_channel_is_text(channel: Any) -> None:
    with pytest.raises(UsageError, match="a channel is a str"):
        topic_of(channel)
