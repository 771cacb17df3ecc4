"""The Starlette adapter, over ASGI messages in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.exceptions import WebSocketException
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import Refused, connect_request, open_session
from broker import (
    Broker,
    BrokerClosed,
    ConnectRequest,
    EndKind,
    Frames,
    Hooks,
    Limits,
    NotAllowed,
    drain,
)

Endpoint = Callable[[WebSocket], Awaitable[None]]


class Client:
    """The server's side of ASGI: what an endpoint receives, and what it sends.

    Attributes:
        sent: all that the application has sent.
    """

    def __init__(self, *, denial: bool = True, subprotocols: tuple[str, ...] = ()):
        extensions: dict[str, Any] = {"websocket.http.response": {}} if denial else {}
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/ws",
            "query_string": b"token=t&token=u",
            "headers": [(b"cookie", b"a=1"), (b"x-one", b"1"), (b"x-one", b"2")],
            "client": ("192.0.2.1", 1234),
            "extensions": extensions,
            "subprotocols": list(subprotocols),
        }
        self.sent: list[dict[str, Any]] = []
        self.fails_on = ""
        self._send, self._receive = anyio.create_memory_object_stream[dict[str, Any]](9)
        self.say({"type": "websocket.connect"})

    def say(self, message: dict[str, Any]) -> None:
        self._send.send_nowait(message)

    def text(self, text: str) -> None:
        self.say({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self.say({"type": "websocket.disconnect", "code": 1006})

    async def receive(self) -> dict[str, Any]:
        return await self._receive.receive()

    async def send(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"] == self.fails_on:
            raise RuntimeError("the server chokes")
        self.sent.append(dict(message))
        if message["type"] == "websocket.close":
            self.leave()  # answers at once

    def close(self) -> None:
        self._send.close()
        self._receive.close()

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.sent]


async def run(endpoint: Endpoint, client: Client, broker: Broker) -> None:
    """Run an endpoint in a Starlette application, for one client."""
    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)])
    try:
        with anyio.fail_after(60):
            await app(client.scope, client.receive, client.send)
    finally:
        client.close()


async def test_a_conversation() -> None:
    async with Broker() as broker:

        async def echo(websocket: WebSocket) -> None:
            async with open_session(websocket, broker) as session:
                async for text in session:
                    await session.send(f"You wrote: {text}")

        client = Client()
        client.text("hello")
        client.leave()
        await run(echo, client, broker)
        assert client.kinds[0] == "accept"
        # It had left when the reply was due, or it had not: never a third thing.
        assert client.kinds in (["accept"], ["accept", "send"])
        assert broker.statistics().totals.ended[EndKind.CLIENT_LEFT] == 1


async def test_text_and_binary_both_ways() -> None:
    async with Broker() as broker:

        async def echo(websocket: WebSocket) -> None:
            async with open_session(websocket, broker, frames=Frames.ANY) as session:
                for _ in range(3):
                    await session.send(await session.receive())

        client = Client()
        client.text("")
        client.say({"type": "websocket.receive", "bytes": b"\x00", "text": None})
        client.say({"type": "websocket.receive", "bytes": None, "text": "é"})
        await run(echo, client, broker)
        sent = [m for m in client.sent if m["type"] == "websocket.send"]
        assert [m.get("text", m.get("bytes")) for m in sent] == ["", b"\x00", "é"]
        assert client.sent[-1]["code"] == 1000


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotAllowed("who are you?", authenticated=False), 401, 1008),
        (NotAllowed("not you"), 403, 1008),
        (BrokerClosed("closing"), 503, 1012),
    ],
)
@pytest.mark.parametrize("denial", [True, False])
async def test_refusal_before_accept(
    error: Exception, status: int, code: int, denial: bool
) -> None:
    async def authenticate(_: ConnectRequest) -> str:
        raise error

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker):
                pytest.fail("not reached")

        client = Client(denial=denial)
        await run(endpoint, client, broker)  # no exception reaches the server
        if denial:
            start, body = client.sent
            headers = dict(start["headers"])
            assert start["status"] == status
            assert headers[b"content-type"] == b"application/json"
            assert json.loads(body["body"]) == {"detail": str(error)}
            assert (b"retry-after" in headers) == (status == 503)
        else:
            assert [(m["type"], m["code"]) for m in client.sent] == [
                ("websocket.close", code)
            ]


async def test_refusal_that_a_browser_sees() -> None:
    async def authenticate(_: ConnectRequest) -> str:
        raise NotAllowed("no token", authenticated=False)

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker, refusal="close"):
                pytest.fail("not reached")

        client = Client()
        client.text("a flooder's")
        client.text("first words")
        await run(endpoint, client, broker)
        assert client.kinds == ["accept", "close"]
        assert (client.sent[1]["code"], client.sent[1]["reason"]) == (1008, "no token")
        # Left only when the client was: nothing that it said stays with the server.
        assert client._receive.statistics().current_buffer_used == 0


async def one_inside(
    broker: Broker, *others: Client, endpoint: Endpoint | None = None
) -> None:
    """Let others come one after the other while a first one is connected."""
    inside = anyio.Event()

    async def first_endpoint(websocket: WebSocket) -> None:
        async with open_session(websocket, broker, user="ann") as session:
            inside.set()
            await session.wait_ended()

    async def refused(websocket: WebSocket) -> None:
        async with open_session(websocket, broker, user="ann"):
            pytest.fail("not reached")

    first = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, first_endpoint, first, broker)
        await inside.wait()
        for other in others:
            await run(endpoint or refused, other, broker)
        first.leave()


@pytest.mark.parametrize(
    ("limits", "status", "kind", "detail"),
    [
        (
            Limits(max_sessions=1),
            503,
            EndKind.SESSIONS,
            "max_sessions is 1, and all are in use",
        ),
        (
            Limits(max_sessions_per_host=1),
            429,
            EndKind.SESSIONS_OF_HOST,
            "max_sessions_per_host is 1, and all are in use",
        ),
        (
            Limits(max_sessions_per_user=1),
            429,
            EndKind.SESSIONS_OF_USER,
            "max_sessions_per_user is 1, and all are in use",
        ),
    ],
)
async def test_too_many_sessions(
    limits: Limits, status: int, kind: EndKind, detail: str
) -> None:
    async with Broker(limits=limits) as broker:
        other = Client()
        await one_inside(broker, other)
        assert other.sent[0]["status"] == status
        assert (b"retry-after", b"1") in other.sent[0]["headers"]
        assert json.loads(other.sent[1]["body"]) == {"detail": detail}
        assert broker.statistics().totals.refused[kind] == 1


async def test_the_last_place_goes_to_one_of_two() -> None:
    """Both were told to come in while there was room; the second is told why not."""
    both, seen = anyio.Event(), 0

    async def authenticate(request: ConnectRequest) -> str:
        nonlocal seen
        seen += 1
        if seen == 2:
            both.set()
        await both.wait()
        return "ann"

    hooks = Hooks(authenticate=authenticate)
    async with Broker(limits=Limits(max_sessions=1), hooks=hooks) as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker) as session:
                await session.wait_ended()

        clients = [Client(), Client()]
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(run, endpoint, client, broker)
            await anyio.wait_all_tasks_blocked()
            for client in clients:
                with suppress(anyio.ClosedResourceError):  # it was refused, and left
                    client.leave()
        closed = [each.sent[1] for each in clients if len(each.sent) == 2]
        assert [each["code"] for each in closed] == [1013]
        assert closed[0]["reason"] == "max_sessions is 1, and all are in use"
        assert broker.statistics().totals.refused[EndKind.SESSIONS] == 1


@pytest.mark.parametrize(
    ("origin", "listed", "is_allowed"),
    [
        (None, (), True),
        ("https://chat.example:8000", (), True),
        ("http://chat.example:8000", (), True),
        ("https://evil.example", (), False),
        ("https://chat.example", (), False),
        ("null", (), False),
        ("https://app.example", ("https://app.example",), True),
        ("https://evil.example", ("*",), True),
    ],
)
async def test_a_page_of_another_site_is_refused(
    origin: str | None, listed: tuple[str, ...], is_allowed: bool
) -> None:
    """Also if the endpoint knows the user: that is whom such a page would use."""
    async with Broker(origins=listed) as broker:
        client = Client()
        client.scope["headers"] = [(b"host", b"chat.example:8000")]
        if origin is not None:
            client.scope["headers"].append((b"origin", origin.encode()))

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker, user="ann"):
                pass

        client.leave()
        await run(endpoint, client, broker)
        refused = broker.statistics().totals.refused[EndKind.ORIGIN_NOT_ALLOWED]
        if is_allowed:
            assert client.kinds[0] == "accept"
            assert refused == 0
        else:
            assert client.sent[0]["status"] == 403
            assert json.loads(client.sent[1]["body"]) == {
                "detail": "origin not allowed"
            }
            assert refused == 1


async def test_who_comes_while_draining_gets_503() -> None:
    async with Broker() as broker:
        client = Client()

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker):
                pytest.fail("not reached")

        await drain(broker)
        await run(endpoint, client, broker)
        assert client.sent[0]["status"] == 503
        assert (b"retry-after", b"1") in client.sent[0]["headers"]
        assert broker.statistics().totals.refused[EndKind.SHUTDOWN] == 1


async def test_who_connects() -> None:
    seen: list[ConnectRequest] = []

    async def authenticate(request: ConnectRequest) -> str:
        seen.append(request)
        return "ann"

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker) as session:
                assert session.user == "ann"

        await run(endpoint, Client(), broker)
    assert seen == [
        ConnectRequest(
            path="/ws",
            headers={"cookie": "a=1", "x-one": "1"},
            query={"token": "u"},
            cookies={"a": "1"},
            client_host="192.0.2.1",
        )
    ]
    client = Client()
    client.scope["client"] = None  # a unix socket
    websocket = WebSocket(client.scope, client.receive, client.send)
    assert connect_request(websocket).client_host is None
    client.close()


async def test_only_offered_subprotocols_are_chosen() -> None:
    for offered, chosen in ((("one", "two"), "two"), (("other",), None), ((), None)):
        async with Broker() as broker:

            async def endpoint(websocket: WebSocket, broker: Broker = broker) -> None:
                async with open_session(websocket, broker, subprotocol="two"):
                    pass

            client = Client(subprotocols=offered)
            await run(endpoint, client, broker)
            assert client.sent[0]["subprotocol"] == chosen


async def test_an_endpoint_may_have_accepted_already() -> None:
    async with Broker() as broker:

        async def endpoint(websocket: WebSocket) -> None:
            await websocket.accept(subprotocol="mine")
            async with open_session(websocket, broker) as session:
                await session.send("hello")

        client = Client()
        await run(endpoint, client, broker)
        assert client.kinds == ["accept", "send", "close"]


async def test_websocket_exception_closes_with_its_code() -> None:
    after: list[str] = []
    async with Broker() as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker) as session:
                await session.send("first this")
                raise WebSocketException(4321, "because")
            after.append("ran")

        client = Client()
        await run(endpoint, client, broker)
        assert client.kinds == ["accept", "send", "close"]
        assert (client.sent[-1]["code"], client.sent[-1]["reason"]) == (4321, "because")
        assert after == ["ran"]


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.send"])
async def test_a_server_that_chokes(kind: str) -> None:
    """A server tells a lost client in any way it likes; all mean that it is gone."""
    async with Broker() as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker) as session:
                await session.send("x")
                assert (await session.wait_ended()).kind is EndKind.CLIENT_LEFT

        client = Client()
        client.fails_on = kind
        await run(endpoint, client, broker)
        assert "websocket.close" not in client.kinds
        assert broker.statistics().sessions == 0


async def test_a_refusal_that_cannot_be_sent() -> None:
    async def authenticate(_: ConnectRequest) -> str:
        raise NotAllowed

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker):
                pytest.fail("not reached")

        client = Client()
        client.fails_on = "websocket.http.response.start"
        await run(endpoint, client, broker)
        assert client.sent == []


async def test_on_connect_refuses() -> None:
    async def on_connect(_: Any) -> None:
        raise NotAllowed("full house")

    async with Broker(hooks=Hooks(on_connect=on_connect)) as broker:

        async def endpoint(websocket: WebSocket) -> None:
            async with open_session(websocket, broker):
                pytest.fail("not reached")

        client = Client()
        await run(endpoint, client, broker)
        assert client.sent[-1]["reason"] == "full house"


async def test_without_starlettes_handlers_refused_comes_out() -> None:
    async def authenticate(_: ConnectRequest) -> str:
        raise NotAllowed

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:
        client = Client()
        websocket = WebSocket(client.scope, client.receive, client.send)
        with pytest.raises(Refused):
            async with open_session(websocket, broker):
                pass
        client.close()


async def test_a_farewell_while_the_broker_closes_is_quiet() -> None:
    """The documented endpoint, and a broker that closes under it."""
    broker = Broker()
    inside = anyio.Event()

    async def chat(websocket: WebSocket) -> None:
        async with open_session(websocket, broker) as session:
            await session.subscribe("chat")
            inside.set()
            async for _ in session:
                pass
        await broker.publish("chat", "left")

    client = Client()
    async with anyio.create_task_group() as tasks:
        async with broker:
            tasks.start_soon(run, chat, client, broker)
            await inside.wait()
    assert client.sent[-1]["code"] == 1012


async def test_lifespan_runs_the_broker_and_the_inner_one() -> None:
    broker = Broker()
    seen: list[str] = []

    @asynccontextmanager
    async def inner(app: Starlette) -> AsyncGenerator[dict[str, str], None]:
        await broker.publish("t", "it runs")
        seen.append("in")
        yield {"key": "value"}
        seen.append("out")

    lifespans: list[Any] = [broker_lifespan(broker, inner), broker_lifespan(broker)]
    for lifespan in lifespans:
        app = Starlette(lifespan=lifespan)
        async with app.router.lifespan_context(app) as state:
            assert broker.is_running
            seen.append(str(state))
        assert not broker.is_running
    assert seen == ["in", "{'key': 'value'}", "out", "None"]
    with suppress(BrokerClosed):
        await broker.publish("t", "x")
        pytest.fail("it is closed")
