"""The chat of Django Channels' tutorial, with the layer in memory, for daphne."""

from __future__ import annotations

from typing import Any

import django  # type: ignore[import-untyped]
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

__all__ = ("application",)

settings.configure(
    SECRET_KEY="nothing is signed here",  # nor kept
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()


class ChatConsumer(AsyncWebsocketConsumer):  # type: ignore[misc] # untyped
    async def connect(self) -> None:
        await self.channel_layer.group_add("chat", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("chat", self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        await self.channel_layer.group_send(
            "chat", {"type": "chat.message", "message": text_data}
        )

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["message"])


application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [path("ws", ChatConsumer.as_asgi())]  # pyright: ignore[reportArgumentType]
        )
    }
)
