"""Each web example under real servers, with an independent client."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.serving import PATIENCE_S, Server

pytestmark = pytest.mark.e2e

LOOPS = ("asyncio", "uvloop", "trio")  # hypercorn's worker classes

ECHO = [("fastapi_echo", host) for host in LOOPS]
ITEMS = [("fastapi_items", host) for host in LOOPS]
CHAT = [("fastapi_chat", host) for host in (*LOOPS, "uvicorn", "granian")]
ROOMS = [("starlette_rooms", host) for host in LOOPS]
TYPED = [("typed_topic", host) for host in ("asyncio", "trio")]
LITESTAR = [("litestar_chat", host) for host in ("asyncio", "trio")]
# Not on trio: Quart and Django start asyncio's tasks to handle a request.
QUART = [("quart_chat", "asyncio")]
DJANGO = [("django_chat", "asyncio")]


def on(*examples_and_hosts: tuple[str, str]) -> pytest.MarkDecorator:
    """Give a test the fixture ``server``: each example under each host."""
    return pytest.mark.parametrize(
        "server",
        examples_and_hosts,
        ids=[f"{example}-{host}" for example, host in examples_and_hosts],
        indirect=True,
    )


def hear(client: ClientConnection) -> str:
    text = client.recv(PATIENCE_S)
    assert isinstance(text, str)
    return text


def hear_json(client: ClientConnection) -> dict[str, Any]:
    news: dict[str, Any] = json.loads(hear(client))
    return news


def wait_closed(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def refusal(server: Server, path: str) -> int:
    with pytest.raises(InvalidStatus) as refused, server.connect(path):
        pass
    return refused.value.response.status_code


@on(*ECHO, *ITEMS, *CHAT, *ROOMS, *LITESTAR, *QUART, *DJANGO)
def test_page_finds_its_own_server(server: Server) -> None:
    response = server.get()
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "<!DOCTYPE html>" in response.text
    assert "location.host" in response.text
    assert "localhost" not in response.text


@on(*ECHO)
def test_echo(server: Server) -> None:
    with server.connect("/ws") as client:
        client.send("Message one")
        assert hear(client) == "Message text was: Message one"
        client.send("Message two")
        assert hear(client) == "Message text was: Message two"


@on(*ECHO)
def test_echo_refuses_binary_to_that_client_alone(server: Server) -> None:
    with server.connect("/ws") as client, server.connect("/ws") as other:
        client.send(b"\x00")
        code, reason = wait_closed(client)
        assert code == 1003
        assert "text" in reason
        other.send("still here")
        assert hear(other) == "Message text was: still here"


@on(*ITEMS)
def test_items_with_all_parameters(server: Server) -> None:
    headers = {"Cookie": "session=fakesession", "X-Client": "me"}
    path = "/items/2/ws?q=3&token=some-token"
    with server.connect(path, additional_headers=headers) as client:
        for text in ("Message one", "Message two"):
            client.send(text)
            assert [hear(client) for _ in range(4)] == [
                "Session cookie or query token value is: fakesession",
                "Query parameter q is: 3",
                "Header X-Client is: me",
                f"Message text was: {text}, for item ID: 2",
            ]


@on(*ITEMS)
@pytest.mark.parametrize(
    "path",
    [
        "/items/foo/ws",
        "/items/foo/ws?q=bar&token=some-token",
        f"/items/{'x' * 41}/ws?token=some-token",
        "/nowhere",
    ],
    ids=["no credentials", "invalid query", "invalid path", "no such path"],
)
def test_items_refused_before_they_are_accepted(server: Server, path: str) -> None:
    assert refusal(server, path) == 403


@on(*CHAT, *LITESTAR, *QUART, *DJANGO)
def test_chat_reaches_everybody_and_tells_who_left(server: Server) -> None:
    with server.connect("/ws/1234") as one:
        with server.connect("/ws/5678") as two:
            settle(one, two)
            one.send("Hello from 1234")
            assert hear(one) == "You wrote: Hello from 1234"
            assert hear(two) == "Client #1234 says: Hello from 1234"
            assert hear(one) == "Client #1234 says: Hello from 1234"
        assert hear(one) == "Client #5678 left the chat"


@on(*CHAT, *LITESTAR, *QUART, *DJANGO)
def test_chat_notices_a_client_that_vanishes(server: Server) -> None:
    with server.connect("/ws/1") as one, server.connect("/ws/2") as two:
        settle(one, two)
        two.socket.shutdown(2)  # no goodbye
        assert hear(one) == "Client #2 left the chat"


@on(*CHAT, *LITESTAR, *QUART, *DJANGO)
def test_chat_ends_who_sends_binary_and_nobody_else(server: Server) -> None:
    with server.connect("/ws/1") as one, server.connect("/ws/2") as two:
        settle(one, two)
        two.send(b"\x00")
        assert wait_closed(two)[0] == 1003
        assert hear(one) == "Client #2 left the chat"


def settle(*clients: ClientConnection) -> None:
    """Go on once all are subscribed: a client that has an answer is."""
    for client in clients:
        client.send("hi")
        while hear(client) != "You wrote: hi":
            pass
    marker = "settled"
    clients[0].send(marker)
    for client in clients:
        while not hear(client).endswith(f"says: {marker}"):
            pass


@on(*QUART, *DJANGO)
def test_view_publishes_to_the_topic_of_the_websockets(server: Server) -> None:
    with server.connect("/ws/1") as client:
        settle(client)
        response = server.post("/announce", text="Lunch!")
        assert response.json() == {"subscribers": 1}
        assert hear(client) == "Announcement: Lunch!"


@on(*QUART, *DJANGO)
def test_framework_keeps_its_own_answers(server: Server) -> None:
    assert server.get("/announce").status_code == 405
    assert server.get("/nowhere").status_code == 404
    assert refusal(server, "/announce") == 403


@on(*ROOMS)
def test_rooms_ask_who_one_is(server: Server) -> None:
    assert refusal(server, "/rooms/lobby") == 401


@on(*ROOMS)
def test_rooms_tell_who_comes_and_goes(server: Server) -> None:
    with server.connect("/rooms/doors?name=ada") as ada:
        joined = hear_json(ada)
        assert (joined["event"], joined["user"]) == ("join", "ada")
        with server.connect("/rooms/doors?name=bob"):
            joined = hear_json(ada)
            assert (joined["event"], joined["user"]) == ("join", "bob")
            ada.send("/who")
            assert hear_json(ada) == {"event": "members", "names": ["ada", "bob"]}
        left = hear_json(ada)
        assert (left["event"], left["user"]) == ("leave", "bob")


@on(*ROOMS)
def test_rooms_resume_without_a_gap_or_a_repeat(server: Server) -> None:
    with server.connect("/rooms/talk?name=ada") as ada:
        hear_json(ada)  # ada joins
        with server.connect("/rooms/talk?name=bob") as bob:
            hear_json(bob)  # bob joins
            ada.send("one")
            heard = hear_json(bob)
            assert heard["text"] == "ada: one"
        ada.send("two")
        ada.send("three")
        while hear_json(ada).get("text") != "ada: three":
            pass
        place = f"epoch={heard['epoch']}&offset={heard['offset']}"
        with server.connect(f"/rooms/talk?name=bob&{place}") as bob:
            texts: list[str] = []
            while len(texts) < 3:
                news = hear_json(bob)
                if news["event"] == "message":
                    texts.append(news["text"])
                    if len(texts) == 2:
                        bob.send("four")
            assert texts == ["ada: two", "ada: three", "bob: four"]


@on(*ROOMS)
def test_rooms_give_a_first_visitor_the_last_messages(server: Server) -> None:
    with server.connect("/rooms/history?name=ada") as ada:
        for number in range(25):
            ada.send(str(number))
        while hear_json(ada).get("text") != "ada: 24":
            pass
        with server.connect("/rooms/history?name=bob") as bob:
            texts = [hear_json(bob) for _ in range(21)]
    heard = [news["text"] for news in texts if news["event"] == "message"]
    assert heard == [f"ada: {number}" for number in range(5, 25)]


@on(*ROOMS)
def test_rooms_say_so_when_they_cannot_resume(server: Server) -> None:
    with server.connect("/rooms/stale?name=ada&epoch=long-ago&offset=7") as ada:
        assert [hear_json(ada)["event"] for _ in range(2)] == ["join", "stale"]


@on(*ROOMS)
@pytest.mark.parametrize("name", ["*", "%3E", "a.b", "caf%C3%A9"])
def test_rooms_are_not_opened_by_wildcards(server: Server, name: str) -> None:
    with server.connect(f"/rooms/{name}?name=eve") as eve:
        assert wait_closed(eve) == (1008, "a room's name is letters and digits")


@on(*TYPED)
def test_typed_topic_tells_the_sender_alone_what_is_wrong(server: Server) -> None:
    good = '{"sensor":"hall","celsius":21.5}'
    with server.connect("/readings") as one, server.connect("/readings") as two:
        for client in (one, two):
            client.send("{")
            assert "error" in hear_json(client)
        one.send('{"sensor": "hall", "celsius": "warm"}')
        assert hear_json(one) == {
            "error": "Expected `float`, got `str` - at `$.celsius`"
        }
        one.send('{"sensor": "hall", "celsius": -300}')
        assert hear_json(one) == {
            "error": "Expected `float` >= -273.15 - at `$.celsius`"
        }
        one.send(good)
        assert hear(one) == good
        assert hear(two) == good  # and nothing before it


@on(*TYPED)
def test_typed_topic_raises_alarms(server: Server) -> None:
    reading = '{"sensor":"oven","celsius":240.0}'
    with server.connect("/alarms") as alarms, server.connect("/readings") as oven:
        alarm: str | bytes = ""
        deadline = time.monotonic() + PATIENCE_S
        # Nothing tells a client that only listens when it is subscribed.
        while not alarm and time.monotonic() < deadline:
            oven.send(reading)
            assert hear(oven) == reading
            with suppress(TimeoutError):
                alarm = alarms.recv(timeout=0.1)
        assert json.loads(alarm) == {"sensor": "oven", "reason": "240.0 °C"}
