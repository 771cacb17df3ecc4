"""Which backplane a URL stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .backplane import Backplane
from .errors import UsageError
from .memory import MemoryBackplane

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

__all__ = ("GROUP", "backplane_for", "chosen")

# Distributions add schemes of their own: an entry point's name is the scheme, and what
# it loads takes the URL, and ``connect_s`` by name.
GROUP = "asgi_broker.backplanes"


def chosen(backplane: Backplane | str | None) -> Backplane:
    """Return the backplane that is meant; None is that of a node on its own.

    Raises:
        UsageError: it is none; or as ``backplane_for``.
        ModuleNotFoundError: as ``backplane_for``.
    """
    if backplane is None:
        return MemoryBackplane()
    if isinstance(backplane, str):
        return backplane_for(backplane)
    if isinstance(backplane, type) or not hasattr(backplane, "connect"):
        kind = type(backplane).__name__
        raise UsageError(f"backplane must be a URL or a Backplane, not {kind}")
    return backplane


def backplane_for(url: str, *, connect_s: float | None = None) -> Backplane:
    """Return the backplane that a URL stands for, such as ``redis://localhost:6379``.

    Nothing is connected yet.

    Args:
        connect_s: how long it is to try when it first connects (s, > 0); None for its
            own default.

    Raises:
        UsageError: no URL, or a scheme that nothing installed knows. The message lists
            those that are known, and has nothing else of the URL.
        ModuleNotFoundError: its extra is not installed; says which.
        UsageError: what the backplane itself has against the URL.
    """
    scheme, mark, _ = url.partition("://")
    if not mark:
        raise UsageError(f"no URL of a backplane: write one of {_list()}")
    if scheme == "memory":
        return MemoryBackplane()
    for point in _points():
        if point.name != scheme:
            continue
        make: Callable[..., Any] = point.load()
        options = {} if connect_s is None else {"connect_s": connect_s}
        made: Backplane = make(url, **options)
        return made
    shown = ascii(scheme[:40])
    raise UsageError(f"no backplane for {shown}: known are {_list()}")


def _list() -> str:
    names = {"memory", *(point.name for point in _points())}
    return ", ".join(f"{name}://" for name in sorted(names))


def _points() -> EntryPoints:
    # Not at import: it takes 20 ms, and most brokers need none.
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)
