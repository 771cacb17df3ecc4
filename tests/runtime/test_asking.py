"""A client costs no task while it says nothing, and is heard all the same."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from broker import Broker, Ending, EndKind, Limits, Session
from broker.client_protocol import ClientProtocol
from broker.protocol.rules import ProtocolTimes
from broker.turns import Turns

from .client_helpers import protocol, serving
from .helpers import LONG_S, connected


def tasks_of_sessions() -> int:
    return sum(
        str(each.name).startswith("broker: session")
        for each in anyio.get_running_tasks()
    )


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()
        self.heard: list[Any] = []

    async def __call__(self, session: Session[Any], data: Any) -> None:
        self.heard.append(data)
        await self.go_on.wait()

    @property
    def protocol(self) -> ClientProtocol:
        return protocol(message=self)


async def test_a_client_that_says_nothing_takes_no_task() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        await anyio.wait_all_tasks_blocked()
        assert tasks_of_sessions() == 0
        await broker.publish("c", "1")
        assert (await client.push())["pub"]["data"] == 1
        assert tasks_of_sessions() == 0


async def test_a_client_that_leaves_is_noticed_while_its_handler_is_busy() -> None:
    slow = Slow()
    async with Broker() as broker, serving(broker, slow.protocol) as client:
        await client.send({"send": {"data": 1}})
        await anyio.wait_all_tasks_blocked()
        client.pipe.leave()
        start = anyio.current_time()
        ending = await client.session.wait_ended()
        assert ending.kind is EndKind.CLIENT_LEFT
        assert anyio.current_time() - start < 3
        slow.go_on.set()


async def test_a_busy_handler_gets_all_in_order_and_the_task_ends_again() -> None:
    slow = Slow()
    async with Broker() as broker, serving(broker, slow.protocol) as client:
        await client.send({"send": {"data": 0}})
        await anyio.sleep(5)
        assert tasks_of_sessions() == 1
        for number in range(1, 10):
            await client.send({"send": {"data": number}})
        await anyio.sleep(1)
        slow.go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert slow.heard == [str(number) for number in range(10)]
        await client.send({"send": {"data": 10}})
        await anyio.wait_all_tasks_blocked()
        assert tasks_of_sessions() == 0
        await client.send({"send": {"data": 11}})
        await anyio.wait_all_tasks_blocked()
        assert slow.heard == [str(number) for number in range(12)]


async def test_a_pong_that_nobody_could_look_at_counts() -> None:
    """A handler is busy for longer than a client has for its pong."""
    slow = Slow()
    times = ProtocolTimes(ping_s=60, pong_s=0.5)
    spoken = protocol(message=slow, times=times)
    async with Broker() as broker, serving(broker, spoken) as client:
        assert await client.next() == {}  # a ping
        await client.send({"send": {"data": 0}})
        await client.send({})
        await anyio.sleep(5)
        assert client.session.ending is None
        slow.go_on.set()
        await client.call("subscribe", channel="c")


@pytest.mark.parametrize("is_busy", [False, True])
async def test_what_is_said_after_the_end_is_taken_until_the_client_leaves(
    is_busy: bool,
) -> None:
    """Hypercorn never lets go of a connection whose messages nobody takes."""
    slow = Slow()
    async with Broker(limits=Limits(grace_s=LONG_S)) as broker:
        async with serving(broker, slow.protocol, user="ann") as client:
            client.pipe.answers_close = False
            if is_busy:
                await client.send({"send": {"data": 0}})
            await anyio.wait_all_tasks_blocked()
            await broker.disconnect(user="ann")
            assert (await client.closed())[0] == 3503
            for number in range(10):
                await client.send({"send": {"data": number}})
            await anyio.wait_all_tasks_blocked()
            waiting = client.pipe._to_server.statistics().current_buffer_used
            assert waiting == 0
            assert tasks_of_sessions() == 1
            slow.go_on.set()
        assert len(slow.heard) == is_busy


async def test_turns_are_taken_in_order_and_leave_nothing() -> None:
    turns, got = Turns(), list[int]()

    async def take(number: int) -> None:
        async with turns.turn():
            got.append(number)
            await anyio.sleep(1)
            assert got[-1] == number  # nobody else meanwhile

    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            async with turns.turn():
                for number in range(3):
                    tasks.start_soon(take, number)
                    await anyio.wait_all_tasks_blocked()
                async with anyio.create_task_group() as impatient:
                    impatient.start_soon(take, 99)
                    await anyio.wait_all_tasks_blocked()
                    impatient.cancel_scope.cancel()
            await anyio.sleep(0.5)  # now the first of them has it
            tasks.start_soon(take, 3)
        assert turns._lock is None
    assert got == [0, 1, 2, 3] * 2


@pytest.mark.parametrize("loses_nothing", [False, True])
async def test_a_plain_client_takes_a_task_only_if_receiving_may_lose_something(
    loses_nothing: bool,
) -> None:
    async with Broker() as broker:
        async with connected(broker, loses_nothing=loses_nothing) as (client, session):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.receive)
                await anyio.sleep(10)
                assert tasks_of_sessions() == (not loses_nothing)
                await client.send("something")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_plain_client_that_leaves_is_noticed_while_its_handler_is_busy(
    waits: bool,
) -> None:
    """Within two seconds, or at once by who waits for that."""
    async with Broker() as broker:
        async with connected(broker, loses_nothing=True) as (client, session):
            start = anyio.current_time()
            client.leave()
            if waits:
                await session.wait_ended()
            while session.ending is None:
                await anyio.sleep(0.1)
            assert session.ended_by.kind is EndKind.CLIENT_LEFT
            assert anyio.current_time() - start < (0.1 if waits else 3)


async def test_a_busy_handler_of_a_plain_client_gets_all_in_order() -> None:
    async with Broker() as broker:
        async with connected(broker, loses_nothing=True) as (client, session):
            for number in range(10):
                await client.send(str(number))
                await anyio.sleep(0.5)
            assert tasks_of_sessions() == 1
            assert [await session.receive() for _ in range(10)] == [*"0123456789"]
            await client.send("more")
            assert await session.receive() == "more"
            assert await one_more(client, session) == "last"
            assert tasks_of_sessions() == 0


async def one_more(client: Any, session: Session[Any]) -> Any:
    """Receive while the client says nothing, for a while."""
    async with anyio.create_task_group() as tasks:

        async def send_later() -> None:
            await anyio.sleep(5)
            await client.send("last")

        tasks.start_soon(send_later)
        return await session.receive()
    raise AssertionError


@pytest.mark.parametrize("ticks", range(12))
@pytest.mark.parametrize("loses_nothing", [False, True])
async def test_a_receive_that_is_cancelled_at_any_tick_loses_nothing(
    loses_nothing: bool, ticks: int
) -> None:
    got = list[Any]()
    async with Broker() as broker:
        async with connected(broker, loses_nothing=loses_nothing) as (client, session):

            async def take() -> None:
                got.append(await session.receive())

            for number in range(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(take)
                    await client.send(str(number))
                    for _ in range(ticks):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
            while len(got) < 20:
                await take()
    assert got == [str(number) for number in range(20)]


async def test_who_is_ended_while_its_handler_asks_is_heard_out() -> None:
    async with Broker(limits=Limits(grace_s=LONG_S)) as broker:
        async with connected(broker, loses_nothing=True, user="ann") as (
            client,
            session,
        ):
            client.answers_close = False
            async with anyio.create_task_group() as tasks:

                async def wait_for_the_end() -> None:
                    assert [each async for each in session] == ["before"]

                tasks.start_soon(wait_for_the_end)
                await client.send("before")
                await anyio.wait_all_tasks_blocked()
                await broker.disconnect(user="ann")
            await client.closed.wait()
            for _ in range(10):
                await client.send("too late")
            await anyio.wait_all_tasks_blocked()
            assert client._to_server.statistics().current_buffer_used == 0
            assert tasks_of_sessions() == 1


@pytest.mark.parametrize("loses_nothing", [False, True])
async def test_what_comes_with_the_end_is_not_handled(loses_nothing: bool) -> None:
    async with Broker() as broker:
        async with connected(broker, loses_nothing=loses_nothing) as (client, session):
            async with anyio.create_task_group() as tasks:

                async def hear() -> None:
                    assert [each async for each in session] == []

                tasks.start_soon(hear)
                await anyio.wait_all_tasks_blocked()
                client._to_server.send_nowait("late")
                client._tell()
                session.end(Ending.of(EndKind.DISCONNECTED))
