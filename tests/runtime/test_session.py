"""Sessions: what a handler can do, and every way in which they end."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from broker import (
    Access,
    BackplaneError,
    Broker,
    BrokerClosed,
    ConnectRequest,
    Ending,
    EndKind,
    Frames,
    Gap,
    Hooks,
    InvalidTopic,
    Item,
    LimitExceeded,
    Limits,
    MessageTooLarge,
    NotAllowed,
    Overflow,
    Session,
    SessionEnded,
    TopicRules,
    TransportClosed,
    UsageError,
)
from broker.testing import FaultyBackplane, memory_transport

from .helpers import LONG_S, connected, payloads


async def test_replies_and_topics_keep_their_order() -> None:
    async with Broker() as broker, connected(broker) as (client, session):
        await session.subscribe("chat")
        await client.send("hello")
        text = await session.receive()
        await session.send(f"You wrote: {text}")
        await broker.publish("chat", f"Client says: {text}")
        await session.send(b"\x00bytes")
        got = [await client.receive() for _ in range(3)]
        assert got == ["You wrote: hello", "Client says: hello", b"\x00bytes"]


async def test_the_loop_gets_all_that_was_sent_before_leaving() -> None:
    async with Broker() as broker:
        client, transport = memory_transport()
        for text in ("a", "b"):
            await client.send(text)
        client.leave()
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.wait_ended()
            seen = [text async for text in session]
        assert seen == ["a", "b"]
        assert session.ended_by.kind is EndKind.CLIENT_LEFT
        client.close_all()


async def test_leaving_the_block_sends_what_waits_and_closes_with_1000() -> None:
    async with Broker() as broker:
        client, transport = memory_transport()
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.subscribe("t")
            await broker.publish("t", "one")
            await session.send("two")
        assert [await client.receive(), await client.receive()] == ["one", "two"]
        assert (client.close_code, session.ended_by.kind) == (1000, EndKind.COMPLETED)
        client.close_all()


async def test_code_after_the_block_runs_whatever_the_client_did() -> None:
    """Using an ended session ends the block, not the endpoint."""
    ran = []
    async with Broker() as broker:
        client, transport = memory_transport()
        async with broker.open_session(transport, Frames.TEXT) as session:
            session.end(Ending.of(EndKind.DISCONNECTED))
            await session.send("nobody is there")
            ran.append("not reached")
        ran.append("after")
        client.close_all()
    assert ran == ["after"]


async def test_last_words_are_heard() -> None:
    """What a client said before it left is handled as if it were still there."""
    async with Broker() as broker, broker.subscribe("chat") as others:
        client, transport = memory_transport()
        for text in ("one", "last words"):
            await client.send(text)
        client.leave()
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.wait_ended()
            assert (await session.subscribe("chat")).position is None
            async for text in session:
                await session.send(f"You wrote: {text}")
                await session.publish("chat", text)
                await broker.publish("chat", f"Client says: {text}")
        await broker.publish("chat", "left")
        said = payloads(await others.receive_all())
        assert said == [
            "one",
            "Client says: one",
            "last words",
            "Client says: last words",
            "left",
        ]
        assert broker.statistics().topics == 1
        client.close_all()


async def test_a_message_that_grows_over_the_limit_is_the_clients_doing() -> None:
    async with Broker(limits=Limits(max_message_bytes=20)) as broker:
        client, transport = memory_transport()
        await client.send("x" * 20)
        async with broker.open_session(transport, Frames.TEXT) as session:
            async for text in session:
                await session.send(f"You wrote: {text}")
        assert (client.close_code, client.close_reason) == (
            1009,
            "payload is 31 B; the limit is 20 B",
        )
        client.close_all()


async def test_patterns_are_for_those_who_ask() -> None:
    async with Broker() as broker, connected(broker) as (client, session):
        for name in ("rooms.*", ">", "$presence.>"):
            with pytest.raises(InvalidTopic, match="wildcard"):
                await session.subscribe(name)
        await session.subscribe("rooms.*", patterns=True)
        await session.subscribe("$presence.rooms.a")
        await broker.publish("rooms.a", "x")
        assert await client.receive() == "x"


async def test_recent_messages_and_then_live_ones() -> None:
    rules = [TopicRules(history_size=5)]
    async with Broker(rules=rules) as broker:
        for number in range(8):
            await broker.publish("t", str(number))
        async with connected(broker) as (client, session):
            await session.subscribe("t", recent=3)
            await session.subscribe("new", recent=3)
            await broker.publish("t", "live")
            await broker.publish("new", "first")
            got = [await client.receive() for _ in range(5)]
            assert got == ["5", "6", "7", "live", "first"]
            with pytest.raises(UsageError):
                await session.subscribe("u", recent=-1)
            with pytest.raises(UsageError, match="cannot begin before now"):
                await session.subscribe("u.*", recent=1, patterns=True)


@pytest.mark.parametrize(
    ("frames", "frame", "reason"),
    [
        (Frames.TEXT, b"x", "this takes text frames, and a binary one came"),
        (Frames.BINARY, "x", "this takes binary frames, and a text one came"),
    ],
)
async def test_wrong_frame_type(frames: Any, frame: Any, reason: str) -> None:
    async with Broker() as broker:
        async with connected(broker, frames=frames) as (client, session):
            await client.send(frame)
            ending = await session.wait_ended()
            assert ending == Ending(EndKind.WRONG_FRAME_TYPE, 1003, reason)
            await client.closed.wait()
            assert (client.close_code, client.close_reason) == (1003, reason)


async def test_both_frame_types_where_any_is_taken() -> None:
    async with Broker() as broker, connected(broker) as (client, session):
        for frame in ("", b"", "text", b"bytes", "é" * 10):
            await client.send(frame)
            assert await session.receive() == frame


async def test_size_limit_is_inclusive_and_counts_utf8() -> None:
    limits = Limits(max_message_bytes=10)
    async with Broker(limits=limits) as broker:
        async with connected(broker) as (client, session):
            await client.send("é" * 5)
            assert await session.receive() == "é" * 5
            with pytest.raises(MessageTooLarge):
                await session.send("é" * 6)
            await client.send("é" * 6)
            assert (await session.wait_ended()).code == 1009


async def test_a_full_inbox_holds_the_client_back_and_then_ends_it() -> None:
    limits = Limits(max_inbox_messages=4, stall_s=30)
    async with Broker(limits=limits) as broker:
        async with connected(broker) as (client, session):
            for number in range(20):
                await client.send(str(number))
            await anyio.sleep(25)
            assert client._from_client.statistics().current_buffer_used == 16
            assert await session.receive() == "0"
            await anyio.sleep(25)  # something was taken: time starts afresh
            assert session.ending is None
            ending = await session.wait_ended()
            assert (ending.kind, ending.code) == (EndKind.INBOX_FULL, 4007)
            with pytest.raises(SessionEnded):
                await session.receive()


async def test_an_inbox_is_bounded_in_bytes() -> None:
    limits = Limits(max_inbox_bytes=70_000)
    async with Broker(limits=limits) as broker:
        async with connected(broker) as (client, session):
            for _ in range(10):
                await client.send("x" * 30_000)
            await anyio.wait_all_tasks_blocked()
            assert session.queued_bytes == 90_000  # over by its own size at most
            assert broker.statistics().queued_bytes == 90_000


@pytest.mark.parametrize(
    ("limits", "kind", "code", "after_s"),
    [
        (Limits(hello_s=10), EndKind.HELLO_TIMEOUT, 4001, 10),
        (Limits(idle_s=60), EndKind.IDLE, 4002, 60),
        (Limits(silence_s=40), EndKind.SILENT, 4003, 40),
    ],
)
async def test_deadlines_on_virtual_time(
    limits: Limits, kind: EndKind, code: int, after_s: float
) -> None:
    async with Broker(limits=limits) as broker, connected(broker) as (_, session):
        start = anyio.current_time()
        ending = await session.wait_ended()
        waited = anyio.current_time() - start
        assert (ending.kind, ending.code) == (kind, code)
        assert after_s - 0.5 <= waited <= after_s + 2


async def test_silence_counts_what_the_client_sends_and_not_what_it_gets() -> None:
    async with Broker(limits=Limits(silence_s=10)) as broker:
        async with connected(broker) as (client, session):
            await session.subscribe("t")
            for _ in range(5):
                await anyio.sleep(6)
                await client.send("ping")
            for _ in range(5):
                await broker.publish("t", "x")
                await anyio.sleep(6)
            assert session.ending is not None
            assert session.ending.kind is EndKind.SILENT


async def test_who_is_held_back_is_not_blamed_for_silence() -> None:
    limits = Limits(max_inbox_messages=1, silence_s=5, idle_s=5, stall_s=20)
    async with Broker(limits=limits) as broker:
        async with connected(broker) as (client, session):
            await client.send("one")
            await client.send("two")
            assert (await session.wait_ended()).kind is EndKind.INBOX_FULL


async def test_a_send_that_never_ends_is_given_up_and_never_followed() -> None:
    """After stall_s the session ends; after grace_s its send is cancelled."""
    async with Broker(limits=Limits(stall_s=30, grace_s=5)) as broker:
        start = anyio.current_time()
        client, transport = memory_transport(capacity=0)
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.subscribe("t")
            await broker.publish("t", "never read")
            ending = await session.wait_ended()
            assert (ending.kind, ending.code) == (EndKind.STALLED, 4009)
            assert session.topics == []
        assert 35 <= anyio.current_time() - start <= 38
        assert client.close_code is None  # a cancelled send leaves nothing to follow
        client.close_all()


async def test_a_client_that_does_not_answer_the_close_is_left() -> None:
    async with Broker(limits=Limits(grace_s=5)) as broker:
        client, transport = memory_transport()
        client.answers_close = False
        start = anyio.current_time()
        async with broker.open_session(transport, Frames.TEXT):
            pass
        assert client.close_code == 1000
        assert 4.9 <= anyio.current_time() - start <= 6
        client.close_all()


async def test_a_slow_client_that_reads_in_time_is_told_why() -> None:
    limits = Limits(max_outbox_messages=2)
    async with Broker(limits=limits) as broker:
        async with connected(broker, capacity=0) as (client, session):
            await session.subscribe("t")
            await broker.publish("t", "0")
            await anyio.wait_all_tasks_blocked()  # it is on its way
            for number in range(1, 5):
                await broker.publish("t", str(number))
            assert session.ending is not None
            assert await client.receive() == "0"
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
            assert client.close_code == 4008


async def test_send_waits_for_room_and_is_freed_by_the_end() -> None:
    limits = Limits(max_outbox_messages=2)
    async with Broker(limits=limits) as broker:
        async with connected(broker, capacity=0) as (client, session):
            sent: list[int] = []

            async def sender() -> None:
                with pytest.raises(SessionEnded):
                    for number in range(10):
                        await session.send(str(number))
                        sent.append(number)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender)
                await anyio.wait_all_tasks_blocked()
                assert sent == [0, 1, 2]  # one on its way and two in the outbox
                assert await client.receive() == "0"
                await anyio.wait_all_tasks_blocked()
                assert sent == [0, 1, 2, 3]
                session.end(Ending.of(EndKind.DISCONNECTED))


async def test_each_policy_has_a_lane_of_its_own() -> None:
    rules = [TopicRules(pattern="price.*", overflow=Overflow.CONFLATE)]
    async with Broker(rules=rules, limits=Limits(max_outbox_messages=3)) as broker:
        async with connected(broker, capacity=0) as (client, session):
            await session.subscribe("price.eur")
            await session.subscribe("chat")
            await broker.publish("price.eur", "0")
            await anyio.wait_all_tasks_blocked()  # it is on its way
            for number in range(1, 50):
                await broker.publish("price.eur", str(number))
            await broker.publish("chat", "hello")
            assert session.ending is None
            got = [await client.receive() for _ in range(4)]
            gap = '{"type":"gap","topic":"price.eur","epoch":'
            assert sorted(map(str, got))[:3] == ["0", "49", "hello"]
            assert [text for text in got if str(text).startswith(gap)]


async def test_blocking_a_publisher_is_not_for_clients() -> None:
    rules = [TopicRules(pattern="b", overflow=Overflow.BLOCK)]
    async with Broker(rules=rules) as broker:
        async with connected(broker) as (_, session):
            with pytest.raises(UsageError, match="BLOCK"):
                await session.subscribe("b")
            with pytest.raises(UsageError, match="BLOCK"):
                await session.subscribe("t", overflow=Overflow.BLOCK)
            assert session.topics == []
        _, transport = memory_transport()
        with pytest.raises(UsageError, match="BLOCK"):
            async with broker.open_session(
                transport, Frames.TEXT, overflow=Overflow.BLOCK
            ):
                pass
        _.close_all()


async def test_an_encoder_is_called_once_per_message() -> None:
    calls: list[Item] = []

    def encode(item: Item) -> str:
        calls.append(item)
        return f"gap:{item.missed}" if isinstance(item, Gap) else f"<{item.payload!s}>"

    async with (
        Broker() as broker,
        connected(broker, encode=encode) as (one, first),
        connected(broker, encode=encode) as (two, second),
    ):
        await first.subscribe("t")
        await second.subscribe("t")
        await broker.publish("t", "x")
        assert [await one.receive(), await two.receive()] == ["<x>", "<x>"]
        assert len(calls) == 1


async def test_subscribe_twice_and_unsubscribe() -> None:
    async with Broker() as broker, connected(broker) as (client, session):
        first = await session.subscribe("t")
        assert await session.subscribe("t") is first
        receipt = await broker.publish("t", "once")
        assert receipt.subscribers == 1
        await session.unsubscribe("t")
        await session.unsubscribe("t")
        assert (await broker.publish("t", "to nobody")).subscribers == 0
        assert await client.receive() == "once"
        assert broker.statistics().topics == 0


@pytest.mark.parametrize(
    ("act", "code", "reason"),
    [
        (lambda s: s.subscribe("a b"), 1008, "invalid topic 'a b': character ' '"),
        (lambda s: s.publish("a.*", "x"), 1008, "invalid topic 'a.*': character '*'"),
        (lambda s: s.publish("t", "x" * 70_000), 1009, "payload is 70000 B"),
        (lambda s: s.publish("server", "x"), 1008, "not allowed to publish to server"),
        (lambda s: s.subscribe("users"), 1008, "not allowed to subscribe to users"),
        (lambda s: s.subscribe(">"), 1008, "invalid topic '>': character '>'"),
        (
            lambda s: s.subscribe(">", patterns=True),
            1008,
            "not allowed to subscribe to >",
        ),
        (lambda s: s.subscribe("$presence.users"), 1008, "not allowed to subscribe"),
        (lambda s: s.publish("$presence.t", "x"), 1008, "invalid topic '$presence.t'"),
    ],
)
async def test_a_client_is_told_what_it_did_wrong(
    act: Any, code: int, reason: str
) -> None:
    """Uncaught, the error ends that client; the block ends quietly."""
    rules = [
        TopicRules(pattern="server", publish=Access.NOBODY),
        TopicRules(pattern="users", subscribe=Access.USERS),
    ]
    async with Broker(rules=rules) as broker:
        client, transport = memory_transport()
        async with broker.open_session(transport, Frames.TEXT) as session:
            await act(session)
            pytest.fail("not reached")
        assert client.close_code == code
        assert client.close_reason is not None
        assert client.close_reason.startswith(reason)
        client.close_all()


async def test_the_applications_own_mistake_is_not_the_clients() -> None:
    """The same error out of `broker.publish` is a bug: 1011, and it comes out."""
    async with Broker() as broker:
        client, transport = memory_transport()
        with pytest.raises(InvalidTopic):
            async with broker.open_session(transport, Frames.TEXT):
                await broker.publish("not a topic", "x")
        assert (client.close_code, client.close_reason) == (1011, "internal error")
        client.close_all()


async def test_a_flood_of_subscribes_ends_that_client_alone() -> None:
    async with Broker(limits=Limits(max_subscriptions=5)) as broker:
        async with connected(broker) as (_, session):
            for number in range(5):
                await session.subscribe(f"t{number}")
            with pytest.raises(LimitExceeded, match="max_subscriptions is 5"):
                await session.subscribe("one.too.many")
            assert session.ending is None  # caught: the handler decides
        client, transport = memory_transport()
        async with broker.open_session(transport, Frames.TEXT) as session:
            for number in range(100):
                await session.subscribe(f"t{number}")
        assert client.close_code == 1008
        ended = broker.statistics().totals.ended
        assert ended[EndKind.LIMIT_EXCEEDED] == 1
        assert broker.statistics().topics == 0
        client.close_all()


async def test_max_sessions_is_checked_before_anything_else() -> None:
    async with Broker(limits=Limits(max_sessions=1)) as broker, connected(broker):
        client, transport = memory_transport()
        with pytest.raises(LimitExceeded):
            await broker.admit(ConnectRequest())
        with pytest.raises(LimitExceeded):
            async with broker.open_session(transport, Frames.TEXT):
                pass
        assert client.close_code is None
        client.close_all()


async def test_client_ids_are_unique() -> None:
    async with Broker() as broker, connected(broker, client_id="me"):
        client, transport = memory_transport()
        with pytest.raises(UsageError, match="'me' is taken"):
            async with broker.open_session(transport, Frames.TEXT, client_id="me"):
                pass
        client.close_all()


async def test_hooks_see_the_whole_life_of_a_session() -> None:
    seen: list[str] = []

    async def authenticate(request: ConnectRequest) -> str | None:
        seen.append(f"authenticate {request.query['token']}")
        return "ann"

    async def authorize_subscribe(session: Session[Any], topic: str) -> None:
        seen.append(f"subscribe {session.user} {topic}")
        if topic == "secret":
            raise NotAllowed("not for you")

    async def authorize_publish(session: Session[Any], topic: str, _: Any) -> None:
        seen.append(f"publish {session.user} {topic}")

    async def on_connect(session: Session[Any]) -> None:
        seen.append(f"connect {session.user}")
        await session.send("welcome")

    async def on_disconnect(session: Session[Any], ending: Ending) -> None:
        seen.append(f"disconnect {session.user} {ending.kind.value}")

    hooks = Hooks(
        authenticate=authenticate,
        authorize_subscribe=authorize_subscribe,
        authorize_publish=authorize_publish,
        on_connect=on_connect,
        on_disconnect=on_disconnect,
    )
    async with Broker(hooks=hooks) as broker:
        user = await broker.admit(ConnectRequest(query={"token": "t"}))
        async with connected(broker, user=user) as (client, session):
            assert await client.receive() == "welcome"
            await session.publish("t", "x")
            await session.subscribe("secret")
        assert client.close_reason == "not for you"
    assert seen == [
        "authenticate t",
        "connect ann",
        "publish ann t",
        "subscribe ann secret",
        "disconnect ann not_allowed",
    ]


async def test_a_hook_that_fails_ends_that_client_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    async with Broker(hooks=Hooks(authorize_subscribe=broken)) as broker:
        client, transport = memory_transport()
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.subscribe("t")
            pytest.fail("not reached")
        assert (client.close_code, client.close_reason) == (1011, "internal error")
        client.close_all()
    assert "hook authorize_subscribe failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (NotAllowed("full house"), 1008, "full house"),
        (ZeroDivisionError(), 1011, "internal error"),
    ],
)
async def test_on_connect_may_refuse_before_the_block_runs(
    error: Exception, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_connect(_: Session[Any]) -> None:
        raise error

    async with Broker(hooks=Hooks(on_connect=on_connect)) as broker:
        client, transport = memory_transport()
        with pytest.raises(SessionEnded, match=reason):
            async with broker.open_session(transport, Frames.TEXT):
                pytest.fail("not reached")
        assert (client.close_code, client.close_reason) == (code, reason)
        assert broker.statistics().sessions == 0
        client.close_all()


async def test_a_farewell_that_fails_or_hangs_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    async def hanging(*_: Any) -> None:
        await anyio.sleep(LONG_S)

    for hook in (broken, hanging):
        async with Broker(hooks=Hooks(on_disconnect=hook)) as broker:
            start = anyio.current_time()
            async with connected(broker):
                pass
            assert anyio.current_time() - start < 6
    assert "farewell failed" in caplog.text


async def test_disconnect_by_user_and_by_client() -> None:
    async with (
        Broker() as broker,
        connected(broker, user="ann", client_id="1") as (first, _),
        connected(broker, user="ann", client_id="2") as (second, _),
        connected(broker, client_id="3") as (third, _),
    ):
        assert await broker.disconnect(user="ann", reason="logged out") == 2
        assert await broker.disconnect(user="ann") == 0
        assert await broker.disconnect(client="3") == 1
        assert await broker.disconnect(client="nobody") == 0
        for client in (first, second, third):
            await client.closed.wait()
        assert (first.close_code, first.close_reason) == (4000, "logged out")
        assert third.close_reason == "disconnected by the application"
        with pytest.raises(UsageError):
            await broker.disconnect()
        with pytest.raises(UsageError):
            await broker.disconnect(user="a", client="b")


async def test_publish_without_echo_leaves_the_sender_out() -> None:
    async with Broker() as broker:
        async with connected(broker) as (one, me), connected(broker) as (two, other):
            await me.subscribe("t")
            await other.subscribe("t")
            receipt = await me.publish("t", "hi", echo=False)
            assert receipt.subscribers == 1
            await broker.publish("t", "all", exclude=other)
            assert await two.receive() == "hi"
            assert await one.receive() == "all"


class BrokenTransport:
    """Fails in ways that no adapter should, but some host will."""

    async def receive(self) -> str:
        await anyio.sleep(LONG_S)
        raise AssertionError

    async def send(self, frame: Any) -> None:
        raise ConnectionResetError("in the middle of a frame")

    async def close(self, code: int, reason: str) -> None:
        raise AssertionError("nothing may follow a failed send")


class HangingTransport(BrokenTransport):
    """A send that never ends, and a client that leaves all the same."""

    async def receive(self) -> str:
        await anyio.sleep(1)
        raise TransportClosed("left")

    async def send(self, frame: Any) -> None:
        await anyio.sleep(LONG_S)


async def test_a_client_that_leaves_takes_a_hanging_send_with_it() -> None:
    async with Broker() as broker:
        start = anyio.current_time()
        async with broker.open_session(HangingTransport(), Frames.TEXT) as session:
            await session.send("x")
            await session.wait_ended()
        assert anyio.current_time() - start == pytest.approx(1, abs=0.5)


class GoneTransport(BrokenTransport):
    async def send(self, frame: Any) -> None:
        raise TransportClosed("gone")


@pytest.mark.parametrize(
    ("transport", "kind"),
    [
        (BrokenTransport(), EndKind.INTERNAL_ERROR),
        (GoneTransport(), EndKind.CLIENT_LEFT),
    ],
)
async def test_nothing_follows_a_failed_send(
    transport: Any, kind: EndKind, caplog: pytest.LogCaptureFixture
) -> None:
    async with Broker() as broker:
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.send("x")
            assert (await session.wait_ended()).kind is kind


async def test_one_line_per_session_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="broker")
    async with Broker() as broker, connected(broker, client_id="c1"):
        pass
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["session 'c1': completed (1000: 'the server has finished')"]


async def test_the_end_of_another_session_is_not_ones_own() -> None:
    """A handler that trips over somebody else's session has a bug, and is told."""
    async with Broker() as broker, connected(broker) as (_, other):
        other.end(Ending.of(EndKind.DISCONNECTED))
        client, transport = memory_transport()
        with pytest.raises(SessionEnded):
            async with broker.open_session(transport, Frames.TEXT):
                await other.send("x")
        assert client.close_code == 1011
        client.close_all()


