"""The chat of broadcaster's README, in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from broadcaster import Broadcast
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

__all__ = ("app",)

broadcast = Broadcast("memory://")


async def receiver(websocket: WebSocket) -> None:
    async for message in websocket.iter_text():
        await broadcast.publish(channel="chatroom", message=message)


async def sender(websocket: WebSocket) -> None:
    async with broadcast.subscribe(channel="chatroom") as subscriber:
        async for event in subscriber:  # type: ignore[union-attr] # annotated so there
            await websocket.send_text(event.message)  # type: ignore[union-attr]


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    async with anyio.create_task_group() as tasks:

        async def receive() -> None:
            await receiver(websocket)
            tasks.cancel_scope.cancel()

        tasks.start_soon(receive)
        await sender(websocket)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
    # The README's on_startup is gone from Starlette 1.
    async with broadcast:
        yield


app = Starlette(routes=[WebSocketRoute("/ws", chat)], lifespan=lifespan)
