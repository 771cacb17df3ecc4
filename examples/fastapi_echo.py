"""Echo: the first program of FastAPI's WebSocket tutorial, on a broker session.

Run:  hypercorn examples.fastapi_echo:app
Open: http://127.0.0.1:8000 and type a message.
"""

from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker

broker = Broker()
app = FastAPI(lifespan=broker_lifespan(broker))


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    async with open_session(websocket, broker) as session:
        async for text in session:
            await session.send(f"Message text was: {text}")


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Echo</title></head>
<body>
  <h1>WebSocket echo</h1>
  <form id="form">
    <input id="messageText" autocomplete="off" autofocus>
    <button>Send</button>
  </form>
  <ul id="messages"></ul>
  <script>
    const server = location.protocol.replace("http", "ws") + "//" + location.host
    const socket = new WebSocket(server + "/ws")
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
