"""Ten thousand clients come and go, in every way, and nothing is left of them."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import anyio
import pytest

from adapters.hosting.collector import tuned_collector
from broker import Broker, EndKind, Frames, Limits, MemoryBackplane, TopicRules
from broker.testing import memory_transport
from tests.runtime.leaks import AT_ONCE, SESSIONS, census, check_census, check_empty


async def one_client(broker: Broker, number: int, draw: random.Random) -> None:
    """Connect, subscribe to a topic of one's own and a shared one, and go."""
    client, transport = memory_transport(capacity=draw.choice([0, 1, 100]))
    way = draw.choice(["leave", "finish", "stall", "bad frame", "bug", "cancel"])
    try:
        with anyio.CancelScope() as scope:
            async with broker.open_session(transport, Frames.TEXT) as session:
                await session.subscribe(f"user.{number}")
                await session.subscribe("all")
                await broker.publish(f"user.{number}", "to one")
                if number % 250 == 0:
                    await broker.publish("all", "to all")
                if way == "leave":
                    client.leave()
                    await session.wait_ended()
                elif way == "stall":
                    await session.wait_ended()
                elif way == "bad frame":
                    with suppress(anyio.ClosedResourceError):  # ended already
                        await client.send(b"binary")
                    await session.wait_ended()
                elif way == "bug":
                    _ = 1 / 0  # a handler's bug
                elif way == "cancel":
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
    except ZeroDivisionError:
        pass
    finally:
        client.close_all()


@pytest.mark.untraced
async def test_ten_thousand_sessions_leave_every_registry_empty() -> None:
    backplane = MemoryBackplane()
    rules = [TopicRules(pattern="user.*", presence=True)]
    limits = Limits(max_outbox_messages=16, stall_s=5, idle_s=30, grace_s=1)
    draw = random.Random(1)
    tracked: Counter[str] = Counter()
    with tuned_collector():
        async with Broker(backplane, rules=rules, limits=limits) as broker:
            for start in range(0, SESSIONS, AT_ONCE):
                async with anyio.create_task_group() as tasks:
                    for number in range(start, start + AT_ONCE):
                        tasks.start_soon(one_client, broker, number, draw)
                if start == 0:
                    tracked = await census()
            after = await census()
            for kind in (
                EndKind.CLIENT_LEFT,
                EndKind.COMPLETED,
                EndKind.INTERNAL_ERROR,
                EndKind.SHUTDOWN,
                EndKind.WRONG_FRAME_TYPE,
            ):
                ended = broker.statistics().totals.ended
                assert ended[kind] > SESSIONS / 20, ended
            check_empty(broker, backplane, SESSIONS)
            check_census(tracked, after)
