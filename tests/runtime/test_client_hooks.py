"""What the application is asked and told about clients of the Centrifuge protocol."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from broker import (
    Broker,
    Hooks,
    Limits,
    MemoryBackplane,
    NotAllowed,
    TopicRules,
    drain,
)
from broker.client_protocol import ClientError, Connected, Connecting, Subscribed
from broker.errors import BackplaneError
from broker.protocol.rules import ProtocolTimes
from broker.testing import FaultyBackplane

from .client_helpers import UNIX, Client, FakeTokens, protocol, serving, token, unix_now
from .helpers import connected

TALKATIVE = [TopicRules(history_size=5, presence=True, join_leave=True)]
PATIENT = ProtocolTimes(ping_s=1_000, pong_s=900, expired_s=25)


def raising(error: Exception) -> Callable[..., Awaitable[Any]]:
    async def handler(*given: Any) -> Any:
        raise error

    return handler


REFUSALS = [
    (NotAllowed("no"), 103),
    (ClientError(1_234, "as you wish"), 1_234),
    (ZeroDivisionError("a bug"), 100),
]


# --- connect ---


@pytest.mark.parametrize(("error", "code"), REFUSALS)
async def test_connect_refuses(
    error: Exception, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with Broker() as broker:
        spoken = protocol(connect=raising(error))
        async with serving(broker, spoken, is_connected=False) as client:
            assert await client.error("connect") == code
            assert bool(caplog.records) == (code == 100)
            assert await client.closed() == (3502, "stale")


async def test_connect_is_told_what_the_client_says() -> None:
    seen: list[Connecting] = []

    async def connect(session: Any, connecting: Connecting) -> Connected | None:
        seen.append(connecting)
        return None

    said = {"data": {"a": [1]}, "name": "js", "version": "5", "headers": {"x": "y"}}
    async with Broker() as broker:
        async with serving(broker, protocol(connect=connect), connect=said):
            pass
        async with serving(broker, protocol(connect=connect)):
            pass
    assert seen == [
        Connecting(data='{"a": [1]}', name="js", version="5", headers={"x": "y"}),
        Connecting(),
    ]


@pytest.mark.parametrize("given", ["", token(sub=""), token(sub="token's")])
async def test_connect_says_who_it_is(given: str) -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        assert session.user == (json_sub(given) or None)
        return Connected(user="ann", info='{"n":1}')

    spoken = protocol(tokens=FakeTokens(), anonymous=False, connect=connect)
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, spoken, connect={"token": given}) as client:
            assert client.session.user == "ann"
            await client.call("subscribe", channel="c")
            info = (await client.push())["join"]["info"]
            assert (info["user"], info["conn_info"]) == ("ann", {"n": 1})
            assert await broker.disconnect(user="ann") == 1


def json_sub(given: str) -> str:
    return "token's" if "token's" in given else ""


@pytest.mark.parametrize("said", [None, Connected(), Connected(user="")])
async def test_a_handler_that_names_nobody(
    said: Connected | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "broker")

    async def connect(session: Any, connecting: Connecting) -> Connected | None:
        return said

    spoken = protocol(connect=connect, anonymous=False)
    async with Broker() as broker:
        async with serving(broker, spoken, is_connected=False) as client:
            await client.send({"id": 1, "connect": {}})
            assert await client.closed() == (3501, "bad request")
    assert "it sent no token" in caplog.text


async def test_connect_is_not_asked_about_a_bad_token() -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        raise AssertionError("asked")

    spoken = protocol(connect=connect, tokens=FakeTokens())
    async with Broker() as broker:
        async with serving(broker, spoken, is_connected=False) as client:
            await client.send({"id": 1, "connect": {"token": "forged"}})
            assert await client.closed() == (3500, "invalid token")


async def test_connect_that_takes_too_long() -> None:
    """The client is sent away when it counts as stale, and its handler is let go."""
    is_over = anyio.Event()

    async def connect(session: Any, connecting: Connecting) -> Connected:
        await session.wait_ended()
        is_over.set()
        return Connected(channels=["c"])

    async with Broker(rules=TALKATIVE) as broker:
        async with serving(
            broker, protocol(connect=connect), is_connected=False
        ) as client:
            await client.send({"id": 1, "connect": {}})
            assert await client.closed() == (3502, "stale")
            await is_over.wait()
        await anyio.wait_all_tasks_blocked()
        assert broker.statistics().topics == 0
        assert await broker.presence("c") == []


async def test_what_connect_sends_comes_behind_the_welcome() -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        await session.send('"hello"')
        return Connected()

    async with Broker() as broker:
        async with serving(broker, protocol(connect=connect)) as client:
            assert await client.push() == {"message": {"data": "hello"}}


async def test_connect_finds_too_many_sessions_of_a_user() -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(user="ann", channels=["c"])

    limits = Limits(max_sessions_per_user=1)
    async with Broker(rules=TALKATIVE, limits=limits) as broker:
        async with serving(broker, protocol(connect=connect)) as first:
            async with serving(
                broker, protocol(connect=connect), is_connected=False
            ) as second:
                assert await second.error("connect") == 106
                assert len(broker.sessions(user="ann")) == 1
                assert len(await broker.presence("c")) == 1
            assert first.session.ending is None


# --- subscribe ---


@pytest.mark.parametrize(("error", "code"), REFUSALS)
async def test_subscribe_refuses(error: Exception, code: int) -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, protocol(subscribe=raising(error))) as client:
            assert await client.error("subscribe", channel="c") == code
            assert client.session.topics == []
            assert await broker.presence("c") == []
            assert await client.rest() == []
            assert client.session.ending is None


async def test_subscribe_says_what_the_subscription_is() -> None:
    seen = []

    async def subscribe(session: Any, channel: str, data: Any) -> Subscribed | None:
        seen.append((channel, data))
        if channel == "plain":
            return None
        return Subscribed(info='"vip"', data='{"n":1}', expires_at=unix_now() + 50)

    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, protocol(subscribe=subscribe)) as client:
            reply = await client.call("subscribe", channel="c", data={"é": 1})
            assert (reply["data"], reply["expires"]) == ({"n": 1}, True)
            assert 49 <= reply["ttl"] <= 50
            info = (await client.push())["join"]["info"]
            assert info["chan_info"] == "vip"
            reply = await client.call("subscribe", channel="plain")
            assert "expires" not in reply
    assert seen == [("c", '{"\\u00e9": 1}'), ("plain", "null")]


async def test_subscribe_is_not_asked_where_others_have_decided() -> None:
    async def subscribe(session: Any, channel: str, data: Any) -> Subscribed:
        raise AssertionError("asked")

    async def authorize(session: Any, topic: str) -> None:
        if topic == "no":
            raise NotAllowed

    spoken = protocol(subscribe=subscribe, tokens=FakeTokens())
    async with Broker(hooks=Hooks(authorize_subscribe=authorize)) as broker:
        async with serving(broker, spoken) as client:
            await client.call("subscribe", channel="c", token=token(channel="c"))
            assert await client.error("subscribe", channel="c") == 105
            assert await client.error("subscribe", channel="no") == 103
            assert await client.error("subscribe", channel="#ann") == 103
            assert await client.error("subscribe", channel="x:c") == 102
            assert await client.error("subscribe", channel="c d") == 107


async def test_a_filter_is_refused_and_nothing_is_left() -> None:
    async with Broker(rules=TALKATIVE) as broker, serving(broker) as client:
        for tf in ({"key": "k", "cmp": "eq", "val": "v"}, {}):
            assert await client.error("subscribe", channel="c", tf=tf) == 107
        assert client.session.topics == []
        await client.call("subscribe", channel="c")


async def test_a_slow_handler_does_not_cost_the_connection() -> None:
    """The client answers pings; that its answers wait is the handler's doing."""

    async def rpc(session: Any, method: str, data: Any) -> str:
        await anyio.sleep(60)
        return "1"

    async with Broker() as broker, serving(broker, protocol(rpc=rpc)) as client:
        await client.send({"id": 9, "rpc": {}})
        while (line := await client.next()) == {}:
            await client.send({})
        assert line == {"id": 9, "rpc": {"data": 1}}


