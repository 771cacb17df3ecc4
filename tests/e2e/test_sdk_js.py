"""The official JavaScript SDK in node, against real servers on every event loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.client_calls import drop, publish, signed, subscribe, unsubscribe
from tests.e2e.clients import vitals
from tests.e2e.conftest import CLIENT_APP
from tests.e2e.scenarios import play
from tests.fault_proxy import FaultProxy
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

WEBSOCKET = "/connection/websocket"

# What the SDK says by itself around what the server does.
BEGINS = [["connecting", 0, "connect called"], ["connected"]]
ENDS = [["disconnected", 0, "disconnect called"]]
ASKS = ["subscribing", 0, "subscribe called"]
INTERRUPTED = ["subscribing", 1, "transport closed"]


@pytest.fixture(autouse=True)
def all_leave(client_server: Server) -> Iterator[None]:
    """Nobody stays behind on the server."""
    yield
    wait_until(lambda: vitals(client_server)["sessions"] == 0)


def subscribed(offset: int, epoch: str, **changes: Any) -> list[Any]:
    """Return the event of a subscription that can be recovered."""
    event = {
        "positioned": True,
        "recoverable": True,
        "wasRecovering": False,
        "recovered": False,
        "hasRecoveredPublications": False,
        "streamPosition": {"epoch": epoch, "offset": offset},
    }
    return ["subscribed", event | changes]


def subscribed_without_history() -> list[Any]:
    whole: list[Any] = subscribed(0, "", positioned=False, recoverable=False)
    del whole[1]["streamPosition"]
    return whole


def publication(data: Any, offset: int, **more: Any) -> list[Any]:
    return ["publication", {"data": data, "offset": offset, **more}]


def info(client: str, user: str = "") -> dict[str, Any]:
    return {"client": client, "user": user}


def failed(code: int, message: str, *, temporary: bool = False) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "temporary": temporary}}


def test_two_clients_in_a_topic(client_server: Server, sdk: Path) -> None:
    """Publications and who sent them, who joins and leaves, who is there."""
    topic = "chat.two"
    said = play(
        sdk,
        "talk",
        client_server.url,
        {"publish": partial(publish, client_server, topic)},
        topic=topic,
        token=signed(sub="ann"),
    )
    first, second = info("first"), info("second", "ann")
    talk = [
        publication({"hello": "wörld 👋", "nested": [1, None, "\n"]}, 1, info=first),
        publication("a text", 2, info=second),
        publication({"n": 0}, 3),
    ]
    greeted = subscribed(0, "epoch")
    back = subscribed(3, "epoch", wasRecovering=True, recovered=True)
    assert said == {
        "first": [*BEGINS, *ENDS],
        "second": [*BEGINS, *ENDS],
        f"first {topic}": [ASKS, greeted, *talk, INTERRUPTED],
        f"second {topic}": [
            *[ASKS, greeted, *talk],
            *[["unsubscribed", 0, "unsubscribe called"], ASKS, back, INTERRUPTED],
        ],
        f"first {topic} sees": [
            ["join", first],
            *[["join", second], ["leave", second]],
            *[["join", second], ["leave", second]],
        ],
        f"second {topic} sees": [["join", second], ["join", second]],
        "calls": [
            ["publish", {}],
            ["publish", {}],
            ["presence", {"clients": {"first": first, "second": second}}],
            ["stats", {"numClients": 2, "numUsers": 2}],
            ["stats", {"numClients": 1, "numUsers": 1}],
            ["presence", {"clients": {"first": first}}],
        ],
    }


def read_history(server: Server, sdk: Path, topic: str) -> dict[str, Any]:
    """Return the pages of a topic with five messages, by what was asked."""
    said = play(
        sdk,
        "history",
        server.url,
        {"publish": partial(publish, server, topic, n=5)},
        topic=topic,
        messages=5,
    )
    heard = [publication({"n": number}, number + 1) for number in range(5)]
    assert said[f"reader {topic}"] == [
        *[ASKS, subscribed(0, "epoch"), *heard, INTERRUPTED]
    ]
    return dict(said["calls"])


def page(topic: str, *offsets: int) -> dict[str, Any]:
    found = [
        {"channel": topic, "data": {"n": offset - 1}, "offset": offset}
        for offset in offsets
    ]
    return {"publications": found, "offset": 5, "epoch": "epoch"}


def test_history(client_server: Server, sdk: Path) -> None:
    topic = "chat.past"
    found = read_history(client_server, sdk, topic)
    del found["before"]  # below
    assert found == {
        "nothing": page(topic),
        "all": page(topic, 1, 2, 3, 4, 5),
        "forward": page(topic, 1, 2),
        "since": page(topic, 3, 4),
        "reverse": page(topic, 5, 4),
        "end": page(topic),
        "other epoch": failed(112, "unrecoverable position"),
    }


def test_history_before_a_position(client_server: Server, sdk: Path) -> None:
    """In reverse, a position is where to go back from."""
    topic = "chat.before"
    assert read_history(client_server, sdk, topic)["before"] == page(topic, 2, 1)


def test_calls_and_refusals(client_server: Server, sdk: Path) -> None:
    text = f"said to {client_server.host}"
    topic = "chat.calls"
    said = play(sdk, "calls", client_server.url, topic=topic, text=text)

    def answer(method: str, data: Any) -> dict[str, Any]:
        return {"data": {"user": None, "method": method, "data": data}}

    denied = failed(103, "permission denied")
    missing = failed(108, "not available")
    assert said == {
        "caller": [*BEGINS, *ENDS],
        "caller news.plain": [ASKS, subscribed_without_history(), INTERRUPTED],
        "caller members.x": [ASKS, ["unsubscribed", 103, "permission denied"]],
        "calls": [
            ["rpc", answer("add", {"a": [1, "ö"]})],
            ["rpc without data", answer("add", None)],
            ["rpc fails", failed(1234, "as you wished")],
            ["rpc has a bug", failed(100, "internal server error", temporary=True)],
            ["send", None],
            ["publish elsewhere", {}],
            ["publish, denied", denied],
            ["publish, no topic", failed(107, "bad request")],
            ["history, not subscribed", denied],
            ["presence, not subscribed", denied],
            ["no history", missing],
            ["no presence", missing],
            ["still served", answer("last", {})],
        ],
    }
    assert vitals(client_server)["said"] == [{"said": text}]


def test_recovery(client_server: Server, sdk: Path) -> None:
    """After 3011, and after a reset that swallowed what the server had sent."""
    whole, short = "chat.recovery", "short.recovery"  # it keeps two messages

    def publish_one() -> None:
        for topic in (whole, short):
            publish(client_server, topic, '"one"')

    def send_away() -> None:
        drop(client_server, 3011, "force reconnect")
        publish_one()

    with FaultProxy(client_server.port) as proxy:

        def reset() -> None:
            proxy.latest.go_silent()
            for topic in (whole, short):
                publish(client_server, topic, n=5)
            proxy.latest.reset()
            publish(client_server, whole, '"after"', n=2)

        said = play(
            sdk,
            "recovery",
            f"http://127.0.0.1:{proxy.port}",
            {"publish one": publish_one, "drop": send_away, "reset": reset},
            long=whole,
            short=short,
        )
    recovered = {
        "wasRecovering": True,
        "recovered": True,
        "hasRecoveredPublications": True,
    }

    def until_the_reset(topic: str) -> list[Any]:
        epoch = f"epoch of {topic}"
        return [
            *[ASKS, subscribed(0, epoch), publication("one", 1), INTERRUPTED],
            *[subscribed(1, epoch, **recovered), publication("one", 2), INTERRUPTED],
        ]

    assert said["reader"] == [
        *BEGINS,
        *[["connecting", 3011, "force reconnect"], ["connected"]],
        *[["connecting", 1, "transport closed"], ["connected"]],
        *ENDS,
    ]
    assert said[f"reader {whole}"] == [
        *until_the_reset(whole),
        subscribed(2, f"epoch of {whole}", **recovered),
        *(publication({"n": number}, 3 + number) for number in range(5)),
        *[publication("after", 8), publication("after", 9), publication("one", 10)],
        INTERRUPTED,
    ]
    assert said[f"reader {short}"] == [
        *until_the_reset(short),
        subscribed(7, f"epoch of {short}", wasRecovering=True),
        *[publication("one", 8), INTERRUPTED],
    ]


def test_a_slow_network(client_server: Server, sdk: Path) -> None:
    """Sent away with 3008; what is lost is said, the rest comes once, in order."""
    topic = "chat.slow"
    text, messages = "x" * 5_000, 1_000  # 5 MB, and the outbox holds 1 MiB

    with FaultProxy(client_server.port) as proxy:

        def flood() -> None:
            proxy.latest.pause()
            publish(client_server, topic, f'"{text}"', n=messages)
            proxy.latest.resume()  # soon, or the connection is cut without a word

        said = play(
            sdk,
            "slow",
            f"http://127.0.0.1:{proxy.port}",
            {
                "flood": flood,
                "publish last": partial(publish, client_server, topic, '"last"'),
            },
            topic=topic,
        )
    assert said["reader"] == [
        *BEGINS,
        *[["connecting", 3008, "slow"], ["connected"]],
        *ENDS,
    ]
    offset, stretches = 0, []
    for event, told in (each[:2] for each in said[f"reader {topic}"]):
        if event == "subscribed":
            offset = told["streamPosition"]["offset"]
            stretches.append((told["wasRecovering"], told["recovered"]))
        elif event == "publication":
            offset += 1
            assert told["offset"] == offset
    assert offset == messages + 1
    assert stretches == [(False, False), (True, False)]


def test_a_client_that_is_to_stay_away_does(client_server: Server, sdk: Path) -> None:
    """The scenario's process ends by itself: no timer is left to connect again."""
    said = play(
        sdk,
        "endings",
        client_server.url,
        {"drop": partial(drop, client_server, 3503, "force disconnect")},
        topic="chat.ending",
    )
    assert said["leaver"] == [*BEGINS, ["disconnected", 3503, "force disconnect"]]


