"""Subscriptions that the server makes for clients of the Centrifuge protocol."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import (
    Access,
    Broker,
    BrokerError,
    Hooks,
    Limits,
    MemoryBackplane,
    NotAllowed,
    Overflow,
    Position,
    TopicRules,
    UsageError,
    drain,
)
from broker.client_protocol import ClientError, Connected, Connecting, Subscribed
from broker.errors import BackplaneError
from broker.testing import FaultyBackplane

from .client_helpers import UNIX, Client, FakeTokens, protocol, serving, token
from .helpers import connected

KEPT = [TopicRules(history_size=20)]
TALKATIVE = [TopicRules(history_size=20, presence=True, join_leave=True)]
SERVER = {"code": 2000, "reason": "server unsubscribe"}
LOST = {"code": 2500, "reason": "insufficient state"}
DRAWN = settings(
    max_examples=60,
    deadline=None,
    # The clock goes on from example to example, which is what clocks do.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def with_tokens(**options: Any) -> Any:
    return protocol(tokens=FakeTokens(), **options)


def beginning_with(*channels: str, **options: Any) -> Any:
    """Return a protocol whose clients are subscribed from the start."""

    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(channels=channels)

    return protocol(connect=connect, **options)


def data_of(lines: list[Any], channel: str = "c") -> list[Any]:
    """Return what publications of a channel bring, in the order they came."""
    pushes = [line["push"] for line in lines if "push" in line]
    return [
        push["pub"]["data"]
        for push in pushes
        if push["channel"] == channel and "pub" in push
    ]


async def is_nothing_left(broker: Broker, backplane: MemoryBackplane) -> bool:
    await anyio.wait_all_tasks_blocked()
    now = broker.statistics()
    return not (now.topics or now.queued_bytes or len(backplane._presence))


# --- From the start ---


@pytest.mark.parametrize(
    "claims", [{"channels": ["a", "b"]}, {"subs": {"a": {}, "b": {}}}]
)
async def test_the_token_says_what_a_client_begins_with(claims: Any) -> None:
    connect = {"token": token(sub="ann", **claims)}
    async with Broker(rules=KEPT) as broker:
        async with serving(broker, with_tokens(), is_connected=False) as client:
            subs = (await client.call("connect", **connect))["subs"]
            assert set(subs) == {"a", "b"}
            assert subs["a"].pop("epoch")
            assert subs["a"] == {"recoverable": True, "positioned": True}
            assert client.session.topics == ["a", "b"]
            await broker.publish("b", "1")
            push = await client.push()
            assert push["channel"] == "b"
            assert push["pub"] == {"data": 1, "offset": 1}


async def test_subs_of_a_token_go_before_its_channels_and_have_data() -> None:
    claims = {"subs": {"a": {"data": {"\u00e9": [1]}}}, "channels": ["b"]}
    connect = {"token": token(sub="ann", **claims)}
    async with Broker() as broker:
        async with serving(broker, with_tokens(), is_connected=False) as client:
            reply = await client.call("connect", **connect)
            assert reply["subs"] == {"a": {"data": {"\u00e9": [1]}}}


async def test_the_application_adds_channels_and_goes_before_the_token() -> None:
    async def connect(session: Any, connecting: Connecting) -> Connected:
        said = {"a": Subscribed(data='"mine"'), "b": Subscribed(data="no JSON")}
        return Connected(channels=said, data='{"hello":1}')

    spoken = with_tokens(connect=connect)
    claims = {"subs": {"a": {"data": "token's"}, "c": {"data": "token's"}}}
    async with Broker() as broker:
        async with serving(broker, spoken, is_connected=False) as client:
            reply = await client.call("connect", token=token(sub="ann", **claims))
            assert reply["data"] == {"hello": 1}
            assert {name: sub["data"] for name, sub in reply["subs"].items()} == {
                "a": "mine",
                "b": "no JSON",
                "c": "token's",
            }


async def test_neither_rules_nor_hooks_are_asked() -> None:
    async def nobody(session: Any, topic: str) -> None:
        raise NotAllowed

    rules = [TopicRules(subscribe=Access.NOBODY)]
    async with Broker(rules=rules, hooks=Hooks(authorize_subscribe=nobody)) as broker:
        async with serving(broker, beginning_with("c")) as client:
            assert client.session.topics == ["c"]
            assert await broker.subscribe_client("d", client=client.session.client_id)
            assert (await client.push())["channel"] == "d"
            assert await client.error("subscribe", channel="e") == 103


@pytest.mark.parametrize(("personal", "channel"), [("", "#ann"), ("me", "me:#ann")])
async def test_a_channel_of_ones_own(personal: str, channel: str) -> None:
    rules = [TopicRules(namespace="me", history_size=5), TopicRules()]
    spoken = with_tokens(personal=personal)
    async with Broker(rules=rules) as broker:
        async with serving(broker, spoken, is_connected=False) as ann:
            reply = await ann.call("connect", token=token(sub="ann"))
            assert list(reply["subs"]) == [channel]
            async with (
                serving(broker, spoken) as nobody,
                serving(broker, spoken, user="bob") as bob,
            ):
                assert nobody.session.topics == []
                for other in (nobody, bob):
                    assert await other.error("subscribe", channel=channel) == 103
                    code = await other.error("publish", channel=channel, data=1)
                    assert code == 103
            await broker.publish(channel, "1")
            assert (await ann.push())["channel"] == channel
            _, pushes = await ann.ask("publish", channel=channel, data=2)
            assert len(pushes) == 1


@pytest.mark.parametrize("user", ["ann,bob", "#ann", "a b", "\u00e9", "*", "x" * 300])
async def test_a_user_who_can_have_no_channel_is_told_so(user: str) -> None:
    backplane = MemoryBackplane()
    spoken = with_tokens(personal="")
    async with Broker(backplane, rules=TALKATIVE) as broker:
        async with serving(broker, spoken, is_connected=False) as client:
            given = token(sub=user, subs={"a": {}})
            assert await client.error("connect", token=given) == 107
            assert client.session.topics == []
            assert await is_nothing_left(broker, backplane)


async def test_a_client_cannot_subscribe_to_what_it_begins_with() -> None:
    spoken = beginning_with("c")
    async with Broker(rules=KEPT) as broker, serving(broker, spoken) as client:
        assert await client.error("subscribe", channel="c") == 105
        assert client.session.topics == ["c"]
        assert await client.call("unsubscribe", channel="c") == {}
        assert client.session.topics == []
        await client.call("subscribe", channel="c")  # now it is the client's own
        await broker.publish("c", "1")
        assert (await client.push())["pub"]["data"] == 1


async def test_join_and_presence_of_what_one_begins_with() -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, beginning_with("c"), user="ann") as client:
            push = await client.push()
            assert push["join"]["info"]["user"] == "ann"
            found = (await client.call("presence", channel="c"))["presence"]
            assert list(found) == [client.session.client_id]


# --- A connect that fails ---


@pytest.mark.parametrize(
    ("channels", "code"),
    [
        (["a", "b c"], 107),
        (["a", ""], 107),
        (["a", "$presence.b"], 107),
        (["a", "b.*"], 107),
        (["a", "nowhere:b"], 102),
        (["a", "b", "c", "d"], 106),
    ],
)
async def test_a_connect_that_fails_half_way(channels: list[str], code: int) -> None:
    """No subscription, no presence, one error, and no other command is heard."""
    backplane = MemoryBackplane()
    gone: list[str] = []

    async def on_unsubscribe(session: Any, topic: str) -> None:
        gone.append(topic)

    limits = Limits(max_subscriptions=3)
    hooks = Hooks(on_unsubscribe=on_unsubscribe)
    async with Broker(backplane, rules=TALKATIVE, limits=limits, hooks=hooks) as broker:
        async with broker.subscribe("$presence.a") as news:
            async with serving(
                broker, beginning_with(*channels), is_connected=False
            ) as client:
                assert await client.error("connect") == code
                await broker.publish("a", "1")
                await client.send({"id": 2, "subscribe": {"channel": "e"}})
                assert await client.rest() == []
                assert client.session.topics == []
                assert await broker.presence("a") == []
                assert sorted(gone) == channels[: max(1, min(3, len(channels) - 1))]
                assert await client.closed() == (3502, "stale")
            await anyio.wait_all_tasks_blocked()
            seen = [message.payload for message in _messages(news)]
            assert ["join" in str(each) for each in seen] == [True, False]
        assert await is_nothing_left(broker, backplane)


def _messages(subscription: Any) -> list[Any]:
    found = []
    try:
        while True:
            found.append(subscription.receive_nowait())
    except anyio.WouldBlock:
        return found


@pytest.mark.parametrize(
    "failing", ["subscribe b", "enter a", "enter b", "publish $presence.b"]
)
async def test_a_backplane_that_fails_while_a_client_connects(failing: str) -> None:
    memory = MemoryBackplane()
    faults = FaultyBackplane(memory)
    real = faults.fault

    async def fault(call: str) -> None:
        await real(call)
        if call == failing:
            raise BackplaneError(call)

    faults.fault = fault  # type: ignore[method-assign] # once
    async with Broker(faults, rules=TALKATIVE) as broker:
        async with serving(
            broker, beginning_with("a", "b", "c"), is_connected=False
        ) as client:
            assert await client.error("connect") == 100
            await broker.publish("a", "1")
            assert await client.rest() == []
            assert client.session.topics == []
            assert await broker.presence("a") == []
            assert await broker.presence("b") == []
        assert await is_nothing_left(broker, memory)


async def test_a_welcome_that_is_too_large_opens_nothing() -> None:
    """Error 106 is the answer to all of it: nothing goes on behind it."""
    limits = Limits(max_message_bytes=1_000, max_outbox_bytes=4_000)

    async def connect(session: Any, connecting: Connecting) -> Connected:
        return Connected(channels=["c"], data='"' + "x" * 5_000 + '"')

    async with Broker(rules=TALKATIVE, limits=limits) as broker:
        async with serving(
            broker, protocol(connect=connect), is_connected=False
        ) as client:
            assert await client.error("connect") == 106
            await broker.publish("c", "1")
            assert await client.rest() == []
            assert client.session.topics == []
            assert await broker.presence("c") == []
            assert await client.closed() == (3502, "stale")


@pytest.mark.parametrize("spare", [0, 60, 120, 180])
async def test_a_welcome_with_all_that_may_be_recovered(spare: int) -> None:
    """Publications are counted with what is around them: no client is refused."""
    limits = Limits(max_message_bytes=2_000, max_outbox_bytes=4_000)
    async with Broker(rules=KEPT, limits=limits) as broker:
        await broker.publish("c", '"' + "x" * (1_960 - spare) + '"')
        connect = {"subs": {"c": {"recover": True}}}
        async with serving(broker, beginning_with("c"), connect=connect) as client:
            assert client.session.topics == ["c"]


# --- What is published meanwhile ---


@pytest.mark.parametrize("is_recovering", [False, True])
async def test_recovery_in_the_welcome(is_recovering: bool) -> None:
    async with Broker(rules=KEPT) as broker:
        epoch = ""
        for number in range(1, 4):
            receipt = await broker.publish("c", str(number))
            epoch = receipt.position.epoch
        subs = {"c": {"recover": is_recovering, "offset": 1, "epoch": epoch}}
        async with serving(broker, beginning_with("c"), is_connected=False) as client:
            reply = (await client.call("connect", subs=subs))["subs"]["c"]
            if is_recovering:
                assert reply["recovered"]
                assert [each["offset"] for each in reply["publications"]] == [2, 3]
                assert reply["offset"] == 1
            else:
                assert "was_recovering" not in reply
                assert reply["offset"] == 3
            await broker.publish("c", "4")
            assert (await client.push())["pub"]["offset"] == 4


@pytest.mark.parametrize(
    "given",
    [{"offset": 9}, {"offset": 1, "epoch": "other"}, {"offset": 0, "flag": 2}],
)
async def test_what_cannot_be_recovered_in_the_welcome(given: Any) -> None:
    """No error, whatever the flags: the other subscriptions must live."""
    rules = [TopicRules(history_size=2)]
    async with Broker(rules=rules) as broker:
        for number in range(1, 5):
            await broker.publish("c", str(number))
        subs = {"c": {"recover": True, **given}, "x": {"recover": True}}
        async with serving(broker, beginning_with("c"), is_connected=False) as client:
            reply = (await client.call("connect", subs=subs))["subs"]
            assert list(reply) == ["c"]
            assert reply["c"]["was_recovering"]
            assert "recovered" not in reply["c"]
            assert "publications" not in reply["c"]
            assert reply["c"]["offset"] == 4


async def test_what_clients_ask_of_a_subscription_that_is_not_theirs() -> None:
    """Filters and tokens are left alone: the server has decided."""
    subs = {"c": {"tf": {"key": "k", "cmp": "eq"}, "token": "forged", "channel": "d"}}
    async with Broker(rules=KEPT) as broker:
        async with serving(
            broker, beginning_with("c"), connect={"subs": subs}
        ) as client:
            assert client.session.topics == ["c"]


@DRAWN
@given(
    before=st.integers(0, 4),
    pauses=st.lists(st.tuples(st.integers(0, 10), st.sampled_from("cd")), max_size=10),
    is_known=st.booleans(),
    since=st.integers(0, 4),
    delay_s=st.sampled_from([0.0, 0.01]),
    overflow=st.sampled_from([Overflow.DISCONNECT, Overflow.DROP_OLDEST]),
    presence=st.booleans(),
)
async def test_published_while_a_client_connects(
    before: int,
    pauses: list[tuple[int, str]],
    is_known: bool,
    since: int,
    delay_s: float,
    overflow: Overflow,
    presence: bool,
) -> None:
    """Behind the welcome, exactly once, in order, whatever the moment."""
    rules = [
        TopicRules(
            history_size=100, overflow=overflow, presence=presence, join_leave=presence
        )
    ]
    faults = FaultyBackplane()
    tops = {"c": 0, "d": 0}
    async with Broker(faults, rules=rules) as broker:

        async def publish(channel: str) -> str:
            tops[channel] += 1
            receipt = await broker.publish(channel, str(tops[channel]))
            return receipt.position.epoch

        epoch = ""
        for _ in range(before):
            epoch = await publish("c")
        since = min(since, before)
        async with broker.subscribe("c", "d"):
            faults.delay_s = delay_s

            async def publisher() -> None:
                for pause, channel in pauses:
                    for _ in range(pause):
                        if delay_s:
                            await anyio.sleep(delay_s / 4)
                        else:
                            await anyio.lowlevel.checkpoint()
                    await publish(channel)

            spoken = beginning_with("c", "d")
            async with serving(broker, spoken, is_connected=False) as client:
                known = epoch if is_known else ""
                position = {"recover": True, "offset": since, "epoch": known}
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(publisher)
                    subs = {"c": position, "d": {"recover": True}}
                    await client.send({"id": 1, "connect": {"subs": subs}})
                await anyio.sleep(1)
                lines = await client.rest()
            subs = lines[0]["connect"]["subs"]
            for channel in ("c", "d"):
                assert subs[channel]["recovered"]
                got = [
                    each["data"] for each in subs[channel].get("publications", [])
                ] + data_of(lines, channel)
                start = subs[channel].get("offset", 0)
                assert got == list(range(start + 1, tops[channel] + 1))
            assert subs["c"].get("offset", 0) == since
            joins = sum("join" in line.get("push", {}) for line in lines)
            assert joins == 2 * presence


@pytest.mark.parametrize("how", ["disconnect", "drain", "stale"])
async def test_a_session_that_ends_while_it_connects(how: str) -> None:
    """What was held back stays back: its client would take its place from there."""
    faults = FaultyBackplane()
    real = faults.fault

    async def fault(call: str) -> None:
        await real(call)
        if call == "subscribe b":
            await anyio.sleep(30)

    faults.fault = fault  # type: ignore[method-assign] # once
    async with Broker(faults, rules=TALKATIVE) as broker:
        async with serving(
            broker, beginning_with("a", "b"), is_connected=False, user="ann"
        ) as client:
            await client.send({"id": 1, "connect": {"subs": {"a": {"recover": True}}}})
            await anyio.wait_all_tasks_blocked()
            assert client.session.topics == ["$presence.a", "a", "$presence.b"]
            await broker.publish("a", "1")
            if how == "disconnect":
                await broker.disconnect(user="ann")
            elif how == "drain":
                await drain(broker)
            else:
                await anyio.sleep(15)
            assert await client.rest_of_all() == []


# --- Gaps ---


async def test_a_gap_ends_the_connection() -> None:
    """The client comes back and resumes: it cannot subscribe by itself."""
    faults = FaultyBackplane()
    async with Broker(faults, rules=TALKATIVE) as broker:
        async with serving(broker, beginning_with("c")) as client:
            assert "join" in await client.push()
            faults.drop_next = 1
            await broker.publish("c", "1")
            await broker.publish("c", "2")
            assert await client.closed() == (3010, "insufficient state")
        assert await broker.presence("c") == []


async def test_a_gap_in_joins_ends_the_connection() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=TALKATIVE) as broker:
        async with serving(broker, beginning_with("c")) as client:
            assert "join" in await client.push()
            async with serving(broker) as other:
                faults.drop_next = 1
                await other.call("subscribe", channel="c")
                await other.call("unsubscribe", channel="c")
                assert await client.closed() == (3010, "insufficient state")


async def test_nothing_of_a_channel_follows_its_gap() -> None:
    """SDKs would take their place from it, and recover from behind the gap."""
    faults = FaultyBackplane()
    async with Broker(faults, rules=KEPT) as broker:
        async with serving(
            broker, beginning_with("c", "d"), capacity=0, is_connected=False
        ) as client:
            await client.send({"id": 1, "connect": {}})
            assert "connect" in await client.next()
            await broker.publish("d", "1")
            await anyio.wait_all_tasks_blocked()  # it is on its way, the rest waits
            await broker.publish("c", "1")
            faults.drop_next = 1
            for number in (2, 3, 4):
                await broker.publish("c", str(number))
            await broker.publish("d", "2")
            lines = await client.rest_of_all()
            assert data_of(lines, "c") == [1]
            assert client.pipe.close_code == 3010


async def test_a_gap_where_the_policy_drops_is_no_reason_to_go() -> None:
    rules = [TopicRules(history_size=5, overflow=Overflow.DROP_OLDEST)]
    faults = FaultyBackplane()
    async with Broker(faults, rules=rules) as broker:
        async with serving(broker, beginning_with("c")) as client:
            faults.drop_next = 1
            await broker.publish("c", "1")
            await broker.publish("c", "2")
            assert (await client.push())["pub"]["data"] == 2
            assert await client.rest() == []
            assert client.session.ending is None


# --- While it is connected ---


async def test_the_server_subscribes_a_client() -> None:
    async with Broker(rules=TALKATIVE) as broker:
        await broker.publish("c", "1")
        async with (
            serving(broker, user="ann") as one,
            serving(broker, user="ann") as two,
            serving(broker, user="bob") as other,
        ):
            done = await broker.subscribe_client(
                "c", user="ann", data='{"a":1}', info='"guest"'
            )
            assert done == 2
            for client in (one, two):
                push = await client.push()
                assert push["subscribe"].pop("epoch")
                assert push == {
                    "channel": "c",
                    "subscribe": {
                        "recoverable": True,
                        "positioned": True,
                        "offset": 1,
                        "data": {"a": 1},
                    },
                }
                join = (await client.push())["join"]["info"]
                assert (join["user"], join["chan_info"]) == ("ann", "guest")
            assert "join" in await one.push()  # of the other
            assert await other.rest() == []
            assert await broker.subscribe_client("c", user="ann") == 2  # as they are
            for client in (one, two):
                assert await client.rest() == []
                assert await client.error("subscribe", channel="c") == 105
            await broker.publish("c", "2")
            assert (await one.push())["pub"]["offset"] == 2


@pytest.mark.parametrize("since", [0, 2, 4, 9])
async def test_the_server_subscribes_from_a_position(since: int) -> None:
    rules = [TopicRules(history_size=3)]
    async with Broker(rules=rules) as broker, serving(broker) as client:
        position = Position("", 0)
        for number in range(1, 5):
            position = (await broker.publish("c", str(number))).position
        done = await broker.subscribe_client(
            "c",
            client=client.session.client_id,
            since=Position(position.epoch, since),
        )
        assert done == 1
        lines = await client.rest()
        told = lines[0]["push"]["subscribe"]
        is_known = 1 <= since <= 4
        assert told["offset"] == (since if is_known else 4)
        assert data_of(lines) == (list(range(since + 1, 5)) if is_known else [])
        await broker.publish("c", "5")
        assert (await client.push())["pub"]["offset"] == 5


@DRAWN
@given(
    pauses=st.lists(st.integers(0, 8), max_size=8),
    since=st.none() | st.integers(0, 3),
    delay_s=st.sampled_from([0.0, 0.01]),
    overflow=st.sampled_from([Overflow.DISCONNECT, Overflow.DROP_OLDEST]),
)
async def test_the_subscribe_push_comes_before_all_publications(
    pauses: list[int], since: int | None, delay_s: float, overflow: Overflow
) -> None:
    rules = [TopicRules(history_size=100, overflow=overflow)]
    faults = FaultyBackplane()
    async with Broker(faults, rules=rules) as broker, serving(broker) as client:
        async with broker.subscribe("c"):
            epoch = (await broker.publish("c", "1")).position.epoch
            for number in (2, 3):
                await broker.publish("c", str(number))
            faults.delay_s = delay_s

            async def publisher() -> None:
                for number, pause in enumerate(pauses, 4):
                    for _ in range(pause):
                        if delay_s:
                            await anyio.sleep(delay_s / 4)
                        else:
                            await anyio.lowlevel.checkpoint()
                    await broker.publish("c", str(number))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publisher)
                await broker.subscribe_client(
                    "c",
                    client=client.session.client_id,
                    since=None if since is None else Position(epoch, since),
                )
            await anyio.sleep(1)
            lines = await client.rest()
        told = lines[0]["push"]["subscribe"]
        start = told.get("offset", 0)
        assert since is None or start == since
        assert data_of(lines[1:]) == list(range(start + 1, 4 + len(pauses)))


async def test_who_has_not_said_hello_is_left_out() -> None:
    async with Broker() as broker:
        async with serving(broker, user="ann", is_connected=False) as client:
            assert await broker.subscribe_client("c", user="ann") == 0
            assert client.session.topics == []
            assert "subs" not in await client.call("connect")


async def test_on_connect_is_before_the_hello_too() -> None:
    """Else the client would get a channel's publications that it was not told of."""

    async def on_connect(session: Any) -> None:
        await broker.subscribe_client("c", client=session.client_id)

    broker = Broker(hooks=Hooks(on_connect=on_connect))
    async with broker, serving(broker) as client:
        await broker.publish("c", "1")
        assert await client.rest() == []


