"""The server API, in memory on both loops; tests/e2e/test_cent.py asks it over HTTP."""

from __future__ import annotations

import json
import logging
import time
import warnings
from base64 import b64encode
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import Receive
from starlette.websockets import WebSocket

from adapters.asgi.client import client_endpoint
from adapters.asgi.http_api import MAX_BODY_BYTES, api_routes
from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import (
    Broker,
    BrokerClosed,
    ConnectRequest,
    Ending,
    EndKind,
    Hooks,
    Limits,
    TopicRules,
    UsageError,
    survey,
)
from broker.client_protocol import ClientError, ClientProtocol
from broker.protocol import api
from broker.server_api import ServerApi
from tests.runtime.helpers import LONG_S, connected

with warnings.catch_warnings():
    # Starlette's test client wants httpx2 and says so on import; httpx serves as well.
    warnings.filterwarnings("ignore", "Using `httpx`", UserWarning)
    from starlette.testclient import TestClient

KEY = "of the tests"
AUTH = {"x-api-key": KEY}
RULES = [
    TopicRules(pattern="chat.>", history_size=10, presence=True, join_leave=True),
    TopicRules(pattern="short.>", history_size=2),
]


async def who(request: ConnectRequest) -> str | None:
    return request.query.get("user")


async def rpc(method: str, params: str) -> str:
    if method == "bug":
        raise ValueError("a bug")
    if method == "refuse":
        raise ClientError(1_234, "as you wished")
    return json.dumps({"method": method, "params": json.loads(params)})


def make_app() -> Starlette:
    broker = Broker(
        rules=RULES, hooks=Hooks(authenticate=who), limits=Limits(grace_s=1)
    )

    async def plain(websocket: WebSocket) -> None:
        async with open_session(websocket, broker) as session:
            await session.subscribe("chat.plain")
            await session.send("ready")
            async for _ in session:
                pass

    return Starlette(
        routes=[
            *api_routes(broker, key=KEY, rpc=rpc, name="one"),
            WebSocketRoute(
                "/client", client_endpoint(broker, ClientProtocol(clock=time.time))
            ),
            WebSocketRoute("/plain", plain),
        ],
        lifespan=broker_lifespan(broker),
    )


@pytest.fixture(params=["asyncio", "trio"])
def client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    with TestClient(make_app(), backend=request.param) as client:
        yield client


def post(client: TestClient, method: str, /, **request: Any) -> Any:
    """Return the whole answer, which has status 200."""
    response = client.post(f"/api/{method}", json=request, headers=AUTH)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return response.json()


def ask(client: TestClient, method: str, /, **request: Any) -> Any:
    """Return the result."""
    return post(client, method, **request)["result"]


def error_of(client: TestClient, method: str, /, **request: Any) -> int:
    """Return the code of the error."""
    error = post(client, method, **request)["error"]
    assert set(error) == {"code", "message"}
    assert error["message"]
    code: int = error["code"]
    return code


def until_present(client: TestClient, channel: str, count: int) -> None:
    """Ask until so many are in a channel."""
    for _ in range(1_000):
        stats = ask(client, "presence_stats", channel=channel)
        if stats["num_clients"] == count:
            return
    raise TimeoutError(channel)


class Socket:
    """A client of the protocol, by hand: what comes is taken line by line."""

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket
        self._lines: list[Any] = []
        self._number = 1
        self.id: str = self.ask("connect")["connect"]["client"]

    def ask(self, command: str, **request: Any) -> Any:
        """Send a command and return the reply, past what is pushed before it."""
        self._number += 1
        self.websocket.send_json({"id": self._number, command: request})
        while True:
            line = self.take()
            if line.get("id") == self._number:
                return line

    def take(self) -> Any:
        while not self._lines:
            frame = self.websocket.receive_text()
            self._lines += [json.loads(line) for line in frame.split("\n")]
        return self._lines.pop(0)

    def push(self, kind: str) -> Any:
        """Return the next push of a kind."""
        while True:
            push = self.take().get("push", {})
            if kind in push:
                return push

    def closed(self) -> tuple[int, str]:
        """Return how it was closed."""
        while True:
            message = self.websocket.receive()
            if message["type"] == "websocket.close":
                return message["code"], message["reason"]


