"""Under uvicorn, say goodbye first: the README's chat with a drain at shutdown.

Run: python -m examples.uvicorn_drain
Open: http://127.0.0.1:8000 has no page; connect to ws://127.0.0.1:8000/ws and press
    Ctrl-C here: what waits is sent, then 1012 with a reason.
"""

from __future__ import annotations

import os
import socket

import uvicorn
from fastapi import FastAPI, WebSocket

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker, drain

broker = Broker()
app = FastAPI(lifespan=broker_lifespan(broker))


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    async with open_session(websocket, broker) as session:
        await session.subscribe("chat")
        async for text in session:
            await broker.publish("chat", text)


class DrainingServer(uvicorn.Server):
    """uvicorn closes its sockets in ``shutdown``: everybody is sent away before."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await drain(broker, deadline_s=5)
        await super().shutdown(sockets)


if __name__ == "__main__":
    config = uvicorn.Config(
        app,
        port=int(os.environ.get("PORT", "8000")),
        # Clients that do not read have been given up by then.
        timeout_graceful_shutdown=2,
    )
    DrainingServer(config).run()
