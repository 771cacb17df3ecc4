"""The public face of the Redis backplane: its settings, and how a node connects."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from broker.backplane import Node
from broker.config import Limits
from broker.errors import UsageError

from .cluster import Cluster, open_cluster
from .codec import Names
from .following import LINGER_MS
from .link import RedisLink, Settings
from .sentinel import open_primary
from .urls import parse_url
from .wire import Address, open_wire
from .wires import Wire

__all__ = ("RedisBackplane",)

MAX_COMPARE_S = LINGER_MS // 3000  # two of them may fail, and topics stay


class RedisBackplane:
    """Redis or Valkey between nodes: order, history, presence.

    What it promises is what ``Backplane`` promises. In particular, while Redis cannot
    be reached every call raises ``BackplaneError`` within ``timeout_s``, and when it is
    back each topic goes on where it was, or its subscribers are told what is lost.
    Patterns have no position: what was published while Redis was out of reach is not
    made up to them, and they are told so.

    A restarted server may have lost its last writes, so by default each restart begins
    a new life of every topic: subscribers are told, and nobody resumes across it.

    What is remembered of a ``message_id`` goes after ``Limits.idempotency_s``, and not
    before: ``Limits.max_message_ids`` does not count here.

    Sentinels are asked for the primary whenever a node connects, and so do nodes move
    to the new one. A replica that is promoted begins a new life of every topic.

    A cluster (Redis 7 or newer) has each topic on one primary. A slot that moves takes
    its topics along, and begins a new life of each. While a primary is out of reach,
    the link is down, whatever the others could do.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://…`` for TLS, or
            ``unix:///path?db=0``; ``valkey://``, ``valkeys://`` are the same.
            ``redis-sentinel://user:password@host:26379,host:26379/primary/0``, where
            the last are the primary's name and the database;
            ``?sentinel_user=…&sentinel_password=…`` for the sentinels themselves.
            ``redis-cluster://user:password@host:6379,host:6379`` with some members.
            ``rediss-…`` for TLS on all connections. Special characters
            percent-encoded.
        prefix: of all keys and channels; nodes with the same one are one broker. No
            ``{`` in a cluster, where that has a meaning.
        ssl_context: for ``rediss://``; None for the system's authorities, host name
            checked.
        connect_s: how long ``connect`` tries before it gives up (s, > 0; 10: guess).
            Once connected, a node tries for ever.
        timeout_s: longest wait for an answer (s, > 0; 2: guess). With ``heartbeat_s``
            it says how soon a server that hangs is noticed.
        heartbeat_s: time between two proofs of life (s, > 0; 1: guess), and between two
            questions to sentinels or a cluster.
        compare_s: time between two looks at the ends of all topics, which find pushes
            that were lost (s, > 0 and <= 20, because they also keep the topics from
            expiring; 10: guess).
        lease_s: how long the members of a node that was killed stay in presence (s,
            > 0; 60: as Centrifugo's presence_ttl).
        trust_persistence: the server loses no acknowledged write when it restarts
            (``appendfsync always``): topics live on across a restart. If it does lose
            some, it takes until ``compare_s`` to be noticed. Not with sentinels or a
            cluster, whose replicas lack what their primary has just acknowledged.

    Raises:
        UsageError: a URL of another kind, or what does not go with it; a number out of
            range.
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
        target = parse_url(url)
        if trust_persistence and target.kind != "server":
            raise UsageError(f"trust_persistence is not for a {target.kind}")
        if target.kind == "cluster" and "{" in prefix:
            raise UsageError("the prefix of keys in a cluster must have no {")
        names = Names(prefix, target.database)
        address = Address(url=target.url, ssl_context=ssl_context, timeout_s=timeout_s)
        open_: Callable[[], AbstractAsyncContextManager[Wire]]
        if target.kind == "sentinel":
            open_ = partial(open_primary, target, address, names.news, heartbeat_s)
        elif target.kind == "cluster":
            open_ = partial(
                open_cluster,
                Cluster(target, address),
                fence=names.fence,
                news=names.news,
                watch_s=heartbeat_s,
            )
        else:
            open_ = partial(open_wire, address, names.news)
        self._settings = Settings(
            open_wire=open_,
            connect_s=connect_s,
            names=names,
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
