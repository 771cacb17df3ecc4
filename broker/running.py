"""A session from its first step to its end."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

from .core import Core
from .ending import Ending, EndKind
from .errors import SessionEnded
from .session import Session
from .transport import FrameT

__all__ = ("run_session",)

logger = logging.getLogger("broker")


@asynccontextmanager
async def run_session(
    core: Core,
    enter: Callable[[], Session[FrameT]],
    leave: Callable[[Core, Session[FrameT]], None],
) -> AsyncGenerator[Session[FrameT], None]:
    """Run a session's reader and writer for as long as the block runs.

    The block ends quietly with the session: ``SessionEnded`` is absorbed, and so is
    an error that is the client's, which ends the session with its code. When the block
    is left in peace, what waits is sent and the client closed with 1000. Any other
    exception ends the session with 1011 and comes out bare.

    Args:
        enter: makes the session; what it raises comes out, and nothing has changed.
        leave: called when it is over.
    """
    session = enter()
    del enter  # it holds what is needed no more
    error: Exception | None = None
    has_begun = False
    actor = session.actor
    try:
        async with anyio.create_task_group() as tasks:
            actor.reader.begin(tasks)
            actor.writer.begin(tasks)
            try:
                await session._begin()
                has_begun = True
                yield session
            except Exception as exc:  # noqa: BLE001 # raised below, once all is closed
                if not session._absorbs(exc):
                    error = exc
                elif not has_begun:
                    error = SessionEnded(session.ended_by)
            except BaseException:
                # Cancelled by the host, which closes the connection in its own way.
                session.end(Ending.of(EndKind.SHUTDOWN))
                raise
            else:
                session.end(Ending.of(EndKind.COMPLETED), flush=True)
            finally:
                farewell = core.see_off(session.say_farewell)
            await farewell.wait()
    finally:
        leave(core, session)
        actor.close()
        core.counters.ended[session.ended_by.kind] += 1
        _log_end(session)
    if error is not None:
        raise error


def _log_end(session: Session[FrameT]) -> None:
    """Write the session's one line in the log. No payload goes there."""
    ending, actor = session.ended_by, session.actor
    facts = {
        "event": "session_end",
        "client_id": session.client_id,
        "user": session.user,
        "host": session.client_host,
        "ended": ending.kind.value,
        "code": ending.code,
        "reason": ending.reason,
        "duration_s": round(anyio.current_time() - session.began, 3),
        "received": actor.reader.received,
        "sent": actor.writer.sent,
    }
    logger.info("session %a: %s", session.client_id, ending, extra=facts)