def test_a_restart(client_server: Server, sdk: Path) -> None:
    """SIGTERM is 3001: clients come back, and learn that the past is gone."""
    topic = "chat.restart"

    def restart() -> None:
        assert client_server.stop() == 0
        client_server.start()

    said = play(
        sdk,
        "restart",
        client_server.url,
        {"publish": partial(publish, client_server, topic), "restart": restart},
        topic=topic,
    )
    assert said["stayer"] == [
        *BEGINS,
        *[["connecting", 3001, "shutdown"], ["connected"]],
        *ENDS,
    ]
    assert said[f"stayer {topic}"] == [
        *[ASKS, subscribed(0, "epoch 1"), publication({"n": 0}, 1), INTERRUPTED],
        *[subscribed(0, "epoch 2", wasRecovering=True), publication({"n": 0}, 1)],
        INTERRUPTED,
    ]


def test_tokens(client_server: Server, sdk: Path) -> None:
    """Fresh ones are asked for, wrong ones keep a client or a subscription out."""
    topic = "members.x"
    for_topic = partial(signed, sub="ann", channel=topic)
    wrong = {
        "forged": signed(sub="ann", secret="somebody else's, and long enough for it"),
        "garbage": "garbage",
        "of a subscription": for_topic(),
    }
    said = play(
        sdk,
        "tokens",
        client_server.url,
        {"token": partial(signed, sub="ann"), "token for topic": for_topic},
        expired=signed(-5, sub="ann"),
        expiredForTopic=for_topic(-5),
        tokenForTopic=for_topic(),
        wrong=wrong,
    )
    sent_away = ["disconnected", 3500, "invalid token"]
    expired = failed(109, "token expired")
    who = {"data": {"user": "ann", "method": "who", "data": {}}}
    assert said == {
        "late": [*BEGINS, sent_away],
        "late errors": [{"type": "connect", **expired}],
        f"late {topic}": [ASKS, subscribed_without_history(), INTERRUPTED],
        f"late {topic} errors": [{"channel": topic, "type": "subscribe", **expired}],
        "late members.y": [ASKS, ["unsubscribed", 103, "permission denied"]],
        "late members.z": [ASKS],
        "calls": [["who is late", who], ["late is still served", who]],
        **{name: [BEGINS[0], sent_away] for name in wrong},
    }


