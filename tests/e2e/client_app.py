"""What the SDKs talk to: the protocol's endpoint, and handles for the tests."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from adapters.asgi.client import client_routes
from adapters.asgi.lifespan import broker_lifespan
from adapters.protobuf import PROTOBUF
from adapters.tokens import JwtVerifier
from broker import Access, Broker, Ending, EndKind, Limits, Resume, Session, TopicRules
from broker.client_protocol import ClientError, ClientProtocol
from broker.protocol.rules import ProtocolTimes

SECRET = "of the tests, and at least thirty-two bytes long"

broker = Broker(
    rules=[
        TopicRules(pattern="chat.>", history_size=100, presence=True, join_leave=True),
        TopicRules(pattern="short.>", history_size=2),
        TopicRules(pattern="news.>", publish=Access.NOBODY),
        TopicRules(pattern="members.>", subscribe=Access.USERS),
        TopicRules(pattern="changes.>", history_size=100, delta=True),
        TopicRules(pattern="value.>", history_size=1, resume=Resume.LATEST),
    ],
    limits=Limits(max_outbox_messages=200, stall_s=3, grace_s=3),
)


async def rpc(session: Session[str], method: str, data: str) -> str:
    """Say who asks, with what; or fail, as asked."""
    if method == "fail":
        raise ClientError(1_234, "as you wished")
    if method == "bug":
        raise ValueError("a bug")
    return json.dumps(
        {"user": session.user, "method": method, "data": json.loads(data)}
    )


said: list[Any] = []


async def message(session: Session[str], data: str) -> None:
    """Keep what is sent."""
    said.append(json.loads(data))


protocol = ClientProtocol(
    clock=time.time,
    tokens=JwtVerifier(hmac_secret=SECRET),
    rpc=rpc,
    message=message,
    times=ProtocolTimes(
        ping_s=float(os.environ.get("PING_S", "25")),
        pong_s=float(os.environ.get("PONG_S", "8")),
        stale_s=2,
        expired_s=1,
    ),
)


async def publish(request: Request) -> JSONResponse:
    """Publish what is posted, from the server."""
    query = request.query_params
    for number in range(int(query.get("messages", "1"))):
        text = query["data"].replace("NUMBER", str(number))
        await broker.publish(query["topic"], text)
    return JSONResponse({})


async def drop(request: Request) -> JSONResponse:
    """Send all clients away, with a code."""
    query = request.query_params
    for session in broker.sessions():
        ending = Ending(EndKind.DISCONNECTED, int(query["code"]), query["reason"])
        session.end(ending, flush=True)
    return JSONResponse({})


async def subscribe(request: Request) -> JSONResponse:
    """Subscribe a user's clients, or end that."""
    query = request.query_params
    topic, user = query["topic"], query["user"]
    if "end" in query:
        return JSONResponse(await broker.unsubscribe_client(topic, user=user))
    return JSONResponse(await broker.subscribe_client(topic, user=user))


async def vitals(request: Request) -> JSONResponse:
    """Report what the tests look at."""
    numbers = broker.statistics()
    ended = {kind.value: n for kind, n in numbers.totals.ended.items() if n}
    return JSONResponse(
        {
            "sessions": numbers.sessions,
            "topics": numbers.topics,
            "sent": numbers.totals.sent,
            "ended": ended,
            "said": said,
        }
    )


app = Starlette(
    routes=[
        Route("/", vitals),
        Route("/publish", publish, methods=["POST"]),
        Route("/drop", drop, methods=["POST"]),
        Route("/subscribe", subscribe, methods=["POST"]),
        *client_routes(broker, protocol, protobuf=PROTOBUF),
    ],
    lifespan=broker_lifespan(broker),
)
