"""Ten thousand clients of the Centrifuge protocol come, go, and leave nothing."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import anyio
import pytest

from adapters.hosting.collector import tuned_collector
from broker import Broker, EndKind, Limits, MemoryBackplane, Session, TopicRules
from broker.client import serve_client
from broker.client_format import JSON
from broker.client_protocol import Subscribed
from broker.testing import memory_transport
from tests.runtime.client_helpers import FakeTokens, protocol, token, unix_now
from tests.runtime.leaks import AT_ONCE, SESSIONS, census, check_census, check_empty


async def one_sdk(broker: Broker, number: int, draw: random.Random) -> None:
    """Connect as an SDK does, with subscriptions of every kind, and go."""
    pipe, transport = memory_transport(capacity=draw.choice([0, 1, 100]))
    way = draw.choice(["leave", "stall", "bad frame", "expire", "server", "stale"])
    spoken = protocol(tokens=FakeTokens(), personal="", subscribe=allow)
    claims: dict[str, Any] = {"sub": f"u{number}", "info": {"n": number}}
    if way == "expire":
        claims["exp"] = unix_now() + 1
    commands: list[dict[str, Any]] = [
        {"id": 1, "connect": {"token": token(**claims, channels=["news"])}},
        {"id": 2, "subscribe": {"channel": "all", "delta": "fossil"}},
        {"id": 3, "subscribe": {"channel": f"user.{number}", "recover": True}},
        {"id": 4, "publish": {"channel": f"user.{number}", "data": "x" * 100}},
        {"id": 5, "unsubscribe": {"channel": "all"}} if number % 2 else {},
        {"id": 6, "presence": {"channel": f"user.{number}"}},
    ]
    commands = [each for each in commands if each]
    try:
        async with broker.open_session(
            transport, JSON.takes, wire=JSON.wire
        ) as session:
            with suppress(anyio.ClosedResourceError):  # ended already
                if way != "stale":
                    await pipe.send("\n".join(json.dumps(each) for each in commands))
                if way == "leave":
                    pipe.leave()
                elif way == "bad frame":
                    await pipe.send("{")
                elif way == "server":
                    await broker.subscribe_client(f"user.{number}", user=f"u{number}")
                    await broker.disconnect(client=session.client_id)
            await serve_client(broker, session, spoken)
    finally:
        pipe.close_all()


async def allow(session: Session[Any], channel: str, data: object) -> Subscribed:
    return Subscribed(info='{"a":1}', expires_at=unix_now() + 2)


@pytest.mark.untraced
async def test_ten_thousand_clients_of_the_protocol_leave_nothing(
    anyio_backend_name: str,
) -> None:
    # A fifth of them on trio, to save the time.
    sessions = SESSIONS if anyio_backend_name == "asyncio" else SESSIONS // 5
    backplane = MemoryBackplane()
    rules = [
        TopicRules(pattern="user.*", presence=True, join_leave=True, history_size=5),
        TopicRules(pattern="all", history_size=5, delta=True, presence=True),
    ]
    limits = Limits(max_outbox_messages=64, stall_s=5, grace_s=1)
    draw = random.Random(2)
    tracked: Counter[str] = Counter()
    with tuned_collector():
        async with Broker(backplane, rules=rules, limits=limits) as broker:
            for start in range(0, sessions, AT_ONCE):
                async with anyio.create_task_group() as tasks:
                    for number in range(start, start + AT_ONCE):
                        tasks.start_soon(one_sdk, broker, number, draw)
                if start == 0:
                    tracked = await census()
            await anyio.sleep(400)  # until history is forgotten
            after = await census()
            ended = broker.statistics().totals.ended
            assert ended[EndKind.CLIENT_LEFT] > sessions / 20, ended
            assert ended[EndKind.DISCONNECTED] > sessions / 4, ended
            assert ended[EndKind.STALLED] > sessions / 50, ended
            check_empty(broker, backplane, sessions)
            check_census(tracked, after)
