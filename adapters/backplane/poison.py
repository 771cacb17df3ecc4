"""What others have written where only nodes should: skipped, counted, logged."""

from __future__ import annotations

import logging

__all__ = ("Poison", "Poisoned")

logger = logging.getLogger("broker.backplane")


class Poison(Exception):
    """Something under our names that no broker has written."""


class Poisoned:
    """How many values no broker has written; a few of them are logged."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, where: str, problem: Exception) -> None:
        """Count one. Each doubling is logged: whoever writes them writes many."""
        self.count += 1
        if not self.count & (self.count - 1):
            logger.warning(
                "skipped what is not ours on %s: %s (%d so far)",
                where,
                problem,
                self.count,
            )
