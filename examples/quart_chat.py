"""Chat inside Quart: pages by Quart, websockets by the broker, in one application.

Run:  hypercorn examples.quart_chat:app
Open: http://127.0.0.1:8000 in two tabs, write in both, make an announcement.

The websockets pass Quart by, as an ASGI middleware. Its own would put a queue without a
bound before the broker, and are not told when the client leaves but cancelled.
"""

from collections.abc import AsyncGenerator
from typing import Any

from quart import Quart, request
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from adapters.asgi.websocket import open_session
from broker import Broker

broker = Broker()


async def chat(websocket: WebSocket) -> None:
    client_id = websocket.path_params["client_id"]
    async with open_session(websocket, broker) as session:
        await session.subscribe("chat")
        async for text in session:  # ends when the client has left
            await session.send(f"You wrote: {text}")
            await broker.publish("chat", f"Client #{client_id} says: {text}")
    await broker.publish("chat", f"Client #{client_id} left the chat")


sockets = Starlette(routes=[WebSocketRoute("/ws/{client_id:int}", chat)])


class QuartWithSockets(Quart):
    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        serve = sockets if scope["type"] == "websocket" else super().asgi_app
        await serve(scope, receive, send)


app = QuartWithSockets(__name__)


@app.while_serving
async def run_broker() -> AsyncGenerator[None, None]:
    async with broker:
        yield


@app.post("/announce")
async def announce() -> dict[str, int]:
    form = await request.form
    receipt = await broker.publish("chat", f"Announcement: {form['text']}")
    return {"subscribers": receipt.subscribers}


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Chat</title></head>
<body>
  <h1>Chat in Quart</h1>
  <form id="form">
    <input id="messageText" autocomplete="off" autofocus>
    <button>Send</button>
    <button id="announce">Announce</button>
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
      const text = messageText.value
      if (event.submitter.id === "announce") {
        fetch("/announce", {method: "POST", body: new URLSearchParams({text})})
      } else {
        socket.send(text)
      }
      messageText.value = ""
    }
  </script>
</body>
</html>
"""


@app.get("/")
async def page() -> str:
    return html
