"""What is done to clients is done on every node."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from broker import (
    BackplaneError,
    Broker,
    EndKind,
    LimitExceeded,
    Limits,
    MemoryBackplane,
    Position,
    TopicRules,
    UsageError,
    orders,
)
from broker.testing import FaultyBackplane
from tests.runtime.client_helpers import protocol, serving, unix_now
from tests.runtime.helpers import connected

RULES = [TopicRules(history_size=10, presence=True)]


@asynccontextmanager
async def two_nodes(
    **options: object,
) -> AsyncGenerator[tuple[Broker, Broker, FaultyBackplane], None]:
    """Two brokers, of which the faults are the first one's."""
    shared = MemoryBackplane()
    faults = FaultyBackplane(shared)
    limits = Limits(**options)  # type: ignore[arg-type] # by name
    async with (
        Broker(faults, rules=RULES, limits=limits) as one,
        Broker(shared, rules=RULES, limits=limits) as other,
    ):
        yield one, other, faults


async def test_disconnect_on_all_nodes() -> None:
    async with two_nodes() as (one, other, _):
        async with (
            connected(one, user="ann") as (_, here),
            connected(other, user="ann") as (_, there),
            connected(other, user="bob") as (_, bob),
        ):
            assert await one.disconnect(user="ann", reason="enough") == 1
            with anyio.fail_after(10):
                ending = await there.wait_ended()
            assert (ending.kind, ending.reason) == (EndKind.DISCONNECTED, "enough")
            assert here.ending is not None
            await anyio.wait_all_tasks_blocked()
            assert bob.ending is None
            assert await one.disconnect(client=bob.client_id) == 0
            with anyio.fail_after(10):
                await bob.wait_ended()


async def test_a_client_is_subscribed_from_another_node() -> None:
    async with two_nodes() as (one, other, _), serving(other, user="ann") as client:
        first = (await one.publish("t", '"before"')).position
        start = Position(first.epoch, 0)
        assert (
            await one.subscribe_client("t", user="ann", since=start, data='"hi"') == 0
        )
        told = (await client.next())["push"]
        assert (told["channel"], told["subscribe"]["data"]) == ("t", "hi")
        assert (await client.next())["push"]["pub"]["data"] == "before"
        await one.publish("t", '"after"')
        assert (await client.next())["push"]["pub"]["data"] == "after"
        assert await one.unsubscribe_client("t", user="ann") == 0
        assert (await client.next())["push"]["unsubscribe"]["code"] == 2000
        assert await one.unsubscribe_client("t", user="nobody") == 0


async def test_a_connection_is_prolonged_and_ended_from_another_node() -> None:
    async with two_nodes() as (one, other, _):
        async with serving(other, protocol(), user="ann") as client:
            assert await one.refresh_client(user="ann", expires_at=unix_now() - 24) == 0
            assert (await client.closed())[0] == 3005


async def test_the_others_hear_what_one_cannot_do() -> None:
    async with two_nodes(max_subscriptions=1) as (one, other, _):
        async with (
            connected(one, user="ann") as (_, full),
            connected(other, user="ann") as (_, free),
        ):
            await full.subscribe("a")
            with pytest.raises(LimitExceeded):
                await one.subscribe_client("t", user="ann")
            await anyio.wait_all_tasks_blocked()
            assert (full.topics, free.topics) == (["a"], ["t"])


async def test_out_of_reach_it_is_done_here_and_said() -> None:
    async with two_nodes() as (one, other, faults):
        async with (
            connected(one, user="ann") as (_, here),
            connected(other, user="ann") as (_, there),
        ):
            faults.is_cut = True
            with pytest.raises(BackplaneError):
                await one.disconnect(user="ann")
            assert here.ending is not None
            await anyio.wait_all_tasks_blocked()
            assert there.ending is None


async def test_never_all_by_mistake() -> None:
    async with two_nodes() as (one, other, _), connected(other) as (_, session):
        with pytest.raises(UsageError):
            await one.subscribe_client("t")
        with pytest.raises(UsageError):
            await one.order(orders.Disconnect())
        await anyio.wait_all_tasks_blocked()
        assert (session.ending, session.topics) == (None, [])


async def test_users_may_be_called_anything() -> None:
    """Also what no UTF-8 has a place for; a reason for the client is made valid."""
    user = "\ud800"
    async with (
        two_nodes() as (one, other, _),
        connected(other, user=user) as (_, there),
    ):
        await one.disconnect(user=user, reason="\ud800!")
        with anyio.fail_after(10):
            assert (await there.wait_ended()).reason == "?!"


@pytest.mark.parametrize(
    "news", [b"", b"\xff", b"{}", b'{"type":"new"}', b"[" * 99_999]
)
async def test_what_is_no_order_changes_nothing(
    news: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    shared = MemoryBackplane()
    async with Broker(shared) as broker, connected(broker, user="a") as (_, session):
        broker._core().hear(news)
        await anyio.wait_all_tasks_blocked()
        assert session.ending is None
        assert "another node asks for" in caplog.text


@pytest.mark.parametrize(
    "order",
    [
        orders.Disconnect(user="é", code=3_001, reason="r", spared=("a", "b")),
        orders.Disconnect(client="c"),
        orders.Subscribe(user="u", topic="t", info="{}", since=Position("e", 3)),
        orders.Unsubscribe(user="u", topic="t"),
        orders.Refresh(user="u", expires_at=1.5),
        orders.Refresh(user="u"),
    ],
)
def test_orders_travel_whole(order: orders.Order) -> None:
    assert orders.decode(orders.encode(order)) == order


@pytest.mark.parametrize("time", ["NaN", "Infinity", "-Infinity"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    news = orders.encode(orders.Refresh(user="u", expires_at=1.5))
    with pytest.raises(ValueError, match="no time"):
        orders.decode(news.replace(b"1.5", time.encode()))
