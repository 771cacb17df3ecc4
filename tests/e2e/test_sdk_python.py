"""The official Python SDK, against real servers on every event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import centrifuge  # type: ignore[import-untyped] # has none
import pytest

from tests.e2e.client_calls import drop, publish, signed, subscribe, unsubscribe
from tests.e2e.clients import vitals
from tests.fault_proxy import FaultProxy
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

CONNECTING = ("connecting", (0, "connect called"))
DISCONNECTED = ("disconnected", (0, "disconnect called"))
SUBSCRIBING = ("subscribing", (0, "subscribe called"))
LOST = ("subscribing", (1, "transport closed"))


class Ear:
    """Handlers of a client, or of a subscription: they note what they are told.

    Attributes:
        heard: (event, what it said), in order.
        clients: ids of the connection, oldest first.
        streams: epochs, oldest first.
    """

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.clients: list[str] = []
        self.streams: list[str] = []
        self._changed = asyncio.Event()

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[None]]:
        if not name.startswith("on_"):
            raise AttributeError(name)

        async def hear(event: Any) -> None:
            self.heard.append((name.removeprefix("on_"), self._told(event)))
            self._changed.set()

        return hear

    def of(self, *names: str) -> list[tuple[str, Any]]:
        """Return the events of these kinds."""
        return [(name, told) for name, told in self.heard if name in names]

    async def until(self, name: str, count: int = 1) -> None:
        """Wait for that many events of a kind."""
        while len(self.of(name)) < count:
            self._changed.clear()
            await self._changed.wait()

    def _told(self, event: Any) -> Any:
        match event:
            case centrifuge.ConnectedContext():
                self.clients.append(event.client)
                return event.version
            case (
                centrifuge.SubscribedContext(stream_position=position)
                | centrifuge.ServerSubscribedContext(stream_position=position)
            ):
                if position is not None:
                    self.streams.append(position.epoch)
                offset = position and position.offset
                return offset, event.was_recovering, event.recovered
            case (
                centrifuge.PublicationContext(pub=pub)
                | centrifuge.ServerPublicationContext(pub=pub)
            ):
                return pub.offset, pub.data, pub.info
            case centrifuge.JoinContext() | centrifuge.LeaveContext():
                return event.info
            case centrifuge.ServerJoinContext() | centrifuge.ServerLeaveContext():
                return event.info
            case (
                centrifuge.ServerSubscribingContext()
                | centrifuge.ServerUnsubscribedContext()
            ):
                return event.channel
            case _:
                return event.code, getattr(event, "reason", None)


def client(url: str, **options: Any) -> tuple[Any, Ear]:
    """Return a client of a server, and what hears its events."""
    ear: Any = Ear()  # not by its type one of the SDK's handlers
    address = url.replace("http", "ws", 1) + "/connection/websocket"
    made = centrifuge.Client(
        *(address, ear),
        proxy=None,
        min_reconnect_delay=0.02,
        max_reconnect_delay=0.06,
        **options,
    )
    return made, ear


def subscription(made: Any, topic: str, **options: Any) -> tuple[Any, Ear]:
    """Return a subscription of a client, and what hears its events."""
    ear: Any = Ear()
    return made.new_subscription(topic, ear, **options), ear


def info(client_id: str, user: str = "") -> Any:
    return centrifuge.ClientInfo(client_id, user, None, None)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario on the SDK's own event loop."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()
            # The SDK closes its sockets in tasks that it does not wait for.
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*rest, return_exceptions=True)

    asyncio.run(main())


@pytest.fixture(autouse=True)
def all_leave(client_server: Server) -> Iterator[None]:
    """Nobody stays behind on the server."""
    yield
    wait_until(lambda: vitals(client_server)["sessions"] == 0)


def test_two_clients_in_a_topic(client_server: Server) -> None:
    topic = "chat.python"

    async def scenario() -> None:
        first, first_ear = client(client_server.url)
        second, second_ear = client(client_server.url, token=signed(sub="ann"))
        hears, heard = subscription(first, topic)
        answers, answered = subscription(second, topic)
        await hears.subscribe()
        await first.connect()
        await heard.until("join")
        await second.connect()
        await answers.subscribe()
        await heard.until("join", 2)
        await answered.until("join")

        await hears.publish({"hello": "wörld"})
        await answered.until("publication")
        await answers.publish(["a", None])
        await asyncio.to_thread(publish, client_server, topic)
        await answered.until("publication", 3)
        await heard.until("publication", 3)
        one, other = info(first_ear.clients[0]), info(second_ear.clients[0], "ann")
        there = (await hears.presence()).clients
        assert there == {one.client: one, other.client: other}
        stats = await answers.presence_stats()
        assert (stats.num_clients, stats.num_users) == (2, 2)

        await answers.unsubscribe()
        await heard.until("leave")
        assert (await hears.presence()).clients == {one.client: one}
        await hears.publish("unheard")
        await heard.until("publication", 4)
        await answers.subscribe()
        await answered.until("join", 2)
        await heard.until("join", 3)
        await second.disconnect()
        await heard.until("leave", 2)
        await first.disconnect()

        talk = [
            ("publication", (1, {"hello": "wörld"}, one)),
            ("publication", (2, ["a", None], other)),
            ("publication", (3, {"n": 0}, None)),
        ]
        unheard = ("publication", (4, "unheard", one))
        sight = ("join", "leave")
        states = ("subscribing", "subscribed", "unsubscribed", "publication")
        greeted = ("subscribed", (0, False, False))
        for ear in (first_ear, second_ear):
            assert ear.heard == [CONNECTING, ("connected", "asgi-broker"), DISCONNECTED]
        assert heard.of(*states) == [SUBSCRIBING, greeted, *talk, unheard, LOST]
        assert heard.of(*sight) == [
            ("join", one),
            *[("join", other), ("leave", other)] * 2,
        ]
        assert answered.of(*states) == [
            *[SUBSCRIBING, greeted, *talk],
            ("unsubscribed", (0, "unsubscribe called")),
            *[SUBSCRIBING, ("subscribed", (3, True, True)), unheard, LOST],
        ]
        assert answered.of(*sight) == [("join", other)] * 2

    run(scenario)


def test_history_calls_and_refusals(client_server: Server) -> None:
    topic = "chat.python.calls"

    async def scenario() -> None:
        caller, heard = client(client_server.url)
        sub, _ = subscription(caller, topic)
        await caller.connect()
        await sub.subscribe()
        for number in range(4):
            await sub.publish({"n": number})

        async def page(limit: int, **options: Any) -> list[int]:
            found = await sub.history(limit, **options)
            assert found.offset == 4
            return [pub.offset for pub in found.publications]

        assert await page(0) == []
        assert await page(-1) == [1, 2, 3, 4]
        assert await page(2) == [1, 2]
        assert await page(2, reverse=True) == [4, 3]
        epoch = (await sub.history()).epoch
        since = centrifuge.StreamPosition(offset=2, epoch=epoch)
        assert await page(9, since=since) == [3, 4]
        assert await page(9, since=since, reverse=True) == [1]

        answer = await caller.rpc("add", {"a": "ö"})
        assert answer.data == {"user": None, "method": "add", "data": {"a": "ö"}}
        for call, code, message in (
            (caller.rpc("fail", {}), 1234, "as you wished"),
            (caller.publish("news.python", {}), 103, "permission denied"),
            (caller.publish("a..b", {}), 107, "bad request"),
            (caller.history("chat.other"), 103, "permission denied"),
            (caller.presence("chat.other"), 103, "permission denied"),
        ):
            with pytest.raises(centrifuge.ReplyError) as refused:
                await call
            assert (refused.value.code, refused.value.message) == (code, message)

        members, kept_out = subscription(caller, "members.python")
        await members.subscribe()
        await kept_out.until("unsubscribed")
        assert kept_out.heard == [
            *[SUBSCRIBING, ("unsubscribed", (103, "permission denied"))]
        ]
        await caller.disconnect()
        assert heard.heard == [CONNECTING, ("connected", "asgi-broker"), DISCONNECTED]

    run(scenario)


def test_recovery(client_server: Server) -> None:
    """After 3011, and after a reset that swallowed what the server had sent."""
    whole, short = "chat.python.recovery", "short.python"  # it keeps two messages

    async def scenario(proxy: FaultProxy) -> None:
        reader, states = client(f"http://127.0.0.1:{proxy.port}")
        ears = []
        for topic in (whole, short):
            sub, ear = subscription(reader, topic)
            await sub.subscribe()
            ears.append(ear)
        await reader.connect()
        for ear in ears:
            await ear.until("subscribed")

        def send_away() -> None:
            drop(client_server, 3011, "force reconnect")
            for topic in (whole, short):
                publish(client_server, topic, '"one"')

        def reset() -> None:
            proxy.latest.go_silent()
            for topic in (whole, short):
                publish(client_server, topic, n=5)
            proxy.latest.reset()
            publish(client_server, whole, '"after"', n=2)

        await asyncio.to_thread(send_away)
        for ear in ears:
            await ear.until("publication")
        await asyncio.to_thread(reset)
        for ear in ears:
            await ear.until("subscribed", 3)
        await ears[0].until("publication", 8)
        await reader.disconnect()

        assert states.of("connecting", "connected", "disconnected") == [
            *[CONNECTING, ("connected", "asgi-broker")],
            *[("connecting", (3011, "force reconnect")), ("connected", "asgi-broker")],
            *[("connecting", (1, "transport closed")), ("connected", "asgi-broker")],
            DISCONNECTED,
        ]
        before = [
            *[SUBSCRIBING, ("subscribed", (0, False, False)), LOST],
            ("subscribed", (0, True, True)),
            *[("publication", (1, "one", None)), LOST],
        ]
        recovered, lost = ears
        assert recovered.of("subscribing", "subscribed", "publication") == [
            *[*before, ("subscribed", (1, True, True))],
            *(("publication", (2 + n, {"n": n}, None)) for n in range(5)),
            ("publication", (7, "after", None)),
            ("publication", (8, "after", None)),
            LOST,
        ]
        assert lost.heard == [*before, ("subscribed", (6, True, False)), LOST]
        for ear in ears:
            assert len(ear.streams) == 3
            assert len(set(ear.streams)) == 1

    with FaultProxy(client_server.port) as proxy:
        run(partial(scenario, proxy))


def test_tokens(client_server: Server) -> None:
    """An expired one is replaced, a wrong one keeps the client out."""
    topic = "members.python"

    async def scenario() -> None:
        async def fresh() -> str:
            return signed(sub="ann")

        async def fresh_for_topic(channel: str) -> str:
            return signed(sub="ann", channel=channel)

        late, states = client(
            client_server.url, token=signed(-5, sub="ann"), get_token=fresh
        )
        expired = signed(-5, sub="ann", channel=topic)
        sub, heard = subscription(late, topic, token=expired, get_token=fresh_for_topic)
        await late.connect()
        await states.until("connected")
        await sub.subscribe()
        await heard.until("subscribed")
        assert (await late.rpc("who", {})).data["user"] == "ann"
        await late.disconnect()
        assert states.of("connecting", "connected", "disconnected") == [
            *[CONNECTING, ("connected", "asgi-broker"), DISCONNECTED]
        ]

        stranger, states = client(client_server.url, token="garbage")
        await stranger.connect()
        await states.until("disconnected")
        assert states.heard == [CONNECTING, ("disconnected", (3500, "invalid token"))]

    run(scenario)


def test_subscriptions_that_the_server_makes(client_server: Server) -> None:
    given, added = "chat.python.given", "chat.python.added"
    token = signed(sub="bob", info={"name": "Bob"}, channels=[given])

    async def scenario() -> None:
        made, ear = client(client_server.url, token=token)
        await made.connect()
        await ear.until("subscribed")
        await asyncio.to_thread(publish, client_server, given)
        await ear.until("publication")
        await asyncio.to_thread(drop, client_server, 3011, "force reconnect")
        await asyncio.to_thread(publish, client_server, given)
        await ear.until("publication", 2)
        await asyncio.to_thread(subscribe, client_server, added, "bob")
        await ear.until("subscribed", 3)
        await asyncio.to_thread(publish, client_server, added)
        await ear.until("publication", 3)
        await asyncio.to_thread(unsubscribe, client_server, added, "bob")
        await ear.until("unsubscribed")
        await made.disconnect()
        assert ear.of("subscribed") == [
            ("subscribed", (0, False, False)),
            ("subscribed", (1, True, True)),
            ("subscribed", (0, False, False)),
        ]
        heard = [told for _, told in ear.of("publication")]
        assert heard == [(1, {"n": 0}, None), (2, {"n": 0}, None), (1, {"n": 0}, None)]

    run(scenario)
