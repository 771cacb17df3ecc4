"""An endpoint for the maintained SDKs: the Centrifuge client protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocket

from broker import Broker
from broker.client import serve_client
from broker.client_protocol import CLIENT_WIRE, ClientProtocol

from .websocket import open_session

__all__ = ("client_endpoint",)


def client_endpoint(
    broker: Broker, protocol: ClientProtocol
) -> Callable[[WebSocket], Awaitable[None]]:
    """Return a WebSocket endpoint for Starlette or FastAPI.

    SDKs are given its URL; the usual path is ``/connection/websocket``. The
    ``authenticate`` hook may say who a client is from its cookies; else the token in
    its first message does.
    """

    async def endpoint(websocket: WebSocket) -> None:
        async with open_session(websocket, broker, wire=CLIENT_WIRE) as session:
            await serve_client(broker, session, protocol)

    return endpoint
