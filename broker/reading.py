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

    This one has a task of its own for that, so that it is noticed at once when a client
    leaves.

    Args:
        owner_id: of the session.
        meters: of its client's messages: the session's own and the user's.
        frames: what the client may send.
        on_end: ends the session; must not wait and not raise.
        on_gone: called once nobody is there to write to; likewise.

    Attributes:
        received: frames received so far.
        may_ask: of no use here; see ``AskingReader``.
    """

    __slots__ = (
        "_arrived",
        "_core",
        "_deadline",
        "_ending",
        "_frames",
        "_handling",
        "_inbox",
        "_meters",
        "_on_end",
        "_on_gone",
        "_owner_id",
        "_room",
        "_scope",
        "_transport",
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
        on_end: Callable[[Ending], None],
        on_gone: Callable[[], None],
    ) -> None:
        limits = core.limits
        self.received = 0
        self.may_ask = False
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
        self._inbox = Inbox(
            max_messages=limits.max_inbox_messages,
            max_bytes=limits.max_inbox_bytes,
            budget=core.budget,
        )
        self._room: anyio.Event | None = None  # set when something was taken
        self._arrived: Wakeup | None = None  # of the handler
        self._handling = anyio.ResourceGuard("receiving from this session")

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
        return bool(self._inbox)

    def begin(self, tasks: TaskGroup) -> None:
        """Receive from now on; ``tasks`` are the session's, which outlive this."""
        tasks.start_soon(self.run, name="broker: session reader")

    def end(self, ending: Ending, deadline: float) -> None:
        """Discard what comes from now on, until the client has left. Never blocks.

        Args:
            deadline: when to wait for that no longer (s, monotonic).
        """
        self._ending = ending
        self._deadline = deadline
        if ending.kind is not EndKind.CLIENT_LEFT:
            self._inbox.clear()
        if self._scope is not None:
            self._scope.deadline = deadline
        if self._arrived is not None:
            self._arrived.notify()
        self._tell_room()

    def cut(self) -> None:
        """Wait for the client no longer; only once it has ended."""
        self._deadline = -math.inf
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        """Free everything; nothing receives any more."""
        self._inbox.clear()
        if self._arrived is not None:
            self._arrived.close()

    def tick(self) -> None:
        """See to it that it is noticed when the client leaves; about once a second."""

    async def receive(self) -> Payload:
        """Return the next frame; ``Session.receive`` says what is promised."""
        with self._handling:
            if self._inbox:
                await anyio.lowlevel.checkpoint()
            while not self._inbox:
                if self._ending is not None:
                    await anyio.lowlevel.checkpoint()
                    raise SessionEnded(self._ending)
                await self._wait()
            frame = self._inbox.take()
            self._tell_room()
            return frame

    async def run(self) -> None:
        """Receive until the client has left, or its deadline after the end.

        What comes after the end is discarded, not left: hypercorn 0.18 never lets go
        of a connection whose messages nobody takes (20 of 20 leaked, none with this).
        """
        with anyio.CancelScope(deadline=self._deadline) as self._scope:
            try:
                while not self._is_relieved:
                    frame = await self._transport.receive()
                    if self._ending is None:
                        self._accept(frame)
                        await self._wait_room()
            except Exception as error:  # noqa: BLE001 # logged, and ends the session
                self._lose(error)
        self._scope = None

    @property
    def _is_relieved(self) -> bool:
        """Somebody else receives from now on."""
        return False

    async def _wait(self) -> None:
        """Wait for a frame or for the end; may also return without."""
        if self._arrived is None:
            self._arrived = Wakeup()
        await self._arrived.wait()

    async def _wait_room(self) -> None:
        while self._inbox.is_full and self._ending is None:
            self._room = self._room or anyio.Event()
            await self._room.wait()

    def _lose(self, error: Exception) -> None:
        """End the session of a client that has left, or cannot be received from."""
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
