"""How items become frames for clients that speak no protocol of ours."""

from __future__ import annotations

import msgspec

from .message import Gap, Item, Payload

__all__ = ("plain_frame",)


def plain_frame(item: Item) -> Payload:
    """Return a message's payload as it is, and a gap as a small JSON text.

    The gap reads ``{"type":"gap","topic":…,"epoch":…,"first":…,"last":…,"missed":…}``.
    An endpoint whose clients expect something else passes its own ``encode``.
    """
    if not isinstance(item, Gap):
        return item.payload
    return msgspec.json.encode(
        {
            "type": "gap",
            "topic": item.topic,
            "epoch": item.epoch,
            "first": item.first,
            "last": item.last,
            "missed": item.missed,
        }
    ).decode()