# --- The door ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": "wrong"},
        {"x-api-key": KEY + "x"},
        {"x-api-key": KEY.upper()},
        {"x-api-key": "é"},
        {"authorization": KEY},
        {"authorization": f"Bearer {KEY}"},
        {"authorization": "apikey"},
        {"authorization": "apikey wrong"},
        {"x-api-key": "wrong", "authorization": f"apikey {KEY}"},
    ],
)
def test_without_the_key_nothing_is_said(
    client: TestClient, headers: dict[str, str]
) -> None:
    latin = {name: text.encode("latin-1") for name, text in headers.items()}
    for method in ("info", "nonsense"):
        response = client.post(f"/api/{method}", content=b"{}", headers=latin)
        assert (response.status_code, response.content) == (401, b"")


def test_key_in_the_query_is_not_taken(client: TestClient) -> None:
    assert client.post("/api/info", params={"api_key": KEY}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [AUTH, {"authorization": f"apikey {KEY}"}, {"Authorization": f"APIKEY  {KEY}"}],
)
def test_both_places_of_the_key(client: TestClient, headers: dict[str, str]) -> None:
    response = client.post("/api/info", content=b"{}", headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("key", ["", " ", " a", "a ", "é", "a\nb"])
def test_no_api_without_a_key_that_headers_carry(key: str) -> None:
    with pytest.raises(UsageError, match="key"):
        api_routes(Broker(), key=key)


def test_post_only(client: TestClient) -> None:
    assert client.get("/api/info", headers=AUTH).status_code == 405


def test_large_body(client: TestClient) -> None:
    content = b'{"channel":"a","data":"' + b"x" * MAX_BODY_BYTES + b'"}'

    def chunks() -> Iterator[bytes]:  # so that no content-length says so
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    for body in (content, chunks()):
        response = client.post("/api/publish", content=body, headers=AUTH)
        assert (response.status_code, response.content) == (413, b"")
    padded = b"{}" + b" " * (MAX_BODY_BYTES - 2)
    response = client.post("/api/info", content=padded, headers=AUTH)
    assert "result" in response.json()


async def raw_request(
    receive: Receive, headers: list[tuple[bytes, bytes]], **options: Any
) -> int:
    """Send a request whose body comes as ``receive`` says; return the status."""
    app = Starlette(routes=api_routes(Broker(), key=KEY, **options))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/info",
        "headers": [(b"x-api-key", KEY.encode()), *headers],
        "query_string": b"",
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.anyio
async def test_client_that_leaves_within_its_body() -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    assert await raw_request(receive, []) == 400


@pytest.mark.anyio
async def test_endless_body_is_not_read_to_its_end() -> None:
    parts = 0

    async def receive() -> Any:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": b" " * 1_000_000, "more_body": True}

    assert await raw_request(receive, [], max_body_bytes=10) == 413
    assert parts == 5
    for told in (b"5000000", b"9" * 5_000):
        headers = [(b"content-length", told)]
        assert await raw_request(receive, headers, max_body_bytes=10) == 413
    assert parts == 5


# --- Bodies ---


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"nonsense", "not JSON"),
        (b'{"channel":"\xff"}', "not JSON in UTF-8"),
        (b'{"channel":"a","data":"\\ud800"}', "not JSON"),
        (b'{"channel":"a","data":NaN}', "not JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"publish"', "object"),
        (b'{"channel":1,"data":1}', "str"),
        (b'{"channel":null,"data":1}', "str"),
        (b'{"channel":"a","data":1,"tags":{"a":1}}', "str"),
        (b'{"channel":"a","data":1,"tags":[]}', "object"),
        (b'{"channel":"a","data":1,"skip_history":"yes"}', "bool"),
        (b'{"channel":"a","data":' + b"[" * 200 + b"]" * 200 + b"}", "too deep"),
        (b"[" * 500_000 + b"]" * 500_000, "too deep"),
        (b'{"channel":"a","data":' + b"1" * 5_000 + b"}", "number too long"),
        (b'{"data":1}', "invalid topic"),
        (b'{"channel":"a b","data":1}', "invalid topic"),
        (b'{"channel":"a.*","data":1}', "wildcard"),
        (b'{"channel":"$presence.a","data":1}', "the broker's own"),
        (b'{"channel":"a"}', "data is missing"),
        (b'{"channel":"a","b64data":"!"}', "Base64"),
        ('{"channel":"a","b64data":"é"}'.encode(), "Base64"),
        (b'{"channel":"a","data":"' + b"x" * 66_000 + b'"}', "the limit is"),
        (
            b'{"channel":"a","data":1,"idempotency_key":"' + b"x" * 256 + b'"}',
            "over 255",
        ),
    ],
)
def test_hostile_bodies(client: TestClient, body: bytes, problem: str) -> None:
    response = client.post("/api/publish", content=body, headers=AUTH)
    assert response.status_code == 200
    error = response.json()["error"]
    assert error["code"] == 107
    assert error["message"].startswith("bad request: ")
    assert problem in error["message"]


