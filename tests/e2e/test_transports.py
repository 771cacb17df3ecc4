"""The JavaScript SDK where WebSockets do not get through: the same, by other means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.client_calls import drop, publish, signed
from tests.e2e.clients import vitals
from tests.e2e.conftest import CLIENT_APP
from tests.e2e.scenarios import Play, play
from tests.fault_proxy import FaultProxy
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

BRIEFLY_S = 1.3  # a token is good for so long


@pytest.fixture(autouse=True)
def all_leave(client_server: Server) -> Iterator[None]:
    """Nobody stays behind on the server."""
    yield
    wait_until(lambda: vitals(client_server)["sessions"] == 0)


def played(server: Server, sdk: Path, scenario: str, transport: str) -> Play:
    """Play a scenario in topics of its own; return what it said, named as for all."""
    topic = f"chat.{scenario}-{transport}"
    short = f"short.{scenario}-{transport}"
    token, for_topic = signed, partial(signed, channel="members.brief")
    if scenario == "refresh":
        token, for_topic = partial(token, BRIEFLY_S), partial(for_topic, BRIEFLY_S)
    needs_proxy = scenario == "recovery"
    with FaultProxy(server.port) if needs_proxy else nullcontext() as proxy:

        def reset() -> None:
            # The connections that its posts have left open as well.
            assert proxy is not None
            for link in proxy.links():
                link.go_silent()
            for each in (topic, short):
                publish(server, each, n=5)
            for link in proxy.links():
                link.reset()
            publish(server, topic, '"after"', n=2)

        def publish_one() -> None:
            for each in (topic, short):
                publish(server, each, '"one"')

        def send_away() -> None:
            drop(server, 3011, "force reconnect")
            publish_one()

        answers: dict[str, Callable[[], Any]] = {
            "publish": partial(
                publish, server, topic, n=5 if scenario == "history" else 1
            ),
            "publish one": publish_one,
            "drop": send_away,
            "reset": reset,
            "token": partial(token, sub="ann"),
            "token for topic": partial(for_topic, sub="ann"),
        }
        said = play(
            sdk,
            scenario,
            server.url if proxy is None else f"http://127.0.0.1:{proxy.port}",
            answers,
            topic="members.brief" if scenario == "refresh" else topic,
            long=topic,
            short=short,
            messages=5,
            text="said",
            token=answers["token"](),
            tokenForTopic=answers["token for topic"](),
            **({} if transport == "websocket" else {"transport": transport}),
        )
    text = json.dumps(said).replace(topic, "chat.topic").replace(short, "short.topic")
    same: Play = json.loads(text)
    return same


@cache
def over_websocket(sdk: Path, scenario: str) -> Play:
    """Return what a scenario says over a WebSocket, which test_sdk_js looks at."""
    with Server(CLIENT_APP, "serve-uvloop") as server:
        server.may_log_tracebacks = True
        return played(server, sdk, scenario, "websocket")


@pytest.mark.parametrize(
    ("scenario", "transport"),
    [
        ("talk", "http_stream"),
        ("talk", "sse"),
        ("calls", "http_stream"),
        ("history", "sse"),
        ("recovery", "http_stream"),
        ("recovery", "sse"),
        ("refresh", "http_stream"),
    ],
)
def test_as_over_websocket(
    client_server: Server, sdk: Path, scenario: str, transport: str
) -> None:
    """Publications, presence, history, calls, resuming, and tokens that expire."""
    expected = over_websocket(sdk, scenario)
    assert played(client_server, sdk, scenario, transport) == expected


def test_a_client_that_is_to_stay_away_does(client_server: Server, sdk: Path) -> None:
    """The scenario's process ends by itself: no timer is left to connect again."""
    said = play(
        sdk,
        "endings",
        client_server.url,
        {"drop": partial(drop, client_server, 3503, "force disconnect")},
        topic="chat.ending",
        transport="http_stream",
    )
    assert said["leaver"] == [
        *[["connecting", 0, "connect called"], ["connected"]],
        ["disconnected", 3503, "force disconnect"],
    ]


def test_a_restart(client_server: Server, sdk: Path) -> None:
    """SIGTERM is told by a push, and the process does not wait for its listeners."""
    topic = "chat.restart-sse"

    def restart() -> None:
        assert client_server.stop() == 0
        client_server.start()

    said = play(
        sdk,
        "restart",
        client_server.url,
        {"publish": partial(publish, client_server, topic), "restart": restart},
        topic=topic,
        transport="sse",
    )
    assert [event[0] for event in said["stayer"]] == [
        *["connecting", "connected", "connecting", "connected", "disconnected"]
    ]
    assert said["stayer"][2] == ["connecting", 3001, "shutdown"]


def test_what_gets_through_is_found(client_server: Server, sdk: Path) -> None:
    """An SDK that is given several transports falls back to one that works."""
    said = play(sdk, "fallback", client_server.url, topic="chat.fallback")
    assert said["seeker"] == [
        ["connecting", 0, "connect called"],
        ["connected"],
        ["disconnected", 0, "disconnect called"],
    ]
    assert said["calls"] == [["publish", {}]]
    assert said["transports"] == ["sse"]


@pytest.mark.parametrize("is_in_query", [False, True])
def test_a_websocket_that_only_listens(
    client_server: Server, is_in_query: bool
) -> None:
    """Its connect request is its one message, or in its query."""
    topic = f"news.listener-{is_in_query}"
    request = json.dumps({"subs": {topic: {}}})
    query = f"?{urlencode({'cf_connect': request})}" if is_in_query else ""
    with client_server.connect(f"/connection/uni_websocket{query}") as listener:
        if not is_in_query:
            listener.send(request)
        told = json.loads(listener.recv(timeout=PATIENCE_S))["connect"]
        assert list(told["subs"]) == [topic]
        assert "session" not in told
        assert "node" not in told
        listener.send("whatever")
        publish(client_server, topic, '"heard"')
        push = json.loads(listener.recv(timeout=PATIENCE_S))
        assert (push["channel"], push["pub"]["data"]) == (topic, "heard")
        drop(client_server, 3503, "force disconnect")
        with pytest.raises(ConnectionClosed) as ended:
            listener.recv(timeout=PATIENCE_S)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 3503
