"""What goes out to one client: its queues, and how they are sent."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from .config import Overflow
from .core import Core
from .ending import Ending, EndKind
from .errors import SlowConsumer, TransportClosed
from .framing import Frame, Framer
from .message import Gap
from .subscriber import Subscriber
from .transport import Transport
from .wire import WireFormat

__all__ = ("Writer",)

logger = logging.getLogger("broker")


class Writer:
    """Sends one client its frames, and says goodbye; nobody else does.

    While the session goes on, a task that many share sends, in turns; where frames are
    joined, when the batcher says. From its end on a task of the session does, once a
    send that is under way is over.

    Args:
        owner_id: of the session.
        wire: how it speaks.
        on_gap: called for each gap, before its frame goes out; says whether it does;
            must not wait and not raise.
        on_end: ends the session; likewise.

    Attributes:
        framer: makes its frames.
        replies: the outbox of what is for this client alone.
        is_held: nothing is sent yet, until the session releases it.
        delay_s: how long to wait for more to be joined before it is sent (s); only
            where frames are joined.
        is_sending: a frame is being sent.
        sent: frames sent so far.
        armed: nothing waits or is being sent, and no turn of this one is to come.
    """

    __slots__ = (
        "_batcher",
        "_core",
        "_deadline",
        "_ending",
        "_is_broken",
        "_is_free",
        "_lanes",
        "_on_end",
        "_owner_id",
        "_scope",
        "_sending",
        "_tasks",
        "_transport",
        "_turn",
        "_wire",
        "armed",
        "delay_s",
        "framer",
        "is_held",
        "is_sending",
        "replies",
        "sent",
    )

    def __init__(
        self,
        core: Core,
        transport: Transport,
        *,
        owner_id: str,
        wire: WireFormat,
        on_gap: Callable[[Gap], bool],
        on_end: Callable[[Ending], None],
    ) -> None:
        self.framer = Framer(wire, on_gap, core.last_joined)
        self.is_held = False
        self.delay_s = 0.0
        self.is_sending = False
        self.sent = 0
        self.armed = True
        self._core = core
        self._batcher = core.batcher
        self._transport = transport
        self._owner_id = owner_id
        self._wire = wire
        self._on_end = on_end
        self._ending: Ending | None = None
        self._deadline = math.inf
        self._tasks: TaskGroup | None = None
        self._scope: anyio.CancelScope | None = None  # of the task that says goodbye
        self._sending: anyio.CancelScope | None = None  # of the shared task
        self._is_free: anyio.Event | None = None  # set when that has let go
        self._is_broken = False  # part of a frame may be out
        self.replies = self._make_lane(Overflow.DISCONNECT)
        # One outbox per policy in use; as a rule there is but one.
        self._lanes: tuple[Subscriber, ...] = (self.replies,)
        self._turn = 0  # whose it is

    def is_empty(self) -> bool:
        """Say whether nothing waits to be sent; cheaper than ``not lag``."""
        if len(self._lanes) == 1:  # the hot path
            return self.replies.is_empty()
        return all(lane.is_empty() for lane in self._lanes)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return sum(lane.outbox.size_bytes for lane in self._lanes)

    @property
    def lag(self) -> int:
        """Messages and gaps that wait to be sent."""
        return sum(lane.lag for lane in self._lanes)

    def lane(self, overflow: Overflow) -> Subscriber:
        """Return the outbox for topics with this policy; all feed this writer."""
        for lane in self._lanes:
            if lane.outbox.overflow is overflow:
                return lane
        lane = self._make_lane(overflow)
        self._lanes += (lane,)
        return lane

    def begin(self, tasks: TaskGroup) -> None:
        """Be able to say goodbye; ``tasks`` are the session's, which outlive this."""
        self._tasks = tasks
        if self._ending is not None:
            self._say_goodbye(tasks)

    def notify(self) -> None:
        """Have a turn, with all others. Never blocks."""
        if self.armed:
            self.armed = False
            if self._wire.join is None:
                self._batcher.hurry(self)
            else:
                self._batcher.hold(self, self.delay_s)

    def release(self) -> None:
        """Send again what waits."""
        self.is_held = False
        self.notify()

    def end(self, ending: Ending, deadline: float, *, flush: bool) -> None:
        """Have the client told, after what waits if that is to be. Never blocks.

        Args:
            deadline: when to wait for the client no longer (s, monotonic).
        """
        self.armed = False  # no more turns
        self._ending = ending
        if not flush or self.is_held:
            # What is held back is of no use without what was to come before it.
            self._clear()
        self._deadline = deadline
        if self._tasks is not None:
            self._say_goodbye(self._tasks)

    def cut(self) -> None:
        """Wait for the client no longer; only once it has ended."""
        self._deadline = -math.inf
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        """Free everything; nothing sends any more."""
        self._tasks = None
        self._clear()

    async def send_one(self, scope: anyio.CancelScope) -> bool:
        """Send a frame, if there is one; see ``Sender``."""
        if self._ending is not None:
            return True
        try:
            frame = self._take()
            if frame is None:
                self.armed = True
                return True
            self._sending = scope
            self.is_sending = True
            await self._transport.send(frame[0])
        except Exception as error:  # noqa: BLE001 # logged, and ends the session
            self._is_broken = True
            self._fail(error)
        except anyio.get_cancelled_exc_class():
            self._is_broken = True
            self._on_end(Ending.of(EndKind.INTERNAL_ERROR))  # unless it has ended
            if anyio.current_effective_deadline() == -math.inf:
                raise  # by who sees this client off, or with the broker
            # Somewhere below, which is this client's bad luck, and would end the pool.
            logger.exception("session %a: send was cancelled", self._owner_id)
        else:
            self._note_sent(frame)
            self._look_again()
        finally:
            self._sending = None
            if self._is_free is not None:
                self._is_free.set()
        return self._is_free is None

    def _look_again(self) -> None:
        """Have another turn, if more waits."""
        if self.is_empty():
            self.armed = True
        elif self._wire.join is not None and self.lag < self._wire.max_joined:
            # A send lets publishers run: what they have published meanwhile would go
            # out a message at a time.
            self._batcher.hold(self, self.delay_s)
        else:
            self._batcher.hurry(self)

    def _say_goodbye(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self._finish, name="broker: session writer")

    async def _finish(self) -> None:
        """Send what waits, then close.

        A send that was cancelled leaves the connection broken: nothing follows it.
        """
        assert self._ending is not None
        with anyio.CancelScope(deadline=self._deadline) as self._scope:
            try:
                await self._wait_free()
                if self._is_broken:
                    return
                while (frame := self._take()) is not None:
                    self.is_sending = True
                    await self._transport.send(frame[0])
                    self._note_sent(frame)
                if self._ending.kind is not EndKind.CLIENT_LEFT:
                    await self._transport.close(*self._wire.close(self._ending))
            except Exception as error:  # noqa: BLE001 # logged, and ends the session
                self._fail(error)

    async def _wait_free(self) -> None:
        """Wait until the shared task has let go, and see to it when cancelled."""
        if self._sending is None:
            return
        self._is_free = anyio.Event()
        try:
            await self._is_free.wait()
        finally:
            if self._sending is not None:
                self._sending.cancel()
                with anyio.move_on_after(self._core.limits.grace_s, shield=True):
                    await self._is_free.wait()

    def _make_lane(self, overflow: Overflow) -> Subscriber:
        return Subscriber(
            self._owner_id,
            self._core.outbox(overflow),
            self,
            self._core.counters,
            self._fall_behind,
        )

    def _take(self) -> Frame | None:
        """Return the next frame, if one is to go out; the lanes take turns."""
        if self.is_held and self._ending is None:
            return None
        if len(self._lanes) > 1:
            return self._take_in_turn(self._lanes)
        return self._take_from(self.replies)

    def _take_in_turn(self, lanes: tuple[Subscriber, ...]) -> Frame | None:
        for turn in range(self._turn, self._turn + len(lanes)):
            frame = self._take_from(lanes[turn % len(lanes)])
            if frame is not None:
                self._turn = (turn + 1) % len(lanes)
                return frame
        return None

    def _take_from(self, lane: Subscriber) -> Frame | None:
        while (item := lane.poll()) is not None:
            frame = self.framer.frame(item, lane)
            if frame is not None:
                return frame
        return None

    def _note_sent(self, frame: Frame) -> None:
        _, size, fanned_out = frame
        self.is_sending = False
        self.sent += 1
        counters = self._core.counters
        counters.sent += 1
        counters.sent_bytes += size
        if fanned_out is not None:
            counters.queueing.observe(anyio.current_time() - fanned_out)

    def _fail(self, error: Exception) -> None:
        """End the session of a client that cannot be sent to."""
        if isinstance(error, TransportClosed):
            self._on_end(Ending.of(EndKind.CLIENT_LEFT))
        else:
            logger.error("session %a: send failed", self._owner_id, exc_info=error)
            self._on_end(Ending.of(EndKind.INTERNAL_ERROR))

    def _fall_behind(self, _: SlowConsumer) -> None:
        self._on_end(Ending.of(EndKind.SLOW_CONSUMER))

    def _clear(self) -> None:
        for lane in self._lanes:
            lane.clear()