async def test_the_server_unsubscribes_a_client() -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, beginning_with("c"), user="ann") as client:
            assert "join" in await client.push()
            assert await broker.unsubscribe_client("c", user="ann") == 1
            assert await client.push() == {"channel": "c", "unsubscribe": SERVER}
            await broker.publish("c", "1")
            assert await client.rest() == []
            assert client.session.topics == []
            assert await broker.presence("c") == []
            assert await broker.unsubscribe_client("c", user="ann") == 0
            assert await broker.subscribe_client("c", user="ann") == 1
            assert "subscribe" in await client.push()
            assert "join" in await client.push()


async def test_nothing_of_a_channel_follows_its_end() -> None:
    async with Broker(rules=KEPT) as broker:
        async with serving(broker, user="ann", capacity=0) as client:
            for channel in ("c", "d"):
                await client.call("subscribe", channel=channel)
            await broker.publish("d", "1")
            await anyio.wait_all_tasks_blocked()  # it is on its way, the rest waits
            await broker.publish("c", "1")
            await broker.publish("d", "2")
            assert await broker.unsubscribe_client("c", user="ann") == 1
            await broker.publish("c", "2")
            lines = [await client.next() for _ in range(3)]
            assert data_of(lines, "d") == [1, 2]
            assert lines[-1]["push"] == {"channel": "c", "unsubscribe": SERVER}
            assert await client.rest() == []


