"""What all wire formats have in common."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ("NOTHING", "Said", "Speaker", "filled")


class Said(NamedTuple):
    """What a server says besides messages.

    Attributes:
        is_ready: from this frame on the client hears, and may publish.
        is_resumed: of a client that came back: nothing has been missed. None where
            the server does not say; False where it says that something is missing.
        is_gap: something is missing for good, and the client may stay.
        refused: the numbers of publications that the server would not take, from 0 in
            the order of publishing; a negative one where it does not say which.
        answers: what to send at once.
        ended: why the server has nothing more to do with this client; "" if it has.
        complaint: why it refused, or what is wrong with the frame; "" if nothing.
    """

    is_ready: bool = False
    is_resumed: bool | None = None
    is_gap: bool = False
    refused: tuple[int, ...] = ()
    answers: tuple[str, ...] = ()
    ended: str = ""
    complaint: str = ""


NOTHING = Said()


class Speaker(Protocol):
    """One client's side of the conversation, over all its connections.

    Whatever a server sends must not make it raise.
    """

    def greet(self) -> tuple[list[str], bool]:
        """Return what to send first, and whether the client then hears already.

        Called once for each connection. From the second on it asks for what has been
        missed, where the wire can do that.
        """
        ...

    def publish(self, text: str) -> str:
        """Return the frame that publishes a stamped text."""
        ...

    def is_plain(self, frame: bytes) -> bool:
        """Return whether there is nothing but messages in a frame. Cheap."""
        ...

    def read(self, frame: bytes) -> Said:
        """Return what a frame that is not plain says besides messages."""
        ...

    def note(self, frame: bytes) -> None:
        """Take the last plain frame of a connection: it is what the client has seen."""
        ...

    def can_resume(self) -> bool:
        """Return whether coming back brings what was missed, or word that it cannot."""
        ...


def filled(template: str, *, client: int, room: int) -> str:
    """Return a template with the numbers of a client and its room in it."""
    # Not str.format: templates are mostly JSON, whose braces mean something else.
    return template.replace("{client}", str(client)).replace("{room}", str(room))
