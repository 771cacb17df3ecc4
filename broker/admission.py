"""Who may open a session on this node, and how fast its client may send."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import anyio

from .config import Limits
from .core import Core
from .ending import EndKind, ending_for
from .errors import BrokerClosed, LimitExceeded, OriginNotAllowed, UsageError
from .state.checks import check_user
from .state.directory import Directory
from .state.origins import Origins
from .state.rates import Meter, UserMeters, session_meter
from .transport import ConnectRequest

__all__ = ("Admission",)

logger = logging.getLogger("broker")


class Admission:
    """Decides from what is connected, and counts whom it refuses.

    Args:
        origins: web pages that may connect besides those of the host itself.
        sessions: those that are connected.

    Attributes:
        is_open: new clients are taken at all.
        origins: whose pages may connect.
    """

    def __init__(
        self, limits: Limits, origins: Iterable[str], sessions: Directory[Any]
    ) -> None:
        self.is_open = False
        self._limits = limits
        self.origins = Origins(origins)
        self._sessions = sessions
        self._user_meters = UserMeters(limits)

    async def decide(
        self, core: Core, request: ConnectRequest, user: str | None
    ) -> str | None:
        """Return the user of a client; ``Broker.admit`` says what is promised."""
        try:
            self._check(core, request.client_host, None)
            self._check_origin(request)
            hook = core.hooks.authenticate
            if user is None and hook is not None:
                user = await hook(request)
            check_user(user)
            self._check(core, None, user)
        except Exception as error:
            self._note_refusal(core, error, request.client_host)
            raise
        return user

    def check_origin(self, core: Core, request: ConnectRequest) -> None:
        """Refuse pages alone; ``Broker.check_origin`` says what is promised."""
        try:
            self._check_origin(request)
        except OriginNotAllowed as error:
            self._note_refusal(core, error, request.client_host)
            raise

    def enter(
        self, core: Core, host: str | None, user: str | None
    ) -> tuple[Meter, ...]:
        """Check once more, with the session about to begin; return its meters.

        Raises:
            LimitExceeded, BrokerClosed: as ``decide``; others came first.
        """
        try:
            self._check(core, host, user)
        except (LimitExceeded, BrokerClosed) as error:
            self._note_refusal(core, error, host)
            raise
        now = anyio.current_time()
        meters = [session_meter(self._limits, now)]
        if user is not None:
            meters.append(self._user_meters.of(user, now))
        return tuple(meter for meter in meters if meter is not None)

    def forget_idle(self, now: float) -> None:
        """Let go of what is remembered of users who have gone (s, monotonic)."""
        self._user_meters.forget_idle(self._sessions.has_user, now)

    def _note_refusal(self, core: Core, error: Exception, host: str | None) -> None:
        ending = ending_for(error)
        core.counters.refused[ending.kind] += 1
        facts = {"event": "refused", "host": host, "ended": ending.kind.value}
        advice, level = "", logging.INFO
        if isinstance(error, OriginNotAllowed):
            facts["origin"] = error.origin
            advice = (
                f": add '{error.origin}' to the broker's origins to allow its pages"
            )
        elif ending.kind is EndKind.INTERNAL_ERROR and isinstance(error, UsageError):
            advice, level = f": {error}", logging.ERROR  # the application's to mend
        logger.log(level, "refused: %s%s", ending, advice, extra=facts)

    def _check_origin(self, request: ConnectRequest) -> None:
        origin = request.headers.get("origin")
        if not self.origins.allow(origin, request.headers.get("host")):
            assert origin is not None  # without one every client is allowed
            raise OriginNotAllowed(origin)

    def _check(self, core: Core, host: str | None, user: str | None) -> None:
        if core.is_closed or not self.is_open:
            raise BrokerClosed("the server restarts, come back")
        sessions = self._sessions
        counts = {
            "max_sessions": len(sessions),
            "max_sessions_per_host": 0
            if host is None
            else sessions.count_of_host(host),
            "max_sessions_per_user": 0
            if user is None
            else sessions.count_of_user(user),
        }
        for name, count in counts.items():
            limit = getattr(self._limits, name)
            if limit is not None and count >= limit:
                raise LimitExceeded(name, limit)