async def test_a_subscription_of_the_handlers_is_ended_as_any() -> None:
    async def greet(session: Any) -> None:
        await session.subscribe("c")

    async with Broker(hooks=Hooks(on_connect=greet)) as broker:
        async with serving(broker, user="ann") as client:
            assert await broker.subscribe_client("c", user="ann") == 1  # as it is
            assert await broker.unsubscribe_client("c", user="ann") == 1
            assert client.session.topics == []


async def test_plain_sessions_are_subscribed_without_a_word() -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with connected(broker, user="ann") as (pipe, session):
            assert await broker.subscribe_client("c", user="ann", info='"x"') == 1
            assert session.topics == ["c"]
            await broker.publish("c", "hello")
            assert await pipe.receive() == "hello"
            assert await broker.unsubscribe_client("c", user="ann") == 1
            await anyio.wait_all_tasks_blocked()
            assert session.topics == []
            assert await broker.presence("c") == []


async def test_whom_and_what() -> None:
    async with Broker() as broker, serving(broker, user="ann"):
        for call in (broker.subscribe_client, broker.unsubscribe_client):
            with pytest.raises(UsageError):
                await call("c")
            with pytest.raises(UsageError):
                await call("c d", user="ann")
            assert await call("c", user="bob") == 0
            assert await call("c", client="nobody") == 0
        with pytest.raises(UsageError):
            await broker.refresh_client(expires_at=None)


