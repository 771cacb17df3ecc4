"""Few tasks send for all clients, and nobody waits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from broker import Broker, EndKind, Frames, Limits, Session
from broker.errors import TransportClosed
from broker.message import Payload
from broker.pool import MAX_RESTING, SenderPool
from broker.testing import MemoryClient, memory_transport
from broker.testing.transport import MemoryTransport
from broker.wire import WireFormat

from .helpers import LONG_S, connected

JOINING = WireFormat(join=lambda lines: "+".join(str(line) for line in lines))


class Failing(MemoryTransport):
    """Raises what it is given instead of sending, or waits for ever."""

    def __init__(self, client: MemoryClient, error: BaseException | None) -> None:
        super().__init__(client)
        self.error = error
        self.was_cancelled = False
        self.sends = self.closes = 0

    async def send(self, frame: Payload) -> None:
        self.sends += 1
        if self.error is not None:
            raise self.error
        try:
            await anyio.sleep_forever()
        except BaseException:
            self.was_cancelled = True
            raise

    async def close(self, code: int, reason: str) -> None:
        self.closes += 1
        await super().close(code, reason)


def tasks_named(name: str) -> int:
    return sum(each.name == name for each in anyio.get_running_tasks())


@asynccontextmanager
async def listening(
    broker: Broker, capacities: list[int]
) -> AsyncGenerator[list[MemoryClient], None]:
    """Have clients listen to "t", each with so many frames of room on the way."""
    clients: list[MemoryClient] = []

    async def handle(transport: MemoryTransport) -> None:
        async with broker.open_session(transport, Frames.TEXT, wire=JOINING) as session:
            await session.subscribe("t")
            await session.wait_ended()

    async with anyio.create_task_group() as tasks:
        for capacity in capacities:
            client, transport = memory_transport(capacity)
            clients.append(client)
            tasks.start_soon(handle, transport)
        await anyio.wait_all_tasks_blocked()
        yield clients
        for client in clients:
            client.leave()
    for client in clients:
        client.close_all()


async def test_a_stalled_client_delays_nobody() -> None:
    """Whatever comes before and behind it: each message, and without any timer."""
    limits = Limits(stall_s=LONG_S, grace_s=1)
    capacities = [0, 100, 100] * 7
    async with Broker(limits=limits) as broker, listening(broker, capacities) as all_:
        healthy = [c for c, room in zip(all_, capacities, strict=True) if room]
        with anyio.fail_after(LONG_S / 2):
            for number in range(20):
                await broker.publish("t", str(number))
                start = anyio.current_time()
                for client in healthy:
                    assert await client.receive() == str(number)
                assert anyio.current_time() == start
        assert broker.statistics().totals.sent == 20 * len(healthy)


async def test_all_who_wait_get_what_has_come_meanwhile() -> None:
    """A client that reads again goes on where it was, and in order."""
    limits = Limits(stall_s=LONG_S)
    async with Broker(limits=limits) as broker, listening(broker, [0] * 50) as all_:
        for number in range(10):
            await broker.publish("t", str(number))
            await anyio.wait_all_tasks_blocked()
        for client in reversed(all_):
            got: list[str] = []
            with anyio.fail_after(LONG_S):
                while len(got) < 10:
                    got += str(await client.receive()).split("+")
            assert got == [str(number) for number in range(10)]


async def test_there_are_as_many_tasks_as_clients_are_waited_for() -> None:
    stalled = 3 * MAX_RESTING
    limits = Limits(stall_s=LONG_S, grace_s=1)
    async with Broker(limits=limits) as broker:
        assert tasks_named("broker: sender") == 0
        async with listening(broker, [0] * stalled + [9] * 100):
            await broker.publish("t", "1")
            await anyio.wait_all_tasks_blocked()
            found = tasks_named("broker: sender")
            assert stalled <= found <= stalled + MAX_RESTING
        await anyio.wait_all_tasks_blocked()
        assert 0 < tasks_named("broker: sender") <= MAX_RESTING
    assert tasks_named("broker: sender") == 0


async def test_a_session_that_is_cancelled_while_it_is_sent_to() -> None:
    """Its send is cancelled with it, and the others' are not."""
    async with Broker() as broker, listening(broker, [9]) as others:
        client = MemoryClient(1)
        transport = Failing(client, None)
        with anyio.CancelScope() as host:
            async with broker.open_session(
                transport, Frames.TEXT, wire=JOINING
            ) as session:
                await session.subscribe("t")
                await broker.publish("t", "1")
                await anyio.wait_all_tasks_blocked()
                assert transport.sends == 1
                host.cancel()
                await anyio.sleep_forever()
        # Already now: nobody touches a transport whose session is over.
        assert transport.was_cancelled
        assert session.ended_by.kind is EndKind.SHUTDOWN
        for number in range(2, 50):
            await broker.publish("t", str(number))
        got: list[str] = []
        with anyio.fail_after(LONG_S):
            while len(got) < 49:
                got += str(await others[0].receive()).split("+")
        assert got == [str(number) for number in range(1, 50)]
        assert (transport.sends, transport.closes) == (1, 0)
        client.close_all()


async def test_who_comes_after_one_that_was_given_up_is_not() -> None:
    """It was, in the instant in which it had been sent to."""
    served: list[int] = []

    class GivenUp:
        async def send_one(self, scope: anyio.CancelScope) -> bool:
            scope.cancel()
            return False

    class Next:
        async def send_one(self, scope: anyio.CancelScope) -> bool:
            await anyio.lowlevel.checkpoint()
            served.append(1)
            return True

    pool = SenderPool()
    async with pool.running() as tasks:
        pool.add([GivenUp(), Next(), GivenUp(), Next()])
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert served == [1, 1]


