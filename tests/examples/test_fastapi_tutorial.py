"""What FastAPI's WebSocket tutorial says of its three programs, said of ours.

The requests and the strings are the tutorial's. Two things differ on purpose: the test
client is entered, because a broker runs in the lifespan; and an endpoint whose client
has left ends quietly, where the tutorial's raises ``WebSocketDisconnect``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Annotated, Literal

import pytest
from fastapi import FastAPI, Security, WebSocket, WebSocketDisconnect
from fastapi.security import SecurityScopes

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker
from examples import fastapi_chat, fastapi_echo, fastapi_items

with warnings.catch_warnings():
    # Starlette's test client wants httpx2 and says so on import; httpx serves as well.
    warnings.filterwarnings("ignore", "Using `httpx`", UserWarning)
    from fastapi.testclient import TestClient

Backend = Literal["asyncio", "trio"]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name


@pytest.fixture
def echo(backend: Backend) -> Iterator[TestClient]:
    with TestClient(fastapi_echo.app, backend=backend) as client:
        yield client


@pytest.fixture
def items(backend: Backend) -> Iterator[TestClient]:
    with TestClient(fastapi_items.app, backend=backend) as client:
        yield client


@pytest.fixture
def chat(backend: Backend) -> Iterator[TestClient]:
    with TestClient(fastapi_chat.app, backend=backend) as client:
        yield client


def test_echo_page(echo: TestClient) -> None:
    response = echo.get("/")
    assert response.status_code == 200
    assert b"<!DOCTYPE html>" in response.content


def test_echo(echo: TestClient) -> None:
    with echo.websocket_connect("/ws") as websocket:
        websocket.send_text("Message one")
        assert websocket.receive_text() == "Message text was: Message one"
        websocket.send_text("Message two")
        assert websocket.receive_text() == "Message text was: Message two"


def test_items_page(items: TestClient) -> None:
    response = items.get("/")
    assert response.status_code == 200
    assert b"<!DOCTYPE html>" in response.content


@pytest.mark.parametrize(
    ("path", "cookies", "answers"),
    [
        (
            "/items/foo/ws",
            {"session": "fakesession"},
            [
                "Session cookie or query token value is: fakesession",
                "Message text was: {}, for item ID: foo",
            ],
        ),
        (
            "/items/bar/ws?token=some-token",
            {},
            [
                "Session cookie or query token value is: some-token",
                "Message text was: {}, for item ID: bar",
            ],
        ),
        (
            "/items/2/ws?q=3&token=some-token",
            {},
            [
                "Session cookie or query token value is: some-token",
                "Query parameter q is: 3",
                "Message text was: {}, for item ID: 2",
            ],
        ),
        (
            "/items/foo/ws?token=some-token",
            {"session": "fakesession"},
            [
                "Session cookie or query token value is: fakesession",
                "Message text was: {}, for item ID: foo",
            ],
        ),
    ],
    ids=["cookie", "token", "token and query", "cookie wins over token"],
)
def test_items(
    items: TestClient, path: str, cookies: dict[str, str], answers: list[str]
) -> None:
    items.cookies.update(cookies)
    with items.websocket_connect(path) as websocket:
        for text in ("Message one", "Message two"):
            websocket.send_text(text)
            for answer in answers:
                assert websocket.receive_text() == answer.format(text)


def test_items_header(items: TestClient) -> None:
    with items.websocket_connect(
        "/items/foo/ws?token=some-token", headers={"X-Client": "me"}
    ) as websocket:
        websocket.send_text("Message one")
        websocket.receive_text()
        assert websocket.receive_text() == "Header X-Client is: me"


@pytest.mark.parametrize(
    "path",
    ["/items/foo/ws", "/items/foo/ws?q=bar&token=some-token"],
    ids=["no credentials", "invalid data"],
)
def test_items_refused(items: TestClient, path: str) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        items.websocket_connect(path),
    ):
        pass
    assert refused.value.code == 1008


def test_chat_page(chat: TestClient) -> None:
    response = chat.get("/")
    assert response.status_code == 200
    assert response.text == fastapi_chat.html
    assert 'id="ws-id"' in response.text


def test_chat_tells_who_left(chat: TestClient) -> None:
    with (
        chat.websocket_connect("/ws/1234") as one,
        chat.websocket_connect("/ws/5678") as two,
    ):
        # As in the tutorial nothing is sent on entry: an answer proves that 5678 is in.
        two.send_text("Ready")
        assert two.receive_text() == "You wrote: Ready"
        assert two.receive_text() == "Client #5678 says: Ready"
        assert one.receive_text() == "Client #5678 says: Ready"
        one.send_text("Hello from 1234")
        assert one.receive_text() == "You wrote: Hello from 1234"
        assert two.receive_text() == "Client #1234 says: Hello from 1234"
        assert one.receive_text() == "Client #1234 says: Hello from 1234"
        two.close()
        assert one.receive_text() == "Client #5678 left the chat"


async def name_scopes(scopes: SecurityScopes) -> str:
    return scopes.scope_str


def test_security_with_scopes(backend: Backend) -> None:
    """The one way to declare a parameter that the tutorial names and does not show."""
    broker = Broker()
    app = FastAPI(lifespan=broker_lifespan(broker))

    @app.websocket("/ws")
    async def endpoint(
        websocket: WebSocket,
        scopes: Annotated[str, Security(name_scopes, scopes=["items", "me"])],
    ) -> None:
        async with open_session(websocket, broker) as session:
            await session.send(scopes)

    with (
        TestClient(app, backend=backend) as client,
        client.websocket_connect("/ws") as websocket,
    ):
        assert websocket.receive_text() == "items me"
