"""What a load test has found."""

from __future__ import annotations

import msgspec

from .plan import Plan

__all__ = (
    "Audience",
    "Generators",
    "Latency",
    "Machine",
    "Moment",
    "Report",
    "ServerUse",
)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of times (ms); all 0 of none.

    Attributes:
        count: times.
        histogram: all of them, as HdrHistogram's base64 (µs, three digits).
    """

    count: int = 0
    mean_ms: float = 0.0
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    max_ms: float = 0.0
    histogram: str = ""


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """What one class of clients has got.

    Attributes:
        name: ``healthy``, ``slow``, ``resuming`` or ``churning``.
        clients: how many.
        expected: deliveries due to them while they were connected, or resumed.
        delivered: of those, how many came, each counted once.
        repeated: deliveries of what had come already.
        reordered: deliveries that came after a later one of the same publisher.
        strayed: deliveries that were not for them: another room's, or of a time before
            theirs.
        missed_told: what never came, and the server said so.
        missed_untold: what never came, without a word.
        ended: connections that the server ended before the test did.
        latency: from the intended time of a message until it came.
    """

    name: str
    clients: int = 0
    expected: int = 0
    delivered: int = 0
    repeated: int = 0
    reordered: int = 0
    strayed: int = 0
    missed_told: int = 0
    missed_untold: int = 0
    ended: int = 0
    latency: Latency = Latency()


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One second of a test; latencies of the healthy.

    Attributes:
        at_s: its end, since publishing began (s); warm-up is negative.
        outstanding: deliveries that were due by then and had not come: what waits in
            queues, wherever they are.
        late_ms: how late the generators were with what they sent (ms, the worst).
        server_cpu: of one core (1 is all of one); None without a pid.
        server_rss_bytes: likewise.
        generator_cpu: the busiest generator process, of one core.
    """

    at_s: float
    connected: int = 0
    sent: int = 0
    delivered: int = 0
    outstanding: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    late_ms: float = 0.0
    server_cpu: float | None = None
    server_rss_bytes: int | None = None
    generator_cpu: float = 0.0


class Generators(msgspec.Struct, frozen=True, kw_only=True):
    """How the load was made.

    Attributes:
        cpu: of one core, of each process, while messages were counted.
        lateness: how late sends were, against their intended times.
        waking: how late the processes woke up, a hundred times a second: what came
            meanwhile was read as late.
    """

    cpu: tuple[float, ...] = ()
    lateness: Latency = Latency()
    waking: Latency = Latency()


class ServerUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the server's process and its children took.

    Attributes:
        cpu: of one core, while messages were counted (1.5 is one and a half).
        cpu_us_per_delivery: processor time for each delivery (µs).
        idle_rss_bytes: before the first client.
        connected_rss_bytes: when all were connected, before the first message.
        peak_rss_bytes: the most that was seen.
    """

    cpu: float
    cpu_us_per_delivery: float
    idle_rss_bytes: int
    connected_rss_bytes: int
    peak_rss_bytes: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran.

    Attributes:
        floor_per_s: messages of the same size that one core of it can ``send`` to as
            many sockets of its own, and nothing else (1/s); 0 if not measured.
    """

    cores: int
    processor: str
    system: str
    python: str
    floor_per_s: float = 0.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One load test: what was to be done, and what came of it.

    Attributes:
        started: when (ISO 8601, UTC).
        is_complete: False if it was interrupted: figures so far.
        measured_s: how long messages were counted (s).
        sent: messages published in that time.
        deliveries_per_s: of all classes, in that time.
        connecting: time from when a client was to connect until it could hear.
        returning: the same, from the drop until it could hear again, and had all that
            it had missed; with STORM and RESUME.
        resumed: came back with everything they had missed.
        not_resumed: came back and were told that something is missing for good.
        moments: second by second.
        warnings: what makes these figures worth less, worst first; empty when nothing
            does.
    """

    plan: Plan
    started: str
    machine: Machine
    is_complete: bool = True
    measured_s: float = 0.0
    sent: int = 0
    deliveries_per_s: float = 0.0
    connecting: Latency = Latency()
    returning: Latency = Latency()
    resumed: int = 0
    not_resumed: int = 0
    audiences: tuple[Audience, ...] = ()
    moments: tuple[Moment, ...] = ()
    generators: Generators = Generators()
    server: ServerUse | None = None
    warnings: tuple[str, ...] = ()
