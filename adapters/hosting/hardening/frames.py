"""A server's message as one WebSocket frame (RFC 6455 section 5.2)."""

from __future__ import annotations

from struct import Struct

__all__ = ("FrameMaker", "frame_of")

# The whole message in one frame, which is not masked.
TEXT, BINARY = 0x81, 0x82
MEDIUM, LONG = 126, 127  # the length follows, in 2 bytes or in 8
HEAD, MEDIUM_HEAD, LONG_HEAD = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")


def frame_of(payload: str | bytes) -> bytes:
    """Return a message as a frame.

    Raises:
        UnicodeEncodeError: it has a surrogate, and so no form in UTF-8.
    """
    if isinstance(payload, str):
        kind, data = TEXT, payload.encode()
    else:
        kind, data = BINARY, payload
    size = len(data)
    if size < MEDIUM:
        return HEAD.pack(kind, size) + data
    if size < 1 << 16:
        return MEDIUM_HEAD.pack(kind, MEDIUM, size) + data
    return LONG_HEAD.pack(kind, LONG, size) + data


class FrameMaker:
    """Makes frames; one that goes to many clients in a row is made once.

    It keeps the last message and its frame.
    """

    def __init__(self) -> None:
        self._payload: str | bytes = b""
        self._frame = frame_of(b"")

    def frame(self, payload: str | bytes) -> bytes:
        """Return a message as a frame; as ``frame_of``."""
        if payload is not self._payload:
            self._frame = frame_of(payload)
            self._payload = payload
        return self._frame
