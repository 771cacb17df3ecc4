"""How long a client's connection goes on, by its tokens or by the application."""

from __future__ import annotations

import logging
from typing import Any

from .client_protocol import ClientProtocol
from .errors import NotAllowed
from .protocol import frames, tokens
from .session import Session

__all__ = ("Lease",)

logger = logging.getLogger("broker")


class Lease:
    """When a connection is over, and who may put that off.

    Attributes:
        expires_at: when it is over (s, Unix); None for never.
    """

    __slots__ = ("_has_ended", "_is_asking", "_protocol", "_session", "expires_at")

    def __init__(self, session: Session[Any], protocol: ClientProtocol) -> None:
        self.expires_at: float | None = None
        self._session = session
        self._protocol = protocol
        self._is_asking = False
        self._has_ended = False

    def is_over(self, now: float) -> bool:
        """Return whether to end the connection now (s, Unix).

        A client has some time to bring a new token. With a handler the application is
        asked, and asked again while that fails.
        """
        if self.expires_at is None or now < self.expires_at:
            return False
        if self._has_ended or now >= self.expires_at + self._protocol.times.expired_s:
            return True
        if self._protocol.refresh is not None and not self._is_asking:
            self._is_asking = True
            self._session.start(self._ask)
        return False

    def refresh(self, token: str) -> frames.RefreshResult | tokens.Refusal:
        """Put the end off as a client's new token says, or return why not."""
        now, user = self._protocol.clock(), self._session.user or ""
        grant = tokens.refresh(self._protocol.tokens, token, user=user, now=now)
        if not isinstance(grant, tokens.ConnectGrant):
            return grant
        self.expires_at = grant.expires_at
        return frames.RefreshResult(
            client=self._session.client_id,
            version=self._protocol.version,
            expires=grant.expires_at is not None,
            ttl=grant.ttl_s(now),
        )

    async def _ask(self) -> None:
        assert self._protocol.refresh is not None
        try:
            self.expires_at = await self._protocol.refresh(self._session)
        except NotAllowed:
            self._has_ended = True
        except Exception:
            logger.exception("session %a: refresh failed", self._session.client_id)
        finally:
            self._is_asking = False