async def test_an_unknown_namespace_is_an_error_to_the_server() -> None:
    async with Broker() as broker, serving(broker, user="ann") as client:
        with pytest.raises(BrokerError):
            await broker.subscribe_client("nowhere:c", user="ann")
        assert await client.rest() == []


async def test_an_end_of_the_servers_subscription() -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, user="ann") as client:
            await broker.subscribe_client("c", user="ann", expires_at=UNIX + 20)
            assert "subscribe" in await client.push()
            assert "join" in await client.push()
            ping = await client.next()
            assert ping == {}
            await client.send({})
            # With the connection: its client cannot ask for it anew.
            assert await client.closed() == (3006, "subscription expired")
            assert 44 <= anyio.current_time() <= 48
        assert await broker.presence("c") == []


async def test_presence_that_fails_for_the_server() -> None:
    """It is told that there is no subscription, and so is the client."""
    faults = FaultyBackplane()
    real = faults.fault

    async def fault(call: str) -> None:
        await real(call)
        if call == "enter c":
            raise BackplaneError(call)

    faults.fault = fault  # type: ignore[method-assign] # once
    async with Broker(faults, rules=TALKATIVE) as broker:
        async with serving(broker, user="ann") as client:
            with pytest.raises(BackplaneError):
                await broker.subscribe_client("c", user="ann")
            pushes = [line["push"] for line in await client.rest()]
            assert [set(push) - {"channel"} for push in pushes] in (
                [],
                [{"subscribe"}, {"unsubscribe"}],
            )
            assert client.session.topics == []


