"""Twice what a server holds, for a minute: who pays for it, and how long."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from adapters.loadtest.coordinator import run as bench
from adapters.loadtest.peers.capacity import judge, search
from adapters.loadtest.peers.catalogue import PEERS, Peer
from adapters.loadtest.peers.installing import Home
from adapters.loadtest.peers.serving import Serving, confined, serve, share_cores
from adapters.loadtest.plan import Plan
from adapters.loadtest.progress import Phase, Progress
from adapters.loadtest.report import Moment, Report

from .results import Outcome, Section, Verdict

__all__ = ("Size", "run")

MIB = 1_048_576
# Limits.max_queued_bytes, and as much again for what holds it: frames, kernel's not.
MOST_MIB = 512
SOON_S = 10  # "within seconds"
WATCHED_PER_S = 10.0  # messages to who is not flooded
IN_A_ROW = 3  # seconds: one of them alone may be the machine's
NORMAL = 2.0  # times the median p99 of the seconds before

PLAIN = Peer(
    name="plain",
    label="broker serve, plain WebSockets",
    command=(
        *("{python}", "-m", "adapters.cli", "serve", "benchmarks.rooms:app"),
        *("--bind", "127.0.0.1:{port}"),
    ),
    variables=(
        ("PYTHONPATH", str(Path(__file__).parents[1])),
        ("BROKER_SERVER_LOG_LEVEL", "error"),
    ),
    path="/ws/{topic}",
)
SERVE = next(each for each in PEERS if each.name == "serve")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        servers: that are flooded, one after the other.
        clients: that are flooded.
        watching: clients of another topic, with a few messages a second all the time.
        before_s: how long those are measured before the flood (s).
        flood_s: how long that lasts (s).
        drain_s: longest wait until all of the flood has come (s); half of it waits in
            the sockets when it ends, because the server took no more.
        after_s: how long they are measured after that, at least (s).
        try_s: length of one try for the highest rate that is held (s).
        guess_per_s: where to begin with that (1/s).
    """

    servers: Sequence[Peer] = (PLAIN, SERVE)
    clients: int = 200
    watching: int = 50
    before_s: float = 10.0
    flood_s: float = 60.0
    drain_s: float = 180.0
    after_s: float = 15.0
    try_s: float = 3.0
    guess_per_s: float = 50.0


def run(size: Size | None = None) -> Outcome:
    """Flood each server once."""
    size = size or Size()
    outcome = Outcome()
    rows = [flood(outcome, peer, size) for peer in size.servers]
    outcome.sections.append(
        Section(
            "Twice what a server holds",
            f"{size.clients} clients are published to at twice the highest rate that "
            f"the server holds, for {size.flood_s:g} s; {size.watching} clients of "
            "another topic get ten messages a second before, meanwhile and after. One "
            "core for the server. `ended` are connections that the server closed, as "
            "its policy for slow consumers says; what they had not got is told by "
            "that. The server takes no more than it can hand on: the rest waits in the "
            "publisher's socket, and comes in the seconds after the flood. From when "
            "all of it has come, normal again is the first of three seconds in which "
            f"the others' p99 is at most {NORMAL:g} times what it was before.",
            (
                "server",
                "held, messages/s",
                "taken in the flood",
                "delivered/s",
                "all there after, s",
                "ended",
                "lost untold",
                "memory before, MiB",
                "most",
                "others: p99 before, ms",
                "meanwhile",
                "normal again after, s",
            ),
            rows,
        )
    )
    return outcome


