"""Chat, as encode/broadcaster's own example: written for it, running on the broker.

Run:  hypercorn examples.starlette_broadcaster:app
Open: http://127.0.0.1:8000 in two tabs and write in both.

Only the import is another, and connect() and disconnect() stand in a lifespan, because
Starlette has no on_startup and on_shutdown any more. docs/migrating-from-broadcaster.md
says what else one might want to change.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.broadcaster import Broadcast
from broker import SlowConsumer

broadcast = Broadcast(os.environ.get("BROADCAST_URL", "memory://"))


async def chatroom(websocket: WebSocket) -> None:
    await websocket.accept()
    async with (
        broadcast.subscribe(channel="chat room") as subscriber,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(receive, websocket, tasks.cancel_scope)
        try:
            async for event in subscriber:
                await websocket.send_text(event.message)
        except SlowConsumer:  # broadcaster would have gone on collecting for it
            await websocket.close(1013, "you read too slowly: come back")
        except WebSocketDisconnect:
            pass  # it left while this was being sent
        tasks.cancel_scope.cancel()


async def receive(websocket: WebSocket, chat: anyio.CancelScope) -> None:
    async for text in websocket.iter_text():
        await broadcast.publish(channel="chat room", message=text)
    chat.cancel()  # the client has left


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
    await broadcast.connect()
    yield
    await broadcast.disconnect()


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Chat room</title></head>
<body>
  <h1>Chat room</h1>
  <form id="form">
    <input id="messageText" autocomplete="off" autofocus>
    <button>Send</button>
  </form>
  <ul id="messages"></ul>
  <script>
    const server = location.protocol.replace("http", "ws") + "//" + location.host
    const socket = new WebSocket(server + "/chatroom")
    socket.onmessage = (event) => {
      const line = document.createElement("li")
      line.textContent = event.data
      messages.append(line)
    }
    form.onsubmit = (event) => {
      event.preventDefault()
      socket.send(messageText.value)
      messageText.value = ""
    }
  </script>
</body>
</html>
"""


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(html)


app = Starlette(
    routes=[Route("/", page), WebSocketRoute("/chatroom", chatroom)],
    lifespan=lifespan,
)
