"""The server API as `cent` asks it, Centrifugo's own client, against real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentTransportError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.e2e.api_app import KEY
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["serve-asyncio", "serve-uvloop", "serve-trio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server("tests.e2e.api_app:app", request.param) as server:
        yield server


@pytest.fixture
def cent(server: Server) -> Iterator[Client]:
    client = Client(f"{server.url}/api", KEY, timeout=PATIENCE_S)
    yield client
    client._session.close()  # it has no method of its own for that


@pytest.fixture
def channel() -> str:
    """A channel of this test alone: the server goes on."""
    return f"chat.{uuid4().hex}"


class Subscriber:
    """A client of the protocol in one channel."""

    def __init__(self, websocket: ClientConnection, channel: str) -> None:
        self._websocket = websocket
        self._lines: list[Any] = []
        websocket.send('{"id":1,"connect":{}}')
        self.id: str = self.take("connect")["client"]
        websocket.send(json.dumps({"id": 2, "subscribe": {"channel": channel}}))
        self.take("subscribe")

    def take(self, key: str) -> Any:
        """Return the next reply's or push's body of a kind."""
        while True:
            while not self._lines:
                text = str(self._websocket.recv(timeout=PATIENCE_S))
                self._lines += [json.loads(line) for line in text.split("\n")]
            line = self._lines.pop(0)
            body = line.get("push", line)
            if key in body:
                return body[key]

    def closed(self) -> tuple[int, str]:
        """Return how it was closed, whatever comes before."""
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                self._websocket.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason


@contextmanager
def subscribed(server: Server, channel: str, user: str) -> Iterator[Subscriber]:
    path = f"/connection/websocket?user={user}"
    with server.connect(path) as websocket:
        yield Subscriber(websocket, channel)


@asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[AsyncClient, None]:
    client = AsyncClient(f"{server.url}/api", KEY, timeout=PATIENCE_S)
    try:
        yield client
    finally:
        await client._session.close()


def test_publish_reaches_clients(server: Server, cent: Client, channel: str) -> None:
    with subscribed(server, channel, "ann") as ann:
        first = cent.publish(
            PublishRequest(channel=channel, data={"a": [1, "é"]}, tags={"k": "v"})
        )
        assert first.offset == 1
        assert first.epoch
        pub = {"data": {"a": [1, "é"]}, "offset": 1, "tags": {"k": "v"}}
        assert ann.take("pub") == pub


def test_idempotency(cent: Client, channel: str) -> None:
    request = PublishRequest(channel=channel, data=1, idempotency_key="k")
    assert cent.publish(request) == cent.publish(request)


def test_broadcast(server: Server, cent: Client, channel: str) -> None:
    with subscribed(server, channel, "ann") as ann:
        result = cent.broadcast(
            BroadcastRequest(channels=[channel, "not valid", "plain"], data="all")
        )
        assert ann.take("pub")["data"] == "all"
    one, refused, plain = result.responses
    assert one.result is not None
    assert one.result.offset == 1
    assert refused.error is not None
    assert refused.error.code == 107
    assert plain.error is None


def test_presence(server: Server, cent: Client, channel: str) -> None:
    with subscribed(server, channel, "ann") as ann, subscribed(server, channel, "bob"):
        presence = cent.presence(PresenceRequest(channel=channel)).presence
        assert {info.user for info in presence.values()} == {"ann", "bob"}
        assert presence[ann.id].client == ann.id
        stats = cent.presence_stats(PresenceStatsRequest(channel=channel))
        assert (stats.num_clients, stats.num_users) == (2, 2)


def test_history(cent: Client, channel: str) -> None:
    for number in range(1, 4):
        cent.publish(PublishRequest(channel=channel, data=number))
    top = cent.history(HistoryRequest(channel=channel))
    assert (top.offset, top.publications) == (3, [])
    since = StreamPosition(offset=2, epoch=top.epoch)
    for request, wanted in (
        (HistoryRequest(channel=channel, limit=-1), [1, 2, 3]),
        (HistoryRequest(channel=channel, limit=2, reverse=True), [3, 2]),
        (HistoryRequest(channel=channel, limit=10, since=since), [3]),
        (HistoryRequest(channel=channel, limit=10, since=since, reverse=True), [1]),
    ):
        assert [each.data for each in cent.history(request).publications] == wanted
    other = StreamPosition(offset=2, epoch="other")
    with pytest.raises(CentApiResponseError) as refused:
        cent.history(HistoryRequest(channel=channel, limit=1, since=other))
    assert refused.value.code == 112


def test_channels_and_info(server: Server, cent: Client, channel: str) -> None:
    # Those of the test before may not have left yet.
    wait_until(lambda: cent.info(InfoRequest()).nodes[0].num_clients == 0)
    with subscribed(server, channel, "ann"), subscribed(server, channel, "ann"):
        found = cent.channels(ChannelsRequest(pattern=f"{channel[:-1]}*")).channels
        assert {name: info.num_clients for name, info in found.items()} == {channel: 2}
        (node,) = cent.info(InfoRequest()).nodes
        assert (node.name, node.num_clients, node.num_users) == ("one", 2, 1)
        assert (node.num_channels, node.num_subs) == (1, 2)


def test_unsubscribe(server: Server, cent: Client, channel: str) -> None:
    with subscribed(server, channel, "ann") as ann:
        cent.unsubscribe(UnsubscribeRequest(user="ann", channel=channel))
        told = {"code": 2000, "reason": "server unsubscribe"}
        assert ann.take("unsubscribe") == told
        assert cent.channels(ChannelsRequest(pattern=channel)).channels == {}


def test_disconnect(server: Server, cent: Client, channel: str) -> None:
    with (
        subscribed(server, channel, "ann") as one,
        subscribed(server, channel, "ann") as two,
    ):
        cent.disconnect(DisconnectRequest(user="ann", whitelist=[two.id]))
        assert one.closed() == (3503, "force disconnect")
        cent.publish(PublishRequest(channel=channel, data="you stay"))
        assert two.take("pub")["data"] == "you stay"
        told = Disconnect(code=4200, reason="enough")
        cent.disconnect(DisconnectRequest(user="ann", disconnect=told))
        assert two.closed() == (4200, "enough")


def test_batch(cent: Client, channel: str) -> None:
    replies = cent.batch(
        BatchRequest(
            requests=[
                PublishRequest(channel=channel, data=1),
                BroadcastRequest(channels=[channel], data=2),
                HistoryRequest(channel=channel, limit=5),
                PresenceStatsRequest(channel=channel),
                InfoRequest(),
            ]
        )
    ).replies
    published, broadcast, history, stats, info = (each.model_dump() for each in replies)
    assert published["offset"] == 1
    assert broadcast["responses"][0]["result"]["offset"] == 2
    assert [each["data"] for each in history["publications"]] == [1, 2]
    assert stats["num_clients"] == 0
    assert info["nodes"][0]["name"] == "one"


def test_subscribe_and_refresh(cent: Client, server: Server, channel: str) -> None:
    """A client that has asked for one channel gets another, until its time is over."""
    user, more = uuid4().hex, f"{channel}.more"
    cent.publish(PublishRequest(channel=more, data="before"))
    since = StreamPosition(
        offset=0, epoch=cent.history(HistoryRequest(channel=more)).epoch
    )
    with subscribed(server, channel, user) as subscriber:
        cent.subscribe(
            SubscribeRequest(
                user=user, channel=more, info={"a": 1}, data="hi", recover_since=since
            )
        )
        told = subscriber.take("subscribe")
        assert (told["recoverable"], told["data"]) == (True, "hi")
        assert subscriber.take("pub") == {"data": "before", "offset": 1}
        (member,) = cent.presence(PresenceRequest(channel=more)).presence.values()
        assert (member.user, member.chan_info) == (user, {"a": 1})
        cent.publish(PublishRequest(channel=more, data="after"))
        assert subscriber.take("pub")["data"] == "after"
        cent.unsubscribe(UnsubscribeRequest(user=user, channel=more))
        assert subscriber.take("unsubscribe")["code"] == 2000
        cent.refresh(RefreshRequest(user=user, expire_at=4_000_000_000))
        cent.refresh(RefreshRequest(user=user, expired=True))
        assert subscriber.closed()[0] == 3005


def test_history_remove(cent: Client, channel: str) -> None:
    """What was said is forgotten, and how much it was is not."""
    cent.publish(PublishRequest(channel=channel, data=1))
    cent.history_remove(HistoryRemoveRequest(channel=channel))
    history = cent.history(HistoryRequest(channel=channel, limit=-1))
    assert (history.publications, history.offset) == ([], 1)
    assert cent.publish(PublishRequest(channel=channel, data=2)).offset == 2


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (PublishRequest(channel="not valid", data=1), 107),
        (PublishRequest(channel="a", data=None), 107),
        (PublishRequest(channel="a", data=1, skip_history=True), 108),
        (PresenceRequest(channel="without"), 108),
        (HistoryRequest(channel="without"), 108),
        (SubscribeRequest(user="ann", channel="not valid"), 107),
        (SubscribeRequest(user="ann", channel="a", session="s"), 108),
        (RefreshRequest(user="ann", session="s"), 108),
        (HistoryRemoveRequest(channel="a"), 108),
    ],
    ids=lambda value: getattr(value, "api_method", str(value)),
)
def test_errors(cent: Client, request_: Any, code: int) -> None:
    with pytest.raises(CentApiResponseError) as refused:
        cent._send(request_)
    assert refused.value.code == code


def test_wrong_key(server: Server) -> None:
    client = Client(f"{server.url}/api", "wrong")
    with pytest.raises(CentUnauthorizedError):
        client.info(InfoRequest())
    client._session.close()


def test_large_body(cent: Client) -> None:
    with pytest.raises(CentTransportError) as refused:
        cent.publish(PublishRequest(channel="a", data="x" * 1_100_000))
    assert refused.value.status_code == 413
    assert len(cent.info(InfoRequest()).nodes) == 1


def test_async_client(server: Server, channel: str) -> None:
    """Many at once, of one client."""

    async def run() -> list[int]:
        async with opened(server) as client:
            requests = [PublishRequest(channel=channel, data=n) for n in range(20)]
            results = await asyncio.gather(*map(client.publish, requests))
            history = await client.history(HistoryRequest(channel=channel, limit=-1))
            assert len(history.publications) == 10  # as the rules say
            return [result.offset for result in results]

    assert sorted(asyncio.run(run())) == list(range(1, 21))
