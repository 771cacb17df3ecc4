"""What the application gives is looked at where it comes in, and refused in words."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import pytest

from broker import (
    Attached,
    Broker,
    ConnectRequest,
    EndKind,
    Hooks,
    Limits,
    Overflow,
    TopicRules,
    UsageError,
)
from broker.client_protocol import Connected
from broker.server_api import ServerApi

from .client_helpers import protocol, serving
from .helpers import connected, payloads, take_all

NEWS = [TopicRules(presence=True, join_leave=True)]
NOT_A_USER = r"^a user is text, not int: write str\(user\.id\), or whatever it is$"
ID = UUID(int=1)
ELSEWHERE = "another thread.*anyio.from_thread.run"
Call = Callable[[], Awaitable[Any]]


# --- Users ---


async def test_a_hook_that_returns_no_text_refuses_its_client_aloud(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def authenticate(request: ConnectRequest) -> Any:
        return 5

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:
        with pytest.raises(UsageError, match=NOT_A_USER):
            await broker.admit(ConnectRequest())
        assert broker.statistics().totals.refused[EndKind.INTERNAL_ERROR] == 1
    record = caplog.records[0]
    assert record.levelno == logging.ERROR
    assert "a user is text, not int" in record.getMessage()


async def test_a_user_that_is_no_text_reaches_nobody_else() -> None:
    """It ended every client that had asked to be told of joins."""
    user: Any = 7
    async with Broker(rules=NEWS) as broker, serving(broker, user="ann") as ann:
        await ann.call("subscribe", channel="c", join_leave=True)
        with pytest.raises(UsageError, match=NOT_A_USER):
            await broker.admit(ConnectRequest(), user=user)
        with pytest.raises(UsageError, match=NOT_A_USER):
            async with connected(broker, user=user):
                pass
        async with connected(broker) as (_, session):
            with pytest.raises(UsageError, match=NOT_A_USER):
                broker.identify(session, user)
            assert session.user is None
            await session.subscribe("c")
        assert ann.session.ending is None
        reply, _ = await ann.ask("publish", channel="c", data=1)
        assert reply["publish"] == {}


@pytest.mark.parametrize("user", [7, 0])
async def test_a_connect_handler_that_names_no_text(
    user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def connect(session: Any, connecting: Any) -> Connected:
        return Connected(user=user)

    spoken = protocol(connect=connect)
    async with Broker(rules=NEWS) as broker, serving(broker) as other:
        async with serving(broker, spoken, is_connected=False) as client:
            assert await client.error("connect") == 100
        assert other.session.ending is None
    assert "a user is text, not int" in caplog.text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"user": 7}, NOT_A_USER),
        ({"client": ID}, r"^a client id is text, not UUID: write str\(…\)$"),
    ],
)
async def test_orders_are_about_text(options: Any, problem: str) -> None:
    async with Broker() as broker:
        acts: list[Call] = [
            lambda: broker.disconnect(**options),
            lambda: broker.subscribe_client("t", **options),
            lambda: broker.unsubscribe_client("t", **options),
            lambda: broker.refresh_client(expires_at=None, **options),
        ]
        for act in acts:
            with pytest.raises(UsageError, match=problem):
                await act()
        with pytest.raises(UsageError, match=problem):
            broker.sessions(**options)


# --- Threads ---


def in_a_thread(backend: str, call: Call) -> BaseException | None:
    """Run it on an event loop of another thread; return what it raised."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            anyio.run(call, backend=backend)
        except BaseException as error:  # noqa: BLE001 # raised nowhere else
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return caught[0] if caught else None


