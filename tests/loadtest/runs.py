"""Short load tests, and what came of them."""

from __future__ import annotations

from typing import Any

from adapters.loadtest.plan import Plan, Wire
from adapters.loadtest.report import Audience, Report

LISTENERS = 5
MESSAGES = 50


def quick(url: str, wire: Wire = Wire.TEXT, **changes: Any) -> Plan:
    """Return a plan of 50 messages in half a second, to five listeners."""
    usual = {
        "clients": LISTENERS + 1,
        "rate_per_s": 100.0,
        "warmup_s": 0.0,
        "duration_s": MESSAGES / 100,
        "settle_s": 0.7,
        "wire": wire,
        "topic": "room{room}",
    }
    return Plan(url=url, **{**usual, **changes})


def of(report: Report, name: str = "healthy") -> Audience:
    return next(each for each in report.audiences if each.name == name)


def losses(audience: Audience) -> dict[str, int]:
    """Return what is wrong with what a class got."""
    names = ("repeated", "reordered", "strayed", "missed_told", "missed_untold")
    counts = {name: getattr(audience, name) for name in (*names, "ended")}
    return {name: count for name, count in counts.items() if count}