def test_unknown_fields_are_ignored(client: TestClient) -> None:
    assert ask(client, "publish", channel="a", data=1, delta=True, future=[1]) == {}


def test_unknown_methods(client: TestClient) -> None:
    assert post(client, "nonsense") == {"error": {"code": 104, "message": "not found"}}
    assert client.post("/api/", headers=AUTH).status_code == 404


@pytest.mark.parametrize(
    ("method", "request_", "status", "code"),
    [
        ("nonsense", {}, 404, 104),
        ("publish", {}, 400, 107),
        ("subscribe", {"user": "a", "override": {"a": 1}}, 400, 108),
        ("rpc", {"method": "bug"}, 500, 100),
        ("rpc", {"method": "refuse"}, 500, 1_234),
        (
            "history",
            {"channel": "chat.a", "limit": 1, "since": {"offset": 1, "epoch": "x"}},
            416,
            112,
        ),
    ],
)
def test_errors_in_the_transport(
    client: TestClient, method: str, request_: Any, status: int, code: int
) -> None:
    headers = {**AUTH, "X-Centrifugo-Error-Mode": "transport"}
    response = client.post(f"/api/{method}", json=request_, headers=headers)
    assert response.status_code == status
    assert set(response.json()) == {"code", "message"}
    assert response.json()["code"] == code
    fine = client.post("/api/info", json={}, headers=headers)
    assert (fine.status_code, list(fine.json())) == (200, ["result"])


# --- Methods ---


def test_publish(client: TestClient) -> None:
    with client.websocket_connect("/client") as websocket:
        socket = Socket(websocket)
        socket.ask("subscribe", channel="chat.a")
        first = ask(client, "publish", channel="chat.a", data={"a": 1})
        assert socket.push("pub")["pub"] == {"data": {"a": 1}, "offset": 1}
        assert first["offset"] == 1
        again = ask(
            client, "publish", channel="chat.a", data=None, tags={"k": "v", "": "w"}
        )
        assert again == {"offset": 2, "epoch": first["epoch"]}
        assert socket.push("pub")["pub"] == {
            "data": None,
            "offset": 2,
            "tags": {"k": "v", "": "w"},
        }


@pytest.mark.parametrize(
    ("given", "got"),
    [(b'{"a":\n1}', {"a": 1}), (b"\x00\xff", "AP8="), (b"12", 12), (b"word", "word")],
)
def test_publish_bytes(client: TestClient, given: bytes, got: Any) -> None:
    if given == b"word":
        got = b64encode(given).decode()
    with client.websocket_connect("/client") as websocket:
        socket = Socket(websocket)
        socket.ask("subscribe", channel="a")
        b64data = b64encode(given).decode()
        assert ask(client, "publish", channel="a", data=1, b64data=b64data) == {}
        assert socket.push("pub")["pub"]["data"] == got


