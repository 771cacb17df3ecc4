"""``python -m benchmarks``: run them all and write the report."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from . import (
    backplanes,
    in_process,
    over_hypercorn,
    overload,
    protocol,
    report,
    scale,
)
from .results import Outcome
from .rig import Size

FULL: dict[str, Callable[[], Outcome]] = {
    "in_process": in_process.run,
    "over_hypercorn": over_hypercorn.run,
    "protocol": protocol.run,
    "scale": scale.run,
    "overload": overload.run,
    "backplanes": backplanes.run,
}
# Each has a page of its own: one may be run again without the others.
PAGES = {
    "in_process": "benchmarks-in-process",
    "over_hypercorn": "benchmarks-hypercorn",
    "protocol": "benchmarks-protocol",
    "scale": "benchmarks-scale",
    "overload": "benchmarks-overload",
    "backplanes": "benchmarks-backplanes",
}
# Enough to see that everything runs; no figure of it means anything.
QUICK: dict[str, Callable[[], Outcome]] = {
    "in_process": lambda: in_process.run(
        in_process.Size(subscribers=20, runs=1, turns=1, turn_s=0.01)
    ),
    "over_hypercorn": lambda: over_hypercorn.run(
        Size(
            loops=("asyncio",),
            clients=20,
            runs=1,
            paced=6,
            burst=6,
            idle=50,
            settle_s=0.1,
        )
    ),
    "protocol": lambda: protocol.run(
        Size(
            loops=("asyncio",),
            clients=20,
            runs=1,
            paced=6,
            burst=50,
            idle=50,
            settle_s=0.1,
        )
    ),
    "scale": lambda: scale.run(
        scale.Size(
            subscribers=(5, 20),
            topics=(1, 10),
            patterns=(0, 10),
            counted=100,
            runs=1,
            turn_s=0.01,
            deliveries=100,
            rigs=(),
        )
    ),
    "overload": lambda: overload.run(
        overload.Size(
            servers=(overload.PLAIN,),
            clients=10,
            watching=5,
            before_s=2,
            flood_s=2,
            drain_s=5,
            after_s=2,
            try_s=0.5,
        )
    ),
    "backplanes": lambda: backplanes.run(
        backplanes.Size(
            loops=("asyncio",),
            engines=("redis", "postgresql", "nats"),
            subscribers=20,
            publishers=5,
            runs=1,
            turn_s=0.01,
            warm_up=0,
            nodes=1,
        )
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: seconds")
    parser.add_argument("--only", choices=tuple(FULL), help="one of them")
    parser.add_argument(
        "--output", type=Path, help="folder for the report; printed if not given"
    )
    parser.add_argument("--json", action="store_true", help="print only the figures")
    given = parser.parse_args()
    programs = QUICK if given.quick else FULL
    chosen = [name for name in programs if given.only in (None, name)]
    runs = 1 if given.quick else Size().runs
    figures: dict[str, list[float]] = {}
    for name in chosen:
        start = time.perf_counter()
        outcome = programs[name]()
        figures |= outcome.figures
        if given.json:
            continue
        quick = " --quick" if given.quick else ""
        command = f"python -m benchmarks{quick} --only {name}"
        if given.output:  # at once: what comes after it may fail
            path = report.write(outcome, given.output, command, runs, PAGES[name])
            print(f"{path}: {time.perf_counter() - start:.0f} s")
        else:
            print(report.render(outcome, command, runs, PAGES[name]))
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
