"""What a session hears, what it says, and its end."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .core import Core
from .ending import Ending, EndKind
from .errors import SessionEnded
from .message import Gap, Message, Payload, Share, size_of
from .reading import Reader
from .state.deadlines import Deadlines
from .state.rates import Meter
from .subscriber import Subscriber
from .transport import Frames, Transport
from .wire import WireFormat
from .writing import Writer

__all__ = ("Actor",)


class Actor:
    """A session's reader and writer, and when they end.

    Args:
        owner_id: of the session.
        meters: of its client's messages: the session's own and the user's.
        frames: what the client may send.
        wire: how it speaks.
        on_end: called once, when it ends; must not wait and not raise.
        on_gap: called by the writer for each gap, before its frame goes out; says
            whether it does; likewise.

    Attributes:
        ending: why it ended; None while it goes on.
        writer: what goes out to the client.
        reader: what comes in from it.
    """

    __slots__ = (
        "_core",
        "_deadlines",
        "_ended",
        "_on_end",
        "ending",
        "reader",
        "writer",
    )

    def __init__(
        self,
        core: Core,
        transport: Transport,
        *,
        owner_id: str,
        meters: tuple[Meter, ...],
        frames: Frames[Payload],
        wire: WireFormat,
        on_end: Callable[[], None],
        on_gap: Callable[[Gap], bool],
    ) -> None:
        self.ending: Ending | None = None
        self._ended: anyio.Event | None = None  # set when it has ended
        self._core = core
        self._on_end = on_end
        self.writer = Writer(
            core,
            transport,
            owner_id=owner_id,
            wire=wire,
            on_gap=on_gap,
            on_end=self.end,
        )
        self.reader = Reader(
            core,
            transport,
            owner_id=owner_id,
            meters=meters,
            frames=frames,
            may_ask=getattr(transport, "loses_nothing", False),
            on_end=self.end,
            on_gone=self.writer.cut,
        )
        self._deadlines = Deadlines(core.limits, anyio.current_time())

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent and to be handled."""
        return self.writer.queued_bytes + self.reader.queued_bytes

    @property
    def lag(self) -> int:
        """Messages and gaps that wait to be sent."""
        return self.writer.lag

    @property
    def is_stalled(self) -> bool:
        """The client has not taken what is being sent for a while."""
        return self.ending is None and self._deadlines.is_stalled

    def discard(self, lane: Subscriber, topic: str) -> None:
        """Let go of what waits of a topic that is no longer delivered to the lane."""
        lane.discard(topic)
        self.writer.framer.discard(topic)

    @property
    def has_left(self) -> bool:
        """The client went of its own accord; what it said before still counts."""
        return self.ending is not None and self.ending.kind is EndKind.CLIENT_LEFT

    def check(self) -> None:
        """Raise SessionEnded if it has ended, other than by the client's leaving.

        Raises:
            UsageError: another thread asks.
        """
        self._core.check_thread()
        if self.ending is not None and not self.has_left:
            raise SessionEnded(self.ending)

    async def send(self, payload: Payload, size: int) -> None:
        """Queue a frame for this client; ``Session.send`` says what is promised."""
        self.check()
        await self.writer.replies.wait_room(size)
        self.check()
        if not self.has_left:
            self.send_nowait(payload, size)

    def send_nowait(self, payload: Payload, size: int) -> None:
        """Queue a frame for this client without waiting; never raises.

        Without room it ends as a slow consumer.
        """
        message = Message("", payload, share=Share(size))
        self._core.budget.hold(message, 1)
        self.writer.replies.deliver(message, size)
        self._core.relieve()

    def release(self, first: Payload | None = None) -> None:
        """Send again what waits, and a frame before all of it, if one is given."""
        if first is not None and self.ending is None:
            self.writer.replies.recover(
                [Message("", first, share=Share(size_of(first)))]
            )
            self._core.relieve()
        self.writer.release()

    def end(self, ending: Ending, *, flush: bool = False) -> None:
        """End it; ``Session.end`` says what is promised."""
        if self.ending is not None:
            return
        self.ending = ending
        self._on_end()
        deadline = anyio.current_time() + self._core.limits.grace_s
        # In this order: granian 2.8 holds a close back until nobody receives, so the
        # reader must be the first to give up.
        self.reader.end(ending, deadline)
        self.writer.end(ending, deadline, flush=flush)
        if self._ended is not None:
            self._ended.set()

    async def wait_ended(self) -> Ending:
        """Return why it ended, once it has. Always a checkpoint."""
        if self._ended is None:
            self._ended = anyio.Event()  # made when needed: few wait, and it takes 1 KB
            if self.ending is not None:
                self._ended.set()
        self.reader.listen()  # for who waits here does not receive
        await self._ended.wait()
        assert self.ending is not None
        return self.ending

    def close(self) -> None:
        """Free everything; its tasks have ended."""
        self.writer.close()
        self.reader.close()

    def cut(self) -> None:
        """Wait for the client no longer; only once it has ended."""
        self.reader.cut()
        self.writer.cut()

    def check_deadlines(self, now: float) -> None:
        """End it if one of its deadlines has passed (s, monotonic)."""
        if self.ending is None:
            kind = self._deadlines.check(
                now,
                received=self.reader.received,
                sent=self.writer.sent,
                is_sending=self.writer.is_sending,
                is_inbox_full=self.reader.is_full,
            )
            if kind is not None:
                self.end(Ending.of(kind))
