"""SDKs that speak Protobuf, beside others that speak JSON, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import centrifuge  # type: ignore[import-untyped] # has none
import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.client_calls import drop, publish, signed
from tests.e2e.clients import vitals
from tests.e2e.scenarios import play
from tests.e2e.test_sdk_js import (
    ASKS,
    BEGINS,
    ENDS,
    INTERRUPTED,
    failed,
    info,
    publication,
    subscribed,
)
from tests.e2e.test_sdk_python import client, run, subscription
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

WEBSOCKET = "/connection/websocket"
CONNECT = b"\x04\x08\x01\x22\x00"  # with the id 1 and nothing in it


@pytest.fixture(autouse=True)
def all_leave(client_server: Server) -> Iterator[None]:
    """Nobody stays behind on the server."""
    yield
    wait_until(lambda: vitals(client_server)["sessions"] == 0)


def sparse(value: Any) -> Any:
    """Return a value without what is empty: only one form of the SDK has that."""
    if isinstance(value, list):
        return [sparse(each) for each in value]
    if isinstance(value, dict):
        found = {key: sparse(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each not in ("", {})}
    return value


def test_the_javascript_sdk(client_server: Server, sdk: Path) -> None:
    """It hears the same as its neighbour; only bytes are text to that one."""
    topic, text = "chat.protobuf", f"said to {client_server.host}"

    def send_away() -> None:
        drop(client_server, 3011, "force reconnect")
        publish(client_server, topic, '"meanwhile"')

    told = play(
        sdk,
        "protobuf",
        client_server.url,
        {"publish": partial(publish, client_server, topic), "drop": send_away},
        topic=topic,
        token=signed(sub="ann"),
        text=text,
    )
    said = sparse(told)
    first, second = sparse([info("binary", "ann"), info("plain")])

    def heard(*data: Any) -> list[Any]:
        who = [first, first, second]
        return [
            *(publication(data[i], i + 1, info=who[i]) for i in range(3)),
            publication(data[3], 4),
        ]

    sent = ['{"hello":"wörld 👋"}', [255, 0, 128], '{"from":["plain",null]}', '{"n":0}']
    as_json = [{"hello": "wörld 👋"}, "/wCA", {"from": ["plain", None]}, {"n": 0}]
    back = subscribed(
        *(4, "epoch"), wasRecovering=True, recovered=True, hasRecoveredPublications=True
    )
    again = ["connecting", 3011, "force reconnect"]

    def page(*offsets: int) -> dict[str, Any]:
        found = [{"channel": topic, **heard(*sent)[at - 1][1]} for at in offsets]
        return {"publications": found, "offset": 4, "epoch": "epoch"}

    greeted = subscribed(0, "epoch")
    unsubscribed = ["unsubscribed", 0, "unsubscribe called"]
    returned = subscribed(4, "epoch", wasRecovering=True, recovered=True)
    assert said[f"plain {topic}"] == [
        *[ASKS, greeted, *heard(*as_json), unsubscribed, ASKS, returned, INTERRUPTED],
        *[back, publication("meanwhile", 5), publication({"n": 0}, 6), INTERRUPTED],
    ]
    assert said[f"binary {topic}"] == [
        *[ASKS, greeted, *heard(*sent), INTERRUPTED],
        *[back, publication('"meanwhile"', 5), publication('{"n":0}', 6), INTERRUPTED],
    ]
    # Who of the two is back first sees the other come: the rest depends on that.
    assert said[f"binary {topic} sees"][:4] == sparse(
        [["join", first], ["join", second], ["leave", second], ["join", second]]
    )
    for name in ("plain", "binary"):
        assert said[name] == [*BEGINS, again, BEGINS[1], *ENDS]
    calls = {
        "publish": {},
        "publish bytes": {},
        "publish JSON": {},
        "presence": {"clients": {"binary": first, "plain": second}},
        "stats": {"numClients": 2, "numUsers": 2},
        "all": page(1, 2, 3, 4),
        "before": page(3, 2),
        "other epoch": failed(112, "unrecoverable position"),
        "rpc": {
            "data": '{"user": "ann", "method": "add", "data": {"a": [1, "\\u00f6"]}}'
        },
        "rpc fails": failed(1234, "as you wished"),
        "send": None,
        "denied": failed(103, "permission denied"),
    }
    found = {name: sparse(answer) for name, answer in told["calls"]}
    assert found == {name: sparse(answer) for name, answer in calls.items()}
    assert {"said": text} in vitals(client_server)["said"]


def test_the_python_sdk(client_server: Server) -> None:
    """Publications, history, presence, calls, refusals and recovery."""
    topic = "chat.protobuf.python"

    async def scenario() -> None:
        one, states = client(
            client_server.url, use_protobuf=True, token=signed(sub="ann")
        )
        sub, heard = subscription(one, topic)
        await sub.subscribe()
        await one.connect()
        await heard.until("join")
        await sub.publish(b'{"n": 1}')
        await sub.publish(b"\xff\0")
        await heard.until("publication", 2)
        me = centrifuge.ClientInfo(states.clients[0], "ann", None, None)
        assert (await sub.presence()).clients == {me.client: me}
        stats = await sub.presence_stats()
        assert (stats.num_clients, stats.num_users) == (1, 1)
        past = await sub.history(-1)
        assert [pub.data for pub in past.publications] == [b'{"n": 1}', b"\xff\0"]
        assert [int(pub.offset) for pub in past.publications] == [1, 2]
        answer = await one.rpc("add", b'{"a":"\xc3\xb6"}')
        assert answer.data == (
            b'{"user": "ann", "method": "add", "data": {"a": "\\u00f6"}}'
        )
        with pytest.raises(centrifuge.ReplyError) as refused:
            await one.publish("news.python", b"x")
        assert refused.value.code == 103

        def send_away() -> None:
            drop(client_server, 3011, "force reconnect")
            publish(client_server, topic, '"meanwhile"')

        await asyncio.to_thread(send_away)
        await heard.until("subscribed", 2)
        await heard.until("publication", 3)
        await one.disconnect()
        assert [
            (int(offset), data) for _, (offset, data, _) in heard.of("publication")
        ] == [
            (1, b'{"n": 1}'),
            (2, b"\xff\0"),
            (3, b'"meanwhile"'),
        ]
        assert [told[1:] for _, told in heard.of("subscribed")] == [
            (False, False),
            (True, True),
        ]

    run(scenario)


@pytest.mark.parametrize(
    ("path", "offered"),
    [
        (WEBSOCKET, "centrifuge-protobuf"),
        (f"{WEBSOCKET}?format=protobuf", None),
        (f"{WEBSOCKET}?cf_protocol=protobuf", None),
    ],
)
def test_how_a_client_asks_for_it(
    client_server: Server, path: str, offered: Any
) -> None:
    options = {"subprotocols": [offered]} if offered else {}
    with client_server.connect(path, **options) as connection:
        assert connection.subprotocol == offered
        connection.send(CONNECT)
        reply = connection.recv(timeout=PATIENCE_S)
    assert isinstance(reply, bytes)
    assert reply[1:4] == b"\x08\x01\x2a"  # the id 1, and a connect result


CRIMES: dict[str, bytes | str] = {
    "not Protobuf": b"\xff" * 40,
    "a length without end": b"\xff" * 9 + b"\x01",
    "nothing": b"",
    "no connect": b"\x04\x08\x01\x6a\x00",
    "text": '{"id":1,"connect":{}}',
}


@pytest.mark.parametrize("crime", CRIMES)
def test_who_speaks_something_else_goes(client_server: Server, crime: str) -> None:
    with client_server.connect(f"{WEBSOCKET}?format=protobuf") as connection:
        connection.send(CRIMES[crime])
        with pytest.raises(ConnectionClosed) as ended:
            connection.recv(timeout=PATIENCE_S)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 3501
