"""One node's link to NATS: what a broker asks of it, and how it stays up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from uuid import uuid4

import anyio
import anyio.lowlevel

from adapters.backplane.body import encode_body
from adapters.backplane.poison import Poisoned
from adapters.backplane.uplink import Uplink
from broker.backplane import Node, Page, Publication, Published
from broker.config import Limits, TopicRules
from broker.errors import BackplaneError, LimitExceeded, RecoveryImpossible
from broker.message import Position
from broker.state.presence import Member
from broker.topics import is_pattern

from .bridge import open_bridge
from .codec import Names
from .following import Following
from .presence import Leases
from .session import Session, open_session
from .streams import Storage
from .wire import Address

__all__ = ("NatsLink", "Settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``NatsBackplane`` was told, checked; see there."""

    address: Address
    names: Names
    connect_s: float
    heartbeat_s: float
    compare_s: float
    lease_s: float
    storage: str
    replicas: int
    max_bytes: int


class _Wire:
    """A session, and what waits until it fails."""

    def __init__(
        self, session: Session, wait_failed: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        self.session = session
        self.wait_failed = wait_failed


class NatsLink:
    """A node's link; ``Link`` says what each method promises.

    A call whose answer is lost raises ``BackplaneError`` although it may have been
    done: publish again with the same ``message_id``, and it is done once.
    """

    def __init__(self, settings: Settings, node: Node, limits: Limits) -> None:
        self._uplink: Uplink[_Wire] = Uplink("NATS", node, (BackplaneError,))
        self._settings = settings
        self._node = node
        self._limits = limits
        self._storage = Storage(
            kind=settings.storage,
            replicas=settings.replicas,
            max_bytes=settings.max_bytes,
            idempotency_s=limits.idempotency_s,
        )
        self._id = uuid4().hex[:16].encode()
        life = self._id.decode()
        self._epochs = (f"{life}{number:x}" for number in count(1))
        self._poisoned = Poisoned()
        self._following = Following(node, self._poisoned)
        self._leases = Leases(settings.names, settings.lease_s, self._poisoned)

    @property
    def poisoned(self) -> int:
        """Values under our names that no broker has written; they were skipped."""
        return self._poisoned.count

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None, None]:
        """Keep the link up while the block runs; see ``Uplink.kept``."""
        settings = self._settings
        async with open_bridge() as bridge:

            @asynccontextmanager
            async def connect() -> AsyncGenerator[_Wire, None]:
                async with open_session(
                    bridge,
                    settings.address,
                    self._storage,
                    settings.names,
                    self._epochs,
                    self._poisoned,
                ) as (session, wait_failed):
                    yield _Wire(session, wait_failed)

            async with self._uplink.kept(connect, self._use, settings.connect_s):
                yield

    async def _use(self, wire: _Wire) -> None:
        """Go live on a new connection, and stay so until it fails: it always raises."""
        session = wire.session
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.wait_failed, name="broker: nats connection")
            tasks.start_soon(self._beat, session, name="broker: nats heartbeat")
            await session.hear(self._hear)
            await self._following.resume(session)
            await session.renew(self._leases)
            self._uplink.go_live(wire)
            tasks.start_soon(
                self._following.keep_up, session, name="broker: nats catch-up"
            )
            tasks.start_soon(
                self._following.compare,
                session,
                self._settings.compare_s,
                name="broker: nats compare",
            )
            tasks.start_soon(self._renew, session, name="broker: nats leases")

    def _hear(self, data: bytes) -> None:
        sender, mark, news = data.partition(b" ")
        if mark and sender != self._id:  # all nodes hear it, also this one
            self._node.hear(news)

    async def _beat(self, session: Session) -> None:
        while True:
            await anyio.sleep(self._settings.heartbeat_s)
            await session.beat()

    async def _renew(self, session: Session) -> None:
        while True:
            await anyio.sleep(self._settings.lease_s / 3)
            await session.renew(self._leases)

    def _live(self) -> Session:
        return self._uplink.live().session

    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        """Cancellation: the name is not subscribed."""
        session = self._live()
        limit = self._limits.max_topics
        if not is_pattern(name) and len(self._following) >= limit:
            raise LimitExceeded("max_topics", limit)
        return await self._following.subscribe(session, name, rules)

    async def unsubscribe(self, name: str) -> None:
        """Never fails: what is down is not subscribed again when it comes up."""
        await anyio.lowlevel.checkpoint()
        await self._following.unsubscribe(name)

    async def publish(self, publication: Publication) -> Published:
        """Raises ``MessageTooLarge`` for what the server would not take."""
        return await self._live().publish(
            publication.topic,
            encode_body(publication),
            publication.rules,
            publication.message_id,
        )

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        kept = await self._live().history(topic)
        if kept is None:
            if since is not None:
                raise RecoveryImpossible(f"nothing is remembered of {topic}")
            return Page([], None)
        top, found = kept.top, kept.deliveries
        if since is not None:
            kept_from = found[0].position.offset if found else top.offset + 1
            if since.epoch != top.epoch or not (
                kept_from <= since.offset + 1 <= top.offset + 1
            ):
                raise RecoveryImpossible(f"not all messages after {since} are kept")
            found = found[since.offset + 1 - kept_from :]
        if reverse:
            found = found[::-1]
        return Page([each.message for each in found[:limit]], top)

    async def clear_history(self, topic: str) -> None:
        await self._live().clear(topic)

    async def tell(self, news: bytes) -> None:
        await self._live().tell(self._id + b" " + news)

    async def enter(self, topic: str, member: Member) -> bool:
        return await self._live().enter(self._leases, topic, member)

    async def leave(self, topic: str, client_id: str) -> bool:
        """Down or not, the member's lease is not renewed any more."""
        self._leases.disown(topic, client_id)
        return await self._live().leave(self._leases, topic, client_id)

    async def members(self, topic: str) -> list[Member]:
        return await self._live().members(self._leases, topic)
