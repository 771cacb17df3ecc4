"""Bursts go out in few frames to clients whose wire format joins messages."""

from __future__ import annotations

import anyio

from broker import Broker, Frames, Limits
from broker.testing import MemoryClient, memory_transport
from broker.wire import WireFormat

from .helpers import LONG_S, connected

JOINING = WireFormat(join=lambda lines: "+".join(str(line) for line in lines))


async def test_a_burst_is_joined_and_keeps_its_order() -> None:
    messages = 100
    async with Broker() as broker, connected(broker, wire=JOINING) as (client, session):
        await session.subscribe("t")
        for number in range(messages):
            await broker.publish("t", str(number))
        got: list[str] = []
        while len(got) < messages:
            with anyio.fail_after(LONG_S):
                got += str(await client.receive()).split("+")
        assert got == [str(number) for number in range(messages)]
        totals = broker.statistics().totals
        assert totals.sent <= messages / 4
        assert totals.sent_bytes == sum(len(text) for text in got)


async def test_a_single_message_waits_for_no_timer() -> None:
    async with Broker() as broker, connected(broker, wire=JOINING) as (client, session):
        await session.subscribe("t")
        await anyio.wait_all_tasks_blocked()
        before = anyio.current_time()
        await broker.publish("t", "alone")
        assert await client.receive() == "alone"
        assert anyio.current_time() == before


async def test_frames_are_bounded_in_count_and_in_bytes() -> None:
    """A client that was away finds a backlog: no frame of it is larger than allowed."""
    wire = WireFormat(join=JOINING.join, max_joined=10, max_joined_bytes=100)
    limits = Limits(stall_s=LONG_S)
    async with Broker(limits=limits) as broker:
        async with connected(broker, wire=wire, capacity=0) as (client, session):
            await session.subscribe("t")
            for number in range(60):
                await broker.publish("t", f"{number:02}")
            for number in range(20):
                await broker.publish("t", f"{number:02}" + "x" * 38)
            got: list[list[str]] = []
            while sum(map(len, got)) < 80:
                got.append(str(await client.receive()).split("+"))
        texts = [text for each in got for text in each]
        assert [text[:2] for text in texts] == [
            f"{n:02}" for n in [*range(60), *range(20)]
        ]
        assert max(map(len, got)) == 10
        # One that has reached the bound gets no more, and one message may go beyond it.
        assert all(sum(map(len, each[:-1])) < 100 for each in got)


async def test_many_clients_wake_together() -> None:
    async with Broker() as broker, anyio.create_task_group() as tasks:
        clients: list[MemoryClient] = []

        async def handle(transport: object) -> None:
            async with broker.open_session(
                transport,  # type: ignore[arg-type] # of memory_transport
                Frames.TEXT,
                wire=JOINING,
            ) as session:
                await session.subscribe("t")
                await session.wait_ended()

        for _ in range(20):
            client, transport = memory_transport()
            clients.append(client)
            tasks.start_soon(handle, transport)
        await anyio.wait_all_tasks_blocked()
        for number in range(50):
            await broker.publish("t", str(number))
        await anyio.wait_all_tasks_blocked()
        assert broker.statistics().totals.sent <= 20 * 50 / 4
        for client in clients:
            client.leave()
        await anyio.wait_all_tasks_blocked()
        for client in clients:
            client.close_all()
