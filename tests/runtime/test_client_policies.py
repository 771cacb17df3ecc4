"""Clients of the Centrifuge protocol and what a topic's rules say: resume, overflow.

Also what others may know of a client, and replies that are too large.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import (
    Access,
    Broker,
    Limits,
    Overflow,
    Position,
    Resume,
    TopicRules,
    UsageError,
)
from broker.client_protocol import Connected, Connecting
from broker.state.presence import Member
from broker.testing import FaultyBackplane

from .client_helpers import Client, FakeTokens, protocol, serving, token
from .helpers import connected

LATEST = [TopicRules(history_size=5, resume=Resume.LATEST)]
TALKATIVE = [TopicRules(history_size=5, presence=True, join_leave=True)]
LOST = {"code": 2500, "reason": "insufficient state"}
DRAWN = settings(
    max_examples=60,
    deadline=None,
    # The clock goes on from example to example, which is what clocks do.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


# --- The latest value ---


@pytest.mark.parametrize("since", [0, 1, 4, 9])
async def test_whoever_comes_back_gets_the_latest(since: int) -> None:
    async with Broker(rules=LATEST) as broker, serving(broker) as client:
        for number in range(1, 5):
            await broker.publish("c", str(number))
        fresh = await client.call("subscribe", channel="c")
        assert "publications" not in fresh
        assert fresh["recoverable"]
        epoch, top = fresh["epoch"], fresh["offset"]
        for known in ("", "other", epoch):
            await client.call("unsubscribe", channel="c")
            reply = await client.call(
                "subscribe",
                channel="c",
                recover=True,
                offset=since,
                epoch=known,
                flag=2,
            )
            assert (reply["recovered"], reply["offset"]) == (True, top)
            has_it = (known, since) == (epoch, top)
            found = [each["data"] for each in reply.get("publications", [])]
            assert found == ([] if has_it else [4])
        await broker.publish("c", "5")
        assert (await client.push())["pub"]["offset"] == 5


@pytest.mark.parametrize("way", ["nothing yet", "expired", "removed"])
async def test_there_is_no_latest(way: str) -> None:
    async with Broker(rules=LATEST) as broker:
        async with serving(broker) as client, broker.subscribe("c"):
            if way != "nothing yet":
                await broker.publish("c", "1")
            if way == "removed":
                await broker.clear_history("c")
            if way == "expired":
                for _ in range(400):
                    assert await client.next() == {}
                    await client.send({})
                    if anyio.current_time() > 320:
                        break
            asked: dict[str, Any] = {"channel": "c", "recover": True}
            assert await client.error("subscribe", flag=2, **asked) == 112
            reply = await client.call("subscribe", **asked)
            assert reply["was_recovering"]
            assert "recovered" not in reply
            assert "publications" not in reply


@DRAWN
@given(
    before=st.integers(0, 3),
    pauses=st.lists(st.integers(0, 10), max_size=6),
    delay_s=st.sampled_from([0.0, 0.01]),
    overflow=st.sampled_from([Overflow.DISCONNECT, Overflow.CONFLATE]),
)
async def test_the_latest_is_the_last_that_a_client_sees(
    before: int, pauses: list[int], delay_s: float, overflow: Overflow
) -> None:
    """In order, none twice, whenever it is published."""
    rules = [TopicRules(history_size=5, resume=Resume.LATEST, overflow=overflow)]
    faults = FaultyBackplane()
    async with Broker(faults, rules=rules) as broker, serving(broker) as client:
        async with broker.subscribe("c"):
            for number in range(1, before + 1):
                await broker.publish("c", str(number))
            faults.delay_s = delay_s

            async def publisher() -> None:
                for number, pause in enumerate(pauses, before + 1):
                    for _ in range(pause):
                        if delay_s:
                            await anyio.sleep(delay_s / 4)
                        else:
                            await anyio.lowlevel.checkpoint()
                    await broker.publish("c", str(number))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publisher)
                await client.send(
                    {"id": 9, "subscribe": {"channel": "c", "recover": True}}
                )
            await anyio.sleep(1)
            reply, *live = await client.rest()
        publications = reply["subscribe"].get("publications", [])
        publications += [line["push"]["pub"] for line in live]
        offsets = [each["offset"] for each in publications]
        assert offsets == sorted(set(offsets))
        last = before + len(pauses)
        if last:
            assert offsets[-1] == last


async def test_nothing_is_resumed_where_rules_say_so() -> None:
    rules = [TopicRules(history_size=5, resume=Resume.NOTHING)]
    async with Broker(rules=rules) as broker, serving(broker) as client:
        await broker.publish("c", "1")
        asked: dict[str, Any] = {"channel": "c", "recover": True}
        assert await client.error("subscribe", flag=2, **asked) == 112
        reply = await client.call("subscribe", **asked)
        for word in ("recovered", "publications", "epoch", "recoverable", "positioned"):
            assert word not in reply
        page = await client.call("history", channel="c", limit=-1)
        assert len(page["publications"]) == 1  # history is another matter


async def test_who_may_read_presence_and_history() -> None:
    rules = [
        TopicRules(
            history_size=5,
            presence=True,
            read_history=Access.USERS,
            read_presence=Access.NOBODY,
        )
    ]
    async with Broker(rules=rules) as broker:
        await broker.publish("c", "1")
        async with serving(broker) as guest, serving(broker, user="ann") as ann:
            for client, code in ((guest, 103), (ann, None)):
                reply = await client.call("subscribe", channel="c", recover=True)
                assert len(reply["publications"]) == 1  # resume is for all
                for method in ("presence", "presence_stats"):
                    assert await client.error(method, channel="c") == 103
                if code:
                    assert await client.error("history", channel="c", limit=1) == code
                else:
                    await client.call("history", channel="c", limit=1)


# --- Overflow ---


@pytest.mark.parametrize(
    "overflow", [Overflow.CONFLATE, Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]
)
async def test_a_policy_that_drops_drops_in_silence(overflow: Overflow) -> None:
    rules = [TopicRules(history_size=5, overflow=overflow)]
    limits = Limits(max_outbox_messages=4)
    async with Broker(rules=rules, limits=limits) as broker:
        async with serving(broker, capacity=0) as client:
            reply = await client.call("subscribe", channel="c")
            assert reply["recoverable"]
            assert "positioned" not in reply
            for number in range(1, 50):
                await broker.publish("c", str(number))
            lines = await client.rest()
            got = [line["push"]["pub"]["data"] for line in lines]
            assert got == sorted(set(got))
            assert len(got) < 20
            assert (got[-1] == 49) == (overflow is not Overflow.DROP_NEWEST)
            assert client.session.topics == ["c"]
            assert client.session.ending is None


async def test_the_loss_of_joins_is_told_whatever_the_policy() -> None:
    """Who misses one has a wrong list of those present, and gets it anew."""
    rules = [TopicRules(presence=True, join_leave=True, overflow=Overflow.DROP_OLDEST)]
    faults = FaultyBackplane()
    async with Broker(faults, rules=rules) as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        assert "join" in await client.push()
        async with serving(broker) as other:
            faults.drop_next = 1
            await other.call("subscribe", channel="c")
            await other.call("unsubscribe", channel="c")
            assert await client.push() == {"channel": "c", "unsubscribe": LOST}
            assert client.session.topics == []


async def test_a_client_does_not_hold_up_publishers() -> None:
    rules = [TopicRules(history_size=5, overflow=Overflow.BLOCK)]
    limits = Limits(max_outbox_messages=3, block_s=1_000)
    async with Broker(rules=rules, limits=limits) as broker:
        async with serving(broker, capacity=1) as client:
            await client.call("subscribe", channel="c")
            with anyio.fail_after(5):
                for number in range(20):
                    await broker.publish("c", str(number))
            assert await client.closed() == (3008, "slow")


# --- Info ---


ODD = [
    {"a": [{"b": [None, True, 1.5e300, "\u00e9\u2028\U0001f384"]}]},
    "line\nbreak\r\n",
    [],
    0,
    False,
    "",
    "x" * 60_000,
    [[[[[[["deep"]]]]]]],
    {"conn_info": 1, "chan_info": 2, "user": "other", "client": "other"},
]


@pytest.mark.parametrize("info", ODD, ids=lambda info: ascii(info)[:30])
async def test_info_of_the_connection(info: Any) -> None:
    """As the application gave it: in presence, joins, leaves, publications, history."""

    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(user="ann", info=json.dumps(info, indent=1))

    async with Broker(rules=TALKATIVE) as broker, serving(broker) as other:
        await other.call("subscribe", channel="c")
        assert "join" in await other.push()
        async with serving(broker, protocol(connect=connect)) as client:
            known = {"user": "ann", "client": client.session.client_id}
            known["conn_info"] = info
            await client.call("subscribe", channel="c")
            assert (await client.push())["join"]["info"] == known
            assert (await other.push())["join"]["info"] == known
            reply, pushes = await client.ask("publish", channel="c", data=1)
            assert "publish" in reply
            assert [push["pub"]["info"] for push in pushes] == [known]
            assert (await other.push())["pub"]["info"] == known
            found = (await other.call("presence", channel="c"))["presence"]
            assert found[client.session.client_id] == known
            stats = await other.call("presence_stats", channel="c")
            assert stats == {"num_clients": 2, "num_users": 2}
            page = await other.call("history", channel="c", limit=1)
            assert page["publications"][0]["info"] == known
            await client.call("unsubscribe", channel="c")
            assert (await other.push())["leave"]["info"] == known


@pytest.mark.parametrize("info", ODD[:-3], ids=lambda info: ascii(info)[:30])
async def test_info_of_the_subscription(info: Any) -> None:
    spoken = protocol(tokens=FakeTokens())
    async with Broker(rules=TALKATIVE) as broker:
        connect = {"token": token(sub="ann", info={"n": 1})}
        async with serving(broker, spoken, connect=connect) as client:
            asked = token(sub="ann", channel="c", info=info)
            if len(asked) > 50_000:
                return
            await client.call("subscribe", channel="c", token=asked)
            known = (await client.push())["join"]["info"]
            assert (known["conn_info"], known["chan_info"]) == ({"n": 1}, info)
            _, pushes = await client.ask("publish", channel="c", data=1)
            assert pushes[0]["pub"]["info"] == known
            found = (await client.call("presence", channel="c"))["presence"]
            assert found == {client.session.client_id: known}
            # Of this channel alone.
            await client.call("subscribe", channel="d")
            assert "chan_info" not in (await client.push())["join"]["info"]


async def test_of_an_anonymous_client_nothing_is_known() -> None:
    async with Broker(rules=TALKATIVE) as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        known = {"user": "", "client": client.session.client_id}
        assert (await client.push())["join"]["info"] == known
        _, pushes = await client.ask("publish", channel="c", data=1)
        assert pushes[0]["pub"]["info"] == known
        # A client cannot make itself known by what it sends.
        await client.ask("publish", channel="c", data={"info": {"user": "root"}})
        page = await client.call("history", channel="c", limit=-1)
        assert [each["info"] for each in page["publications"]] == [known, known]


async def test_more_info_than_a_message_holds() -> None:
    """That client is refused, once; nobody else notices."""

    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(info=json.dumps("x" * 70_000))

    async with Broker(rules=TALKATIVE) as broker, serving(broker) as other:
        await other.call("subscribe", channel="c")
        assert "join" in await other.push()
        async with serving(broker, protocol(connect=connect)) as client:
            await client.send({"id": 9, "subscribe": {"channel": "c"}})
            lines = await client.rest()
            replies = [line for line in lines if line.get("id") == 9]
            assert len(replies) == 1
            if "error" in replies[0]:
                assert client.session.topics == []
        await anyio.wait_all_tasks_blocked()
        assert len(await broker.presence("c")) == 1
        await broker.publish("c", "1")
        pushes = [line["push"] for line in await other.rest()]
        assert pushes[-1]["pub"]["data"] == 1


@pytest.mark.parametrize("info", ['"admin"', "[1]", "1", '{"name":"ann"}', "no JSON"])
async def test_info_of_plain_sessions_among_clients(info: str) -> None:
    """Whoever watches the channel can read it, and lives."""
    async with Broker(rules=TALKATIVE) as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        assert "join" in await client.push()
        async with connected(broker, user="ann") as (_, session):
            try:
                await broker.subscribe_client("c", client=session.client_id, info=info)
            except UsageError:
                assert info == "no JSON"
                return
            known = (await client.push())["join"]["info"]
            assert known["client"] == session.client_id
            expected = info if info == "no JSON" else json.loads(info)
            assert known["chan_info"] == expected
            found = (await client.call("presence", channel="c"))["presence"]
            assert found[session.client_id] == known


# --- Large replies ---


async def test_pages_of_a_large_history() -> None:
    rules = [TopicRules(history_size=300)]
    async with Broker(rules=rules) as broker, serving(broker) as client:
        for number in range(300):
            text = f"{number}:" + "é" * 4_096
            await broker.publish("c", json.dumps(text, ensure_ascii=False))
        await client.call("subscribe", channel="c")
        got: list[int] = []
        page = await client.call("history", channel="c", limit=-1)
        while page["publications"]:
            assert page["offset"] == 300
            got += [int(each["data"].split(":")[0]) for each in page["publications"]]
            since = {"offset": page["publications"][-1]["offset"]}
            since["epoch"] = page["epoch"]
            page = await client.call("history", channel="c", limit=-1, since=since)
        assert got == list(range(300))
        assert client.session.ending is None


@pytest.mark.parametrize("size", [20, 35, 50])
async def test_a_page_is_never_too_large_to_send(size: int) -> None:
    """What is around the publications counts as well."""
    rules = [TopicRules(history_size=300)]
    limits = Limits(max_message_bytes=2_000, max_outbox_bytes=8_000)
    async with Broker(rules=rules, limits=limits) as broker:
        async with serving(broker) as client:
            for _ in range(300):
                await broker.publish("c", '"' + "x" * size + '"')
            await client.call("subscribe", channel="c")
            page = await client.call("history", channel="c", limit=-1)
            assert 30 < len(page["publications"]) < 300


async def test_changes_are_counted_as_they_are_sent() -> None:
    """A JSON text in a string takes more: nobody is slow for having been away."""
    rules = [TopicRules(history_size=10, delta=True)]
    limits = Limits(max_message_bytes=1_000, max_outbox_bytes=4_000)
    async with Broker(rules=rules, limits=limits) as broker:
        async with serving(broker) as client:
            for _ in range(2):
                await broker.publish("c", '"' + "\\\\" * 480 + '"')
            reply = await client.call(
                "subscribe", channel="c", recover=True, delta="fossil"
            )
            assert reply["was_recovering"]
            assert client.session.ending is None


async def test_presence_of_thousands() -> None:
    """Too large for one reply: an error, and the session lives."""
    rules = [TopicRules(presence=True)]
    async with Broker(rules=rules) as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        link = broker._core().link
        for number in range(3_000):
            info = json.dumps({"conn_info": "x" * 200})
            await link.enter("c", Member(f"client-{number}", f"u{number % 7}", info))
        assert await client.error("presence", channel="c") == 106
        stats = await client.call("presence_stats", channel="c")
        assert stats == {"num_clients": 3_001, "num_users": 8}
        await client.call("unsubscribe", channel="c")


@pytest.mark.parametrize(("size", "is_sent"), [(500_000, True), (600_000, False)])
async def test_answers_of_the_application(size: int, is_sent: bool) -> None:
    async def rpc(session: Any, method: str, data: Any) -> str:
        return '"' + "x" * size + '"'

    async with Broker() as broker, serving(broker, protocol(rpc=rpc)) as client:
        if is_sent:
            assert len((await client.call("rpc"))["data"]) == size
        else:
            assert await client.error("rpc") == 106
        assert await client.call("unsubscribe", channel="c") == {}


# --- Waiting for more ---


async def frames_of(client: Client, broker: Broker, pause_s: float) -> list[int]:
    """Return how many lines each frame of ten publications has."""
    await client.call("subscribe", channel="c")
    client.sizes.clear()
    for number in range(10):
        await broker.publish("c", str(number))
        await anyio.sleep(pause_s)
    got = [(await client.push())["pub"]["data"] for _ in range(10)]
    assert got == list(range(10))
    return client.sizes


@pytest.mark.parametrize("pause_s", [0.0, 0.01, 0.04])
async def test_a_delay_joins_more(pause_s: float) -> None:
    async with Broker() as broker:
        async with serving(broker, protocol(write_delay_s=0.5)) as client:
            assert max(await frames_of(client, broker, pause_s)) >= 9


async def test_without_a_delay_nothing_waits_for_a_timer() -> None:
    async with Broker() as broker, serving(broker) as client:
        assert await frames_of(client, broker, 0.1) == [1] * 10
        start = anyio.current_time()
        for _ in range(100):
            await client.call("unsubscribe", channel="d")
        assert anyio.current_time() == start


async def test_what_is_delayed_is_sent_at_the_end() -> None:
    async with Broker() as broker:
        async with serving(broker, protocol(write_delay_s=1), user="ann") as client:
            await client.call("subscribe", channel="c")
            await anyio.sleep(5)
            await broker.publish("c", "1")
            await anyio.wait_all_tasks_blocked()
            await broker.publish("c", "2")
            await broker.disconnect(user="ann")
            lines = await client.rest_of_all()
            assert [line["push"]["pub"]["data"] for line in lines] == [1, 2]


@pytest.mark.parametrize("delay_s", [-0.1, 1.1, float("nan")])
def test_a_delay_out_of_range(delay_s: float) -> None:
    with pytest.raises(UsageError, match="write_delay_s"):
        protocol(write_delay_s=delay_s)


async def test_removed_history_cannot_be_resumed() -> None:
    rules = [TopicRules(history_size=5)]
    async with Broker(rules=rules) as broker, serving(broker) as client:
        position = Position("", 0)
        for number in range(1, 4):
            position = (await broker.publish("c", str(number))).position
        await broker.clear_history("c")
        epoch = position.epoch
        asked: dict[str, Any] = {"channel": "c", "recover": True, "epoch": epoch}
        assert await client.error("subscribe", offset=2, flag=2, **asked) == 112
        reply = await client.call("subscribe", offset=3, flag=2, **asked)
        assert reply["recovered"]  # it has missed nothing
        await broker.publish("c", "4")
        assert (await client.push())["pub"]["offset"] == 4
        page = await client.call("history", channel="c", limit=-1)
        assert [each["offset"] for each in page["publications"]] == [4]
        assert (page["offset"], page["epoch"]) == (4, epoch)