def test_line_breaks_stay_out_of_frames(client: TestClient) -> None:
    with client.websocket_connect("/client") as websocket:
        socket = Socket(websocket)
        socket.ask("subscribe", channel="a")
        body = b'{"channel":"a",\r\n"data":{\r\n "b":\n1}}'
        client.post("/api/publish", content=body, headers=AUTH)
        assert socket.push("pub")["pub"]["data"] == {"b": 1}


def test_idempotency(client: TestClient) -> None:
    request = {"channel": "chat.a", "data": 1, "idempotency_key": "k"}
    first = ask(client, "publish", **request)
    assert ask(client, "publish", **request) == first
    other = ask(client, "publish", **{**request, "channel": "chat.b"})
    assert other["offset"] == 1
    assert ask(client, "history", channel="chat.a")["offset"] == 1


def test_what_publish_has_not(client: TestClient) -> None:
    assert error_of(client, "publish", channel="a", data=1, skip_history=True) == 108
    assert error_of(client, "publish", channel="a", data=1, version=1) == 108
    assert error_of(client, "broadcast", channels=["a"], data=1, version=1) == 108


def test_broadcast(client: TestClient) -> None:
    channels = ["chat.a", "not valid", "b", "chat.a"]
    result = ask(client, "broadcast", channels=channels, data=[1])
    first, refused, second, third = result["responses"]
    assert first["result"]["offset"] == 1
    assert refused["error"]["code"] == 107
    assert list(refused) == ["error"]
    assert second == {"result": {}}
    assert third["result"]["offset"] == 2
    assert error_of(client, "broadcast", data=1) == 107
    assert error_of(client, "broadcast", channels=["a"]) == 107


def test_unsubscribe(client: TestClient) -> None:
    with (
        client.websocket_connect("/client?user=ann") as one,
        client.websocket_connect("/client?user=ann") as two,
        client.websocket_connect("/client?user=bob") as three,
        client.websocket_connect("/plain?user=ann") as plain,
    ):
        assert plain.receive_text() == "ready"
        ann, other, bob = Socket(one), Socket(two), Socket(three)
        for socket in (ann, other, bob):
            socket.ask("subscribe", channel="chat.plain")
        assert ask(client, "unsubscribe", user="ann", channel="chat.plain") == {}
        for socket in (ann, other):
            assert socket.push("unsubscribe") == {
                "channel": "chat.plain",
                "unsubscribe": {"code": 2000, "reason": "server unsubscribe"},
            }
            assert "pub" not in json.dumps(socket.ask("rpc", method="x"))
        until_present(client, "chat.plain", 1)  # in a task of the broker's
        channels = ask(client, "channels")["channels"]
        assert channels == {"chat.plain": {"num_clients": 1}}
        # They may come back.
        assert "subscribe" in ann.ask("subscribe", channel="chat.plain")
        assert "subscribe" in other.ask("subscribe", channel="chat.plain")
        ask(client, "unsubscribe", user="ann", channel="chat.plain", client=ann.id)
        assert ann.push("unsubscribe")["channel"] == "chat.plain"
        ask(client, "unsubscribe", user="bob", channel="chat.plain", client=other.id)
        ask(client, "unsubscribe", user="nobody", channel="chat.plain")
        ask(client, "unsubscribe", client="nobody", channel="chat.plain")
        ask(client, "unsubscribe", user="ann", channel="another")
        until_present(client, "chat.plain", 2)


