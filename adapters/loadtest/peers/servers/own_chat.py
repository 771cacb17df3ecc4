"""Ours with messages of your own: a session for each client."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker, Limits

__all__ = ("app",)

# One client speaks for all here, so it may say more than a person.
broker = Broker(limits=Limits(messages_per_s=None, bytes_per_s=None))


async def chat(websocket: WebSocket) -> None:
    async with open_session(websocket, broker) as session:
        await session.subscribe("chat")
        async for text in session:
            await broker.publish("chat", text)


app = Starlette(routes=[WebSocketRoute("/ws", chat)], lifespan=broker_lifespan(broker))
