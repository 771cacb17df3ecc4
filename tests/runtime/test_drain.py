"""Drain: everybody is told to come back, and it ends in time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Any

import anyio
import pytest

from broker import (
    Broker,
    BrokerClosed,
    ConnectRequest,
    EndKind,
    Frames,
    Limits,
    Session,
    UsageError,
    drain,
)
from broker.testing import MemoryClient, memory_transport

from .helpers import LONG_S


@asynccontextmanager
async def clients_of(
    broker: Broker, count: int, **options: Any
) -> AsyncGenerator[list[MemoryClient], None]:
    """Connect clients, each with a handler in a task of its own."""

    async def handle(transport: Any) -> None:
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.subscribe("t")
            async for _ in session:
                pass

    clients = []
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            client, transport = memory_transport(**options)
            clients.append(client)
            tasks.start_soon(handle, transport)
        await anyio.wait_all_tasks_blocked()
        yield clients
    for client in clients:
        client.close_all()


async def test_g7_every_client_is_told_to_come_back() -> None:
    """What waited comes first, then 1012 with a reason; and nobody new comes in."""
    async with Broker() as broker, clients_of(broker, 5) as clients:
        await broker.publish("t", "last words")
        with anyio.fail_after(LONG_S):
            assert await drain(broker) == 0
        for client in clients:
            assert client.receive_nowait() == "last words"
            assert client.close_code == 1012
            assert client.close_reason == "server restart, come back"
        assert not broker.is_ready
        assert broker.is_running
        assert broker.statistics().is_draining
        assert broker.statistics().totals.ended[EndKind.SHUTDOWN] == 5
        with pytest.raises(BrokerClosed):
            await broker.admit(ConnectRequest())
        late, transport = memory_transport()
        with pytest.raises(BrokerClosed):
            async with broker.open_session(transport, Frames.TEXT):
                pytest.fail("not reached")
        late.close_all()


@pytest.mark.parametrize("grace_s", [2, 500])
async def test_g7_it_ends_at_its_deadline_with_clients_that_never_read(
    grace_s: float,
) -> None:
    """Whatever grace a session has, the deadline of the drain is the last one."""
    limits = Limits(grace_s=grace_s, stall_s=1_000)
    async with Broker(limits=limits) as broker:
        async with clients_of(broker, 3, capacity=0) as clients:
            for client in clients:
                client.answers_close = False
            await broker.publish("t", "never read")
            began = anyio.current_time()
            left = await drain(broker, 10)
            took_s = anyio.current_time() - began
        assert left == (3 if grace_s > 10 else 0)
        assert took_s == pytest.approx(min(grace_s, 10), abs=0.5)
        assert broker.statistics().sessions == 0
        assert broker.statistics().queued_bytes == 0


async def test_the_application_goes_on_meanwhile() -> None:
    """Handlers say their last words; other subscribers in the process hear them."""
    async with Broker() as broker, broker.subscribe("left") as leavers:

        async def handler(transport: Any, name: str) -> None:
            async with broker.open_session(transport, Frames.TEXT) as session:
                await session.wait_ended()
            await broker.publish("left", name)

        async with anyio.create_task_group() as tasks:
            clients = []
            for name in ("ann", "bob"):
                client, transport = memory_transport()
                clients.append(client)
                tasks.start_soon(handler, transport, name)
            await anyio.wait_all_tasks_blocked()
            await drain(broker)
        for client in clients:
            client.close_all()
        names = {(await leavers.receive()).payload for _ in range(2)}  # type: ignore[union-attr] # no gap
        assert names == {"ann", "bob"}


async def test_clients_are_sent_away_bit_by_bit_and_in_any_order() -> None:
    many = 1_000
    async with (
        Broker() as broker,
        clients_of(broker, many),
        anyio.create_task_group() as tasks,
    ):
        order = {session.client_id: at for at, session in enumerate(broker.sessions())}
        moments: list[tuple[float, int]] = []

        async def follow(session: Session[Any]) -> None:
            await session.wait_ended()
            moments.append((anyio.current_time(), order[session.client_id]))

        for session in broker.sessions():
            tasks.start_soon(follow, session)
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        assert await drain(broker, 100, random=Random(1)) == 0
        times = [at - began for at, _ in moments]
        # A thousand in a second, none of them all at once.
        assert max(times) == pytest.approx(1, rel=0.3)
        batches = {at: times.count(at) for at in times}
        assert len(batches) > 10
        assert max(batches.values()) < many / 10
        pauses = [b - a for a, b in pairwise(sorted(batches))]
        assert max(pauses) > 1.5 * min(pauses)  # jittered
        places = [place for _, place in moments]
        assert places != sorted(places)


async def test_many_clients_and_little_time() -> None:
    """Half of the deadline is for sending away, however many there are."""
    async with Broker() as broker, clients_of(broker, 800):
        began = anyio.current_time()
        assert await drain(broker, 0.5) == 0
        assert anyio.current_time() - began < 0.5


async def test_cancelled_and_called_again() -> None:
    async with Broker() as broker, clients_of(broker, 1) as [client]:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await drain(broker)
        assert not broker.is_ready
        assert client.close_code is None
        assert await drain(broker) == 0
        assert client.close_code == 1012
        assert await drain(broker) == 0


async def test_a_broker_that_is_entered_again_takes_clients() -> None:
    broker = Broker()
    with pytest.raises(UsageError, match="not running"):
        await drain(broker)
    async with broker:
        await drain(broker)
        assert not broker.is_ready
    assert not broker.is_ready
    with pytest.raises(BrokerClosed):
        await drain(broker)
    async with broker:
        assert broker.is_ready
        with pytest.raises(UsageError, match="deadline_s must be > 0"):
            await drain(broker, 0)
        assert broker.is_ready
