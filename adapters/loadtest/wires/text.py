"""A server's own frames, described by templates."""

from __future__ import annotations

from collections.abc import Sequence

from .base import NOTHING, Said

__all__ = ("TextSpeaker",)

MESSAGE = "{message}"


class TextSpeaker:
    """Speaks by templates; every frame from the server may hold messages.

    Args:
        template: the frame that publishes; ``{message}`` is where the text goes.
        greeting: frames to send first.
    """

    __slots__ = ("_after", "_before", "_greeting")

    def __init__(self, template: str, greeting: Sequence[str] = ()) -> None:
        self._before, _, self._after = template.partition(MESSAGE)
        self._greeting = list(greeting)

    def greet(self) -> tuple[list[str], bool]:
        """Return the greeting. Nothing says when the server has understood it."""
        return self._greeting, True

    def publish(self, text: str) -> str:
        """Return the template with the text in it."""
        return f"{self._before}{text}{self._after}"

    def is_plain(self, frame: bytes) -> bool:
        """Return True: what is no message is none of ours."""
        return True

    def read(self, frame: bytes) -> Said:
        """Return that nothing was said."""
        return NOTHING

    def note(self, frame: bytes) -> None:
        """Do nothing: there are no positions."""

    def can_resume(self) -> bool:
        """Return False: who comes back begins anew."""
        return False