def test_subscribe(client: TestClient) -> None:
    ask(client, "publish", channel="chat.s", data=1)
    top = ask(client, "publish", channel="chat.s", data=2)
    with (
        client.websocket_connect("/client?user=ann") as one,
        client.websocket_connect("/client?user=ann") as two,
        client.websocket_connect("/client?user=bob") as three,
    ):
        ann, other, bob = Socket(one), Socket(two), Socket(three)
        request = {"channel": "chat.s", "user": "ann", "info": {"vip": True}}
        since = {"offset": 1, "epoch": top["epoch"]}
        assert ask(client, "subscribe", data=[1], recover_since=since, **request) == {}
        for socket in (ann, other):
            told = socket.push("subscribe")
            assert told["channel"] == "chat.s"
            assert told["subscribe"] == {
                "recoverable": True,
                "positioned": True,
                "epoch": top["epoch"],
                "offset": 1,
                "data": [1],
            }
            assert socket.push("pub")["pub"] == {"data": 2, "offset": 2}
        info = ann.push("join")["join"]["info"]
        assert (info["user"], info["chan_info"]) == ("ann", {"vip": True})
        until_present(client, "chat.s", 2)
        found = ask(client, "presence", channel="chat.s")["presence"]
        assert found[ann.id]["chan_info"] == {"vip": True}
        # Again: all stays as it is, and nobody is told anything.
        assert ask(client, "subscribe", **request) == {}
        assert "rpc" not in json.dumps(ann.ask("unsubscribe", channel="chat.x"))
        # One client only, if it is that user's.
        ask(client, "subscribe", channel="chat.t", user="ann", client=bob.id)
        ask(client, "subscribe", channel="chat.t", client=bob.id)
        assert bob.push("subscribe")["channel"] == "chat.t"
        channels = ask(client, "channels")["channels"]
        assert channels["chat.t"] == {"num_clients": 1}
        assert channels["chat.s"] == {"num_clients": 2}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"channel": "chat.a"}, 107),
        ({"user": "ann"}, 107),
        ({"user": "ann", "channel": "a b"}, 107),
        ({"user": "ann", "channel": "$presence.a"}, 107),
        ({"user": "ann", "channel": "a", "session": "s"}, 108),
        ({"user": "ann", "channel": "a", "override": {"presence": {}}}, 108),
        ({"user": "ann", "channel": "a", "b64info": "no"}, 107),
        ({"user": "ann", "channel": "a", "b64data": b64encode(b"{").decode()}, 107),
        ({"user": "ann", "channel": "nowhere:a"}, 102),
    ],
)
def test_what_subscribe_refuses(
    client: TestClient, request_: dict[str, Any], code: int
) -> None:
    with client.websocket_connect("/client?user=ann") as one:
        ann = Socket(one)
        assert error_of(client, "subscribe", **request_) == code
        assert "push" not in ann.ask("unsubscribe", channel="chat.x")
        assert ask(client, "channels") == {"channels": {}}


def test_refresh(client: TestClient) -> None:
    with client.websocket_connect("/client?user=ann") as one:
        ann = Socket(one)
        assert ask(client, "refresh", user="ann", expire_at=int(time.time()) + 99) == {}
        assert ask(client, "refresh", user="ann") == {}
        assert ask(client, "refresh", user="bob", expired=True) == {}
        assert "unsubscribe" in ann.ask("unsubscribe", channel="chat.x")
        assert ask(client, "refresh", user="ann", expired=True) == {}
        assert ann.closed() == (3005, "connection expired")
    assert error_of(client, "refresh") == 107
    assert error_of(client, "refresh", user="ann", session="s") == 108


def test_refresh_in_the_past(client: TestClient) -> None:
    """As long ago as no client may stay: it ends at the next look at the clock."""
    with client.websocket_connect("/client?user=ann") as one:
        ann = Socket(one)
        assert ask(client, "refresh", user="ann", expire_at=1) == {}
        assert ann.closed() == (3005, "connection expired")


