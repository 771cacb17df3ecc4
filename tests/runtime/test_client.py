"""Sessions whose clients speak the Centrifuge client protocol, command by command."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio
import pytest

from broker import (
    Access,
    Broker,
    Hooks,
    Limits,
    MemoryBackplane,
    NotAllowed,
    Overflow,
    TopicRules,
    drain,
)
from broker.client_format import JSON
from broker.client_protocol import ClientError
from broker.protocol.rules import ProtocolTimes
from broker.testing import FaultyBackplane

from .client_helpers import UNIX, FakeTokens, protocol, serving, token, unix_now

BAD_REQUEST = (3501, "bad request")
KEPT = [TopicRules(history_size=5, presence=True)]
TALKATIVE = [TopicRules(history_size=5, presence=True, join_leave=True)]


# --- Rules of the conversation ---


async def test_connect_and_its_reply() -> None:
    spoken = protocol(version="1.2")
    async with (
        Broker() as broker,
        serving(broker, spoken, is_connected=False) as client,
    ):
        reply = await client.call("connect", name="py", unknown=[1])
        assert reply == {
            "client": client.session.client_id,
            "version": "1.2",
            "ping": 25,
            "pong": True,
        }


@pytest.mark.parametrize(
    "first", [{"subscribe": {"channel": "c"}}, {"rpc": {}}, {"refresh": {"token": "t"}}]
)
async def test_a_command_before_connect(first: dict[str, Any]) -> None:
    async with Broker() as broker, serving(broker, is_connected=False) as client:
        await client.send({"id": 1, **first}, {"id": 2, "connect": {}})
        assert await client.closed() == BAD_REQUEST
        assert broker.statistics().topics == 0


async def test_a_second_connect() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.send({"id": 2, "connect": {}})
        assert await client.closed() == BAD_REQUEST


async def test_a_pong_that_nobody_asked_for() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.send({})
        assert await client.closed() == BAD_REQUEST


async def test_pings_on_schedule_and_pongs() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        at = []
        for _ in range(4):
            assert await client.next() == {}
            at.append(anyio.current_time())
            await client.send({})
            await broker.publish("c", "1")  # a busy connection is pinged as well
            assert "push" in await client.next()
        assert 12 <= at[0] <= 27
        for before, after in pairwise(at):
            assert 24 <= after - before <= 27
        assert client.session.ending is None


async def test_no_pong() -> None:
    async with Broker() as broker, serving(broker) as client:
        assert await client.next() == {}
        start = anyio.current_time()
        assert await client.closed() == (3012, "no pong")
        assert 7 <= anyio.current_time() - start <= 11


async def test_stale_without_connect() -> None:
    async with Broker() as broker, serving(broker, is_connected=False) as client:
        start = anyio.current_time()
        assert await client.closed() == (3502, "stale")
        assert 9 <= anyio.current_time() - start <= 12


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "\n",
        "garbage",
        "[]",
        '{"id":2,"fly":{}}',
        '{"id":-1,"rpc":{}}',
        '{"id":4294967296,"rpc":{}}',
        '{"id":2,"rpc":{},"send":{}}',
        '{"id":2,"subscribe":{"channel":1}}',
        '{"id":2,"subscribe":{"channel":""}}',
        '{"id":2,"publish":{"channel":"c"}}',
        '{"id":2,"publish":{"channel":"","data":1}}',
        '{"id":2,"refresh":{}}',
        '{"id":2,"rpc":{"data":' + "[" * 200 + "]" * 200 + "}}",
        '{"id":2,"rpc":{"data":' + "9" * 5_000 + "}}",
        "\n".join(['{"id":2,"rpc":{}}'] * 300),
    ],
    ids=lambda frame: ascii(frame[:40]),
)
async def test_nonsense_ends_that_client_alone(frame: str) -> None:
    async with Broker() as broker, serving(broker) as other:
        await other.call("subscribe", channel="c")
        async with serving(broker) as client:
            await client.pipe.send(frame)
            assert await client.closed() == BAD_REQUEST
        await broker.publish("c", "1")
        assert (await other.next())["push"]["pub"]["data"] == 1


async def test_nothing_of_a_bad_frame_is_carried_out() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.pipe.send('{"id":2,"subscribe":{"channel":"c"}}\n{"id":3,"no":{}}')
        assert await client.closed() == BAD_REQUEST
        assert broker.statistics().topics == 0


async def test_an_optimistic_subscribe() -> None:
    """Connect and subscribe in one frame, as centrifuge-js does."""
    async with Broker() as broker, serving(broker, is_connected=False) as client:
        await client.send(
            {"id": 1, "connect": {}},
            {"id": 2, "subscribe": {"channel": "c", "flag": 1}},
        )
        assert set(await client.next()) == {"id", "connect"}
        assert set(await client.next()) == {"id", "subscribe"}
        await broker.publish("c", "{}")
        assert (await client.next())["push"]["channel"] == "c"


# --- Commands ---


async def test_subscribe_and_unsubscribe() -> None:
    async with Broker() as broker, serving(broker) as client:
        assert await client.call("subscribe", channel="c") == {}
        assert await client.error("subscribe", channel="c") == 105
        await broker.publish("c", '{"a":1}')
        push = await client.next()
        assert push == {
            "push": {"channel": "c", "pub": {"data": {"a": 1}, "offset": 1}}
        }
        for _ in range(2):  # not subscribed is no error
            assert await client.call("unsubscribe", channel="c") == {}
        await broker.publish("c", "2")
        assert await client.rest() == []
        assert broker.statistics().topics == 0


@pytest.mark.parametrize("channel", ["a b", "é", "a..b", "*", "$presence.c", "x" * 256])
async def test_bad_channel_names(channel: str) -> None:
    async with Broker() as broker, serving(broker) as client:
        assert await client.error("subscribe", channel=channel) == 107
        assert await client.error("publish", channel=channel, data=1) == 107
        assert await client.call("unsubscribe", channel=channel) == {}


async def test_unknown_namespaces() -> None:
    rules = [TopicRules(namespace="news")]
    async with Broker(rules=rules) as broker, serving(broker) as client:
        assert await client.error("subscribe", channel="olds:a") == 102
        assert client.session.topics == []
        for known in ("news:a", "plain"):
            assert await client.call("subscribe", channel=known) == {}


async def test_publish_comes_back_with_info() -> None:
    async with Broker() as broker:
        async with serving(broker, user="ann") as ann, serving(broker) as other:
            for client in (ann, other):
                await client.call("subscribe", channel="c")
            reply, before = await ann.ask("publish", channel="c", data={"x": None})
            assert reply["publish"] == {}
            mine = before[0] if before else (await ann.next())["push"]
            info = {"user": "ann", "client": ann.session.client_id}
            pub = {"data": {"x": None}, "info": info, "offset": 1}
            assert mine == {"channel": "c", "pub": pub}
            assert (await other.next())["push"] == mine
            await broker.publish("c", "1")  # the server's have none
            assert "info" not in (await other.next())["push"]["pub"]


async def test_access_rules_are_permission_denied() -> None:
    rules = [TopicRules(subscribe=Access.USERS, publish=Access.NOBODY)]
    async with Broker(rules=rules) as broker:
        async with serving(broker) as client, serving(broker, user="ann") as ann:
            assert await client.error("subscribe", channel="c") == 103
            assert await ann.call("subscribe", channel="c") == {}
            assert await ann.error("publish", channel="c", data=1) == 103
            assert await ann.rest() == []


async def test_a_hook_refuses_and_a_hook_fails() -> None:
    async def authorize(session: Any, topic: str) -> None:
        if topic == "no":
            raise NotAllowed
        if topic == "bug":
            raise ZeroDivisionError

    async with Broker(hooks=Hooks(authorize_subscribe=authorize)) as broker:
        async with serving(broker) as client:
            assert await client.error("subscribe", channel="no") == 103
            assert await client.call("subscribe", channel="yes") == {}
            await client.send({"id": 9, "subscribe": {"channel": "bug"}})
            assert await client.closed() == (3004, "internal server error")


async def test_only_members_see_presence_and_history() -> None:
    async with Broker(rules=KEPT) as broker, serving(broker) as client:
        for method in ("presence", "presence_stats", "history"):
            assert await client.error(method, channel="c") == 103
        assert await client.error("sub_refresh", channel="c", token="x") == 103


async def test_what_the_rules_do_not_keep_is_not_available() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        for method in ("presence", "presence_stats", "history"):
            assert await client.error(method, channel="c") == 108
        assert await client.error("rpc", method="m") == 108


async def test_presence_and_its_statistics() -> None:
    async with Broker(rules=KEPT) as broker, serving(broker, user="ann") as client:
        async with serving(broker, user="ann") as again, serving(broker) as other:
            for each in (client, again, other):
                await each.call("subscribe", channel="c")
            found = (await client.call("presence", channel="c"))["presence"]
            assert found == {
                each.session.client_id: {"user": user, "client": each.session.client_id}
                for each, user in ((client, "ann"), (again, "ann"), (other, ""))
            }
            stats = await client.call("presence_stats", channel="c")
            assert stats == {"num_clients": 3, "num_users": 2}
            await other.call("unsubscribe", channel="c")
            stats = await client.call("presence_stats", channel="c")
            assert stats == {"num_clients": 2, "num_users": 1}


async def test_joins_and_leaves_and_ones_own_join_after_the_reply() -> None:
    async with Broker(rules=TALKATIVE) as broker, serving(broker, user="ann") as ann:
        await ann.call("subscribe", channel="c")  # call: no push before the reply
        mine = {"user": "ann", "client": ann.session.client_id}
        assert await ann.next() == {"push": {"channel": "c", "join": {"info": mine}}}
        async with serving(broker) as bob:
            await bob.call("subscribe", channel="c")
            his = {"user": "", "client": bob.session.client_id}
            join = {"push": {"channel": "c", "join": {"info": his}}}
            assert await ann.next() == await bob.next() == join
            await bob.call("unsubscribe", channel="c")
            leave = {"push": {"channel": "c", "leave": {"info": his}}}
            assert await ann.next() == leave
            await bob.call("subscribe", channel="c")
            assert await ann.next() == join
        assert await ann.next() == leave  # the connection has gone
        assert await ann.rest() == []


async def test_history() -> None:
    async with Broker(rules=KEPT) as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        empty = await client.call("history", channel="c", limit=-1)
        assert (empty["publications"], empty["offset"]) == ([], 0)
        for number in range(1, 8):
            await broker.publish("c", str(number))
            await client.next()

        async def ask(**fields: Any) -> list[int]:
            page = await client.call("history", channel="c", **fields)
            assert (page["offset"], page["epoch"]) == (7, empty["epoch"])
            for each in page["publications"]:
                assert each["data"] == each["offset"]
            return [each["data"] for each in page["publications"]]

        epoch = empty["epoch"]
        assert await ask() == await ask(limit=0) == []
        assert await ask(limit=-1) == [3, 4, 5, 6, 7]
        assert await ask(limit=2) == [3, 4]
        assert await ask(limit=2, reverse=True) == [7, 6]
        assert await ask(limit=-1, reverse=True) == [7, 6, 5, 4, 3]
        for known in (epoch, ""):
            since = {"offset": 5, "epoch": known}
            assert await ask(limit=-1, since=since) == [6, 7]
            assert await ask(limit=1, since=since) == [6]
            assert await ask(limit=0, since=since) == []
            # Exclusive in both directions: backwards are those before it.
            assert await ask(limit=-1, since=since, reverse=True) == [4, 3]
            assert await ask(limit=1, since=since, reverse=True) == [4]
        since = {"offset": 7, "epoch": epoch}
        assert await ask(limit=-1, since=since) == []
        for wrong in ({"offset": 5, "epoch": "other"}, {"offset": 9, "epoch": epoch}):
            assert await client.error("history", channel="c", since=wrong) == 112
        wrong = {"offset": 5, "epoch": "other"}
        code = await client.error("history", channel="c", since=wrong, reverse=True)
        assert code == 112


async def test_history_is_cut_to_the_most() -> None:
    spoken = protocol(max_history=2)
    async with Broker(rules=KEPT) as broker, serving(broker, spoken) as client:
        await client.call("subscribe", channel="c")
        for number in range(4):
            await broker.publish("c", str(number))
            await client.next()
        for limit in (-1, 3, 100):
            page = await client.call("history", channel="c", limit=limit)
            assert [each["data"] for each in page["publications"]] == [0, 1]


NO_TEXT: dict[str, Any] = {"dict": {"a": 1}, "nothing": None}


async def test_rpc(caplog: pytest.LogCaptureFixture) -> None:
    async def rpc(session: Any, method: str, data: str) -> Any:
        if method == "own":
            raise ClientError(404, "no such thing", temporary=True)
        if method == "bug":
            raise ZeroDivisionError
        if method in NO_TEXT:
            return NO_TEXT[method]
        return f'{{"you": "{session.user}",\n "said": {data}}}'

    spoken = protocol(rpc=rpc)
    async with Broker() as broker, serving(broker, spoken, user="ann") as client:
        result = await client.call("rpc", method="m", data=[1])
        assert result == {"data": {"you": "ann", "said": [1]}}
        assert (await client.call("rpc", method="m"))["data"]["said"] is None
        reply, _ = await client.ask("rpc", method="own")
        assert reply["error"] == {
            "code": 404,
            "message": "no such thing",
            "temporary": True,
        }
        assert not caplog.records
        reply, _ = await client.ask("rpc", method="bug")
        assert reply["error"]["code"] == 100
        assert reply["error"]["temporary"]
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        for method, kind in (("dict", "dict"), ("nothing", "NoneType")):
            assert await client.error("rpc", method=method) == 100
            assert f"an rpc handler returns JSON text, not {kind}" in caplog.text
        assert await client.call("rpc", method="m")  # it goes on


async def test_send() -> None:
    heard = []

    async def message(session: Any, data: str) -> None:
        heard.append((session.client_id, data))
        if data == '"bug"':
            raise ZeroDivisionError

    async with Broker() as broker, serving(broker, protocol(message=message)) as client:
        await client.send({"send": {"data": {"a": 1}}}, {"send": {"data": "bug"}})
        assert await client.rest() == []
        assert heard == [(client.session.client_id, d) for d in ('{"a": 1}', '"bug"')]
        assert client.session.ending is None


async def test_send_with_nobody_to_hear_it() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.send({"send": {"data": 1}})
        assert await client.closed() == (3508, "not available")


async def test_a_failing_backplane_is_error_100() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=KEPT) as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        faults.is_cut = True
        for method in ("presence", "history"):
            assert await client.error(method, channel="c") == 100
        assert await client.error("publish", channel="c", data=1) == 100
        reply, _ = await client.ask("subscribe", channel="other")
        assert reply["error"]["temporary"]
        faults.is_cut = False
        assert await client.call("subscribe", channel="other")


async def test_presence_that_fails_after_the_reply_makes_the_client_come_again() -> (
    None
):
    """It was told that it is subscribed, so it must be told that it is not."""
    faults = FaultyBackplane()
    async with Broker(faults, rules=TALKATIVE) as broker, serving(broker) as client:
        await broker.presence("c")
        real = faults.fault

        async def fault(call: str) -> None:
            faults.fail_next = int(call == "enter c")
            await real(call)

        faults.fault = fault  # type: ignore[method-assign] # once
        await client.send({"id": 9, "subscribe": {"channel": "c"}})
        assert set(await client.next()) == {"id", "subscribe"}
        push = (await client.next())["push"]
        assert (push["channel"], push["unsubscribe"]["code"]) == ("c", 2500)
        faults.fault = real  # type: ignore[method-assign] # once
        assert await client.rest() == []
        assert client.session.topics == []
        await client.call("subscribe", channel="c")
        assert "join" in (await client.next())["push"]


# --- Limits ---


async def test_max_subscriptions_and_presence_topics_do_not_count() -> None:
    limits = Limits(max_subscriptions=3)
    async with Broker(rules=TALKATIVE, limits=limits) as broker:
        async with serving(broker) as client:
            for name in ("a", "b", "c"):
                await client.call("subscribe", channel=name)
                assert "join" in (await client.next())["push"]
            assert await client.error("subscribe", channel="d") == 106
            assert len(client.session.topics) == 6
            await client.call("unsubscribe", channel="a")
            await client.call("subscribe", channel="d")
            assert "join" in (await client.next())["push"]


async def test_a_refused_subscribe_leaves_nothing() -> None:
    async def authorize(session: Any, topic: str) -> None:
        if topic == "c":
            raise NotAllowed

    hooks = Hooks(authorize_subscribe=authorize)
    async with Broker(rules=TALKATIVE, hooks=hooks) as broker:
        async with serving(broker) as client:
            assert await client.error("subscribe", channel="c") == 103
            assert client.session.topics == []
            await anyio.wait_all_tasks_blocked()
            assert broker.statistics().topics == 0


async def test_max_topics() -> None:
    async with Broker(limits=Limits(max_topics=1)) as broker, serving(broker) as client:
        await client.call("subscribe", channel="a")
        assert await client.error("subscribe", channel="b") == 106


async def test_publish_over_the_size_limit() -> None:
    limits = Limits(max_message_bytes=300)
    async with Broker(limits=limits) as broker, serving(broker) as client:
        assert await client.error("publish", channel="c", data="x" * 240) == 107
        await client.send({"id": 9, "publish": {"channel": "c", "data": "x" * 300}})
        code, reason = await client.closed()
        assert code == 1009
        assert reason


async def test_too_many_messages() -> None:
    limits = Limits(messages_per_s=5, burst_s=1)
    async with Broker(limits=limits) as broker, serving(broker) as client:
        with suppress(anyio.ClosedResourceError):  # ended already
            for number in range(2, 30):
                await client.send({"id": number, "unsubscribe": {"channel": "c"}})
        code, reason = await client.closed()
        assert code == 3013
        assert reason


# --- Slow clients, bursts, the end ---


async def test_a_slow_consumer() -> None:
    limits = Limits(max_outbox_messages=3)
    async with Broker(limits=limits) as broker:
        async with serving(broker, capacity=1) as client:
            await client.call("subscribe", channel="c")
            for number in range(12):
                await broker.publish("c", str(number))
                await anyio.wait_all_tasks_blocked()
            assert await client.closed() == (3008, "slow")


async def test_a_burst_goes_out_as_few_frames_in_order() -> None:
    async with Broker() as broker, serving(broker, capacity=1) as client:
        await client.call("subscribe", channel="c")
        client.sizes.clear()
        for number in range(600):
            await broker.publish("c", json.dumps([number, "line\nbreak"], indent=1))
        got = [(await client.next())["push"]["pub"]["data"] for _ in range(600)]
        assert got == [[number, "line\nbreak"] for number in range(600)]
        most = JSON.wire.max_joined
        assert max(client.sizes) <= most
        assert len(client.sizes) <= 600 / most + 3
        assert await client.rest() == []


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        ('{\r\n "a": [1,\n 2]\n}', {"a": [1, 2]}),
        ("two\nlines", "two\nlines"),
        ("", ""),
        (b'{"a":\n1}', {"a": 1}),
        (b"\xff\n\x00", "/woA"),
        ("\u2028é\x85", "\u2028é\x85"),
    ],
)
async def test_line_breaks_never_break_frames(payload: Any, data: Any) -> None:
    async with Broker(rules=KEPT) as broker, serving(broker) as client:
        await broker.publish("c", payload)
        reply = await client.call("subscribe", channel="c", recover=True)
        assert [each["data"] for each in reply["publications"]] == [data]
        await broker.publish("c", payload)
        assert (await client.next())["push"]["pub"]["data"] == data
        page = await client.call("history", channel="c", limit=-1)
        assert [each["data"] for each in page["publications"]] == [data, data]


async def test_drain_sends_what_waits_and_says_shutdown() -> None:
    async with Broker() as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        await broker.publish("c", "1")
        assert await drain(broker) == 0
        assert (await client.next())["push"]["pub"]["data"] == 1
        assert await client.closed() == (3001, "shutdown")


async def test_disconnected_by_the_application() -> None:
    async with Broker() as broker, serving(broker, user="ann") as client:
        assert await broker.disconnect(user="ann", reason="404") == 1
        code, reason = await client.closed()
        assert (code, reason) == (3503, "force disconnect: 404")


async def test_a_session_subscribed_by_the_server_gets_an_answer() -> None:
    async def greet(session: Any) -> None:
        await session.subscribe("c")

    async with Broker(hooks=Hooks(on_connect=greet)) as broker:
        async with serving(broker) as client:
            assert await client.error("subscribe", channel="c") == 105


async def test_hundreds_of_clients_leave_nothing() -> None:
    """Ten thousand are in ``test_client_leaks``."""
    backplane = MemoryBackplane()
    rules = [TopicRules(presence=True, join_leave=True)]
    async with Broker(backplane, rules=rules) as broker:

        async def visit(number: int) -> None:
            async with serving(broker, user=f"u{number % 7}") as client:
                await client.call("subscribe", channel=f"c.{number}")
                way = number % 4
                if way == 0:
                    await client.ask("publish", channel=f"c.{number}", data=1)
                elif way == 1:
                    await client.ask("unsubscribe", channel=f"c.{number}")
                elif way == 2:
                    await client.pipe.send("nonsense")
                    assert await client.closed() == BAD_REQUEST

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(visit, number)
        await anyio.wait_all_tasks_blocked()
        now = broker.statistics()
        assert now.sessions == now.topics == now.queued_bytes == 0
        assert sum(now.totals.ended.values()) == 200
        core = broker._core()
        assert not core.owners
        assert not core.relay._interests
        assert backplane.topic_count == 0
        assert len(backplane._presence) == 0


# --- Tokens ---


def with_tokens(**options: Any) -> Any:
    return protocol(tokens=FakeTokens(), anonymous=False, **options)


async def test_a_token_says_who_the_client_is() -> None:
    async with Broker(rules=KEPT) as broker:
        connect = {"token": token(sub="ann", exp=UNIX + 1_000)}
        async with serving(broker, with_tokens(), is_connected=False) as client:
            reply = await client.call("connect", **connect)
            assert reply["expires"]
            assert 990 <= reply["ttl"] <= 1_000
            assert client.session.user == "ann"
            await client.call("subscribe", channel="c")
            found = (await client.call("presence", channel="c"))["presence"]
            assert [each["user"] for each in found.values()] == ["ann"]
            assert await broker.disconnect(user="ann") == 1


@pytest.mark.parametrize(
    ("given", "ending"),
    [("forged", (3500, "invalid token")), ("", BAD_REQUEST)],
)
async def test_connecting_with_a_bad_token(given: str, ending: Any) -> None:
    async with Broker() as broker:
        async with serving(broker, with_tokens(), is_connected=False) as client:
            await client.send({"id": 1, "connect": {"token": given}})
            assert await client.closed() == ending


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (token(sub="ann", exp=5), 109),
        (token(sub="ann", expire_at=5), 110),
        (token(sub="full"), 106),
        ("bug", 100),
    ],
)
async def test_a_failed_connect_opens_nothing(given: str, code: int) -> None:
    """Whatever went wrong: no other command is listened to, and it goes stale."""
    async with Broker(limits=Limits(max_sessions_per_user=1)) as broker:
        async with serving(broker, user="full"):
            async with serving(broker, with_tokens(), is_connected=False) as client:
                assert await client.error("connect", token=given) == code
                await client.send(
                    {"id": 2, "subscribe": {"channel": "c"}},
                    {"id": 3, "publish": {"channel": "c", "data": 1}},
                )
                assert await client.rest() == []
                assert client.session.topics == []
                assert await client.closed() == (3502, "stale")


async def test_a_user_that_the_endpoint_knows_needs_no_token() -> None:
    async with Broker() as broker, serving(broker, with_tokens(), user="ann") as client:
        assert client.session.user == "ann"


async def test_refresh_keeps_the_connection_and_expiry_ends_it() -> None:
    times = ProtocolTimes(ping_s=1_000, pong_s=900, expired_s=25)
    async with Broker() as broker:
        connect = {"token": token(sub="ann", exp=UNIX + 50)}
        async with serving(broker, with_tokens(times=times), connect=connect) as client:
            await anyio.sleep_until(60)  # over, and in its grace
            late = token(sub="ann", exp=UNIX + 55)
            assert await client.error("refresh", token=late) == 110
            reply = await client.call("refresh", token=token(sub="ann", exp=UNIX + 100))
            assert reply["expires"]
            assert 35 <= reply["ttl"] <= 40
            assert reply["client"] == client.session.client_id
            assert await client.closed() == (3005, "connection expired")
            assert 124 <= unix_now() - UNIX <= 127


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        (token(sub="bob"), (3500, "invalid token")),
        ("forged", (3500, "invalid token")),
        ("", BAD_REQUEST),
    ],
)
async def test_bad_refreshes(given: str, ending: Any) -> None:
    async with Broker() as broker:
        connect = {"token": token(sub="ann")}
        async with serving(broker, with_tokens(), connect=connect) as client:
            await client.send({"id": 2, "refresh": {"token": given}})
            assert await client.closed() == ending


async def test_subscription_tokens() -> None:
    async with Broker() as broker:
        connect = {"token": token(sub="ann")}
        async with serving(broker, with_tokens(), connect=connect) as client:
            over = token(sub="ann", channel="c", exp=5)
            assert await client.error("subscribe", channel="c", token=over) == 109
            over = token(sub="ann", channel="c", expire_at=5)
            assert await client.error("subscribe", channel="c", token=over) == 110
            assert await client.error("subscribe", channel="c", token="forged") == 103
            good = token(sub="ann", channel="c", exp=UNIX + 500, data={"a": 1})
            reply = await client.call("subscribe", channel="c", token=good)
            assert reply["expires"]
            assert 490 <= reply["ttl"] <= 500
            assert reply["data"] == {"a": 1}
            other = token(sub="ann", channel="other")
            await client.send({"id": 9, "subscribe": {"channel": "d", "token": other}})
            assert await client.closed() == (3500, "invalid token")


async def test_a_subscription_token_decides_alone() -> None:
    """Neither the rules nor the hook are asked; without one they say no."""

    async def nobody(session: Any, topic: str) -> None:
        raise NotAllowed

    rules = [TopicRules(subscribe=Access.NOBODY, presence=True, join_leave=True)]
    async with Broker(rules=rules, hooks=Hooks(authorize_subscribe=nobody)) as broker:
        connect = {"token": token(sub="ann")}
        async with serving(broker, with_tokens(), connect=connect) as client:
            assert await client.error("subscribe", channel="c") == 103
            good = token(sub="ann", channel="c")
            await client.call("subscribe", channel="c", token=good)
            assert "join" in (await client.next())["push"]


async def test_a_subscription_expires_unless_it_is_refreshed() -> None:
    times = ProtocolTimes(ping_s=1_000, pong_s=900, expired_s=25)
    async with Broker(rules=TALKATIVE) as broker:
        connect = {"token": token(sub="ann")}
        async with serving(broker, with_tokens(times=times), connect=connect) as client:
            until_50 = token(sub="ann", channel="c", exp=UNIX + 50)
            await client.call("subscribe", channel="c", token=until_50)
            assert "join" in (await client.next())["push"]
            await anyio.sleep_until(60)
            late = token(sub="ann", channel="c", exp=UNIX + 55)
            assert await client.error("sub_refresh", channel="c", token=late) == 110
            until_100 = token(sub="ann", channel="c", exp=UNIX + 100)
            reply = await client.call("sub_refresh", channel="c", token=until_100)
            assert reply["expires"]
            assert 35 <= reply["ttl"] <= 40
            push = (await client.next())["push"]
            assert push == {
                "channel": "c",
                "unsubscribe": {"code": 2501, "reason": "subscription expired"},
            }
            assert 124 <= unix_now() - UNIX <= 127
            assert await client.rest() == []
            assert client.session.topics == []
            assert await broker.presence("c") == []
            good = token(sub="ann", channel="c")
            await client.call("subscribe", channel="c", token=good)


async def test_overflow_policies_work_with_the_protocol() -> None:
    rules = [TopicRules(pattern="p", overflow=Overflow.DROP_NEWEST)]
    async with Broker(rules=rules) as broker, serving(broker) as client:
        await client.call("subscribe", channel="p")
        await client.call("subscribe", channel="c")
        await broker.publish("p", "1")
        assert (await client.next())["push"]["channel"] == "p"
