"""A chat for the Centrifuge SDKs, in FastAPI: history, resume, presence, tokens.

Run:  hypercorn examples.fastapi_centrifuge:app
Type: ``new Centrifuge("ws://127.0.0.1:8000/connection/websocket", {token})`` in a page
    or in node, with a token from http://127.0.0.1:8000/token/ada
"""

from __future__ import annotations

import json
import os
import time

import jwt
from fastapi import FastAPI, WebSocket

from adapters.asgi.client import client_endpoint
from adapters.asgi.lifespan import broker_lifespan
from adapters.tokens import JwtVerifier
from broker import Access, Broker, Session, TopicRules
from broker.client_protocol import ClientError, ClientProtocol

SECRET = os.environ.get("CHAT_SECRET", "for trying it out on one's own machine")

broker = Broker(
    rules=[
        TopicRules(
            pattern="chat.>",
            history_size=100,
            presence=True,
            join_leave=True,
            subscribe=Access.USERS,
            publish=Access.USERS,
        ),
        TopicRules(publish=Access.NOBODY),
    ]
)
app = FastAPI(lifespan=broker_lifespan(broker))


async def rpc(session: Session[str], method: str, data: str) -> str:
    """What a page calls with ``client.rpc("rename", {name})``."""
    if method != "rename":
        raise ClientError(404, f"there is no method {method}")
    name = json.loads(data)["name"]
    await broker.publish(
        "chat.lobby", json.dumps({"renamed": session.user, "to": name})
    )
    return json.dumps({"name": name})


chat = client_endpoint(
    broker,
    ClientProtocol(
        clock=time.time,
        tokens=JwtVerifier(hmac_secret=SECRET),
        anonymous=False,
        rpc=rpc,
    ),
)


@app.websocket("/connection/websocket")
async def connection(websocket: WebSocket) -> None:
    await chat(websocket)


@app.get("/token/{user}")
async def token(user: str) -> dict[str, str]:
    """Your application knows who its visitor is; this one believes everybody."""
    claims = {"sub": user, "exp": int(time.time()) + 3_600}
    return {"token": jwt.encode(claims, SECRET, algorithm="HS256")}