# --- Races ---


def view(lines: list[Any], *, is_subscribed: bool = False) -> bool:
    """Return whether the client believes that it has the channel."""
    for line in lines:
        push = line.get("push", {})
        if "subscribe" in line or "subscribe" in push:
            assert not is_subscribed
            is_subscribed = True
        elif "unsubscribe" in line or "unsubscribe" in push:
            is_subscribed = False
        elif "pub" in push:
            assert is_subscribed
    return is_subscribed


async def _settled(broker: Broker, client: Client, lines: list[Any]) -> None:
    """Both ends agree about the channel, and presence with them."""
    lines += await client.rest()
    is_subscribed = "c" in client.session.topics
    assert view(lines) == is_subscribed
    assert ("$presence.c" in client.session.topics) == is_subscribed
    assert len(await broker.presence("c")) == is_subscribed
    await broker.publish("c", '"last"')
    assert data_of(await client.rest()) == ["last"] * is_subscribed


@pytest.mark.parametrize("ticks", range(16))
async def test_both_subscribe_at_once(ticks: int) -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, user="ann") as client:

            async def server() -> None:
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                await broker.subscribe_client("c", user="ann")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server)
                await client.send({"id": 9, "subscribe": {"channel": "c"}})
            lines = await client.rest()
            replies = [line for line in lines if line.get("id") == 9]
            pushes = [line for line in lines if "subscribe" in line.get("push", {})]
            assert len(replies) == 1
            assert ("error" in replies[0]) == bool(pushes)
            if pushes:
                assert replies[0]["error"]["code"] == 105
            assert client.session.topics == ["$presence.c", "c"]
            await _settled(broker, client, lines)


