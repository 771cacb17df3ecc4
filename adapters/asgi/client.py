"""Endpoints for the maintained SDKs: the Centrifuge client protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import QueryParams
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from broker import Broker
from broker.client import serve_client
from broker.client_format import JSON, ONE_WAY, ClientFormat
from broker.client_protocol import ClientProtocol

from .client_http import CONNECT, EVENTS, LINES, Framing, StreamEndpoint
from .emulation import Emulation
from .websocket import DirectWebSocket, open_session

__all__ = ("client_endpoint", "client_routes", "one_way_endpoint")


def client_endpoint(
    broker: Broker,
    protocol: ClientProtocol,
    *,
    protobuf: ClientFormat[bytes] | None = None,
) -> Callable[[WebSocket], Awaitable[None]]:
    """Return a WebSocket endpoint for Starlette or FastAPI.

    SDKs are given its URL; the usual path is ``/connection/websocket``. The
    ``authenticate`` hook may say who a client is from its cookies; else the token in
    its first message does.

    Args:
        protobuf: ``adapters.protobuf.PROTOBUF``, for clients that ask for it: by the
            subprotocol ``centrifuge-protobuf``, or by ``?format=protobuf``. None: they
            are sent away with their first frame.
    """

    async def endpoint(websocket: WebSocket) -> None:
        speaks, subprotocol = _form(websocket, protobuf)
        async with open_session(
            websocket,
            broker,
            frames=speaks.takes,
            wire=speaks.wire,
            subprotocol=subprotocol,
        ) as session:
            await serve_client(broker, session, protocol, speaks=speaks)

    return endpoint


def one_way_endpoint(
    broker: Broker, protocol: ClientProtocol
) -> Callable[[WebSocket], Awaitable[None]]:
    """Return a WebSocket endpoint for clients that only listen.

    Its usual path is ``/connection/uni_websocket``. A client's one message, or
    ``cf_connect`` in the query, is a connect request: a JSON object, at least ``{}``.
    It gets pushes, each a line of JSON, that need no SDK to be read.
    """

    async def endpoint(websocket: WebSocket) -> None:
        first = websocket.query_params.get(CONNECT)
        async with open_session(
            websocket, broker, wire=ONE_WAY.wire, first=first
        ) as session:
            await serve_client(broker, session, protocol, speaks=ONE_WAY)

    return endpoint


class _Direct:
    """The same endpoint as an ASGI application, with one layer less for each frame."""

    def __init__(self, endpoint: Callable[[WebSocket], Awaitable[None]]) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(DirectWebSocket(scope, receive, send))


def client_routes(
    broker: Broker,
    protocol: ClientProtocol,
    *,
    path: str = "/connection",
    emulation_path: str = "/emulation",
    protobuf: ClientFormat[bytes] | None = None,
) -> list[BaseRoute]:
    """Return the routes of all transports, for Starlette or FastAPI.

    Below ``path``: ``websocket``; where WebSockets do not get through, ``http_stream``
    and ``sse``, whose clients post to ``emulation_path`` what they say; and
    ``uni_websocket``, ``uni_http_stream`` and ``uni_sse`` for clients that only listen.

    Pages of other sites may use them if the broker's ``origins`` list them; no CORS
    middleware is needed for that.

    Args:
        path: before the transports' names; begins with a slash.
        emulation_path: SDKs are told of it as ``emulationEndpoint``.
        protobuf: as for ``client_endpoint``: over WebSocket only.
    """
    emulation = Emulation(broker)

    def stream(name: str, framing: Framing, *methods: str) -> Route:
        is_one_way = name.startswith("uni_")
        endpoint = StreamEndpoint(
            broker=broker,
            protocol=protocol,
            speaks=ONE_WAY if is_one_way else JSON,
            framing=framing,
            emulation=None if is_one_way else emulation,
            empty="{}" if is_one_way else None,
        ).endpoint
        return Route(f"{path}/{name}", endpoint, methods=[*methods, "OPTIONS"])

    return [
        WebSocketRoute(
            f"{path}/websocket",
            _Direct(client_endpoint(broker, protocol, protobuf=protobuf)),
        ),
        WebSocketRoute(
            f"{path}/uni_websocket", _Direct(one_way_endpoint(broker, protocol))
        ),
        stream("http_stream", LINES, "POST"),
        stream("sse", EVENTS, "GET", "POST"),
        stream("uni_http_stream", LINES, "POST"),
        stream("uni_sse", EVENTS, "GET", "POST"),
        Route(emulation_path, emulation.endpoint, methods=["POST", "OPTIONS"]),
    ]


def _form(
    websocket: WebSocket, protobuf: ClientFormat[bytes] | None
) -> tuple[ClientFormat[Any], str]:
    """Return the form of the protocol that a client speaks, and its subprotocol."""
    query = QueryParams(websocket.scope["query_string"])  # not kept by the websocket
    asked = {query.get("format"), query.get("cf_protocol"), *websocket["subprotocols"]}
    if protobuf is not None and asked & {"protobuf", "centrifuge-protobuf"}:
        return protobuf, "centrifuge-protobuf"
    return JSON, "centrifuge-json"
