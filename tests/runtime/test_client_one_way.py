"""Clients of the Centrifuge protocol that only listen: bare pushes, line by line."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from broker import Access, Broker, Hooks, NotAllowed, TopicRules
from broker.client_format import ONE_WAY
from broker.client_protocol import ClientError, ClientProtocol, Connected, Connecting
from broker.protocol.rules import ProtocolTimes
from broker.testing import FaultyBackplane

from .client_helpers import UNIX, Client, FakeTokens, protocol, serving, token

KEPT = [TopicRules(history_size=5)]
PATIENT = ProtocolTimes(ping_s=1_000, pong_s=900)


def listening(
    broker: Broker, spoken: ClientProtocol | None = None, **options: Any
) -> Any:
    """Serve a client that has said nothing yet."""
    return serving(broker, spoken, speaks=ONE_WAY, is_connected=False, **options)


async def begun(client: Client, **request: Any) -> Any:
    """Say hello and return what comes first."""
    await client.send(request)
    line = await client.next()
    assert set(line) == {"connect"}, line
    return line["connect"]


def refusing(error: Exception) -> Any:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        raise error

    return connect


async def test_the_welcome_and_what_follows() -> None:
    async with Broker(rules=KEPT) as broker, listening(broker) as client:
        welcome = await begun(client, subs={"c": {}}, name="sse")
        assert welcome["subs"]["c"].pop("epoch")
        assert welcome == {
            "client": client.session.client_id,
            "version": "asgi-broker",
            "subs": {"c": {"recoverable": True, "positioned": True}},
            "ping": 25,
        }
        await broker.publish("c", '{"a":1}')
        push = {"channel": "c", "pub": {"data": {"a": 1}, "offset": 1}}
        assert await client.next() == push
        await client.session.send('"for you"')
        assert await client.next() == {"message": {"data": "for you"}}


async def test_an_empty_hello_is_one() -> None:
    async with Broker() as broker, listening(broker) as client:
        assert "subs" not in await begun(client)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "[]",
        "1",
        "{",
        "{}\n{}",
        '{"token":1}',
        '{"subs":[]}',
        '{"subs":{"c":1}}',
        '{"subs":{"c":{"offset":-1}}}',
        '{"data":' + "[" * 200 + "]" * 200 + "}",
    ],
    ids=lambda frame: ascii(frame[:30]),
)
async def test_a_hello_that_is_none(frame: str) -> None:
    async with Broker() as broker, listening(broker) as client:
        await client.pipe.send(frame)
        assert await client.closed() == (3501, "bad request")
        assert broker.statistics().topics == 0


async def test_whatever_else_it_says_is_ignored() -> None:
    async with Broker() as broker, listening(broker) as client:
        await begun(client, subs={"c": {}})
        for frame in ("{}", "nonsense", '{"id":2,"subscribe":{"channel":"d"}}', ""):
            await client.pipe.send(frame)
        assert await client.rest() == []
        assert client.session.topics == ["c"]
        await broker.publish("c", "1")
        assert (await client.next())["pub"]["data"] == 1


async def test_pings_that_nobody_answers() -> None:
    async with Broker() as broker, listening(broker) as client:
        assert "pong" not in await begun(client)
        at = []
        for _ in range(4):
            assert await client.next() == {}
            at.append(anyio.current_time())
        assert 24 <= at[-1] - at[-2] <= 27
        assert client.session.ending is None


async def test_it_has_to_say_hello() -> None:
    async with Broker() as broker, listening(broker) as client:
        assert await client.closed() == (3502, "stale")


# --- What it may not have ---


async def test_subs_that_it_may_not_have_are_left_out() -> None:
    """Without a word: it has no other way to ask, and the rest is still its own."""

    async def authorize(session: Any, topic: str) -> None:
        if topic == "hook":
            raise NotAllowed

    async def subscribe(session: Any, channel: str, data: Any) -> None:
        if channel == "handler":
            raise NotAllowed
        if channel == "error":
            raise ClientError(1_000, "no")

    rules = [TopicRules(pattern="rule", subscribe=Access.NOBODY), TopicRules()]
    names = ["hook", "handler", "error", "rule", "#ann", "x:c", "a b", "", "a.*", "ok"]
    async with Broker(
        rules=rules, hooks=Hooks(authorize_subscribe=authorize)
    ) as broker:
        async with listening(
            broker, protocol(subscribe=subscribe), user="bob"
        ) as client:
            welcome = await begun(client, subs={name: {} for name in names})
            assert list(welcome["subs"]) == ["ok"]
            assert client.session.topics == ["ok"]


async def test_what_the_server_adds_comes_first() -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(channels=["mine"])

    async with Broker(rules=KEPT) as broker:
        receipt = await broker.publish("yours", "1")
        async with listening(broker, protocol(connect=connect)) as client:
            position = {"recover": True, "epoch": receipt.position.epoch}
            welcome = await begun(client, subs={"yours": position, "mine": position})
            assert list(welcome["subs"]) == ["mine", "yours"]
            assert welcome["subs"]["yours"]["recovered"]
            assert len(welcome["subs"]["yours"]["publications"]) == 1
            assert "recovered" not in welcome["subs"]["mine"]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (NotAllowed("no"), (3507, "permission denied")),
        (ClientError(101, "who are you"), (3507, "permission denied")),
        (ClientError(109, "token expired"), (3005, "connection expired")),
        (ClientError(1_000, "no"), (3501, "bad request")),
        (ClientError(1_000, "later", temporary=True), (3004, "internal server error")),
        (ZeroDivisionError("bug"), (3004, "internal server error")),
    ],
)
async def test_errors_close_the_connection(error: Exception, ending: Any) -> None:
    """There is no reply to put them into."""
    async with Broker() as broker:
        async with listening(broker, protocol(connect=refusing(error))) as client:
            await client.send({})
            assert await client.rest_of_all() == []
            assert (client.pipe.close_code, client.pipe.close_reason) == ending


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (token(sub="ann", exp=5), 3005),
        (token(sub="ann", expire_at=5), 3005),
        ("forged", 3500),
        ("", 3501),
        (token(sub="ann", channels=["a", "b c"]), 3501),
        ("bug", 3004),
    ],
)
async def test_tokens(given: str, code: int) -> None:
    spoken = protocol(tokens=FakeTokens(), anonymous=False)
    async with Broker(rules=[TopicRules(presence=True)]) as broker:
        async with listening(broker, spoken) as client:
            await client.send({"token": given})
            assert (await client.closed())[0] == code
            assert await broker.presence("a") == []


async def test_a_welcome_that_is_too_large() -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(channels=["c"], data='"' + "x" * 1_100_000 + '"')

    async with Broker() as broker:
        async with listening(broker, protocol(connect=connect)) as client:
            await client.send({})
            assert (await client.closed())[0] == 3501


# --- What it is told ---


async def test_runtime_subscriptions() -> None:
    async with Broker(rules=KEPT) as broker:
        async with listening(broker, user="ann") as client:
            await begun(client)
            await broker.publish("c", "1")
            assert await broker.subscribe_client("c", user="ann", data="1") == 1
            push = await client.next()
            assert push["channel"] == "c"
            assert push["subscribe"]["offset"] == push["subscribe"]["data"] == 1
            assert await broker.unsubscribe_client("c", user="ann") == 1
            push = await client.next()
            assert push == {
                "channel": "c",
                "unsubscribe": {"code": 2000, "reason": "server unsubscribe"},
            }


async def test_a_refreshed_connection_is_told_so() -> None:
    spoken = protocol(tokens=FakeTokens(), times=PATIENT)
    async with Broker() as broker, listening(broker, spoken) as client:
        welcome = await begun(client, token=token(sub="ann", exp=UNIX + 50))
        assert welcome["expires"]
        assert 49 <= welcome["ttl"] <= 50
        assert await broker.refresh_client(user="ann", expires_at=UNIX + 100) == 1
        refresh = (await client.next())["refresh"]
        assert refresh["expires"]
        assert 98 <= refresh["ttl"] <= 100
        assert await broker.refresh_client(user="ann", expires_at=None) == 1
        assert await client.next() == {"refresh": {}}
        await anyio.sleep(500)
        assert client.session.ending is None
        await broker.refresh_client(user="ann", expires_at=UNIX)
        assert await client.closed() == (3005, "connection expired")


async def test_a_gap_closes_the_connection() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=KEPT) as broker:
        async with listening(broker) as client:
            await begun(client, subs={"c": {}})
            faults.drop_next = 1
            for number in range(3):
                await broker.publish("c", str(number))
            assert await client.rest_of_all() == []
            assert client.pipe.close_code == 3010


async def test_joins_and_bursts_are_lines_of_their_own() -> None:
    rules = [TopicRules(presence=True, join_leave=True)]
    async with Broker(rules=rules) as broker:
        async with listening(broker, capacity=1) as client:
            await begun(client, subs={"c": {}})
            join = (await client.next())["join"]["info"]
            assert join["client"] == client.session.client_id
            for number in range(100):
                await broker.publish("c", f'{{"n":\n{number}}}')
            got = [(await client.next())["pub"]["data"]["n"] for _ in range(100)]
            assert got == list(range(100))
            assert max(client.sizes) > 1