@pytest.mark.parametrize("ticks", range(16))
@pytest.mark.parametrize("is_servers", [False, True])
async def test_the_client_leaves_while_the_server_subscribes(
    ticks: int, is_servers: bool
) -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, user="ann") as client:
            if is_servers:
                await broker.subscribe_client("c", user="ann")
            else:
                await client.send({"id": 8, "subscribe": {"channel": "c"}})
            lines = await client.rest()

            async def server() -> None:
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                assert await broker.subscribe_client("c", user="ann") in (0, 1)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server)
                await client.send({"id": 9, "unsubscribe": {"channel": "c"}})
            await _settled(broker, client, lines)


@pytest.mark.parametrize("ticks", range(16))
async def test_the_server_ends_what_the_client_is_making(ticks: int) -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, user="ann") as client:

            async def server() -> None:
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                await broker.unsubscribe_client("c", user="ann")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server)
                await client.send({"id": 9, "subscribe": {"channel": "c"}})
            await _settled(broker, client, await client.rest())


@pytest.mark.parametrize("ticks", range(12))
async def test_two_of_the_servers_calls_at_once(ticks: int) -> None:
    async with Broker(rules=TALKATIVE) as broker:
        async with serving(broker, user="ann") as client:

            async def second() -> None:
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                await broker.subscribe_client("c", user="ann")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(second)
                assert await broker.subscribe_client("c", user="ann") == 1
            lines = await client.rest()
            assert sum("subscribe" in line["push"] for line in lines) == 1
            await _settled(broker, client, lines)


