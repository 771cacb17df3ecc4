"""Requests that come before the last answer's end: in time for the client, or early."""

from __future__ import annotations

import h11
import pytest

from adapters.hosting.hardening.pipelining import OneByOne

ASK = b"%b / HTTP/1.1\r\nhost: x\r\n\r\n"
LENGTH = [(b"content-length", b"2")]
CHUNKED = [(b"transfer-encoding", b"chunked")]


def asked(method: bytes = b"GET") -> OneByOne:
    """Return a connection whose client has sent one request."""
    connection = OneByOne(h11.SERVER)
    connection.receive_data(ASK % method)
    assert isinstance(connection.next_event(), h11.Request)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    return connection


@pytest.mark.parametrize(
    ("method", "status", "headers", "body"),
    [
        (b"GET", 200, LENGTH, b"ok"),
        (b"POST", 204, [], b""),
        (b"GET", 304, [], b""),
        (b"HEAD", 200, LENGTH, b""),
        (b"HEAD", 200, CHUNKED, b""),
    ],
)
def test_who_knows_the_end_may_ask_again_before_we_say_so(
    method: bytes, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """The answer is whole, and the server is yet to tell h11 that it is."""
    connection = asked(method)
    connection.send(h11.Response(status_code=status, headers=headers))
    if body:
        connection.send(h11.Data(data=body))
    connection.receive_data(ASK % b"PUT")
    assert connection.next_event() is h11.PAUSED
    connection.send(h11.EndOfMessage())
    connection.start_next_cycle()
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == b"PUT"


def test_who_asks_ahead_is_read_on_and_not_answered_again() -> None:
    for is_begun in (False, True):
        connection = asked()
        if is_begun:
            connection.send(h11.Response(status_code=200, headers=CHUNKED))
        connection.receive_data(ASK % b"PUT")
        assert connection.next_event() is h11.NEED_DATA
        connection.receive_data(b"x" * 100_000)  # kept by nobody
        assert connection.next_event() is h11.NEED_DATA
        assert len(connection.trailing_data[0]) < 100
        if not is_begun:
            connection.send(h11.Response(status_code=200, headers=CHUNKED))
        connection.send(h11.EndOfMessage())
        with pytest.raises(h11.LocalProtocolError):
            connection.start_next_cycle()


def test_a_stream_that_has_ended_is_followed_by_the_next_request() -> None:
    connection = asked()
    connection.send(h11.Response(status_code=200, headers=CHUNKED))
    connection.send(h11.Data(data=b"x"))
    assert connection.next_event() is h11.NEED_DATA
    connection.send(h11.EndOfMessage())
    connection.receive_data(ASK % b"PUT")
    assert connection.next_event() is h11.PAUSED
    connection.start_next_cycle()
    assert isinstance(connection.next_event(), h11.Request)