async def test_another_thread_is_refused(anyio_backend_name: str) -> None:
    """It would wake nobody, and lose what is published meanwhile."""
    async with Broker() as broker, broker.subscribe("t") as sub:
        async with connected(broker) as (_, session):

            async def subscribe() -> None:
                async with broker.subscribe("t"):
                    pass

            async def open_session() -> None:
                async with connected(broker):
                    pass

            acts: list[Call] = [
                lambda: broker.publish("t", "x"),
                lambda: broker.disconnect(user="ann"),
                lambda: broker.history("t"),
                lambda: session.publish("t", "x"),
                lambda: session.send("x"),
                lambda: session.subscribe("t"),
                subscribe,
                open_session,
            ]
            for act in acts:
                error = in_a_thread(anyio_backend_name, act)
                with pytest.raises(UsageError, match=ELSEWHERE):
                    raise error or AssertionError("nothing was raised")
            assert session.ending is None
        assert sub.lag == 0
        await broker.publish("t", "y")
        assert payloads(take_all(sub)) == ["y"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_may_publish_by_way_of_the_loop(backend: str) -> None:
    async def run() -> None:  # threads need the real clock
        async with Broker() as broker, broker.subscribe("t") as sub:
            publish = partial(broker.publish, "t", "x")
            await anyio.to_thread.run_sync(anyio.from_thread.run, publish)
            assert payloads(take_all(sub)) == ["x"]

    anyio.run(run, backend=backend)


async def test_statistics_may_be_read_from_anywhere(anyio_backend_name: str) -> None:
    """An exporter of metrics with a thread of its own would say that all is down."""
    async with Broker() as broker:

        async def read() -> None:
            assert broker.statistics().sessions == 0

        assert in_a_thread(anyio_backend_name, read) is None


async def test_a_broker_may_move_to_another_thread(anyio_backend_name: str) -> None:
    """Where it was entered counts, not where it was made."""
    broker = Broker()

    async def run() -> None:
        async with broker:
            await broker.publish("t", "x")

    assert in_a_thread(anyio_backend_name, run) is None
    await run()


# --- Handlers ---


@pytest.mark.parametrize(("answer", "kind"), [({"a": 1}, "dict"), (None, "NoneType")])
async def test_an_rpc_handler_of_the_server_api_that_returns_no_text(
    answer: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """For clients of the protocol: ``test_rpc`` in ``test_client``."""

    async def rpc(method: str, params: str) -> Any:
        return answer

    async with Broker() as broker:
        told = await ServerApi(broker, rpc=rpc).answer("rpc", b'{"method": "m"}')
    assert told.error is not None
    assert told.error.code == 100
    assert f"an rpc handler returns JSON text, not {kind}" in caplog.text


# --- Options ---


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"backplane": 5}, "backplane must be a URL or a Backplane, not int"),
        ({"backplane": Broker}, "backplane must be a URL or a Backplane, not type"),
        (
            {"limits": {"max_sessions": 5}},
            "limits must be Limits, not dict: write limits=Limits(…)",
        ),
        ({"limits": {}}, "limits must be Limits, not dict: write limits=Limits(…)"),
        ({"hooks": {}}, "hooks must be Hooks, not dict: write hooks=Hooks(…)"),
        (
            {"rules": "chat"},
            "rules must be several TopicRules, not str: use a list or a tuple",
        ),
        (
            {"rules": TopicRules()},
            "rules must be several TopicRules, not TopicRules: use a list or a tuple",
        ),
        ({"rules": {"chat": {}}}, "a rule must be TopicRules, not str"),
        ({"origins": 5}, "origins must be several str, not int: use a list or a tuple"),
    ],
)
def test_what_a_broker_is_not_made_of(options: Any, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        Broker(**options)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("topic", "payload", "options", "problem"),
    [
        (5, "x", {}, "a topic is text, not int"),
        (None, "x", {}, "a topic is text, not NoneType"),
        (b"t", "x", {}, "a topic is text, not bytes"),
        (b"t" * 256, "x", {}, "a topic is text, not bytes"),
        (["t"], "x", {}, "a topic is text, not list"),
        ("t", "x", {"headers": {"a": 1}}, "headers are text by text, not {'a': 1}"),
        ("t", "x", {"headers": {"a": b""}}, "headers are text by text, not {'a': b''}"),
        ("t", "x", {"headers": [("a", "b")]}, "headers are text by text, not list"),
        ("t", "x", {"message_id": 5}, "message_id must be str, not int"),
        (
            "t",
            "x",
            {"exclude": 5},
            "exclude must be a session, a subscription or an id",
        ),
    ],
)
async def test_what_is_not_published(
    topic: Any, payload: Any, options: Any, problem: str
) -> None:
    async with Broker() as broker, broker.subscribe(">") as sub:
        with pytest.raises(UsageError) as caught:
            await broker.publish(topic, payload, **options)
        assert str(caught.value).startswith(problem)
        assert sub.lag == 0


