"""Chat: the tutorial's third program, with a broker for its ConnectionManager.

Run:  hypercorn examples.fastapi_chat:app
Open: http://127.0.0.1:8000 in two tabs, write in both, close one.
"""

from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker

broker = Broker()
app = FastAPI(lifespan=broker_lifespan(broker))


@app.websocket("/ws/{client_id}")
async def chat(websocket: WebSocket, client_id: int) -> None:
    async with open_session(websocket, broker) as session:
        await session.subscribe("chat")
        async for text in session:  # ends when the client has left
            await session.send(f"You wrote: {text}")
            await broker.publish("chat", f"Client #{client_id} says: {text}")
    await broker.publish("chat", f"Client #{client_id} left the chat")


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Chat</title></head>
<body>
  <h1>WebSocket chat</h1>
  <h2>Your ID: <span id="ws-id"></span></h2>
  <form id="form">
    <input id="messageText" autocomplete="off" autofocus>
    <button>Send</button>
  </form>
  <ul id="messages"></ul>
  <script>
    const clientId = Date.now()
    document.querySelector("#ws-id").textContent = clientId
    const server = location.protocol.replace("http", "ws") + "//" + location.host
    const socket = new WebSocket(server + "/ws/" + clientId)
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


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return html
