"""What pages of several origins connect to, by every transport."""

from __future__ import annotations

import os
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.routing import Route

from adapters.asgi.client import client_routes
from adapters.asgi.lifespan import broker_lifespan
from broker import Broker, TopicRules
from broker.client_protocol import ClientProtocol
from tests.e2e.scenarios import installed_sdk

SDK = installed_sdk() / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"

broker = Broker(
    rules=[TopicRules(history_size=100)],
    origins=os.environ.get("ORIGINS", "").split(),
)


async def page(request: Request) -> HTMLResponse:
    """A page with the SDK and nothing else."""
    return HTMLResponse(
        "<!doctype html><title>empty</title><script src='/sdk.js'></script>"
    )


async def sdk(request: Request) -> FileResponse:
    """The SDK, as browsers load it."""
    return FileResponse(SDK, media_type="text/javascript")


async def publish(request: Request) -> JSONResponse:
    """Publish from the server."""
    await broker.publish(request.query_params["topic"], request.query_params["data"])
    return JSONResponse({})


async def history(request: Request) -> JSONResponse:
    """Return what was published in a topic."""
    kept = await broker.history(request.query_params["topic"])
    return JSONResponse([message.payload for message in kept.messages])


async def vitals(request: Request) -> JSONResponse:
    """Report who is connected."""
    return JSONResponse({"sessions": broker.statistics().sessions})


app = Starlette(
    routes=[
        Route("/", vitals),
        Route("/page", page),
        Route("/sdk.js", sdk),
        Route("/publish", publish, methods=["POST"]),
        Route("/history", history),
        *client_routes(broker, ClientProtocol(clock=time.time)),
    ],
    lifespan=broker_lifespan(broker),
)
