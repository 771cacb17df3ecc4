"""All TCP connections of one worker, and what happens to the one that fails."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from random import randint
from types import TracebackType

__all__ = ("LINGER_S", "Connections", "reset_when_closed", "spread_probes")

# How long a client may take to read our last words and hang up, and how long a flush
# may take. nginx's lingering_timeout is 5 s; hypercorn gives a whole shutdown 3 s
# (graceful_timeout), and this must fit into it.
LINGER_S = 2.0
PROBE_OPTIONS = [
    getattr(socket, name)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL")
    if hasattr(socket, name)
]
MAX_LOGGED = 200  # characters of an error that a client may have worded; guess

logger = logging.getLogger("broker.hosting")


class Connections:
    """All TCP connections of one worker; owns the right to cut them.

    Attributes:
        faults: connections ended by a fault that was contained.
    """

    def __init__(self) -> None:
        self.faults = 0
        self._cuts: set[Callable[[], None]] = set()
        self._are_over = False

    def __len__(self) -> int:
        """Return how many are open now."""
        return len(self._cuts)

    def abort_all(self) -> int:
        """Cut every open connection with a reset and return how many; never waits.

        From now on a new one is cut as it arrives: on Python >= 3.12.1 hypercorn's
        asyncio worker waits for the last one without a deadline (hypercorn #308).
        """
        self._are_over = True
        for cut in tuple(self._cuts):
            cut()
        return len(self._cuts)

    def holding(self, cut: Callable[[], None]) -> Held:
        """Return what counts a connection as open for a block; its fault stays inside.

        Args:
            cut: ends the connection at once with a reset; must not wait, not raise,
                and do nothing the second time.
        """
        return Held(self, cut)

    def hold(self, cut: Callable[[], None]) -> None:
        """Count a connection as open."""
        self._cuts.add(cut)
        if self._are_over:
            cut()

    def let_go(self, cut: Callable[[], None]) -> None:
        """Cut a connection, and count it no more."""
        self._cuts.discard(cut)
        cut()

    def contain(self, error: BaseException | None) -> bool:
        """Log the fault that a connection has ended with as one line.

        Returns:
            False if there was none, or something else beside it, such as cancellation.
        """
        if isinstance(error, Exception):
            self._log(error)
            return True
        if isinstance(error, BaseExceptionGroup):  # a fault beside a cancellation
            faults, others = error.split(Exception)
            if faults is not None:
                self._log(faults)
            if others is not None:
                raise others from None
            return True
        return False

    def _log(self, error: Exception) -> None:
        self.faults += 1
        while isinstance(error, ExceptionGroup):  # the first is as good as any
            error = error.exceptions[0]
        # It may quote the client: no line breaks, no escape sequences, not too long.
        text = ascii(error)[:MAX_LOGGED]
        logger.warning("a connection was cut, because of a fault: %s", text)


class Held:
    """A connection that is open for as long as the block runs.

    What ends the block with an ``Exception`` is logged and goes no further;
    cancellation does. The connection is cut in any case. A class, for it is there as
    long as the connection, and a generator takes half a kilobyte.
    """

    __slots__ = ("_connections", "_cut")

    def __init__(self, connections: Connections, cut: Callable[[], None]) -> None:
        self._connections = connections
        self._cut = cut

    def __enter__(self) -> None:
        self._connections.hold(self._cut)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            return self._connections.contain(error)
        finally:
            self._connections.let_go(self._cut)


def spread_probes(sock: socket.socket | None) -> None:
    """Have the kernel ask clients that came together at times of their own.

    It asks thousands within one tick else, and loopback drops all but a thousand (of
    15,000 idle connections 799 were lost after a minute). Idle time and interval are
    drawn between half of what they are and that.

    Args:
        sock: as below.
    """
    with suppress(OSError):  # as below, or no TCP
        if sock is not None and sock.fileno() >= 0:
            with socket.socket(fileno=os.dup(sock.fileno())) as same:
                for option in PROBE_OPTIONS:
                    most_s = same.getsockopt(socket.IPPROTO_TCP, option)
                    value_s = randint((most_s + 1) // 2, most_s)
                    same.setsockopt(socket.IPPROTO_TCP, option, value_s)


def reset_when_closed(sock: socket.socket | None) -> None:
    """Have a socket drop what it has not sent, and reset its peer, when it is closed.

    Without it the kernel would keep what a stalled peer does not read, for minutes.

    Args:
        sock: anything with a ``fileno``; uvloop's has no ``setsockopt``.
    """
    # It may be closed already, or there may be no file descriptor left for a copy.
    with suppress(OSError):
        if sock is not None and sock.fileno() >= 0:
            with socket.socket(fileno=os.dup(sock.fileno())) as same:
                linger = struct.pack("ii", 1, 0)
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