def test_history_remove(client: TestClient) -> None:
    top = [ask(client, "publish", channel="chat.r", data=each) for each in "abc"][-1]
    assert ask(client, "history_remove", channel="chat.r") == {}
    page = ask(client, "history", channel="chat.r", limit=-1)
    assert page == {"publications": [], "offset": 3, "epoch": top["epoch"]}
    last = ask(client, "publish", channel="chat.r", data="next")
    assert last == {"offset": 4, "epoch": top["epoch"]}
    assert ask(client, "history_remove", channel="chat.unknown") == {}
    assert error_of(client, "history_remove", channel="b") == 108
    assert error_of(client, "history_remove", channel="a b") == 107
    assert error_of(client, "history_remove") == 107


@pytest.mark.parametrize("method", ["unsubscribe", "disconnect"])
def test_whom_is_to_be_said(client: TestClient, method: str) -> None:
    assert error_of(client, method, channel="a") == 107
    assert error_of(client, method, channel="a", user="") == 107
    assert error_of(client, method, channel="a", user="ann", session="s") == 108
    if method == "unsubscribe":
        assert error_of(client, method, user="ann") == 107
        assert error_of(client, method, user="ann", channel="a.*") == 107


def test_disconnect(client: TestClient) -> None:
    with (
        client.websocket_connect("/client?user=ann") as one,
        client.websocket_connect("/client?user=ann") as two,
        client.websocket_connect("/client?user=bob") as three,
    ):
        ann, other, bob = Socket(one), Socket(two), Socket(three)
        kept = [other.id]
        assert ask(client, "disconnect", user="ann", whitelist=kept) == {}
        assert ann.closed() == (3503, "force disconnect")
        ask(client, "disconnect", user="ann", client=bob.id)
        assert "error" in other.ask("rpc", method="x")
        told = {"code": 4100, "reason": "123"}
        ask(client, "disconnect", user="ann", disconnect=told)
        assert other.closed() == (4100, "force disconnect: 123")
        ask(client, "disconnect", client=bob.id, disconnect={"reason": "enough"})
        assert bob.closed() == (3503, "enough")
    with client.websocket_connect("/client?user=ann") as one:
        ann = Socket(one)
        ask(client, "disconnect", user="ann", disconnect={"code": 3010})
        assert ann.closed() == (3010, "insufficient state")
    for code in (1000, 2999, 5000, 4000, -1, 2**32):
        told = {"code": code}
        assert error_of(client, "disconnect", user="ann", disconnect=told) == 107


def test_presence(client: TestClient) -> None:
    assert ask(client, "presence", channel="chat.a") == {"presence": {}}
    with (
        client.websocket_connect("/client?user=ann") as one,
        client.websocket_connect("/client?user=ann") as two,
        client.websocket_connect("/client") as three,
    ):
        sockets = [Socket(one), Socket(two), Socket(three)]
        for socket in sockets:
            socket.ask("subscribe", channel="chat.a")
        users = {
            socket.id: user
            for socket, user in zip(sockets, ("ann", "ann", ""), strict=True)
        }
        assert ask(client, "presence", channel="chat.a")["presence"] == {
            each: {"user": user, "client": each} for each, user in users.items()
        }
        assert ask(client, "presence_stats", channel="chat.a") == {
            "num_clients": 3,
            "num_users": 2,
        }
    for method in ("presence", "presence_stats"):
        assert error_of(client, method, channel="b") == 108
        assert error_of(client, method) == 107


def test_history(client: TestClient) -> None:
    for number in range(1, 5):
        ask(client, "publish", channel="chat.a", data=number, tags={"n": str(number)})
    top = ask(client, "history", channel="chat.a")
    epoch = top["epoch"]
    assert top == {"publications": [], "offset": 4, "epoch": epoch}

    def offsets(**request: Any) -> list[int]:
        result = ask(client, "history", channel="chat.a", **request)
        assert (result["offset"], result["epoch"]) == (4, epoch)
        return [each["offset"] for each in result["publications"]]

    assert offsets(limit=-1) == [1, 2, 3, 4]
    assert offsets(limit=2) == [1, 2]
    assert offsets(limit=1_000) == [1, 2, 3, 4]
    assert offsets(limit=2, reverse=True) == [4, 3]
    for since in ({"offset": 2, "epoch": epoch}, {"offset": 2}):
        assert offsets(since=since) == []
        assert offsets(since=since, limit=1) == [3]
        assert offsets(since=since, limit=-1) == [3, 4]
        assert offsets(since=since, limit=-1, reverse=True) == [1]
    one = ask(client, "history", channel="chat.a", limit=1)["publications"]
    assert one == [{"data": 1, "offset": 1, "tags": {"n": "1"}}]


