"""One life of a node's connections to a server: one for commands, one for pushes."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.streams.memory import (
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
)
from coredis.connection import BaseConnection
from coredis.exceptions import NoScriptError, ReadOnlyError, RedisError
from coredis.pool import ConnectionPool

from adapters.backplane.uplink import reason_of
from broker.errors import BackplaneError

from .scripts import Script
from .wires import Push

__all__ = ("LINK_ERRORS", "Address", "Request", "ServerWire", "connected", "open_wire")

MAX_BATCH = 256  # pushes that are handed on at once (guess)

# What coredis lets out when a connection fails: its own errors, and anyio's.
LINK_ERRORS = (
    BackplaneError,
    RedisError,
    OSError,  # TimeoutError is one
    anyio.ClosedResourceError,
    anyio.BrokenResourceError,
    anyio.EndOfStream,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is, and how long it may take.

    Attributes:
        url: ``redis://``, ``rediss://`` or ``unix://``; empty where the server is yet
            to be found. Has the password in it: never shown.
        ssl_context: for ``rediss://``; None for certificates and host names checked
            against the system's authorities.
        timeout_s: longest wait for a connection or an answer (s, > 0).
    """

    url: str
    ssl_context: ssl.SSLContext | None
    timeout_s: float


class Request:
    """A script that the server has been asked to run."""

    def __init__(
        self, wire: ServerWire, script: Script, arguments: tuple[Any, ...]
    ) -> None:
        self._wire = wire
        self._script = script
        self._arguments = arguments
        self._answer = wire.commands.create_request(b"EVALSHA", script.sha, *arguments)

    async def result(self) -> Any:
        """See ``Answer.result``."""
        with self._wire.translating():
            try:
                return await self._answer
            except NoScriptError:  # it is new to this server
                return await self._wire.commands.create_request(
                    b"EVAL", self._script.text, *self._arguments
                )


