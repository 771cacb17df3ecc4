"""What the end-to-end tests talk to: our chat and the naive loop, side by side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import anyio
import sniffio
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker, Frames, Limits

limits = Limits(
    max_message_bytes=262_144,
    max_outbox_bytes=1_048_576,
    max_inbox_bytes=262_144,
    max_inbox_messages=8,
    max_subscriptions=20,
    stall_s=3,
    grace_s=1,
)
broker = Broker(limits=limits)
naive: list[WebSocket] = []


async def ours(websocket: WebSocket) -> None:
    """Everybody in one topic; a message is passed on to all."""
    async with open_session(websocket, broker) as session:
        await session.subscribe("all")
        async for text in session:
            if text.startswith("subscribe "):
                await session.subscribe(text.removeprefix("subscribe "))
            else:
                await broker.publish("all", text)


async def deaf(websocket: WebSocket) -> None:
    """Never takes a message."""
    async with open_session(websocket, broker, frames=Frames.ANY) as session:
        await session.wait_ended()


async def refused(websocket: WebSocket) -> None:
    """Closes with 1008 at once."""
    async with open_session(websocket, broker) as session:
        await session.subscribe("not a topic")


async def naive_loop(websocket: WebSocket) -> None:
    """The tutorial's ConnectionManager, in short."""
    await websocket.accept()
    naive.append(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        naive.remove(websocket)


async def publish(request: Request) -> JSONResponse:
    """Send numbered messages of a size to all: with the broker, or with the loop.

    About a hundred per second: what a healthy client reads with ease.
    """
    query = request.query_params
    padding = "x" * int(query["size"])
    for number in range(int(query["messages"])):
        await anyio.sleep(0.01)
        text = f"{number}:{padding}"
        if query["to"] == "ours":
            await broker.publish("all", text)
        else:
            for websocket in naive:
                with suppress(Exception):
                    await websocket.send_text(text)
    return JSONResponse({"published": query["messages"]})


async def vitals(_: Request) -> JSONResponse:
    """Report what could leak."""
    numbers: dict[str, Any] = asdict(broker.statistics())
    totals = numbers.pop("totals")
    numbers["ended"] = {kind.value: n for kind, n in totals["ended"].items()}
    if sniffio.current_async_library() == "trio":
        numbers["tasks"] = trio.lowlevel.current_statistics().tasks_living
    else:
        numbers["tasks"] = len(asyncio.all_tasks())
    numbers["files"] = len(os.listdir("/proc/self/fd"))
    return JSONResponse(numbers)


routes = [
    Route("/", vitals),
    Route("/publish", publish, methods=["POST"]),
    WebSocketRoute("/ours", ours),
    WebSocketRoute("/deaf", deaf),
    WebSocketRoute("/refused", refused),
    WebSocketRoute("/naive", naive_loop),
]
app: Callable[..., Awaitable[None]] = Starlette(
    routes=routes, lifespan=broker_lifespan(broker)
)
