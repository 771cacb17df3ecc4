"""What one client of the protocol gets of a channel with deltas."""

from __future__ import annotations

from .client_format import ClientFormat
from .message import Item, Message, Payload, Position
from .transport import FrameT

__all__ = ("DeltaEncoder",)


class DeltaEncoder:
    """Makes a client's frames of one channel: the change to the one before, if it fits.

    The change from one message to the next is made once, for all clients that have got
    the one before.

    Args:
        base: what the client has got last; None if it is to get all of the next one.

    It holds on to one message, which all clients share that are as far as this one.
    """

    __slots__ = ("_base", "_speaks")

    def __init__(self, speaks: ClientFormat[FrameT], base: Message | None) -> None:
        self._speaks = speaks
        self._base = base

    def __call__(self, item: Item) -> Payload:
        """Return the frame of the channel's next message or gap for this client."""
        speaks, base = self._speaks, self._base
        if not isinstance(item, Message):
            self._base = None
            return speaks.encode(item)
        self._base = item
        if base is None or not _is_next(base.position, item.position):
            return item.encoded(speaks.encode_whole)
        made = item.share.frames
        frame = made.get(speaks.encode_change)
        if frame is None:
            frame = made[speaks.encode_change] = speaks.encode_change(base, item)
        return frame


def _is_next(one: Position | None, other: Position | None) -> bool:
    return (
        one is not None
        and other is not None
        and one.epoch == other.epoch
        and one.offset + 1 == other.offset
    )