# --- refresh ---


async def test_refresh_is_asked_until_it_succeeds() -> None:
    asked: list[float] = []

    async def refresh(session: Any) -> float | None:
        asked.append(anyio.current_time())
        if len(asked) == 2:
            await anyio.sleep(1_000)  # given up after grace_s
        if len(asked) < 4:
            raise ZeroDivisionError
        return UNIX + 100 if len(asked) == 4 else None

    spoken = protocol(tokens=FakeTokens(), refresh=refresh, times=PATIENT)
    async with Broker() as broker:
        connect = {"token": token(sub="ann", exp=UNIX + 20)}
        async with serving(broker, spoken, is_connected=False) as client:
            reply = await client.call("connect", **connect)
            assert "expires" not in reply
            await anyio.sleep_until(95)
            assert client.session.ending is None
            assert len(asked) == 4
            assert 20 <= asked[0] <= 23
            assert asked[3] - asked[0] < 15
            await anyio.sleep_until(400)
            assert client.session.ending is None
            assert len(asked) == 5


@pytest.mark.parametrize(
    ("refresh", "when"),
    [(raising(NotAllowed("no")), 20), (raising(ZeroDivisionError()), 45)],
)
async def test_refresh_that_ends_the_connection(refresh: Any, when: float) -> None:
    spoken = protocol(tokens=FakeTokens(), refresh=refresh, times=PATIENT)
    async with Broker() as broker:
        connect = {"token": token(sub="ann", exp=UNIX + 20)}
        async with serving(broker, spoken, connect=connect) as client:
            assert await client.closed() == (3005, "connection expired")
            assert when <= anyio.current_time() <= when + 4