async def test_one_that_falls_behind_while_history_is_read_is_told() -> None:
    faults = FaultyBackplane()
    rules = [TopicRules(history_size=50)]
    limits = Limits(max_outbox_messages=2)
    async with Broker(faults, rules=rules, limits=limits) as broker:
        start = (await broker.publish("t", "0")).position
        client, transport = memory_transport()
        async with (
            broker.subscribe("t", max_messages=50),
            anyio.create_task_group() as g,
        ):

            async def resume() -> None:
                async with broker.open_session(transport, Frames.TEXT) as session:
                    await session.subscribe("t", since=start)
                    pytest.fail("not reached")

            faults.delay_s = 5
            g.start_soon(resume)
            await anyio.wait_all_tasks_blocked()
            faults.delay_s = 0
            for number in range(5):
                await broker.publish("t", str(number))
        assert client.close_code == 4008
        assert broker.statistics().topics == 0
        client.close_all()


async def test_a_subscribe_that_fails_half_way_is_undone() -> None:
    """Presence cannot be entered: not subscribed, not present, and still alive."""
    faults = FaultyBackplane()
    rules = [TopicRules(presence=True)]
    async with Broker(faults, rules=rules) as broker:
        async with connected(broker) as (_, session), broker.subscribe("t"):
            faults.fail_next = 1
            with pytest.raises(BackplaneError):
                await session.subscribe("t")
            assert session.topics == []
            faults.delay_s = 5
            with anyio.move_on_after(2):
                await session.subscribe("t")
            assert session.topics == []
            await anyio.sleep(20)
            assert await broker.presence("t") == []
            faults.delay_s = 0
            await session.subscribe("t")
            assert len(await broker.presence("t")) == 1


