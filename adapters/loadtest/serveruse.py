"""What the server's process takes, at the moments that count."""

from __future__ import annotations

import time

from .process import CannotMeasure, ProcessUse, Sample
from .report import ServerUse

__all__ = ("Server",)


class Server:
    """Reads the use of the server's process, if it is known.

    A server that ends is read no more, and that is all: others see that it is gone.

    Args:
        pid: of its process; None for a server that is elsewhere.

    Raises:
        CannotMeasure: there is no such process, or this system does not tell.

    Attributes:
        pid: as given.
    """

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self._use = None if pid is None else ProcessUse(pid)
        self._idle_bytes = 0
        self._connected_bytes = 0
        self._peak_bytes = 0
        self._second: tuple[float, Sample] | None = None
        self._from: tuple[float, Sample] | None = None
        self._to: tuple[float, Sample] | None = None

    def note_idle(self) -> None:
        """Note its memory before the first client."""
        if (sample := self._sample()) is not None:
            self._idle_bytes = sample.rss_bytes

    def note_connected(self) -> None:
        """Note its memory when all are connected."""
        if (sample := self._sample()) is not None:
            self._connected_bytes = sample.rss_bytes
            self._second = time.monotonic(), sample

    def begin(self) -> None:
        """Count its processor time from now on."""
        if (sample := self._sample()) is not None:
            self._from = time.monotonic(), sample

    def end(self) -> None:
        """Count its processor time until now."""
        if (sample := self._sample()) is not None:
            self._to = time.monotonic(), sample

    def second(self) -> tuple[float | None, int | None]:
        """Return its share of a core since the last call, and its memory (bytes)."""
        sample, before = self._sample(), self._second
        if sample is None or before is None:
            return None, None
        now_s = time.monotonic()
        self._second = now_s, sample
        return _share(before, self._second), sample.rss_bytes

    def use(self, delivered: int) -> ServerUse | None:
        """Return what the report says; None if nothing is known.

        Args:
            delivered: deliveries between ``begin`` and ``end``.
        """
        if self._from is None or self._to is None:
            return None
        cpu_s = self._to[1].cpu_s - self._from[1].cpu_s
        return ServerUse(
            cpu=_share(self._from, self._to),
            cpu_us_per_delivery=cpu_s / delivered * 1e6 if delivered else 0.0,
            idle_rss_bytes=self._idle_bytes,
            connected_rss_bytes=self._connected_bytes,
            peak_rss_bytes=self._peak_bytes,
        )

    def _sample(self) -> Sample | None:
        if self._use is None:
            return None
        try:
            sample = self._use.sample()
        except CannotMeasure:
            self._use = None
            return None
        self._peak_bytes = max(self._peak_bytes, sample.rss_bytes)
        return sample


def _share(before: tuple[float, Sample], after: tuple[float, Sample]) -> float:
    return (after[1].cpu_s - before[1].cpu_s) / max(after[0] - before[0], 1e-9)