async def test_who_comes_before_the_pool_runs_is_sent_for() -> None:
    """A client may be there before the broker's own tasks have begun."""
    served: list[int] = []

    class Early:
        async def send_one(self, scope: anyio.CancelScope) -> bool:
            served.append(1)
            return True

    pool = SenderPool()
    pool.add([Early()])
    async with pool.running() as tasks:
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert served == [1]


async def test_a_session_that_ends_while_it_is_sent_to() -> None:
    """What is on its way has ``grace_s`` to arrive, and nothing comes after it."""
    limits = Limits(grace_s=2, stall_s=LONG_S)
    async with Broker(limits=limits) as broker:
        client = MemoryClient(1)
        transport = Failing(client, None)
        async with broker.open_session(
            transport, Frames.TEXT, wire=JOINING, client_id="c"
        ) as session:
            await session.subscribe("t")
            await broker.publish("t", "1")
            await anyio.wait_all_tasks_blocked()
            start = anyio.current_time()
            await broker.disconnect(client="c")
            await session.wait_ended()
        assert anyio.current_time() - start == pytest.approx(2, abs=0.2)
        assert transport.was_cancelled
        assert transport.closes == 0
        client.close_all()


async def test_a_client_that_leaves_while_it_is_sent_to() -> None:
    """Nobody waits for it any longer."""
    limits = Limits(grace_s=LONG_S, stall_s=LONG_S)
    async with Broker(limits=limits) as broker:
        client = MemoryClient(1)
        transport = Failing(client, None)
        with anyio.fail_after(LONG_S / 2):
            async with broker.open_session(
                transport, Frames.TEXT, wire=JOINING
            ) as session:
                await session.subscribe("t")
                await broker.publish("t", "1")
                await anyio.wait_all_tasks_blocked()
                client.leave()
                assert (await session.wait_ended()).kind is EndKind.CLIENT_LEFT
        assert transport.was_cancelled
        client.close_all()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TransportClosed("gone"), EndKind.CLIENT_LEFT),
        (ZeroDivisionError("a bug"), EndKind.INTERNAL_ERROR),
        (None, EndKind.INTERNAL_ERROR),
    ],
)
async def test_a_send_that_fails_ends_that_client_alone(
    error: BaseException | None, kind: EndKind, anyio_backend_name: str
) -> None:
    if error is None:  # cancelled by nobody, where anybody can raise that
        is_trio = anyio_backend_name == "trio"
        error = RuntimeError("a bug") if is_trio else asyncio.CancelledError()
    async with Broker(limits=Limits(grace_s=1)) as broker:
        async with listening(broker, [9] * 5) as others:
            client = MemoryClient(1)
            transport = Failing(client, error)
            async with broker.open_session(
                transport, Frames.TEXT, wire=JOINING
            ) as session:
                await session.subscribe("t")
                await broker.publish("t", "1")
                assert (await session.wait_ended()).kind is kind
            await broker.publish("t", "2")
            with anyio.fail_after(LONG_S):
                for other in others:
                    assert [await other.receive() for _ in "12"] == ["1", "2"]
            assert (transport.sends, transport.closes) == (1, 0)
            client.close_all()


async def test_a_frame_that_cannot_be_made_ends_that_client_alone() -> None:
    def make(item: Any) -> Payload:
        raise ZeroDivisionError

    wire = WireFormat(join=JOINING.join, encode=make)
    async with Broker() as broker, listening(broker, [9] * 2) as others:
        async with connected(broker, wire=wire) as (_, session):
            await session.subscribe("t")
            await broker.publish("t", "1")
            assert (await session.wait_ended()).kind is EndKind.INTERNAL_ERROR
        for other in others:
            assert await other.receive() == "1"


async def test_those_whose_turn_comes_late_lose_nothing_at_the_end() -> None:
    """What waits is flushed though the pool has not come to it."""
    async with Broker() as broker, connected(broker, wire=JOINING) as (client, session):
        await session.subscribe("t")
        for number in range(5):
            await broker.publish("t", str(number))
        await broker.disconnect(client=session.client_id)
        got: list[str] = []
        with anyio.fail_after(LONG_S), pytest.raises(anyio.EndOfStream):
            while True:
                got += str(await client.receive()).split("+")
        assert got == [str(number) for number in range(5)]
        assert client.close_code == 4000


@pytest.mark.parametrize("ticks", range(8))
async def test_no_lost_turn(ticks: int) -> None:
    """Publish after 0, 1, 2 … scheduler ticks: one of them is the fatal instant."""
    async with Broker() as broker, connected(broker, wire=JOINING) as (client, session):
        await session.subscribe("t")
        got: list[str] = []
        with anyio.fail_after(LONG_S):
            for number in range(4):
                await broker.publish("t", str(number))
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
            while len(got) < 4:
                got += str(await client.receive()).split("+")
        assert got == ["0", "1", "2", "3"]


async def test_who_has_left_is_forgotten_while_nothing_is_published() -> None:
    """The last who were sent to are not kept until the next are."""

    def sessions() -> int:
        gc.collect()
        return sum(isinstance(each, Session) for each in gc.get_objects())

    async with Broker() as broker:
        before = sessions()
        async with listening(broker, [10] * 20) as clients:
            await broker.publish("t", "x")
            for client in clients:
                assert await client.receive() == "x"
            await anyio.sleep(2)  # the watchdog has looked at all of them
            assert sessions() == before + 20
            del client
        await anyio.wait_all_tasks_blocked()
        assert sessions() == before
