"""Socket.IO 4 over a WebSocket: Engine.IO 4 packets with Socket.IO 5 packets in them.

Packet types are those of the two protocols' documents: github.com/socketio/
engine.io-protocol (revision 4) and socket.io-protocol (revision 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .base import NOTHING, Said

__all__ = ("SocketIoSpeaker",)

OPEN, CLOSE, PING, PONG = b"0", b"1", b"2", "3"
CONNECT, CONNECTED, DISCONNECTED = "40", b"40", b"41"
EVENT, REFUSED = b"42", b"44"
MAX_SHOWN = 200  # characters of a frame that a complaint shows


class SocketIoSpeaker:
    """Connects to the default namespace; publishes and hears one event.

    Args:
        event: its name.
        greeting: frames to send when connected, such as ``42["join","room"]``.
    """

    __slots__ = ("_before", "_greeting")

    def __init__(self, event: str, greeting: Sequence[str] = ()) -> None:
        name = msgspec.json.encode(event).decode()
        self._before = f'42[{name},"'
        self._greeting = tuple(greeting)

    def greet(self) -> tuple[list[str], bool]:
        """Return nothing: the server speaks first."""
        return [], False

    def publish(self, text: str) -> str:
        """Return an event with the text as its only argument."""
        return f'{self._before}{text}"]'

    def is_plain(self, frame: bytes) -> bool:
        """Return whether it is an event: there is one packet in a frame."""
        return frame.startswith(EVENT)

    def read(self, frame: bytes) -> Said:
        """Return what a packet that is no event says."""
        if frame == PING:
            return Said(answers=(PONG,))
        if frame.startswith(OPEN):
            return Said(answers=(CONNECT,))
        if frame.startswith(CONNECTED):
            return Said(is_ready=True, answers=self._greeting)
        if frame.startswith(REFUSED):
            why = frame[len(REFUSED) :][:MAX_SHOWN].decode(errors="replace")
            return Said(ended=f"refused: {why}")
        if frame.startswith(DISCONNECTED):
            return Said(ended="disconnected by the server")
        if frame == CLOSE:
            return Said(ended="closed by the server")
        if frame[:1] in b"3456":  # pongs, acknowledgements, upgrades, binary events
            return NOTHING
        shown = frame[:MAX_SHOWN].decode(errors="replace")
        return Said(complaint=f"not Socket.IO 4: {shown!a}")

    def note(self, frame: bytes) -> None:
        """Do nothing: there are no positions."""

    def can_resume(self) -> bool:
        """Return False: who comes back begins anew."""
        return False
