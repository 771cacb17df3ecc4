"""HTTP/1.1 for clients that wait for the answer before they ask again."""

from __future__ import annotations

from typing import Any

import h11

__all__ = ("OneByOne",)

# Of answers that have no body, whatever their headers say.
WITHOUT_BODY = (204, 304)


class OneByOne(h11.Connection):
    """h11's connection, of which more is read while an answer goes on.

    hypercorn would read no more from a client that has sent more than its request, and
    so not notice that it has gone: with a response that goes on, its session would
    stay. What comes too early is let go of instead, and the connection ends with the
    answer, as RFC 9112 section 9.3.2 has clients expect; browsers do not pipeline.

    Not so where a client knows the end before h11 is told of it, by a length or because
    there is no body: then its next request is in its place, and waits.
    """

    _is_ahead = False  # something was let go of
    _is_head = False
    _goes_on = True  # where the answer ends, the client has not been told

    def receive_data(self, data: bytes) -> None:
        """Take what has arrived; empty for the end."""
        if not data or not self._is_ahead:
            super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what the client has said; no pause where the answer goes on."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._goes_on, self._is_head = True, event.method == b"HEAD"
        if event is not h11.PAUSED or not self._goes_on or self.our_state is h11.DONE:
            return event
        self._is_ahead = self.trailing_data[0] != b""
        return h11.NEED_DATA

    def send(self, event: h11.Event) -> Any:
        """Return the bytes of what is answered."""
        if isinstance(event, h11.Response):
            has_length = any(name == b"content-length" for name, _ in event.headers)
            is_empty = self._is_head or event.status_code in WITHOUT_BODY
            self._goes_on = not (has_length or is_empty)
        return super().send(event)

    def start_next_cycle(self) -> None:
        """Be ready for the next request.

        Raises:
            h11.LocalProtocolError: it was let go of, in part at least.
        """
        if self._is_ahead:
            raise h11.LocalProtocolError("more has come than was read")
        super().start_next_cycle()
