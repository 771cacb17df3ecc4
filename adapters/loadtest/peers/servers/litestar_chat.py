"""Litestar's channels in memory, with a subscriber for each client as its guide has."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, WebSocket, websocket
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.exceptions import WebSocketDisconnect

__all__ = ("app",)


@websocket("/ws")
async def chat(socket: WebSocket[Any, Any, Any], channels: ChannelsPlugin) -> None:
    await socket.accept()
    async with (
        channels.start_subscription(["chat"]) as subscriber,
        subscriber.run_in_background(socket.send_text),
    ):
        try:
            while True:
                channels.publish(await socket.receive_text(), "chat")
        except WebSocketDisconnect:
            return


app = Litestar(
    [chat],
    plugins=[ChannelsPlugin(backend=MemoryChannelsBackend(), channels=["chat"])],
)
