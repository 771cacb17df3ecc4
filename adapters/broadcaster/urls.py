"""From broadcaster's URLs to backplanes."""

from __future__ import annotations

from broker import Backplane, UsageError, schemes

__all__ = ("UnsupportedBackend", "backplane_for")

# {broadcaster's scheme: ours}: there, streams are another way to the same events.
_SCHEMES = {"redis-stream": "redis"}


class UnsupportedBackend(UsageError, ValueError):
    """There is no backplane for this URL. A ValueError too, as broadcaster raises."""

    def __init__(self, scheme: str, problem: str) -> None:
        # The scheme and nothing more: URLs hold passwords.
        super().__init__(f"Unsupported backend: {scheme}: {problem}")


def backplane_for(url: str) -> Backplane:
    """Return the backplane that a URL of broadcaster's stands for.

    No I/O happens yet.

    Raises:
        UnsupportedBackend: there is none. The message lists those that are known, and
            has no more of the URL than its scheme.
        ModuleNotFoundError: its extra is not installed; says which.
    """
    scheme, mark, rest = url.partition("://")
    try:
        return schemes.backplane_for(_SCHEMES.get(scheme, scheme) + mark + rest)
    except UsageError as error:
        # Without the mark it may be anything, a password too.
        raise UnsupportedBackend(scheme if mark else "no URL", str(error)) from error
