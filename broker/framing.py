"""What goes out to one client: frames of items, and what is joined into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .message import Encode, Gap, Item, Message, Payload, size_of
from .subscriber import Subscriber
from .wire import WireFormat

__all__ = ("Frame", "Framer", "LastJoined")


# The payload for the transport; its size (bytes), as the outbox counts it; and when its
# first message was fanned out (s, monotonic), if that is known. No class: one is made
# for each send.
Frame: TypeAlias = tuple[Payload, int, float | None]


class LastJoined:
    """The last frame that was joined, for the next client with the same backlog.

    After a burst all clients of a topic have the same messages waiting, so the frame is
    made for the first of them. It holds on to the messages of one frame.
    """

    __slots__ = ("_encode", "_frame", "_items")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._encode: Encode | None = None
        self._frame: Frame | None = None

    def find(self, items: list[Item], encode: Encode) -> Frame | None:
        """Return the frame of these items in this order, if it was the last one."""
        # Lists compare their items by identity first: a nanosecond for each.
        return self._frame if encode is self._encode and items == self._items else None

    def keep(self, items: list[Item], encode: Encode, frame: Frame) -> None:
        """Remember a frame, if it is of publications alone: the same for everybody."""
        if all(isinstance(item, Message) and item.topic for item in items):
            self._items, self._encode, self._frame = items, encode, frame


class Framer:
    """Makes one client's frames.

    Args:
        wire: how its session speaks.
        last: of all clients of a broker.
        on_gap: called for each gap before its frame is made; says whether the client
            is told.

    Attributes:
        encoders: {topic: what makes its frames}, for this client alone.
    """

    __slots__ = (
        "_discarded",
        "_encode",
        "_join",
        "_last",
        "_on_gap",
        "_wire",
        "encoders",
    )

    def __init__(
        self, wire: WireFormat, on_gap: Callable[[Gap], bool], last: LastJoined
    ) -> None:
        self._wire = wire
        self._encode = wire.encode
        self._join = wire.join
        self._last = last
        self._on_gap = on_gap
        self.encoders: dict[str, Encode] = {}
        self._discarded: set[str] | None = None  # topics, while a frame is made

    def discard(self, topic: str) -> None:
        """Leave a topic out of the frame that is being made, if one is."""
        if self._discarded is not None:
            self._discarded.add(topic)

    def frame(self, item: Item, lane: Subscriber) -> Frame | None:
        """Return the next frame: an item, and what waits behind it if that is joined.

        None for a gap of which the client is not told.
        """
        if self._join is None or lane.is_empty():
            return self._one(item)
        if self.encoders or not isinstance(item, Message):
            first = self._one(item)
            if first is None:
                return None
            return self._joined(first, self._fitting(first[1], lane))
        items = [item, *self._fitting(item.share.size_bytes, lane)]
        frame = self._last.find(items, self._encode)
        if frame is None:
            first = self._one(item)
            assert first is not None  # no gap
            frame = self._joined(first, items[1:])
            self._last.keep(items, self._encode, frame)
        return frame

    def _one(self, item: Item) -> Frame | None:
        encode = self._encode
        if not isinstance(item, Message):
            if not self._on_gap(item):
                return None
            payload = encode(item)
            return payload, size_of(payload), None
        share = item.share
        own = self.encoders.get(item.topic)
        if own is not None:
            payload = own(item)
        elif item.topic:
            made = share.frames.get(encode)  # Message.encoded, written out
            payload = item.encoded(encode) if made is None else made
        else:
            payload = item.payload
        return payload, share.size_bytes, share.fanned_out

    def _joined(self, first: Frame, items: list[Item]) -> Frame:
        assert self._join is not None
        payload, size, fanned_out = first
        payloads = [payload]
        gone = self._discarded = set()
        for item in items:
            if gone and item.topic in gone:
                continue  # a gap that has just been told ended its subscription
            more = self._one(item)
            if more is not None:
                payloads.append(more[0])
                size += more[1]
        self._discarded = None
        return self._join(payloads), size, fanned_out

    def _fitting(self, size: int, lane: Subscriber) -> list[Item]:
        """Take what goes into a frame that has one item of this size already."""
        wire = self._wire
        room, bytes_left = wire.max_joined - 1, wire.max_joined_bytes - size
        waiting = len(lane.outbox)
        # Not with a backlog from history, whose bytes the outbox does not count.
        if lane.lag == waiting <= room and lane.outbox.size_bytes <= bytes_left:
            return lane.take_all()
        items: list[Item] = []
        while len(items) < room and bytes_left > 0:
            item = lane.poll()
            if item is None:
                break
            items.append(item)
            if isinstance(item, Message):
                bytes_left -= item.size_bytes
        return items
