"""Path, query, cookie, header and dependencies: the tutorial's second program.

Run:  hypercorn examples.fastapi_items:app
Open: http://127.0.0.1:8000, choose an item and a token, connect, type a message.

A client with neither a cookie nor a token is refused before it is accepted (HTTP 403);
so is one whose parameters are not valid.
"""

from typing import Annotated

from fastapi import (
    Cookie,
    Depends,
    FastAPI,
    Header,
    Path,
    Query,
    WebSocket,
    WebSocketException,
    status,
)
from fastapi.responses import HTMLResponse

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker

broker = Broker()
app = FastAPI(lifespan=broker_lifespan(broker))


async def get_cookie_or_token(
    session: Annotated[str | None, Cookie()] = None,
    token: Annotated[str | None, Query()] = None,
) -> str:
    credential = session or token
    if credential is None:
        raise WebSocketException(code=status.WS_1008_POLICY_VIOLATION)
    return credential


@app.websocket("/items/{item_id}/ws")
async def item(
    websocket: WebSocket,
    item_id: Annotated[str, Path(max_length=40)],
    cookie_or_token: Annotated[str, Depends(get_cookie_or_token)],
    q: Annotated[int | None, Query()] = None,
    x_client: Annotated[str | None, Header()] = None,
) -> None:
    async with open_session(websocket, broker) as session:
        async for data in session:
            await session.send(
                f"Session cookie or query token value is: {cookie_or_token}"
            )
            if q is not None:
                await session.send(f"Query parameter q is: {q}")
            if x_client is not None:
                await session.send(f"Header X-Client is: {x_client}")
            await session.send(f"Message text was: {data}, for item ID: {item_id}")


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Items</title></head>
<body>
  <h1>WebSocket with dependencies</h1>
  <form id="choice">
    <label>Item ID: <input id="itemId" value="foo"></label>
    <label>Token: <input id="token" value="some-key-token"></label>
    <button>Connect</button>
  </form>
  <form id="form">
    <label>Message: <input id="messageText" autocomplete="off"></label>
    <button>Send</button>
  </form>
  <ul id="messages"></ul>
  <script>
    const server = location.protocol.replace("http", "ws") + "//" + location.host
    let socket = null
    function show(text) {
      const line = document.createElement("li")
      line.textContent = text
      messages.append(line)
    }
    choice.onsubmit = (event) => {
      event.preventDefault()
      socket?.close()
      const path = "/items/" + encodeURIComponent(itemId.value) + "/ws"
      const query = "?token=" + encodeURIComponent(token.value)
      socket = new WebSocket(server + path + query)
      socket.onopen = () => show("connected")
      socket.onmessage = (event) => show(event.data)
    }
    form.onsubmit = (event) => {
      event.preventDefault()
      socket?.send(messageText.value)
      messageText.value = ""
    }
  </script>
</body>
</html>
"""


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return html
