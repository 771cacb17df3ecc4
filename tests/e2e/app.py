"""What the end-to-end tests talk to: our chats and the naive loop, side by side."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import anyio
import sniffio
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker, Frames, Limits, Overflow

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
# Whoever says nothing is ended.
quiet = Broker(limits=Limits(silence_s=1, grace_s=1))
# Whoever does not read stays, and costs little.
small = Broker(limits=Limits(max_outbox_bytes=262_144, stall_s=120, grace_s=1))
brokers = {"ours": broker, "quiet": quiet, "small": small}
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


async def room(websocket: WebSocket) -> None:
    """The same with a topic of one's own."""
    topic = websocket.path_params["topic"]
    async with open_session(websocket, broker) as session:
        await session.subscribe(topic)
        async for text in session:
            await broker.publish(topic, text)


async def listener(websocket: WebSocket) -> None:
    """Everybody in one topic of the broker that the path names; nobody answers."""
    own = brokers[websocket.url.path.removeprefix("/")]
    async with open_session(websocket, own, overflow=Overflow.DROP_OLDEST) as session:
        await session.subscribe("all")
        await session.wait_ended()


async def deaf(websocket: WebSocket) -> None:
    """Never takes a message."""
    async with open_session(websocket, broker, frames=Frames.ANY) as session:
        await session.wait_ended()


async def impatient(websocket: WebSocket) -> None:
    """Gives up waiting for its client again and again, and sends back what it gets."""
    async with open_session(websocket, broker) as session:
        while session.ending is None:
            text = None
            with anyio.move_on_after(0.0005):
                text = await session.receive()
            if text is not None:
                await session.send(text)


class Between:
    """Another application's ``receive`` around the server's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what the server says."""

        async def pass_on() -> Message:
            return await receive()

        await self._app(scope, pass_on, send)


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
    """Send numbered messages of a size to all: with a broker, or with the loop.

    At most a hundred per second: what a healthy client reads with ease. Each says when
    it was published (s, time.monotonic, which is one clock for all processes).
    """
    query = request.query_params
    padding = "x" * int(query["size"])
    pause_s = 1 / int(query.get("per_s", 100))
    for number in range(int(query["messages"])):
        await anyio.sleep(pause_s)
        text = f"{number}:{time.monotonic()}:{padding}"
        if query["to"] in brokers:
            await brokers[query["to"]].publish("all", text)
        else:
            # A copy: who leaves meanwhile would make the loop skip somebody.
            for websocket in tuple(naive):
                with suppress(Exception):
                    await websocket.send_text(text)
    return JSONResponse({"published": query["messages"]})


def statistics(of: Broker) -> dict[str, Any]:
    numbers: dict[str, Any] = asdict(of.statistics())
    totals = numbers.pop("totals")
    numbers["ended"] = {kind.value: n for kind, n in totals["ended"].items()}
    numbers["dropped"] = sum(totals["dropped"].values())
    return numbers


async def vitals(_: Request) -> JSONResponse:
    """Report what could leak: of the main broker, of the others, of the process."""
    of = {name: statistics(each) for name, each in brokers.items()}
    numbers = of.pop("ours") | of
    numbers["pid"] = os.getpid()
    numbers["naive"] = len(naive)
    if sniffio.current_async_library() == "trio":
        numbers["tasks"] = trio.lowlevel.current_statistics().tasks_living
    else:
        numbers["tasks"] = len(asyncio.all_tasks())
    # Not those that the brokers keep for the next send: a bounded number.
    pools = [each._core().batcher._pool for each in brokers.values()]
    numbers["tasks"] -= sum(each.resting for each in pools)
    names = [each.name for each in anyio.get_running_tasks()]
    numbers["readers"] = names.count("broker: session reader")
    numbers["files"] = len(os.listdir("/proc/self/fd"))
    return JSONResponse(numbers)


routes = [
    Route("/", vitals),
    Route("/publish", publish, methods=["POST"]),
    WebSocketRoute("/ours", ours),
    WebSocketRoute("/room/{topic}", room),
    WebSocketRoute("/between", ours, middleware=[Middleware(Between)]),
    WebSocketRoute("/impatient", impatient),
    WebSocketRoute("/quiet", listener),
    WebSocketRoute("/small", listener),
    WebSocketRoute("/deaf", deaf),
    WebSocketRoute("/refused", refused),
    WebSocketRoute("/naive", naive_loop),
]
app: Callable[..., Awaitable[None]] = Starlette(
    routes=routes,
    lifespan=broker_lifespan(broker, broker_lifespan(quiet, broker_lifespan(small))),
)
