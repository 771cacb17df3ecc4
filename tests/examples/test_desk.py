"""The example with every hook, by hand, over a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from tests.serving import PATIENCE_S, Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.parametrize(
        "server",
        [("starlette_desk", "asyncio"), ("starlette_desk", "trio")],
        ids=["asyncio", "trio"],
        indirect=True,
    ),
]


class Client:
    """Says one thing at a time, and hears what comes of it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._pushes: list[Any] = []
        self._replies: list[Any] = []

    def ask(self, method: str, /, **fields: Any) -> Any:
        """Return the result, or the error."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, method: fields}))
        while not self._replies:
            self._hear()
        reply = self._replies.pop(0)
        assert reply["id"] == self._number
        return reply[method] if method in reply else reply["error"]

    def push(self) -> Any:
        """Return the next push."""
        while not self._pushes:
            self._hear()
        return self._pushes.pop(0)

    def _hear(self) -> None:
        for line in str(self._connection.recv(PATIENCE_S)).splitlines():
            said = json.loads(line)
            if "push" in said:
                self._pushes.append(said["push"])
            else:
                self._replies.append(said)


@contextmanager
def connected(server: Server, name: str) -> Iterator[tuple[Client, Any]]:
    with server.connect("/connection/websocket") as connection:
        client = Client(connection)
        yield client, client.ask("connect", data={"name": name})


def test_a_ticket_from_its_opening_to_its_end(server: Server) -> None:
    with connected(server, "staff") as (staff, _), connected(server, "eve") as (eve, _):
        with connected(server, "ada") as (ada, welcome):
            assert welcome["data"] == {"tickets": []}
            assert list(welcome["subs"]) == ["#ada"]
            assert "expires" not in welcome  # the application decides, not a token
            opened = ada.ask("rpc", method="open_ticket", data={"subject": "no tea"})
            channel = opened["data"]["channel"]
            assert staff.push()["pub"]["data"] == {
                "opened": channel,
                "subject": "no tea",
            }
            wrong = ada.ask("rpc", method="open_ticket", data={"subject": 7})
            assert (wrong["code"], "subject" in wrong["message"]) == (107, True)

            found = ada.ask("subscribe", channel=channel)
            assert found["data"] == {"subject": "no tea"}
            assert eve.ask("subscribe", channel=channel)["code"] == 103
            assert eve.ask("subscribe", channel="#ada")["code"] == 103
            assert staff.ask("subscribe", channel=channel)["recoverable"] is True
            assert ada.ask("publish", channel=channel, data="really none") == {}
            assert staff.push()["pub"]["data"] == "really none"
            assert ada.push()["pub"]["info"]["user"] == "ada"
            assert eve.ask("publish", channel=channel, data="me too")["code"] == 103

            staff.ask("rpc", method="close_ticket", data=channel)
            closed = ada.push()
            assert (closed["channel"], closed["pub"]["data"]) == (
                "#ada",
                {"closed": channel},
            )
            assert ada.push()["unsubscribe"]["code"] == 2000
            assert staff.push()["pub"]["data"] == {"user": "ada", "left": channel}
            assert staff.ask("publish", channel=channel, data="?")["code"] == 103
        gone = staff.push()["pub"]["data"]
        assert gone["user"] == "ada"
        assert gone["gone"]


def test_who_is_nobody_does_not_come_in(server: Server) -> None:
    with connected(server, "") as (_, error):
        assert error["code"] == 103
    with server.connect("/connection/websocket") as connection:
        error = Client(connection).ask("connect", data={})
        assert (error["code"], "name" in error["message"]) == (400, True)