@pytest.mark.parametrize(
    ("topics", "options", "problem"),
    [
        (["t"], {"overflow": "bogus"}, "overflow must be one of Overflow.DISCONNECT, "),
        (["t"], {"overflow": "conflate"}, "overflow must be one of "),
        (["t"], {"since": "5"}, "since must be a Position, not str"),
        (["t"], {"recent": "5"}, "recent must be a whole number, not '5'"),
        (["t"], {"max_messages": "5"}, "max_messages must be a whole number, not '5'"),
        (["t"], {"max_bytes": "5"}, "max_bytes must be a whole number, not '5'"),
        ([["a", "b"]], {}, "a topic is text, not list"),
    ],
)
async def test_what_is_not_subscribed(topics: Any, options: Any, problem: str) -> None:
    async with Broker() as broker:
        with pytest.raises(UsageError) as caught:
            async with broker.subscribe(*topics, **options):
                pass
        assert str(caught.value).startswith(problem)
        assert broker.statistics().subscriptions == 0


async def test_places_in_history_are_positions() -> None:
    since: Any = "5"
    async with Broker() as broker:
        acts: list[Call] = [
            lambda: broker.history("t", since=since),
            lambda: broker.subscribe_client("t", user="ann", since=since),
        ]
        for act in acts:
            with pytest.raises(UsageError, match="since must be a Position, not str"):
                await act()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"overflow": "drop_oldest"}, "overflow must be one of Overflow.DISCONNECT, "),
        (
            {"frames": "binary"},
            "frames must be Frames.TEXT, Frames.BINARY or Frames.ANY, not 'binary'",
        ),
        ({"client_id": 5}, "a client id is text, not int: write str(…)"),
        ({"overflow": Overflow.BLOCK}, "a client must not hold up publishers"),
    ],
)
async def test_sessions_that_are_not_opened(options: Any, problem: str) -> None:
    async with Broker(limits=Limits(max_sessions=1)) as broker:
        with pytest.raises(UsageError) as caught:
            async with connected(broker, **options):
                pass
        assert str(caught.value).startswith(problem)
        assert broker.statistics().sessions == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"overflow": "bogus"}, "overflow must be one of Overflow.DISCONNECT, "),
        ({"since": "5"}, "since must be a Position, not str"),
        ({"recent": "5"}, "recent must be a whole number, not '5'"),
    ],
)
async def test_what_a_session_does_not_subscribe(options: Any, problem: str) -> None:
    """A bug of its handler, which comes out of the block."""
    async with Broker() as broker:
        with pytest.raises(UsageError) as caught:
            async with connected(broker) as (_, session):
                await session.subscribe("t", **options)
        assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("topic", "payload", "options", "problem"),
    [
        (5, "x", {}, "a topic is text, not int"),
        ("t", 5, {}, "payload must be str or bytes, not int"),
        ("t", "x", {"headers": {"a": 1}}, "headers are text by text, not {'a': 1}"),
    ],
)
async def test_what_a_session_does_not_publish(
    topic: Any, payload: Any, options: Any, problem: str, caplog: Any
) -> None:
    """The client is told 1011 and nothing more, so the log has to say it."""
    async with Broker() as broker:
        async with connected(broker) as (_, session):
            await session.publish(topic, payload, **options)
        assert session.ended_by.kind is EndKind.INTERNAL_ERROR
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert problem in caplog.text


async def test_what_a_session_returns_has_a_public_name() -> None:
    async with Broker() as broker, connected(broker) as (_, session):
        assert isinstance(await session.subscribe("t"), Attached)