def test_history_that_is_not_there(client: TestClient) -> None:
    nothing = {"publications": [], "offset": 0, "epoch": ""}
    requests: list[dict[str, Any]] = [
        {},
        {"limit": 1},
        {"since": {"offset": 0}, "limit": -1},
    ]
    for request in requests:
        assert ask(client, "history", channel="chat.a", **request) == nothing
    for number in range(4):
        ask(client, "publish", channel="short.a", data=number)
    lost = {"channel": "short.a", "limit": -1, "since": {"offset": 1}}
    assert error_of(client, "history", **lost) == 112
    for reverse in (False, True):
        other = {"offset": 3, "epoch": "another"}
        strange = {"channel": "short.a", "since": other, "reverse": reverse}
        assert error_of(client, "history", **strange) == 112
    assert error_of(client, "history", channel="b") == 108
    assert error_of(client, "history") == 107
    assert error_of(client, "history", channel="chat.a", limit=2**40) == 107
    assert error_of(client, "history", channel="chat.a", since={"offset": -1}) == 107


def test_channels_and_info(client: TestClient) -> None:
    assert ask(client, "channels") == {"channels": {}}
    with (
        client.websocket_connect("/client?user=ann") as one,
        client.websocket_connect("/client?user=ann") as two,
        client.websocket_connect("/client") as three,
    ):
        sockets = [Socket(one), Socket(two), Socket(three)]
        for socket in sockets:
            socket.ask("subscribe", channel="chat.a")
        sockets[0].ask("subscribe", channel="chat.b")
        sockets[0].ask("subscribe", channel="other")
        a, b, other = (
            {"chat.a": {"num_clients": 3}},
            {"chat.b": {"num_clients": 1}},
            {"other": {"num_clients": 1}},
        )
        for pattern, wanted in {
            "": a | b | other,
            "*": a | b | other,
            "chat.*": a | b,
            "chat.?": a | b,
            "chat.[!a]": b,
            "chat.a": a,
            "chat": {},
            "*t*": a | b | other,
            "*a" * 100: {},
        }.items():
            assert ask(client, "channels", pattern=pattern) == {"channels": wanted}
        (node,) = ask(client, "info")["nodes"]
        assert len(node.pop("uid")) == 32
        assert node == {
            "name": "one",
            "version": f"asgi-broker {version('asgi-broker')}",
            "num_clients": 3,
            "num_users": 1,
            "num_channels": 3,
            "num_subs": 5,
            "uptime": 0,
        }
    for pattern in ("{a,b}", "a\\*", "a" * 256):
        assert error_of(client, "channels", pattern=pattern) == 107


