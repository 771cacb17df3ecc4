"""Makes docs/images/bench-terminal.svg from a test that is really run.

``python -m tests.loadtest.picture URL PID``, with a server at URL in the process PID.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from adapters.loadtest.coordinator import run
from adapters.loadtest.live import LiveView
from adapters.loadtest.plan import Plan
from adapters.loadtest.progress import Phase, Progress

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "bench-terminal.svg"
FONTS = re.compile(r"\s*@font-face \{.*?\n    \}", re.DOTALL)
TAKEN_AT_S = 24.0


def main(url: str, pid: str) -> None:
    """Run a test of 30 s, and take the picture near its end."""
    plan = Plan(url=url, pid=int(pid), clients=101, rate_per_s=50, duration_s=30)
    camera = Console(file=io.StringIO(), record=True, force_terminal=True, width=92)
    view = LiveView(plan, camera)

    def watch(progress: Progress) -> None:
        view.update(progress)
        if progress.phase is Phase.MEASURING and progress.elapsed_s == TAKEN_AT_S:
            camera.export_text()  # forget what was before
            view.update(progress)
            save(camera)

    with view:
        run(plan, watch)


def save(camera: Console) -> None:
    """Write what was recorded, in whatever fixed font there is: nothing is loaded."""
    svg = camera.export_svg(title="broker bench", unique_id="bench")
    PICTURE.write_text(FONTS.sub("", svg), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