async def test_the_application_sets_the_end() -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(expires_at=UNIX + 30)

    spoken = protocol(tokens=FakeTokens(), connect=connect, times=PATIENT)
    async with Broker() as broker:
        async with serving(broker, spoken, is_connected=False, user="ann") as client:
            reply = await client.call("connect", token=token(sub="ann", exp=UNIX + 5))
            assert (reply["expires"], reply["ttl"] >= 29) == (True, True)
            assert await broker.refresh_client(user="ann", expires_at=UNIX + 60) == 1
            assert await client.closed() == (3005, "connection expired")
            assert 84 <= anyio.current_time() <= 88


async def test_the_application_takes_the_end_away() -> None:
    async with Broker() as broker:
        connect = {"token": token(sub="ann", exp=UNIX + 20)}
        spoken = protocol(tokens=FakeTokens(), times=PATIENT)
        async with serving(broker, spoken, connect=connect) as client:
            assert await broker.refresh_client(user="ann", expires_at=None) == 1
            assert await client.rest() == []  # two-way clients are not told
            await anyio.sleep(500)
            assert client.session.ending is None
        async with connected(broker, user="ann"):
            assert await broker.refresh_client(user="ann", expires_at=None) == 0


# --- on_unsubscribe ---


class Told:
    """Notes what subscriptions ended, and how the session was then."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.endings: list[str] = []

    async def on_unsubscribe(self, session: Any, topic: str) -> None:
        assert topic not in session.topics
        self.topics.append(topic)

    async def on_disconnect(self, session: Any, ending: Any) -> None:
        self.endings.append(ending.kind.value)

    @property
    def hooks(self) -> Hooks:
        return Hooks(
            on_unsubscribe=self.on_unsubscribe, on_disconnect=self.on_disconnect
        )


async def by_client(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    await client.ask("unsubscribe", channel="c")
    await client.ask("unsubscribe", channel="c")


async def by_server(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    await broker.unsubscribe_client("c", user="ann")
    await broker.unsubscribe_client("c", user="ann")


async def by_gap(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    faults.drop_next = 1
    await broker.publish("c", "1")
    await broker.publish("c", "2")


async def by_expiry(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    await anyio.sleep_until(80)


async def by_leaving(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    client.pipe.leave()


async def by_disconnect(
    broker: Broker, client: Client, faults: FaultyBackplane
) -> None:
    await broker.disconnect(user="ann")
    await broker.unsubscribe_client("c", user="ann")


async def by_drain(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    await drain(broker)


async def by_slowness(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    for number in range(30):
        await broker.publish("c", str(number))


async def by_bad_frame(broker: Broker, client: Client, faults: FaultyBackplane) -> None:
    await client.pipe.send("nonsense")


WAYS = (
    by_client,
    by_server,
    by_gap,
    by_expiry,
    by_leaving,
    by_disconnect,
    by_drain,
    by_slowness,
    by_bad_frame,
)


@pytest.mark.parametrize("is_server_side", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_told_once_however_a_subscription_ends(
    way: Callable[..., Awaitable[None]], is_server_side: bool
) -> None:
    told, faults = Told(), FaultyBackplane()
    limits = Limits(max_outbox_messages=10)
    broker = Broker(faults, rules=TALKATIVE, hooks=told.hooks, limits=limits)
    spoken = protocol(tokens=FakeTokens(), times=PATIENT)
    async with broker, serving(broker, spoken, user="ann", capacity=0) as client:
        if is_server_side:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, client, 2)
                await broker.subscribe_client("c", user="ann", expires_at=UNIX + 20)
        else:
            given = token(sub="ann", channel="c", exp=UNIX + 20)
            await client.call("subscribe", channel="c", token=given)
            await take(client, 1)
        assert told.topics == []
        await way(broker, client, faults)
        with anyio.move_on_after(10), suppress(anyio.ClosedResourceError):
            await client.closed()
        await anyio.wait_all_tasks_blocked()
        assert told.topics == ["c"]
    await anyio.wait_all_tasks_blocked()
    assert told.topics == ["c"]
    assert len(told.endings) == 1


async def take(client: Client, count: int) -> None:
    for _ in range(count):
        await client.next()


async def test_a_refused_subscription_has_not_ended() -> None:
    told = Told()
    async with Broker(rules=TALKATIVE, hooks=told.hooks) as broker:
        async with serving(broker) as client:
            assert await client.error("subscribe", channel="#c") == 103
            code = await client.error(
                "subscribe", channel="c", recover=True, epoch="other", flag=2
            )
            assert code == 112
            await client.call("unsubscribe", channel="c")
    assert told.topics == []


async def test_plain_sessions_as_well() -> None:
    told = Told()
    async with Broker(rules=TALKATIVE, hooks=told.hooks) as broker:
        async with connected(broker) as (_, session):
            for topic in ("a", "b", "c"):
                await session.subscribe(topic)
            await session.subscribe("d.>", patterns=True)
            await session.subscribe("$presence.a")
            await session.unsubscribe("b")
            await anyio.wait_all_tasks_blocked()
            assert told.topics == ["b"]
            await session.unsubscribe("b")
        await anyio.wait_all_tasks_blocked()
        assert sorted(told.topics) == ["a", "b", "c", "d.>"]


@pytest.mark.parametrize("way", [by_client, by_server, by_gap, by_leaving])
async def test_a_hook_that_fails_hurts_nobody(
    way: Callable[..., Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    faults = FaultyBackplane()
    gone: list[Any] = []

    async def on_disconnect(session: Any, ending: Any) -> None:
        gone.append(session.client_id)

    hooks = Hooks(
        on_unsubscribe=raising(ZeroDivisionError()), on_disconnect=on_disconnect
    )
    async with Broker(faults, rules=TALKATIVE, hooks=hooks) as broker:
        async with serving(broker, user="ann") as client:
            for channel in ("a", "c", "d"):
                await client.call("subscribe", channel=channel)
                assert "join" in await client.push()
            await way(broker, client, faults)
            await anyio.wait_all_tasks_blocked()
            assert await broker.presence("c") == []
            assert "what follows a session has failed" in caplog.text
        await anyio.wait_all_tasks_blocked()
        assert gone == [client.session.client_id]
        assert await broker.presence("a") == []
        assert await broker.presence("d") == []


async def test_a_hook_that_never_returns_leaves_nobody_present() -> None:
    """Its time is bounded; the rest of the farewell is not its to take."""
    gone: list[Any] = []

    async def on_unsubscribe(session: Any, topic: str) -> None:
        await anyio.sleep_forever()

    async def on_disconnect(session: Any, ending: Any) -> None:
        gone.append(session.client_id)

    backplane = MemoryBackplane()
    hooks = Hooks(on_unsubscribe=on_unsubscribe, on_disconnect=on_disconnect)
    async with Broker(backplane, rules=TALKATIVE, hooks=hooks) as broker:
        async with serving(broker, user="ann") as client:
            for channel in ("a", "b", "c"):
                await client.call("subscribe", channel=channel)
                assert "join" in await client.push()
        await anyio.sleep(60)
        for channel in ("a", "b", "c"):
            assert await broker.presence(channel) == []
        assert gone == [client.session.client_id]
        assert broker.statistics().topics == 0


async def test_a_slow_hook_does_not_hold_up_its_client() -> None:
    async def on_unsubscribe(session: Any, topic: str) -> None:
        await anyio.sleep(4)

    async with Broker(hooks=Hooks(on_unsubscribe=on_unsubscribe)) as broker:
        async with serving(broker, user="ann") as client:
            await client.call("subscribe", channel="c")
            await broker.unsubscribe_client("c", user="ann")
            assert "unsubscribe" in await client.push()
            await anyio.wait_all_tasks_blocked()
            start = anyio.current_time()
            await client.call("subscribe", channel="d")
            assert anyio.current_time() - start < 1


@pytest.mark.parametrize("is_servers", [False, True])
async def test_the_hook_may_subscribe_the_client_to_something_else(
    is_servers: bool,
) -> None:
    """Such as to a waiting room, as it leaves the room."""

    async def on_unsubscribe(session: Any, topic: str) -> None:
        if topic == "c":
            await broker.subscribe_client("lobby", client=session.client_id)

    broker = Broker(hooks=Hooks(on_unsubscribe=on_unsubscribe))
    async with broker, serving(broker, user="ann") as client:
        await client.call("subscribe", channel="c")
        if is_servers:
            await broker.unsubscribe_client("c", user="ann")
        else:
            await client.send({"id": 9, "unsubscribe": {"channel": "c"}})
        lines = await client.rest()
        assert client.session.topics == ["lobby"]
        pushes = [line["push"] for line in lines if "push" in line]
        assert sum("subscribe" in push for push in pushes) == 1


# --- A backplane that fails while a client goes ---


def failing(faults: FaultyBackplane, *failing: str) -> None:
    """Have these calls fail, every time."""
    real = faults.fault

    async def fault(call: str) -> None:
        await real(call)
        if call in failing:
            raise BackplaneError(call)

    faults.fault = fault  # type: ignore[method-assign] # once


@pytest.mark.parametrize("call", ["leave c", "publish $presence.c"])
@pytest.mark.parametrize("way", [by_server, by_gap, by_expiry])
async def test_presence_that_fails_as_a_subscription_is_dropped(
    way: Callable[..., Awaitable[None]], call: str
) -> None:
    """It is that client's bad luck: the broker goes on for all others."""
    told, faults = Told(), FaultyBackplane()
    spoken = protocol(tokens=FakeTokens(), times=PATIENT)
    async with Broker(faults, rules=TALKATIVE, hooks=told.hooks) as broker:
        async with serving(broker, spoken) as other:
            async with serving(broker, spoken, user="ann") as client:
                given = token(sub="ann", channel="c", exp=UNIX + 20)
                await client.call("subscribe", channel="c", token=given)
                failing(faults, call)
                await way(broker, client, faults)
                await anyio.wait_all_tasks_blocked()
                assert told.topics == ["c"]
            await other.call("subscribe", channel="d")
        assert len(told.endings) == 2


async def test_an_unsubscribe_whose_presence_fails() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=TALKATIVE) as broker:
        async with serving(broker) as client:
            await client.call("subscribe", channel="c")
            assert "join" in await client.push()
            failing(faults, "leave c")
            await client.ask("unsubscribe", channel="c")
            assert client.session.topics == []
            async with serving(broker) as other:
                await other.call("subscribe", channel="c")
                assert await client.rest() == []


async def test_presence_that_fails_once_as_a_client_goes() -> None:
    """The other topics are left, and the application is told of all."""
    told, faults = Told(), FaultyBackplane()
    failing(faults, "leave a")
    async with Broker(faults, rules=TALKATIVE, hooks=told.hooks) as broker:
        async with serving(broker) as client:
            for channel in ("a", "b", "c"):
                await client.call("subscribe", channel=channel)
                assert "join" in await client.push()
        await anyio.wait_all_tasks_blocked()
        assert sorted(told.topics) == ["a", "b", "c"]
        assert len(told.endings) == 1
        assert await broker.presence("b") == await broker.presence("c") == []
