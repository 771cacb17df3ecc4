"""What Centrifugo's own client of the server API talks to."""

from __future__ import annotations

import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from adapters.asgi.client import client_endpoint
from adapters.asgi.http_api import api_routes
from adapters.asgi.lifespan import broker_lifespan
from broker import Broker, ConnectRequest, Hooks, Limits, TopicRules
from broker.client_protocol import ClientProtocol

KEY = "of the tests"


async def who(request: ConnectRequest) -> str | None:
    """Believe what is in the query."""
    return request.query.get("user")


broker = Broker(
    rules=[TopicRules(pattern="chat.>", history_size=10, presence=True)],
    hooks=Hooks(authenticate=who),
    limits=Limits(grace_s=1),
)


async def home(_: Request) -> JSONResponse:
    """Say that it is up."""
    return JSONResponse({})


app = Starlette(
    routes=[
        Route("/", home),
        *api_routes(broker, key=KEY, name="one"),
        WebSocketRoute(
            "/connection/websocket",
            client_endpoint(broker, ClientProtocol(clock=time.time)),
        ),
    ],
    lifespan=broker_lifespan(broker),
)