def flood(outcome: Outcome, peer: Peer, size: Size) -> tuple[str, ...]:
    """Flood one server, and return its row."""
    core, others = share_cores()
    with ExitStack() as stack:
        server = stack.enter_context(serve(peer, Home(), core))
        stack.enter_context(confined(others))
        threads = stack.enter_context(ThreadPoolExecutor(1))
        plan = partial(plan_for, peer, server, size)
        found = search(
            lambda rate: judge(bench(plan(rate=rate, duration_s=size.try_s))),
            size.guess_per_s,
        )
        held = max(found.rate_per_s, 1.0)
        watching = plan(
            topic="watched",
            clients=size.watching,
            rate=WATCHED_PER_S,
            duration_s=size.before_s + size.flood_s + size.drain_s + size.after_s,
        )
        watched, flooded = Seen(), Seen()
        watch = threads.submit(bench, watching, watched.note)
        time.sleep(size.before_s + watching.warmup_s)
        flooding = plan(rate=2 * held, duration_s=size.flood_s, settle_s=size.drain_s)
        report = bench(flooding, flooded.note)
        gone = time.monotonic()
        watch.result()
    return judged(outcome, peer, held, report, watched, flooded, gone)


class Seen:
    """The seconds of one test, and when each of them was over (s, monotonic)."""

    def __init__(self) -> None:
        self.seconds: list[tuple[float, Moment]] = []

    def note(self, progress: Progress) -> None:
        """Take down one."""
        if progress.phase is Phase.MEASURING:
            self.seconds.append((time.monotonic(), progress.moment))


def plan_for(
    peer: Peer,
    server: Serving,
    size: Size,
    *,
    rate: float,
    duration_s: float,
    settle_s: float = 5.0,
    topic: str = "flooded",
    clients: int | None = None,
) -> Plan:
    """Return a test of one topic."""
    return Plan(
        url=server.url.replace("{topic}", topic),
        wire=peer.wire,
        topic=topic,
        clients=clients or size.clients,
        rate_per_s=rate,
        duration_s=duration_s,
        settle_s=settle_s,
        pid=server.pid,
    )


def judged(
    outcome: Outcome,
    peer: Peer,
    held: float,
    report: Report,
    watched: Seen,
    flooded: Seen,
    gone: float,
) -> tuple[str, ...]:
    """Take down verdicts, and return the row."""
    began, ended = flooded.seconds[0][0] - 1.0, flooded.seconds[-1][0]
    before = [each for at, each in watched.seconds if at <= began]
    during = [each for at, each in watched.seconds if began < at <= ended]
    after = [(at - gone, each) for at, each in watched.seconds if at > gone]
    usual_ms = median(each.p99_ms for each in before)
    usual = [each.p99_ms <= NORMAL * usual_ms for _, each in after]
    calm = [
        at for number, (at, _) in enumerate(after) if all(usual[number:][:IN_A_ROW])
    ]
    normal_s = min(calm, default=math.inf)
    rss = [each.server_rss_bytes or 0 for _, each in watched.seconds]
    start = median(each.server_rss_bytes or 0 for each in before)
    grown_mib = (max(rss) - start) / MIB
    (heard,) = report.audiences
    outcome.figures[f"overload/{peer.name}/grown_mib"] = [grown_mib]
    outcome.figures[f"overload/{peer.name}/missed_untold"] = [heard.missed_untold]
    outcome.figures[f"overload/{peer.name}/delivered"] = [heard.delivered]
    outcome.verdicts += [
        Verdict(
            f"{peer.label}, flooded: grows by at most {MOST_MIB} MiB",
            f"{grown_mib:.0f} MiB",
            grown_mib <= MOST_MIB,
        ),
        Verdict(
            f"{peer.label}, flooded: nothing is lost untold",
            f"{heard.missed_untold:,} of {heard.expected:,}",
            not heard.missed_untold,
        ),
        Verdict(
            f"{peer.label}, {SOON_S} s after the flood: the others' p99 is at most "
            f"{NORMAL:g} times what it was before",
            f"after {normal_s:.0f} s",
            normal_s <= SOON_S,
        ),
    ]
    return (
        peer.label,
        f"{held:,.0f}",
        f"{report.sent / report.measured_s:,.0f}",
        f"{report.deliveries_per_s:,.0f}",
        f"{gone - ended:.0f}",
        f"{heard.ended} of {heard.clients}",
        f"{heard.missed_untold:,}",
        f"{start / MIB:.0f}",
        f"{max(rss) / MIB:.0f}",
        f"{usual_ms:.0f}",
        f"{median(each.p99_ms for each in during):,.0f}",
        f"{normal_s:.0f}",
    )