class ServerWire:
    """Both connections, and what is in order on them; ``Wire`` says the rest.

    Args:
        commands: for scripts; the answers come in the order of the requests.
        pushes: the one that is subscribed.
        fence: a channel that the node is subscribed to.
        timeout_s: longest wait for an answer (s, > 0).
    """

    def __init__(
        self,
        commands: BaseConnection,
        pushes: BaseConnection,
        *,
        fence: str,
        timeout_s: float,
    ) -> None:
        self.commands = commands
        self._pushes = pushes
        self._fence = fence
        self._timeout_s = timeout_s
        self._fences: deque[anyio.Event] = deque()

    def place(self, key: str) -> int:
        return 0

    def start(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Request:
        with self.translating():
            return Request(self, script, (len(keys), *keys, *arguments))

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Any:
        return await self.start(script, keys, arguments).result()

    def tell(self, command: bytes, names: Sequence[str]) -> None:
        with self.translating():
            self._pushes.send_command(command, *names)

    def heed(self, callback: Callable[[str], None]) -> None:
        """It is never called: who is subscribed to a server remains so."""

    async def pass_fence(self) -> None:
        await self.wait_fence(self.send_fence())

    def send_fence(self) -> anyio.Event:
        """Begin to wait for what has been pushed; go on with ``wait_fence``.

        Redis confirms a subscription in its place among the pushes, also one that it
        knows already.
        """
        passed = anyio.Event()
        with self.translating():
            self._pushes.send_command(b"SUBSCRIBE", self._fence)
            self._fences.append(passed)  # no await since it was sent: one order
        return passed

    async def wait_fence(self, passed: anyio.Event) -> None:
        """Wait for the confirmation.

        Raises:
            BackplaneError: it did not come in time.
        """
        with self.translating(), anyio.fail_after(self._timeout_s):
            await passed.wait()

    async def ping(self) -> None:
        await self.ask(b"PING")

    async def publish(self, channel: str, data: bytes) -> None:
        await self.ask(b"PUBLISH", channel, data)

    async def ask(self, *words: str | bytes) -> Any:
        """Return the answer to one command.

        Raises:
            BackplaneError: there is none, or it is an error.
        """
        with self.translating():
            return await self.commands.create_request(*words)  # type: ignore[arg-type]

    async def refusals(self) -> AsyncGenerator[Exception, None]:
        """Yield what the server has against commands that were told.

        Close it with ``aclosing``. One reader only.

        Raises:
            RedisError: the connection has failed; it never ends otherwise.
        """
        async with aclosing(self._pushes.streamed_messages) as answers:
            async for answer in answers:
                if isinstance(answer, Exception):
                    yield answer

    async def follow_refusals(self) -> None:
        """Fail when the server refuses what it was told. Never returns.

        Raises:
            BackplaneError: it does. RedisError: the connection has failed.
        """
        async with aclosing(self.refusals()) as refusals:
            async for refusal in refusals:
                raise BackplaneError(f"Redis refuses: {refusal}")

    def sources(self) -> list[AsyncGenerator[list[Push], None]]:
        return [self.messages()]

    async def messages(
        self, left: Callable[[bytes], None] | None = None
    ) -> AsyncGenerator[list[Push], None]:
        """Yield what is pushed, all at once of what has come.

        Args:
            left: called with each sharded channel that is no longer subscribed.

        Raises:
            RedisError: the connection has failed; it never ends otherwise.
        """
        fence = self._fence.encode()
        batch: list[Push] = []
        async with aclosing(self._pushes.push_messages) as pushes:
            async for push in pushes:
                match push:
                    case [b"message" | b"smessage", bytes(channel), bytes(data)]:
                        batch.append((False, channel, data))
                    case [b"pmessage", _, bytes(channel), bytes(data)]:
                        batch.append((True, channel, data))
                    case [b"subscribe", channel, _] if channel == fence:
                        yield batch
                        batch = []
                        if self._fences:  # else it confirms what nobody has asked
                            self._fences.popleft().set()
                    case [b"sunsubscribe", bytes(channel), _] if left is not None:
                        yield batch
                        batch = []
                        left(channel)
                    case _:
                        pass  # other confirmations
                # Others run while the next one is asked for, even if it is there. One
                # by one, each message would wake all who subscribe to it. Reusable is
                # who has nothing more to read; refusals are always read.
                if batch and (self._pushes.reusable or len(batch) >= MAX_BATCH):
                    yield batch
                    batch = []

    def fail(self) -> None:
        """Give the connections up: whoever reads what is pushed gets an error."""
        self._pushes.invalidate()

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Let every failure out as a BackplaneError."""
        try:
            yield
        except BackplaneError:
            raise
        except LINK_ERRORS as error:
            if isinstance(error, TimeoutError | ReadOnlyError):
                # Half open, or a primary no longer: the link must be made anew.
                self.fail()
            raise BackplaneError(reason_of(error)) from error


@asynccontextmanager
async def connected(
    address: Address, count: int
) -> AsyncGenerator[list[BaseConnection], None]:
    """Connect so many times, and be connected while the block runs.

    Raises:
        BackplaneError, RedisError, OSError: it could not be done, alone or in a group.
    """
    options: dict[str, Any] = {}
    if address.url.startswith("rediss:"):
        # coredis checks no host name unless told so.
        options["ssl_context"] = address.ssl_context or ssl.create_default_context()
    pool = ConnectionPool.from_url(
        address.url,
        decode_components=True,
        max_connections=count,
        connect_timeout=address.timeout_s,
        stream_timeout=address.timeout_s,
        **options,
    )
    with anyio.fail_after(address.timeout_s):
        # Asked first, because it says in one line that nobody is there.
        if pool.location is None or not await pool.location.check():
            raise BackplaneError(f"no connection to {pool.location}")
    with _closing_streams(pool):
        async with pool, AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(pool.acquire()) for _ in range(count)
            ]


@contextmanager
def _closing_streams(pool: ConnectionPool[Any]) -> Iterator[None]:
    """Close what connections leave open that could not be made, or were cancelled then.

    Each of coredis 6.9 has three streams from the start, and closes them only if it was
    connected.
    """
    kind, made = pool.connection_class, list[BaseConnection]()

    def make(*arguments: Any, **options: Any) -> BaseConnection:
        made.append(kind(*arguments, **options))
        return made[-1]

    pool.connection_class = make  # type: ignore[assignment] # all that it is used for
    try:
        yield
    finally:
        for stream in (each for one in made for each in vars(one).values()):
            if isinstance(stream, MemoryObjectReceiveStream | MemoryObjectSendStream):
                stream.close()


@asynccontextmanager
async def open_wire(address: Address, fence: str) -> AsyncGenerator[ServerWire, None]:
    """Connect to a server; see ``connected``."""
    async with connected(address, 2) as (commands, pushes):
        timeout_s = address.timeout_s
        wire = ServerWire(commands, pushes, fence=fence, timeout_s=timeout_s)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.follow_refusals, name="broker: redis refusals")
            yield wire
            tasks.cancel_scope.cancel()
