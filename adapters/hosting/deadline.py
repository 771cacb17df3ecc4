"""The end that nothing can put off."""

from __future__ import annotations

import logging
import os
import threading

__all__ = ("ExitDeadline",)

logger = logging.getLogger("broker.hosting")


class ExitDeadline:
    """Ends the process so long after it was started, whatever its event loop does.

    Args:
        after_s: from ``start`` to the end (s, > 0).
        code: exit code of the process then.
    """

    def __init__(self, after_s: float, code: int) -> None:
        self._after_s = after_s
        self._code = code
        self._started, self._cancelled = threading.Event(), threading.Event()
        # A thread, because a loop that is blocked runs no task; there from the start,
        # because a signal handler cannot start one without the risk of a deadlock.
        threading.Thread(
            target=self._watch, name="broker: deadline", daemon=True
        ).start()

    def start(self) -> None:
        """Let the time run; fit for a signal handler. Idempotent."""
        if not self._started.is_set():
            self._started.set()

    def cancel(self) -> None:
        """Let the process go on; the deadline is of no use afterwards."""
        self._cancelled.set()
        self._started.set()

    def _watch(self) -> None:
        self._started.wait()
        if not self._cancelled.wait(self._after_s):
            logger.error("not stopped after %g s: exiting now", self._after_s)
            os._exit(self._code)
