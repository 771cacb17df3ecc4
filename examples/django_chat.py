"""Chat beside Django: one ASGI process, Django for HTTP, the broker for websockets.

Run:  hypercorn examples.django_chat:app
Open: http://127.0.0.1:8000 in two tabs, write in both, make an announcement.

Starlette is the outer application: it takes the websockets, hands all HTTP to Django,
and runs the broker. Django's views publish to the same topics. In your own project this
is asgi.py, and settings, urls and views are where they always are.
"""

from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker

broker = Broker()

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this example only",
)
django.setup()


async def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(html.encode())


@require_POST
async def announce(request: HttpRequest) -> HttpResponse:
    """Publish from a view; from a sync one with anyio.from_thread.run(…, token=…)."""
    text = request.POST.get("text", "")
    receipt = await broker.publish("chat", f"Announcement: {text}")
    return JsonResponse({"subscribers": receipt.subscribers})


urlpatterns: list[Any] = [path("", page), path("announce", announce)]


async def chat(websocket: WebSocket) -> None:
    client_id = websocket.path_params["client_id"]
    async with open_session(websocket, broker) as session:
        await session.subscribe("chat")
        async for text in session:  # ends when the client has left
            await session.send(f"You wrote: {text}")
            await broker.publish("chat", f"Client #{client_id} says: {text}")
    await broker.publish("chat", f"Client #{client_id} left the chat")


app = Starlette(
    routes=[
        WebSocketRoute("/ws/{client_id:int}", chat),
        Route("/{path:path}", get_asgi_application()),
    ],
    lifespan=broker_lifespan(broker),
)


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Chat</title></head>
<body>
  <h1>Chat beside Django</h1>
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
