"""A connection to NATS as the node's event loop sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager

import anyio
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from adapters.backplane.poison import Poison, Poisoned
from broker.backplane import Published
from broker.config import TopicRules
from broker.errors import BackplaneError, MessageTooLarge
from broker.message import Position
from broker.state.presence import Member

from .bridge import Bridge
from .codec import Names, Push, decode_push
from .log import Followed, Kept, Log
from .presence import Leases
from .streams import Storage, open_streams
from .wire import Address, Wire

__all__ = ("Asked", "Session", "open_session")

# Topic, its rules, what was seen of it, and up to which sequence.
Asked = tuple[str, TopicRules, Position | None, int]

MAX_POSTED = 65_536  # pushes on their way to the node's event loop (guess)
CLOSE_S = 2.0  # for a connection to be given back (guess)
ALL = ">"  # stands for the subscription that brings all topics: no topic is named so
# What a message needs beside its payload: names of headers, epoch, numbers. Measured
# on the longest ones: below 500.
OVERHEAD_BYTES = 1_024


class Session:
    """Calls from the node's event loop to one connection, beside nats-py.

    All raise ``BackplaneError`` when it fails.
    """

    def __init__(
        self,
        bridge: Bridge,
        wire: Wire,
        log: Log,
        names: Names,
        poisoned: Poisoned,
    ) -> None:
        self._bridge = bridge
        self._wire = wire
        self._log = log
        self._names = names
        self._poisoned = poisoned
        self._listening: dict[str, Subscription] = {}

    async def beat(self) -> None:
        """See that the server answers, and that the log is there."""
        found = await self._bridge.call(self._wire.info, self._names.log)
        if found is None:
            problem = "the stream is gone"
            await self._bridge.call(_fail, self._wire, problem)
            raise BackplaneError(problem)

    async def listen(self, topic: str, take: Callable[[Push], None]) -> None:
        """Have what is pushed of a topic taken, on this event loop."""
        await self._bridge.call(self._listen, topic, self._names.push(topic), take)

    async def listen_to_all(self, take: Callable[[Push], None]) -> int:
        """The same for all topics. Returns after which sequence all is pushed."""
        await self._bridge.call(self._listen, ALL, self._names.pushes, take)
        # When this is answered the server knows of it.
        found = await self._bridge.call(self._wire.info, self._names.log)
        return 0 if found is None else found["state"]["last_seq"]

    async def ignore(self, topic: str) -> None:
        """Undo ``listen``."""
        await self._bridge.call(self._ignore, topic)

    async def ignore_all(self) -> None:
        """Undo ``listen_to_all``."""
        await self._bridge.call(self._ignore, ALL)

    async def hear(self, take: Callable[[bytes], None]) -> None:
        """Have news taken, on this event loop."""
        await self._bridge.call(self._hear, take)

    async def settle(self, name: str = ALL) -> None:
        """Wait until what has been pushed of a topic, or of all, has been taken."""
        await self._bridge.call(self._settle, name)

    async def follow(self, asked: list[Asked]) -> list[Followed]:
        """Return what came after positions; see ``Log.follow``."""
        return await self._bridge.call(self._follow, asked)

    async def look(self, asked: list[tuple[str, TopicRules]]) -> list[Position | None]:
        """See ``Log.look``."""
        return await self._bridge.call(self._log.look, asked)

    async def publish(
        self, topic: str, body: bytes, rules: TopicRules, message_id: str | None
    ) -> Published:
        """See ``Link.publish``.

        Raises:
            MessageTooLarge: the server takes none as large; nothing was published.
        """
        limit = self._wire.max_payload - OVERHEAD_BYTES
        if len(body) > limit:
            raise MessageTooLarge(len(body), limit)
        return await self._bridge.call(
            self._log.publish, topic, body, rules, message_id
        )

    async def history(self, topic: str) -> Kept | None:
        """See ``Log.history``."""
        return await self._bridge.call(self._log.history, topic)

    async def clear(self, topic: str) -> None:
        """See ``Log.clear``."""
        await self._bridge.call(self._log.clear, topic)

    async def tell(self, data: bytes) -> None:
        """Send news to all nodes."""
        await self._bridge.call(
            self._wire.tell, self._names.news, data, self._names.log
        )

    async def enter(self, leases: Leases, topic: str, member: Member) -> bool:
        """See ``Leases.enter``."""
        return await self._bridge.call(leases.enter, self._wire, topic, member)

    async def leave(self, leases: Leases, topic: str, client_id: str) -> bool:
        """See ``Leases.leave``."""
        return await self._bridge.call(leases.leave, self._wire, topic, client_id)

    async def members(self, leases: Leases, topic: str) -> list[Member]:
        """See ``Leases.members``."""
        return await self._bridge.call(leases.members, self._wire, topic)

    async def renew(self, leases: Leases) -> None:
        """See ``Leases.renew``."""
        await self._bridge.call(leases.renew, self._wire)

    async def _listen(
        self, name: str, subject: str, take: Callable[[Push], None]
    ) -> None:
        if name in self._listening:
            return

        async def on_message(message: Msg) -> None:
            topic = self._names.topic_of(message.subject)
            try:
                push = decode_push(topic, message.headers, message.data)
            except Poison as problem:
                self._poisoned.add(repr(message.subject[:80]), problem)
                return
            self._log.note(push)
            self._post(take, push)

        self._listening[name] = await self._wire.subscribe(subject, on_message)

    async def _ignore(self, name: str) -> None:
        subscription = self._listening.pop(name, None)
        if subscription is not None:
            await self._wire.unsubscribe(subscription)

    async def _hear(self, take: Callable[[bytes], None]) -> None:
        async def on_message(message: Msg) -> None:
            self._post(take, message.data)

        subscription = await self._wire.subscribe(self._names.news, on_message)
        await self._wire.settle(subscription, self._names.log)  # the server knows of it

    def _post(self, take: Callable[..., None], what: object) -> None:
        if self._bridge.post(take, what) > MAX_POSTED:
            # What is lost now is found in the log by the next connection.
            self._wire.fail("this node does not keep up with what is published")

    async def _settle(self, name: str) -> None:
        subscription = self._listening.get(name)
        if subscription is not None:
            await self._wire.settle(subscription, self._names.log)

    async def _follow(self, asked: list[Asked]) -> list[Followed]:
        answers: dict[int, Followed] = {}

        async def follow(at: int, *what: object) -> None:
            answers[at] = await self._log.follow(*what)  # type: ignore[arg-type] # Asked

        try:
            async with anyio.create_task_group() as tasks:
                for at, each in enumerate(asked):
                    tasks.start_soon(follow, at, *each)
        except* BackplaneError as group:
            raise BackplaneError(_first(group)) from group
        return [answers[at] for at in range(len(asked))]


async def _fail(wire: Wire, problem: str) -> None:
    wire.fail(problem)


def _first(group: BaseExceptionGroup[BackplaneError]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


@asynccontextmanager
async def open_session(
    bridge: Bridge,
    address: Address,
    storage: Storage,
    names: Names,
    epochs: Iterator[str],
    poisoned: Poisoned,
) -> AsyncGenerator[tuple[Session, Callable[[], Coroutine[None, None, None]]], None]:
    """Be connected while the block runs.

    Yields:
        The session, and what waits until it fails, and then raises BackplaneError.
    """
    failed = anyio.Event()
    problems: list[str] = []

    def on_failed(problem: str) -> None:
        problems.append(problem)
        failed.set()

    async def wait_failed() -> None:
        await failed.wait()
        raise BackplaneError(problems[0])

    def fail(problem: str) -> None:
        bridge.post(on_failed, problem)

    wire = Wire(address, fail)
    try:
        await bridge.call(wire.open)
        await bridge.call(open_streams, wire, names, storage)
        log = Log(wire, names, epochs, poisoned, idempotency_s=storage.idempotency_s)
        yield Session(bridge, wire, log, names, poisoned), wait_failed
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await bridge.call(wire.close)
