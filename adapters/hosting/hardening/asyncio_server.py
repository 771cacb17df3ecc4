"""hypercorn's connection on asyncio and uvloop, which can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from .application import run_application
from .connections import LINGER_S, Connections, reset_when_closed, spread_probes
from .http import Ending, HardenedWrapper
from .mailbox import Mailbox

__all__ = ("AsyncioServer", "AsyncioTaskGroup")


class AsyncioBell(asyncio.Future[None]):
    """A future that may be set twice, or after its task was cancelled."""

    def set(self) -> None:
        if not self.done():
            self.set_result(None)

    def wait(self) -> Self:
        return self


class AsyncioTaskGroup(TaskGroup):
    """Nobody waits for room in the queue of an application that will not make any."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Run the application, and return what queues a message for it."""
        mailbox = Mailbox(config.max_app_queue_size, AsyncioBell)
        self.spawn(run_application, app, config, scope, mailbox, send)
        return mailbox.put


class AsyncioServer(TCPServer):
    """One connection, whose fault, stall or end is nobody else's."""

    def __init__(self, connections: Connections, *args: Any) -> None:
        super().__init__(*args)
        # Now, for at the end asyncio's TLS no longer knows it.
        self._socket = self.writer.get_extra_info("socket")
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until the connection ends; then it is closed."""
        spread_probes(self._socket)
        with self._connections.holding(self.cut):
            try:
                await super().run()
            finally:
                if self._deadline is not None:
                    self._deadline.cancel()

    def cut(self) -> None:
        """Reset the connection now; the reader notices, and tells the application."""
        reset_when_closed(self._socket)
        self.writer.transport.abort()

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes; waits while the client does not take what was sent before.

        Cancellation: the connection is cut, for a frame may be half sent or lost.
        """
        transport = self.writer.transport
        try:
            if not self.send_lock.locked():
                transport.write(data)
                if not (transport.get_write_buffer_size() or transport.is_closing()):
                    return  # nothing to wait for
                data = b""
            async with self.send_lock:  # one at a time has its bytes in the buffer
                transport.write(data)
                await self.writer.drain()
        except (OSError, RuntimeError):
            self.cut()
        except asyncio.CancelledError:
            self.cut()
            raise

    async def protocol_send(self, event: Event) -> None:
        """Send bytes, or do what the protocol says."""
        if isinstance(event, RawData):
            await self.send_bytes(event.data)
        elif isinstance(event, Ending):
            self._end_in_time()
        elif isinstance(event, Closed):
            self._end_in_time()
            async with self.send_lock:  # after those who wait to send
                self._hang_up()
        else:
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        # As hypercorn, but for its read_timeout, which nobody sets and which takes a
        # coroutine for as long as the connection is open.
        data = None
        while data != b"":
            try:
                data = await self.reader.read(MAX_RECV)
            except OSError:
                break
            await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())
        await self.idle_task.stop()  # it would hold the closed socket

    async def _close(self) -> None:
        self._set_deadline()
        self.writer.close()
        with suppress(OSError, RuntimeError):
            await self.writer.wait_closed()

    async def _initiate_server_close(self) -> None:
        self._set_deadline()
        await super()._initiate_server_close()

    def _end_in_time(self) -> None:
        assert isinstance(self.protocol, HardenedWrapper)
        self.protocol.is_deaf = True
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(LINGER_S, self.cut)

    def _hang_up(self) -> None:
        with suppress(OSError, RuntimeError):  # it is gone already
            if self.writer.can_write_eof():
                self.writer.write_eof()  # the reader waits for the client's end
            else:
                self.writer.close()  # TLS cannot be closed by halves
