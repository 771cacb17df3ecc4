"""The public face of the NATS backplane: its settings, and how a node connects."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from broker.backplane import Node
from broker.config import Limits
from broker.errors import UsageError

from .codec import LINGER_S, Names
from .link import NatsLink, Settings
from .wire import Address

__all__ = ("NatsBackplane",)

MAX_COMPARE_S = LINGER_S // 6  # topics are renewed when half of it is over
_PREFIX = re.compile(r"[-_a-zA-Z0-9]{1,32}")


class NatsBackplane:
    """NATS with JetStream (2.11 or newer) between nodes: order, history, presence.

    What it promises is what ``Backplane`` promises. In particular, while NATS cannot
    be reached every call raises ``BackplaneError`` within ``timeout_s``, and when it is
    back each topic goes on where it was, or its subscribers are told what is lost.
    Patterns have no position: what was published while NATS was out of reach is not
    made up to them, and they are told so.

    Args:
        url: ``nats://user:password@host:4222`` or ``nats://token@host``; ``tls://…``
            for TLS; special characters percent-encoded. More servers of a cluster
            after commas: ``nats://a:4222,b:4222``; each try takes one of them.
        prefix: of all streams and subjects; nodes with the same one are one broker. At
            most 32 letters, digits, ``-`` and ``_``.
        user: instead of the URL's, with ``password``.
        password: with ``user``.
        token: instead of the URL's.
        credentials: name of a file with a user's JWT and key, as ``nsc`` writes it.
        ssl_context: for TLS; None for the system's authorities, host name checked.
        connect_s: how long ``connect`` tries before it gives up (s, > 0; 10: guess).
            Once connected, a node tries for ever.
        timeout_s: longest wait for an answer (s, > 0; 2: guess). With ``heartbeat_s``
            it says how soon a server that hangs is noticed.
        heartbeat_s: time between two proofs of life (s, > 0; 1: guess).
        compare_s: time between two looks at the ends of all topics, which find pushes
            that were lost, and keep the topics from expiring (s, > 0 and <= 100; 30:
            guess).
        lease_s: how long the members of a node that was killed stay in presence (s,
            >= 1, in whole seconds; 60: as Centrifugo's presence_ttl).
        storage: ``file``, or ``memory``: then a restart of the server begins a new
            life of every topic. For streams that are not there yet, as the next two.
        replicas: on how many servers of a cluster (1, 3 or 5).
        max_bytes: of each of the two streams; beyond it the oldest messages of any
            topic go (bytes, > 0; 1 GiB: guess).

    Raises:
        UsageError: a URL of another kind, or a value out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "broker",
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        credentials: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connect_s: float = 10.0,
        timeout_s: float = 2.0,
        heartbeat_s: float = 1.0,
        compare_s: float = 30.0,
        lease_s: float = 60.0,
        storage: Literal["file", "memory"] = "file",
        replicas: int = 1,
        max_bytes: int = 1_073_741_824,
    ) -> None:
        times = (connect_s, timeout_s, heartbeat_s, compare_s)
        if not all(value > 0 for value in times) or lease_s < 1:
            raise UsageError("a NatsBackplane's times must be > 0, and lease_s >= 1")
        if compare_s > MAX_COMPARE_S:
            raise UsageError(f"compare_s must be <= {MAX_COMPARE_S}, not {compare_s}")
        if not _PREFIX.fullmatch(prefix):
            raise UsageError("prefix must be 1 to 32 letters, digits, - and _")
        if storage not in ("file", "memory"):
            raise UsageError('storage must be "file" or "memory"')
        if replicas not in (1, 3, 5) or max_bytes <= 0:
            raise UsageError("replicas must be 1, 3 or 5, and max_bytes > 0")
        parts = _split(url)
        login = _login(parts)
        given = {"user": user, "password": password, "token": token}
        login |= {name: value for name, value in given.items() if value is not None}
        if parts.scheme == "tls" and ssl_context is None:
            ssl_context = ssl.create_default_context()
        self._settings = Settings(
            address=Address(
                servers=_servers(parts),
                login=login,
                credentials=credentials,
                ssl_context=ssl_context,
                timeout_s=timeout_s,
            ),
            names=Names(prefix),
            connect_s=connect_s,
            heartbeat_s=heartbeat_s,
            compare_s=compare_s,
            lease_s=lease_s,
            storage=storage,
            replicas=replicas,
            max_bytes=max_bytes,
        )

    @asynccontextmanager
    async def connect(
        self, node: Node, limits: Limits
    ) -> AsyncGenerator[NatsLink, None]:
        """Be connected; see ``Backplane``.

        Raises:
            BackplaneError: NATS was not reached within ``connect_s``.
        """
        link = NatsLink(self._settings, node, limits)
        async with link.kept():
            yield link


def _split(url: str) -> SplitResult:
    """Return the parts of a URL that names servers.

    Raises:
        UsageError: it does not. It is not shown, nor what urllib says of it: a
            password may be in either.
    """
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("nats", "tls") and parts.path in ("", "/")
        if is_right and not parts.query and not parts.fragment:
            for server in _servers(parts):
                split = urlsplit(server)
                if split.username is not None or not split.hostname:
                    break
                _ = split.port  # raises if it is none
            else:
                return parts
    except ValueError:
        pass
    raise UsageError(
        "the URL of NATS must be nats://host:port or tls://…, more servers after "
        "commas; percent-encode what is special in a password"
    )


def _servers(parts: SplitResult) -> tuple[str, ...]:
    hosts = parts.netloc.rpartition("@")[2]
    return tuple(f"{parts.scheme}://{host}" for host in hosts.split(","))


def _login(parts: SplitResult) -> dict[str, str]:
    secret, mark, _ = parts.netloc.rpartition("@")
    if not mark:
        return {}
    user, colon, password = secret.partition(":")
    if not colon:
        return {"token": unquote(user)}
    return {"user": unquote(user), "password": unquote(password)}
