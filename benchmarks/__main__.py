"""``python -m benchmarks``: run them all and write the report."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from . import backplanes, in_process, over_hypercorn, protocol, report
from .results import Outcome
from .rig import Size

FULL: dict[str, Callable[[], Outcome]] = {
    "in_process": in_process.run,
    "over_hypercorn": over_hypercorn.run,
    "protocol": protocol.run,
    "backplanes": backplanes.run,
}
# A page of their own for those that one may want to run on their own.
PAGES = {"backplanes": "backplane-benchmarks"}
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
        )
    ),
    "protocol": lambda: protocol.run(
        Size(loops=("asyncio",), clients=20, runs=1, paced=6, burst=50, idle=50)
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
    start = time.perf_counter()
    pages: dict[str, list[Outcome]] = {}
    for name in programs:
        if given.only in (None, name):
            page = pages.setdefault(PAGES.get(name, "benchmarks"), [])
            page.append(programs[name]())
    words = [
        "python -m benchmarks",
        "--quick" if given.quick else "",
        f"--only {given.only}" if given.only else "",
        f"--output {given.output.name}" if given.output else "",
    ]
    command = " ".join(filter(None, words))
    runs = 1 if given.quick else Size().runs
    if given.json:
        figures: dict[str, list[float]] = {}
        for outcomes in pages.values():
            for outcome in outcomes:
                figures |= outcome.figures
        print(json.dumps(figures))
        return
    for name, outcomes in pages.items():
        if given.output:
            path = report.write(outcomes, given.output, command, runs, name)
            print(f"{path}: {time.perf_counter() - start:.0f} s")
        else:
            print(report.render(outcomes, command, runs, name))


if __name__ == "__main__":
    main()
