"""python-socketio as an ASGI application: an event that goes to everybody."""

from __future__ import annotations

from typing import Any

import socketio  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports]

__all__ = ("app",)

server = socketio.AsyncServer(async_mode="asgi")


@server.event  # type: ignore[untyped-decorator]
async def chat(sid: str, message: Any) -> None:
    await server.emit("chat", message)


app = socketio.ASGIApp(server)
