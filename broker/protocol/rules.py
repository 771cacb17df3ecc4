"""When a command may come, and when a connection is over: one client's state."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random

from broker.errors import UsageError

from .codes import Disconnects
from .frames import Command, Connect, DisconnectPush, Pong

__all__ = ("ProtocolTimes", "Rules")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolTimes:
    """Deadlines of the Centrifuge client protocol; defaults are Centrifugo's (s, > 0).

    Attributes:
        ping_s: between two pings; the first comes after half to all of it.
        pong_s: for the client's answer; below ``ping_s``.
        stale_s: to the connect command.
        expired_s: how long an expired connection or subscription may stay, so that the
            client's new token can arrive.
    """

    ping_s: float = 25.0
    pong_s: float = 8.0
    stale_s: float = 10.0
    expired_s: float = 25.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                raise UsageError(f"ProtocolTimes.{each.name} must be > 0")
        if self.pong_s >= self.ping_s:
            raise UsageError("ProtocolTimes.pong_s must be below ping_s")


class Rules:
    """What one client owes: a connect command first, and a pong for each ping.

    Args:
        now: when the connection began (s, monotonic).
        random: for the moment of the first ping, so that clients that came together
            are not pinged together.
        pong: pings are to be answered.

    Attributes:
        is_connected: the connect command has succeeded.
    """

    __slots__ = (
        "_asked_at",
        "_has_failed",
        "_is_connecting",
        "_next_ping",
        "_owed",
        "_random",
        "_since",
        "_times",
        "_wants_pong",
        "is_connected",
    )

    def __init__(
        self, times: ProtocolTimes, now: float, random: Random, *, pong: bool = True
    ) -> None:
        self._times = times
        self._wants_pong = pong
        self._since = now
        self._random = random
        self._is_connecting = False
        self._has_failed = False
        self._owed = 0  # pings that were not answered yet
        self._asked_at = now  # the last one
        self._next_ping = float("inf")
        self.is_connected = False

    @property
    def is_deaf(self) -> bool:
        """The connect command was refused: nothing else is listened to."""
        return self._has_failed

    def check(self, command: Command) -> DisconnectPush | None:
        """Note a command; return why the client is to be sent away for it, if it is."""
        request = command.request
        if isinstance(request, Pong):
            if not self._owed:
                return Disconnects.BAD_REQUEST
            self._owed -= 1
        elif isinstance(request, Connect) is self._is_connecting:
            return Disconnects.BAD_REQUEST  # no connect first, or a second one
        else:
            self._is_connecting = True
        return None

    def connected(self, now: float) -> None:
        """Note that the connect command has succeeded (s, monotonic)."""
        self.is_connected = True
        ping_s = self._times.ping_s
        self._next_ping = now + self._random.uniform(ping_s / 2, ping_s)

    def refused(self) -> None:
        """Note that the connect command was answered with an error."""
        self._has_failed = True
        self.is_connected = False

    def tick(self, now: float, *, has_more: bool = False) -> DisconnectPush | bool:
        """Return why the connection is over, or whether a ping is due (s, monotonic).

        A ping that is due counts as sent.

        Args:
            has_more: the client has sent what was not looked at yet: maybe a pong.
        """
        times = self._times
        if not self.is_connected:
            is_stale = now - self._since >= times.stale_s
            return Disconnects.STALE if is_stale else False
        is_late = self._owed and now - self._asked_at >= times.pong_s
        if is_late and not has_more:
            return Disconnects.NO_PONG
        if now < self._next_ping:
            return False
        if self._wants_pong:
            self._asked_at = now
            self._owed += 1
        self._next_ping = now + times.ping_s
        return True
