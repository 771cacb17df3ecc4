"""The server's own application as several nodes, joined by a private engine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backplanes.servers import HAS_REDIS, RedisServer
from tests.serving import PATIENCE_S, Server, wait_until

__all__ = ("KEY", "Node", "engine", "node", "two_workers")

KEY = "of-the-tests"


class Node:
    """One worker, by the address that it has for itself."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> dict[str, Any]:
        """Return what it says of itself; empty while it does not answer."""
        with suppress(httpx.TransportError):
            answer = httpx.get(f"{self.url}/readyz", timeout=PATIENCE_S)
            found: dict[str, Any] = answer.json()
            return found
        return {}

    def wait_for_two(self) -> None:
        """Wait until it answers, and knows of another node."""
        wait_until(lambda: bool(self.ready()))
        wait_until(lambda: len(self.ask("info")["nodes"]) == 2)

    def wait_backplane(self, said: str | None) -> None:
        """Wait until it says that of its backplane; None: nothing, for all is well."""
        wait_until(lambda: self.ready().get("backplane") == said)

    def metrics(self) -> str:
        """Return what it tells Prometheus."""
        return httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S).text

    def ask(self, method: str, **params: Any) -> Any:
        """Ask its server API, and return the result."""
        answer = httpx.post(
            f"{self.url}/api/{method}",
            json=params,
            headers={"x-api-key": KEY},
            timeout=PATIENCE_S,
        ).json()
        assert "result" in answer, answer
        return answer["result"]


@contextmanager
def engine(folder: Path) -> Iterator[RedisServer]:
    """Run an engine for nodes of this test alone."""
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    with RedisServer(folder) as server:
        yield server


@contextmanager
def two_workers(host: str, redis: RedisServer) -> Iterator[tuple[Server, Node, Node]]:
    """Run one server with two workers that know each other."""
    first = free_ports()
    options = ("--workers", "2", "--worker-bind", f"127.0.0.1:{first}")
    with node(host, redis, *options) as server:
        nodes = Node(first), Node(first + 1)
        for each in nodes:
            each.wait_for_two()
        yield server, *nodes


def node(host: str, redis: RedisServer, *options: str) -> Server:
    """Return a server that is joined to others by an engine."""
    variables = {"BROKER_SERVER_BACKPLANE": redis.url, "BROKER_API_KEY": KEY}
    return Server("", host, options=options, variables=variables)


def free_ports() -> int:
    """Return the first of two ports in a row that nobody listens on now."""
    while True:
        with closing(socket.create_server(("127.0.0.1", 0))) as one:
            port: int = one.getsockname()[1]
            with (
                suppress(OSError),
                closing(socket.create_server(("127.0.0.1", port + 1))),
            ):
                return port
