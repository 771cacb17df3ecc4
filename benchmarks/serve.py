"""A real hypercorn process with one of three chat servers.

``python -m benchmarks.serve SERVER asyncio|uvloop|trio tuned|default FD``, where FD is
a listening socket that was inherited. SERVER is ``ours``, ``naive`` for the tutorials'
loop, or ``protocol`` for ours with the Centrifuge client protocol. All have the same
endpoints:

* ``/ws``: a client. What it sends goes to all clients. With the protocol that is
  ``/connection/websocket``, and what it publishes goes to those who have subscribed.
* ``POST /burst?messages=N&size=S``: publish N messages of S bytes, as fast as it goes.
* ``POST /collect``: collect garbage.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.asgi.client import client_routes
from adapters.asgi.websocket import open_session
from adapters.hosting.collector import tuned_collector
from broker import Broker, Limits
from broker.client_protocol import ClientProtocol
from broker.protocol.rules import ProtocolTimes

__all__ = ("TOPIC", "json_stamped", "make_app", "stamped")

TOPIC = "chat"

Publish: TypeAlias = Callable[[str], Awaitable[Any]]
Endpoint: TypeAlias = Callable[[WebSocket], Awaitable[None]]


def stamped(size: int) -> str:
    """Return a text of ``size`` bytes (>= 20) that begins with the time (ns)."""
    return f"{time.monotonic_ns():020d}".ljust(size, "x")


def json_stamped(size: int) -> str:
    """Return the same as JSON: a string, with its quotes ``size`` bytes (>= 22)."""
    return f'"{stamped(size - 2)}"'


class ConnectionManager:
    """What the tutorials teach: a list, and one send after the other."""

    text = staticmethod(stamped)

    def __init__(self) -> None:
        self.active: list[WebSocket] = []
        self.routes: list[BaseRoute] = [WebSocketRoute("/ws", self.chat)]

    async def broadcast(self, text: str) -> None:
        for websocket in self.active:
            await websocket.send_text(text)

    async def chat(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active.append(websocket)
        try:
            while True:
                await self.broadcast(await websocket.receive_text())
        except WebSocketDisconnect:
            self.active.remove(websocket)


class Ours:
    """The same with a broker and a session for each client."""

    text = staticmethod(stamped)

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.routes: list[BaseRoute] = [WebSocketRoute("/ws", self.chat)]

    async def broadcast(self, text: str) -> None:
        await self.broker.publish(TOPIC, text)

    async def chat(self, websocket: WebSocket) -> None:
        async with open_session(websocket, self.broker) as session:
            await session.subscribe(TOPIC)
            async for text in session:
                await self.broker.publish(TOPIC, text)


class Protocol(Ours):
    """The same for clients of the Centrifuge client protocol."""

    text = staticmethod(json_stamped)

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        # No pings: the clients of one server do not read while another is measured.
        times = ProtocolTimes(ping_s=86_400)
        self.routes = client_routes(
            broker, ClientProtocol(clock=time.time, times=times)
        )


CHATS: dict[str, Callable[[Broker], ConnectionManager | Ours]] = {
    "ours": Ours,
    "naive": lambda _: ConnectionManager(),
    "protocol": Protocol,
}


def make_app(server: str, collector: str) -> Starlette:
    """Return the application; all have all of this but the server in common."""
    # Counted as for everybody; one client that talks for all is faster than people.
    broker = Broker(limits=Limits(messages_per_s=1e6, bytes_per_s=1e9))
    chat = CHATS[server](broker)

    async def burst(request: Request) -> PlainTextResponse:
        size = int(request.query_params["size"])
        for _ in range(int(request.query_params["messages"])):
            await chat.broadcast(chat.text(size))
        return PlainTextResponse("published")

    async def collect(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(gc.collect()))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        tuned = tuned_collector() if collector == "tuned" else nullcontext()
        async with broker:
            with tuned:
                yield

    app = Starlette(
        routes=[
            *chat.routes,
            Route("/burst", burst, methods=["POST"]),
            Route("/collect", collect, methods=["POST"]),
        ],
        lifespan=lifespan,
    )
    app.state.broker = broker
    return app


async def serve(app: Starlette, loop: str, fd: int) -> None:
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{fd}"]
    config.errorlog = None
    config.backlog = 1024
    if loop == "trio":
        from hypercorn.trio import serve as serve_trio

        await serve_trio(app, config)  # type: ignore[arg-type] # ASGI, untyped there
    else:
        from hypercorn.asyncio import serve as serve_asyncio

        await serve_asyncio(app, config)  # type: ignore[arg-type] # ASGI, untyped there


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.serve")
    parser.add_argument("server", choices=tuple(CHATS))
    parser.add_argument("loop", choices=("asyncio", "uvloop", "trio"))
    parser.add_argument("collector", choices=("tuned", "default"))
    parser.add_argument("fd", type=int)
    given = parser.parse_args()
    anyio.run(
        serve,
        make_app(given.server, given.collector),
        given.loop,
        given.fd,
        backend="trio" if given.loop == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if given.loop == "uvloop" else None,
    )


if __name__ == "__main__":
    main()
