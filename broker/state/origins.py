"""Which web pages may connect. Sans-IO."""

from __future__ import annotations

import re
from collections.abc import Iterable

from broker.errors import UsageError

from .checks import check_several, check_text

__all__ = ("Origins",)

ANY = "*"
# As a browser serialises it (RFC 6454, section 6.2): no path, not even a slash.
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^\s/?#@]+")


class Origins:
    """A page may connect if it comes from the host that it connects to, or is listed.

    Browsers let any page open a WebSocket to any host, with that host's cookies, and
    say in ``Origin`` where the page is from. What is not a browser sends none, and is
    let in: it could send whatever it likes.

    The scheme is not compared for the page's own host, because a proxy that ends TLS
    leaves https outside and http inside (as gorilla/websocket, ``checkSameOrigin``).

    Args:
        allowed: origins besides the page's own host, compared exactly, such as
            ``https://app.example.com``; ``*`` lets every page connect.

    Raises:
        UsageError: one of them is no origin; the message says which.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        check_several("origins", allowed, str)
        self._allowed = frozenset(allowed)
        for origin in self._allowed - {ANY}:
            check_text("an origin", origin)
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(
                    f"no origin: {origin!a}; write scheme://host or scheme://host:port "
                    "in lower case, without a slash at the end"
                )

    def lists(self, origin: str) -> bool:
        """Return whether an origin is allowed by its name, and not by ``*`` alone."""
        return origin in self._allowed

    def allow(self, origin: str | None, host: str | None) -> bool:
        """Return whether a handshake may go on.

        Args:
            origin: the ``Origin`` header; None without.
            host: the ``Host`` header; None without.
        """
        if origin is None or ANY in self._allowed or origin in self._allowed:
            return True
        scheme, _, authority = origin.partition("://")
        return (
            scheme in ("http", "https")
            and authority != ""
            and host is not None
            and authority.lower() == host.lower()
        )
