"""A help desk for the Centrifuge SDKs, in Starlette: every hook, in your own process.

Run:  hypercorn examples.starlette_desk:app
Type: in node, or in the console of a page that has the SDK:

    const url = "ws://127.0.0.1:8000/connection/websocket"
    const client = new Centrifuge(url, {data: {name: "ada"}})
    client.on("publication", ({channel, data}) => console.log(channel, data))
    client.connect()
    const {data} = await client.rpc("open_ticket", {subject: "no tea"})
    const ticket = client.newSubscription(data.channel)
    ticket.on("publication", ({data}) => console.log(data))
    ticket.subscribe()

Whoever is called "staff" sees all tickets.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from starlette.applications import Starlette

from adapters.asgi.client import client_routes
from adapters.asgi.lifespan import broker_lifespan
from broker import Broker, Ending, Hooks, NotAllowed, Session, TopicRules
from broker.client_protocol import (
    ClientError,
    ClientProtocol,
    Connected,
    Connecting,
    Subscribed,
)
from broker.rpc import RpcMethods

SHIFT_S = 300.0  # after that, is the client still welcome?


class Hello(msgspec.Struct):
    """What a client says of itself when it connects."""

    name: str


class Ticket(msgspec.Struct):
    """What somebody wants."""

    subject: str
    owner: str = ""
    is_open: bool = True


tickets: dict[str, Ticket] = {}  # {channel: ticket}
banned: set[str] = set()
methods = RpcMethods()


async def connect(session: Session[Any], client: Connecting) -> Connected:
    """Who is it? Your application would look at a cookie, or have given it a token."""
    try:
        name = msgspec.json.decode(client.data, type=Hello).name
    except msgspec.DecodeError as error:
        raise ClientError(400, f"say who you are: {error}") from error
    if not name or name in banned:
        raise NotAllowed
    channels = ["desk"] if name == "staff" else []
    return Connected(
        user=name,
        data=to_json(tickets=[c for c, t in tickets.items() if t.owner == name]),
        channels=channels,
        expires_at=time.time() + SHIFT_S,
    )


async def refresh(session: Session[Any]) -> float:
    """Its time is over: until when does it go on?"""
    if session.user in banned:
        raise NotAllowed
    return time.time() + SHIFT_S


async def subscribe(session: Session[Any], channel: str, data: object) -> Subscribed:
    """A ticket is for its owner and the staff."""
    ticket = tickets.get(channel)
    if ticket is None or session.user not in (ticket.owner, "staff"):
        raise NotAllowed
    return Subscribed(data=to_json(subject=ticket.subject))


async def authorize_publish(session: Session[Any], topic: str, payload: object) -> None:
    """Nobody writes below a ticket that is closed."""
    ticket = tickets.get(topic)
    if ticket is None or not ticket.is_open or topic not in session.topics:
        raise NotAllowed


@methods.method
async def open_ticket(session: Session[Any], ticket: Ticket) -> dict[str, str]:
    """``client.rpc("open_ticket", {subject})``"""
    channel = f"tickets:{len(tickets) + 1}"
    tickets[channel] = Ticket(ticket.subject, owner=session.user or "")
    await broker.publish("desk", to_json(opened=channel, subject=ticket.subject))
    return {"channel": channel}


@methods.method
async def close_ticket(session: Session[Any], channel: str) -> None:
    """``client.rpc("close_ticket", channel)``"""
    ticket = tickets.get(channel)
    if ticket is None or session.user != "staff":
        raise NotAllowed
    ticket.is_open = False
    await broker.publish(f"#{ticket.owner}", to_json(closed=channel))
    await broker.unsubscribe_client(channel, user=ticket.owner)


async def message(session: Session[Any], data: object) -> None:
    """``client.send("typing")``: nobody waits for an answer."""
    await broker.publish("desk", to_json(user=session.user, says=str(data)))


async def on_unsubscribe(session: Session[Any], topic: str) -> None:
    """For whatever reason it has stopped to look at it."""
    if topic in tickets:
        await broker.publish("desk", to_json(user=session.user, left=topic))


async def on_disconnect(session: Session[Any], ending: Ending) -> None:
    """It has gone, and why."""
    await broker.publish("desk", to_json(user=session.user, gone=ending.reason))


def to_json(**fields: Any) -> str:
    return msgspec.json.encode(fields).decode()


broker = Broker(
    rules=[TopicRules(namespace="tickets", history_size=100, presence=True)],
    hooks=Hooks(
        authorize_publish=authorize_publish,
        on_unsubscribe=on_unsubscribe,
        on_disconnect=on_disconnect,
    ),
)
protocol = ClientProtocol(
    clock=time.time,
    anonymous=False,
    personal="",  # each user has a channel of its own: #ada
    connect=connect,
    subscribe=subscribe,
    refresh=refresh,
    rpc=methods,
    message=message,
)
app = Starlette(
    routes=client_routes(broker, protocol), lifespan=broker_lifespan(broker)
)
