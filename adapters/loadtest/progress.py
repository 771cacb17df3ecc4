"""How far a load test has come: what the live view shows."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from .report import Audience, Moment

__all__ = ("Phase", "Progress")


class Phase(StrEnum):
    """What a load test is doing; always in this order."""

    CONNECTING = "connecting"
    WARM_UP = "warm-up"  # publishing, not counted
    MEASURING = "measuring"  # publishing, counted
    SETTLING = "settling"  # no longer publishing: waiting for what is still to come


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One second of a load test that runs.

    Attributes:
        phase: what it does.
        elapsed_s: since the phase began (s, >= 0).
        total_s: how long the phase is to take (s); 0 if nobody knows, and an end that
            is passed if the phase is late.
        clients: how many the plan has.
        moment: the last second.
        audiences: the classes, with what is known by now of the counted time: their
            clients, deliveries and latency. Losses are known at the end only, and
            are 0 until then.
        warnings: what already makes the figures worth less, worst first.
    """

    phase: Phase
    elapsed_s: float
    total_s: float
    clients: int
    moment: Moment
    audiences: tuple[Audience, ...] = ()
    warnings: tuple[str, ...] = ()
