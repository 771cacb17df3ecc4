"""One life of a node's connections to Redis: one for commands, one for pushes."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from coredis.connection import BaseConnection
from coredis.exceptions import NoScriptError, ReadOnlyError, RedisError
from coredis.pool import ConnectionPool

from adapters.backplane.uplink import reason_of
from broker.errors import BackplaneError

from .scripts import Script

__all__ = ("LINK_ERRORS", "Address", "Request", "Wire", "open_wire")

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
    """Where Redis is, and how long it may take.

    Attributes:
        url: ``redis://``, ``rediss://`` or ``unix://``. Has the password in it: never
            shown.
        ssl_context: for ``rediss://``; None for certificates and host names checked
            against the system's authorities.
        timeout_s: longest wait for a connection or an answer (s, > 0).
    """

    url: str
    ssl_context: ssl.SSLContext | None
    timeout_s: float


class Request:
    """A script that the server has been asked to run."""

    def __init__(self, wire: Wire, script: Script, arguments: tuple[Any, ...]) -> None:
        self._wire = wire
        self._script = script
        self._arguments = arguments
        self._answer = wire.commands.create_request(b"EVALSHA", script.sha, *arguments)

    async def result(self) -> Any:
        """Return the script's answer.

        Raises:
            BackplaneError: there is none, or it is an error. Whether the script has
                run is not known.
        """
        with self._wire.translating():
            try:
                return await self._answer
            except NoScriptError:  # it is new to this server
                return await self._wire.commands.create_request(
                    b"EVAL", self._script.text, *self._arguments
                )


class Wire:
    """Both connections, and what is in order on them.

    Args:
        commands: for scripts; the answers come in the order of the requests.
        pushes: the one that is subscribed.
        fence: a channel that every node is subscribed to.
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

    def start(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Request:
        """Ask the server to run a script, without waiting for it.

        Raises:
            BackplaneError: the connection has failed.
        """
        with self.translating():
            return Request(self, script, (len(keys), *keys, *arguments))

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Any:
        """Run a script and return its answer; raises as ``Request.result``."""
        return await self.start(script, keys, arguments).result()

    def tell(self, command: bytes, names: Sequence[str]) -> None:
        """Send one of the (un)subscribe commands; ``pass_fence`` waits for it.

        Raises:
            BackplaneError: the connection has failed.
        """
        with self.translating():
            self._pushes.send_command(command, *names)

    async def pass_fence(self) -> None:
        """Wait until all that the server has pushed before now has been handled.

        Redis confirms a subscription in its place among the pushes, also one that it
        knows already. It is the heartbeat as well: it goes all the way.

        Raises:
            BackplaneError: no confirmation came in time.
        """
        passed = anyio.Event()
        with self.translating():
            self._pushes.send_command(b"SUBSCRIBE", self._fence)
            self._fences.append(passed)  # no await since it was sent: one order
            with anyio.fail_after(self._timeout_s):
                await passed.wait()

    async def ping(self) -> None:
        """Check the connection for commands.

        Raises:
            BackplaneError: no answer came in time.
        """
        with self.translating():
            await self.commands.create_request(b"PING")

    async def publish(self, channel: str, data: bytes) -> None:
        """Push something that nobody keeps.

        Raises:
            BackplaneError: it may have been pushed or not.
        """
        with self.translating():
            await self.commands.create_request(b"PUBLISH", channel, data)

    async def messages(self) -> AsyncGenerator[tuple[bool, bytes, bytes], None]:
        """Yield what is pushed: whether a pattern brought it, its channel, its data.

        Close it with ``aclosing``. One reader only.

        Raises:
            RedisError: the connection has failed; it never ends otherwise.
        """
        fence = self._fence.encode()
        async with aclosing(self._pushes.push_messages) as pushes:
            async for push in pushes:
                match push:
                    case [b"message", bytes(channel), bytes(data)]:
                        yield False, channel, data
                    case [b"pmessage", _, bytes(channel), bytes(data)]:
                        yield True, channel, data
                    case [b"subscribe", channel, _] if channel == fence:
                        self._fences.popleft().set()
                    case _:
                        pass  # other confirmations

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
                self._pushes.invalidate()
            raise BackplaneError(reason_of(error)) from error


@asynccontextmanager
async def open_wire(address: Address, fence: str) -> AsyncGenerator[Wire, None]:
    """Connect, and be connected while the block runs.

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
        max_connections=2,
        connect_timeout=address.timeout_s,
        stream_timeout=address.timeout_s,
        **options,
    )
    with anyio.fail_after(address.timeout_s):
        # Asked first, because a connection of coredis that cannot be made leaves the
        # streams open that it has made for itself (6.9).
        if pool.location is None or not await pool.location.check():
            raise BackplaneError(f"no connection to {pool.location}")
    async with pool, pool.acquire() as commands, pool.acquire() as pushes:
        yield Wire(commands, pushes, fence=fence, timeout_s=address.timeout_s)
