"""The example that is a program, on both loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import PATIENCE_S

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.parametrize("options", [[], ["--trio"]], ids=["asyncio", "trio"])
def test_pipeline_loses_nothing_and_holds_the_producer_back(options: list[str]) -> None:
    command = [sys.executable, "-m", "examples.pipeline", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert lines == [
        "20 numbers in, 20 squares out",
        "the sum of the squares is 2470",
    ]
    # Two in each of the two queues, and one in the hands of the stage and of the sink.
    words = "the producer was never more than {} ahead"
    assert last in [words.format(number) for number in range(1, 7)]
