"""Rooms that remember: history, resume after a lost connection, and who is there.

Run:  hypercorn examples.starlette_rooms:app
Open: http://127.0.0.1:8000/?room=lobby&name=ada and, in another tab, the same with
      name=bob; write in both. Then lose a connection: type socket.close() into the
      console of one tab and write in the other. It comes back, and has missed nothing.

A client connects to /rooms/<room>?name=<name>, and after a lost connection it says how
far it got: &epoch=<epoch>&offset=<offset>. It gets JSON texts, told apart by "event":

    message   text, epoch, offset: what was said, and how far that is
    join      user, client_id, topic: somebody has come; leave: has left
    members   names: who is there; the answer to the text "/who"
    gap       missed, epoch, offset: so many messages are lost to this client
    stale     it was away for too long, and nobody knows what it has missed
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import WebSocketException
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import (
    Broker,
    ConnectRequest,
    Gap,
    Hooks,
    Item,
    Message,
    NotAllowed,
    Position,
    TopicRules,
)


async def authenticate(request: ConnectRequest) -> str:
    """Believe the client. A real application would check a cookie or a token."""
    name = request.query.get("name")
    if not name:
        raise NotAllowed("say who you are: ?name=…", authenticated=False)
    return name


rooms = TopicRules(
    pattern="rooms.*",
    history_size=100,
    history_ttl_s=3600,
    presence=True,
    join_leave=True,
)
broker = Broker(rules=[rooms], hooks=Hooks(authenticate=authenticate))


async def room(websocket: WebSocket) -> None:
    async with open_session(websocket, broker, encode=to_frame) as session:
        topic = topic_of(websocket.path_params["room"])
        since = position_in(websocket.query_params)
        recent = 20 if since is None else 0  # a first visitor sees what was said last
        await session.subscribe(f"$presence.{topic}")
        attached = await session.subscribe(topic, since=since, recent=recent)
        if attached.recovered is False:
            await session.send(to_json(event="stale"))
        async for text in session:
            if text == "/who":
                names = [member.user for member in await broker.presence(topic)]
                await session.send(to_json(event="members", names=names))
            else:
                await session.publish(topic, f"{session.user}: {text}")


def topic_of(name: str) -> str:
    """Return a room's topic. A dot in its name would make two segments of it."""
    if not (name.isascii() and name.isalnum()):
        raise WebSocketException(1008, "a room's name is letters and digits")
    return f"rooms.{name}"


def position_in(query: Mapping[str, str]) -> Position | None:
    """Return how far the client got; None if it does not say, or talks nonsense."""
    try:
        return Position(query["epoch"], int(query["offset"]))
    except (KeyError, ValueError):
        return None


def to_frame(item: Item) -> str:
    """Return what clients are sent for a message or a gap."""
    match item:
        case Message(topic, str(payload)) if topic.startswith("$presence."):
            return payload  # JSON already
        case Message(_, text, Position(epoch, offset)):
            return to_json(event="message", text=text, epoch=epoch, offset=offset)
        case Gap(epoch=epoch, last=offset, missed=missed):
            return to_json(event="gap", missed=missed, epoch=epoch, offset=offset)
    raise AssertionError(f"not for clients: {item}")


def to_json(**fields: Any) -> str:
    return msgspec.json.encode(fields).decode()


html = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Rooms</title></head>
<body>
  <h1>Room <span id="title"></span></h1>
  <p>Here now: <span id="names"></span></p>
  <ul id="messages"></ul>
  <form id="form">
    <input id="messageText" autocomplete="off" autofocus>
    <button>Send</button>
  </form>
  <script>
    const here = new URLSearchParams(location.search)
    const room = here.get("room") || "lobby"
    const query = new URLSearchParams({name: here.get("name") || "somebody"})
    const server = location.protocol.replace("http", "ws") + "//" + location.host
    let socket = null
    title.textContent = room

    function show(text) {
      const line = document.createElement("li")
      line.textContent = text
      messages.append(line)
    }

    const actions = {
      message: (news) => show(news.text),
      members: (news) => { names.textContent = news.names.join(", ") },
      join: () => socket.send("/who"),
      leave: () => socket.send("/who"),
      gap: (news) => show(`(${news.missed} messages are missing)`),
      stale: () => show("(you were away for too long: some messages are missing)"),
    }

    function connect() {
      socket = new WebSocket(`${server}/rooms/${room}?${query}`)
      socket.onmessage = (event) => {
        const news = JSON.parse(event.data)
        if ("offset" in news) {  // remember how far we got
          query.set("epoch", news.epoch)
          query.set("offset", news.offset)
        }
        actions[news.event](news)
      }
      // Not all at once, should there be many of us.
      socket.onclose = () => setTimeout(connect, 500 + Math.random() * 2000)
    }

    form.onsubmit = (event) => {
      event.preventDefault()
      socket.send(messageText.value)
      messageText.value = ""
    }
    connect()
  </script>
</body>
</html>
"""


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(html)


app = Starlette(
    routes=[Route("/", page), WebSocketRoute("/rooms/{room}", room)],
    lifespan=broker_lifespan(broker),
)