@pytest.mark.parametrize("ticks", range(12))
@pytest.mark.parametrize("how", ["left", "disconnected"])
async def test_one_session_ends_while_its_user_is_subscribed(
    ticks: int, how: str
) -> None:
    """The other is subscribed all the same."""
    backplane = MemoryBackplane()
    async with Broker(backplane, rules=TALKATIVE) as broker:
        async with serving(broker, user="ann") as one:
            async with serving(broker, user="ann") as two:

                async def end() -> None:
                    for _ in range(ticks):
                        await anyio.lowlevel.checkpoint()
                    if how == "left":
                        one.pipe.leave()
                    else:
                        await broker.disconnect(client=one.session.client_id)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(end)
                    assert await broker.subscribe_client("c", user="ann") in (1, 2)
                await anyio.wait_all_tasks_blocked()
                assert two.session.topics == ["$presence.c", "c"]
                assert len(await broker.presence("c")) == 1
        assert await is_nothing_left(broker, backplane)


async def test_one_session_that_may_have_no_more_stops_no_other() -> None:
    limits = Limits(max_subscriptions=1)
    async with Broker(limits=limits) as broker:
        async with (
            serving(broker, user="ann") as one,
            serving(broker, user="ann") as two,
        ):
            await one.call("subscribe", channel="a")
            with pytest.raises(BrokerError):
                await broker.subscribe_client("c", user="ann")
            assert two.session.topics in ([], ["c"])  # "some may be subscribed"
            assert view(await two.rest()) == ("c" in two.session.topics)


# --- Not to be seen by others ---


async def test_what_is_of_no_use_raises_nothing() -> None:
    """A code of the application's own reaches the client as it is."""

    async def connect(session: Any, connecting: Connecting) -> Connected:
        raise ClientError(1_000, "not today", temporary=True)

    async with Broker() as broker:
        async with serving(
            broker, protocol(connect=connect), is_connected=False
        ) as client:
            reply, _ = await client.ask("connect")
            assert reply["error"] == {
                "code": 1_000,
                "message": "not today",
                "temporary": True,
            }
