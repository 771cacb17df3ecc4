"""Frames are those that wsproto makes, and that a client reads."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Message, TextMessage

from adapters.hosting.hardening.frames import FrameMaker, frame_of

payloads = st.text() | st.binary()
EDGES = (0, 125, 126, 127, 65_535, 65_536)  # where a length takes more bytes


def by_wsproto(payload: str | bytes) -> bytes:
    server = Connection(ConnectionType.SERVER)
    if isinstance(payload, str):
        return bytes(server.send(TextMessage(payload)))
    return bytes(server.send(BytesMessage(payload)))


def read(frame: bytes) -> str | bytes:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame)
    (event,) = client.events()
    assert isinstance(event, Message)
    assert event.message_finished
    payload: str | bytes | bytearray = event.data
    return payload if isinstance(payload, str) else bytes(payload)


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("one", ["x", b"x"])
def test_every_form_of_length(size: int, one: str | bytes) -> None:
    payload = one * size
    assert frame_of(payload) == by_wsproto(payload)
    assert read(frame_of(payload)) == payload


@given(payloads)
@example("é" * 63)  # 126 bytes
def test_any_message(payload: str | bytes) -> None:
    assert frame_of(payload) == by_wsproto(payload)
    assert read(frame_of(payload)) == payload


def test_what_has_no_form_in_utf_8_is_refused() -> None:
    maker = FrameMaker()
    with pytest.raises(UnicodeEncodeError):
        maker.frame("\ud800")
    assert maker.frame("next") == frame_of("next")


@given(st.lists(st.sampled_from(["", b"", "a", b"a", "b", b"b"])))
def test_a_maker_makes_what_it_is_given(sent: list[str | bytes]) -> None:
    """Text is not bytes, though they may look alike on the wire."""
    maker = FrameMaker()
    assert [maker.frame(each) for each in sent] == [frame_of(each) for each in sent]


def test_a_message_for_many_is_made_once() -> None:
    maker, payload = FrameMaker(), "x" * 1_000
    assert maker.frame(payload) is maker.frame(payload)
