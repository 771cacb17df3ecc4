"""The example for the Centrifuge SDKs, by hand; tests/e2e drive the SDKs themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.serving import PATIENCE_S, Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.parametrize(
        "server",
        [("fastapi_centrifuge", "asyncio"), ("fastapi_centrifuge", "trio")],
        ids=["asyncio", "trio"],
        indirect=True,
    ),
]
PATH = "/connection/websocket"


def say(client: ClientConnection, **command: Any) -> None:
    client.send(json.dumps(command))


def hear(client: ClientConnection, count: int) -> list[Any]:
    """Return so many replies and pushes, however they were joined."""
    lines: list[str] = []
    while len(lines) < count:
        lines += str(client.recv(PATIENCE_S)).splitlines()
    return [json.loads(line) for line in lines]


def token(server: Server, user: str) -> str:
    given: str = server.get(f"/token/{user}").json()["token"]
    return given


def test_a_chat_with_tokens(server: Server) -> None:
    with server.connect(PATH) as client:
        say(client, id=1, connect={"token": token(server, "ada")})
        say(client, id=2, subscribe={"channel": "chat.lobby"})
        connected, subscribed, joined = hear(client, 3)
        assert connected["connect"]["pong"] is True
        assert subscribed["subscribe"]["recoverable"] is True
        assert joined["push"]["join"]["info"]["user"] == "ada"
        say(client, id=3, publish={"channel": "chat.lobby", "data": {"text": "hello"}})
        push, published = sorted(hear(client, 2), key=lambda each: "id" in each)
        assert push["push"]["pub"]["data"] == {"text": "hello"}
        assert push["push"]["pub"]["info"]["user"] == "ada"
        assert published == {"id": 3, "publish": {}}
        say(client, id=4, rpc={"method": "rename", "data": {"name": "Ada L."}})
        push, answer = sorted(hear(client, 2), key=lambda each: "id" in each)
        assert push["push"]["pub"]["data"] == {"renamed": "ada", "to": "Ada L."}
        assert answer == {"id": 4, "rpc": {"data": {"name": "Ada L."}}}
        say(client, id=5, rpc={"method": "nothing", "data": {}})
        (error,) = hear(client, 1)
        assert error["error"]["code"] == 404


@pytest.mark.parametrize(("given", "code"), [("", 3501), ("forged", 3500)])
def test_without_a_genuine_token(server: Server, given: str, code: int) -> None:
    with server.connect(PATH) as client:
        say(client, id=1, connect={"token": given})
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
        assert closed.value.rcvd.reason
