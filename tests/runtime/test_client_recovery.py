"""Clients of the Centrifuge protocol that come back: no gap and no repeat."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import Broker, Limits, Overflow, TopicRules
from broker.testing import FaultyBackplane

from .client_helpers import Client, protocol, serving

KEPT = [TopicRules(history_size=5)]
TALKATIVE = [TopicRules(history_size=5, presence=True, join_leave=True)]
DRAWN = settings(
    max_examples=60,
    deadline=None,
    # The clock goes on from example to example, which is what clocks do.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


async def publish(broker: Broker, *numbers: int) -> None:
    for number in numbers:
        await broker.publish("c", str(number))


def found(reply: Any) -> list[int]:
    """Return the publications of a reply, whose data must be their offsets."""
    publications = reply.get("publications", [])
    assert all(each["data"] == each["offset"] for each in publications)
    return [each["data"] for each in publications]


async def subscribed(client: Client, **fields: Any) -> Any:
    """Subscribe, and leave out what every reply of a kept channel says."""
    reply = await client.call("subscribe", channel="c", **fields)
    assert reply.pop("recoverable")
    assert reply.pop("positioned")
    return reply


async def test_a_plain_subscribe_says_where_the_channel_is() -> None:
    async with Broker(rules=KEPT) as broker, serving(broker) as client:
        reply = await subscribed(client)
        assert set(reply) == {"epoch"}  # an offset of 0 is left out
        await client.call("unsubscribe", channel="c")
        await publish(broker, 1, 2)
        assert await subscribed(client) == {"epoch": reply["epoch"], "offset": 2}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("flag", [0, 1, 2, 3])
@pytest.mark.parametrize("since", [2, 3, 5, 7])
async def test_recovered(since: int, flag: int, is_known: bool) -> None:
    async with Broker(rules=KEPT) as broker:
        async with serving(broker) as client, serving(broker) as other:
            epoch = (await subscribed(other))["epoch"]
            await publish(broker, 1, 2, 3, 4, 5, 6, 7)
            reply = await subscribed(
                client,
                recover=True,
                offset=since,
                epoch=epoch if is_known else "",
                flag=flag,
            )
            assert found(reply) == list(range(since + 1, 8))
            reply.pop("publications", None)
            assert reply == {
                "epoch": epoch,
                "offset": since,  # the SDK goes on from the publications
                "was_recovering": True,
                "recovered": True,
            }
            await publish(broker, 8)
            assert (await client.next())["push"]["pub"]["offset"] == 8


@pytest.mark.parametrize(
    ("offset", "epoch"),
    [(1, None), (0, None), (8, None), (3, "other"), (7, "other"), (1, "")],
    ids=["trimmed", "from the start", "future", "epoch", "epoch at top", "any epoch"],
)
async def test_not_recovered(offset: int, epoch: str | None) -> None:
    async with Broker(rules=KEPT) as broker:
        async with serving(broker) as client, serving(broker) as other:
            real = (await subscribed(other))["epoch"]
            await publish(broker, 1, 2, 3, 4, 5, 6, 7)
            asked = {
                "recover": True,
                "offset": offset,
                "epoch": real if epoch is None else epoch,
            }
            code = await client.error("subscribe", channel="c", flag=2, **asked)
            assert code == 112
            assert client.session.topics == []
            await publish(broker, 8)
            assert await client.rest() == []  # refused is not subscribed
            if offset == 8:
                return  # no longer in the future
            reply = await subscribed(client, flag=1, **asked)
            assert reply == {"epoch": real, "offset": 8, "was_recovering": True}
            await publish(broker, 9)
            assert (await client.next())["push"]["pub"]["offset"] == 9


async def test_more_missed_than_may_be_recovered() -> None:
    spoken = protocol(max_recovered=2)
    async with Broker(rules=KEPT) as broker, serving(broker, spoken) as client:
        epoch = (await subscribed(client))["epoch"]
        await client.call("unsubscribe", channel="c")
        await publish(broker, 1, 2, 3)
        asked = {"recover": True, "epoch": epoch}
        assert await client.error("subscribe", channel="c", flag=2, **asked) == 112
        reply = await subscribed(client, **asked)
        assert reply == {"epoch": epoch, "offset": 3, "was_recovering": True}
        await client.call("unsubscribe", channel="c")
        assert found(await subscribed(client, offset=1, **asked)) == [2, 3]


async def test_more_bytes_missed_than_an_outbox_holds() -> None:
    """It is told so; ended as slow, it would come back for the same again."""
    limits = Limits(max_message_bytes=1_000, max_outbox_bytes=4_000)
    async with Broker(rules=KEPT, limits=limits) as broker:
        async with serving(broker) as client:
            for _ in range(5):
                await broker.publish("c", '"' + "x" * 900 + '"')
            reply = await subscribed(client, recover=True)
            assert reply.pop("epoch")
            assert reply == {"offset": 5, "was_recovering": True}
            await client.call("unsubscribe", channel="c")
            reply = await subscribed(client, recover=True, offset=4)
            assert reply["recovered"]
            assert len(reply["publications"]) == 1


async def test_recovery_of_a_channel_that_nobody_knows_yet() -> None:
    """``since: {}`` on the first subscription: nothing was missed of nothing."""
    async with Broker(rules=KEPT) as broker, serving(broker) as client:
        reply = await subscribed(client, recover=True)
        assert reply.pop("epoch")
        assert reply == {"was_recovering": True, "recovered": True}
        await client.call("unsubscribe", channel="c")
        code = await client.error(
            "subscribe", channel="other", recover=True, offset=1, flag=2
        )
        assert code == 112


async def test_recovery_where_nothing_is_kept() -> None:
    async with Broker() as broker, serving(broker) as client:
        reply = await client.call("subscribe", channel="c", recover=True)
        assert reply == {"was_recovering": True}
        await client.call("unsubscribe", channel="c")
        assert await client.error("subscribe", channel="c", recover=True, flag=2) == 112


async def test_a_refused_recovery_leaves_presence_too() -> None:
    async with Broker(rules=TALKATIVE) as broker, serving(broker) as client:
        code = await client.error(
            "subscribe", channel="c", recover=True, epoch="other", flag=2
        )
        assert code == 112
        assert client.session.topics == []
        assert await broker.presence("c") == []
        assert await client.rest() == []


async def test_unsubscribe_and_come_back_again_and_again() -> None:
    async with Broker(rules=KEPT) as broker, serving(broker) as client:
        epoch = (await subscribed(client))["epoch"]
        got: list[int] = []
        for number in range(1, 20, 3):
            await publish(broker, number)
            got.append((await client.next())["push"]["pub"]["offset"])
            await client.call("unsubscribe", channel="c")
            await publish(broker, number + 1, number + 2)
            reply = await subscribed(client, recover=True, offset=number, epoch=epoch)
            got += found(reply)
        assert got == list(range(1, 22))


# --- While others publish ---


@DRAWN
@given(
    before=st.integers(0, 4),
    pauses=st.lists(st.integers(0, 12), max_size=8),
    recover=st.booleans(),
    is_known=st.booleans(),
    delay_s=st.sampled_from([0.0, 0.01]),
    overflow=st.sampled_from([Overflow.DISCONNECT, Overflow.DROP_OLDEST]),
    presence=st.booleans(),
)
async def test_published_while_a_client_subscribes(
    before: int,
    pauses: list[int],
    recover: bool,
    is_known: bool,
    delay_s: float,
    overflow: Overflow,
    presence: bool,
) -> None:
    """The reply comes first, and with what follows it makes the whole, in order."""
    rules = [
        TopicRules(
            history_size=100, overflow=overflow, presence=presence, join_leave=presence
        )
    ]
    faults = FaultyBackplane()
    async with Broker(faults, rules=rules) as broker:
        async with serving(broker) as client, broker.subscribe("c") as mirror:
            epoch = (await broker.publish("c", "1")).position.epoch
            await publish(broker, *range(2, before + 2))
            since = before // 2
            top = before + 1
            faults.delay_s = delay_s

            async def publisher() -> None:
                for number, pause in enumerate(pauses, top + 1):
                    for _ in range(pause):
                        if delay_s:
                            await anyio.sleep(delay_s / 4)
                        else:
                            await anyio.lowlevel.checkpoint()
                    await publish(broker, number)

            lines: list[Any] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publisher)
                subscribe: dict[str, Any] = {"channel": "c"}
                if recover:
                    subscribe |= {"recover": True, "offset": since}
                    subscribe["epoch"] = epoch if is_known else ""
                await client.send({"id": 9, "subscribe": subscribe})
            await anyio.sleep(1)
            lines = await client.rest()
            pushes = [line["push"] for line in lines if "push" in line]
            channel = [
                line
                for line in lines
                if line.get("id") == 9 or "pub" in line.get("push", {})
            ]
            reply = channel[0]["subscribe"]
            live = [line["push"]["pub"] for line in channel[1:]]
            assert all(each["data"] == each["offset"] for each in live)
            start = reply.get("offset", 0)
            if recover:
                assert reply["recovered"]
                assert start == since
            got = found(reply) + [each["data"] for each in live]
            assert got == list(range(start + 1, top + len(pauses) + 1))
            assert sum("join" in push for push in pushes) == presence
            assert len(lines) == len(channel) + presence
            assert mirror.lag == top + len(pauses)


# --- Gaps ---


async def test_a_gap_takes_the_channel_away_and_recovery_brings_it_back() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=TALKATIVE) as broker, serving(broker) as client:
        epoch = (await subscribed(client))["epoch"]
        assert "join" in (await client.next())["push"]
        await publish(broker, 1)
        assert (await client.next())["push"]["pub"]["offset"] == 1
        faults.drop_next = 1
        await publish(broker, 2, 3)
        assert await client.next() == {
            "push": {
                "channel": "c",
                "unsubscribe": {"code": 2500, "reason": "insufficient state"},
            }
        }
        await publish(broker, 4)
        assert await client.rest() == []
        assert client.session.topics == []
        assert await broker.presence("c") == []
        reply = await subscribed(client, recover=True, offset=1, epoch=epoch)
        assert found(reply) == [2, 3, 4]
        assert "join" in (await client.next())["push"]


async def test_nothing_of_a_channel_follows_its_gap() -> None:
    """SDKs would take their place from it, and recover from behind the gap."""
    faults = FaultyBackplane()
    async with Broker(faults, rules=KEPT) as broker:
        async with serving(broker, capacity=0) as client:
            await client.send(
                {"id": 1, "subscribe": {"channel": "c"}},
                {"id": 2, "subscribe": {"channel": "d"}},
            )
            for _ in range(2):
                await client.next()
            await broker.publish("d", "1")
            await anyio.wait_all_tasks_blocked()  # it is on its way, the rest waits
            await publish(broker, 1)
            faults.drop_next = 1
            await publish(broker, 2, 3)
            await broker.publish("d", "2")
            await publish(broker, 4)
            got = []
            for _ in range(4):
                push = (await client.next())["push"]
                got.append((push["channel"], push.get("pub", {}).get("data")))
            assert got == [("d", 1), ("c", 1), ("c", None), ("d", 2)]
            assert await client.rest() == []
            assert broker.statistics().queued_bytes == 0
            assert broker.statistics().totals.gaps == 1


async def test_a_gap_of_an_old_subscription_does_not_end_the_new_one() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=KEPT) as broker:
        async with serving(broker, capacity=0) as client:
            await client.call("subscribe", channel="c")
            await publish(broker, 1)
            await anyio.wait_all_tasks_blocked()  # on its way
            faults.drop_next = 1
            await publish(broker, 2, 3)
            await client.send(
                {"id": 8, "unsubscribe": {"channel": "c"}},
                {"id": 9, "subscribe": {"channel": "c"}},
            )
            await anyio.wait_all_tasks_blocked()
            await publish(broker, 4)
            lines = [await client.next() for _ in range(4)]
            assert lines[0]["push"]["pub"]["offset"] == 1
            assert (lines[1]["id"], lines[2]["id"]) == (8, 9)
            assert lines[3]["push"]["pub"]["offset"] == 4


async def test_a_gap_in_joins_begins_the_channel_anew() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=TALKATIVE) as broker, serving(broker) as client:
        await client.call("subscribe", channel="c")
        assert "join" in (await client.next())["push"]
        async with serving(broker) as other:
            faults.drop_next = 1
            await other.call("subscribe", channel="c")
            await other.call("unsubscribe", channel="c")
            push = (await client.next())["push"]
            assert (push["channel"], push["unsubscribe"]["code"]) == ("c", 2500)
            assert await client.rest() == []
            assert client.session.topics == []


@pytest.mark.parametrize("leave_s", [0.0, 2.0])
@pytest.mark.parametrize("ticks", range(12))
async def test_lost_and_back_at_once_is_still_present(
    ticks: int, leave_s: float
) -> None:
    """The farewell of the lost subscription must not take the new one's presence."""
    faults = FaultyBackplane()
    real = faults.fault

    async def fault(call: str) -> None:
        if leave_s and call.startswith("leave"):
            await anyio.sleep(leave_s)
        await real(call)

    async with Broker(faults, rules=TALKATIVE) as broker:
        async with serving(broker) as client:
            await client.call("subscribe", channel="c")
            await client.rest()
            faults.fault = fault  # type: ignore[method-assign] # once
            faults.drop_next = 1
            await publish(broker, 1, 2)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            reply, _ = await client.ask("subscribe", channel="c")
            if "error" in reply:  # before the gap went out
                assert reply["error"]["code"] == 105
                await client.rest()
                await client.ask("subscribe", channel="c")
            await anyio.sleep(5)
            assert len(await broker.presence("c")) == 1
        await anyio.sleep(5)
        assert await broker.presence("c") == []


async def test_dropped_and_subscribed_in_one_breath_is_still_present() -> None:
    async with Broker(rules=TALKATIVE) as broker, serving(broker) as client:
        session = client.session
        await session.subscribe("c")
        session.drop("c")
        await session.subscribe("c")  # before the farewell has begun
        await anyio.wait_all_tasks_blocked()
        assert session.topics == ["c"]
        assert len(await broker.presence("c")) == 1
        await session.unsubscribe("c")
        assert await broker.presence("c") == []