def test_rpc(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    result = ask(client, "rpc", method="m", params={"a": 1})
    assert result == {"data": {"method": "m", "params": {"a": 1}}}
    assert ask(client, "rpc", method="m")["data"]["params"] is None
    refused = post(client, "rpc", method="refuse")
    assert refused == {"error": {"code": 1_234, "message": "as you wished"}}
    # What ran before may have set the level of the test client's own lines.
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert post(client, "rpc", method="bug") == {
        "error": {"code": 100, "message": "internal server error"}
    }
    assert "a bug" in caplog.text


def test_batch(client: TestClient) -> None:
    answer = post(
        client,
        "batch",
        parallel=True,
        commands=[
            {"publish": {"channel": "chat.a", "data": 1}},
            {"broadcast": {"channels": ["chat.a", "!!>"], "data": 2}},
            {"publish": {"channel": 1}},
            {"publish": None},
            {"nonsense": {}},
            {"batch": {"commands": []}},
            {"refresh": {"user": "a", "session": "s"}},
            {"info": {}, "channels": {}},
            {},
            {"history": {"channel": "chat.a", "limit": 5}},
        ],
    )
    assert list(answer) == ["replies"]
    replies = answer["replies"]
    assert replies[0]["publish"]["offset"] == 1
    one, two = replies[1]["broadcast"]["responses"]
    assert one["result"]["offset"] == 2
    assert two["error"]["code"] == 107
    codes = [reply["error"]["code"] for reply in replies[2:9]]
    assert codes == [107, 107, 104, 104, 108, 107, 104]
    assert len(replies[9]["history"]["publications"]) == 2
    assert post(client, "batch") == {"replies": []}
    assert error_of(client, "batch", commands=[1]) == 107
    assert error_of(client, "batch", commands={}) == 107


# --- Without HTTP ---


@pytest.mark.anyio
async def test_from_python() -> None:
    broker = Broker(rules=RULES)
    server = ServerApi(broker)
    with anyio.fail_after(LONG_S):
        async with broker, connected(broker, user="ann") as (client, session):
            await session.subscribe("chat.a")
            receipt = await server.publish(
                api.Publish(channel="chat.a", b64data=b64encode(b"a").decode())
            )
            assert receipt.offset == 1
            assert await client.receive() == b"a"
            await server.unsubscribe(api.Unsubscribe(user="ann", channel="chat.a"))
            assert session.topics == []
            with pytest.raises(api.ApiError) as refused:
                await server.rpc(api.Rpc(method="m"))
            assert refused.value.error.code == 108
            await anyio.sleep(7)
            (node,) = (await server.info(api.Info())).nodes
            assert 7 <= node.uptime <= 8
            assert broker.sessions(user="ann") == [session]
            assert broker.sessions(user="bob") == []
            assert broker.sessions(user="bob", client=session.client_id) == []
            assert broker.sessions(client=session.client_id) == [session]
            await server.disconnect(api.Disconnect(user="ann"))
            await client.closed.wait()
            assert client.close_code == 4000


@pytest.mark.anyio
async def test_many_sessions_are_counted_with_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who are leaving are not counted, nor patterns and presence topics."""
    monkeypatch.setattr(survey, "BREATH", 2)
    broker = Broker()
    server = ServerApi(broker)
    with anyio.fail_after(LONG_S):
        async with broker, anyio.create_task_group() as tasks:

            async def stay(number: int) -> None:
                async with connected(broker) as (_, session):
                    await session.subscribe("a")
                    await session.subscribe(f"b.{number}")
                    await session.subscribe("a.*", patterns=True)
                    await session.subscribe("$presence.a")
                    await anyio.sleep_forever()

            for number in range(7):
                tasks.start_soon(stay, number)
            await anyio.wait_all_tasks_blocked()
            one, *_ = broker.sessions()
            one.end(Ending.of(EndKind.DISCONNECTED))
            (node,) = (await server.info(api.Info())).nodes
            assert (node.num_clients, node.num_subs) == (6, 12)
            found = await server.channels(api.Channels(pattern="a*"))
            assert found == api.ChannelsResult({"a": api.ChannelInfo(6)})
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_broker_that_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(rules=RULES)
    server = ServerApi(broker)
    body = b'{"channel":"a","data":1}'
    with anyio.fail_after(LONG_S), caplog.at_level(logging.WARNING):
        for _ in range(2):
            answer = await server.answer("publish", body)
            assert answer.error is not None
            assert answer.error.code == 100
            with pytest.raises((UsageError, BrokerClosed)):
                broker.uptime_s  # noqa: B018 # it is asked, and refuses
            async with broker:
                assert (await server.answer("publish", body)).error is None
    assert "not running" in caplog.text
    assert "has closed" in caplog.text
