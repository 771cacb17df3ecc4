"""Overflow.BLOCK: publishers wait for the slowest, up to a deadline."""

from __future__ import annotations

import anyio
import pytest

from broker import Broker, Limits, Overflow, SlowConsumer
from broker.errors import BrokerClosed

from .helpers import payloads, take_all

BLOCK = Overflow.BLOCK


async def test_publishers_wait_for_the_slowest() -> None:
    async with Broker() as broker:
        async with broker.subscribe("t", overflow=BLOCK, max_messages=2) as sub:
            done: list[int] = []

            async def publisher() -> None:
                for number in range(6):
                    await broker.publish("t", str(number))
                    done.append(number)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publisher)
                await anyio.wait_all_tasks_blocked()
                assert done == [0, 1]
                seen = [await sub.receive()]
                await anyio.wait_all_tasks_blocked()
                assert done == [0, 1, 2]
                while len(seen) < 6:
                    seen.append(await sub.receive())
            assert payloads(seen) == [str(number) for number in range(6)]


async def test_many_publishers_never_overfill_and_keep_their_turns() -> None:
    async with Broker() as broker:
        async with (
            broker.subscribe("a", "b", overflow=BLOCK, max_messages=1) as one,
            broker.subscribe("b", "a", overflow=BLOCK, max_messages=1) as two,
        ):
            seen: dict[str, list[str]] = {"one": [], "two": []}

            async def publisher(topic: str, name: str) -> None:
                for number in range(10):
                    await broker.publish(topic, f"{name}{number}")

            async with anyio.create_task_group() as tasks:
                for index in range(6):
                    tasks.start_soon(publisher, "ab"[index % 2], f"p{index}:")
                for _ in range(60):
                    for name, sub in (("one", one), ("two", two)):
                        seen[name] += payloads([await sub.receive()])
                        assert sub.lag <= 1
            assert seen["one"] == seen["two"]
            for index in range(6):
                own = [text for text in seen["one"] if text.startswith(f"p{index}:")]
                assert own == [f"p{index}:{number}" for number in range(10)]


async def test_the_deadline_ends_the_slow_one_and_the_message_goes_on() -> None:
    async with Broker(limits=Limits(block_s=10)) as broker:
        async with (
            broker.subscribe("t", overflow=BLOCK, max_messages=1) as slow,
            broker.subscribe("t", overflow=BLOCK, max_messages=5) as quick,
        ):
            await broker.publish("t", "a")
            start = anyio.current_time()
            await broker.publish("t", "b")
            assert anyio.current_time() - start == pytest.approx(10, abs=0.5)
            assert payloads(take_all(quick)) == ["a", "b"]
            assert payloads([await slow.receive()]) == ["a"]
            with pytest.raises(SlowConsumer, match="no room for 10 s"):
                await slow.receive()


async def test_a_cancelled_publish_published_nothing_and_frees_its_turn() -> None:
    async with Broker() as broker:
        async with broker.subscribe("t", overflow=BLOCK, max_messages=1) as sub:
            await broker.publish("t", "a")
            with anyio.move_on_after(1) as scope:
                await broker.publish("t", "lost")
            assert scope.cancelled_caught
            assert payloads([await sub.receive()]) == ["a"]
            await broker.publish("t", "b")
            assert payloads(take_all(sub)) == ["b"]


async def test_leaving_frees_the_publishers() -> None:
    async with Broker() as broker, anyio.create_task_group() as tasks:
        async with broker.subscribe("t", overflow=BLOCK, max_messages=1):
            await broker.publish("t", "a")
            tasks.start_soon(broker.publish, "t", "b")
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await broker.publish("t", "c")


async def test_other_topics_do_not_wait() -> None:
    async with Broker() as broker, anyio.create_task_group() as tasks:
        async with (
            broker.subscribe("slow", overflow=BLOCK, max_messages=1),
            broker.subscribe("quick") as quick,
        ):
            await broker.publish("slow", "a")
            tasks.start_soon(broker.publish, "slow", "b")
            await anyio.wait_all_tasks_blocked()
            start = anyio.current_time()
            await broker.publish("quick", "x")
            assert anyio.current_time() == start
            assert payloads(take_all(quick)) == ["x"]
            tasks.cancel_scope.cancel()


async def test_a_publisher_that_waits_while_the_broker_closes_is_told() -> None:
    broker = Broker(limits=Limits(grace_s=1))
    outcome: list[str] = []

    async def publisher() -> None:
        try:
            await broker.publish("t", "b")
        except BrokerClosed:
            outcome.append("told")
        else:
            outcome.append("published")

    async def reader() -> None:
        async with broker.subscribe("t", overflow=BLOCK, max_messages=1) as sub:
            await broker.publish("t", "a")
            await anyio.sleep(20)  # reads nothing until long after the end
            assert payloads([await sub.receive()]) == ["a"]
            with pytest.raises(BrokerClosed):
                await sub.receive()

    async with anyio.create_task_group() as tasks:
        async with broker:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(publisher)
            await anyio.sleep(1)
    assert outcome == ["told"]