async def test_two_tasks_cannot_receive_at_once() -> None:
    async with Broker() as broker, connected(broker) as (_, session):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(
                anyio.BusyResourceError,
                match=r"^Another task is already receiving from this resource$",
            ):
                await session.receive()
            tasks.cancel_scope.cancel()


async def test_what_an_ended_session_may_do() -> None:
    async with Broker() as broker, connected(broker) as (_, session):
        session.end(Ending.of(EndKind.DISCONNECTED))
        session.end(Ending.of(EndKind.IDLE))  # the first one counts
        for act in (
            session.subscribe("t"),
            session.publish("t", "x"),
            session.send("x"),
            session.receive(),
        ):
            with pytest.raises(SessionEnded) as error:
                await act
            assert error.value.ending.kind is EndKind.DISCONNECTED
        await session.unsubscribe("t")
        assert [text async for text in session] == []


async def test_shutdown_tells_everybody_to_come_back() -> None:
    client, transport = memory_transport()
    broker = Broker()

    async def handler() -> None:
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.subscribe("t")
            async for _ in session:
                pass
            with pytest.raises(BrokerClosed):
                await broker.publish("t", "too late")

    async with anyio.create_task_group() as tasks:
        async with broker:
            tasks.start_soon(handler)
            await anyio.wait_all_tasks_blocked()
            await broker.publish("t", "last")
        assert await client.receive() == "last"
        assert (client.close_code, client.close_reason) == (
            1012,
            "server restart, come back",
        )
    client.close_all()


async def test_gaps_are_told_to_clients_in_band() -> None:
    limits = Limits(max_outbox_messages=2)
    async with Broker(limits=limits) as broker:
        policy = Overflow.DROP_OLDEST
        async with connected(broker, capacity=0, overflow=policy) as (client, session):
            await session.subscribe("t")
            await broker.publish("t", "0")
            await anyio.wait_all_tasks_blocked()  # it is on its way
            for number in range(1, 6):
                await broker.publish("t", str(number))
            epoch = (await broker.publish("t", "6")).position.epoch
            got = [await client.receive() for _ in range(4)]
            assert got == [
                "0",
                f'{{"type":"gap","topic":"t","epoch":"{epoch}",'
                '"first":2,"last":5,"missed":4}',
                "5",
                "6",
            ]
