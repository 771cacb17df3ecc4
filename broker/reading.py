"""What comes in from one client: its queue, and the one that receives."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .core import Core
from .ending import Ending, EndKind
from .errors import SessionEnded, TransportClosed
from .message import Payload, size_of
from .state.inbox import Inbox
from .state.rates import Meter
from .transport import Frames, Transport
from .wakeup import Wakeup

__all__ = ("Reader",)

logger = logging.getLogger("broker")


class Reader:
    """Takes what one client says, until it has left; nobody else does.

    While the handler waits for the client, its own task receives, if it may: so a
    client that says nothing costs no other. A handler that is still busy at the second
    tick is relieved of that by a task of the session, so that a client's leaving is
    noticed within about two seconds even then; the task ends when it has a frame for a
    handler that waits again. At the session's end the task begins as well: somebody
    has to listen until the client leaves.

    Args:
        owner_id: of the session.
        meters: of its client's messages: the session's own and the user's.
        frames: what the client may send.
        may_ask: see below.
        on_end: ends the session; must not wait and not raise.
        on_gone: called once nobody is there to write to; likewise.

    Attributes:
        received: frames received so far.
        may_ask: the handler is never cancelled while it receives, or the transport
            loses nothing then; until this is set the task goes on.
    """

    __slots__ = (
        "_arrived",
        "_core",
        "_deadline",
        "_ending",
        "_frames",
        "_handling",
        "_has_left",
        "_inbox",
        "_is_asking",
        "_is_reading",
        "_is_waiting",
        "_meters",
        "_on_end",
        "_on_gone",
        "_owner_id",
        "_room",
        "_scope",
        "_tasks",
        "_transport",
        "_was_busy",
        "may_ask",
        "received",
    )

    def __init__(
        self,
        core: Core,
        transport: Transport,
        *,
        owner_id: str,
        meters: tuple[Meter, ...],
        frames: Frames[Payload],
        may_ask: bool,
        on_end: Callable[[Ending], None],
        on_gone: Callable[[], None],
    ) -> None:
        limits = core.limits
        self.received = 0
        self.may_ask = may_ask
        self._core = core
        self._transport = transport
        self._owner_id = owner_id
        self._meters = meters
        self._frames = frames
        self._on_end = on_end
        self._on_gone = on_gone
        self._ending: Ending | None = None
        self._deadline = math.inf
        self._scope: anyio.CancelScope | None = None  # of who receives
        self._tasks: TaskGroup | None = None
        self._has_left = False  # the transport is not asked again
        # At most one of these two, because at most one receives:
        self._is_asking = False  # the handler
        self._is_reading = False  # the task
        self._is_waiting = False  # the handler, for the task
        self._was_busy = False  # the handler, at the last tick
        self._inbox = Inbox(
            max_messages=limits.max_inbox_messages,
            max_bytes=limits.max_inbox_bytes,
            budget=core.budget,
        )
        self._room: anyio.Event | None = None  # set when something was taken
        self._arrived: Wakeup | None = None  # of the handler
        self._handling = anyio.ResourceGuard("receiving from")  # … "this resource"

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be handled."""
        return self._inbox.size_bytes

    @property
    def is_full(self) -> bool:
        """The client is being held back."""
        return self._inbox.is_full

    @property
    def has_more(self) -> bool:
        """The client has sent what was not handled yet, or may have."""
        return bool(self._inbox) or not (self._is_asking or self._is_reading)

    def begin(self, tasks: TaskGroup) -> None:
        """Receive from now on; ``tasks`` are the session's, which outlive this."""
        self._tasks = tasks
        if self._ending is not None or not self.may_ask:
            self.listen()

    def listen(self) -> None:
        """Have a task receive, if nobody does and there is something to come."""
        if not (
            self._is_asking or self._is_reading or self._has_left or not self._tasks
        ):
            self._is_reading = True
            self._tasks.start_soon(self._run, name="broker: session reader")

    def end(self, ending: Ending, deadline: float) -> None:
        """Discard what comes from now on, until the client has left. Never blocks.

        Args:
            deadline: when to wait for that no longer (s, monotonic).
        """
        self._ending = ending
        self._deadline = deadline
        if ending.kind is not EndKind.CLIENT_LEFT:
            self._inbox.clear()
        if self._arrived is not None:
            self._arrived.notify()
        self._tell_room()
        if self._is_asking:
            assert self._scope is not None
            self._scope.cancel()  # and then it has the task listen
        elif self._is_reading:
            if self._scope is not None:
                self._scope.deadline = deadline
        else:
            self.listen()

    def cut(self) -> None:
        """Wait for the client no longer; only once it has ended."""
        self._deadline = -math.inf
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        """Free everything; nothing receives any more."""
        self._tasks = None
        self._inbox.clear()
        if self._arrived is not None:
            self._arrived.close()

    def tick(self) -> None:
        """See to it that it is noticed when the client leaves; about once a second."""
        is_busy = not self._is_asking
        if is_busy and self._was_busy:
            self.listen()
        self._was_busy = is_busy

    async def receive(self) -> Payload:
        """Return the next frame; ``Session.receive`` says what is promised."""
        with self._handling:
            if self._inbox:
                await anyio.lowlevel.checkpoint()
            while not self._inbox:
                if self._ending is not None:
                    await anyio.lowlevel.checkpoint()
                    raise SessionEnded(self._ending)
                if self._is_reading:
                    await self._wait()
                else:
                    await self._ask()
            frame = self._inbox.take()
            self._tell_room()
            return frame

    async def _run(self) -> None:
        """Receive until the client has left, or its deadline after the end.

        What comes after the end is discarded, not left: hypercorn 0.18 never lets go
        of a connection whose messages nobody takes (20 of 20 leaked, none with this).
        """
        try:
            with anyio.CancelScope(deadline=self._deadline) as self._scope:
                while not (self.may_ask and self._is_waiting and self._inbox):
                    frame = await self._transport.receive()
                    if self._ending is None:
                        self._accept(frame)
                        await self._wait_room()
        except Exception as error:  # noqa: BLE001 # logged, and ends the session
            self._lose(error)
        finally:
            self._scope = None
            self._is_reading = False

    async def _wait(self) -> None:
        """Wait for the task that receives; may also return without a frame."""
        if self._arrived is None:
            self._arrived = Wakeup()
        self._is_waiting = True
        try:
            await self._arrived.wait()
        finally:
            self._is_waiting = False

    async def _ask(self) -> None:
        """Take the client's next frame, unless the session ends before."""
        if self._arrived is not None:
            self._arrived.close()  # of the task; it takes 3 KB
            self._arrived = None
        frame: Payload | None = None
        self._is_asking = True
        try:
            with anyio.CancelScope() as self._scope:
                frame = await self._transport.receive()
        except Exception as error:  # noqa: BLE001 # logged, and ends the session
            self._lose(error)
        finally:
            self._scope = None
            self._is_asking = False
            if self._ending is not None:
                self.listen()
        if frame is not None and self._ending is None:
            self._accept(frame)

    async def _wait_room(self) -> None:
        while self._inbox.is_full and self._ending is None:
            self._room = self._room or anyio.Event()
            await self._room.wait()

    def _lose(self, error: Exception) -> None:
        """End the session of a client that has left, or cannot be received from."""
        self._has_left = True
        if isinstance(error, TransportClosed):
            self._on_end(Ending.of(EndKind.CLIENT_LEFT))
        else:
            logger.error("session %a: receive failed", self._owner_id, exc_info=error)
            self._on_end(Ending.of(EndKind.INTERNAL_ERROR))
        self._on_gone()

    def _accept(self, frame: Payload) -> None:
        """Queue a frame for the handler, or end a client that sends what it may not."""
        counters = self._core.counters
        size = size_of(frame)
        self.received += 1
        counters.received += 1
        counters.received_bytes += size
        if not isinstance(frame, self._frames.kinds):
            came = "text" if isinstance(frame, str) else "binary"
            reason = f"this takes {self._frames.name} frames, and a {came} one came"
            self._on_end(Ending.of(EndKind.WRONG_FRAME_TYPE, reason))
            return
        limit = self._core.limits.max_message_bytes
        if size > limit:
            reason = f"message of {size} bytes; the limit is {limit}"
            self._on_end(Ending.of(EndKind.MESSAGE_TOO_LARGE, reason))
            return
        if self._meters:
            now = anyio.current_time()
            for meter in self._meters:
                exceeded = meter.take(size, now)
                if exceeded is not None:
                    self._on_end(Ending.of(exceeded))
                    return
        self._inbox.put(frame, size)
        if self._arrived is not None and self._arrived.armed:
            self._arrived.notify()
        self._core.relieve()

    def _tell_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None
