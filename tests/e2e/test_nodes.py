"""Several nodes on a real engine: workers of one server, and servers of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.backplanes.servers import RedisServer
from tests.fault_proxy import FaultProxy
from tests.serving import PATIENCE_S, Server, wait_until

from .nodes import Node, engine, node, two_workers
from .test_cent import Subscriber
from .test_sdk_python import client, run, subscription

pytestmark = pytest.mark.e2e

STREAM = "/connection/http_stream"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with engine(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=["serve-asyncio", "serve-trio"])
def workers(
    request: pytest.FixtureRequest, redis: RedisServer
) -> Iterator[tuple[Server, Node, Node]]:
    with two_workers(request.param, redis) as found:
        yield found


@pytest.fixture
def room() -> str:
    """A room that nobody has been in."""
    return f"rooms:{uuid4().hex}"


class Client(Subscriber):
    """Somebody in a room, who may say more."""

    def __init__(self, websocket: ClientConnection, room: str) -> None:
        super().__init__(websocket, room)
        self.say = websocket.send


@contextmanager
def one_in_each(
    workers: tuple[Server, Node, Node], room: str
) -> Iterator[tuple[Client, Client]]:
    """Connect a client to each worker, by the address that only it has."""
    one, two = (
        f"ws://127.0.0.1:{node.port}/connection/websocket" for node in workers[1:]
    )
    with connect(one, proxy=None) as first, connect(two, proxy=None) as second:
        yield Client(first, room), Client(second, room)


def test_the_server_api_on_any_node(
    workers: tuple[Server, Node, Node], room: str
) -> None:
    """What one worker is asked is about the clients of both, and is done to both."""
    _, here, there = workers
    more = f"{room}.more"
    with one_in_each(workers, room) as (ada, ben):
        found = there.ask("presence", channel=room)["presence"]
        assert set(found) == {ada.id, ben.id}
        nodes = {each["uid"]: each for each in there.ask("info")["nodes"]}
        assert [each["num_clients"] for each in nodes.values()] == [1, 1]
        assert list(nodes) == [each["uid"] for each in here.ask("info")["nodes"]][::-1]
        for each in (here, there):
            assert "broker_sessions 1.0" in each.metrics()  # its own alone
            counted = each.ask("channels", pattern=f"{room}*")["channels"]
            assert counted == {room: {"num_clients": 2}}
        there.ask("publish", channel=room, data="to all")
        assert [who.take("pub")["data"] for who in (ada, ben)] == ["to all"] * 2
        there.ask("subscribe", client=ada.id, channel=more, data="hi")
        assert ada.take("subscribe")["data"] == "hi"
        there.ask("unsubscribe", client=ada.id, channel=more)
        assert ada.take("unsubscribe")["code"] == 2000
        there.ask("refresh", client=ada.id, expired=True)
        assert ada.closed()[0] == 3005
        told = {"code": 4200, "reason": "enough"}
        here.ask("disconnect", client=ben.id, disconnect=told)
        assert ben.closed() == (4200, "enough")


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_each_worker_alone_listens_at_its_own_address(
    workers: tuple[Server, Node, Node],
) -> None:
    """While one is stopped, the other does not answer in its stead."""
    server, *nodes = workers
    processes = children(server.pid)
    assert len(processes) == 2
    for process in processes:
        os.kill(process, signal.SIGSTOP)
        try:
            answered = 0
            for each in nodes:
                with suppress(httpx.TimeoutException):
                    httpx.get(f"{each.url}/readyz", timeout=0.4)
                    answered += 1
        finally:
            os.kill(process, signal.SIGCONT)
        assert answered < 2  # the other may be slow, and the stopped one says nothing
        for each in nodes:  # none is forgotten for so short a while
            assert each.ready()["status"] == "ready"


def children(pid: int) -> list[int]:
    """Return the workers of a server; multiprocessing has a process besides."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {each: Path(f"/proc/{each}/cmdline").read_bytes() for each in found}
    return [int(each) for each, command in commands.items() if b"spawn_main" in command]


