"""Messages, and what they cost."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from broker.message import NO_HEADERS, Gap, Item, Message, Payload, Share, size_of
from broker.wire import plain_frame


@pytest.mark.parametrize(
    ("payload", "size"),
    [("", 0), ("abc", 3), ("é", 2), ("a😀", 5), (b"", 0), (b"\xff\x00", 2)],
)
def test_text_counts_as_utf8(payload: Payload, size: int) -> None:
    assert size_of(payload) == size


def test_lone_surrogates_have_no_size() -> None:
    with pytest.raises(UnicodeEncodeError):
        size_of("a\ud800")


def test_size_is_what_was_counted_at_publish() -> None:
    assert Message("t", "abc", share=Share(7)).size_bytes == 7


def test_headers_cannot_be_changed_and_are_shared() -> None:
    one, other = Message("t", "a"), Message("t", "b")
    assert one.headers is other.headers is NO_HEADERS
    assert not one.headers
    with pytest.raises(TypeError):
        one.headers["a"] = "b"  # type: ignore[index] # refused at run time too


def test_messages_are_values() -> None:
    message = Message("t", "a", share=Share(1))
    assert message == Message("t", "a", share=Share(2))
    with pytest.raises(FrozenInstanceError):
        message.payload = "b"  # type: ignore[misc] # frozen: that is tested


def test_a_share_is_of_one_message() -> None:
    assert Message("t", "a").share is not Message("t", "a").share


def test_a_frame_is_made_once_for_each_format() -> None:
    """Even an empty one."""
    calls: list[str] = []

    def loud(item: Item) -> Payload:
        assert isinstance(item, Message)
        calls.append("loud")
        return str(item.payload).upper()

    def empty(item: Item) -> Payload:
        calls.append("empty")
        return b""

    message = Message("t", "a")
    frames = [message.encoded(each) for each in (loud, empty, loud, empty)]
    assert frames == ["A", b"", "A", b""]
    assert calls == ["loud", "empty"]


def test_a_frame_is_of_one_message() -> None:
    frames = [Message("t", payload).encoded(plain_frame) for payload in ("a", "b")]
    assert frames == ["a", "b"]


def test_gaps_are_values() -> None:
    assert Gap("t", "e", 1, 2, 2) == Gap("t", "e", 1, 2, 2) != Gap("t", "e", 1, 2, 1)
