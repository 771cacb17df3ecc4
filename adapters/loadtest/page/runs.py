"""The tests on a page: each has a letter and a colour."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

import msgspec

from adapters.loadtest.report import Report
from adapters.loadtest.wording import name

__all__ = ("Run", "number")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One test on a page.

    Attributes:
        letter: by which the charts call it; empty if it is the only one.
        hue: number of its colour.
    """

    letter: str
    hue: int
    report: Report

    @property
    def title(self) -> str:
        """Its letter and name."""
        prefix = f"{self.letter}: " if self.letter else ""
        return prefix + name(self.report)


def number(reports: Sequence[Report]) -> list[Run]:
    """Give each test its letter (A to Z, then numbers) and its colour."""
    letters = [
        ascii_uppercase[index] if index < len(ascii_uppercase) else str(index + 1)
        for index in range(len(reports))
    ]
    return [
        Run(letter=letter if len(reports) > 1 else "", hue=hue, report=report)
        for hue, (letter, report) in enumerate(zip(letters, reports, strict=True))
    ]
