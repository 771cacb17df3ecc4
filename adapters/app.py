"""The standalone server: FastAPI's WebSocket tutorial, on the broker.

``broker serve`` runs it, and so does ``hypercorn -c hypercorn.toml adapters.app:app``.
Besides the tutorial's URLs it has rooms for clients of the Centrifuge protocol.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from broker import Broker, Frames, NotAllowed, TopicRules
from broker.client_protocol import ClientProtocol

from .asgi.client import client_routes
from .asgi.lifespan import broker_lifespan
from .asgi.websocket import open_session, refuse
from .hosting.collector import tuned_collector
from .protobuf import PROTOBUF

__all__ = ("ROOMS", "app", "create_app")

PAGES = Path(__file__).parent / "pages"
SDK = PAGES / "sdk" / "package.json"  # the last file that scripts/vendor-sdk puts there
# In the pages' menu; a line of its own.
ROOMS_LINK = '        <a href="rooms">Rooms</a>\n'
CHAT = "chat"  # the one topic of the tutorial
# Channels of the second chat, such as rooms:lobby.
ROOMS = TopicRules(
    namespace="rooms",
    history_size=100,
    history_ttl_s=600,
    presence=True,
    join_leave=True,
)
RETRY_AFTER_S = 1  # guess, as for refused WebSockets
MAX_DIGITS = 18  # fits 64 bits, whoever reads it next
SHOWN_CHARS = 40  # of a value that is refused: a close reason has room for 123 bytes

# 'self' covers ws: and wss: on the page's own host and port (CSP Level 3), and so
# this holds behind any name.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
NEW_VERSIONS = "no-cache"  # of the pages: they show at the next load


def create_app(
    broker: Broker | None = None,
    *,
    client: ClientProtocol | None = None,
    routes: Iterable[BaseRoute] = (),
    metrics_from: Sequence[str] = (),
    collectors: Iterable[Any] = (),
) -> Starlette:
    """Return the application; it runs the broker for as long as it runs itself.

    Args:
        broker: with rules, limits, hooks or a backplane of your own; None for one that
            is on its own, with ``ROOMS``. It is at ``app.state.broker``.
        client: how ``/connection/`` speaks the Centrifuge client protocol; None for
            clients without tokens.
        routes: more of them, such as those of the server API.
        metrics_from: networks whose hosts may read ``/metrics``; it is not there if
            there are none.
        collectors: Prometheus' collectors of whoever serves, for ``/metrics``.
    """
    endpoints = Endpoints(Broker(rules=[ROOMS]) if broker is None else broker)
    client = client or ClientProtocol(clock=time.time)
    app = Starlette(
        routes=[
            *endpoints.routes(),
            *client_routes(endpoints.broker, client, protobuf=PROTOBUF),
            *routes,
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={BadParameter: deny},
        lifespan=broker_lifespan(endpoints.broker, collecting_rarely),
    )
    app.state.broker = endpoints.broker
    if metrics_from:
        from .observability.prometheus import metrics_endpoint

        endpoint = metrics_endpoint(
            endpoints.broker, allowed=metrics_from, others=collectors
        )
        app.add_route("/metrics", endpoint)
    return app


class Endpoints:
    """What the application serves, over one broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def routes(self) -> list[BaseRoute]:
        """Return the tutorial's URLs, and those for operators."""
        return [
            Route("/", page("chat.html")),
            WebSocketRoute("/ws/{client_id}", self.chat),
            Route("/echo", page("echo.html")),
            WebSocketRoute("/ws", self.echo),
            Route("/items", page("items.html")),
            WebSocketRoute("/items/{item_id}/ws", self.items),
            Route("/rooms", page("rooms.html")),
            Route("/healthz", self.health),
            Route("/readyz", self.readiness),
            # A Route, where a Mount is usual: a Mount hands over WebSockets as well,
            # and StaticFiles fails on them.
            Route("/static/{name}", StaticFiles(directory=PAGES)),
            Route("/sdk/{name}", StaticFiles(directory=PAGES)),  # scripts/vendor-sdk
        ]

    async def chat(self, websocket: WebSocket) -> None:
        """What one client says goes to everyone, and so does that it has left."""
        client_id = integer("client_id", websocket.path_params["client_id"])
        async with open_session(websocket, self.broker) as session:
            await session.subscribe(CHAT)
            async for text in session:
                await session.send(f"You wrote: {text}")
                await self.broker.publish(CHAT, f"Client #{client_id} says: {text}")
        await self.broker.publish(CHAT, f"Client #{client_id} left the chat")

    async def echo(self, websocket: WebSocket) -> None:
        """Text comes back with a few words, binary as it is."""
        opening = open_session(websocket, self.broker, frames=Frames.ANY)
        async with opening as session:
            async for data in session:
                if isinstance(data, bytes):
                    await session.send(data)
                else:
                    await session.send(f"Message text was: {data}")

    async def items(self, websocket: WebSocket) -> None:
        """Shows what the handshake said; without cookie and token it is refused."""
        query = websocket.query_params
        cookie_or_token = websocket.cookies.get("session") or query.get("token")
        if not cookie_or_token:
            problem = "send a 'session' cookie or a 'token' query parameter"
            error = NotAllowed(problem, authenticated=False)
            await refuse(websocket, error, refusal="close")
            return
        q = integer("q", query["q"]) if "q" in query else None
        item_id = websocket.path_params["item_id"]
        async with open_session(websocket, self.broker) as session:
            async for text in session:
                await session.send(
                    f"Session cookie or query token value is: {cookie_or_token}"
                )
                if q is not None:
                    await session.send(f"Query parameter q is: {q}")
                await session.send(f"Message text was: {text}, for item ID: {item_id}")

    async def health(self, request: Request) -> Response:
        """The process is alive."""
        return JSONResponse({"status": "ok"})

    async def readiness(self, request: Request) -> Response:
        """It takes clients, or none now."""
        if not self.broker.is_ready:
            headers = {"retry-after": str(RETRY_AFTER_S)}
            return JSONResponse({"status": "not ready"}, 503, headers)
        now = self.broker.statistics()
        said: dict[str, object] = {"status": "ready", "sessions": now.sessions}
        if not now.is_backplane_up:
            # Ready all the same: all nodes have lost it, and nobody else could serve.
            said["backplane"] = "down"
        return JSONResponse(said)


