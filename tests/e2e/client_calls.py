"""What tests tell the server of ``client_app`` to do, and tokens that it accepts."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import jwt

from tests.e2e.client_app import SECRET
from tests.serving import Server

__all__ = ("drop", "publish", "signed", "subscribe", "unsubscribe")


def publish(server: Server, topic: str, data: str = '{"n":NUMBER}', n: int = 1) -> None:
    """Publish from the server, n times; NUMBER in data counts from 0."""
    query = urlencode({"topic": topic, "data": data, "messages": n})
    server.post(f"/publish?{query}").raise_for_status()


def drop(server: Server, code: int, reason: str) -> None:
    """Send all clients away."""
    query = urlencode({"code": code, "reason": reason})
    server.post(f"/drop?{query}").raise_for_status()


def subscribe(server: Server, topic: str, user: str) -> None:
    """Subscribe a user's one client to a topic."""
    query = urlencode({"topic": topic, "user": user})
    assert server.post(f"/subscribe?{query}").json() == 1


def unsubscribe(server: Server, topic: str, user: str) -> None:
    """End the subscription of a user's one client."""
    query = urlencode({"topic": topic, "user": user, "end": ""})
    assert server.post(f"/subscribe?{query}").json() == 1


def signed(for_s: float = 60, secret: str = SECRET, **claims: Any) -> str:
    """Return a token for that long from now; it has expired if that is negative."""
    return jwt.encode({"exp": time.time() + for_s, **claims}, secret, "HS256")
