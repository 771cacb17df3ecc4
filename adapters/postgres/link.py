"""One node's link to PostgreSQL: what a broker asks of it, and how it stays up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from uuid import uuid4

import anyio
import anyio.lowlevel

from adapters.backplane.poison import Poisoned
from adapters.backplane.uplink import Uplink
from broker.backplane import Node, Page, Publication, Published
from broker.config import Limits, RuleBook, TopicRules
from broker.errors import BackplaneError, LimitExceeded, RecoveryImpossible
from broker.message import Position
from broker.state.presence import Member
from broker.topics import is_pattern

from .address import Address
from .following import Following, decode_entries
from .outbox import Dispatcher
from .presence import Leases
from .session import Connection
from .statements import Kept, Statements, item_of
from .wire import Timing, Wire, open_wire

__all__ = ("PostgresLink", "Settings")

logger = logging.getLogger("broker.backplane")

SWEEP_AT_ONCE = 2_000  # rows of each kind in one transaction (guess)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``PostgresBackplane`` was told, checked; see there."""

    address: Address
    connect_s: float
    heartbeat_s: float
    compare_s: float
    lease_s: float
    linger_s: float
    outbox_rules: tuple[TopicRules, ...]


class PostgresLink:
    """A node's link; ``Link`` says what each method promises.

    A call whose answer is lost raises ``BackplaneError`` although it may have been
    done: publish again with the same ``message_id``, and it is done once.
    """

    def __init__(self, settings: Settings, node: Node, limits: Limits) -> None:
        self._uplink: Uplink[Wire] = Uplink("PostgreSQL", node, (BackplaneError,))
        self._settings = settings
        self._limits = limits
        schema = settings.address.schema
        self._statements = Statements(schema)
        self._sender = uuid4().hex[:16].encode()  # before all news, of this length
        self._poisoned = Poisoned()
        self._following = Following(
            self._statements, node, self._sender, self._poisoned
        )
        self._leases = Leases(
            schema, self._sender.decode(), settings.lease_s, self._poisoned
        )
        self._dispatcher = Dispatcher(
            schema,
            self._statements,
            RuleBook(settings.outbox_rules),
            limits,
            self._poisoned,
        )

    @property
    def poisoned(self) -> int:
        """What no broker has written, or cannot be published; it was skipped."""
        return self._poisoned.count

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Keep the link up while the block runs; see ``Uplink.kept``."""
        settings = self._settings
        timing = Timing(
            timeout_s=settings.address.timeout_s,
            heartbeat_s=settings.heartbeat_s,
            remember_s=self._limits.idempotency_s,
        )
        return self._uplink.kept(
            lambda: open_wire(settings.address, self._statements, timing),
            self._use,
            settings.connect_s,
        )

    async def _use(self, wire: Wire) -> None:
        """Go live on new connections, and stay so until one fails: it always raises."""
        async with anyio.create_task_group() as tasks:
            wire.serve(tasks)
            await self._following.begin(wire)
            tasks.start_soon(
                self._following.read,
                wire,
                self._settings.heartbeat_s,
                name="broker: postgres log",
            )
            await self._following.resume(wire)
            await self._leases.renew(wire)
            self._uplink.go_live(wire)
            compare_s = self._settings.compare_s
            tasks.start_soon(
                self._following.keep_up, wire, name="broker: postgres catch-up"
            )
            tasks.start_soon(
                self._following.compare,
                wire,
                compare_s,
                name="broker: postgres compare",
            )
            tasks.start_soon(self._renew, wire, name="broker: postgres leases")
            tasks.start_soon(self._sweep, wire, name="broker: postgres sweep")
            tasks.start_soon(self._dispatch, wire, name="broker: postgres outbox")

    async def _renew(self, wire: Wire) -> None:
        while True:
            await anyio.sleep(self._settings.lease_s / 3)
            await self._leases.renew(wire)

    async def _sweep(self, wire: Wire) -> None:
        every_s = self._settings.linger_s / 6
        while True:
            await anyio.sleep(every_s)
            await _repeat(
                wire,
                lambda connection: self._statements.sweep(
                    connection, self._settings.linger_s, every_s / 2, SWEEP_AT_ONCE
                ),
            )

    async def _dispatch(self, wire: Wire) -> None:
        while True:
            await self._following.outbox.wait()
            self._following.outbox = anyio.Event()
            await _repeat(wire, self._dispatcher.drain)

    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        """Cancellation: the name is not subscribed."""
        wire = self._uplink.live()
        limit = self._limits.max_topics
        if not is_pattern(name) and len(self._following) >= limit:
            raise LimitExceeded("max_topics", limit)
        return await self._following.subscribe(wire, name, rules)

    async def unsubscribe(self, name: str) -> None:
        """Never fails: what is down is not subscribed again when it comes up."""
        await anyio.lowlevel.checkpoint()
        self._following.unsubscribe(name)

    async def publish(self, publication: Publication) -> Published:
        wire = self._uplink.live()
        return await wire.publishing.ask(item_of(publication), publication.size_bytes)

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        kept = await self._uplink.live().ask(
            lambda c: self._statements.history(c, topic, since, limit, reverse)
        )
        if kept is None:
            if since is not None:
                raise RecoveryImpossible(f"nothing is remembered of {topic}")
            return Page([], None)
        found = decode_entries(topic, kept, self._poisoned)
        if since is not None and (
            len(found) != len(kept.entries) or not _has_all_since(kept, since, limit)
        ):
            raise RecoveryImpossible(f"not all messages after {since} are kept")
        return Page([each.message for each in found], kept.top)

    async def clear_history(self, topic: str) -> None:
        await self._uplink.live().ask(lambda c: self._statements.clear(c, topic))

    async def tell(self, news: bytes) -> None:
        told = self._sender + news
        await self._uplink.live().ask(lambda c: self._statements.tell(c, told))

    async def enter(self, topic: str, member: Member) -> bool:
        return await self._leases.enter(self._uplink.live(), topic, member)

    async def leave(self, topic: str, client_id: str) -> bool:
        """Down or not, the member is not brought back; if it is down, it is there until
        the link is up again.
        """
        self._leases.disown(topic, client_id)
        return await self._leases.leave(self._uplink.live(), topic, client_id)

    async def members(self, topic: str) -> list[Member]:
        return await self._leases.members(self._uplink.live(), topic)


async def _repeat(wire: Wire, call: Callable[[Connection], bool]) -> None:
    """Call until there is no more to do, or it fails: the next time will do."""
    try:
        while await wire.ask(call):
            pass
    except BackplaneError as error:
        logger.warning("what PostgreSQL was to do in passing has failed: %s", error)


def _has_all_since(kept: Kept, since: Position, limit: int | None) -> bool:
    """Return whether what was read is all that there was after a position."""
    top = kept.top
    if since.epoch != top.epoch:
        return False
    if not kept.kept_from <= since.offset + 1 <= top.offset + 1:
        return False
    count = top.offset - since.offset
    return len(kept.entries) == (count if limit is None else min(count, limit))
