"""Chat inside Litestar: its own websocket as the broker's transport.

Run:  hypercorn examples.litestar_chat:app
Open: http://127.0.0.1:8000 in two tabs, write in both, close one.

A transport is three methods. With this one a handler keeps what Litestar gives it: path
parameters, dependencies, guards.
"""

from typing import Any

from litestar import Litestar, MediaType, WebSocket, get, websocket

from broker import Broker, Frames, TransportClosed

broker = Broker()


class LitestarTransport:
    """An accepted Litestar websocket, for ``Broker.open_session``."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] != "websocket.receive":
            raise TransportClosed("the client has left")
        text = message.get("text")
        return text if text is not None else message.get("bytes") or b""

    async def send(self, frame: str | bytes) -> None:
        mode = "text" if isinstance(frame, str) else "binary"
        try:
            await self._socket.send_data(frame, mode=mode)
        except Exception as error:  # servers tell a lost client in many ways
            raise TransportClosed("the client has left") from error

    async def close(self, code: int, reason: str) -> None:
        try:
            await self._socket.close(code, reason)
        except Exception as error:
            raise TransportClosed("the client has left") from error


@websocket("/ws/{client_id:int}")
async def chat(socket: WebSocket[Any, Any, Any], client_id: int) -> None:
    await socket.accept()
    async with broker.open_session(LitestarTransport(socket), Frames.TEXT) as session:
        await session.subscribe("chat")
        async for text in session:  # ends when the client has left
            await session.send(f"You wrote: {text}")
            await broker.publish("chat", f"Client #{client_id} says: {text}")
    await broker.publish("chat", f"Client #{client_id} left the chat")


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Chat</title></head>
<body>
  <h1>Chat in Litestar</h1>
  <form id="form">
    <input id="messageText" autocomplete="off" autofocus>
    <button>Send</button>
  </form>
  <ul id="messages"></ul>
  <script>
    const server = location.protocol.replace("http", "ws") + "//" + location.host
    const socket = new WebSocket(server + "/ws/" + Date.now())
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


@get("/", media_type=MediaType.HTML)
async def page() -> str:
    return html


app = Litestar([page, chat], lifespan=[broker])
