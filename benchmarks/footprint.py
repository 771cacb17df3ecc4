"""What connections cost when nothing happens, and what the garbage collector takes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from adapters.hosting.collector import THRESHOLDS

from .results import Outcome, Section, Spread, Verdict, alternate
from .rig import JUDGED, SERVERS, SMALL_BYTES, Rig, Size, connected, open_rig

__all__ = ("Footprint", "collector", "idle_memory", "measure_idle")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the server's resident memory grows by with each idle connection (KiB)."""

    each_kib: float
    collected_kib: float  # after a garbage collection


def measure_idle(server: str, loop: str, size: Size) -> Footprint:
    """Connect ``size.idle`` clients that only listen."""
    with open_rig(server, loop) as rig:
        rig.ask("connect", port=rig.port, clients=1)  # all is imported now
        time.sleep(size.settle_s)
        empty = rig.resident_bytes()
        rig.ask("connect", port=rig.port, clients=size.idle)
        time.sleep(size.settle_s)
        grown = rig.resident_bytes() - empty
        rig.ask("post", path="/collect")
        collected = rig.resident_bytes() - empty
    return Footprint(grown / size.idle / 1_024, collected / size.idle / 1_024)


def idle_memory(outcome: Outcome, size: Size) -> None:
    """What one more idle connection costs the server."""
    rows: list[tuple[str, ...]] = []
    for loop in size.loops:
        for name, server in SERVERS.items():
            found = measure_idle(name, loop, size)
            each_kib, collected = found.each_kib, found.collected_kib
            outcome.figures[f"over_hypercorn/{loop}/idle_kib/{name}"] = [each_kib]
            rows.append((loop, server, f"{each_kib:.1f}", f"{collected:.1f}"))
            if name == JUDGED:
                outcome.verdicts.append(
                    Verdict(
                        f"broker serve, {loop}: at most 32 KiB per idle connection",
                        f"{each_kib:.1f} KiB",
                        each_kib <= 32,
                    )
                )
    outcome.sections.append(
        Section(
            "Memory of an idle connection",
            f"What the server's resident memory grows by with {size.idle} clients that "
            "only listen, divided by their number (KiB); one run each. The second "
            "figure is taken after a garbage collection.",
            ("loop", "server", "KiB each", "KiB each, collected"),
            rows,
        )
    )


def collector(outcome: Outcome, size: Size) -> None:
    """Python's own thresholds against the ones that all other runs here have."""
    rows: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        rigs = {
            name: connected(
                stack, partial(open_rig, "ours", "trio", collector=name), size
            )
            for name in ("default", "tuned")
        }
        for mode in ("paced", "burst"):
            job = partial(
                Rig.run,
                mode=mode,
                messages=size.messages(mode, "trio"),
                size=SMALL_BYTES,
            )
            found = alternate(
                {name: partial(job, rig) for name, rig in rigs.items()}, size.runs
            )
            for name, results in found.items():
                rates = [each.per_s for each in results]
                base = [each.per_s for each in found["default"]]
                outcome.figures[f"collector/{mode}/{name}"] = rates
                rows.append(
                    (
                        mode,
                        name,
                        Spread.of(rates).show_rate(),
                        Spread.ratios(rates, base).show(suffix="×"),
                    )
                )
    outcome.sections.append(
        Section(
            "The garbage collector, on trio",
            f"asgi-broker with Python's own thresholds, and with `gc.freeze()` and "
            f"`gc.set_threshold{THRESHOLDS}` after start, as in all other runs over "
            "hypercorn.",
            ("mode", "collector", "deliveries/s", "against default"),
            rows,
        )
    )