def test_tokens_are_renewed_in_time(client_server: Server, sdk: Path) -> None:
    """Three times each after the first, and the connection and subscription stay."""
    topic = "members.brief"
    token = partial(signed, 1.3, sub="ann")
    for_topic = partial(signed, 1.3, sub="ann", channel=topic)
    said = play(
        sdk,
        "refresh",
        client_server.url,
        {"token": token, "token for topic": for_topic},
        topic=topic,
    )
    assert said == {
        "brief": [*BEGINS, *ENDS],
        f"brief {topic}": [ASKS, subscribed_without_history(), INTERRUPTED],
        "tokens": ["renewed"] * 4,
        "topic tokens": ["renewed"] * 4,
        "calls": [
            ["who", {"data": {"user": "ann", "method": "who", "data": {}}}],
        ],
    }


def test_pings(client_server: Server, sdk: Path) -> None:
    """The SDK answers pings and stays; who does not answer is sent away."""
    times = {"PING_S": "1", "PONG_S": "0.8"}
    with (
        Server(CLIENT_APP, client_server.host, variables=times) as server,
        server.connect(WEBSOCKET) as silent,
    ):
        silent.send('{"id":1,"connect":{}}')
        answer = json.loads(silent.recv(timeout=PATIENCE_S))["connect"]
        assert (answer["ping"], answer["pong"]) == (1, True)
        said = play(sdk, "pings", server.url)
        assert said == {"lively": [*BEGINS, *ENDS], "wire": ["pong"] * 2}
        assert silent.recv(timeout=PATIENCE_S) == "{}"
        with pytest.raises(ConnectionClosed) as ended:
            silent.recv(timeout=PATIENCE_S)
    assert ended.value.rcvd is not None
    assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (3012, "no pong")