def test_posts_that_reach_the_other_worker(
    workers: tuple[Server, Node, Node], room: str
) -> None:
    """They are handed on, and answered as if they had come to the right one."""
    _, here, there = workers
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE_S) as web,
        web.stream("POST", f"{here.url}{STREAM}", content='{"id":1,"connect":{}}') as r,
    ):
        lines = map(json.loads, r.iter_lines())
        reply = next(lines)["connect"]
        address = {name: reply[name] for name in ("session", "node")}

        def post(to: Node, data: str, **others: str) -> int:
            body = {**address, "data": data, **others}
            return web.post(f"{to.url}/emulation", json=body).status_code

        def command(number: int, **what: Any) -> str:
            return json.dumps({"id": number, **what}, ensure_ascii=False)

        wait_until(lambda: post(there, command(2, subscribe={"channel": room})) == 204)
        assert next(lines)["id"] == 2
        assert post(here, command(3, presence={"channel": room})) == 204
        while (line := next(lines)).get("id") != 3:  # the join comes before it
            pass
        assert list(line["presence"]["presence"]) == [reply["client"]]
        for to in (here, there):
            assert post(to, command(4, ping={}), session="unknown") == 404
            assert post(to, command(4, ping={}), node="unknown") == 404
            assert post(to, "x" * 65_537) == 413
        large = {"channel": room, "data": "é" * 30_000}
        assert post(there, command(5, publish=large)) == 204
        ends = next(lines), next(lines)  # the reply may be the first or the second
        (heard,) = (line["push"]["pub"]["data"] for line in ends if "push" in line)
        assert heard == "é" * 30_000


def test_the_engine_restarts_under_connected_clients(
    workers: tuple[Server, Node, Node], room: str, redis: RedisServer
) -> None:
    """They stay, are told that something may be lost, and go on."""
    _, here, there = workers
    with one_in_each(workers, room) as (ada, ben):
        here.ask("publish", channel=room, data="before")
        assert [who.take("pub")["data"] for who in (ada, ben)] == ["before"] * 2
        redis.kill()
        for each in (here, there):
            each.wait_backplane("down")
            assert each.ready()["status"] == "ready"
        redis.start()
        for each in (here, there):
            each.wait_backplane(None)
        for who in (ada, ben):
            assert who.take("unsubscribe")["code"] == 2500  # SDKs subscribe again
            again = {"channel": room, "recover": True, "epoch": "before", "offset": 1}
            who.say(json.dumps({"id": 3, "subscribe": again}))
            assert "recovered" not in who.take("subscribe")
        there.ask("publish", channel=room, data="after")
        assert [who.take("pub")["data"] for who in (ada, ben)] == ["after"] * 2


@pytest.mark.parametrize("host", ["serve-asyncio", "serve-uvloop", "serve-trio"])
def test_a_client_goes_on_at_another_node_after_its_own_was_killed(
    host: str, redis: RedisServer, room: str
) -> None:
    """Centrifugo's SDK, while somebody publishes: no gap and no repeat."""
    with (
        node(host, redis) as doomed,
        node(host, redis) as other,
        FaultProxy(doomed.port) as proxy,
    ):

        async def scenario() -> None:
            made, _ = client(f"http://127.0.0.1:{proxy.port}")
            listens, heard = subscription(made, room)
            await made.connect()
            await listens.subscribe()
            await heard.until("subscribed")

            async def say(first: int, last: int) -> None:
                for number in range(first, last):
                    params = {"channel": room, "data": number}
                    survivor = Node(other.port)
                    await asyncio.to_thread(survivor.ask, "publish", **params)

            await say(1, 11)
            await heard.until("publication", 10)
            speaking = asyncio.create_task(say(11, 61))
            await heard.until("publication", 15)
            proxy._server_port = other.port  # where the next connection leads
            doomed.signal(signal.SIGKILL)
            await speaking
            await heard.until("publication", 60)
            await heard.until("subscribed", 2)
            await made.disconnect()
            assert [told[1] for _, told in heard.of("publication")] == [*range(1, 61)]
            _, (_, was_recovering, recovered) = heard.of("subscribed")[1]
            assert (was_recovering, recovered) == (True, True)

        run(scenario)
