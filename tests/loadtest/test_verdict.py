"""Figures that are worth less say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.loadtest import verdict
from adapters.loadtest.latencies import Latencies
from adapters.loadtest.plan import Plan, Scenario
from adapters.loadtest.report import (
    Audience,
    Generators,
    Latency,
    Machine,
    Moment,
    Report,
)
from adapters.loadtest.verdict import warnings_for

PLAN = Plan(url="ws://localhost", clients=101, rate_per_s=100, processes=2)

LONG = msgspec.structs.replace(PLAN, duration_s=20)


def latency(ms: float, count: int = 1000, *, once_ms: float | None = None) -> Latency:
    """So many times the same, and perhaps one that is not."""
    latencies = Latencies()
    latencies.record(round(ms * 1e6), count - (once_ms is not None))
    if once_ms is not None:
        latencies.record(round(once_ms * 1e6))
    return latencies.summary()


def audience(name: str = "healthy", count: int = 100_000) -> Audience:
    return Audience(
        name=name,
        clients=100,
        expected=count,
        delivered=count,
        latency=latency(10, count),
    )


def generators(**fields: Any) -> Generators:
    quiet = Generators(cpu=(0.4, 0.9), lateness=latency(0.5), waking=latency(1))
    return msgspec.structs.replace(quiet, **fields)


FINE = Report(
    plan=PLAN,
    started="2026-01-01T00:00:00Z",
    machine=Machine(cores=4, processor="", system="", python=""),
    measured_s=10,
    sent=1000,
    deliveries_per_s=10_000,
    audiences=(audience(),),
    moments=tuple(
        Moment(at_s=second, outstanding=100 * (second % 2)) for second in range(-1, 13)
    ),
    generators=generators(),
)


def changed(**fields: Any) -> Report:
    return msgspec.structs.replace(FINE, **fields)


def growing(each: int) -> tuple[Moment, ...]:
    """More and more waits, until all has come in the end."""
    return tuple(
        Moment(at_s=second, outstanding=each * second if second < 11 else 0)
        for second in range(13)
    )


def test_nothing_to_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("tsc\n")
    monkeypatch.setattr(verdict, "CLOCK", clock)
    assert warnings_for(FINE, cores=3) == []
    assert warnings_for(changed(moments=growing(999)), cores=None) == []
    late = generators(lateness=latency(0.99, once_ms=99), waking=latency(4.9))
    assert warnings_for(changed(generators=late)) == []
    # A tenth of what is measured, or a quarter, is no more than noise.
    late = generators(lateness=latency(9.9), waking=latency(24))
    slow = audience()
    slow = msgspec.structs.replace(slow, latency=latency(100, 100_000))
    assert warnings_for(changed(generators=late, audiences=(slow,))) == []
    assert warnings_for(changed(audiences=(audience(), audience("slow", 5)))) == []
    away = msgspec.structs.replace(PLAN, scenario=Scenario.RESUME, drop_s=0.5)
    assert warnings_for(changed(moments=growing(1600), plan=away)) == []
    stalled = Audience(name="slow", expected=5000)
    report = changed(moments=growing(1600), audiences=(audience(), stalled))
    assert warnings_for(report) == []
    clock.unlink()
    assert warnings_for(FINE) == []


@pytest.mark.parametrize(
    ("report", "facts", "said"),
    [
        (
            changed(is_complete=False, measured_s=4, sent=4000),
            {},
            ["Interrupted after 4 s of 10 s"],
        ),
        (changed(audiences=()), {}, ["Nothing was due to anybody"]),
        (
            changed(audiences=(Audience(name="healthy", expected=5),)),
            {},
            ["Not one message came"],
        ),
        (FINE, {"unconnected": 7}, ["7 attempts to connect failed"]),
        (FINE, {"early": 1}, ["1 message came before they were sent"]),
        (
            changed(generators=generators(cpu=(0.2, 0.97))),
            {},
            ["a process of it took 97 % of a core"],
        ),
        (
            changed(generators=generators(lateness=latency(1.1))),
            {},
            ["were sent 1.1 ms or more after their time"],
        ),
        (
            changed(generators=generators(waking=latency(5.1))),
            {},
            ["was busy or stopped for 5.1 ms or more"],
        ),
        (
            changed(generators=generators(lateness=latency(0.1, once_ms=2500))),
            {},
            ["stood still once, for 2.5 s"],
        ),
        (
            changed(generators=generators(waking=latency(1, once_ms=101))),
            {},
            ["stood still once, for 101 ms"],
        ),
        (FINE, {"cores": 2}, ["The server and 2 generators share 2 cores"]),
        (FINE, {"unsent": 1}, ["1 message of 1,000 could not be sent"]),
        (
            changed(plan=LONG, measured_s=19.5, sent=1970),
            {},
            ["30 messages of 2,000 could not be sent"],
        ),
        (
            changed(audiences=(msgspec.structs.replace(audience(), delivered=99_999),)),
            {},
            ["100,000 deliveries were timed and 99,999 counted (healthy)"],
        ),
        (changed(moments=growing(1200)), {}, ["The server did not keep up: 10,800"]),
        (
            changed(audiences=(audience(count=9_999),)),
            {},
            ["Too few for p99.9: 1,000 messages and 9,999 deliveries"],
        ),
        (
            changed(sent=500, plan=msgspec.structs.replace(PLAN, rate_per_s=50)),
            {},
            ["Too few for p99.9: 500 messages"],
        ),
        (
            changed(audiences=(audience(count=999),)),
            {},
            ["Too few for p99: 1,000 messages and 999 deliveries"],
        ),
    ],
)
def test_what_is_said(report: Report, facts: dict[str, Any], said: list[str]) -> None:
    found = warnings_for(report, **facts)
    for sentence, words in zip(found, said, strict=True):
        assert words in sentence
        assert sentence.endswith(".")


def test_a_slow_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = tmp_path / "clock"
    clock.write_text("hpet\n")
    monkeypatch.setattr(verdict, "CLOCK", clock)
    (said,) = warnings_for(FINE)
    assert "clock is hpet" in said


def test_the_worst_comes_first() -> None:
    report = changed(
        is_complete=False,
        measured_s=4,
        sent=100,
        generators=generators(cpu=(0.99,)),
        audiences=(audience(count=500),),
    )
    first, second, third, last = warnings_for(report)
    assert "Interrupted" in first
    assert "bottleneck" in second
    assert "could not be sent" in third
    assert "Too few" in last
