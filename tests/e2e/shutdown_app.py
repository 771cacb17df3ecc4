"""What the shutdown tests talk to: our application, with clients of every kind."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from adapters.app import Endpoints
from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker, Limits

logger = logging.getLogger(__name__)

BURST = 40
PADDING = "x" * 20_000  # of 40 messages the kernel takes the fewest
TICK_S = 0.01

# Nothing but the drain's own deadline ends a client that does not read.
broker = Broker(limits=Limits(grace_s=60, stall_s=60))


async def ticks(websocket: WebSocket) -> None:
    """Says which process this is, and then numbers, for ever."""
    async with open_session(websocket, broker) as session:
        await session.send(f"{os.getpid()}")
        await session.subscribe("ticks")
        await session.wait_ended()


async def burst(websocket: WebSocket) -> None:
    """Says which process this is, and then more than the kernel takes."""
    async with open_session(websocket, broker) as session:
        await session.send(f"{os.getpid()}")
        for number in range(BURST):
            await session.send(f"{number}:{PADDING}")
        if session.lag > BURST / 2:
            logger.info("burst is queued")
        await session.wait_ended()


async def block(_: Request) -> Response:
    """Blocks the event loop for ever."""
    logger.info("blocked")
    threading.Event().wait()
    raise AssertionError


async def tick() -> None:
    for number in count():
        await broker.publish("ticks", str(number))
        await anyio.sleep(TICK_S)


@asynccontextmanager
async def ticking(_: Starlette) -> AsyncGenerator[None, None]:
    """Publish until the very end, also while clients are sent away."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def stuck(_: Starlette) -> AsyncGenerator[None, None]:
    """An application whose shutdown blocks the event loop for ever."""
    yield
    threading.Event().wait()


app = Starlette(
    routes=[
        *Endpoints(broker).routes(),
        Route("/block", block),
        WebSocketRoute("/ticks", ticks),
        WebSocketRoute("/burst", burst),
    ],
    lifespan=broker_lifespan(broker, ticking),
)
blocking = Starlette(
    routes=Endpoints(broker).routes(), lifespan=broker_lifespan(broker, stuck)
)
