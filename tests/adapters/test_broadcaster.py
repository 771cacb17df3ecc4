"""The drop-in for encode/broadcaster: its contract."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.broadcaster import (
    Broadcast,
    Event,
    Subscriber,
    Unsubscribed,
    UnsupportedBackend,
    backplane_for,
    topic_of,
)
from adapters.broadcaster.backends import (
    BroadcastBackend,
    KafkaBackend,
    MemoryBackend,
    PostgresBackend,
    RedisBackend,
    RedisStreamBackend,
)
from broker import (
    BackplaneError,
    BackplaneUnsupported,
    BrokerClosed,
    Limits,
    MemoryBackplane,
    Message,
    Position,
    RecoveryImpossible,
    SlowConsumer,
    UsageError,
)
from broker.schemes import GROUP
from broker.testing import FaultyBackplane

from .broadcaster_backend import OwnBackend

PATIENCE_S = 60  # virtual: a hang fails at once

KINDS = ["memory", "MemoryBackend", "OwnBackend", "backplane"]


def broadcast_of(kind: str) -> Broadcast:
    if kind == "memory":
        return Broadcast("memory://")
    if kind == "MemoryBackend":
        return Broadcast(backend=MemoryBackend("memory://"))
    return Broadcast(
        backend=OwnBackend() if kind == "OwnBackend" else FaultyBackplane()
    )


@asynccontextmanager
async def connected(kind: str = "memory") -> AsyncGenerator[Broadcast, None]:
    with anyio.fail_after(PATIENCE_S):
        async with broadcast_of(kind) as broadcast:
            yield broadcast


async def read_all(subscriber: Subscriber, events: list[Event]) -> None:
    events.extend([event async for event in subscriber])


@pytest.mark.parametrize("kind", KINDS)
async def test_publish_and_subscribe(kind: str) -> None:
    async with connected(kind) as broadcast:
        async with broadcast.subscribe(channel="chatroom") as subscriber:
            await broadcast.publish(channel="chatroom", message="hello")
            event = await subscriber.get()
            assert event.channel == "chatroom"
            assert event.message == "hello"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "channel", ["", "a b", "Grüße.*", "$x", "..", "%41", "y" * 999]
)
async def test_channels_may_have_any_name(kind: str, channel: str) -> None:
    async with connected(kind) as broadcast:
        async with (
            broadcast.subscribe(channel) as subscriber,
            broadcast.subscribe("A") as other,
        ):
            await broadcast.publish(channel, "hello")
            await broadcast.publish("A", "not hello")
            assert await subscriber.get() == Event(channel, "hello")
            assert await other.get() == Event("A", "not hello")


@pytest.mark.parametrize("channel", ["y" * 999, "Grüße"])
async def test_a_backend_of_ones_own_hears_channels_not_topics(channel: str) -> None:
    backend = OwnBackend()
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            async with broadcast.subscribe(channel):
                await broadcast.publish(channel, "hello")
            await anyio.wait_all_tasks_blocked()
            async with broadcast.subscribe(channel):
                pass
            await anyio.wait_all_tasks_blocked()
    assert backend.calls == [
        "connect",
        f"subscribe {channel}",
        f"publish {channel}",
        f"unsubscribe {channel}",
        f"subscribe {channel}",
        f"unsubscribe {channel}",
        "disconnect",
    ]


async def test_every_subscriber_gets_every_event_in_order() -> None:
    numbers = [str(number) for number in range(100)]
    async with connected() as broadcast:
        async with broadcast.subscribe("a") as one, broadcast.subscribe("a") as two:
            for number in numbers:
                await broadcast.publish("a", number)
            for subscriber in (one, two):
                heard = [(await subscriber.get()).message for _ in numbers]
                assert heard == numbers


async def test_an_event_is_of_one_subscriber_alone() -> None:
    async with connected() as broadcast:
        async with broadcast.subscribe("a") as one, broadcast.subscribe("a") as two:
            await broadcast.publish("a", "hello")
            (await one.get()).message = "changed"
            assert (await two.get()).message == "hello"


def test_events_compare_and_print_as_there() -> None:
    assert Event("c", "m") == Event("c", "m")
    assert Event("c", "m") != Event("c", "n")
    assert Event("c", "m") != Event("d", "m")
    assert Event("c", "m") != ("c", "m")
    assert repr(Event("c", "m")) == "Event(channel='c', message='m')"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Event("c", "m"))


async def test_the_loop_ends_when_the_block_is_left() -> None:
    events: list[Event] = []
    async with connected() as broadcast:
        async with anyio.create_task_group() as tasks:
            async with broadcast.subscribe("a") as subscriber:
                tasks.start_soon(read_all, subscriber, events)
                await anyio.wait_all_tasks_blocked()
                await broadcast.publish("a", "hello")
                await anyio.wait_all_tasks_blocked()
        with pytest.raises(Unsubscribed):
            await subscriber.get()
    assert events == [Event("a", "hello")]


async def test_tests_that_look_at_the_subscribers_go_on() -> None:
    async with connected() as broadcast:
        async with broadcast.subscribe("chatroom"):
            assert "chatroom" in broadcast._subscribers
        assert "chatroom" not in broadcast._subscribers
        with pytest.raises(RuntimeError, match="mine"):
            async with broadcast.subscribe("chatroom"):
                raise RuntimeError("mine")
        assert not broadcast._subscribers
        assert not broadcast._channels


@pytest.mark.parametrize("kind", KINDS)
async def test_the_broker_under_it_shares_its_channels(kind: str) -> None:
    topic = topic_of("chat room")
    async with connected(kind) as broadcast:
        async with (
            broadcast.subscribe("chat room") as old,
            broadcast.broker.subscribe(topic) as new,
        ):
            assert broadcast.broker.statistics().subscriptions == 2
            await broadcast.broker.publish(topic, "from new")
            await broadcast.publish("chat room", "from old")
            for text in ("from new", "from old"):
                assert await old.get() == Event("chat room", text)
                item = await new.receive()
                assert isinstance(item, Message)
                assert (item.topic, item.payload) == (topic, text)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_subscriber_of_the_broker_needs_none_here(kind: str) -> None:
    topic = topic_of("chat room")
    async with connected(kind) as broadcast, broadcast.broker.subscribe(topic) as new:
        await broadcast.publish("chat room", "hello")
        item = await new.receive()
        assert isinstance(item, Message)
        assert item.payload == "hello"


async def test_what_a_backend_of_ones_own_cannot_do_it_says() -> None:
    async with connected("OwnBackend") as broadcast:
        broker = broadcast.broker
        page = await broker.history("a")
        assert (page.messages, page.position) == ([], None)
        with pytest.raises(RecoveryImpossible):
            await broker.history("a", since=Position("", 0))
        await broker.clear_history("a")
        assert await broker.presence("a") == []
        with pytest.raises(BackplaneUnsupported, match="tells other nodes nothing"):
            await broker.disconnect(user="ada")


async def test_a_publish_through_the_broker_fails_as_a_backplane_does() -> None:
    backend = OwnBackend()
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            backend.failing["publish"] = OSError("reset")
            with pytest.raises(BackplaneError, match="reset"):
                await broadcast.broker.publish("a", "hello")
            with pytest.raises(OSError, match="reset"):
                await broadcast.publish("a", "hello")


@pytest.mark.parametrize("kind", KINDS)
async def test_connected_and_disconnected_by_tasks_that_end(kind: str) -> None:
    """As start-up and shutdown hooks, and fixtures, may do."""
    broadcast = broadcast_of(kind)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(broadcast.connect)
        async with broadcast.subscribe("a") as subscriber:
            await broadcast.publish("a", "hello")
            assert (await subscriber.get()).message == "hello"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(broadcast.disconnect)
        with pytest.raises(BrokerClosed):
            await broadcast.publish("a", "hello")


async def test_connecting_may_have_a_deadline() -> None:
    """The scope around ``connect`` is left while the connection goes on."""
    broadcast = Broadcast("memory://")
    with anyio.fail_after(1):
        await broadcast.connect()
    await anyio.sleep(60)
    with anyio.fail_after(PATIENCE_S):
        async with broadcast.subscribe("a") as subscriber:
            await broadcast.publish("a", "hello")
            assert (await subscriber.get()).message == "hello"
        await broadcast.disconnect()


@pytest.mark.parametrize("kind", KINDS)
async def test_it_can_connect_again(kind: str) -> None:
    broadcast = broadcast_of(kind)
    with anyio.fail_after(PATIENCE_S):
        for _ in range(2):
            async with broadcast, broadcast.subscribe("a") as subscriber:
                await broadcast.publish("a", "hello")
                assert (await subscriber.get()).message == "hello"


async def test_connecting_twice_is_an_error_and_changes_nothing() -> None:
    async with connected() as broadcast, broadcast.subscribe("a") as subscriber:
        with pytest.raises(UsageError, match="connected already"):
            await broadcast.connect()
        await broadcast.publish("a", "hello")
        assert (await subscriber.get()).message == "hello"


async def test_what_disconnecting_raises_is_told() -> None:
    backend = OwnBackend()
    broadcast = Broadcast(backend=backend)
    backend.failing["disconnect"] = OSError("reset")
    with anyio.fail_after(PATIENCE_S):
        await broadcast.connect()
        with pytest.raises(BackplaneError, match="reset"):
            await broadcast.disconnect()
        await broadcast.disconnect()  # it is


async def test_a_block_that_fails_says_so_itself() -> None:
    backend = OwnBackend()
    backend.failing["disconnect"] = OSError("reset")
    with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeError, match="mine"):
        async with Broadcast(backend=backend):
            raise RuntimeError("mine")


async def test_a_backend_that_hangs_does_not_hold_up_the_end() -> None:
    class Stuck(OwnBackend):
        async def disconnect(self) -> None:
            await anyio.sleep_forever()

    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=Stuck()):
            pass


async def test_a_failure_is_told_to_who_comes_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = OwnBackend()
    broadcast = Broadcast(backend=backend)
    with anyio.fail_after(PATIENCE_S):
        await broadcast.connect()
        backend.fail(ConnectionError("gone"))
        while broadcast.broker.is_running:
            await anyio.sleep(0.1)
        with pytest.raises(BackplaneError, match="gone"):
            await broadcast.publish("a", "hello")
        with pytest.raises(BackplaneError, match="gone"):
            async with broadcast.subscribe("a"):
                pass
        with pytest.raises(BackplaneError, match="gone"):
            await broadcast.disconnect()
        backend.failing.clear()
        async with broadcast:
            await broadcast.publish("a", "hello")
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage() == "broadcast: the backend has failed"


async def test_events_that_a_backplane_has_lost_are_told() -> None:
    faults = FaultyBackplane()
    with anyio.fail_after(PATIENCE_S):
        async with (
            Broadcast(backend=faults) as broadcast,
            broadcast.subscribe("a") as subscriber,
        ):
            await broadcast.publish("a", "1")
            faults.drop_next = 2
            for number in "234":
                await broadcast.publish("a", number)
            assert (await subscriber.get()).message == "1"
            with pytest.raises(BackplaneError, match="2 events of 'a'"):
                await subscriber.get()
            assert (await subscriber.get()).message == "4"


async def test_a_publish_that_fails_says_so() -> None:
    faults = FaultyBackplane()
    async with Broadcast(backend=faults) as broadcast:
        faults.is_cut = True
        with pytest.raises(BackplaneError):
            await broadcast.publish("a", "hello")


@pytest.mark.parametrize("message", [{"a": 1}, None, 7])
async def test_a_message_of_another_kind_is_refused(message: Any) -> None:
    async with connected() as broadcast:
        with pytest.raises(UsageError, match="must be str or bytes"):
            await broadcast.publish("a", message)


@pytest.mark.parametrize("message", [{"a": 1}, None, 7, b"\xff", "é"])
async def test_a_backend_of_ones_own_takes_any_message(message: Any) -> None:
    async with connected("OwnBackend") as broadcast:
        async with broadcast.subscribe("a") as subscriber:
            await broadcast.publish("a", message)
            assert (await subscriber.get()).message == message


async def test_limits_can_be_set() -> None:
    limits = Limits(max_outbox_messages=1)
    with anyio.fail_after(PATIENCE_S):
        async with (
            Broadcast("memory://", limits=limits) as broadcast,
            broadcast.subscribe("a") as subscriber,
        ):
            await broadcast.publish("a", "1")
            await broadcast.publish("a", "2")
            assert (await subscriber.get()).message == "1"
            with pytest.raises(SlowConsumer):
                await subscriber.get()


async def test_a_cancelled_get_loses_nothing() -> None:
    async with connected() as broadcast:
        async with broadcast.subscribe("a") as subscriber:
            heard: list[Event] = []

            async def read() -> None:
                heard.append(await subscriber.get())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await broadcast.publish("a", "hello")
                tasks.cancel_scope.cancel()
            rest = [] if heard else [await subscriber.get()]
            assert heard + rest == [Event("a", "hello")]


def test_what_must_be_given() -> None:
    message = "Either `url` or `backend` must be provided."
    for url in (None, ""):
        with pytest.raises(AssertionError, match=message):
            Broadcast(url)
    with pytest.raises(AssertionError, match="conn must be provided if url is not"):
        RedisBackend()


def test_urls() -> None:
    assert isinstance(backplane_for("memory://"), MemoryBackplane)
    with pytest.raises(ValueError, match="Unsupported backend: unknown"):
        Broadcast(url="unknown://")
    with pytest.raises(UsageError, match=r"Unsupported backend: kafka: .*memory://"):
        Broadcast("kafka://user:secret@host:9092")
    for url in ("kafka://user:secret@host", "secret"):
        with pytest.raises(UnsupportedBackend) as refused:
            backplane_for(url)
        assert "secret" not in str(refused.value)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with backplanes, which keep the URL."""
    schemes = ("redis", "postgresql")
    points = "".join(f"{scheme} = of_this_test:Mine\n" for scheme in schemes)
    info = tmp_path / "asgi_broker_of_this_test-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: asgi-broker-of-this-test\nVersion: 1")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    (tmp_path / "of_this_test.py").write_text(
        "from broker import MemoryBackplane\n"
        "class Mine(MemoryBackplane):\n"
        "    def __init__(self, url):\n"
        "        super().__init__()\n"
        "        self.url = url\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("of_this_test", None)


@pytest.mark.usefixtures("installed")
async def test_backplanes_that_are_installed() -> None:
    rest = "//user:redis-stream@host:1/2"
    for made in (
        backplane_for(f"redis-stream:{rest}"),
        RedisBackend(f"redis:{rest}").backplane,
        RedisStreamBackend(f"redis-stream:{rest}").backplane,
    ):
        assert vars(made)["url"] == f"redis:{rest}"
    backend = PostgresBackend(f"postgresql:{rest}")
    assert vars(backend.backplane)["url"] == f"postgresql:{rest}"
    with anyio.fail_after(PATIENCE_S):
        async with (
            Broadcast(backend=backend) as broadcast,
            broadcast.subscribe("a") as subscriber,
        ):
            await broadcast.publish("a", "hello")
            assert (await subscriber.get()).message == "hello"
    for urls in ("kafka://host", ["kafka://host", "kafka://other"]):
        with pytest.raises(UnsupportedBackend):
            KafkaBackend(urls)


def test_a_connection_made_elsewhere_is_refused() -> None:
    with pytest.raises(UnsupportedBackend, match="conn is not used"):
        RedisBackend(conn=object())


async def test_the_base_of_backends_does_nothing() -> None:
    with pytest.raises(NotImplementedError):
        BroadcastBackend("mine://")
    backend = BroadcastBackend.__new__(BroadcastBackend)
    for call in (
        backend.connect(),
        backend.disconnect(),
        backend.subscribe("a"),
        backend.unsubscribe("a"),
        backend.publish("a", "hello"),
        backend.next_published(),
    ):
        with pytest.raises(NotImplementedError):
            await call


# What broadcaster's own tests import and do, and its two layouts of backends.
UNCHANGED = """
import anyio
from broadcaster import Broadcast, BroadcastBackend, Event
from broadcaster._base import Unsubscribed
from broadcaster.backends.base import BroadcastBackend as new
from broadcaster._backends.base import BroadcastBackend as old
from broadcaster.backends.memory import MemoryBackend
from broadcaster.backends.redis import RedisBackend, RedisStreamBackend
from broadcaster.backends.postgres import PostgresBackend
from broadcaster.backends.kafka import KafkaBackend
import adapters.broadcaster

assert new is old is BroadcastBackend is adapters.broadcaster.BroadcastBackend
assert Broadcast is adapters.broadcaster.Broadcast

async def main():
    async with Broadcast("memory://") as broadcast:
        async with broadcast.subscribe("chatroom") as subscriber:
            await broadcast.publish("chatroom", "hello")
            print(await subscriber.get())

anyio.run(main)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )


def test_programs_run_unchanged() -> None:
    """In an interpreter of its own: it changes what ``import`` finds."""
    install = "from adapters.broadcaster import install; install(); install()\n"
    outcome = run(install + UNCHANGED)
    assert outcome.stderr == ""
    assert outcome.stdout == "Event(channel='chatroom', message='hello')\n"


def test_the_original_is_not_replaced_under_those_who_have_it() -> None:
    program = (
        "import sys, types; sys.modules['broadcaster'] = types.ModuleType('it');"
        "from adapters.broadcaster import install; install()"
    )
    assert "has been imported already" in run(program).stderr