def test_subscriptions_that_the_server_makes(client_server: Server, sdk: Path) -> None:
    """By token, with resume; for a client that is there, and ended again."""
    server = client_server
    first, second = "chat.given", "chat.added"

    def drop_and_publish() -> None:
        drop(server, 3011, "force reconnect")
        publish(server, first, '"missed"')

    said = play(
        sdk,
        "server_side",
        server.url,
        {
            "publish to first": partial(publish, server, first),
            "drop": drop_and_publish,
            "subscribe": partial(subscribe, server, second, "ann"),
            "publish to second": partial(publish, server, second),
            "unsubscribe": partial(unsubscribe, server, second, "ann"),
        },
        first=first,
        second=second,
        token=signed(sub="ann", info={"name": "Ann"}, channels=[first]),
    )
    ann = {**info("reader", "ann"), "connInfo": {"name": "Ann"}}
    epoch = f"epoch of {first}"
    back = subscribed(
        2,
        epoch,
        wasRecovering=True,
        recovered=True,
        hasRecoveredPublications=True,
    )
    assert said[first][:3] == [
        subscribed(0, epoch),
        publication({"n": 0}, 1),
        publication("mine", 2, info=ann),
    ]
    assert said[first][-1] == ["subscribing"]  # what the SDK says as it leaves
    assert said[first][3:-1] in (
        [["subscribing"], back, publication("missed", 3)],
        # It was back before that was published.
        [
            ["subscribing"],
            subscribed(2, epoch, wasRecovering=True, recovered=True),
            publication("missed", 3),
        ],
    )
    assert said[second] == [
        subscribed(0, f"epoch of {second}"),
        publication({"n": 0}, 1),
        ["unsubscribed"],
    ]
    assert said[f"{first} sees"][0] == ["join", ann]
    there = {**ann, "conn_info": ann["connInfo"]}  # the SDK says it twice
    assert said["calls"] == [
        ["publish", {}],
        ["presence", {"clients": {"reader": there}}],
    ]


def test_deltas(client_server: Server, sdk: Path) -> None:
    """Whole for the application, over resumes as well; small on the wire."""
    topic, rounds, documents = "changes.text", 3, 20
    texts = [f"Zeile {number}: süß 👋 und lang genug" for number in range(30)]
    expected: list[Any] = []

    def publish_changes() -> int:
        for _ in range(documents):
            number = len(expected)
            texts[number % len(texts)] = f"geändert {number} 🦊"
            expected.append(list(texts))
            publish(client_server, topic, json.dumps(texts, ensure_ascii=False))
        return documents

    said = play(
        sdk,
        "changes",
        client_server.url,
        {
            "publish": publish_changes,
            "drop": partial(drop, client_server, 3011, "force reconnect"),
        },
        topic=topic,
        rounds=rounds,
    )
    for who in ("reader", "plain"):
        heard = [
            event[1]["data"]
            for event in said[f"{who} {topic}"]
            if event[0] == "publication"
        ]
        assert heard == expected
    # All but the first of each connection; and the subscribe replies say so as well.
    assert said["patches"] == [rounds * (documents - 1) + rounds]
    whole = sum(len(json.dumps(each, ensure_ascii=False)) for each in expected)
    assert said["bytes"][0] < whole / 3
