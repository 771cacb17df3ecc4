"""Small helpers of the runtime tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from broker import Broker, Frames, Gap, Item, Message, Position, Session, Subscription
from broker.testing import MemoryClient, memory_transport

__all__ = ("LONG_S", "connected", "payloads", "pos", "shape", "take_all")

# Virtual seconds: longer than any deadline under test, and a hang fails at once.
LONG_S = 3_600


def payloads(items: list[Item]) -> list[Any]:
    """Return the payloads of messages; there must be no gap."""
    return [item.payload for item in items if isinstance(item, Message)]


def shape(items: list[Item]) -> list[Any]:
    """Return payloads, and (first, last, missed) for gaps."""
    return [
        (item.first, item.last, item.missed) if isinstance(item, Gap) else item.payload
        for item in items
    ]


def take_all(subscription: Subscription) -> list[Item]:
    """Return all that waits, without waiting."""
    items: list[Item] = []
    try:
        while True:
            items.append(subscription.receive_nowait())
    except anyio.WouldBlock:
        return items


def pos(item: Item) -> Position:
    """Return a message's position, which must be there."""
    assert isinstance(item, Message)
    assert item.position is not None
    return item.position


@asynccontextmanager
async def connected(
    broker: Broker,
    *,
    capacity: float = float("inf"),
    loses_nothing: bool = False,
    **options: Any,
) -> AsyncGenerator[tuple[MemoryClient, Session[Any]], None]:
    """Run a session over a memory transport; if all goes well, the client leaves."""
    client, transport = memory_transport(capacity, loses_nothing=loses_nothing)
    options.setdefault("frames", Frames.ANY)
    try:
        async with broker.open_session(transport, **options) as session:
            yield client, session
            client.leave()
    finally:
        client.close_all()
