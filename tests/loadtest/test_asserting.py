"""Claims about a report: read, judged, and said again."""

from __future__ import annotations

import msgspec
import pytest

from adapters.loadtest.asserting import parse
from adapters.loadtest.latencies import Latencies
from adapters.loadtest.plan import Plan
from adapters.loadtest.report import (
    Audience,
    Generators,
    Latency,
    Machine,
    Report,
    ServerUse,
)


def times(*ms: float) -> Latency:
    latencies = Latencies()
    for each in ms:
        latencies.record(round(each * 1e6))
    return latencies.summary()


def audience(name: str, latency: Latency, **counts: int) -> Audience:
    return Audience(name=name, latency=latency, **counts)


REPORT = Report(
    plan=Plan(url="ws://localhost"),
    started="2026-01-01T00:00:00Z",
    machine=Machine(cores=2, processor="", system="", python=""),
    sent=100,
    deliveries_per_s=1250.5,
    connecting=times(3, 3, 3, 4),
    returning=times(70),
    resumed=8,
    not_resumed=1,
    audiences=(
        audience("healthy", times(*range(1, 101)), expected=600, delivered=600),
        audience(
            "resuming",
            times(500),
            expected=400,
            delivered=399,
            missed_told=1,
            reordered=3,
        ),
        audience(
            "slow",
            times(9000),
            expected=50,
            delivered=10,
            missed_untold=40,
            ended=2,
            repeated=1,
            strayed=4,
        ),
    ),
    generators=Generators(cpu=(0.2, 0.35), lateness=times(0.25)),
    server=ServerUse(
        cpu=0.8,
        cpu_us_per_delivery=12.5,
        idle_rss_bytes=1,
        connected_rss_bytes=2,
        peak_rss_bytes=50 * 1024 * 1024,
    ),
    warnings=("careful",),
)
HOLDS = [
    ("p50<52ms", "p50 < 52 ms: 51.01 ms"),
    ("p99 <= 0.101s", "p99 <= 0.101 s: 0.1 s"),
    ("healthy.p99<99.5ms", "healthy.p99 < 99.5 ms: 99.01 ms"),
    ("healthy.p99.9 <= 100.1 ms", "healthy.p99.9 <= 100.1 ms: 100 ms"),
    ("healthy.mean>50ms", "healthy.mean > 50 ms: 50.5 ms"),
    ("max>400_000us", "max > 400,000 us: 500,223 us"),
    ("slow.max<10s", "slow.max < 10 s: 9.003 s"),
    ("connecting.p50<3500µs", "connecting.p50 < 3,500 µs: 3,001 µs"),
    ("returning.max<71ms", "returning.max < 71 ms: 70.02 ms"),
    ("lateness.p99<1ms", "lateness.p99 < 1 ms: 0.25 ms"),
    ("loss==1", "loss == 1: 1"),
    ("delivered>=99.9%", "delivered >= 99.9 %: 99.9 %"),
    ("delivered == 999", "delivered == 999: 999"),
    ("loss<=0.1%", "loss <= 0.1 %: 0.1 %"),
    ("untold==0", "untold == 0: 0"),
    ("told<2", "told < 2: 1"),
    ("repeated==0", "repeated == 0: 0"),
    ("reordered==3", "reordered == 3: 3"),
    ("strayed==0", "strayed == 0: 0"),
    ("healthy.loss==0%", "healthy.loss == 0 %: 0 %"),
    ("slow.untold==80%", "slow.untold == 80 %: 80 %"),
    ("slow.ended==2", "slow.ended == 2: 2"),
    ("slow.repeated==1", "slow.repeated == 1: 1"),
    ("slow.strayed==4", "slow.strayed == 4: 4"),
    ("rate>=1,000", "rate >= 1,000: 1,250"),
    ("rate<1300/s", "rate < 1,300/s: 1,250/s"),
    ("sent==100", "sent == 100: 100"),
    ("resumed>=8", "resumed >= 8: 8"),
    ("not_resumed<2", "not_resumed < 2: 1"),
    ("warnings==1", "warnings == 1: 1"),
    ("cpu<90%", "cpu < 90 %: 80 %"),
    ("cpu<0.9", "cpu < 0.9: 0.8"),
    ("cost<13us", "cost < 13 us: 12.5 us"),
    ("rss<200MiB", "rss < 200 MiB: 50 MiB"),
    ("rss>52MB", "rss > 52 MB: 52.43 MB"),
    ("generator<36%", "generator < 36 %: 35 %"),
]
OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@pytest.mark.parametrize(("text", "said"), HOLDS)
def test_what_holds_and_its_contrary(text: str, said: str) -> None:
    claim = parse(text)
    assert claim.check(REPORT) == (True, said)
    assert parse(claim.text) == claim
    if claim.relation in OPPOSITE:
        contrary = msgspec.structs.replace(claim, relation=OPPOSITE[claim.relation])
        assert not contrary.check(REPORT).holds


NOTHING = Report(plan=REPORT.plan, started=REPORT.started, machine=REPORT.machine)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss==0", "loss == 0: there is nothing to measure"),
        ("p99<1s", "p99 < 1 s: there is nothing to measure"),
        ("churning.loss==0", "churning.loss == 0: there is nothing to measure"),
        ("returning.p99<1s", "returning.p99 < 1 s: there is nothing to measure"),
        ("cpu<90%", "cpu < 90 %: not measured"),
        ("rss<1GiB", "rss < 1 GiB: not measured"),
        ("cost<1s", "cost < 1 s: not measured"),
        ("generator<1", "generator < 1: not measured"),
        ("rate>0", "rate > 0: 0"),
    ],
)
def test_of_what_was_not_measured_nothing_holds(text: str, said: str) -> None:
    assert parse(text).check(NOTHING) == (False, said)


def test_of_who_got_nothing_no_time_holds() -> None:
    deaf = Audience(name="healthy", expected=5, missed_untold=5)
    report = msgspec.structs.replace(NOTHING, audiences=(deaf,))
    assert not parse("p99<1s").check(report).holds
    assert not parse("loss==0").check(report).holds
    assert parse("loss==100%").check(report).holds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no claim like"),
        ("p99", "no claim like"),
        ("p99<", "no claim like"),
        ("p99<50ms and more", "no claim like"),
        ("p99=50ms", "no claim like"),
        ("p99<-1ms", "no claim like"),
        ("p99<5e3ms", "no claim like"),
        ("p99<50", "another unit"),
        ("p99<50%", "another unit"),
        ("loss<3ms", "loss has: none, %"),
        ("rss<3", "rss has: B, KiB"),
        ("latency<1s", "names nothing known"),
        ("p101<1s", "names nothing known"),
        ("cpu.p99<1s", "names nothing known"),
        ("slow.rate>1", "names nothing known"),
        ("returning.loss==0", "names nothing known"),
    ],
)
def test_what_is_no_claim(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        parse(text)
    assert "\n" not in str(error.value)
    if why != "another unit" and "has" not in why:
        for name in ("p99.9", "loss", "untold", "rate", "cpu", "rss", "slow."):
            assert name in str(error.value)
