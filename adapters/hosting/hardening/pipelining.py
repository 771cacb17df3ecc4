"""HTTP/1.1 for clients that wait for the answer before they ask again."""

from __future__ import annotations

import h11

__all__ = ("OneByOne",)


class OneByOne(h11.Connection):
    """h11's connection, of which more is read while a request is being answered.

    hypercorn would read no more from a client that has sent more than its request, and
    so not notice that it has gone: with a response that goes on, its session would
    stay. What comes too early is let go of instead, and the connection ends with the
    answer, as RFC 9112 section 9.3.2 has clients expect; browsers do not pipeline.
    """

    _is_ahead = False  # something was let go of

    def receive_data(self, data: bytes) -> None:
        """Take what has arrived; empty for the end."""
        if not data or not self._is_ahead:
            super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what the client has said; never a pause before the answer's end."""
        event = super().next_event()
        if event is not h11.PAUSED or self.our_state is h11.DONE:
            return event
        self._is_ahead = self.trailing_data[0] != b""
        return h11.NEED_DATA

    def start_next_cycle(self) -> None:
        """Be ready for the next request.

        Raises:
            h11.LocalProtocolError: it was let go of, in part at least.
        """
        if self._is_ahead:
            raise h11.LocalProtocolError("more has come than was read")
        super().start_next_cycle()
