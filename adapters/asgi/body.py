"""A request's body, bounded in size and in time."""

from __future__ import annotations

from contextlib import aclosing

import anyio
from starlette.requests import ClientDisconnect, Request

__all__ = ("Unreadable", "read_body")

LINGER_BYTES = 4_194_304  # guess: what a client sends before it looks for an answer


class Unreadable(Exception):
    """The body is none that will be looked at.

    Attributes:
        status: of the answer: 400, 408 or 413.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"answered with {status}")
        self.status = status


async def read_body(request: Request, *, max_bytes: int, within_s: float) -> bytes:
    """Return the body.

    What is too large is taken and let go of, up to a point: a server that closes with
    data unread resets the connection, and then the client may not see the answer.

    Args:
        max_bytes: of the body (> 0).
        within_s: from now until all of it is there (s, > 0).

    Raises:
        Unreadable: too large, too slow, or the client has left.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:20]) > max_bytes + LINGER_BYTES:
        raise Unreadable(413)
    body, size = bytearray(), 0
    try:
        # Closed at once: trio warns of a generator that is left to the collector.
        with anyio.fail_after(within_s):
            async with aclosing(request.stream()) as parts:
                async for part in parts:
                    size += len(part)
                    if size > max_bytes + LINGER_BYTES:
                        break
                    if size <= max_bytes:
                        body += part
    except TimeoutError:
        raise Unreadable(408) from None
    except ClientDisconnect:
        raise Unreadable(400) from None  # nobody is there to read it
    if size > max_bytes:
        raise Unreadable(413)
    return bytes(body)
