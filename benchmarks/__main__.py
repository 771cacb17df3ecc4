"""``python -m benchmarks``: run them all and write the report."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from . import in_process, over_hypercorn, protocol, report
from .results import Outcome
from .rig import Size

FULL: dict[str, Callable[[], Outcome]] = {
    "in_process": in_process.run,
    "over_hypercorn": over_hypercorn.run,
    "protocol": protocol.run,
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
        )
    ),
    "protocol": lambda: protocol.run(
        Size(loops=("asyncio",), clients=20, runs=1, paced=6, burst=50, idle=50)
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
    outcomes = [programs[name]() for name in programs if given.only in (None, name)]
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
        for outcome in outcomes:
            figures |= outcome.figures
        print(json.dumps(figures))
    elif given.output:
        report.write(outcomes, given.output, command, runs)
        print(f"{given.output}/benchmarks.md: {time.perf_counter() - start:.0f} s")
    else:
        print(report.render(outcomes, command, runs))


if __name__ == "__main__":
    main()
