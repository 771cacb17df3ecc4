"""The sessions of one node, and what the application does to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel

from . import orders
from .admission import Admission
from .config import Limits, Overflow, check_client_overflow
from .core import Core
from .driver import ServerSubscription
from .ending import Ending, EndKind
from .errors import BrokerError, LimitExceeded, SessionEnded, UsageError
from .running import run_session
from .session import Session
from .state.checks import check_client, check_user
from .state.directory import Directory
from .transport import Frames, FrameT, Transport
from .wire import WireFormat

__all__ = ("Clients",)

# Deadlines are this exact (s; guess: the shortest useful one is a few seconds).
WATCH_S = 1.0


class Clients:
    """All sessions, by client and by user.

    Attributes:
        admission: decides who may come.

    Raises:
        UsageError: an origin that is none.
    """

    def __init__(self, limits: Limits, origins: Iterable[str]) -> None:
        self._limits = limits
        self._sessions: Directory[Session[Any]] = Directory()
        self.admission = Admission(limits, origins, self._sessions)
        self._gone: anyio.Event | None = None  # set when the last session has gone

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session[Any]]:
        return iter(self._sessions)

    def open_session(
        self,
        core: Core,
        transport: Transport,
        frames: Frames[FrameT],
        *,
        user: str | None,
        client_id: str | None,
        client_host: str | None,
        overflow: Overflow | None,
        wire: WireFormat,
    ) -> AbstractAsyncContextManager[Session[FrameT]]:
        """Run a session; ``Broker.open_session`` says what is promised."""

        def enter() -> Session[FrameT]:
            check_user(user)
            check_client(client_id)
            check_client_overflow(overflow)
            if not isinstance(frames, Frames):
                wanted = "Frames.TEXT, Frames.BINARY or Frames.ANY"
                raise UsageError(f"frames must be {wanted}, not {frames!r}")
            meters = self.admission.enter(core, client_host, user)
            chosen = client_id or uuid4().hex
            if chosen in self._sessions:
                raise UsageError(f"client id {chosen!a} is taken")
            session = Session(
                core,
                transport,
                client_id=chosen,
                user=user,
                client_host=client_host,
                meters=meters,
                frames=frames,
                overflow=overflow,
                wire=wire,
            )
            self._sessions.add(session)
            core.owners[session] = None
            return session

        return run_session(core, enter, self._leave)

    def _leave(self, core: Core, session: Session[Any]) -> None:
        self._sessions.remove(session)
        core.owners.pop(session, None)
        if self._gone is not None and not self._sessions:
            self._gone.set()
            self._gone = None

    def identify(self, session: Session[Any], user: str) -> None:
        """Note whose session it is; ``Broker.identify`` says what is promised."""
        check_user(user)
        limit = self._limits.max_sessions_per_user
        if user == session.user:
            return
        if limit is not None and self._sessions.count_of_user(user) >= limit:
            raise LimitExceeded("max_sessions_per_user", limit)
        self._sessions.remove(session)
        session.identify(user)
        self._sessions.add(session)

    def of(
        self, *, user: str | None = None, client: str | None = None
    ) -> list[Session[Any]]:
        """Return the sessions of a user, of a client, of both at once, or all."""
        check_user(user)
        check_client(client)
        if client is None:
            return list(
                self._sessions if user is None else self._sessions.of_user(user)
            )
        return [
            session
            for session in self._sessions.of_client(client)
            if user is None or session.user == user
        ]

    async def carry_out(self, order: orders.Order) -> int:
        """Do to sessions of this node what an order says; returns to how many.

        Raises:
            UsageError: neither user nor client: never all at once, by mistake.
            BrokerError: of a subscription, what one of them met first; the others are
                subscribed.
        """
        if order.user is None and order.client is None:
            raise UsageError("whose sessions? Give user= or client=")
        await anyio.lowlevel.checkpoint()
        found = self.of(user=order.user, client=order.client)
        ongoing = [session for session in found if session.ending is None]
        match order:
            case orders.Subscribe():
                return await self._subscribe(ongoing, order.subscription())
            case orders.Unsubscribe(topic=topic):
                return sum(_unsubscribe(session, topic) for session in ongoing)
            case orders.Refresh(expires_at=expires_at):
                return sum(_refresh(session, expires_at) for session in ongoing)
            case orders.Disconnect():
                ending = Ending.of(EndKind.DISCONNECTED, order.reason, code=order.code)
                ending_now = [s for s in ongoing if s.client_id not in order.spared]
                for session in ending_now:
                    session.end(ending, flush=True)
                return len(ending_now)

    async def _subscribe(
        self, sessions: Iterable[Session[Any]], subscription: ServerSubscription
    ) -> int:
        done, problem = 0, None
        for session in sessions:
            try:
                await _subscribe(session, subscription)
            except SessionEnded:
                continue
            except BrokerError as error:
                problem = problem or error
            done += subscription.topic in session.topics
        if problem is not None:
            raise problem
        return done

    async def watch(self) -> None:
        """End what has waited long enough, until cancelled."""
        limits = self._limits
        deadlines = (limits.hello_s, limits.idle_s, limits.silence_s, limits.stall_s)
        period_s = min(WATCH_S, *(each / 4 for each in deadlines if each is not None))
        while True:
            await anyio.sleep(period_s)
            self._check_deadlines(anyio.current_time())

    def _check_deadlines(self, now: float) -> None:
        # Not in the task above, which would keep the last session while it sleeps.
        for session in self._sessions:
            session.check_deadlines(now)
        self.admission.forget_idle(now)

    async def wait_empty(self) -> None:
        """Wait until no session is left. A checkpoint."""
        await anyio.lowlevel.checkpoint()
        while self._sessions:
            if self._gone is None:
                self._gone = anyio.Event()
            await self._gone.wait()


async def _subscribe(session: Session[Any], subscription: ServerSubscription) -> None:
    if session.ending is not None:
        return
    if session.driver is not None:
        await session.driver.subscribe(subscription)
    elif session.is_plain:  # else it has not said hello yet
        await session.subscribe(
            subscription.topic,
            since=subscription.since,
            authorized=True,
            info=subscription.info,
        )


def _unsubscribe(session: Session[Any], topic: str) -> bool:
    if topic not in session.topics:
        return False
    if session.driver is not None:
        session.driver.unsubscribe(topic)
    else:
        session.drop(topic)
    return True


def _refresh(session: Session[Any], expires_at: float | None) -> bool:
    if session.driver is None:
        return False
    session.driver.refresh(expires_at)
    return True
