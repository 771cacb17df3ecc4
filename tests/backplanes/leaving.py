"""A pattern beside topics that are subscribed and left all the time, on one node."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from broker import Broker
from broker.backplane import Backplane
from broker.message import Message

from .judge import PATIENCE_S

__all__ = ("check_patterns_beside_topics",)

COUNT = 400
PACE_S = 0.001  # so that messages come between


async def check_patterns_beside_topics(make: Callable[[], Backplane]) -> None:
    """Check that who has subscribed to a pattern gets each message once, in order."""
    got: list[object] = []
    async with (
        Broker(make()) as node,
        Broker(make()) as other,
        node.subscribe(">") as pattern,
        anyio.create_task_group() as tasks,
    ):

        async def come_and_go() -> None:
            while True:
                async with node.subscribe("t"):
                    await anyio.sleep(PACE_S)
                await anyio.sleep(PACE_S)

        tasks.start_soon(come_and_go)
        for number in range(COUNT):
            await other.publish("t", str(number))
        with anyio.fail_after(PATIENCE_S):
            await other.publish("u", "end")
            while not got or got[-1] != "end":
                item = await pattern.receive()
                got.append(item.payload if isinstance(item, Message) else item)
        tasks.cancel_scope.cancel()
    assert got == [*map(str, range(COUNT)), "end"]