class BadParameter(Exception):
    """A parameter of the handshake is wrong; the client is told which and why."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


def integer(field: str, given: str) -> int:
    """Return the value of a parameter.

    Raises:
        BadParameter: not decimal ASCII digits behind at most a minus, or more than 18.
    """
    if not re.fullmatch(r"-?[0-9]+", given):
        escaped = ascii(given[: SHOWN_CHARS + 1])[1:-1]
        shown = escaped[:SHOWN_CHARS] + "…" * (len(escaped) > SHOWN_CHARS)
        raise BadParameter(field, f"must be an integer, not '{shown}'")
    if len(given.lstrip("-")) > MAX_DIGITS:
        problem = f"must be an integer of at most {MAX_DIGITS} digits"
        raise BadParameter(field, problem)
    return int(given)


async def deny(websocket: WebSocket, error: Exception) -> None:
    """Answer a handshake with 403 and what is wrong with it."""
    assert isinstance(error, BadParameter)
    detail = [{"field": error.field, "problem": error.problem}]
    with suppress(Exception):  # it has left: nobody to tell
        if "websocket.http.response" in websocket.scope.get("extensions", {}):
            await websocket.send_denial_response(JSONResponse({"detail": detail}, 403))
        else:
            await websocket.close(1008, str(error))  # the server makes it 403


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint for one HTML file; without the SDK none links to rooms."""

    async def show(request: Request) -> Response:
        if SDK.exists():  # each time: it may be fetched while this runs
            return FileResponse(PAGES / name, media_type="text/html")
        return HTMLResponse((PAGES / name).read_text("utf-8").replace(ROOMS_LINK, ""))

    return show


class SecurityHeaders:
    """Adds to each HTTP response what the browser must not do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("cache-control", NEW_VERSIONS)
            await send(message)

        is_http = scope["type"] == "http"
        await self._app(scope, receive, send_with_headers if is_http else send)


@asynccontextmanager
async def collecting_rarely(_: Starlette) -> AsyncGenerator[None, None]:
    """Have the garbage collector suit many connections."""
    with tuned_collector():
        yield


app = create_app()
