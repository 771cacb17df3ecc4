"""Reports as load tests make them, with figures that look like real ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache
from math import ceil

import msgspec

from adapters.loadtest.latencies import Latencies
from adapters.loadtest.plan import Plan, Scenario, Slowness
from adapters.loadtest.progress import Phase, Progress
from adapters.loadtest.report import (
    Audience,
    Generators,
    Latency,
    Machine,
    Moment,
    Report,
    ServerUse,
)

__all__ = ("clean", "faulty", "latency", "progress", "slow", "storm")

MIB = 1024 * 1024
MACHINE = Machine(
    cores=2,
    processor="AMD EPYC",
    system="Linux 6.18",
    python="3.11.7",
    floor_per_s=162_000.0,
)


def latency(times_ms: Iterable[float]) -> Latency:
    """Return the distribution of these times (ms)."""
    latencies = Latencies()
    for time in times_ms:
        latencies.record(int(time * 1e6))
    return latencies.summary()


@cache
def clean(label: str = "broker serve", *, pace: float = 1.0, seed: int = 1) -> Report:
    """Return a fan-out without any fault; ``pace`` stretches its latencies."""
    chance = random.Random(seed)
    plan = Plan(
        url="ws://127.0.0.1:8000/connection/websocket",
        clients=1001,
        rate_per_s=10.0,
        warmup_s=3.0,
        duration_s=30.0,
        label=label,
    )
    moments: list[Moment] = []
    every: list[float] = []
    for second in range(-2, 32):
        talks = second <= 30
        times = sorted(
            pace * chance.lognormvariate(1.6, 0.5) * (3 if second in (17, 18) else 1)
            for _ in range(200)
        )
        if 0 < second <= 30:
            every += times
        moments.append(
            Moment(
                at_s=float(second),
                connected=1001,
                sent=10 if talks else 0,
                delivered=10_000 if talks else 0,
                outstanding=int(pace * chance.uniform(0, 400)) if talks else 0,
                p50_ms=times[100] if talks else 0.0,
                p99_ms=times[197] if talks else 0.0,
                max_ms=times[-1] if talks else 0.0,
                late_ms=chance.uniform(0.1, 0.4) if talks else 0.0,
                server_cpu=pace * chance.uniform(0.3, 0.36) if talks else 0.01,
                server_rss_bytes=int((96 + second / 20) * MIB),
                generator_cpu=chance.uniform(0.2, 0.25) if talks else 0.01,
            )
        )
    return Report(
        plan=plan,
        started="2026-11-23T15:30:00+00:00",
        machine=MACHINE,
        measured_s=30.0,
        sent=300,
        deliveries_per_s=10_000.0,
        connecting=latency(chance.lognormvariate(1.0, 0.4) for _ in range(1001)),
        audiences=(
            Audience(
                name="healthy",
                clients=1000,
                expected=300_000,
                delivered=300_000,
                latency=latency(every),
            ),
        ),
        moments=tuple(moments),
        generators=Generators(
            cpu=(0.23,),
            lateness=latency(chance.uniform(0.02, 0.3) for _ in range(300)),
            waking=latency(chance.uniform(0.01, 0.9) for _ in range(3000)),
        ),
        server=ServerUse(
            cpu=0.33 * pace,
            cpu_us_per_delivery=33.0 * pace,
            idle_rss_bytes=41 * MIB,
            connected_rss_bytes=96 * MIB,
            peak_rss_bytes=98 * MIB,
        ),
    )


@cache
def faulty(label: str = "a loop over a list") -> Report:
    """Return one with every fault, made by a generator that was too busy."""
    report = clean(label, pace=4.0, seed=2)
    (healthy,) = report.audiences
    return msgspec.structs.replace(
        report,
        audiences=(
            msgspec.structs.replace(
                healthy,
                delivered=299_880,
                missed_told=20,
                missed_untold=100,
                repeated=3,
                reordered=7,
                ended=2,
            ),
        ),
        generators=msgspec.structs.replace(report.generators, cpu=(0.97, 0.4)),
        warnings=(
            "The generator took 97 % of a core: it is measured, and not the server. "
            "Use more --processes, or a lower --rate.",
        ),
    )


@cache
def slow(label: str = "one in a hundred stalled") -> Report:
    """Return one with slow clients, whom the server ended."""
    report = clean(label, pace=1.2, seed=3)
    stalled = Audience(
        name="slow",
        clients=10,
        expected=3000,
        delivered=600,
        missed_untold=2400,
        ended=10,
        latency=latency(range(100, 9000, 17)),
    )
    return msgspec.structs.replace(
        report,
        plan=msgspec.structs.replace(
            report.plan,
            scenario=Scenario.SLOW,
            slow_share=0.01,
            slowness=Slowness.STALL,
        ),
        audiences=(*report.audiences, stalled),
    )


@cache
def storm(label: str = "all drop, and come back") -> Report:
    """Return one where everybody dropped half way, and nearly all resumed."""
    report = clean(label, seed=4)
    moments = [
        msgspec.structs.replace(
            moment,
            connected=1 if 15 <= moment.at_s < 17 else moment.connected,
            delivered=0 if 15 <= moment.at_s < 17 else moment.delivered,
            p50_ms=0.0 if 15 <= moment.at_s < 17 else moment.p50_ms,
            p99_ms=0.0 if 15 <= moment.at_s < 17 else moment.p99_ms,
            max_ms=0.0 if 15 <= moment.at_s < 17 else moment.max_ms,
        )
        for moment in report.moments
    ]
    return msgspec.structs.replace(
        report,
        plan=msgspec.structs.replace(report.plan, scenario=Scenario.STORM),
        moments=tuple(moments),
        resumed=996,
        not_resumed=4,
        returning=latency(range(40, 900)),
        is_complete=False,
        warnings=("Interrupted after 30 s of 60 s: these are the figures so far.",),
    )


def progress(report: Report, phase: Phase, moments: Sequence[Moment]) -> Progress:
    """Return what the live view is told after these moments of a test."""
    last = moments[-1]
    total = {
        Phase.CONNECTING: 0.0,
        Phase.WARM_UP: report.plan.warmup_s,
        Phase.MEASURING: report.plan.duration_s,
        Phase.SETTLING: report.plan.settle_s,
    }[phase]
    elapsed = {
        Phase.CONNECTING: ceil(report.plan.clients / report.plan.ramp_per_s),
        Phase.WARM_UP: report.plan.warmup_s + last.at_s,
        Phase.MEASURING: last.at_s,
        Phase.SETTLING: last.at_s - report.plan.duration_s,
    }[phase]
    return Progress(
        phase=phase,
        elapsed_s=float(elapsed),
        total_s=total,
        clients=report.plan.clients,
        moment=last,
        audiences=tuple(
            msgspec.structs.replace(each, expected=0) for each in report.audiences
        )
        if phase is Phase.MEASURING
        else (),
        warnings=report.warnings,
    )
