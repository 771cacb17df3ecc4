"""One node's link to Redis: what a broker asks of it, and how it stays up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
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
from broker.errors import LimitExceeded, RecoveryImpossible
from broker.message import Position
from broker.state.presence import Member
from broker.topics import is_pattern

from .codec import Names
from .following import Following, decode_entries, history_ms, keep_ms
from .presence import Leases
from .scripts import CLEAR, PUBLISH, READ
from .wire import LINK_ERRORS
from .wires import Push, Wire

__all__ = ("RedisLink", "Settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``RedisBackplane`` was told, checked; see there."""

    open_wire: Callable[[], AbstractAsyncContextManager[Wire]]
    connect_s: float
    names: Names
    heartbeat_s: float
    compare_s: float
    lease_s: float
    is_strict: bool


class RedisLink:
    """A node's link; ``Link`` says what each method promises.

    A call whose answer is lost raises ``BackplaneError`` although it may have been
    done: publish again with the same ``message_id``, and it is done once.
    """

    def __init__(self, settings: Settings, node: Node, limits: Limits) -> None:
        self._uplink: Uplink[Wire] = Uplink("Redis", node, LINK_ERRORS)
        self._settings = settings
        self._names = settings.names
        self._node = node
        self._limits = limits
        self._strict = int(settings.is_strict)
        self._id = uuid4().hex[:16].encode()
        life = self._id.decode()
        self._epochs = (f"{life}{number:x}" for number in count(1))
        self._poisoned = Poisoned()
        self._following = Following(
            settings.names,
            node,
            self._epochs,
            is_strict=settings.is_strict,
            poisoned=self._poisoned,
        )
        self._leases = Leases(settings.names, settings.lease_s, self._poisoned)

    @property
    def poisoned(self) -> int:
        """Values under our names that no broker has written; they were skipped."""
        return self._poisoned.count

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Keep the link up while the block runs; see ``Uplink.kept``."""
        settings = self._settings
        return self._uplink.kept(settings.open_wire, self._use, settings.connect_s)

    async def _use(self, wire: Wire) -> None:
        """Go live on new connections, and stay so until one fails: it always raises."""
        async with anyio.create_task_group() as tasks:
            for number, source in enumerate(wire.sources()):
                name = f"broker: redis pushes {number}"
                tasks.start_soon(self._read, number, source, name=name)
            tasks.start_soon(self._beat, wire, name="broker: redis heartbeat")
            await self._following.resume(wire)
            await self._leases.renew(wire)
            self._uplink.go_live(wire)
            compare_s = self._settings.compare_s
            tasks.start_soon(
                self._following.keep_up, wire, name="broker: redis catch-up"
            )
            tasks.start_soon(
                self._following.compare, wire, compare_s, name="broker: redis compare"
            )
            tasks.start_soon(self._renew, wire, name="broker: redis leases")

    async def _read(
        self, number: int, source: AsyncGenerator[list[Push], None]
    ) -> None:
        async with aclosing(source) as pushes:
            news = self._names.news.encode()
            async for batch in pushes:
                # No await: those who are woken find all of it.
                for push in batch:
                    if push[1] == news:
                        self._hear(push[2])
                    else:
                        self._following.push(number, push)

    def _hear(self, data: bytes) -> None:
        sender, _, news = data.partition(b" ")
        if sender != self._id:  # all nodes hear it, and this one has told it
            self._node.hear(news)

    async def _beat(self, wire: Wire) -> None:
        while True:
            await anyio.sleep(self._settings.heartbeat_s)
            await wire.pass_fence()
            await wire.ping()

    async def _renew(self, wire: Wire) -> None:
        while True:
            await anyio.sleep(self._settings.lease_s / 3)
            await self._leases.renew(wire)

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
        topic, rules = publication.topic, publication.rules
        keys = [*self._names.stream(topic), self._names.channel(topic)]
        if publication.message_id is not None:
            keys.append(self._names.message_id(topic, publication.message_id))
        arguments = [
            self._strict,
            next(self._epochs),
            keep_ms(rules),
            encode_body(publication),
            publication.size_bytes,
            rules.history_size,
            rules.history_bytes,
            history_ms(rules),
            max(1, round(self._limits.idempotency_s * 1000)),
        ]
        answer = await self._uplink.live().call(PUBLISH, keys, arguments)
        epoch, offset, duplicate = answer
        return Published(Position(epoch.decode(), offset), bool(duplicate))

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        after = "" if since is None else since.offset
        count = -1 if limit is None else limit
        arguments = [self._strict, after, count, int(reverse)]
        answer = await self._uplink.live().call(
            READ, self._names.stream(topic), arguments
        )
        if answer is None:
            if since is not None:
                raise RecoveryImpossible(f"nothing is remembered of {topic}")
            return Page([], None)
        epoch, offset, kept_from, entries = answer
        top = Position(epoch.decode(), offset)
        found = decode_entries(topic, top.epoch, entries, self._poisoned)
        if since is not None and not (
            since.epoch == top.epoch
            and kept_from <= since.offset + 1 <= top.offset + 1
            and len(found) == len(entries)
        ):
            raise RecoveryImpossible(f"not all messages after {since} are kept")
        return Page([each.message for each in found], top)

    async def clear_history(self, topic: str) -> None:
        keys = self._names.stream(topic)
        await self._uplink.live().call(CLEAR, keys, [self._strict])

    async def tell(self, news: bytes) -> None:
        await self._uplink.live().publish(self._names.news, self._id + b" " + news)

    async def enter(self, topic: str, member: Member) -> bool:
        return await self._leases.enter(self._uplink.live(), topic, member)

    async def leave(self, topic: str, client_id: str) -> bool:
        """Down or not, the member's lease is not renewed any more."""
        self._leases.disown(topic, client_id)
        return await self._leases.leave(self._uplink.live(), topic, client_id)

    async def members(self, topic: str) -> list[Member]:
        return await self._leases.members(self._uplink.live(), topic)
