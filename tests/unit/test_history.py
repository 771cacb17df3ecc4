"""The last messages of one topic, and what can be resumed from them."""

from __future__ import annotations

from broker.message import Message, Position, Share
from broker.state.history import History


def publish(
    history: History, payload: str, *, size: int = 9, until: float = 10
) -> Position:
    position = history.advance()
    message = Message(
        "t", payload, position=position, share=Share(len(payload.encode()))
    )
    history.keep(message, size=size, expires_at=until)
    return position


def payloads(messages: list[Message] | None) -> list[object] | None:
    return None if messages is None else [message.payload for message in messages]


def test_offsets_count_from_one() -> None:
    history = History("e")
    assert history.position == Position("e", 0)
    assert publish(history, "a") == Position("e", 1)
    assert publish(history, "b") == Position("e", 2)
    assert history.position == Position("e", 2)


def test_resume() -> None:
    history = History("e")
    for payload in "abc":
        publish(history, payload)
    assert payloads(history.since(Position("e", 0), 0)) == ["a", "b", "c"]
    assert payloads(history.since(Position("e", 2), 0)) == ["c"]
    assert history.since(Position("e", 3), 0) == []


def test_what_is_not_all_known_is_not_given() -> None:
    history = History("e")
    for payload in "abcd":
        publish(history, payload, size=2)
    assert payloads(history.since(Position("e", 2), 0)) == ["c", "d"]
    assert history.since(Position("e", 1), 0) is None
    assert history.since(Position("e", 5), 0) is None
    assert history.since(Position("e", -1), 0) is None
    assert history.since(Position("other", 3), 0) is None
    assert payloads(history.since(None, 0)) == ["c", "d"]


def test_messages_are_forgotten_in_their_time() -> None:
    history = History("e")
    assert history.expires_at is None
    publish(history, "a", until=10)
    publish(history, "b", until=20)
    assert history.expires_at == 10
    assert len(history.since(Position("e", 0), 9.9) or []) == 2
    assert history.since(Position("e", 0), 10) is None
    assert payloads(history.since(Position("e", 1), 10)) == ["b"]
    assert history.expires_at == 20
    history.expire(20)
    assert len(history) == 0
    assert history.since(Position("e", 2), 20) == []


def test_size_in_bytes_follows() -> None:
    history = History("e")
    for payload in ("a", "bb", "ccc"):
        publish(history, payload, size=2)
    assert (len(history), history.size_bytes) == (2, 5)
    publish(history, "d", size=0)
    assert (len(history), history.size_bytes) == (0, 0)
    assert history.position == Position("e", 4)


def test_a_message_that_was_not_kept_is_missing() -> None:
    """As when brokers with other rules share the backplane: never a part."""
    history = History("e")
    publish(history, "a")
    history.advance()
    assert history.since(Position("e", 1), 0) is None
    publish(history, "c")
    assert history.since(Position("e", 0), 0) is None
    assert history.since(Position("e", 1), 0) is None
    assert payloads(history.since(Position("e", 2), 0)) == ["c"]


def test_cleared_it_counts_on() -> None:
    history = History("e")
    history.clear()
    for payload in ("a", "bb"):
        publish(history, payload)
    history.clear()
    assert (len(history), history.size_bytes) == (0, 0)
    assert history.expires_at is None
    assert history.position == Position("e", 2)
    assert history.since(Position("e", 1), 0) is None
    assert history.since(Position("e", 2), 0) == []
    assert publish(history, "c") == Position("e", 3)
    assert payloads(history.since(Position("e", 2), 0)) == ["c"]
    assert history.since(Position("e", 1), 0) is None
