"""The public face of the Redis backplane: its settings, and how a node connects."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from broker.backplane import Node
from broker.config import Limits
from broker.errors import UsageError

from .codec import Names
from .following import LINGER_MS
from .link import RedisLink, Settings
from .wire import Address

__all__ = ("RedisBackplane",)

MAX_COMPARE_S = LINGER_MS // 3000  # two of them may fail, and topics stay


class RedisBackplane:
    """Redis or Valkey (one primary) between nodes: order, history, presence.

    What it promises is what ``Backplane`` promises. In particular, while Redis cannot
    be reached every call raises ``BackplaneError`` within ``timeout_s``, and when it is
    back each topic goes on where it was, or its subscribers are told what is lost.
    Patterns have no position: what was published while Redis was out of reach is not
    made up to them, and they are told so.

    A restarted server may have lost its last writes, so by default each restart begins
    a new life of every topic: subscribers are told, and nobody resumes across it.

    Sentinel and cluster are not supported.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://…`` for TLS, or
            ``unix:///path?db=0``; special characters percent-encoded.
        prefix: of all keys and channels; nodes with the same one are one broker.
        ssl_context: for ``rediss://``; None for the system's authorities, host name
            checked.
        connect_s: how long ``connect`` tries before it gives up (s, > 0; 10: guess).
            Once connected, a node tries for ever.
        timeout_s: longest wait for an answer (s, > 0; 2: guess). With ``heartbeat_s``
            it says how soon a server that hangs is noticed.
        heartbeat_s: time between two proofs of life (s, > 0; 1: guess).
        compare_s: time between two looks at the ends of all topics, which find pushes
            that were lost (s, > 0 and <= 20, because they also keep the topics from
            expiring; 10: guess).
        lease_s: how long the members of a node that was killed stay in presence (s,
            > 0; 60: as Centrifugo's presence_ttl).
        trust_persistence: the server loses no acknowledged write when it restarts
            (``appendfsync always``): topics live on across a restart. If it does lose
            some, it takes until ``compare_s`` to be noticed.

    Raises:
        UsageError: a URL of another kind, or a number out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "broker",
        ssl_context: ssl.SSLContext | None = None,
        connect_s: float = 10.0,
        timeout_s: float = 2.0,
        heartbeat_s: float = 1.0,
        compare_s: float = 10.0,
        lease_s: float = 60.0,
        trust_persistence: bool = False,
    ) -> None:
        times = (connect_s, timeout_s, heartbeat_s, compare_s, lease_s)
        if not all(value > 0 for value in times):
            raise UsageError("the times of a RedisBackplane must be > 0")
        if compare_s > MAX_COMPARE_S:
            raise UsageError(f"compare_s must be <= {MAX_COMPARE_S}, not {compare_s}")
        self._settings = Settings(
            address=Address(url=url, ssl_context=ssl_context, timeout_s=timeout_s),
            connect_s=connect_s,
            names=Names(prefix, _database(url)),
            heartbeat_s=heartbeat_s,
            compare_s=compare_s,
            lease_s=lease_s,
            is_strict=not trust_persistence,
        )

    @asynccontextmanager
    async def connect(
        self, node: Node, limits: Limits
    ) -> AsyncGenerator[RedisLink, None]:
        """Be connected; see ``Backplane``.

        Raises:
            BackplaneError: Redis was not reached within ``connect_s``.
        """
        link = RedisLink(self._settings, node, limits)
        async with link.kept():
            yield link


def _database(url: str) -> int:
    """Return the number of the logical database, as coredis reads it.

    Raises:
        UsageError: coredis would not understand the URL. It is not shown, nor what
            urllib says of it: a password may be in either.
    """
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query).get("db")
        is_unix = parts.scheme == "unix"
        number = asked[0] if asked else "" if is_unix else parts.path.strip("/")
        _ = parts.port  # raises if it is none
        if is_unix or (parts.scheme in ("redis", "rediss") and parts.hostname):
            return int(number or 0)
    except ValueError:
        pass
    raise UsageError(
        "the URL of Redis must be redis://host:port/number, rediss://… or "
        "unix:///path; percent-encode what is special in a password"
    )
