"""Clients that break the client protocol end themselves, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.e2e.clients import vitals
from tests.e2e.scenarios import play
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

CONNECT = '{"id":1,"connect":{}}'
MEBIBYTE = 1_048_576


def subscribes(count: int) -> str:
    """Return one frame with that many commands."""
    return "\n".join(
        json.dumps({"id": 2 + number, "subscribe": {"channel": f"news.{number}"}})
        for number in range(count)
    )


BAD_REQUEST = (3501, "bad request")
WRONG_FRAME = (3501, "this takes text frames, and a binary one came")
PUBLISH = '{"id":2,"publish":{"channel":"other","data":1}}'
DEEP = '{"id":2,"rpc":{"data":' + "[" * 5_000 + "]" * 5_000 + "}}"

# {what a client does: (its frames, how it is sent away)}
CRIMES: dict[str, tuple[list[str | bytes], tuple[int, str]]] = {
    "connects twice": ([CONNECT, '{"id":2,"connect":{}}'], BAD_REQUEST),
    "does not connect": ([subscribes(1)], BAD_REQUEST),
    "says nothing at all": ([], (3502, "stale")),
    "sends garbage": ([CONNECT, "\x00 garbage {"], BAD_REQUEST),
    "sends garbage first": (["GET / HTTP/1.1"], BAD_REQUEST),
    "sends nothing in a frame": ([CONNECT, ""], BAD_REQUEST),
    "sends bytes": ([CONNECT, b"\x00\xff"], WRONG_FRAME),
    "sends another shape": ([CONNECT, '{"id":2,"subscribe":["a"]}'], BAD_REQUEST),
    "nests deeply": ([CONNECT, DEEP], BAD_REQUEST),
    "answers no ping": ([CONNECT, "{}"], BAD_REQUEST),
    "refreshes nothing": ([CONNECT, '{"id":2,"refresh":{}}'], BAD_REQUEST),
    "sends 3 MiB": (
        [CONNECT, "x" * 3 * MEBIBYTE],
        (1009, "message too big"),  # the server, before all of it has come
    ),
    "sends 100 kB": (
        [CONNECT, "x" * 100_000],
        (1009, "message of 100000 bytes; the limit is 65536"),
    ),
    "floods": ([CONNECT, *[PUBLISH] * 1_000], (3013, "too many requests")),
    "sends too much at once": ([CONNECT, subscribes(300)], BAD_REQUEST),
}


def ending(connection: ClientConnection) -> tuple[int, str]:
    """Read to the end and return how the client was sent away."""
    with pytest.raises(ConnectionClosed) as ended:
        while True:
            connection.recv(timeout=PATIENCE_S)
    assert ended.value.rcvd is not None, ended.value
    return ended.value.rcvd.code, ended.value.rcvd.reason


@pytest.fixture(autouse=True)
def all_leave(client_server: Server) -> Iterator[None]:
    """Nobody stays behind on the server."""
    yield
    wait_until(lambda: vitals(client_server)["sessions"] == 0)


def check_others(
    server: Server, sdk: Path, topic: str, misbehave: Callable[[], None]
) -> None:
    """Have the SDK connected before, while and after somebody misbehaves."""
    said = play(sdk, "witness", server.url, {"misbehave": misbehave}, topic=topic)
    states = ["connecting", "connected", "disconnected"]
    assert [event[0] for event in said["witness"]] == states
    publications = [event[1] for event in said[f"witness {topic}"][2:-1]]
    assert [pub["data"] for pub in publications] == [{"still": "here"}]
    assert said["calls"] == [["publish", {}]]


def test_only_the_offender_goes(client_server: Server, sdk: Path) -> None:
    found: dict[str, Any] = {}

    def misbehave() -> None:
        for crime, (sent, _) in CRIMES.items():
            with client_server.connect("/connection/websocket") as connection:
                try:
                    for frame in sent:
                        connection.send(frame)
                except ConnectionClosed:
                    pass  # it had heard enough
                found[crime] = ending(connection)

    check_others(client_server, sdk, "chat.witness", misbehave)
    assert found == {crime: told for crime, (_, told) in CRIMES.items()}


def test_more_subscriptions_than_allowed(client_server: Server, sdk: Path) -> None:
    """Those over the limit are refused one by one; the connection stays."""
    found: list[Any] = []

    def misbehave() -> None:
        with client_server.connect("/connection/websocket") as connection:
            connection.send(CONNECT)
            connection.send(subscribes(200))
            while len(found) < 201:
                text = str(connection.recv(timeout=PATIENCE_S))
                found.extend(json.loads(line) for line in text.splitlines())

    check_others(client_server, sdk, "chat.crowd", misbehave)
    assert [reply["id"] for reply in found] == list(range(1, 202))
    assert all("subscribe" in reply for reply in found[1:129])
    codes = {reply["error"]["code"] for reply in found[129:]}
    assert codes == {106}
