"""hypercorn's connection on trio, which can be cut, and whose fault stays its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from .application import run_application
from .connections import LINGER_S, Connections, reset_when_closed, spread_probes
from .http import Ending, HardenedWrapper
from .mailbox import Mailbox

__all__ = ("TrioServer", "TrioTaskGroup")

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class TrioTaskGroup(TaskGroup):
    """Nobody waits for room in the queue of an application that will not make any."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Run the application, and return what queues a message for it."""
        mailbox = Mailbox(config.max_app_queue_size, trio.Event)
        self.spawn(run_application, app, config, scope, mailbox, send)
        return mailbox.put


class TrioServer(TCPServer):
    """One connection, whose fault, stall or end is nobody else's."""

    def __init__(self, connections: Connections, *args: Any) -> None:
        super().__init__(*args)
        self._socket = getattr(self.stream, "transport_stream", self.stream).socket
        self._connections = connections
        self._lingering: trio.CancelScope | None = None  # of the task that cuts it

    async def run(self) -> None:
        """Serve until the connection ends; then it is closed."""
        spread_probes(self._socket)
        with self._connections.holding(self.cut):
            try:
                await super().run()
            finally:
                if self._lingering is not None:
                    self._lingering.cancel()

    def cut(self) -> None:
        """Reset the connection now; the reader notices, and tells the application."""
        reset_when_closed(self._socket)
        self._socket.close()

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes; waits while the client does not take what was sent before.

        Cancellation: the connection is cut, for a frame may be half sent or lost.
        """
        try:
            try:  # without giving way, as sending does anyway
                self.send_lock.acquire_nowait()
            except trio.WouldBlock:
                await self.send_lock.acquire()
            try:
                await self.stream.send_all(data)
            finally:
                self.send_lock.release()
        except GONE:
            self.cut()
        except trio.Cancelled:
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
                await self._hang_up()
        else:
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        # As hypercorn, but for its read_timeout, which nobody sets and which takes 1.3
        # KiB for as long as the connection is open.
        data = None
        while data != b"":
            try:
                data = await self.stream.receive_some(MAX_RECV)
            except GONE:
                break
            await self.protocol.handle(RawData(bytes(data)))
        await self.protocol.handle(Closed())
        await self.idle_task.stop()  # it would hold the closed socket

    async def _close(self) -> None:
        # Farewells of TLS wait for a stalled peer.
        with trio.move_on_after(LINGER_S), suppress(*GONE):
            await super()._close()

    async def _initiate_server_close(self) -> None:
        self._set_deadline()
        with suppress(*GONE):
            await super()._initiate_server_close()

    def _end_in_time(self) -> None:
        assert isinstance(self.protocol, HardenedWrapper)
        self.protocol.is_deaf = True
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._lingering is None:
            self._lingering = trio.CancelScope()
            # Not in a nursery of its own, which would be there all the time (1.3 KiB).
            trio.lowlevel.spawn_system_task(self._cut_later, self._lingering)

    async def _cut_later(self, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(LINGER_S)
            self.cut()

    async def _hang_up(self) -> None:
        with suppress(*GONE):
            stream: trio.abc.Stream = self.stream  # hypercorn says: always TLS
            if isinstance(stream, trio.SocketStream):
                await stream.send_eof()  # the reader waits for the client's end
            else:
                await stream.aclose()  # TLS cannot be closed by halves
