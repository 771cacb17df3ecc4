"""The public face of the PostgreSQL backplane: its settings, and how to connect."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

from broker.backplane import Node
from broker.config import Limits, TopicRules
from broker.errors import UsageError

from .address import Address
from .link import PostgresLink, Settings
from .statements import LINGER_S

__all__ = ("PostgresBackplane",)

MAX_COMPARE_S = LINGER_S / 6  # a topic is kept for half of that at least


class PostgresBackplane:
    """PostgreSQL (one primary) between nodes: order, history, presence, an outbox.

    What it promises is what ``Backplane`` promises. In particular, while PostgreSQL
    cannot be reached every call raises ``BackplaneError`` within ``timeout_s``, and
    when it is back each topic goes on where it was, or its subscribers are told what is
    lost: nothing, if the node was away for less than ``linger_s``.

    What was acknowledged survives a crash of the server. A replica that was promoted, a
    restored dump and a point in time that was gone back to may lack the last writes, so
    they begin a new life of every topic: subscribers are told, and nobody resumes
    across it.

    The schema is made by ``broker migrate URL``, never by a node. A node has three
    connections, whatever the number of its clients.

    Args:
        url: ``postgresql://user:password@host:5432/database?sslmode=verify-full``, as
            libpq reads it, with all of its parameters but ``connect_timeout`` and
            ``client_encoding``.
        schema: what all tables are in; nodes with the same one are one broker.
            Lower-case letters, digits and ``_``, at most 63.
        connect_s: how long ``connect`` tries before it gives up (s, > 0; 10: guess).
            Once connected, a node tries for ever.
        timeout_s: longest wait for an answer (s, > 0; 5: guess, a disk may be slow).
            With ``heartbeat_s`` it says how soon a server that hangs is noticed.
        heartbeat_s: time between two proofs of life (s, > 0; 1: guess). Also how late
            a message is whose notification was lost.
        compare_s: time between two looks at the ends of all topics (s, > 0 and <= 20,
            because they also keep the topics from expiring; 10: guess).
        lease_s: how long the members of a node that was killed stay in presence (s,
            > 0; 60: as Centrifugo's presence_ttl).
        linger_s: how long what no history keeps stays for nodes that are away for a
            moment (s, > 0; 60: guess). The same for all nodes.
        outbox_rules: of the topics that applications publish to by SQL, as in
            ``Broker(rules=...)``; the same for all nodes.

    Raises:
        UsageError: a URL of another kind, or a number out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "broker",
        connect_s: float = 10.0,
        timeout_s: float = 5.0,
        heartbeat_s: float = 1.0,
        compare_s: float = 10.0,
        lease_s: float = 60.0,
        linger_s: float = 60.0,
        outbox_rules: Iterable[TopicRules] = (),
    ) -> None:
        times = (connect_s, timeout_s, heartbeat_s, compare_s, lease_s, linger_s)
        if not all(value > 0 for value in times):
            raise UsageError("the times of a PostgresBackplane must be > 0")
        if compare_s > MAX_COMPARE_S:
            raise UsageError(f"compare_s must be <= {MAX_COMPARE_S:g}, not {compare_s}")
        self._settings = Settings(
            address=Address(url=url, schema=schema, timeout_s=timeout_s),
            connect_s=connect_s,
            heartbeat_s=heartbeat_s,
            compare_s=compare_s,
            lease_s=lease_s,
            linger_s=linger_s,
            outbox_rules=tuple(outbox_rules),
        )

    @asynccontextmanager
    async def connect(
        self, node: Node, limits: Limits
    ) -> AsyncGenerator[PostgresLink, None]:
        """Be connected; see ``Backplane``.

        Raises:
            BackplaneError: PostgreSQL was not reached within ``connect_s``, or its
                schema is not the one that is needed.
        """
        link = PostgresLink(self._settings, node, limits)
        async with link.kept():
            yield link
